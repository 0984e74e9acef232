"""What answers depend on, told from the loaded model and tasks before anything is run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import DatasetError, SettingsError, described
from lm_eval_sts.files import file_hashes, hash_json
from lm_eval_sts.outcomes.lm_eval_options import Conditions, other_args
from lm_eval_sts.records import Finite, Record

_PACKAGES: Final = ("lm_eval", "transformers")


class Dependencies(Record):
    """Everything that an answer, and what is made of it, depends on.

    Under its hash a run is stored and found again; what may not differ between two runs that are compared, and what is
    said where it does, is read from here too. Batch size and device are no part of it: they change last digits only.
    """

    weights: str
    """Hash of the loaded weights, with dtype, adapter and quantisation."""
    tokenizer: str
    """Hash of vocabulary, merges, special and added tokens."""
    generation: str
    """Hash of the model's own defaults for generating, which stand in its ``generation_config.json``."""
    vocabulary: int | None
    """Tokens that probabilities are shared out over: lm-eval cuts a model under an adapter to its tokenizer's size."""
    max_length: int
    """Tokens after which a prompt is cut."""
    model_args: dict[str, str]
    """lm-eval's model arguments, but for those that say which model it is."""
    chat_template: str | None
    """Hash of the template's text; None where none is applied."""
    fewshot_as_multiturn: bool | None
    """None without a chat template."""
    system_instruction: str | None
    num_fewshot: int | None
    limit: Finite | None
    gen_kwargs: dict[str, Any]
    tasks: dict[str, str]
    """Of every task, hash of its configuration, its code, its questions and its demonstrations."""
    task_files: str | None
    """Hash of all files under ``include_path``."""
    versions: dict[str, str]

    @property
    def key(self) -> str:
        """Hash of all of it, 64 hex digits."""
        return hash_json(self.model_dump(mode="json"))


def dependencies(
    lm: Any,
    weights: str,
    args: Mapping[str, Any],
    tasks: Mapping[str, Any],
    conditions: Conditions,
    hashes: Mapping[str, str] | None = None,
) -> Dependencies:
    """Everything that the answers will depend on.

    Args:
        lm: lm-eval's ``hf`` model.
        weights: Hash of its weights.
        args: lm-eval's model arguments.
        tasks: The single tasks by name, as lm-eval's objects.
        conditions: How questions are put.
        hashes: Of these tasks, where they are known.

    Raises:
        SettingsError: A file under ``include_path`` cannot be read.
        DatasetError: A task's questions cannot be read.
    """
    asked = conditions.apply_chat_template
    template = lm.chat_template(asked) if asked else None
    output = lm.model.get_output_embeddings()
    return Dependencies(
        weights=weights,
        tokenizer=tokenizer_hash(lm.tokenizer),
        generation=_generation_hash(lm),
        vocabulary=None if output is None else int(output.weight.shape[0]),
        max_length=int(lm.max_length),
        model_args=other_args(args),
        chat_template=_text_hash(template),
        fewshot_as_multiturn=conditions.fewshot_as_multiturn if template else None,
        system_instruction=_text_hash(conditions.system_instruction),
        num_fewshot=conditions.num_fewshot,
        limit=conditions.limit,
        gen_kwargs=conditions.generation,
        tasks=dict(hashes or {name: _task_hash(name, task) for name, task in sorted(tasks.items())}),
        task_files=_files_hash(conditions.include_path),
        versions={package: metadata.version(package) for package in _PACKAGES},
    )


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of what turns text into tokens and back; of no path, and of no state that a call leaves behind."""
    found: dict[str, Any] = {
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "added": {str(i): repr(token) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()},
        "bos": getattr(tokenizer, "add_bos_token", None),
        "eos": getattr(tokenizer, "add_eos_token", None),
    }
    if tokenizer.is_fast:
        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        found["backend"] = {key: value for key, value in whole.items() if key not in ("padding", "truncation")}
    else:
        found["kind"] = type(tokenizer).__name__
        found["vocabulary"] = tokenizer.get_vocab()
        file = getattr(tokenizer, "vocab_file", None)
        found["file"] = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None
    return hash_json(found)


def _generation_hash(lm: Any) -> str:
    """Of what generating takes from the model's folder where a task does not say."""
    config = getattr(lm.model, "generation_config", None)
    entries = {} if config is None else config.to_dict()
    return _hash(
        {key: value for key, value in entries.items() if key not in ("transformers_version", "_from_model_config")}
    )


def _task_hash(name: str, task: Any) -> str:
    """Of a task's configuration with the code that it names, and of its documents."""
    try:
        config = {key: value for key, value in task.config.to_dict(keep_callable=True).items() if key != "metadata"}
        shown = task.fewshot_docs()
        content = {
            "config": config,
            "version": str(task.VERSION if not task.config.metadata else task.config.metadata.get("version")),
            "code": _code_hash(type(task)),
            "documents": _documents_hash(task.eval_docs),
            "shown": None if shown is None else _documents_hash(shown),
        }
        return _hash(content)
    except Exception as error:  # whatever a task's own code raises
        raise DatasetError(f"the questions of {name} cannot be read: {described(error)}") from error


def _documents_hash(documents: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        digest.update(_hash(document).encode())
    return digest.hexdigest()


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """What JSON does not know: code by its source, anything else by its text."""
    if isinstance(value, functools.partial):
        return {"function": value.func, "args": value.args, "options": value.keywords}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return _code_hash(value) if callable(value) else str(value)


def _code_hash(code: Any) -> str:
    """Of the whole file that holds a function or class, as it may call what stands beside it."""
    try:
        file = inspect.getsourcefile(code)
        return hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()
    except (OSError, TypeError):  # built in, or made without a file
        return str(getattr(code, "__qualname__", type(code).__qualname__))


def _text_hash(text: str | None) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def _files_hash(folder: Path | None) -> str | None:
    """Of the task files that the user brings, which may change under the same version."""
    if folder is None:
        return None
    try:
        return hash_json(file_hashes(folder, (f for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc")))
    except OSError as error:
        raise SettingsError(f"include_path {folder}: cannot read {error.filename}: {error.strerror}") from error
