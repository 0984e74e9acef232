"""The outcomes and predictions that ship: they load, and say what their sources say."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lm_eval_sts import shipped
from lm_eval_sts.commands import outcomes as command
from lm_eval_sts.errors import RecordError
from lm_eval_sts.records import UNKNOWN, Outcome, Prediction, load_record, save_record
from tests.messages import says

PROJECT = Path(__file__).resolve().parents[1]
LIMO = {"llama3-8b-limo": 2, "qwen2.5-7b-limo": 3, "gemma2-9b-limo": 4, "gemma2-9b-limo-as-printed": 4}
PAIRS = {
    "llama3.1-8b-instruct": 0,
    "llama3.1-70b-instruct": 1,
    "mistral-7b-v0.1-instruct": 2,
    "mistral-7b-v0.2-instruct": 3,
    "mixtral-8x7b-v0.1-instruct": 4,
    "yi-6b-chat": 5,
    "mathstral-7b-over-v0.1": 6,
    "mathstral-7b-over-v0.2": 7,
}
PUBLISHED = sorted([*LIMO, *PAIRS])
RATES = {"llama3-8b-limo": 0.75, "qwen2.5-7b-limo": 0.71, "gemma2-9b-limo": 0.58, "gemma2-9b-limo-as-printed": 0.58}


@pytest.fixture(scope="module")
def sources():
    for folder in (PROJECT / "shared", PROJECT.parent / "shared"):
        if (folder / "data" / "outcomes").is_dir():
            return folder / "data" / "outcomes"
    pytest.skip("the published figures are not at hand")


def read(sources: Path, name: str):
    return json.loads((sources / name).read_text(encoding="utf-8"))


def deltas(outcome: Outcome, view="score") -> np.ndarray:
    return np.array([change.delta for change in outcome.changes(view).values()])


# --- What ships.


def test_names():
    assert [name for name in shipped.outcome_names() if not name.startswith("micro/")] == PUBLISHED
    models = ("gemma2-9b", "llama3-8b", "qwen2.5-7b")
    assert shipped.prediction_names() == [f"{m}-limo-sts_{kind}" for m in models for kind in ("act", "icl")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_outcome_is_whole(name):
    outcome = shipped.load_outcome(name)
    assert outcome.name == name
    assert len(outcome.domains) == 14 and "computer_science" in outcome.domains
    assert outcome.source and len(outcome.caveats) >= 4
    assert outcome.measurement.tasks == "mmlu_pro" and outcome.measurement.version == UNKNOWN
    assert {change.se_kind for change in outcome.changes().values()} == {"estimated" if name in LIMO else "paired"}
    # 13 questions of mathstral's run are not those of the others.
    n = sum(change.n for change in outcome.changes().values())
    assert n == (12_019 if name.startswith("mathstral") else 12_032)


def test_domains_are_named_as_lm_eval_names_them():
    tasks = PROJECT / "tasks" / "sts_mmlu_pro"
    aliases = {path.stem.removeprefix("sts_mmlu_pro_") for path in tasks.glob("sts_mmlu_pro_*.yaml")}
    for name in PUBLISHED:
        assert set(shipped.load_outcome(name).domains) == aliases


def test_every_record_of_a_mixed_reading_says_so():
    gemma = [shipped.load_outcome(name) for name in ("gemma2-9b-limo", "gemma2-9b-limo-as-printed")]
    for outcome, other in (gemma, reversed(gemma)):
        assert other.name in outcome.caveats[0] and "798" in outcome.caveats[0]
    differing = [d for d in gemma[0].domains if gemma[0].domains[d] != gemma[1].domains[d]]
    assert differing == ["psychology"]
    assert [outcome.domains["psychology"].score.delta for outcome in gemma] == [-0.005, -0.0005]


# --- The figures are the sources'.


@pytest.mark.parametrize(("name", "table"), LIMO.items())
def test_limo_is_the_papers_table(sources, name, table):
    outcome = shipped.load_outcome(name)
    tables = read(sources, "sts_paper_tables.json")
    sizes = read(sources, "mmlu_pro_post_training_pairs.json")["pairs"][0]["subjects"]
    printed = dict(tables[f"table{table}"]["delta"])
    if name == "gemma2-9b-limo":
        printed["psychology"] = -0.50
    for subject, percent in printed.items():
        change = outcome.domains[subject.replace(" ", "_")].score
        assert 100 * change.delta == pytest.approx(percent, abs=1e-9)
        assert change.n == sizes[subject]["n"]
        # A fifth of the answers flip: their changes' variance is the mean square less the squared mean.
        flips = np.zeros(100_000)
        flips[: round(0.2 * 100_000)] = 1
        flips[: round((0.2 - change.delta) / 2 * 100_000)] = -1
        assert change.se == pytest.approx(np.std(flips) / math.sqrt(change.n), rel=1e-3)
        assert change.base is change.tuned is change.p is None


@pytest.mark.parametrize(("name", "row"), PAIRS.items())
def test_pairs_are_the_published_figures(sources, name, row):
    outcome, pair = shipped.load_outcome(name), read(sources, "mmlu_pro_post_training_pairs.json")["pairs"][row]
    assert {outcome.provenance.settings[side] for side in ("base", "post")} == {pair["base"], pair["post"]}
    for subject, figures in pair["subjects"].items():
        domain = outcome.domains[subject.replace(" ", "_")]
        change, unparsed, answered = domain.score, domain.unparsed, domain.answered
        assert (change.n, change.gained, change.lost) == (figures["n"], figures["gained"], figures["lost"])
        for value, key in ((change.base, "base_acc"), (change.tuned, "post_acc"), (change.delta, "delta")):
            assert 100 * value == pytest.approx(figures[key], abs=6e-4)
        assert 100 * change.se == pytest.approx(figures["se"], abs=6e-4)
        assert change.p == pytest.approx(figures["p"], rel=6e-3)
        assert change.tuned - change.base == pytest.approx(change.delta, abs=1e-12)
        assert 100 * unparsed.base == pytest.approx(figures["base_miss"], abs=6e-3)
        assert 100 * unparsed.tuned == pytest.approx(figures["post_miss"], abs=6e-3)
        assert unparsed.n == change.n
        assert answered.n == figures["n_both_answered"]
        assert 100 * answered.delta == pytest.approx(figures["delta_both_answered"], abs=6e-4)
        # Whoever was right had an answer, and changed only if they changed among all.
        assert answered.gained <= change.gained and answered.lost <= change.lost
        assert answered.base * answered.n <= change.base * change.n + 1e-9
    certain = pair["same_base_certain"]
    assert any("not certain" in caveat for caveat in outcome.caveats) == (not certain)
    assert any(pair["note"] in caveat for caveat in outcome.caveats)


@pytest.mark.parametrize("name", PAIRS)
def test_unparsed_changes_come_from_whole_questions(name):
    for domain in shipped.load_outcome(name).domains.values():
        change, n = domain.unparsed, domain.unparsed.n
        before, after = change.base * n, change.tuned * n
        either = n - domain.answered.n
        only_before, only_after = either - after, either - before
        questions = np.zeros(n)
        questions[: round(only_after)] = 1
        questions[round(only_after) : round(only_after + only_before)] = -1
        assert only_before >= 0 and only_after >= 0 and before + after >= either
        assert change.delta == pytest.approx(questions.mean(), abs=1e-12)
        assert change.se == pytest.approx(np.std(questions, ddof=1) / math.sqrt(n), rel=1e-9)
        assert (change.gained, change.lost) == (round(only_after), round(only_before))


@pytest.mark.parametrize(("name", "row"), PAIRS.items())
def test_reliability_of_pairs(sources, name, row):
    from lm_eval_sts.agreement.reliability import reliability

    outcome, pair = shipped.load_outcome(name), read(sources, "mmlu_pro_post_training_pairs.json")["pairs"][row]
    assert outcome.split_half == {"score": pair["reliability"], "answered": pair["reliability_both_answered"]}
    found = reliability(outcome)
    assert found.value == pytest.approx(pair["analytic_reliability"], abs=0.01)
    assert found.value == pytest.approx(outcome.split_half["score"], abs=0.06)
    assert reliability(outcome, "answered").value == pytest.approx(outcome.split_half["answered"], abs=0.065)


@pytest.mark.parametrize(("name", "expected"), RATES.items())
def test_reliability_of_limo(name, expected):
    from lm_eval_sts.agreement.reliability import reliability

    assert reliability(shipped.load_outcome(name)).value == pytest.approx(expected, abs=0.01)


def test_format_explains_much_of_some_pairs():
    for name, expected in (("mathstral-7b-over-v0.1", -0.79), ("yi-6b-chat", -0.63)):
        outcome = shipped.load_outcome(name)
        unparsed = [domain.unparsed.delta for domain in outcome.domains.values()]
        assert np.corrcoef(deltas(outcome), unparsed)[0, 1] == pytest.approx(expected, abs=0.01)
        assert any(f"{expected:+.2f}" in caveat for caveat in outcome.caveats)


def test_the_generator_makes_what_ships(sources, tmp_path):
    importlib.import_module("benchmarks.published.__main__").make(sources, tmp_path)
    made = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*.json")}
    there = {path.relative_to(shipped.PUBLISHED): path for path in shipped.PUBLISHED.rglob("*.json")}
    assert made.keys() == there.keys()
    for place, path in made.items():
        kind = Prediction if place.parts[0] == "predictions" else Outcome
        assert content(kind, path) == content(kind, there[place]), place


def content(kind, path: Path):
    """A record but for when and by which version it was made; figures to nine digits, as machines agree on them."""
    text = load_record(kind, path).model_dump_json(exclude={"provenance": {"created", "package_versions"}})
    return json.loads(text, parse_float=lambda digits: f"{float(digits):.9g}")


# --- The paper's own predictions.


def paper_correlation(prediction: Prediction, outcome: Outcome, *without: str) -> float:
    domains = [name for name in prediction.domains if name not in without]
    scores = [prediction.domains[name].score for name in domains]
    return np.corrcoef(scores, [abs(outcome.domains[name].score.delta) for name in domains])[0, 1]


@pytest.mark.parametrize("name", shipped.prediction_names())
def test_the_papers_values_give_its_correlations(sources, name):
    prediction = shipped.load_shipped_prediction(name)
    assert prediction.target == "magnitude" and prediction.predictor_version == "paper"
    assert len(prediction.domains) == 8 and any("digitised" in note for note in prediction.provenance.notes)
    outcome = shipped.load_outcome(name.rpartition("-")[0])
    assert prediction.setting.model == outcome.model and prediction.setting.sft_set == outcome.sft_set
    panels = read(sources, "sts_fig3_points.json")["panels"].values()
    (panel,) = (
        p for p in panels if name.endswith(p["metric"].lower()) and p["model"] == outcome.provenance.settings["model"]
    )
    for point in panel["points"]:
        assert prediction.domains[point["subject"].replace(" ", "_")].score == point["sts"]
    r = paper_correlation(prediction, outcome)
    assert r == pytest.approx(panel["rho_printed"], abs=0.02)
    assert r**2 == pytest.approx(panel["R2_table9"], abs=0.02)


@pytest.mark.parametrize(
    ("outcome", "predictor", "expected"),
    [
        ("gemma2-9b-limo", "sts_act", -0.24),
        ("gemma2-9b-limo", "sts_icl", 0.08),
        ("gemma2-9b-limo-as-printed", "sts_act", -0.23),
        ("gemma2-9b-limo-as-printed", "sts_icl", 0.05),
    ],
)
def test_gemmas_correlation_rests_on_engineering(outcome, predictor, expected):
    prediction = shipped.load_shipped_prediction(f"gemma2-9b-limo-{predictor}")
    r = paper_correlation(prediction, shipped.load_outcome(outcome), "engineering")
    assert r == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", list(RATES)[:3])
def test_the_papers_subjects_are_the_largest_and_smallest_changes(name):
    outcome = shipped.load_outcome(name)
    size = {domain: abs(found.score.delta) for domain, found in outcome.domains.items()}
    ordered = sorted(size, key=size.__getitem__)
    for kind in ("act", "icl"):
        assert set(shipped.load_shipped_prediction(f"{name}-sts_{kind}").domains) == {*ordered[:4], *ordered[-4:]}


# --- Loading by name or path.


def test_a_path_is_read(tmp_path):
    outcome = shipped.load_outcome("yi-6b-chat")
    for name in ("mine.json", "no_suffix"):
        save_record(outcome, tmp_path / name)
        assert shipped.load_outcome(str(tmp_path / name)) == outcome
    with says(RecordError, tmp_path / "none.json", "No such file"):
        shipped.load_outcome(str(tmp_path / "none.json"))
    with says(RecordError, "not a valid Prediction"):
        shipped.load_shipped_prediction(str(tmp_path / "mine.json"))


def test_unknown_names():
    with says(RecordError, "'llama3-8b-lima'", "did you mean 'llama3-8b-limo'?", "nearest of "):
        shipped.load_outcome("llama3-8b-lima")
    with says(RecordError, "no prediction 'sts'", "nearest of 6: ", "gemma2-9b-limo-sts_act"):
        shipped.load_shipped_prediction("sts")
    for odd in ("", "a" * 5_000, "a\0b", "micro/none", "/"):
        with says(RecordError):
            shipped.load_outcome(odd)


def test_micro_outcomes_are_named_by_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "MICRO", tmp_path)
    outcome = shipped.load_outcome("yi-6b-chat").model_copy(update={"name": "law-home"})
    save_record(outcome, tmp_path / "law-home.json")
    assert shipped.outcome_names()[-1] == "micro/law-home"
    assert shipped.load_outcome("micro/law-home") == outcome
    with says(RecordError, "did you mean 'micro/law-home'?"):
        shipped.load_outcome("micro/law-hame")


def test_asking_for_one_reads_one(monkeypatch):
    read = []
    monkeypatch.setattr(shipped, "load_record", lambda kind, path: read.append(path) or load_record(kind, path))
    shipped.outcome_names()
    assert not read
    shipped.load_outcome("yi-6b-chat")
    assert [path.stem for path in read] == ["yi-6b-chat"]


# --- Patterns: one meaning, wherever shipped names are taken.


def test_a_pattern_means_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pattern = "gemma2-9b-limo*"
    fitting = [name for name in shipped.outcome_names() if name.startswith("gemma2-9b-limo")]
    assert shipped.single_outcomes(pattern) == fitting
    assert [outcome.name for outcome in shipped.load_outcomes([pattern])] == fitting
    assert [place.stem for place in shipped.prediction_places([pattern])] == [
        f"gemma2-9b-limo-sts_{k}" for k in ("act", "icl")
    ]
    with says(RecordError, "no outcome in gemna*", "gemma2-9b-limo"):
        shipped.load_outcomes(["gemna*"])
    with says(RecordError, "no prediction in gemna*", "gemma2-9b-limo-sts_act"):
        shipped.prediction_places(["gemna*"])
    (tmp_path / "gemma2-9b-limo*").mkdir()
    with says(RecordError, "no outcome in the folder gemma2-9b-limo*"):
        shipped.load_outcomes([pattern])


# --- The command.


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("outcomes")(command.outcomes)
    app.command("other")(lambda: None)  # with one command only, typer would take no command's name

    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["outcomes", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


def test_the_list_names_all_with_their_figures(run):
    short, all_of_them = run().splitlines(), run("--all").splitlines()
    for name in shipped.outcome_names():
        (line,) = (line for line in all_of_them if line.split()[:1] == [name])
        assert (line.split() in map(str.split, short)) == (not name.startswith("micro/"))
    assert any("64 more are of the micro world" in line for line in short)
    (line,) = (line for line in short if line.startswith("yi-6b-chat "))
    assert line.split() == ["yi-6b-chat", "14", "+1.82", "2.26", "0.46"]


def test_a_pattern_or_a_folder_lists_what_it_holds(run, tmp_path):
    def names(text: str) -> list[str]:
        return [
            line.split()[0] for line in text.splitlines() if len(line.split()) == 5 and line.split()[1] in ("14", "28")
        ]

    assert names(run("mathstral*")) == ["mathstral-7b-over-v0.1", "mathstral-7b-over-v0.2"]
    assert names(run("micro/laws-*")) == [name for name in shipped.outcome_names() if name.startswith("micro/laws-")]
    assert run("yi-6b-ch?t") == run("yi-6b-chat")
    for name in ("yi-6b-chat", "qwen2.5-7b-limo"):
        save_record(shipped.load_outcome(name), tmp_path / f"{name}.json")
    assert names(run(str(tmp_path))) == ["qwen2.5-7b-limo", "yi-6b-chat"]


@pytest.mark.parametrize("name", ["", "--all", "micro/laws-home-long", "yi-6b-chat", "gemma2-9b-limo-as-printed"])
def test_what_is_shown_fits_the_terminal(run, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ([name] if name else [], [name, "--all"] if name not in ("", "--all") else []):
        text = run(*arguments)
        assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text and "…" not in text


def test_one_is_shown_with_source_and_caveats(run):
    outcome, text = shipped.load_outcome("yi-6b-chat"), run("yi-6b-chat", "--all")
    flat = " ".join(text.split())
    assert "5 of 14 domains rose and 0 fell by more than two standard errors; the mean change is +1.82" in flat
    for part in (outcome.source, *outcome.caveats, *outcome.domains):
        assert " ".join(part.split()) in flat
    first, second = (line for line in text.splitlines() if line.startswith("law "))
    law = outcome.domains["law"]
    assert first.split()[1:5] == ["1,101", f"{100 * law.score.base:.2f}", "→", f"{100 * law.score.tuned:.2f}"]
    assert f"{100 * law.score.delta:+.2f} ± {100 * law.score.se:.2f}" in first
    assert f"{100 * law.answered.delta:+.2f} ± {100 * law.answered.se:.2f}" in second
    assert f"{100 * law.unparsed.delta:+.2f} ± {100 * law.unparsed.se:.2f}" in second


def test_the_largest_changes_are_shown_first(run):
    lines = run("yi-6b-chat").splitlines()
    shown = [
        line.split()[0]
        for line in lines
        if line.split()[:1] and line.split()[0] in shipped.load_outcome("yi-6b-chat").domains
    ]
    changes = shipped.load_outcome("yi-6b-chat").changes()
    assert shown == sorted(changes, key=lambda name: -abs(changes[name].delta))


def test_one_without_accuracies_is_shown(run):
    text = run("gemma2-9b-limo-as-printed")
    (line,) = (line for line in text.splitlines() if line.startswith("psychology "))
    assert line.split()[:5] == ["psychology", "798", "–", "→", "–"] and "-0.05 ± 1.58" in line
    assert "answered" not in text.partition("Caveats")[0]
