"""The whole agreement: the paper's own figures, and whatever records may hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_sts.agreement.compare import Rules, compare
from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.records import Agreement, load_record, save_record
from lm_eval_sts.shipped import load_outcome, load_shipped_prediction
from tests.agreement.made import NAMES, PROVENANCE, named, outcome, prediction
from tests.messages import says

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "outcomes"
MODELS = {
    "llama3-8b-limo": ("LLaMA3-8B", "a", "d"),
    "qwen2.5-7b-limo": ("Qwen2.5-7B", "b", "e"),
    "gemma2-9b-limo": ("Gemma2-9B", "c", "f"),
}
# Zhang et al., ICLR 2026: Pearson's correlation of Table 6 and R² of Table 9, STS_act then STS_ICL.
PRINTED = {
    "llama3-8b-limo": ((0.71, 0.81), (0.50, 0.66)),
    "qwen2.5-7b-limo": ((0.90, 0.78), (0.80, 0.61)),
    "gemma2-9b-limo": ((0.60, 0.77), (0.36, 0.60)),
}
DELTAS = named([0.1, -0.2, 0.05, 0.3, -0.15, 0.01, 0.02, -0.03, 0.04])
SCORES = named([1, 3, 2, 5, 4, 0, 6, 7, 9])


def run(predictions, outcomes, **rules):
    return compare(predictions, outcomes, Rules(**rules), PROVENANCE)


def paper(name, **rules):
    predictions = [load_shipped_prediction(f"{name}-{predictor}") for predictor in ("sts_act", "sts_icl")]
    return run(predictions, [load_outcome(name)], **rules)


@pytest.mark.parametrize("name", MODELS)
def test_the_paper_s_correlations(name):
    found = paper(name)
    assert found.target == "magnitude"
    for one, r, r_squared in zip(found.settings, *PRINTED[name], strict=True):
        assert len(one.points) == 8
        assert one.pearson.value == pytest.approx(r, abs=0.02)
        assert one.r_squared == pytest.approx(r_squared, abs=0.02)
    (pair,) = found.raw.differences
    assert not pair.separable and all(place.best == 1 for place in found.raw.places)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [("gemma2-9b-limo", (-0.24, 0.08)), ("gemma2-9b-limo-as-printed", (-0.23, 0.05))],
    ids=["psychology as plotted", "psychology as printed"],
)
def test_gemma_hangs_on_engineering(reading, expected):
    predictions = [load_shipped_prediction(f"gemma2-9b-limo-{predictor}") for predictor in ("sts_act", "sts_icl")]
    for one, r in zip(run(predictions, [load_outcome(reading)]).settings, expected, strict=True):
        assert one.influence.most == "engineering"
        assert one.influence.without["engineering"] == pytest.approx(r, abs=0.02)


def test_paper8_is_the_paper_s_choice():
    for name in MODELS:
        (shipped,) = (load_shipped_prediction(f"{name}-sts_icl"),)
        everywhere = shipped.model_copy(
            update={"domains": dict.fromkeys(load_outcome(name).domains, shipped.domains["engineering"])}
        )
        chosen = run([everywhere], [load_outcome(name)], domains="paper8").settings[0].points
        assert set(chosen) == set(shipped.domains)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the digitised points are not here")
def test_digitised_points():
    panels = json.loads((SHARED / "sts_fig3_points.json").read_text())["panels"]
    table = json.loads((SHARED / "sts_paper_tables.json").read_text())
    for name, (printed, act, icl) in MODELS.items():
        for letter, metric in ((act, "STS_act"), (icl, "STS_ICL")):
            points = panels[letter]["points"]
            found = run(
                [prediction({p["subject"]: p["sts"] for p in points})],
                [outcome({p["subject"]: p["abs_shift_pct"] / 100 for p in points})],
            ).settings[0]
            assert found.pearson.value == pytest.approx(table["table6"][metric][printed][0], abs=0.02), name
            assert found.r_squared == pytest.approx(table["table9"][metric][printed][0], abs=0.02)


def test_the_numbers_are_scipy_s():
    found = run([prediction(SCORES)], [outcome(DELTAS)]).settings[0]
    x, y = np.array(list(SCORES.values())), np.abs(list(DELTAS.values()))
    assert found.pearson.value == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert found.spearman.value == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
    assert found.kendall.value == pytest.approx(scipy.stats.kendalltau(x, y).statistic)
    assert found.pearson.disattenuated == pytest.approx(found.pearson.value / found.pearson.ceiling.value)
    assert found.points["b"].measured == -0.2 and found.points["b"].predicted_se == pytest.approx(0.1 * 2**0.5)


def test_units():
    points = run([prediction(SCORES)], [outcome(DELTAS)]).settings[0].fit
    nats = run([prediction(SCORES)], [outcome(DELTAS, view="log_likelihood")], view="log_likelihood")
    assert nats.outcomes[0].unit == "nats"
    assert nats.settings[0].fit.error == pytest.approx(points.error / 100)


def test_targets():
    signed = prediction(SCORES, predictor="signed", target="delta")
    assert run([signed], [outcome(DELTAS)]).target == "delta"
    both = run([signed, prediction(SCORES)], [outcome(DELTAS)])
    assert both.target == "magnitude"  # what all predict; the sign of those that predict one has its sign score
    assert [one.sign is not None for one in both.settings] == [True, False]
    assert [
        one.sign is not None for one in run([signed, prediction(SCORES)], [outcome(DELTAS)], target="delta").settings
    ] == [True, False]
    negative = prediction({name: -score for name, score in SCORES.items()}, target="delta")
    size = run([negative], [outcome(DELTAS)], target="magnitude").settings[0]
    assert size.pearson.value == pytest.approx(run([prediction(SCORES)], [outcome(DELTAS)]).settings[0].pearson.value)
    assert size.sign == run([negative], [outcome(DELTAS)]).settings[0].sign is not None


def test_true_intervals():
    found = run([prediction(SCORES)], [outcome(DELTAS)], interval="true").settings[0]
    assert found.pearson.interval and found.spearman.interval and found.kendall.interval is None
    assert "for the true change exists" in found.notes[0]
    unknown = run([prediction(SCORES)], [outcome(DELTAS, se=None)], interval="true").settings[0]
    assert unknown.pearson.interval is None and unknown.pearson.ceiling is None
    assert "errors of the measured changes are not known" in unknown.notes[0]


@pytest.mark.parametrize(
    ("scores", "deltas", "why"),
    [
        (dict.fromkeys(DELTAS, 2.0), DELTAS, "no correlation: the predictions are the same in all domains"),
        (SCORES, dict.fromkeys(DELTAS, 0.1), "no correlation: the changes are the same in all domains"),
        (named([1, 3]), named([0.1, -0.2]), "no correlation: 2 domains"),
        (named([1, 3, 2, 5]), named([0.1, -0.2, 0.3, 0.4]), "no interval: 4 domains, at least 5 are needed"),
    ],
)
def test_why_there_is_no_correlation_or_interval(scores, deltas, why):
    (found,) = run([prediction(scores)], [outcome(deltas)]).settings
    assert why in found.notes


def test_low_reliability_is_not_disattenuated():
    found = run([prediction(SCORES)], [outcome(DELTAS, se=0.2)]).settings[0]
    assert found.pearson.disattenuated is None
    assert any("not disattenuated" in note for note in found.notes)


def test_several_settings():
    generator = np.random.default_rng(0)
    outcomes, predictions = [], []
    for i in range(4):
        deltas = generator.standard_normal(9) / 10
        outcomes.append(outcome(named(deltas), name=f"o{i}", sft=f"x/{i}"))
        predictions.append(prediction(named(np.abs(deltas) + 0.01 * generator.random(9)), sft=f"x/{i}"))
        predictions.append(prediction(named(range(9)), sft=f"x/{i}", predictor="constant"))
        predictions.append(prediction(named(generator.random(9)), sft=f"x/{i}", predictor="random"))
    found = run(predictions, outcomes)
    assert [m.predictor for m in found.raw.means][0] == "sts_icl"
    assert found.raw.means[0].settings == ("o0", "o1", "o2", "o3")
    assert found.raw.places[0].leading and found.raw.places[0].best == 1
    assert found.raw.differences[0].separable and found.raw.differences[0].williams_p is None
    centred = {m.predictor: m for m in found.double_centred.means}
    assert centred["constant"].z is None and "the same scores" in centred["constant"].undefined
    assert centred["sts_icl"].correlation > 0.9
    assert len(found.double_centred.differences) == 1
    assert run(predictions[:3], outcomes[:1]).double_centred is None


def test_domain_names_of_two_benchmarks_are_apart():
    outcomes = [outcome(DELTAS, name="pro"), outcome(DELTAS, name="micro", tasks="micro")]
    predictions = [prediction(SCORES, predictor=p, tasks=t) for p in ("a", "b") for t in ("mmlu_pro", "micro")]
    found = run([p for p in predictions], outcomes)
    assert [d.n_domains for d in found.raw.differences] == [18]
    assert found.double_centred is None


@pytest.mark.parametrize(
    ("rule", "kind", "parts"),
    [
        ({"domains": "a,bb"}, SettingsError, ("no domain 'bb'", "did you mean 'b'", "an-outcome")),
        ({"domains": ","}, SettingsError, ("no domain ','",)),
        ({"view": "answered"}, RecordError, ("no view 'answered'", "it has score")),
    ],
)
def test_rules_that_name_what_is_not_there(rule, kind, parts):
    with says(kind, *parts):
        run([prediction(SCORES)], [outcome(DELTAS)], **rule)


def test_absurd_changes_are_refused():
    for broken in (outcome(DELTAS | {"b": 1e300}), outcome(DELTAS, se=1e300)):
        with says(RecordError, "an-outcome", "is no change of a score"):
            run([prediction(SCORES)], [broken])


def test_domains_may_be_named():
    assert list(run([prediction(SCORES)], [outcome(DELTAS)], domains="c, a,d,b").settings[0].points) == list("abcd")
    with says(SettingsError, "paper8 needs 8"):
        run([prediction(SCORES)], [outcome(named([0.1, 0.2, 0.3]))], domains="paper8")
    with says(RecordError, "no domain in common", "predicted x", "measured a, b"):
        run([prediction({"x": 1.0})], [outcome(DELTAS)])


def test_the_record_survives_the_disk(tmp_path):
    found = paper("qwen2.5-7b-limo")
    save_record(found, tmp_path / "a.json")
    assert load_record(Agreement, tmp_path / "a.json") == found
    assert found == paper("qwen2.5-7b-limo") != paper("qwen2.5-7b-limo", seed=1)


VALUES = st.sampled_from([0.0, 1.0, -1.0, 0.5]) | st.floats(-1, 1)
DOMAINS = st.dictionaries(st.sampled_from(NAMES[:10]), VALUES, min_size=1)
ERRORS = st.none() | st.just(0.0) | st.floats(0, 1)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(DOMAINS, ERRORS), min_size=1, max_size=3),
    st.lists(
        st.tuples(
            DOMAINS | st.dictionaries(st.sampled_from(NAMES[:9]), st.floats(-1e308, 1e308), min_size=1),
            st.integers(0, 2),
            st.sampled_from(["magnitude", "delta"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["magnitude", "delta", None]),
    st.sampled_from(["measured", "true"]),
    st.sampled_from(["all", "paper8", "a"]),
)
def test_any_records_give_an_agreement_or_an_error_of_ours(measured, predicted, target, interval, domains):
    outcomes = [outcome(d, name=f"o{i}", sft=f"x/{i}", se=se) for i, (d, se) in enumerate(measured)]
    predictions = [
        prediction(scores, predictor=f"p{i}", sft=f"x/{s % len(measured)}", target=declared)
        for i, (scores, s, declared) in enumerate(predicted)
    ]
    try:
        found = run(predictions, outcomes, target=target, interval=interval, domains=domains)
    except (RecordError, SettingsError) as error:
        assert "\n" not in str(error)
        return
    assert Agreement.model_validate_json(found.model_dump_json()) == found
    for one in found.settings:
        for association in (one.pearson, one.spearman, one.kendall):
            assert association.value is not None or one.notes


def test_order_does_not_matter():
    generator = np.random.default_rng(0)
    order = list(generator.permutation(list(DELTAS)))
    found = run([prediction(SCORES)], [outcome(DELTAS)]).settings[0]
    again = run([prediction({n: SCORES[n] for n in order})], [outcome({n: DELTAS[n] for n in order})]).settings[0]
    for name in ("pearson", "spearman", "kendall"):
        ours, theirs = getattr(found, name), getattr(again, name)
        assert (ours.value, ours.interval.low) == pytest.approx((theirs.value, theirs.interval.low))
    assert found.fit.error == pytest.approx(again.fit.error) and found.influence.most == again.influence.most
