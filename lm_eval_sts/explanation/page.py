"""An explanation as one self-contained HTML page: no network, no script, everything escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from lm_eval_sts.errors import RecordError
from lm_eval_sts.evidence.domain import SFT
from lm_eval_sts.explanation.words import largest_parts, of_score, shared_summary, summary, title
from lm_eval_sts.files import package_version, write_atomically
from lm_eval_sts.records import ExplainedDomain, ExplainedFeature, Explanation

_TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
_COLUMNS: Final = 60
"""Most features in the heat map."""
_CARDS: Final = 200
"""Most cards."""
_LISTED: Final = 12
"""Features listed of a domain."""
_PLACES: Final = 4
"""Domains whose passages a card shows."""


def save_page(found: Explanation, file: Path) -> None:
    """Writes the page.

    Raises:
        RecordError: The file cannot be written.
    """
    try:
        write_atomically(file, page(found).encode())
    except OSError as error:
        raise RecordError(f"cannot write {file}: {error.strerror or error}: choose another place") from error


def page(found: Explanation) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["visible"] = _visible
    columns = _by_part(found)[:_COLUMNS]
    return templates.get_template("explanation.html").render(
        found=found,
        title=title(found),
        summary=summary(found),
        shared=shared_summary(found),
        columns=[feature.feature for feature in columns],
        left_out=len(found.features) - len(columns),
        rows=_heat(found, columns),
        cards=[_card(found, feature) for feature in found.features[:_CARDS]],
        domains=[_domain(found, name, domain) for name, domain in found.domains.items()],
        version=package_version("lm-eval-sts"),
    )


def _by_part(found: Explanation) -> list[ExplainedFeature]:
    """The features, largest mean share of the scores first."""
    if not found.features:
        return []
    size = {
        feature.feature: sum(abs(of_score(domain.parts[i], domain)) for domain in found.domains.values())
        for i, feature in enumerate(found.features)
    }
    return sorted(found.features, key=lambda feature: -size[feature.feature])


def _heat(found: Explanation, columns: list[ExplainedFeature]) -> list[dict[str, Any]]:
    """One row a domain: each feature's share of the score, and how strongly it is coloured, from 0 to 1."""
    place = {feature.feature: i for i, feature in enumerate(found.features)}
    shares = {
        name: [of_score(domain.parts[place[feature.feature]], domain) for feature in columns]
        for name, domain in found.domains.items()
    }
    largest = max((abs(share) for of in shares.values() for share in of), default=0.0) or 1.0
    return [
        {
            "name": name,
            "score": found.domains[name].score,
            "cells": [
                {"feature": feature.feature, "share": share, "strength": abs(share) / largest}
                for feature, share in zip(columns, of, strict=True)
            ],
        }
        for name, of in shares.items()
    ]


def _card(found: Explanation, feature: ExplainedFeature) -> dict[str, Any]:
    place = found.features.index(feature)
    shares = {name: of_score(domain.parts[place], domain) for name, domain in found.domains.items()}
    most = sorted(shares, key=lambda name: -abs(shares[name]))[:_PLACES]
    return {
        "feature": feature,
        "sft": feature.passages.get(SFT, ()),
        "places": [(name, shares[name], feature.passages.get(name, ())) for name in most if shares[name]],
    }


def _domain(found: Explanation, name: str, domain: ExplainedDomain) -> dict[str, Any]:
    parts = largest_parts(found, domain)
    listed = [(feature.feature, part, of_score(part, domain)) for feature, part in parts[:_LISTED]]
    return {
        "name": name,
        "domain": domain,
        "listed": listed,
        "others": domain.score - sum(part for _, part, _ in listed),
        "questions": [(q, found.texts.get(q.question, "")) for q in domain.questions],
    }


def _visible(token: str) -> str:
    """A token that shows, also where it is blank."""
    shown = token.replace("\n", "⏎")
    return shown if shown.strip() else "␣" * max(len(shown), 1)
