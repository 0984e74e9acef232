"""What a run says while it goes on."""

from __future__ import annotations

import pytest

from lm_eval_sts.records import save_record
from lm_eval_sts.study import reporting
from lm_eval_sts.study.costs import Costs, costs_file
from lm_eval_sts.study.jobs import Work
from lm_eval_sts.study.reporting import Telling
from lm_eval_sts.study.state import Standing
from tests.study.studies import finish, write


@pytest.fixture
def standing(tmp_path):
    return Standing(write(tmp_path), Work(tmp_path / "work"))


def test_a_line_a_minute_with_the_time_left(standing, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: clock[0])
    said: list[str] = []
    with Telling(standing, 2, said.append) as telling:
        telling.look()
        finish(standing.work, standing.jobs[0])
        telling.look()
        assert said == []
        clock[0] += reporting.SECONDS
        telling.look()
        assert said == ["small: 1 of 5 jobs"]  # how long the others take is not known
        save_record(Costs(seconds={job.name: 3600.0 for job in standing.jobs}), costs_file(standing.work))
        telling.look()
        clock[0] += reporting.SECONDS
        telling.look()
    assert said[1:] == ["small: 1 of 5 jobs, about 2.0 h left"]


def test_a_bar_on_a_terminal(standing, monkeypatch, capsys):
    monkeypatch.setattr(reporting, "on_a_terminal", lambda: True)
    finish(standing.work, standing.jobs[0])
    with Telling(standing, 1) as telling:
        telling.say("a line above it")
        finish(standing.work, standing.jobs[1])
        telling.look()
        telling._bar.refresh()
    shown = capsys.readouterr().err
    assert "a line above it\n" in shown and "small: 20%" in shown and "2 of 5 jobs" in shown


def test_without_a_terminal_lines_go_to_standard_error(standing, capsys):
    with Telling(standing, 1) as telling:
        telling.say("a line")
    assert capsys.readouterr().err == "a line\n"


def test_whether_a_job_ended_since(standing):
    with Telling(standing, 1, print) as telling:
        moment = reporting.time.time()
        assert not telling.ended_since(moment)
        finish(standing.work, standing.jobs[0])
        assert telling.ended_since(moment) and not telling.ended_since(moment + 3600)
