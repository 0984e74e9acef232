"""Runs ``lm-eval-sts`` commands in a process that may reach the network: one JSON line in, one out."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys

from lm_eval_sts import cli


def run(arguments: list[str], environment: dict[str, str | None]) -> dict[str, object]:
    for name, value in environment.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["lm-eval-sts", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    logging.disable()
    answers = sys.stdout
    for line in sys.stdin:
        answers.write(json.dumps(run(**json.loads(line))) + "\n")
        answers.flush()
