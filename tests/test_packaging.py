"""What is built, what an installation puts where, and that uninstalling takes it all away."""

from __future__ import annotations

import pkgutil
import shutil
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.installs import PROJECT, Environment, make_environment

START_FILES = {"lm_eval_sts_autoregister.pth", "lm_eval_sts_autoregister.start"}


def test_wheel_holds_the_package_with_its_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(PROJECT))
        for folder in (PROJECT / "lm_eval_sts", PROJECT / "lm_eval_sts" / "tasks")
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".tmp"
    }
    assert {name for name in names if name.endswith(".yaml")} > {"lm_eval_sts/tasks/sts_mmlu_pro/_sts_mmlu_pro.yaml"}
    assert "lm_eval_sts/py.typed" in names
    assert names == sources | START_FILES


def test_wheel_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(names["METADATA"]).decode())
        entry_points = archive.read(names["entry_points.txt"]).decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"finetune", "embeddings", "board", "dev"} == set(metadata.get_all("Provides-Extra", []))
    requirements = [line.partition(";")[0] for line in metadata.get_all("Requires-Dist", [])]
    assert not any("==" in requirement or "<" in requirement for requirement in requirements)
    assert "LICENSE" in names
    assert "[lm_eval.tasks]\nsts = lm_eval_sts.tasks" in entry_points


def test_source_distribution_holds_what_the_wheel_is_built_from(distributions: Path, wheel: Path) -> None:
    # `build` makes the wheel from the unpacked source distribution.
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    with zipfile.ZipFile(wheel) as built:
        package = {name for name in built.namelist() if name.startswith("lm_eval_sts/")}
    assert package <= names
    assert {"LICENSE", "README.md", "startup/lm_eval_sts_autoregister.pth"} <= names


def test_start_file_names_what_the_import_line_calls() -> None:
    lines = (PROJECT / "startup" / "lm_eval_sts_autoregister.start").read_text().splitlines()
    (entry,) = [line for line in lines if line and not line.startswith("#")]
    (line,) = (PROJECT / "startup" / "lm_eval_sts_autoregister.pth").read_text().splitlines()
    module, _, function = entry.partition(":")
    assert callable(pkgutil.resolve_name(entry))
    assert line.startswith("import ")
    assert f"from {module} import {function}" in line


@pytest.mark.parametrize("editable", [False, True], ids=["plain", "editable"])
def test_install_and_uninstall(tmp_path: Path, dependencies: Path, editable: bool) -> None:
    project = _copy_of_the_project(tmp_path / "project")
    environment = make_environment(tmp_path / "venv", dependencies=dependencies)
    before = environment.listing()
    environment.install(*(["--editable"] if editable else []), project)
    assert {path.name for path in environment.site_packages.iterdir()} >= START_FILES
    hooked, _ = environment.evaluate("import json, sys; print(json.dumps([type(f).__module__ for f in sys.meta_path]))")
    assert hooked[0] == "lm_eval_sts._autoregister"
    home = project if editable else environment.site_packages / "lm_eval_sts"
    assert _tasks_path(environment) == (home / "tasks").resolve()
    environment.pip("uninstall", "--quiet", "--yes", "lm-eval-sts")
    assert environment.listing() == before


def _copy_of_the_project(folder: Path) -> Path:
    """The files of a checkout, so that what an installation leaves beside the sources is seen too."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "dist", "out", "results")
    return Path(shutil.copytree(PROJECT, folder, symlinks=True, ignore=ignored))


def _tasks_path(environment: Environment) -> Path:
    done = environment.run(environment.root / "bin" / "lm-eval-sts", "tasks-path")
    folder = Path(done.stdout.strip())
    assert (folder / "sts_mmlu_pro").is_dir()
    return folder
