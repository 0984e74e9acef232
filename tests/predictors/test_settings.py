"""The settings: defaults, files, and what is said about wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.predictors.settings import Settings, read_settings
from tests.messages import says
from tests.test_files import JSON


def test_defaults_are_the_papers():
    plain = read_settings(None)
    assert plain == read_settings({}) == Settings()
    assert (plain.sft_set, plain.n_features, plain.sft_demos) == ("GAIR/LIMO", 100, 2)
    assert (plain.sft_tokens, plain.domain_tokens, plain.demo_draws) == (10_000, 5_000, 3)
    assert {"sts_act", "sts_icl"} < set(plain.shown) < set(plain.predictors)


def test_given_settings_override_the_benchmarks_defaults():
    defaults = {"sae": "micro/sae", "n_features": 50}
    read = read_settings({"n_features": 7}, defaults)
    assert (read.sae, read.n_features) == ("micro/sae", 7)
    assert "sft_set" not in read.model_fields_set


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.yaml", "sae: a/b\nsft_columns: [q, a]\n"),
        ("s.yml", "{sae: a/b, sft_columns: [q, a]}"),
        ("s.json", '{"sae": "a/b", "sft_columns": ["q", "a"]}'),
    ],
)
def test_a_files_name_stands_for_its_settings(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    assert read_settings(str(path)) == Settings(sae="a/b", sft_columns=("q", "a"))


@pytest.mark.parametrize("number", ["1e-5", "1E-5", "0.00001", ".1e-4", "1.0e-5"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_number_in_any_notation_is_a_number(tmp_path, number, start):
    recipe = f"{{method: full, learning_rate: {number}, batch_size: 4}}"
    path = tmp_path / "s.yaml"
    path.write_bytes(start + f"probing_recipe: {recipe}\nn_features: 1_000\n".encode())
    read = read_settings(str(path))
    assert read.probing_recipe == {"method": "full", "learning_rate": 1e-5, "batch_size": 4}
    assert read.n_features == 1000
    given = {"probing_recipe": {"learning_rate": number}}  # as lm-eval reads it in a YAML of its own
    assert read_settings(given).probing_recipe == {"learning_rate": 1e-5}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.yaml", "seed: 1\nseed: 2\n"),
        ("s.yaml", "probing_recipe: {epochs: 1, epochs: 2}"),
        ("s.json", '{"seed": 1, "seed": 2}'),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with says(SettingsError, tmp_path / name, "stands twice"):
        read_settings(str(tmp_path / name))


@pytest.mark.parametrize(
    ("key", "near"), [("n_feature", "n_features"), ("sft-set", "sft_set"), ("SAE", ""), ("zzz", "")]
)
def test_an_unknown_key_names_the_nearest(key, near):
    with says(SettingsError, repr(key), f"did you mean {near!r}" if near else "nearest of "):
        read_settings({key: 1})


def test_an_unknown_key_among_the_benchmarks_defaults():
    with says(SettingsError, "unknown key 'n_feature'", "did you mean 'n_features'"):
        read_settings({}, {"n_feature": 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_features", 0),
        ("n_features", "many"),
        ("n_features", None),
        ("sft_demos", -1),
        ("demo_draws", 1.5),
        ("domain_demos", 0),
        ("sft_tokens", float("inf")),
        ("token_budget", 0),
        ("seed", -1),
        ("seed", "x"),
        ("tokens", "all"),
        ("sft_columns", ["only one"]),
        ("predictors", []),
        ("predictors", "sts_act"),
        ("predictors", 1),
        ("sft_set", None),
        ("sft_set", ""),
        ("sae", 5),
        ("sae", " "),
        ("benchmark_path", ""),
        ("benchmark_path", "~nobody-of-that-name/x"),
        ("profiles_dir", ""),
        ("layer", -1),
        ("more_saes", "micro/sae"),
        ("tuned", ""),
        ("development", "micro/*"),
        ("probing_recipe", {"learning_rate": "fast"}),
        ("probing_recipe", {"learning_rate": "nan"}),
        ("probing_recipe", {"max_steps": "1.5"}),
        ("probing_recipe", {"learning_rate": -1}),
        ("probing_recipe", {"name": "papers"}),
        ("probing_recipe", {"steps": 3}),
        ("probing_steps", []),
        ("probing_steps", [0]),
        ("probing_questions", 0),
        ("seed", False),
        ("sft_tokens", True),
        ("layer", False),
        ("gradient_layers", [True]),
        ("sae", True),
        ("probing_recipe", {"learning_rate": True}),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key, value):
    with says(SettingsError, "the settings under 'sts'", key, repr(value)):
        read_settings({key: value})


def test_a_layer_is_for_an_sae_that_is_not_named():
    assert read_settings({"layer": 3, "sae": None}, {"sae": "micro/sae"}).layer == 3
    with says(SettingsError, "layer: chooses an SAE", "micro/sae"):
        read_settings({"layer": 3}, {"sae": "micro/sae"})


def test_one_name_where_a_list_belongs():
    with says(SettingsError, "predictors: Input should be a list (given: 'sts_act')"):
        read_settings({"predictors": "sts_act"})


def test_every_wrong_value_is_named_at_once():
    with says(SettingsError, "n_features", "seed", "tokens"):
        read_settings({"n_features": 0, "seed": -1, "tokens": "x"})


def test_unknown_predictors_name_near_ones():
    with says(SettingsError, "'sts_acts'", "did you mean 'sts_act'", "nearest of ", " sts_act,"):
        read_settings({"predictors": ["sts_icl", "sts_acts"]})


def test_predictors_named_twice_count_once():
    assert read_settings({"predictors": ["sts_icl", "sts_act", "sts_icl"]}).predictors == ("sts_icl", "sts_act")


@pytest.mark.parametrize("given_", [[], ["sae"], 5, True, 1.5])
def test_something_else_than_a_mapping(given_):
    with says(SettingsError, "must be a mapping", type(given_).__name__):
        read_settings(given_)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a: [1", "not valid"),
        (b"- a\n- b", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"just text", "must be a mapping"),
        (b"!!timestamp now: 1", "not valid"),
        (b"n_features: !!int x", "not valid"),
        (b"[" * 600, "not valid"),
        (b"n_feature: 3", "did you mean 'n_features'"),
        (b"n_features: 0", "n_features"),
    ],
)
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_files_that_are_no_settings(tmp_path, content, part, suffix):
    path = tmp_path / f"s{suffix}"
    path.write_bytes(content)
    with says(SettingsError, path, part if suffix == ".yaml" else ""):
        read_settings(str(path))


@pytest.mark.parametrize("name", ["no-such-file.yaml", "", ".", "a\0b", "~nobody-of-that-name/s.yaml", "x" * 5000])
def test_files_that_cannot_be_read(name):
    with says(SettingsError, "settings file", "cannot be read"):
        read_settings(name)


KEYS = st.sampled_from([*Settings.model_fields, "n_feature", "x"]) | st.text()


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_any_mapping_is_settings_or_a_settings_error(data):
    try:
        assert isinstance(read_settings(data), Settings)
    except SettingsError as error:
        assert "\n" not in str(error)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60) | JSON.map(json.dumps), st.sampled_from([".yaml", ".json"]))
def test_any_file_is_settings_or_a_settings_error(tmp_path, text, suffix):
    path = tmp_path / f"s{suffix}"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert isinstance(read_settings(str(path)), Settings)
    except SettingsError as error:
        assert "\n" not in str(error) and str(path) in str(error)


def test_where_profiles_are_kept(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert Settings().profiles_path == Path("/cache/lm_eval_sts/profiles")
    assert Settings(profiles_dir="here").profiles_path == Path("here").absolute()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert Settings().profiles_path == Path("/home/me/.cache/lm_eval_sts/profiles")
    assert Settings(profiles_dir="~/p").profiles_path == Path("/home/me/p")
