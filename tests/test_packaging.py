"""What is built, what an installation puts where, and that uninstalling takes it all away."""

from __future__ import annotations

import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import lm_eval_sts
from tests.installs import PROJECT, Environment, make_environment

DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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
    names, metadata = _metadata(wheel)
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read(names["entry_points.txt"]).decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == DECLARED["version"]
    assert {"finetune", "embeddings", "verify", "board", "docs", "dev"} == set(metadata.get_all("Provides-Extra", []))
    requirements = [line.partition(";")[0] for line in metadata.get_all("Requires-Dist", [])]
    assert not any("==" in requirement or "<" in requirement for requirement in requirements)
    assert "LICENSE" in names
    assert "[lm_eval.tasks]\nsts = lm_eval_sts.tasks" in entry_points


def test_what_the_package_index_shows_links_to_what_is_there(wheel: Path) -> None:
    """Of the README's links, which are the repository's own, each is a whole address of a file at the release's tag."""
    _, metadata = _metadata(wheel)
    text = metadata.get_payload()
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", (PROJECT / "README.md").read_text(encoding="utf-8"))
    inside = [(image, link) for image, link in links if not link.startswith(("http", "#"))]
    assert len(inside) > 10
    for image, link in inside:
        assert (PROJECT / link.partition("#")[0]).exists()
        at_tag = f"{DECLARED['urls']['Repository']}/blob/v{DECLARED['version']}/{link}"
        assert f"]({DECLARED['urls']['Documentation'] + link.removeprefix('docs/') if image else at_tag})" in text
    assert not re.search(r"\]\((?!https?:|#)", text)


def test_the_version_stands_in_one_place() -> None:
    done = subprocess.run(["git", "-C", PROJECT, "ls-files"], capture_output=True, text=True)
    files = [PROJECT / name for name in done.stdout.splitlines() if "/" not in name or name.startswith("lm_eval_sts/")]
    assert not done.returncode and len(files) > 100
    stated = re.compile(rf"\bversion\b\W+{re.escape(DECLARED['version'])}\b", re.IGNORECASE)
    found = [path.name for path in files if path.suffix in {".py", ".toml", ".cff", ".md"} and _matches(stated, path)]
    assert found == ["pyproject.toml"]
    assert lm_eval_sts.__version__ == DECLARED["version"] and "__version__" in dir(lm_eval_sts)


def test_one_repository_is_named() -> None:
    """Whoever moves the project changes `[project.urls]`, and this test names the other places."""
    home, site = DECLARED["urls"]["Repository"], DECLARED["urls"]["Documentation"]
    name = home.rpartition("/")[2]
    files = ["README.md", "CITATION.cff", "SECURITY.md", "mkdocs.yml", "pyproject.toml", "docs/start.md"]
    texts = [(PROJECT / file).read_text(encoding="utf-8") for file in files]
    texts += [path.read_text(encoding="utf-8") for path in (PROJECT / ".github").rglob("*.yml")]
    ours = rf"https://(?:github\.com|[\w-]+\.github\.io)(?:/[\w-]+)?/{name}(?![\w-])"
    assert {found for text in texts for found in re.findall(ours, text)} == {home, site.rstrip("/")}


def test_the_lock_holds_everything_that_is_declared() -> None:
    locked = {}
    for line in (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate():
                locked[pin.name] = next(iter(pin.specifier)).version
    wanted = [Requirement(line) for line in (PROJECT / "constraints.in").read_text().splitlines() if line[:1] != "#"]
    wanted += [Requirement(line) for line in DECLARED["dependencies"]]
    for extra, lines in DECLARED["optional-dependencies"].items():
        wanted += [Requirement(line) for line in lines if extra != "embeddings"]  # not part of a development install
    for one in wanted:
        name = one.name.lower()
        assert name == "lm-eval-sts" or one.specifier.contains(locked[name]), f"{one}: make lock"


def test_a_tag_is_published_only_if_it_is_what_it_says(tmp_path: Path) -> None:
    """The release workflow's own check, on the right tag and on wrong ones."""
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    (script,) = [step["run"] for step in workflow["jobs"]["build"]["steps"] if "tag" in step.get("name", "")]
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    server, _, repository = DECLARED["urls"]["Repository"].partition(".com/")

    def passes(dated: str = "2026-01-31", **other: str) -> bool:
        (tmp_path / "CHANGELOG.md").write_text(f"# Changes\n\n## {DECLARED['version']} ({dated})\n")
        env = {"GITHUB_REF_NAME": f"v{DECLARED['version']}", "GITHUB_REPOSITORY": repository}
        env |= {"GITHUB_SERVER_URL": f"{server}.com", "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | other
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True).returncode == 0

    assert passes()
    assert not passes(dated="unreleased")
    assert not passes(GITHUB_REF_NAME="v999")
    assert not passes(GITHUB_REPOSITORY="somebody/else")
    publish = workflow["jobs"]["publish"]
    assert publish["needs"] == "test" and workflow["jobs"]["test"]["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"} and workflow["permissions"] == {"contents": "read"}


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


def _metadata(wheel: Path) -> tuple[dict[str, str], Message]:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name).name: name for name in archive.namelist() if ".dist-info/" in name}
        return names, Parser().parsestr(archive.read(names["METADATA"]).decode())


def _matches(pattern: re.Pattern[str], path: Path) -> bool:
    return path.is_file() and pattern.search(path.read_text(encoding="utf-8")) is not None


def _copy_of_the_project(folder: Path) -> Path:
    """The files of a checkout, so that what an installation leaves beside the sources is seen too."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "dist", "out", "results")
    return Path(shutil.copytree(PROJECT, folder, symlinks=True, ignore=ignored))


def _tasks_path(environment: Environment) -> Path:
    done = environment.run(environment.root / "bin" / "lm-eval-sts", "tasks-path")
    folder = Path(done.stdout.strip())
    assert (folder / "sts_mmlu_pro").is_dir()
    return folder
