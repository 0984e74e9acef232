"""How many small faults the tests notice: ``python benchmarks/mutation.py --help``.

cosmic-ray makes the faults: an operator, a comparison, a number, a condition or a decorator that is another or gone. A
seed draws places in a package and one fault at each, and every fault runs against the tests that mirror the package, in
a copy of the tree; those of its own module come first, and one failure is enough. What is left after an interruption
continues from the session's files, as long as the package has not changed. ``--again`` tries those that were missed
once more, after tests were added.

Faults in annotations, and in arguments that no result depends on, are left out. A fault that changes nothing a caller
can see is listed with a reason under ``equivalent`` in the file of results, by hand, and counts neither as noticed nor
as missed in later runs.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import itertools
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkItem

from lm_eval_sts.files import hash_json, write_atomically

PACKAGES = {
    "agreement": ("agreement",),
    "outcomes": ("outcomes", "finetuning"),
    "predictors": ("predictors",),
    "records": ("records",),
}
"""Where the faults of each are made: packages of ``lm_eval_sts``."""

SLOW = (
    "finetuning/test_finetune.py",
    "finetuning/test_finetune_faults.py",
    "finetuning/test_finetune_resume.py",
    "outcomes/test_measure.py",
)
"""Files of tests that train and evaluate models, for minutes a fault: left out, so that what only they notice counts as
missed."""

TIMEOUT = 1800.0
"""Seconds that only tests which hang need; these count as noticed."""


@dataclass(frozen=True)
class Fault:
    """One change of one place: the line before and after, and whether a test failed."""

    module: str
    line: int
    before: str
    after: str
    noticed: bool


@dataclass(frozen=True)
class Sample:
    """The faults that were tried in a package, of so many places where one can be made."""

    places: int
    faults: list[Fault]


def copy_of(tree: Path, target: Path) -> Path:
    """Copies what git knows of, or would: neither environments nor caches."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=tree,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = tree / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink() or source.is_file():
            shutil.copy2(source, target / name, follow_symlinks=False)
    return target


def command(tree: Path, package: str, module: str = "") -> str:
    """Runs the tests whose folder or files have a package's name, those of one module first, without ``SLOW``."""
    tests = tree / "tests"
    own = tests / package / f"test_{module}.py"
    found = [
        own,
        *sorted(tests.glob(f"{package}/test_*.py")),
        *sorted(tests.glob(f"test_{package.removesuffix('s')}*.py")),
    ]
    left_out = {tests / name for name in SLOW}
    files = [str(path.relative_to(tree)) for path in dict.fromkeys(found) if path.exists() and path not in left_out]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return shlex.join([sys.executable, "-m", "pytest", *options, *files])


UNSEEN = {"frozen", "maxsize", "strict"}
"""Arguments that guard against faults of our own, or say how much to keep in memory."""


