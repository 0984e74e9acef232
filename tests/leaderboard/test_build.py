"""A build says what it does and what it was built from; what pages show of text and scopes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks.leaderboard_scale import outcome
from lm_eval_sts.commands import board as commands
from lm_eval_sts.leaderboard import site_data
from lm_eval_sts.leaderboard.board import Computed, compute, read_inputs
from lm_eval_sts.leaderboard.history import revision
from lm_eval_sts.leaderboard.publish import write_page
from lm_eval_sts.records import save_record
from tests.leaderboard import boards


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard with an SFT run of the synthetic world, for which nothing was submitted."""
    root = boards.write(tmp_path_factory.mktemp("repository") / "leaderboard")
    one = outcome("tiny", {"law": 0.1, "math": 0.2, "art": 0.0}, model="micro/model", sft="s", tasks="micro")
    save_record(one, root / "settings/toy/tiny.json")
    return root


@pytest.fixture(scope="module")
def computed(root: Path) -> Computed:
    return compute(read_inputs(root))


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_build_says_what_it_does(root: Path, tmp_path: Path) -> None:
    app = Typer(pretty_exceptions_enable=False)
    app.command()(commands.build)
    broken = root / "submissions/broken/1.json"
    broken.parent.mkdir()
    broken.write_text("{}")
    done = CliRunner().invoke(app, ["--root", str(root), "--output", str(tmp_path / "page")])
    broken.unlink()
    assert done.exit_code == 0
    said = done.stderr.splitlines()
    assert said[0] == f"reading {root}"
    assert said[1] == "read 11 submissions, 1 seals and the outcomes of 7 SFT runs, 1 files left out"
    assert said[2].startswith("comparing submissions and outcomes, in each SFT run and over 3 scopes")
    assert said[3] == f"writing the page to {tmp_path / 'page'}"
    pages = len(list((tmp_path / "page").rglob("*.html")))
    assert said[4] == f"wrote {pages} pages"
    wrote = [root / "BOARD.md", root / "board.json", tmp_path / "page/index.html"]
    assert done.stdout.splitlines() == list(map(str, wrote)) and all(path.is_file() for path in wrote)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://user:secret@github.com/owner/name", "https://github.com/owner/name"),
        ("git@github.com:owner/name.git", "https://github.com/owner/name"),
        ("ssh://git@gitlab.com/group/sub/name/", "https://gitlab.com/group/sub/name"),
        ("ssh://git@host:2222/owner/name", None),
        ("https://host:8443/owner/name", None),
        ("/home/somebody/name", None),
        ("file:///home/somebody/name", None),
        ("javascript:alert(1)", None),
        (None, None),
    ],
)
def test_what_a_page_was_built_from(tmp_path: Path, remote: str | None, address: str | None) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions/one.json").write_text("{}")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first", "--date", "2026-01-02T03:04:05+00:00")
    if remote:
        git(tmp_path, "remote", "add", "origin", remote)
    found = revision(tmp_path)
    assert (found.commit, found.repository, found.changed) == (git(tmp_path, "rev-parse", "HEAD"), address, False)
    assert found.date == git(tmp_path, "log", "-1", "--format=%cs")
    (tmp_path / "BOARD.md").write_text("what a build writes")
    assert not revision(tmp_path).changed
    (tmp_path / "submissions/two.json").write_text("{}")
    assert revision(tmp_path).changed


def test_where_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert revision(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert revision(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert revision(tmp_path) is None


def test_the_page_names_commit_date_and_repository(root: Path, tmp_path: Path) -> None:
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    git(root, "remote", "add", "origin", "git@github.com:owner/name.git")
    commit, date = git(root, "log", "-1", "--format=%H %cs").split()
    write_page(root, tmp_path / "site")
    for page in ("index.html", "predictors/good/1.html"):
        text = (tmp_path / "site" / page).read_text()
        assert f'href="https://github.com/owner/name/commit/{commit}"' in text and f"{date}</time>." in text
        assert 'href="https://github.com/owner/name"' in text
    guide = f"https://github.com/owner/name/blob/{commit}/docs/leaderboard.md"
    assert guide in (tmp_path / "site/index.html").read_text()
    before = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.html")}
    write_page(root, tmp_path / "site")
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_offered(computed: Computed) -> None:
    found = site_data.slices(computed)
    assert [each["id"] for each in found][:2] == ["scopes/toys", "scopes/quiz-org-model-b"]
    assert {each["world"] for each in found} == {"real"} and "settings/toy/tiny" not in {each["id"] for each in found}
    assert site_data.empty(computed) == ["micro, micro/model"]


def test_one_synthetic_model_makes_a_synthetic_scope() -> None:
    assert site_data.world(["org/model", "org/micro"]) == "real"
    assert site_data.world(["org/model", "micro/model-deep"]) == "synthetic"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Reads. Then guesses.", "Reads"),
        ("Reads\nand guesses", "Reads"),
        ("At layer 3.5 (arXiv 2603.02908, §4.1). Cost: none.", "At layer 3.5 (arXiv 2603.02908, §4.1)"),
        ("8 of 14 domains: no correlation is comparable", "8 of 14 domains"),
        ("  ", ""),
    ],
)  # fmt: skip
def test_the_first_sentence(text: str, first: str) -> None:
    assert site_data.first_sentence(text) == first


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@a", "\ta", "\ra"])
def test_no_text_is_a_formula(text: str) -> None:
    assert site_data.inert(text) == f"'{text}"
    assert site_data.inert("law") == "law"
