"""The card of a repository of records: what is in it, from the list of its contents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import yaml

from lm_eval_sts.hub.contents import CONTENTS, Contents, HeldFile
from lm_eval_sts.texts import printable

_MOST: Final = 200
"""Rows of a table."""

_TEXT: Final = """\
# {title}

Records of [lm-eval-sts](https://github.com/lm-eval-sts/lm-eval-sts): predictions, made before any fine-tuning, of where
an SFT set will move a model's benchmark scores, and what fine-tuning did.

```
lm-eval-sts hub pull {repository} --output records/
```
`--revision COMMIT` takes what was there at a commit; `pulled.json` in the folder says which one it was. Each record is
JSON of a published schema (`docs/records` of the package), carries a hash of its content, and is validated when it is
pulled; `{contents}` lists all files with their SHA-256. No licence is stated: see those of the models, SFT sets and
benchmarks that are named below.
{parts}"""

_PREDICTIONS: Final = ("predictor", "benchmark", "model", "sft_set")
_OUTCOMES: Final = ("name", "benchmark", "model", "sft_set")


def card(repository: str, contents: Contents) -> str:
    """The card, with the metadata that the hub reads.

    Args:
        repository: Its name on the hub.
        contents: What it holds.
    """
    files = contents.files
    metadata = {
        "pretty_name": repository.rpartition("/")[2],
        "tags": ["lm-eval-sts", "lm-evaluation-harness", "transferability", *_kinds(files)],
        "viewer": False,
    }
    parts = [
        _table("Predictions", "compare --predictions records/predictions", _below(files, "predictions"), _PREDICTIONS),
        _table("Outcomes", "compare --outcome records/outcomes", _below(files, "outcomes"), _OUTCOMES),
        _studies(_below(files, "studies")),
        _profiles(_below(files, "profiles")),
    ]
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    text = _TEXT.format(
        title=metadata["pretty_name"], repository=repository, contents=CONTENTS, parts="".join(filter(None, parts))
    )
    return f"---\n{head}---\n{text}"


def _kinds(files: Mapping[str, HeldFile]) -> list[str]:
    return sorted({name.partition("/")[0] for name in files})


def _below(files: Mapping[str, HeldFile], folder: str) -> dict[str, HeldFile]:
    return {name: file for name, file in sorted(files.items()) if name.startswith(f"{folder}/")}


def _cell(text: str) -> str:
    """Text that is neither mark-up nor the end of a cell."""
    escaped = printable(text).replace("\\", "\\\\")
    for sign in "|`*_[]<>#":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def _table(title: str, command: str, files: Mapping[str, HeldFile], columns: tuple[str, ...]) -> str:
    if not files:
        return ""
    rows = [f"| {' | '.join(_cell(file.about.get(name, '')) for name in columns)} |" for file in files.values()]
    more = f"\n… and {len(rows) - _MOST} more.\n" if len(rows) > _MOST else ""
    head = f"| {' | '.join(name.replace('_', ' ') for name in columns)} |\n|{'---|' * len(columns)}"
    listed = "\n".join(rows[:_MOST])
    return f"\n## {title}\n{len(files)}, for `lm-eval-sts {command} …`.\n\n{head}\n{listed}\n{more}"


def _studies(files: Mapping[str, HeldFile]) -> str:
    if not files:
        return ""
    counts: dict[str, dict[str, int]] = {}
    for name in files:
        _, study, part, *_ = name.split("/")
        parts = counts.setdefault(study, {})
        part = "declaration" if part.startswith("declaration") else part
        parts[part] = parts.get(part, 0) + 1
    lines = [
        f"- `studies/{name}`: {', '.join(f'{n} of {part}' for part, n in parts.items())}"
        for name, parts in counts.items()
    ]
    listed = "\n".join(lines)
    return f"\n## Studies\nWork folders, for `lm-eval-sts study merge STUDY.yaml records/studies/…`.\n\n{listed}\n"


def _profiles(files: Mapping[str, HeldFile]) -> str:
    if not files:
        return ""
    sets = {name.split("/")[1] for name in files}
    size = sum(file.bytes for file in files.values())
    return (
        f"\n## Profiles\n{len(sets)} sets of what was read of the model, {size / 1e6:.1f} MB, for the setting "
        "`profiles_dir`.\n"
    )
