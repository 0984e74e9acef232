"""Who may import whom, and what stays light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lm_eval_sts"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "tasks" not in path.relative_to(PACKAGE).parts)
LEARNING = {"torch", "transformers", "sae_lens", "transformer_lens", "peft", "trl", "datasets"}
HEAVY = LEARNING | {"lm_eval", "scipy", "pandas", "sklearn", "altair", "sentence_transformers"}
BASICS = {"errors", "files", "moved", "progress", "records", "texts"}
DATA = {"data", "examples"}
TABLES = {"dataset_columns", "dataset_files", "dataset_source"}
EVERYTHING = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}

# Folder: modules of ours that it may import beside its own, and libraries that it may not.
# Only harness, and outcomes, which measure, know lm-eval.
RULES: dict[str, tuple[set[str], set[str]]] = {
    "records": ({"errors", "files"}, LEARNING | {"lm_eval"}),
    "features": (BASICS | DATA, {"lm_eval"}),
    "evidence": (BASICS | DATA | {"features", "finetuning", "shipped"}, {"lm_eval"}),
    "predictors": (BASICS | DATA | {"dataset_files", "evidence", "features", "sampling", "shipped"}, {"lm_eval"}),
    "explanation": (BASICS | DATA | {"evidence", "features", "predictors", "verdict"}, {"lm_eval"}),
    "finetuning": (BASICS | DATA | {"features"}, {"lm_eval"}),
    "outcomes": (BASICS | {"agreement", "features", "finetuning"}, set()),
    "agreement": (BASICS, LEARNING | {"lm_eval"}),
    "leaderboard": (BASICS | {"agreement"}, LEARNING | {"lm_eval"}),
    "hub": (BASICS | {"evidence", "finetuning", "outcomes", "verdict"}, LEARNING | {"lm_eval"}),
    "microworld": (BASICS, {"lm_eval"}),
    "verdict": (BASICS, LEARNING | {"lm_eval"}),
    "mixing": (BASICS | DATA | {"sft_files"}, LEARNING | {"lm_eval"}),
    "sampling": (
        BASICS | DATA | {"dataset_columns", "dataset_files", "dataset_source", "evidence", "features", "sft_files"},
        {"lm_eval"},
    ),
    "commands": (EVERYTHING, {"lm_eval"}),
    "planning": (EVERYTHING - {"api", "cli", "commands", "leaderboard", "loading", "study"}, {"lm_eval"}),
    "study": (EVERYTHING - {"api", "cli", "commands", "loading"}, {"lm_eval"}),
    "harness": (EVERYTHING - {"commands", "hub", "leaderboard", "study"}, set()),
}


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Full names of what a file imports anywhere in it, or at its top level only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            # `from lm_eval_sts import features` imports a module of that name
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_folder_has_a_rule() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(RULES) | {"tasks"}


@pytest.mark.parametrize("folder", [name for name in RULES if (PACKAGE / name).is_dir()])
def test_folder_imports_what_it_may(folder: str) -> None:
    ours, forbidden = RULES[folder]
    wrong = []
    for path in (PACKAGE / folder).rglob("*.py"):
        for name in imports(path):
            first, _, rest = name.partition(".")
            module = rest.partition(".")[0]
            if first in forbidden or (first == "lm_eval_sts" and module not in ours | {folder}):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_the_rules_see_imports(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("import torch\ndef f():\n    from lm_eval.tasks import manager\n")
    assert set(imports(source)) == {"torch", "lm_eval.tasks.manager"}
    assert set(imports(source, top_level=True)) == {"torch"}


def test_the_hook_imports_os_and_sys_only() -> None:
    assert set(imports(PACKAGE / "_autoregister.py", top_level=True)) == {"os", "sys"}
    assert set(imports(PACKAGE / "__init__.py", top_level=True)) == {"sys"}


def test_discovery_needs_the_standard_library_only() -> None:
    names = imports(PACKAGE / "harness" / "discovery.py", top_level=True)
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names) | {"lm_eval_sts"}


@pytest.mark.parametrize(
    "module",
    ["", "._autoregister", ".cli", ".errors", ".harness.discovery", ".records"],
)
def test_import_is_light(module: str) -> None:
    code = f"import json, sys, lm_eval_sts{module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & {name.partition(".")[0] for name in json.loads(done.stdout)}


def modules_imported(path: Path, known: set[str]) -> set[str]:
    """Modules of ours that a file imports anywhere in it."""
    return {name if name in known else name.rpartition(".")[0] for name in imports(path)} & known


def test_no_two_modules_import_each_other() -> None:
    """Not even by way of others, nor inside a function."""
    files = {".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in SOURCES}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    graph = {name: modules_imported(path, set(files)) - {name} for name, path in files.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names them


def test_a_circle_is_seen() -> None:
    with pytest.raises(CycleError):
        tuple(TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).static_order())


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("import lm_eval_sts.outcomes.finetune", "lm_eval_sts.finetuning.finetune"),
        ("from lm_eval_sts.outcomes import recipes", "lm_eval_sts.finetuning.recipes"),
        ("from lm_eval_sts.features.store import ProfileFolder", "lm_eval_sts.evidence.store"),
        ("import lm_eval_sts.predictors.development", "lm_eval_sts.predictors.null"),
        ("import lm_eval_sts.harness.row_sets", "lm_eval_sts.evidence.reading"),
        ("import lm_eval_sts.commands.micro_sweep", "microworld/"),
        ("import lm_eval_sts.tables", "lm_eval_sts.dataset_source"),
        ("import lm_eval_sts.agreement.williams", "lm_eval_sts.agreement.differences"),
        ("import lm_eval_sts.harness.passes", "lm_eval_sts.evidence.kinds"),
        ("from lm_eval_sts.microworld.build import build", "microworld/"),
        ("from lm_eval_sts.predictors.base import Profiles", "lm_eval_sts.evidence.evidence.Profiles"),
        ("from lm_eval_sts.predictors.scoring import Scored", "lm_eval_sts.predictors.predict"),
        ("from lm_eval_sts.evidence.rehearsal import Rehearsal", "lm_eval_sts.evidence.losses"),
        ("from lm_eval_sts.features.answers import AnsweredQuery", "lm_eval_sts.features.likelihood"),
        ("import lm_eval_sts.features.decoder", "lm_eval_sts.features.answer_gradients"),
    ],
)
def test_what_moved_says_where(statement: str, place: str) -> None:
    with pytest.raises(ImportError, match=f"moved to .*{place}"):
        exec(statement)


def test_every_place_that_something_moved_to_is_there() -> None:
    from importlib import import_module

    from lm_eval_sts.moved import MODULES, NAMES

    for place in MODULES.values():
        if place.startswith("lm_eval_sts"):
            import_module(place.split()[0])
    for place in NAMES.values():
        module, _, name = place.partition(" ")[0].rpartition(".")
        assert not place.startswith("lm_eval_sts") or hasattr(import_module(module), name)
    assert not {f"{PACKAGE}/{old.replace('.', '/')}.py" for old in MODULES} & set(map(str, SOURCES))


def test_what_never_was_is_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        exec("import lm_eval_sts.outcomes.nothing")
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from lm_eval_sts.predictors.base import Nothing")
