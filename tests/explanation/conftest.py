from __future__ import annotations

import pytest

from tests.explanation.runs import Runs, make_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Runs:
    return make_runs(tmp_path_factory.mktemp("runs"))
