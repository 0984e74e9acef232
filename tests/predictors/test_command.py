"""The command ``lm-eval-sts predictors``."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from lm_eval_sts.commands import predictors as command
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.planning.shares import default_bill
from lm_eval_sts.predictors import registry
from lm_eval_sts.predictors.base import category_of
from lm_eval_sts.predictors.registry import _OURS, DEFAULT_PREDICTORS, SHOWN, get_predictor, names
from tests.messages import says


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("predictors")(command.predictors)
    app.command("other")(lambda: None)  # with one command only, typer would take no command's name

    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["predictors", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


def test_the_list_shows_what_runs_by_default_and_names_the_rest(run):
    text = run()
    rows = {line[1:].split()[0]: line for line in text.splitlines() if line[1:].split()[1:2] in (["size"], ["sign"])}
    for name in names():
        predictor = get_predictor(name)
        if name in DEFAULT_PREDICTORS:
            kind = "size" if predictor.target == "magnitude" else "sign"
            _, of, share, *told = rows[name].split()
            assert (of, told) == (kind, predictor.summary.split())
            expected = default_bill().share(predictor.needs)
            assert share == ("<1%" if 0 < expected < 0.01 else f"{expected:.0%}")
            assert rows[name].startswith("*") == (name in SHOWN)
        else:
            assert f" {name}" in text and name not in rows
    assert f"computes {len(DEFAULT_PREDICTORS)} of them, which together cost 19% of" in " ".join(text.split())
    everything = run("--all")
    for name in _OURS:
        assert get_predictor(name).summary in " ".join(everything.split())
    assert "layers, profiles; 0.75M tokens, 90 s" in " ".join(everything.split())


@pytest.mark.parametrize("arguments", [(), ("--all",), ("representation_raw_covariance",), ("embedding_mmd",)])
def test_everything_fits_the_terminal(run, monkeypatch, arguments):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run(*arguments).splitlines())) <= 80 and "\x1b" not in run(*arguments)
    monkeypatch.setenv("COLUMNS", "120")
    assert 80 < max(map(len, run(*arguments).splitlines())) <= 120


@pytest.mark.parametrize("name", _OURS)
def test_one_is_described_with_its_formula(run, name):
    text, predictor = " ".join(run(name).split()), get_predictor(name)
    assert text.startswith(f"{name}: {predictor.summary} ") and len(predictor.summary) <= 39
    for told in (predictor.formula, predictor.source, predictor.cost, category_of(predictor)):
        assert " ".join(told.split()) in text
    assert "``" not in text and ":mod:" not in text, "prose, no docstring"
    about = registry.about_of(name)
    assert " ".join(about.split()) in text and ("Assume" in about or registry.family_of(name) != "sts")
    for symbol in {"D_N", "ℓ_i", "g_S", "s_j r_ij", "L_S", "p*", "h*", "x*"}:
        assert symbol not in predictor.formula or all(part in about for part in symbol.split()), (
            f"{symbol} is explained"
        )


def test_as_json_with_the_share_of_each_and_of_the_default_together(run):
    told = json.loads(run("--json"))
    bill = default_bill()
    assert told["flops"] == {"finetune": bill.finetuning, "measure": bill.measuring}
    assert list(told["predictors"]) == names() and told["default"]["predictors"] == [*DEFAULT_PREDICTORS]
    for name, found in told["predictors"].items():
        assert (found["default"], found["shown"]) == (name in DEFAULT_PREDICTORS, name in SHOWN)
        assert found["needs"] == sorted(get_predictor(name).needs)
        embeds = registry.family_of(name) == "embedding"
        assert found["share"] == (None if embeds else bill.share(get_predictor(name).needs))
    assert told["default"]["share"] == bill.share({n for p in DEFAULT_PREDICTORS for n in get_predictor(p).needs})
    assert list(json.loads(run("sts_icl", "--json"))["predictors"]) == ["sts_icl"]
    assert "11% of fine-tuning and measuring" in (one := " ".join(run("loss_rehearsal").split()))
    assert "with the default ones 28%" in one and "with the default" not in run("sts_icl")
    assert "share not known" in " ".join(run("embedding_mmd").split())


def test_how_it_did_is_told_where_the_board_is_at_hand(run, monkeypatch, tmp_path):
    assert "with |Δ|" in " ".join(run("sts_icl").split())
    monkeypatch.setattr(command, "_BOARD", tmp_path / "none.json")
    assert "|Δ|" not in run("sts_icl")


def test_one_of_another_package_without_a_description(run, monkeypatch):
    class Bare:
        name, version, target, needs, cost, source = "bare", "2", "delta", frozenset(), "none", "a test"

        def score(self, evidence):
            return None

    monkeypatch.setattr("lm_eval_sts.predictors.registry.get_predictor", lambda name: Bare())
    monkeypatch.setattr("lm_eval_sts.predictors.registry.about_of", lambda name: "")
    text = run("bare")
    flat = " ".join(text.split())
    assert "needs nothing" in flat and "with its sign" in flat and "version 2" in flat and "no description" in flat


def test_an_unknown_name():
    with says(SettingsError, "unknown predictor 'sts_ict'", "did you mean 'sts_icl'", "nearest of ") as caught:
        command.predictors("sts_ict")
    listed = str(caught.value).partition("nearest of ")[2].partition(": ")[2].partition(" (all")[0]
    assert len(listed.split(", ")) == 5
