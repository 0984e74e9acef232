"""How long a large leaderboard takes to build, how large it is, and how quick its page stays in a browser.

    python -m benchmarks.leaderboard_scale                # 500 submissions × 200 settings of 14 domains
    python -m benchmarks.leaderboard_scale --submissions 45 --settings 64 --domains 28

Settings and submissions are synthetic. On a shared machine look at processor time, the sum over all processes:
wall-clock time measures the neighbours too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer

from lm_eval_sts.leaderboard.board import compute, read_inputs
from lm_eval_sts.leaderboard.markdown import to_markdown
from lm_eval_sts.leaderboard.site import write_site
from lm_eval_sts.records import (
    Change,
    Code,
    Cost,
    DomainOutcome,
    Measurement,
    ModelRef,
    Outcome,
    Provenance,
    Scope,
    Scopes,
    SftSetRef,
    Submission,
    SubmittedSetting,
    Submitter,
    save_record,
)

SUBJECTS = (
    "biology", "business", "chemistry", "computer_science", "economics", "engineering", "health", "history", "law",
    "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip


def outcome(
    name: str,
    deltas: Mapping[str, float],
    *,
    se: float = 0.01,
    model: str = "org/model-7b",
    sft: str = "org/set",
    **more: Any,
) -> Outcome:
    """A synthetic outcome; its hashes are made of names."""
    return Outcome(
        name=name,
        model=ModelRef(name=model, weights_hash=f"weights of {model}", dtype="bfloat16"),
        sft_set=SftSetRef(name=sft, content_hash=f"content of {sft}", n_examples=800),
        recipe=None,
        measurement=Measurement(
            tasks=more.pop("tasks", "mmlu_pro"),
            version="3.1",
            metric="exact_match",
            filter="custom-extract",
            num_fewshot=5,
            chat_template_hash=None,
            system_instruction_hash=None,
            fewshot_as_multiturn=False,
            documents_hash="documents",
            prompts_hash="prompts",
            limit=None,
            lm_eval_version="0.4.13",
        ),
        seeds=(0, 1),
        domains={
            domain: DomainOutcome(
                score=Change(n=800, base=0.5, tuned=0.5 + delta, delta=delta, se=se, se_kind="paired")
            )
            for domain, delta in deltas.items()
        },
        source="synthetic",
        provenance=Provenance(
            package_versions={"lm-eval-sts": "0"},
            command="synthetic",
            created="2026-01-01T00:00:00Z",
            seed=0,
            settings={},
        ),
        **more,
    )


def submission(
    predictor: str, scores: Mapping[str, Mapping[str, float]], *, outcomes: Mapping[str, Outcome], **more: Any
) -> Submission:
    """A synthetic submission: scores by setting and domain, with the hashes of these settings."""
    fields: dict[str, Any] = {
        "version": "1",
        "category": "predictor",
        "target": "delta",
        "title": f"Synthetic predictor {predictor}",
        "description": "The true change and noise.",
        "source": "none: synthetic",
        "evidence": ("nothing",),
        "submitter": Submitter(name="nobody"),
        "code": Code(url="https://example.org/code", commit="0123456789ab"),
        "cost": Cost(forward_tokens=1e6, backward_tokens=0, seconds=60, hardware="none"),
    }
    return Submission(
        predictor=predictor,
        settings={
            name: SubmittedSetting(
                weights_hash=outcomes[name].model.weights_hash,
                content_hash=outcomes[name].sft_set.content_hash if outcomes[name].sft_set else "unknown",
                scores=values,
            )
            for name, values in scores.items()
        },
        **(fields | more),
    )


def write_leaderboard(root: Path, submissions: int, settings: int, domains: int, seed: int = 0) -> None:
    """A leaderboard of eight base models, with a scope for each and one for all."""
    generator = np.random.default_rng(seed)
    names = SUBJECTS if domains == len(SUBJECTS) else tuple(f"domain_{i:02d}" for i in range(domains))
    outcomes: dict[str, Outcome] = {}
    true = generator.normal(0, 0.03, (settings, domains)) + generator.normal(0, 0.02, domains)
    for i in range(settings):
        name = f"setting-{i:03d}"
        measured = true[i] + generator.normal(0, 0.01, domains)
        changes = {domain: round(float(value), 5) for domain, value in zip(names, measured, strict=True)}
        outcomes[f"synthetic/{name}"] = outcome(name, changes, model=f"org/model-{i % 8}", sft=f"org/set-{i:03d}")
    for key, value in outcomes.items():
        save_record(value, root / "settings" / f"{key}.json")
    scopes = [Scope(name="all", title="All settings", description="All of them.", settings=("synthetic/*",))]
    for m in range(min(8, settings)):
        chosen = tuple(key for key, value in outcomes.items() if value.model.name == f"org/model-{m}")
        scopes.append(Scope(name=f"model-{m}", title=f"Model {m}", description="One base model.", settings=chosen))
    save_record(Scopes(scopes=tuple(scopes)), root / "scopes.json")
    for p in range(submissions):
        noise = generator.uniform(0.02, 0.12)
        predicted = true + generator.normal(0, noise, true.shape)
        kept = list(outcomes) if p % 20 else list(outcomes)[: max(1, settings // 2)]
        scores = {
            key: {domain: round(float(value), 6) for domain, value in zip(names, predicted[i], strict=True)}
            for i, key in enumerate(kept)
        }
        cost = Cost(
            forward_tokens=float(10 ** generator.uniform(3, 8)), backward_tokens=0, seconds=float(p), hardware="none"
        )
        made = submission(f"predictor-{p:03d}", scores, outcomes=outcomes, cost=cost)
        save_record(made, root / "submissions" / made.predictor / f"{made.version}.json")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=500)
    parser.add_argument("--settings", type=int, default=200)
    parser.add_argument("--domains", type=int, default=14)
    parser.add_argument("--keep", type=Path, help="folder to leave the leaderboard in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.keep or Path(temporary) / "leaderboard"
        write_leaderboard(root, args.submissions, args.settings, args.domains)
        typer.echo(f"{args.submissions} submissions × {args.settings} settings × {args.domains} domains")
        with timed("reading and validating"):
            inputs = read_inputs(root)
        with timed("computing"):
            computed = compute(inputs)
        with timed("writing the page"):
            write_site(computed, root / "site")
        with timed("writing BOARD.md and board.json"):
            sizes = len(to_markdown(computed.board)), len(computed.board.model_dump_json(indent=2))
        typer.echo(f"BOARD.md {sizes[0] / 1e3:.0f} kB, board.json {sizes[1] / 1e6:.1f} MB")
        files = [path for path in (root / "site").rglob("*") if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        total = sum(path.stat().st_size for path in files) / 1e6
        size = largest.stat().st_size / 1e6
        typer.echo(f"page: {len(files)} files, {total:.0f} MB; largest {largest.name}, {size:.1f} MB")
        measure_browser(root / "site")


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints wall-clock time, and processor time of this process and those it waited for."""
    before = os.times()
    yield
    after = os.times()
    cpu = sum(after[i] - before[i] for i in range(4))
    typer.echo(f"{what}: {after.elapsed - before.elapsed:.1f} s, {cpu:.1f} s of processor time")


def measure_browser(site: Path) -> None:
    """Times the page in a headless browser, where there is one."""
    executable = os.environ.get("STS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        typer.echo("browser: none found")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(300_000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def worked() -> float:
            """Processor time of the page's main thread so far, in ms."""
            drawn = "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
            page.evaluate(drawn)
            metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
            return 1000 * metrics["TaskDuration"]

        page.goto((site / "index.html").resolve().as_uri())
        page.wait_for_selector("#table tbody .name a")
        there = worked()
        rows = page.locator("#table tbody .name a").count()
        typer.echo(
            f"browser, processor time of the main thread: {there:.0f} ms until the table of {rows} rows is there"
        )
        page.wait_for_selector("#frontier .mark-symbol.role-mark path")
        typer.echo(f"browser: {worked() - there:.0f} ms for the chart")
        sort = "document.querySelectorAll('#table thead button')[1].click()"
        search = "(() => { const s = document.getElementById('search'); s.value = '12'; "
        search += "s.dispatchEvent(new Event('input')); })()"
        for what, script in (("sorting", sort), ("searching", search)):
            before = worked()
            page.evaluate(script)
            typer.echo(f"browser: {worked() - before:.0f} ms for {what}")
        browser.close()


if __name__ == "__main__":
    main()
