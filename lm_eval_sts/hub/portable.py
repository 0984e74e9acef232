"""Records that name no place on this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

from lm_eval_sts.outcomes.runs import Run
from lm_eval_sts.records import Document
from lm_eval_sts.texts import local_path, without_paths

D = TypeVar("D", bound=Document)


def portable(record: D) -> D:
    """A record in which no text names a place on this machine: of paths the last part is left."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return without_paths(value) if isinstance(value, str) and local_path(value) else value

    return type(record).model_validate_json(json.dumps(plain(json.loads(record.model_dump_json()))))


def portable_run(run: Run) -> Run:
    """A run whose facts name no place on this machine."""
    facts = run.facts
    args = {key: without_paths(value) if isinstance(value, str) else value for key, value in facts.model_args.items()}
    adapter = facts.adapter and without_paths(facts.adapter)
    plain = {"source": without_paths(facts.source), "model_args": args, "adapter": adapter}
    return replace(run, facts=facts.model_copy(update=plain))
