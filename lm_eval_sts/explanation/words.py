"""Explanations in words and figures, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from lm_eval_sts.records import ExplainedDomain, ExplainedFeature, Explanation, Passage


def largest_parts(
    found: Explanation, domain: ExplainedDomain, share: float = 1.0
) -> list[tuple[ExplainedFeature, float]]:
    """The features with the largest parts of a domain's score, as few as together make a share of all parts' sizes."""
    parts = sorted(zip(found.features, domain.parts, strict=True), key=lambda part: -abs(part[1]))
    left = share * (sum(map(abs, domain.parts)) + abs(domain.rest))
    chosen = []
    for feature, part in parts:
        if left <= 0 or part == 0:
            break
        chosen.append((feature, part))
        left -= abs(part)
    return chosen


def of_score(part: float, domain: ExplainedDomain) -> float:
    """A part as a share of the sizes of all parts of the domain's score, with its sign."""
    whole = sum(map(abs, domain.parts)) + abs(domain.rest)
    return part / whole if whole else 0.0


def summary(found: Explanation) -> str:
    """What the features are, in sentences."""
    if not found.features:
        return (
            f"{found.predictor} adds up no features. Listed are the questions with the largest values of their own, "
            "whatever the sign."
        )
    half = sorted(len(largest_parts(found, domain, 0.5)) for domain in found.domains.values())
    carried = sum(feature.share for feature in found.features)
    named = f"{len(found.features)} features{_of_all(found)} {_selected(found)}"
    told = [f"{named}; they hold {carried:.0%} of the whole shift."]
    if found.selected_again is not None:
        told.append(
            f"{found.selected_again:.0%} of a draw's {found.n_features} are selected again when the {found.n_queries} "
            "SFT queries are resampled."
        )
    told.append(f"Half of a domain's score comes from {_between(half)} features.")
    return " ".join(told)


def short_name(name: str) -> str:
    """A hub id or shipped name as it is; of a path the last part."""
    return PurePath(name).name if name.startswith(("/", "~", ".")) or "\\" in name else name


def _of_all(found: Explanation) -> str:
    return f" of {found.sae.d_sae:,}" if found.sae is not None else ""


def _selected(found: Explanation) -> str:
    if found.selected_again is None:
        return "have the largest parts"
    return f"are predicted to shift (in any of {found.n_draws} draws of demonstrations)"


def _between(sorted_counts: Sequence[int]) -> str:
    low, high = sorted_counts[0], sorted_counts[-1]
    return f"{low}" if low == high else f"{low} to {high}"


def title(found: Explanation) -> str:
    """Predictor, SFT set, model and benchmark."""
    setting = found.setting
    names = (found.predictor, short_name(setting.sft_set.name), short_name(setting.model.name), setting.benchmark.name)
    return f"{' · '.join(names)} ({len(found.domains)} domains)"


def shared_summary(found: Explanation) -> str:
    """What two SFT sets share, in sentences; empty where there is one."""
    shared = found.shared
    if shared is None:
        return ""
    both = f"{short_name(found.setting.sft_set.name)} and {short_name(shared.other)}"
    return (
        f"{both} both shift {len(shared.features)} features. Of one draw's features a draw of the other selects "
        f"{shared.overlap:.0%} too ({shared.expected_overlap:.0%} if both were chosen at random). Cosine of the shifts "
        f"{shared.cosine:.2f}, of their directions {shared.signed_cosine:+.2f}."
    )


def in_one_line(passage: Passage, width: int) -> str:
    """A passage around its token in brackets, at most ``width`` long."""
    token = _spaced(passage.token) or "␣"
    room = max(width - len(token) - 4, 2)
    before, after = _spaced(passage.before), _spaced(passage.after)
    left = before[-max(room * 2 // 3, room - len(after)) :]
    right = after[: room - len(left)]
    start = "…" if len(left) < len(before) else ""
    end = "…" if len(right) < len(after) else ""
    return f"{start}{left}[{token}]{right}{end}"[:width]


def _spaced(text: str) -> str:
    return "".join(" " if c.isspace() else c for c in text)
