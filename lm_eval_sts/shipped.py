"""Names of what ships with the package: ``micro/model``, ``micro/sae``, ``micro/sft/…``."""

from __future__ import annotations

from pathlib import Path

_PREFIX = "micro/"


def resolve(spec: str) -> str:
    """A shipped name as its path; anything else as it is.

    Raises:
        StsError: Nothing of that name ships; names what does.
    """
    if not spec.startswith(_PREFIX):
        return spec
    from lm_eval_sts.microworld.paths import asset

    return str(asset(spec))


def shipped_name(path: str) -> str:
    """A shipped folder's or file's name, so that records name it alike on every machine; anything else as it is."""
    from lm_eval_sts.microworld.paths import ASSETS

    if not Path(path).is_absolute() or not Path(path).is_relative_to(ASSETS):
        return path
    return _PREFIX + Path(path).relative_to(ASSETS).with_suffix("").as_posix()
