"""The study file: what is wrong in it is said in one line that names the file, the key and the reason."""

from __future__ import annotations

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.predictors.registry import FORWARD_PREDICTORS
from lm_eval_sts.study.design import design_hash, read_study
from lm_eval_sts.study.jobs import jobs
from tests.study.studies import LAWS, MATHS, PROJECT, changed, write

SETS = ("sft_sets", "test")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (changed("prediction", to={}), ("prediction: is not known", "docs/study.md")),
        (changed("predict", "task", to="x"), ("predict.task: is not known",)),
        (changed("predict", to=...), ("predict: Field required",)),
        (changed("predict", "limit", to=0), ("predict.limit: Input should be greater than 0",)),
        (
            changed("predict", "predictors", to=["sts_ikl"]),
            ("predict.predictors", "'sts_ikl'", "did you mean 'sts_icl'"),
        ),
        (changed("predict", "settings", "sft_token", to=1), ("predict.settings", "did you mean 'sft_tokens'")),
        (changed("predict", "settings", "sae", to="x"), ("predict.settings: sae is for the study to set",)),
        (changed(*SETS, to=[f"micro/sft/{LAWS}", f"elsewhere/{LAWS}"]), (f"two SFT sets are called {LAWS}",)),
        (changed(*SETS, to=[{"source": "a", "name": "Two words"}]), ("sft_sets.test.0.name",)),
        (changed("sft_sets", to={}), ("sft_sets",)),
        (changed("bases", to={}), ("bases",)),
        (changed("bases", "shipped", "path", to="x"), ("bases.shipped.path: is not known",)),
        (changed("conditions", "main", to={}), ("cannot be called main",)),
        (changed("conditions", "n10", to={"bases": ["other"]}), ("conditions.n10", "no base model 'other'")),
        (changed("conditions", "n10", to={"sft_sets": ["law"]}), ("conditions.n10", "no SFT set or group 'law'")),
        (changed("conditions", "fit", to={"learns": ["law"]}), ("conditions.fit.learns", "no SFT set or group 'law'")),
        (changed("bases", "shipped", "sft_sets", to=["law"]), ("bases.shipped", "no SFT set or group 'law'")),
        (changed("bases", "shipped", "predictors", to=["sts_ikl"]), ("bases.shipped.predictors", "'sts_ikl'")),
        (changed("bases", "shipped", "model", to="a/b.gguf"), ("bases.shipped: a GGUF file is not fine-tuned",)),
        (
            changed("bases", "shipped", "model_args", to={"gguf_file": "b.gguf"}),
            ("bases.shipped: a GGUF file is not fine-tuned: save the model dequantised", "docs/study.md"),
        ),
        (
            changed("recipes", "main", "more_seeds", to=[{"seeds": [1], "sft_sets": ["law"]}]),
            ("recipes.main", "no SFT set or group 'law'"),
        ),
        (changed("measure", to=...), ("recipes are given and no way of measuring",)),
        (changed("recipes", to={}), ("nothing to compare predictions with",)),
        (changed("recipes", "main", "max_step", to=5), ("recipes.main", "max_step")),
        (changed("recipes", "main", "learning_rate", to="fast"), ("recipes.main", "learning_rate")),
        (changed("recipes", "main", "seeds", to=[0, 0]), ("recipes.main.seeds", "name one twice")),
        (changed("recipes", "main", "seeds", to=[]), ("recipes.main.seeds",)),
        (changed("recipes", "main", "bases", to=["x"]), ("recipes.main", "no base model 'x'")),
        (changed("primary", "candidate", to="sts_ikl"), ("primary", "no predictor 'sts_ikl'")),
        (changed("primary", "target", to="sign"), ("primary.target",)),
        (changed("primary", "view", to="points"), ("primary.view",)),
        (changed("primary", "sft_sets", to=["dev"]), ("primary", "no SFT set or group 'dev'")),
        (changed("outcomes", "other", to=["x"]), ("outcomes", "no base model 'other'")),
        (changed("finetune", "keep", to=True), ("finetune.keep: is not known",)),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, parts):
    with pytest.raises(SettingsError) as told:
        write(tmp_path, content)
    assert str(tmp_path / "small.yaml") in str(told.value)
    assert all(part in str(told.value) for part in parts), told.value


