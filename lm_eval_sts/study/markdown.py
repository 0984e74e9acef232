"""A study's report as a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial

from lm_eval_sts.records import ReportContrast, StudyReport
from lm_eval_sts.study.design import Study
from lm_eval_sts.study.figures import figure_files
from lm_eval_sts.study.outcome_tables import costs, outcomes
from lm_eval_sts.study.predictor_tables import again, beside, conditions, missing, tables
from lm_eval_sts.study.report_files import ReportFiles
from lm_eval_sts.study.words import against_in_words, asked, difference, listed, number, short_verdict, table, verdict


def page(study: Study, report: StudyReport, files: ReportFiles) -> str:
    """The whole page."""
    notes = study.kept / "notes.md"
    prelude, own = sections(notes.read_text(encoding="utf-8") if notes.is_file() else "")
    made = dict(_sections(report, files))
    parts = [f"# {report.title}", *study.notes, prelude, *_intro(report, files)]
    parts += [f"## {heading}\n{body}" for heading, body in own.items() if heading not in made]
    parts += [f"## {heading}\n{_both(own.get(heading), body)}" for heading, body in made.items() if body]
    return "\n\n".join(part for part in parts if part) + "\n"


def sections(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the first heading of the second level, and what stands under each."""
    prelude, *rest = re.split(r"^## (.+)\n", text.strip(), flags=re.MULTILINE)
    return prelude.strip(), {heading.strip(): body.strip() for heading, body in zip(rest[::2], rest[1::2], strict=True)}


def fill(text: str, tables: Mapping[str, str]) -> str:
    """Puts tables between ``<!-- table: name -->`` and ``<!-- end -->``.

    Raises:
        ValueError: A table has no place in the text, or several.
    """
    for name, found in tables.items():
        pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(partial(_put, found), text)
        if count != 1:
            raise ValueError(f"the table {name} has {count} places")
    return text


def _put(found: str, place: re.Match[str]) -> str:
    return f"{place[1]}{found}\n{place[2]}"


def _both(own: str | None, made: str) -> str:
    return f"{own}\n\n{made}" if own else made


def _intro(report: StudyReport, files: ReportFiles) -> Iterator[str]:
    first = report.tables[0]
    yield (
        f"Made by `lm-eval-sts study report` from {report.source}: {len(first.sft_runs)} SFT runs of "
        f"{report.bases[first.base]} ({first.group}), {first.n_domains} domains; all digits in "
        f"[{files.data.name}]({files.link(files.data)}). Correlations are over domains, means of Fisher's z over "
        "SFT runs. *Double-centred*: each domain's mean over the SFT runs is taken out of predictions and changes, "
        "which leaves what is particular to an SFT set."
    )
    if not figure_files(report, files):
        yield "No figures: they need `pip install 'lm-eval-sts[board]'`."


def _sections(report: StudyReport, files: ReportFiles) -> Iterator[tuple[str, str]]:
    images = figure_files(report, files)
    yield "Declared", _declared(report)
    yield "Contrasts", _contrasts(report)
    yield "Predictors", "\n\n".join(tables(report, files, images))
    yield "Beside two plain ones", beside(report)
    yield "Again", again(report)
    yield "Conditions", conditions(report)
    yield "Outcomes", outcomes(report)
    yield "Cost", costs(report, files, images)
    yield "Limits", _limits(report)


def _declared(report: StudyReport) -> str:
    found, first = report.declaration, report.contrasts[0]
    counts = f", {len(first.sft_runs)} SFT runs, {first.n_domains} domains" if first.sft_runs else ""
    result = f"**{verdict(first)}** ({difference(first)}{counts})."
    if found.declared is None:
        return f"**Nothing was declared beforehand: all that follows is exploratory.** The primary contrast: {result}"
    state = "The primary contrast" if first.declared else "**What was declared is not what is scored.** The contrast"
    lines = [f"{state}, declared {found.declared} ({str(found.content_hash)[:12]}): {asked(first)}. {result}"]
    if found.differences:
        lines.append("**Not as declared:**\n\n" + listed(found.differences))
    if lacking := missing(report.tables[0]):
        lines.append(f"**Declared and not scored yet:** {lacking}.")
    if found.not_declared:
        lines.append("**Not declared beforehand, and so exploratory:**\n\n" + listed(found.not_declared))
    if found.already:
        lines.append("There when it was declared:\n\n" + listed(found.already))
    return "\n\n".join(lines)


def _contrasts(report: StudyReport) -> str:
    body = []
    for found in report.contrasts:
        tested = found.p is not None and found.z is not None
        body.append(
            [
                asked(found),
                against_in_words(found.against, report),
                _where(report, found),
                str(len(found.sft_runs)),
                f"{number(found.candidate_r)} and {number(found.reference_r)}",
                f"{found.z:+.2f} [{found.low:+.2f}, {found.high:+.2f}]" if tested else "–",
                f"{found.p:.2g}" if tested else "–",
                short_verdict(found),
                f"{found.role}{', declared' if found.declared else ''}",
            ]
        )
    head = ["contrast", "with", "model", "runs", "r of each", "difference in z", "p", "verdict", ""]
    return table(head, body) + (
        "\n\nIntervals and p by the jackknife over domains. p is not adjusted: only what is marked as declared is a "
        "test."
    )


def _where(report: StudyReport, found: ReportContrast) -> str:
    parts = [found.base, *([found.recipe] if len(report.recipes) > 1 else [])]
    return ", ".join(parts) + ("" if found.condition == "main" else f", {found.condition}")


def _limits(report: StudyReport) -> str:
    first = report.tables[0]
    items = [
        f"{len(first.sft_runs)} SFT runs and {first.n_domains} domains of one benchmark: intervals are for domains and "
        "SFT sets like these."
    ]
    items += [f"{caveat} ({n} of {len(first.sft_runs)} SFT runs)" for caveat, n in report.caveats.items()]
    items += report.warnings
    return listed(items)
