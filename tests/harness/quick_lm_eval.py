"""The command ``lm_eval`` with only our tasks in its index: scanning lm-eval's 14,000 YAMLs takes it half a minute.

Usage: python -m tests.harness.quick_lm_eval ARGUMENTS OF lm_eval
"""

from __future__ import annotations

import sys
from typing import Any

from lm_eval.__main__ import cli_evaluate
from lm_eval.tasks import TaskManager

from lm_eval_sts.harness.discovery import tasks_path

_original = TaskManager.__init__


def _only_ours(self: TaskManager, **options: Any) -> None:
    _original(self, **{**options, "include_defaults": False, "include_path": str(tasks_path())})


TaskManager.__init__ = _only_ours

if __name__ == "__main__":
    sys.exit(cli_evaluate())