def test_what_a_base_model_or_a_seed_is_for(tmp_path):
    content = changed("bases", "other", to={"model": "x", "sft_sets": [MATHS], "predictors": ["default", "probing_5"]})
    content["recipes"]["main"] |= {"seeds": [4], "more_seeds": [{"seeds": [4, 7], "sft_sets": [[MATHS]]}]}
    content["recipes"]["main"]["more_seeds"] += [{"seeds": [9], "bases": ["other"], "sft_sets": [LAWS]}]
    study = write(tmp_path, content)
    assert study.seeds("main", "shipped", LAWS) == [4]
    assert study.seeds("main", "shipped", MATHS) == study.seeds("main", "other", MATHS) == [4, 7]
    assert study.seeds("main", "other", LAWS) == []
    assert study.predictors("main", "other") == [*FORWARD_PREDICTORS, "probing_5"]
    assert study.predictors("main", "shipped") == ["sts_icl", "tfidf_cosine"]
    named = [job.name for job in jobs(study)]
    assert [name for name in named if "/other/" in name] == [
        *(f"tune/other/{MATHS}.seed4", f"tune/other/{MATHS}.seed7", f"predict/other/main/{MATHS}")
    ]


def test_gguf_files_may_be_predicted(tmp_path):
    content = changed("bases", "shipped", "model_args", to={"gguf_file": "b.gguf"})
    content |= {"recipes": {}, "outcomes": {"shipped": ["micro/*"]}}
    assert write(tmp_path, content).bases["shipped"].arguments["gguf_file"] == "b.gguf"


def test_variables_and_places(tmp_path, monkeypatch):
    monkeypatch.delenv("STUDY_KIT", raising=False)
    content = changed(*SETS, to=["${STUDY_KIT}/a.jsonl", "b/c.jsonl"])
    with pytest.raises(SettingsError, match="names the variable STUDY_KIT, which is not set: export STUDY_KIT="):
        write(tmp_path, content)
    monkeypatch.setenv("STUDY_KIT", "/kit")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.jsonl").touch()
    study = write(tmp_path, content)
    assert [source.source for source in study.sets.values()] == ["/kit/a.jsonl", str(tmp_path / "b" / "c.jsonl")]
    assert list(study.sets) == ["a", "c"]


@pytest.mark.parametrize("text", ["a: [", "- one", "", "\x00"])
def test_no_study_file(tmp_path, text):
    file = tmp_path / "other.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="other.yaml"):
        read_study(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_study(tmp_path / "none.yaml")


def test_a_design_is_the_same_wherever_it_lies(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    hashes = set()
    for folder, title in ((here, "One"), (there, "Other")):
        (folder / "b").mkdir(parents=True)
        (folder / "b" / "c.jsonl").touch()
        monkeypatch.setenv("STUDY_KIT", str(folder))
        content = changed(*SETS, to=["${STUDY_KIT}/a.jsonl", "b/c.jsonl"])
        hashes.add(design_hash(write(folder, {**content, "title": title, "notes": [title]})))
    assert len(hashes) == 1
    assert design_hash(write(here, changed("predict", "limit", to=7))) != design_hash(write(here))


def test_two_jobs_of_one_name(tmp_path):
    content = changed(*SETS, to=[f"micro/sft/{LAWS}", {"source": "micro/sft/add-home-short", "name": f"{LAWS}-strong"}])
    content["recipes"]["strong"] = {"max_steps": 5, "sft_sets": [LAWS]}
    with pytest.raises(SettingsError, match=f"two jobs are called tune/shipped/{LAWS}-strong.seed0"):
        jobs(write(tmp_path, content))


def test_the_shipped_studies_are_read(monkeypatch, tmp_path):
    for name in ("REAL", "QWEN_CODER", "QWEN_CODER_SAE", "SMOLLM", "SMOLLM_SAE", "DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    assert {read_study(file).name for file in (PROJECT / "studies").glob("*.yaml")} >= {
        "quick",
        "micro",
        "qwen-coder",
        "smollm",
    }
