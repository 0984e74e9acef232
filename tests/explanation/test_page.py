"""The page: one file, everything escaped, and what a browser makes of it at three widths."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lm_eval_sts.explanation.page import page, save_page
from lm_eval_sts.records import (
    ExplainedDomain,
    ExplainedFeature,
    Explanation,
    Passage,
    QuestionValue,
    SharedDomain,
    SharedFeatures,
)
from tests.test_records import make_prediction

NASTY = """<img src=x onerror="window.hacked=1"></style></title><script>window.hacked=1</script>'&{{ 7 * 7 }}"""
CHROMIUM = os.environ.get("STS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (390, 800, 1400)


def explanation(signed: bool = False, features: int = 70) -> Explanation:
    """Every text that a stranger may have written is hostile; or so long that it must break."""
    made = make_prediction()
    sft_set = made.setting.sft_set.model_copy(update={"name": NASTY})
    names = [NASTY, "a_domain_with_a_name_" + "that_does_not_end_" * 5, *(f"domain_{i}" for i in range(12))]
    passages = tuple(
        Passage(question=NASTY, activation=3.0, before="a\n", token=token, after=NASTY) for token in (NASTY, "\n")
    )
    made_features = tuple(
        ExplainedFeature(
            feature=j,
            draws=(0,),
            shift=1.0 / (j + 1),
            share=0.5 / features,
            direction=(-1.0) ** j,
            selected_again=None if signed else 0.9,
            active=0.5,
            link=f"https://www.neuronpedia.org/{NASTY}/{j}" if j == 0 else None,
            passages={name: passages for name in ("sft", *names[:3])},
        )
        for j in range(features)
    )
    parts = tuple((-1.0) ** j * (j + 1.0) if signed else j + 1.0 for j in range(features))
    domain = ExplainedDomain(
        score=sum(parts), se=0.5, parts=parts, questions=(QuestionValue(question=NASTY, value=-1.0),)
    )
    return Explanation(
        predictor=NASTY,
        predictor_version="1",
        target="delta" if signed else "magnitude",
        setting=made.setting.model_copy(update={"sft_set": sft_set}),
        sae=made.sae.model_copy(update={"name": NASTY}),
        n_features=features,
        n_draws=1,
        n_queries=5,
        n_tokens=50,
        selected_again=None if signed else 0.9,
        features=made_features,
        domains={name: domain for name in names},
        texts={NASTY: NASTY * 20},
        shared=SharedFeatures(
            other=NASTY,
            features=(1, 2),
            overlap=0.5,
            expected_overlap=0.1,
            cosine=0.5,
            signed_cosine=-0.5,
            domains={name: SharedDomain(score=1.0, shared=0.5, other_score=2.0, other_shared=1.0) for name in names},
        ),
        provenance=made.provenance.model_copy(update={"notes": (NASTY,), "command": NASTY}),
    )


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("signed", [False, True])
def test_it_is_one_file_and_everything_is_escaped(tmp_path: Path, signed: bool) -> None:
    save_page(explanation(signed), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = Tags(text)
    assert not {"img", "script", "link", "iframe", "object"} & set(found.tags)
    assert found.tags.count("style") == found.tags.count("title") == 1
    outside = [link for link in found.links if not link.startswith("#")]
    assert len(outside) == 1 and outside[0].startswith("https://www.neuronpedia.org/<img")
    assert "url(" not in text and "@import" not in text
    assert "{{ 7 * 7 }}" in "".join(found.text) and "⏎" in text


def test_a_row_adds_up_and_every_feature_of_the_map_has_a_card() -> None:
    found = explanation(features=70)
    text = page(found)
    anchors = set(re.findall(r'id="(f\d+)"', text))
    mapped = re.findall(r'<th scope="col" class="feature"><a href="#(f\d+)">', text)
    assert len(mapped) == 60 and set(mapped) <= anchors and len(anchors) == 70
    assert mapped[0] == "f69", "the largest share first"
    assert "10 with smaller shares are not shown" in text
    assert text.count('class="up"') == 60 * len(found.domains)
    strengths = [float(v) for v in re.findall(r"--v:([\d.]+)", text)]
    assert max(strengths) == 1 and all(0 <= v <= 1 for v in strengths)


def test_parts_below_zero_have_their_own_colour() -> None:
    text = page(explanation(signed=True))
    assert text.count('class="down"') == text.count('class="up"') > 0 and "red where it lowers" in text


def test_a_predictor_without_features_has_no_map() -> None:
    whole = explanation()
    domains = {name: d.model_copy(update={"parts": ()}) for name, d in whole.domains.items()}
    text = page(whole.model_copy(update={"features": (), "domains": domains, "shared": None}))
    assert 'id="map"' not in text and 'id="features"' not in text and 'id="domains"' in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    if CHROMIUM is None:
        pytest.skip("no chromium: apt-get install chromium, or set STS_CHROMIUM")
    with playwright.sync_playwright() as running:
        # No sandbox: containers run tests as root. The pages are ours.
        launched = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    save_page(explanation(signed=True), tmp_path / "page.html")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(600_000)
    wrong: list[str] = []
    opened = context.new_page()
    opened.on("request", lambda r: wrong.append(r.url) if not r.url.startswith("file:") else None)
    opened.on("console", lambda m: wrong.append(m.text))
    opened.goto((tmp_path / "page.html").as_uri())
    opened.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    assert opened.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert opened.evaluate("window.hacked") is None and not wrong
    hues = "(c) => getComputedStyle(document.querySelector(c)).backgroundColor"
    up, down, plain = (opened.evaluate(hues, c) for c in ("td.up", "td.down", "article"))
    assert len({up, down, plain}) == 3
    assert opened.evaluate(_CONTRAST) >= 4.5
    opened.locator('a[href="#f69"]').first.click()
    assert opened.locator("#f69").is_visible() and opened.url.endswith("#f69")
    context.close()


_CONTRAST = """() => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((v) => v / 255).map((v) =>
      v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const of = (selector, behind) => {
    const a = luminance(getComputedStyle(document.querySelector(selector)).color);
    const b = luminance(getComputedStyle(document.querySelector(behind)).backgroundColor);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  return Math.min(of("p", "body"), of("small", "article"), of("mark", "mark"), of("nav a", "body"));
}"""
