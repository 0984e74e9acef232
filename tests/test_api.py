"""The Python API: the same numbers as through lm-eval, own questions, and nothing imported before it is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Tokenizer

import lm_eval_sts as sts
from lm_eval_sts.errors import DatasetError, ModelError, RecordError, SettingsError
from lm_eval_sts.evidence.evidence import Question
from tests.harness.test_run import predictions_of
from tests.harness.world import World, evaluate, make_world
from tests.messages import says

ROOT = Path(__file__).parents[1]
LITTLE = {"sft_tokens": 300, "domain_tokens": 250, "n_features": 10, "demo_draws": 2}
NAMES = ("sts_act", "sts_icl", "loss_gold", "tfidf_cosine", "null_random")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def model(world) -> sts.Model:
    loaded = AutoModelForCausalLM.from_pretrained(world.model)
    return sts.Model(loaded, AutoTokenizer.from_pretrained(world.model), name=world.model)


@pytest.fixture(scope="module")
def sft(world):
    return sts.load_sft_set(world.settings["sft_set"])


def questions(topic: str, n: int = 8) -> list[Question]:
    return [
        Question(f"What is {topic} number {i}?", f"{topic} {i}", (f"{topic} {i}", f"{topic} {i + 1}")) for i in range(n)
    ]


@pytest.mark.parametrize("templated", [False, True])
def test_it_gives_the_numbers_of_a_run_of_lm_eval(world, model, sft, tmp_path, templated):
    through = {"apply_chat_template": templated, "fewshot_as_multiturn": templated}
    run = {"predictors": list(NAMES), "profiles_dir": str(tmp_path / "a")}
    results = evaluate(world, ["sts_mmlu_pro_law"], sts=run, batch_size="auto", **through)
    expected = predictions_of(results, tmp_path)
    evidence = sts.read(
        model,
        sts.load_sae(world.settings["sae"]),
        sft,
        sts.load_domains("sts_mmlu_pro_law", path=world.settings["benchmark_path"]),
        predictors=NAMES,
        apply_chat_template=templated,
        profiles_dir=str(tmp_path / "b"),
        **LITTLE,
    )
    for name in NAMES:
        ours = sts.predict(evidence, name)
        assert ours.domains == expected[name].domains and ours.selection == expected[name].selection
        assert ours.setting == expected[name].setting


def test_explanations_are_those_of_a_finished_run(world, model, sft, tmp_path):
    from lm_eval_sts.explanation.restore import explain_run
    from lm_eval_sts.explanation.results import read_kept

    run = {"predictors": ["sts_icl"], "profiles_dir": str(tmp_path / "profiles")}
    results = evaluate(world, ["sts_mmlu_pro_law"], sts=run)
    (tmp_path / "results.json").write_text(json.dumps(results, default=str))
    (finished,) = read_kept(tmp_path / "results.json")
    expected = explain_run(finished.predictions["sts_icl"], finished.kept)
    evidence = sts.read(
        model,
        sts.load_sae(world.settings["sae"]),
        sft,
        sts.load_domains("sts_mmlu_pro_law", path=world.settings["benchmark_path"]),
        predictors=["sts_icl", "loss_gold"],
        profiles_dir=str(tmp_path / "profiles"),
        **LITTLE,
    )
    found = sts.explain(evidence, "sts_icl")
    assert found.features and found.features[0].passages["sft"]
    for name, domain in expected.domains.items():
        of = found.domains[name]
        ours = {f.feature: part for f, part in zip(found.features, of.parts, strict=True)}
        theirs = {f.feature: part for f, part in zip(expected.features, domain.parts, strict=True)}
        assert ours == pytest.approx(theirs) and of.questions == domain.questions
    assert set(found.to_frame()["domain"]) == set(evidence.texts.domains) and "rest" not in found._repr_html_()
    plain = sts.explain(evidence, "loss_gold")
    assert not plain.features and plain.domains["law"].questions
    assert sts.explain(evidence, "sts_icl", evidence).shared.cosine == pytest.approx(1)
    with pytest.raises(TypeError, match="evidence may not be of type"):
        sts.explain(found)


def test_questions_of_ones_own(world, model, sft, tmp_path):
    from sae_lens import SAE

    own = {topic: questions(topic) for topic in ("stones", "courts", "numbers")}
    evidence = sts.read(
        model,
        sts.load_sae(SAE.load_from_disk(world.settings["sae"])),
        sft,
        own,
        predictors=("sts_icl", "loss_gold"),
        profiles_dir=str(tmp_path),
        **LITTLE,
    )
    found = sts.predict(evidence, "sts_icl")
    assert list(found.domains) == list(own) and found.setting.benchmark.name == "own"
    assert all(score.n_questions == 3 and score.score > 0 for score in found.domains.values())
    frame = found.to_frame()
    assert list(frame["domain"]) == list(own) and frame["score"].tolist() == [s.score for s in found.domains.values()]
    with says(SettingsError, "sts_signed needs answer_gradients", "not read"):
        sts.predict(evidence, "sts_signed")
    with says(SettingsError, "unknown predictor 'sts_icle'"):
        sts.predict(evidence, "sts_icle")


@pytest.mark.parametrize(
    ("own", "part"),
    [
        ({}, "there is no domain"),
        ({"law": questions("law", 5)}, "law has 5 questions"),
        ({"law": [*questions("law"), Question("?", " ")]}, "question 8"),
        ({"law": [*questions("law"), Question("?", "a", ("b", "c"))]}, "none of its options"),
        ({"law": [*questions("law"), Question("?", "a", "abc")]}, "options of type str"),
        ({"law": [("?", "a")] * 8}, "question 0 (counted from 0) is a tuple"),
        ({"law": [Question(3, "a")] * 8}, "no text"),
        ({"law": [Question("\ud800", "a")] * 8}, "surrogate"),
    ],
)
def test_questions_that_cannot_be_used(world, model, sft, own, part):
    with says(DatasetError, part):
        sts.read(model, world.settings["sae"], sft, own)


@pytest.mark.parametrize("name", ["sft", " ", 3])
def test_a_domain_is_not_taken_for_the_sft_set(world, model, sft, name):
    with says(SettingsError, "a domain is named", "'sft'"):
        sts.read(model, world.settings["sae"], sft, {name: questions("law")})


def test_names_are_those_that_a_run_of_lm_eval_records():
    assert sts.load_sae("micro/sae").id == "micro/sae"
    assert sts.load_sft_set("micro/sft/add-home-short").name == "micro/sft/add-home-short"


@pytest.mark.parametrize(
    "settings",
    [{"benchmark_path": "x"}, {"sft_split": "train"}, {"layer": 1}, {"hook_name": "blocks.0.hook_resid_post"}],
)
def test_what_would_not_be_used_is_refused(world, model, sft, settings):
    with says(SettingsError, "does not use", *settings):
        sts.read(model, sts.load_sae(world.settings["sae"]), sft, {"law": questions("law")}, **settings)


@pytest.mark.parametrize(
    ("position", "hint"), enumerate(["sts.Model", "sts.load_sae", "sts.load_sft_set", "questions"])
)
def test_what_is_of_another_type_is_said(world, model, sft, position, hint):
    given = [model, world.settings["sae"], sft, {"law": questions("law")}]
    given[position] = [1]
    with pytest.raises(TypeError, match=hint):
        sts.read(*given)


def test_models_that_are_none(world, model):
    inner, tokenizer = model.model, model.tokenizer
    with says(ModelError, "str is no model of transformers"):
        sts.Model(world.model, tokenizer)
    with says(ModelError, "needs its tokenizer", "'words'"):
        sts.Model(inner, "words")
    with says(ModelError, "it has no tokenizer"):  # what transformers makes where the files of Qwen's are missing
        sts.Model(inner, Qwen2Tokenizer())
    for options in ({"context": 0}, {"context": "9"}, {"max_rows": -1}):
        with says(ModelError, *options, "above 0"):
            sts.Model(inner, tokenizer, **options)


def test_a_tokenizer_of_another_model_and_a_model_without_logits(world, sft, tmp_path):
    own = {"law": questions("law")}
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(world.model), AutoTokenizer.from_pretrained(world.model)
    headless = sts.Model(loaded.get_decoder(), tokenizer)
    with says(ModelError, "gives no logits"):
        sts.read(headless, None, sft, own, predictors=["loss_gold"], profiles_dir=str(tmp_path), **LITTLE)
    loaded.resize_token_embeddings(20)
    other = sts.Model(loaded, tokenizer)
    for name in ("loss_gold", "sts_act"):
        with says(ModelError, "the model knows 20 tokens"):
            sts.read(other, world.settings["sae"], sft, own, predictors=[name], profiles_dir=str(tmp_path), **LITTLE)


def test_settings_are_checked(world, model, sft):
    with says(SettingsError, "the settings of read(): seed"):
        sts.read(model, world.settings["sae"], sft, {"law": questions("law")}, seed=-1)
    with says(SettingsError, "unknown key 'sft_token'", "did you mean 'sft_tokens'"):
        sts.read(model, world.settings["sae"], sft, {"law": questions("law")}, sft_token=3)
    with says(SettingsError, "no benchmark 'sts_mmlu'", "sts_mmlu_pro"):
        sts.load_domains("sts_mmlu")


def test_pairs_are_an_sft_set_and_blank_ones_are_none():
    assert sts.load_sft_set([("a", "b")]).examples[0].response == "b"
    with says(DatasetError, "1 of 2 rows", "rows 1"):
        sts.load_sft_set([("a", "b"), ("c", " ")])


def test_rows_at_hand_are_read_as_those_of_a_file_are():
    rows = [{"id": 1, "answer": "1", "question": "one?"}, {"id": 2, "answer": "2", "question": "two?"}]
    for given in (rows, iter(rows), Dataset.from_list(rows), Dataset.from_list(rows).with_format("numpy")):
        loaded = sts.load_sft_set(given)
        assert [(e.prompt, e.response) for e in loaded.examples] == [("one?", "1"), ("two?", "2")]
        assert loaded.notes == ("columns of the SFT set that are left out: id",)
    assert sts.load_sft_set(rows, columns=("answer", "question")).examples[0].prompt == "1"
    with says(DatasetError, "given rows", "no column 'q'"):
        sts.load_sft_set(rows, columns=("q", "answer"))


@pytest.mark.parametrize(
    "given",
    [["ab", "cd"], [("q", "a", "s")], [("q",)], {"q": "a"}, {"prompt": ["q"], "response": ["a"]}, None, 3]
    + [[("q", "a"), {"prompt": "q", "response": "a"}], DatasetDict(train=Dataset.from_list([{"prompt": "q"}]))],
)
def test_what_is_neither_pairs_nor_rows_is_refused(given):
    with says(DatasetError, type(given).__name__, "(prompt, response) pairs, or rows with named columns"):
        sts.load_sft_set(given)


def test_nothing_at_hand_is_no_sft_set():
    with says(DatasetError, "empty"):
        sts.load_sft_set([])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": ...}, "no column 'question' in its split 'test'"),
        ({"question": None}, "of its split 'test' have no question (rows 1, counted from 0)"),
        ({"answer_index": -1}, "have no option of the number answer_index says, from 0 (rows 1,"),
        ({"answer_index": 10}, "have no option of the number answer_index"),
        ({"options": []}, "have no option of the number answer_index"),
        ({"cot_content": ...}, "no column 'cot_content' in its split 'validation'"),
    ],
)
def test_rows_of_a_benchmark_that_would_be_misread_are_refused(world, tmp_path, change, said):
    for name in ("test", "validation"):
        rows = Dataset.from_parquet(f"{world.settings['benchmark_path']}/{name}.parquet").to_list()
        for key, value in change.items():
            if value is ...:
                rows = [{column: cell for column, cell in row.items() if column != key} for row in rows]
            elif name == "test":
                rows[1][key] = value
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with says(DatasetError, tmp_path, said):
        sts.load_domains("sts_mmlu_pro_law", path=tmp_path)


def test_the_example_runs_as_it_stands(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "from_python.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "tfidf_cosine" in done.stdout and "pearson_ceiling" in done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_pages_show_the_example(page):
    _, _, section = (ROOT / page).read_text(encoding="utf-8").partition("# From Python\n")
    shown = section.partition("```python\n")[2].partition("```\n")[0]
    assert shown == (ROOT / "examples" / "from_python.py").read_text(encoding="utf-8").partition('"""\n\n')[2] != ""


def test_comparisons_show_themselves(tmp_path):
    from tests.agreement.made import named, outcome, prediction

    values = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3]
    found = sts.compare([prediction(named(values))], [outcome(named(values))], target="magnitude")
    frame = found.to_frame()
    assert frame["pearson"].tolist() == [pytest.approx(1)] and "sts_icl" in found._repr_html_()
    assert found.plot().to_dict()["config"]
    with says(RecordError, "nothing to compare"):
        sts.compare([], [])


def test_unknown_names_and_what_completion_offers():
    with pytest.raises(AttributeError, match="no attribute 'predcit'"):
        sts.predcit  # noqa: B018
    assert {"read", "predict", "compare", "Model"} <= set(dir(sts))
