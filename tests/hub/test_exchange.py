"""Records to the hub and back, by the real ``huggingface_hub``, against a stand-in for the hub's HTTP interface."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from lm_eval_sts.evidence.store import Store
from lm_eval_sts.finetuning.tuned import MANIFEST
from lm_eval_sts.hub.contents import Contents, Pulled, place_of
from lm_eval_sts.records import (
    CONTENT_HASH,
    FailedJob,
    ModelRef,
    Outcome,
    Prediction,
    StudyPredictions,
    dump_record,
    load_record,
    save_record,
    with_hash,
)
from lm_eval_sts.shipped import load_outcome
from lm_eval_sts.verdict.results import read_predictions
from tests.finetuning.test_tuned import manifest
from tests.hub.fake_hub import FakeHub, Repository
from tests.test_records import make_prediction

REPO = "me/records"


def held_by(hub: FakeHub, name: str = REPO) -> Repository:
    return hub.repositories[f"datasets/{name}"]


@pytest.fixture
def results(tmp_path) -> Path:
    """Predictions, one of which names a place on this machine."""
    folder = tmp_path / "results"
    save_record(make_prediction("sts_act"), folder / "a.json")
    local = make_prediction("sts_icl")
    model = local.setting.model.model_copy(update={"name": "/home/somebody/models/tiny"})
    save_record(
        local.model_copy(update={"setting": local.setting.model_copy(update={"model": model})}), folder / "b.json"
    )
    return folder


def test_predictions_and_outcomes_there_and_back(hub, call, results, tmp_path):
    done = call("hub", "push", REPO, "--predictions", results, "--outcomes", "micro/laws-home-long", "yi-6b-chat")
    assert done.code == 0, done.err
    assert "4 files pushed" in done.err and "private, made now" in done.err
    repository = held_by(hub)
    assert repository.private and len(repository.commits) == 2
    assert b"/home/" not in b"".join(repository.files.values()), "no place on this machine"
    head, body = repository.files["README.md"].decode().removeprefix("---\n").split("---\n", 1)
    metadata = yaml.safe_load(head)
    assert metadata["tags"][-2:] == ["outcomes", "predictions"] and metadata["pretty_name"] == "records"
    assert f"hub pull {REPO}" in body and "sts\\_icl 1" in body and "laws-home-long" in body and "tiny" in body

    out = tmp_path / "out"
    done = call("hub", "pull", REPO, "--output", out)
    assert done.code == 0 and repository.commits[-1][0] in done.err
    found = {each.predictor: each for each in read_predictions(out)}
    assert found["sts_act"] == make_prediction("sts_act") and found["sts_icl"].setting.model.name == "tiny"
    assert load_record(Outcome, out / "outcomes" / "laws-home-long.json") == load_outcome("micro/laws-home-long")
    pulled = load_record(Pulled, out / "pulled.json")
    assert (pulled.repository, pulled.revision, pulled.asked_for) == (REPO, repository.commits[-1][0], None)
    assert {f"{out}/{name}" for name in pulled.files} == set(done.out.splitlines())


def test_a_push_without_changes_writes_nothing_and_another_adds(hub, call, results):
    push = ("hub", "push", REPO, "--predictions", results, "--public")
    assert call(*push).code == 0 and not held_by(hub).private
    again = call(*push)
    assert again.code == 0 and "nothing has changed" in again.err and not again.out
    assert len(held_by(hub).commits) == 2
    assert call("hub", "push", REPO, "--outcomes", "yi-6b-chat", "--message", "one more").out == (
        "outcomes/yi-6b-chat.json\n"
    )
    listed = json.loads(held_by(hub).files["contents.json"])["files"]
    assert len(listed) == 3 and len(held_by(hub).commits) == 3


def test_a_revision_is_pinned(hub, call, results, tmp_path):
    assert call("hub", "push", REPO, "--outcomes", "yi-6b-chat").code == 0
    first = held_by(hub).commits[-1][0]
    assert call("hub", "push", REPO, "--predictions", results).code == 0
    done = call("hub", "pull", REPO, "--output", tmp_path / "old", "--revision", first)
    assert done.out.split() == [str(tmp_path / "old" / "outcomes" / "yi-6b-chat.json")]
    pulled = load_record(Pulled, tmp_path / "old" / "pulled.json")
    assert pulled.revision == pulled.asked_for == first
    only = call("hub", "pull", REPO, "--output", tmp_path / "some", "--only", "predictions")
    assert len(only.out.split()) == 2 and "/predictions/" in only.out
    assert "choose of predictions" in call("hub", "pull", REPO, "--output", tmp_path, "--only", "weights").error


def test_pulling_replaces_nothing_that_says_something_else(hub, call, results, tmp_path):
    assert call("hub", "push", REPO, "--outcomes", "yi-6b-chat").code == 0
    pull = ("hub", "pull", REPO, "--output", tmp_path / "out")
    assert call(*pull).code == call(*pull).code == 0
    (tmp_path / "out" / "outcomes" / "yi-6b-chat.json").write_text("mine")
    assert "says something else" in call(*pull).error
    assert call(*pull, "--overwrite").code == 0
    assert load_record(Outcome, tmp_path / "out" / "outcomes" / "yi-6b-chat.json").name == "yi-6b-chat"


def store(root: Path, label: str, **key: str) -> Store:
    made = Store(root, label, {"model": {"name": "org/model"}, **key})
    made.write("chunk-0", {"sum": np.arange(3.0)})
    made.write_prompts([{"prompt": "a text of somebody else's"}])
    return made


def test_profiles(hub, call, tmp_path):
    root = tmp_path / "profiles"
    numbers, texts = store(root, "sts_micro-law"), store(root, "texts-law", read="texts")
    assert call("hub", "push", REPO, "--profiles", root).code == 0
    assert not any("prompts" in name or texts.path.name in name for name in held_by(hub).files)
    out = tmp_path / "out"
    assert call("hub", "pull", REPO, "--output", out).code == 0
    again = Store(out / "profiles", "sts_micro-law", {"model": {"name": "org/model"}})
    assert again.path.name == numbers.path.name
    np.testing.assert_array_equal(again.load("chunk-0")["sum"], np.arange(3.0))
    assert call("hub", "push", REPO, "--profiles", texts.path, "--texts").code == 0
    assert sum("prompts-" in name for name in held_by(hub).files) == 1
    local = Store(root, "local", {"model": {"name": "/home/somebody/model"}})
    assert "/home/somebody/model" in call("hub", "push", REPO, "--profiles", local.path).error


@pytest.fixture
def work(tmp_path) -> Path:
    """A study's work folder."""
    root = tmp_path / "tiny.study"
    found = StudyPredictions(
        base="main", condition="main", sft_set="set", predictions=(make_prediction(),), seconds=1.0
    )
    save_record(found, root / "predictions" / "main" / "main" / "set.json")
    save_record(load_outcome("yi-6b-chat"), root / "outcomes" / "main" / "set.json")
    failed = FailedJob(job="base/main", reason="no room", traceback="a text", created="2026-01-01T00:00:00Z")
    save_record(failed, root / "failed" / "base.main.json")
    tuned = root / "tuned" / "main" / "set.seed0"
    save_record(manifest(ModelRef(name="org/model", weights_hash="a" * 64, dtype="float32")), tuned / MANIFEST)
    (tuned / "model.safetensors").write_bytes(b"weights")
    return root


