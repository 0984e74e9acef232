"""What was given as base or tuned: a finished lm-eval run, an adapter, or a whole model; and where its files are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from lm_eval_sts.errors import ModelError, SettingsError
from lm_eval_sts.finetuning.tuned import MANIFEST, TunedManifest, read_tuned
from lm_eval_sts.outcomes.lm_eval_options import OF_FILES, WHICH_MODEL
from lm_eval_sts.outcomes.lm_eval_results import holds_runs

Kind = Literal["run", "adapter", "model"]

_CONFIGS: Final = ("config.json", "adapter_config.json")
_ADAPTER_FILES: Final = ("adapter_*", MANIFEST, "*token*", "*.jinja", "vocab*", "merges.txt")


@dataclass(frozen=True)
class Side:
    """One side of an outcome.

    Attributes:
        given: Path or hub id, as the user gave it.
        kind: What it is.
        path: What it is loaded from: of an adapter always a folder.
        args: Model arguments that hold for this side only: ``revision``, ``subfolder``.
        manifest: What fine-tuning wrote down, where it did.
        revision: Commit of an adapter from the hub.
    """

    given: str
    kind: Kind
    path: str
    args: Mapping[str, Any] = field(default_factory=dict)
    manifest: TunedManifest | None = None
    revision: str | None = None

    def model_args(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """lm-eval's model arguments.

        Args:
            base: Those of the base model. All of them hold for an adapter, which is put on that model; for another
                model those that do not say which files of the base model's repository are meant. A tokenizer that
                was given holds for both, so that they are asked alike.
        """
        if self.kind == "adapter":
            return {**base, "peft": self.path}
        shared = {key: value for key, value in base.items() if key == "tokenizer" or key not in WHICH_MODEL}
        return {**shared, **self.args, "pretrained": self.path}


def find_side(given: str, model_args: Mapping[str, Any] | None = None) -> Side:
    """Tells what was given.

    A folder with ``adapter_config.json`` is an adapter, with ``config.json`` a model (results below it are left
    alone: give their ``results_….json`` to take them), with results somewhere below it a run. Model arguments of one
    side may follow its name, as lm-eval has them: ``org/name,revision=step3``.

    Args:
        given: Path or hub id.
        model_args: Further model arguments of this side.

    Raises:
        ModelError: It is none of these, or an adapter that cannot be fetched.
        SettingsError: Its arguments do not fit it.
        RecordError: Its fine-tuning manifest is not valid.
    """
    name, own = _split(given)
    args = {key: value for key, value in (model_args or {}).items() if key in OF_FILES}
    for key, value in own.items():
        if args.get(key, value) != value:
            raise SettingsError(f"{given} and --model_args name two: {key}={value} and {key}={args[key]}")
    args |= own
    path = Path(name).expanduser()
    if path.is_file():
        return Side(name, "run", str(path))
    if not path.is_dir():
        return _on_hub(name, args)
    if revision := args.get("revision") or args.get("code_revision"):
        raise SettingsError(f"{name} is a folder, which has no revisions: leave out {revision}, or give a hub id")
    folder = path / str(args.get("subfolder") or "")
    if (folder / "adapter_config.json").is_file():
        return Side(name, "adapter", str(folder), manifest=read_tuned(folder))
    if (folder / "config.json").is_file() or args.get("gguf_file"):
        return Side(name, "model", str(path), args, read_tuned(folder))
    if holds_runs(path):
        return Side(name, "run", str(path))
    raise ModelError(
        f"{folder} is neither a model (config.json), an adapter (adapter_config.json) nor a folder with lm-eval "
        f"results (results_….json){_inside(folder)}"
    )


def _inside(folder: Path) -> str:
    """Names the models directly in a folder, for instance a trainer's checkpoints."""
    found = sorted({path.parent for name in _CONFIGS for path in folder.glob(f"*/{name}")}, key=_as_counted)
    if not found:
        return ""
    others = f" (the last of {len(found)} models in it)" if len(found) > 1 else ""
    return f": give {found[-1]}{others}, or save the model in {folder} itself (trainer.save_model)"


def _as_counted(path: Path) -> list[int | str]:
    """For an order in which checkpoint-100 comes after checkpoint-20."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _split(given: str) -> tuple[str, dict[str, Any]]:
    """The name, and the model arguments that follow it."""
    from lm_eval.utils import simple_parse_args_string

    name, _, rest = given.partition(",")
    try:
        if Path(given).exists() or not rest:
            return given, {}
    except OSError as error:
        raise ModelError(f"there is no {given[:100]}…: {error.strerror}") from error
    args = dict(simple_parse_args_string(rest))
    if wrong := [key for key in args if key not in OF_FILES]:
        raise SettingsError(
            f"{given}: {wrong[0]} cannot be given for one side (only {', '.join(sorted(OF_FILES))}): give it in "
            "--model_args, for both"
        )
    return name, args


def _on_hub(name: str, args: Mapping[str, Any]) -> Side:
    """A repository in the cache or on the hub."""
    from transformers.utils import peft_utils
    from transformers.utils.hub import cached_file

    where: dict[str, Any] = {"revision": args.get("revision"), "subfolder": str(args.get("subfolder") or "")}
    try:
        if peft_utils.find_adapter_config_file(name, **where):
            return _adapter_on_hub(name, args)
        manifest = cached_file(
            name,
            MANIFEST,
            **where,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError) as error:  # no repository's name, or no such revision
        raise ModelError(
            f"there is no {name}: give a folder, a results_….json or the id of a model ({error})"
        ) from error
    return Side(name, "model", name, args, read_tuned(Path(manifest).parent) if manifest else None)


def _adapter_on_hub(name: str, args: Mapping[str, Any]) -> Side:
    """An adapter, fetched: lm-eval would look for it at the base model's revision."""
    from huggingface_hub import snapshot_download

    subfolder = str(args.get("subfolder") or "")
    patterns = [f"{subfolder}/{pattern}".lstrip("/") for pattern in _ADAPTER_FILES]
    try:
        snapshot = Path(snapshot_download(name, revision=args.get("revision"), allow_patterns=patterns))
    except Exception as error:  # whatever the hub's client raises
        raise ModelError(f"cannot fetch adapter {name}: {error}") from error
    folder = snapshot / subfolder
    return Side(name, "adapter", str(folder), manifest=read_tuned(folder), revision=snapshot.name)
