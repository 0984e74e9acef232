"""The command ``lm-eval-sts predictors``."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from lm_eval_sts.commands import predictors as command
from lm_eval_sts.errors import SettingsError
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


def test_the_list_names_all_with_target_needs_and_default(run):
    lines = run().splitlines()
    for name in names():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        predictor = get_predictor(name)
        default = "table" if name in SHOWN else "record" if name in DEFAULT_PREDICTORS else "–"
        assert line.split()[1:4] == [default, category_of(predictor), predictor.target]
        assert ", ".join(sorted(predictor.needs)) in line
        assert predictor.cost.split()[0] in line and predictor.source.split()[0] in line


@pytest.mark.parametrize("name", _OURS)
def test_one_is_described_with_its_formula(run, name):
    text = run(name)
    predictor = get_predictor(name)
    assert text.startswith(f"{name}\n") and predictor.source in text and predictor.cost in text
    family, _, rest = name.partition("_")
    assert (
        f"``{name}``" in text
        or f"``{family}_…_{rest.partition('_')[2]}``" in text
        or f"``…_{rest.partition('_')[2]}``" in text
    )


def test_one_of_another_package_without_a_description(run, monkeypatch):
    class Bare:
        name, version, target, needs, cost, source = "bare", "2", "delta", frozenset(), "none", "a test"

        def score(self, evidence):
            return None

    monkeypatch.setattr("lm_eval_sts.predictors.registry.get_predictor", lambda name: Bare())
    monkeypatch.setattr("lm_eval_sts.predictors.registry.description_of", lambda name: "")
    text = run("bare")
    assert "needs    nothing" in text and "target   delta" in text and "gives no description" in text


def test_an_unknown_name():
    with says(SettingsError, "unknown predictor 'sts_ict'", "did you mean 'sts_icl'"):
        command.predictors("sts_ict")