def test_a_study_from_its_work_folder(hub, call, work, tmp_path):
    assert call("hub", "push", REPO, "--studies", work).code == 0
    names = {name for name in held_by(hub).files if name.startswith("studies/")}
    folder = "studies/tiny/"
    assert names == {
        folder + name
        for name in (
            "predictions/main/main/set.json",
            "outcomes/main/set.json",
            "failed/base.main.json",
            f"tuned/main/set.seed0/{MANIFEST}",
        )
    }
    assert b"a text" not in held_by(hub).files["studies/tiny/failed/base.main.json"]
    assert "study merge" in held_by(hub).files["README.md"].decode()
    assert call("hub", "pull", REPO, "--output", tmp_path / "out").code == 0
    path = tmp_path / "out" / folder / "predictions" / "main" / "main" / "set.json"
    assert load_record(StudyPredictions, path).predictions == (make_prediction(),)


def test_a_study_from_a_packed_file(hub, call, work, tmp_path):
    packed, strange = tmp_path / "results.tar", tmp_path / "strange.tar"
    with tarfile.open(packed, "w") as tar:
        for path in (path for path in work.rglob("*.json") if path.name != MANIFEST):
            tar.add(path, path.relative_to(work))
        (tmp_path / "pack.json").write_text(json.dumps({"study": "tiny"}))
        tar.add(tmp_path / "pack.json", "pack.json")
    with tarfile.open(strange, "w") as tar:
        tar.add(tmp_path / "pack.json", "pack.json")
        tar.add(tmp_path / "pack.json", "../outside.json")
    assert call("hub", "push", REPO, "--studies", packed).code == 0
    assert "studies/tiny/outcomes/main/set.json" in held_by(hub).files
    assert "'../outside.json', which no study writes" in call("hub", "push", REPO, "--studies", strange).error
    with tarfile.open(strange, "w") as tar:
        tar.add(tmp_path / "pack.json", "other.json")
    assert "not written by study pack" in call("hub", "push", REPO, "--studies", strange).error
    strange.write_bytes(b"no tar")
    assert "cannot be read" in call("hub", "push", REPO, "--studies", strange).error


# --- what must not be taken


def listing(files: dict[str, bytes]) -> bytes:
    import hashlib

    held = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()
    }
    return json.dumps(dump_record(Contents.model_validate({"files": held}))).encode()