class _Bare(ast.NodeTransformer):
    """A module without its annotations and unseen arguments."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in UNSEEN]
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def changes_code(item: WorkItem) -> bool:
    """Whether the fault is in more than annotations and ``UNSEEN`` arguments, and is Python."""
    (mutation,) = item.mutations
    source = mutation.module_path.read_text()
    changed = mutate_code(source, get_operator(mutation.operator_name)(), mutation.occurrence)
    try:
        bare = [ast.dump(_Bare().visit(ast.parse(text))) for text in (source, changed)]
    except SyntaxError:  # "not x := y"
        return False
    return bare[0] != bare[1]


def draw(database: WorkDB, package: str, size: int, seed: int) -> int:
    """Puts a sample of faults in the database; gives the number of places that it was drawn from.

    Operators that can become a dozen others are one place as much as a number is.
    """
    modules = sorted(path for part in PACKAGES[package] for path in Path("lm_eval_sts", part).rglob("*.py"))
    init(modules, database, {})

    def place(item: WorkItem) -> tuple[str, tuple[int, int]]:
        return str(item.mutations[0].module_path), item.mutations[0].start_pos

    def order(item: WorkItem) -> tuple[object, ...]:
        return *place(item), item.mutations[0].operator_name, item.mutations[0].occurrence

    items = sorted(database.work_items, key=order)
    places = [list(group) for _, group in itertools.groupby(items, place)]
    rng = random.Random(seed)
    chosen = (rng.choice(group) for group in rng.sample(places, len(places)))
    sample = list(itertools.islice(filter(changes_code, chosen), size))
    database.clear()
    database.add_work_items(sample)
    return len(places)


def faults(database: WorkDB) -> Iterator[Fault]:
    """What was tried, by module and line."""
    done = database.completed_work_items
    for item, result in sorted(
        done, key=lambda pair: (str(pair[0].mutations[0].module_path), pair[0].mutations[0].start_pos)
    ):
        changed = [line for line in result.diff.splitlines()[3:] if line[:1] in "+-"]
        before, after = (" ".join(line[1:].strip() for line in changed if line[0] == sign) for sign in "-+")
        (mutation,) = item.mutations
        module = str(mutation.module_path.relative_to("lm_eval_sts"))
        yield Fault(module, mutation.start_pos[0], before, after, result.test_outcome != TestOutcome.SURVIVED)


def try_faults(tree: Path, package: str, session: Path, *, size: int, seed: int, again: bool = False) -> Sample:
    """Runs the tests of a package on a sample of faults in it.

    Args:
        tree: A folder with ``lm_eval_sts`` and ``tests``; its files change and change back.
        package: One of ``PACKAGES``.
        session: A folder for what is done so far.
        size: How many faults.
        seed: Draws them.
        again: Whether those that were missed are tried once more.

    Raises:
        RuntimeError: If the tests fail without a fault.
    """
    parts = PACKAGES[package]
    sources = sorted(path for part in parts for path in Path(tree, "lm_eval_sts", part).rglob("*.py"))
    state = [seed, size, {str(path.relative_to(tree)): path.read_text() for path in sources}]
    session.mkdir(parents=True, exist_ok=True)
    name = session / f"{package}-{hash_json(state)[:12]}"
    with contextlib.chdir(tree), use_db(name.with_suffix(".sqlite")) as database:
        if again or not name.with_suffix(".places").exists():
            for part in parts:
                outcome, output = run_tests(command(tree, part), TIMEOUT)
                if outcome != TestOutcome.SURVIVED:
                    raise RuntimeError(f"the tests of {part} fail without a fault: {output[-2000:]}")
        if not name.with_suffix(".places").exists():
            name.with_suffix(".places").write_text(str(draw(database, package, size, seed)))
        survived = {job for job, result in database.results if result.test_outcome == TestOutcome.SURVIVED}
        items = [item for item in database.work_items if again and item.job_id in survived]
        for item in [*items, *database.pending_work_items]:
            (mutation,) = item.mutations
            tests = command(tree, mutation.module_path.parts[1], mutation.module_path.stem)
            database.set_result(item.job_id, mutate_and_test(item.mutations, tests, TIMEOUT))
            sys.stderr.write(f"\r{package}: {database.num_results} of {database.num_work_items} faults")
        sys.stderr.write("\n")
        return Sample(int(name.with_suffix(".places").read_text()), list(faults(database)))


def record(samples: dict[str, Sample], seed: int, output: Path) -> None:
    """Writes and prints what was noticed; packages that were not run, and reasons given by hand, stay."""
    known = json.loads(output.read_text()) if output.exists() else {"packages": {}, "equivalent": []}
    reasons = {(e["module"], e["before"], e["after"]): e["why"] for e in known["equivalent"]}
    for package, sample in samples.items():
        missed = [fault for fault in sample.faults if not fault.noticed]
        counted = [f for f in missed if (f.module, f.before, f.after) not in reasons]
        known["packages"][package] = {
            "seed": seed,
            "places": sample.places,
            "faults": len(sample.faults),
            "noticed": len(sample.faults) - len(missed),
            "equivalent": len(missed) - len(counted),
            "missed": [asdict(fault) for fault in counted],
        }
    write_atomically(output, (json.dumps(known, indent=1, ensure_ascii=False) + "\n").encode())
    show(known["packages"])


def show(packages: dict[str, dict[str, Any]]) -> None:
    """Prints a line a package."""
    say = sys.stdout.write
    say("| package | places | faults | noticed | equivalent | missed |\n|---|---|---|---|---|---|\n")
    for package, row in sorted(packages.items()):
        counts = (*(row[key] for key in ("places", "faults", "noticed", "equivalent")), len(row["missed"]))
        say(f"| {package} | {' | '.join(f'{count:,}' for count in counts)} |\n")


def main() -> None:
    """Runs the sample and writes what was noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), metavar="PACKAGE", help=", ".join(PACKAGES))
    parser.add_argument("--sample", type=int, default=60, help="faults a package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="try what was missed once more")
    parser.add_argument("--session", type=Path, default=Path(tempfile.gettempdir(), "lm-eval-sts-mutation"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "mutation.json")
    given = parser.parse_args()
    output, session = given.output.resolve(), given.session.resolve()
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of(Path(__file__).resolve().parents[1], Path(folder).resolve())
        os.environ |= {
            "PYTHONPATH": str(tree),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
        }
        how = {"size": given.sample, "seed": given.seed, "again": given.again}
        samples = {package: try_faults(tree, package, session, **how) for package in given.packages}
    record(samples, given.seed, output)


if __name__ == "__main__":
    main()
