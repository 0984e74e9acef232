"""The leaderboard of this repository: every outcome that ships is registered, and the board is what its files give."""

from __future__ import annotations

from pathlib import Path

from lm_eval_sts.leaderboard.publish import check
from lm_eval_sts.leaderboard.registered import read_settings
from lm_eval_sts.shipped import MICRO, PUBLISHED

SETTINGS = Path(__file__).parents[2] / "leaderboard" / "settings"


def test_what_ships_is_registered():
    for folder, shipped in (("micro", MICRO), ("published", PUBLISHED)):
        links = {path.name: path.resolve() for path in (SETTINGS / folder).iterdir()}
        assert links == {path.name: path.resolve() for path in shipped.glob("*.json")}
    assert len(read_settings(SETTINGS.parent)) == sum(1 for _ in SETTINGS.glob("*/*.json"))


def test_the_board_is_what_the_submissions_give():
    """board.json has more digits than another processor may give."""
    assert "BOARD.md" not in check(SETTINGS.parent)
