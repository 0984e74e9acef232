"""Writing outcomes: none is lost, and what cannot be written is known before the work."""

from __future__ import annotations

import threading
from typing import Any

from lm_eval_sts.errors import RecordError
from lm_eval_sts.outcomes.outcome_files import check_output, write_outcome
from lm_eval_sts.outcomes.pairing import pair
from lm_eval_sts.records import Outcome, load_record
from tests.messages import says
from tests.outcomes.made import as_run, choice_results


def outcome(seed: int, **changes: Any) -> Outcome:
    runs = [as_run(choice_results(s), f"run {s}") for s in (0, seed)]
    made = pair(runs[0], runs[1:], name="x", seeds=[seed])
    sft_set = {"name": "some/set", "content_hash": "0", "n_examples": 1}
    return Outcome.model_validate(made.model_dump() | {"sft_set": sft_set} | changes)


def test_an_outcome_that_is_there_stays(tmp_path):
    path = tmp_path / "o.json"
    write_outcome(outcome(1), path)
    before = path.read_bytes()
    write_outcome(outcome(1), path)
    assert path.read_bytes() == before
    with says(RecordError, path, "the same setting with seeds 1", "this is seeds 2", "all their --tuned"):
        write_outcome(outcome(2), path)
    with says(RecordError, path, "another outcome", "--overwrite"):
        write_outcome(outcome(1, sft_set=None), path)
    assert path.read_bytes() == before
    write_outcome(outcome(2), path, overwrite=True)
    assert load_record(Outcome, path).seeds == (2,)
    assert [p.name for p in tmp_path.iterdir()] == ["o.json"]


def test_seeds_that_are_not_known_are_called_so(tmp_path):
    write_outcome(outcome(1, seeds=[], tuned=[]), tmp_path / "o.json")
    with says(RecordError, "the same setting with seeds unknown, and this is seeds 2:"):
        write_outcome(outcome(2), tmp_path / "o.json")
    with says(RecordError, "another outcome (x: ", " on some/set, seeds unknown; this is x: ", " on other, seeds 2)"):
        write_outcome(outcome(2, sft_set={"name": "other", "content_hash": "1", "n_examples": 1}), tmp_path / "o.json")


def test_an_output_that_is_no_outcome_is_found_before_any_work(tmp_path):
    path = tmp_path / "o.json"
    check_output(path, overwrite=False)
    path.write_text("{}")
    with says(RecordError, path):
        check_output(path, overwrite=False)
    check_output(path, overwrite=True)


def test_of_two_writers_one_is_told(tmp_path):
    path, made, told = tmp_path / "o.json", [outcome(1), outcome(2)], []
    start = threading.Barrier(2)

    def write(each: Outcome) -> None:
        start.wait()
        try:
            write_outcome(each, path)
        except RecordError as error:
            told.append(str(error))

    threads = [threading.Thread(target=write, args=(each,)) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1
    assert load_record(Outcome, path).domains in [each.domains for each in made]
    assert [p.name for p in tmp_path.iterdir()] == ["o.json"]


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    write_outcome(outcome(1), tmp_path / "o.json")
    with says(RecordError, "the same setting"):
        write_outcome(outcome(2), tmp_path / "o.json")
    assert [p.name for p in tmp_path.iterdir()] == ["o.json"]
