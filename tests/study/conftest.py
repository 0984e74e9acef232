"""A small study of the micro world that was done in this process, once for all tests that only read it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lm_eval_sts.study.declare import declare
from lm_eval_sts.study.doing import do_alone
from lm_eval_sts.study.execute import Worker
from lm_eval_sts.study.jobs import Work
from lm_eval_sts.study.state import Standing
from tests.study.studies import write


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The study, and its work folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    study, work = write(folder), Work(folder / "work")
    declare(study, work)
    standing, worker = Standing(study, work), Worker(study, work)
    for job in standing.jobs:
        failed = do_alone(standing, job, worker)
        assert failed is None, failed.traceback
    return study, work


@pytest.fixture
def copied(undisturbed, tmp_path):
    """A copy of both, to be changed."""
    _, done = undisturbed
    shutil.copytree(done.root, tmp_path / "work")
    return write(tmp_path), Work(Path(tmp_path / "work"))