GOOD = json.dumps(dump_record(make_prediction())).encode()
CHANGED = GOOD.replace(b'"sts_act"', b'"sts_icl"', 1)
LATER = json.dumps(
    with_hash({k: v for k, v in dump_record(make_prediction()).items() if k != CONTENT_HASH} | {"format_version": 9})
).encode()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.pkl": b"x"}, "'model.pkl', which is no record of ours"),
        ({"predictons/a.json": GOOD}, "did you mean 'predictions'?"),
        ({"predictions/../../a.json": GOOD}, "which is no record of ours"),
        ({"predictions/a/b.json": GOOD}, "which is no record of ours"),
        ({"predictions/.hidden.json": GOOD}, "which is no record of ours"),
        ({"predictions/a.json": CHANGED}, "does not match its hash"),
        ({"predictions/a.json": LATER}, "format version 9 is not known"),
        ({"outcomes/a.json": GOOD}, "not a valid Outcome"),
        ({"profiles/x/header.json": b'{"key": {}, "digest": "0"}'}, "not the header of a profile"),
        ({"studies/x/runs/m/b/run.safetensors": b"pickle"}, "run.safetensors"),
    ],
)
def test_what_is_refused(hub, call, tmp_path, files, said):
    hub.make(f"datasets/{REPO}", {**files, "contents.json": listing(files)})
    out = tmp_path / "out"
    assert said in call("hub", "pull", REPO, "--output", out).error
    assert not out.exists()


def test_a_list_that_does_not_fit_what_is_there(hub, call, tmp_path):
    pull = ("hub", "pull", REPO, "--output", tmp_path / "out")
    other = json.dumps(dump_record(make_prediction("tfidf_cosine"))).encode()
    for files, listed, said in (
        ({"predictions/a.json": other}, {"predictions/a.json": GOOD}, "is not what contents.json says"),
        ({"predictions/a.json": GOOD}, {}, "changed by other means"),
        ({}, {"predictions/a.json": GOOD}, "changed by other means"),
        ({}, {"predictions/../a.json": GOOD}, "which is no record of ours"),
        ({}, {}, "holds none of predictions"),
    ):
        hub.make(f"datasets/{REPO}", {**files, "contents.json": listing(listed)})
        assert said in call(*pull).error
    hub.make(f"datasets/{REPO}", {"predictions/a.json": GOOD})
    assert "no contents.json" in call(*pull).error
    assert "no contents.json" in call("hub", "push", REPO, "--outcomes", "yi-6b-chat").error


@pytest.mark.parametrize("name", ["/etc/x.json", "predictions//a.json", "predictions/a\n.json", "contents.json", ""])
def test_paths_without_a_place(name):
    assert place_of(name) is None and place_of("predictions/a.json") is not None


# --- what the hub refuses


def test_errors_are_one_line(hub, call, results, tmp_path):
    push, pull = ("hub", "push", REPO, "--predictions", results), ("hub", "pull", REPO, "--output", tmp_path / "out")
    assert "needs a token of the hub: log in with `hf auth login`" in call(*push, token=None).error
    assert "knows no such token" in call(*push, token="hf_wrong").error
    assert "token may not write" in call(*push, token="hf_reads").error
    assert f"no dataset repository {REPO} on {hub.url}" in call(*pull).error
    assert "it is private: log in" in call(*pull, token=None).error
    assert "'a/b/c' is no name of a repository" in call("hub", "pull", "a/b/c", "--output", tmp_path / "out").error
    dead = FakeHub()
    dead.shutdown()
    dead.server_close()
    assert "cannot be reached" in call(*pull, endpoint=dead.url).error
    assert call(*push).code == 0
    assert "has no revision 'v9'" in call(*pull, "--revision", "v9").error
    assert "nothing to push" in call("hub", "push", REPO).error
    assert "holds no profiles" in call("hub", "push", REPO, "--profiles", results).error
    assert "no record of a study" in call("hub", "push", REPO, "--studies", results).error


def test_somebody_else_was_faster(hub, call, results):
    assert call("hub", "push", REPO, "--outcomes", "yi-6b-chat").code == 0
    hub.before_commit = lambda repository: repository.commit({**repository.files, "README.md": b"other"})
    assert "changed by somebody else meanwhile" in call("hub", "push", REPO, "--predictions", results).error


def test_two_outcomes_of_one_name(hub, call, tmp_path):
    outcome = load_outcome("yi-6b-chat")
    save_record(outcome.model_copy(update={"caveats": ("another",)}), tmp_path / "o.json")
    assert "two outcomes are called yi-6b-chat" in (
        call("hub", "push", REPO, "--outcomes", "yi-6b-chat", tmp_path / "o.json").error
    )
    assert not hub.repositories


def test_a_prediction_is_what_was_pushed(hub, call, results):
    assert call("hub", "push", REPO, "--predictions", results / "a.json").code == 0
    (content,) = [text for name, text in held_by(hub).files.items() if name.startswith("predictions/")]
    assert Prediction.model_validate({k: v for k, v in json.loads(content).items() if k != CONTENT_HASH}, strict=False)
