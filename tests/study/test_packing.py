"""Records to another machine and back: what a pack holds, and what a merge refuses."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable

import pytest

from lm_eval_sts.errors import RecordError
from lm_eval_sts.outcomes.runs import load_run, save_run
from lm_eval_sts.records import Declaration, FinishedJob, Outcome, StudyPredictions, load_record, save_record
from lm_eval_sts.study.declare import check_declaration
from lm_eval_sts.study.doing import fail
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Work, jobs
from lm_eval_sts.study.merging import merge
from lm_eval_sts.study.packing import PACK, pack
from lm_eval_sts.study.state import Standing
from lm_eval_sts.texts import local_path
from tests.study.studies import LAWS, MATHS, changed, write
from tests.study.test_execute import records

PREDICTION = f"predictions/shipped/main/{LAWS}.json"


@pytest.fixture
def packed(undisturbed, tmp_path):
    """The study, its work folder, and a pack of it."""
    study, work = undisturbed
    file = tmp_path / "results.tar"
    pack(study, work, file)
    return study, work, file


@pytest.fixture
def empty(tmp_path):
    return Work(tmp_path / "elsewhere")


def everything(work: Work) -> set[str]:
    return {path.relative_to(work.root).as_posix() for path in work.root.rglob("*") if path.is_file()}


def again(file, change: Callable[[dict[str, bytes]], object]) -> None:
    """Writes a pack again with other contents, and the hashes of the old ones."""
    with tarfile.open(file) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    change(found)
    with tarfile.open(file, "w") as tar:
        for name, content in found.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_a_pack_holds_records_alone(undisturbed, tmp_path):
    study, work = undisturbed
    counts = pack(study, work, tmp_path / "results.tar")
    assert counts == {"declaration": 1, "finished": 5, "runs": 3, "tuned": 2, "predictions": 2, "outcomes": 2}
    with tarfile.open(tmp_path / "results.tar") as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}
    assert {name.partition("/")[0] for name in contents} == {*counts, PACK} - {"declaration"} | {"declaration.json"}
    assert {name.rpartition("/")[2].partition(".")[2] for name in contents if name.startswith("runs")} == {
        "safetensors"
    }
    assert all(len(content) < 10**5 for content in contents.values())  # no weights
    questions = json.loads((work.root / PREDICTION).read_text())["predictions"][0]["domains"]
    assert set(questions) == {"law_torts"}
    # Neither a question nor an SFT example, and no place on this machine.
    from lm_eval_sts.data import load_sft_set
    from lm_eval_sts.shipped import resolve

    rows = load_sft_set(resolve(f"micro/sft/{LAWS}")).examples
    text = b"\n".join(contents.values()).decode(errors="replace")
    assert not any(example.prompt in text for example in rows[:50])
    assert (
        str(work.root) not in text and str(tmp_path) not in text and local_path(contents[PREDICTION].decode()) is None
    )


def test_merging_into_an_empty_folder_gives_the_same(packed, empty):
    study, work, file = packed
    merged = merge(study, empty, [file])
    assert merged.taken["runs"] == 3 and merged.same == merged.left_out == []
    assert records(empty) == records(work)
    for name in (LAWS, MATHS):
        assert empty.outcome("shipped", name).read_bytes() == work.outcome("shipped", name).read_bytes()
        assert Worker(study, empty).pair("shipped", name) == load_record(Outcome, work.outcome("shipped", name))
    standing = Standing(study, empty)
    assert {standing.state(job) for job in standing.jobs} == {"done"} and check_declaration(study, empty) == []
    assert not [path for path in empty.root.iterdir() if path.name.startswith(".merge")]
    # Once more, and from the folder itself: nothing is new.
    names = {job.name for job in jobs(study)}
    for source in (file, work.root):
        found = merge(study, empty, [source])
        assert set(found.same) == names and found.taken == {}


def test_runs_are_paired_where_they_meet(undisturbed, empty, tmp_path):
    """One machine measured the base model, two each an SFT run."""
    study, work = undisturbed
    halves = []
    for name, other in ((LAWS, MATHS), (MATHS, LAWS)):
        half = Work(tmp_path / name)
        merge(study, half, [work.root])
        for job in jobs(study):
            if job.sft_set == other or (job.kind == "base" and name == MATHS):
                for path in (
                    (half.run(job) / next(half.run(job).iterdir()).name).iterdir() if job.kind != "predict" else []
                ):
                    path.unlink()
                if job.kind == "predict":
                    half.predictions(job).unlink()
        half.outcome("shipped", other).unlink()
        half.outcome("shipped", name).unlink()
        halves.append(half.root)
    merge(study, empty, halves)
    assert (
        Worker(study, empty).pair("shipped", LAWS).domains
        == load_record(Outcome, work.outcome("shipped", LAWS)).domains
    )
    assert Standing(study, empty).left() == []


def test_failures_travel_without_what_their_traceback_holds(undisturbed, empty, tmp_path):
    _, work = undisturbed
    study = write(tmp_path, changed("recipes", "main", "seeds", to=[0, 1]))
    half = Work(tmp_path / "half")
    merge(study, half, [work.root])
    job = next(job for job in jobs(study) if job.seed == 1)
    fail(Standing(study, half), job, f"no luck with {tmp_path}/x", f'File "{tmp_path}/secret.py"')
    assert pack(study, half, tmp_path / "r.tar")["failed"] == 1
    merge(study, empty, [tmp_path / "r.tar"])
    failed = empty.failure(job)
    assert failed is not None and failed.reason == "no luck with x" and failed.traceback == ""
    # Where it was done in the meantime, it did not fail.
    assert merge(study, half, [tmp_path / "r.tar"]).taken == {}


def test_a_record_that_contradicts_ours(packed, copied, tmp_path):
    _, _, file = packed
    study, work = copied
    ours = load_record(StudyPredictions, work.root / PREDICTION)
    save_record(ours.model_copy(update={"seconds": 9.0}), work.root / PREDICTION)
    assert len(merge(study, work, [file]).same) == 5  # how long it took is no contradiction
    save_record(ours.model_copy(update={"left_out": {"sts_act": "not asked"}}), work.root / PREDICTION)
    before = everything(work)
    with pytest.raises(RecordError) as told:
        merge(study, work, [file])
    assert f"predict/shipped/main/{LAWS} in {file}" in str(told.value) and str(work.root) in str(told.value)
    assert everything(work) == before
    # Two sources that contradict each other.
    with pytest.raises(RecordError, match="contradicts"):
        merge(study, Work(tmp_path / "third"), [file, work.root])


def test_a_run_that_contradicts_ours(packed, copied):
    _, _, file = packed
    study, work = copied
    (path,) = (work.root / "runs/shipped" / f"{LAWS}.seed0").rglob("run.safetensors")
    run = load_run(path)
    facts = run.facts.model_copy(update={"limit": 7.0})
    save_run(type(run)(facts, run.questions), path)
    with pytest.raises(RecordError, match=f"tune/shipped/{LAWS}.seed0 in .* contradicts"):
        merge(study, work, [file])


def test_records_of_another_design_are_refused(packed, empty, tmp_path):
    _, _, file = packed
    other = write(tmp_path, changed("predict", "limit", to=3))
    with pytest.raises(RecordError, match=f"predict/shipped/main/{LAWS} in .* was done by another design"):
        merge(other, empty, [file])
    assert everything(empty) == set()
    with pytest.raises(RecordError, match="is of the study small, not of other"):
        merge(write(tmp_path, changed("name", to="other")), empty, [file])


def test_jobs_that_this_study_does_not_have_are_named(packed, empty, tmp_path):
    _, _, file = packed
    fewer = changed("sft_sets", "test", to=[f"micro/sft/{LAWS}"])
    study = write(tmp_path, fewer)
    left_out = merge(study, empty, [file]).left_out
    assert left_out and all(MATHS in name for name in left_out) and f"predictions/shipped/main/{MATHS}.json" in left_out
    assert not any(MATHS in name for name in everything(empty))


@pytest.mark.parametrize("name", ["../out.json", "/etc/out.json", "predictions/../../out.json"])
def test_a_path_out_of_the_folder_is_refused(packed, empty, name):
    study, _, file = packed
    again(file, lambda found: found.update({name: b"{}"}))
    with pytest.raises(RecordError, match="no file below a folder"):
        merge(study, empty, [file])
    assert everything(empty) == set() and not (empty.root.parent / "out.json").exists()


def test_links_are_refused(packed, empty):
    study, _, file = packed
    with tarfile.open(file, "a") as tar:
        link = tarfile.TarInfo("predictions/shipped/main/x.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(RecordError, match="no file below a folder"):
        merge(study, empty, [file])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda found: found.update({PREDICTION: found[PREDICTION].replace(b"law_torts", b"law_torst")}),
            "not what was",
        ),
        (lambda found: found.pop(PREDICTION), "is not what was packed"),
        (lambda found: found.update({"weights.bin": b"0"}), "weights.bin is not what was packed"),
        (lambda found: found.pop(PACK), "was not written by study pack"),
        (lambda found: found.update({PACK: b"{"}), "not JSON"),
        (lambda found: found.update({PACK: found[PACK].replace(b'"format_version": 1', b'"format_version": 9')}), "9"),
    ],
)
def test_a_damaged_pack(packed, empty, change, match):
    study, _, file = packed
    again(file, change)
    with pytest.raises(RecordError, match=match):
        merge(study, empty, [file])
    assert everything(empty) == set()


def test_no_pack_at_all(undisturbed, empty, tmp_path):
    study, _ = undisturbed
    (tmp_path / "x.tar").write_bytes(b"nothing")
    for name in ("x.tar", "none.tar"):
        with pytest.raises(RecordError, match="cannot be read as a file of study pack"):
            merge(study, empty, [tmp_path / name])
    with pytest.raises(RecordError, match="holds no record of small yet"):
        pack(study, empty, tmp_path / "r.tar")
    assert not (tmp_path / "r.tar").exists()


def test_an_invalid_record_of_a_folder(copied, empty):
    study, work = copied
    (work.root / PREDICTION).write_text(
        (work.root / PREDICTION).read_text().replace('"base": "shipped"', '"base": "x"')
    )
    with pytest.raises(RecordError, match="does not match its hash"):
        merge(study, empty, [work.root])
    assert everything(empty) == set()


def test_a_record_in_the_place_of_another(copied, empty):
    study, work = copied
    one, other = (work.root / "predictions/shipped/main" / f"{name}.json" for name in (LAWS, MATHS))
    other.write_bytes(one.read_bytes())
    with pytest.raises(RecordError, match=f"is the record of another job than predict/shipped/main/{MATHS}"):
        merge(study, empty, [work.root])


def test_declarations_meet(packed, copied, empty, tmp_path):
    _, _, file = packed
    study, work = copied
    ours = load_record(Declaration, work.declaration)
    later = ours.model_copy(update={"created": "2099-01-01T00:00:00+00:00"})
    save_record(later, work.declaration)
    merge(study, work, [file])
    assert load_record(Declaration, work.declaration) == ours  # the first one counts
    merge(study, empty, [file])
    save_record(ours.model_copy(update={"design_hash": "0" * 64}), work.declaration)
    with pytest.raises(RecordError, match="holds another declaration"):
        merge(study, work, [file])


def test_what_they_took_is_known_afterwards(packed, empty):
    study, work, file = packed
    merge(study, empty, [file])
    for job in jobs(study):
        assert load_record(FinishedJob, empty.finished(job)) == load_record(FinishedJob, work.finished(job))
