"""The documentation's site: it builds without a warning, whole, and its links lead where they lead on GitHub."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import lm_eval_sts
from lm_eval_sts.cli import app
from tests.docs.blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def page(site: Path, name: str) -> str:
    return (site / name / "index.html").read_text(encoding="utf-8")


def test_every_command_with_every_option(site):
    text = page(site, "commands")
    root = get_command(app)
    context = root.make_context("lm-eval-sts", [], resilient_parsing=True)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        if command.hidden:
            continue
        parts = list(command.commands.values()) if hasattr(command, "commands") else [command]
        for one in parts:
            title = name if one is command else f"{name} {one.name}"
            assert re.search(rf"<h2[^>]*>{title}<", text)
            options = [option for param in one.params for option in param.opts if option.startswith("--")]
            assert all(option in text for option in options)


def test_every_name_of_the_api(site):
    text = page(site, "api")
    for name in lm_eval_sts._API:
        assert f'id="lm_eval_sts.api.{name}"' in text
    assert ":class:" not in text


def test_links_lead_where_they_lead_on_github(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="start/"' in home and 'src="images/which-predictor-micro-predictors.svg"' in home  # docs/…
    assert "/blob/main/CITATION.cff" in home and "/blob/main/leaderboard/BOARD.md" in home
    assert 'href="../contributing/#a-new-predictor"' in page(site, "predictors")  # ../CONTRIBUTING.md#…
    assert 'href="../tutorials/new-predictor/"' in page(site, "contributing")  # docs/tutorials/…
    assert "/edit/main/CONTRIBUTING.md" not in page(site, "architecture")


def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe|source)[^>]+src="(?:https?:)?//', text)
        assert not re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(?:https?:)?//', text)


def test_lists_tables_and_code_are_none_of_a_paragraph(site):
    """Python-Markdown wants empty lines where GitHub does without."""
    for path in site.rglob("*.html"):
        for paragraph in re.findall(r"<p>((?:(?!</?p>).)*)</p>", path.read_text(encoding="utf-8"), re.DOTALL):
            assert not re.search(r"<pre|```|^\|.*\|$|^(?:[-*]|1\.) ", paragraph, re.MULTILINE), f"{path}: {paragraph}"


def test_a_link_to_nothing_is_left_to_fail(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    import hooks

    pages = {"a.md", "b/c.md", "contributing.md"}
    text = "[x](../b/c.md#y) [x](../../LICENSE) [x](gone.md) [x](https://a.b) `code`\n```\n[x](../../LICENSE)\n```"
    led = hooks.with_links(text, "docs/b/c.md", "b/c.md", "https://hub", pages.__contains__)
    assert led.startswith("[x](c.md#y) [x](https://hub/LICENSE) [x](gone.md) [x](https://a.b)")
    assert led.endswith("```\n[x](../../LICENSE)\n```")
    assert hooks.with_links("[x](docs/a.md)", "README.md", "index.md", "https://hub", pages.__contains__) == "[x](a.md)"
