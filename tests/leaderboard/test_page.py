"""The page in a real browser: Debian's chromium, driven by Playwright, without network."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.leaderboard_scale import SUBJECTS, outcome
from lm_eval_sts.leaderboard.publish import write_page
from lm_eval_sts.records import Scope, Scopes, load_record, save_record
from tests.leaderboard import boards

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
CHROMIUM = os.environ.get("STS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium: apt-get install chromium, or set STS_CHROMIUM", allow_module_level=True)

WIDE = {"width": 1400, "height": 900}
PAGES = ("index.html", "settings.html", "settings/toy/set-1.html", "predictors/good/1.html", "predictors/nasty/1.html")
RAW = "index.html?target=delta&values=raw"
SMALL = "index.html?over=scopes/small"
FORMULA = '=HYPERLINK("https://example.org")'
expect = playwright.expect
HANGS = 600_000
"""Milliseconds that no page takes, however busy the machine."""
expect.set_options(timeout=HANGS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    root = boards.write(folder / "root")
    twice = {name: {d: 2 * x for d, x in one.items()} for name, one in boards.noisy(0.05, 3).items()}
    save_record(boards.submission("twice", twice, outcomes=boards.outcomes()), root / "submissions/twice/1.json")
    _small_world(root)
    broken = root / "submissions/broken/1.json"
    broken.parent.mkdir()
    broken.write_text('{"predictor": "<img src=x onerror=window.hacked=1>"}')
    write_page(root, folder / "site")
    return folder / "site"


def _small_world(root: Path) -> None:
    """A scope of the synthetic world, listed before the others, and an SFT run for which nothing was submitted."""
    deltas = dict(zip(SUBJECTS, map(float, boards.TRUE[0]), strict=True))
    outcomes = {f"tiny/{name}": outcome(name, deltas, model="micro/model", sft=name, tasks="micro") for name in "ab"}
    unused = outcome("unused", deltas, model="org/model-c", sft="org/unused", tasks="quiz")
    for name, one in {**outcomes, "toy/unused": unused}.items():
        save_record(one, root / "settings" / f"{name}.json")
    for name, title in (("tiny", FORMULA), ("tiny-too", "Too")):
        scores = {key: {d: x * (i + len(name)) for i, (d, x) in enumerate(deltas.items())} for key in outcomes}
        made = boards.submission(name, scores, outcomes=outcomes, title=title)
        save_record(made, root / "submissions" / name / "1.json")
    scopes = load_record(Scopes, root / "scopes.json").scopes
    small = Scope(name="small", title="Small world", description="Two sets.", settings=("tiny/*",))
    save_record(Scopes(scopes=(small, *scopes)), root / "scopes.json")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        # No sandbox: containers run tests as root. The pages are ours.
        launched = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


class Opened:
    """Opens pages and notes whatever they must not do."""

    def __init__(self, browser: Any, site: Path) -> None:
        self.browser, self.site = browser, site
        self.wrong: list[str] = []
        self.contexts: list[Any] = []

    def __call__(self, path: str = "index.html", **options: Any) -> Any:
        context = self.browser.new_context(**({"viewport": WIDE} | options))
        context.set_default_timeout(HANGS)
        self.contexts.append(context)
        context.route(re.compile(r"^(?!file:|data:)"), self._refuse)
        page = context.new_page()
        page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("requestfailed", lambda request: self.wrong.append(f"failed: {request.url}"))
        page.goto(f"{self.site.as_uri()}/{path}")
        return page

    def _refuse(self, route: Any) -> None:
        self.wrong.append(f"request: {route.request.url}")
        route.abort()


@pytest.fixture
def opened(browser: Any, site: Path) -> Iterator[Opened]:
    found = Opened(browser, site)
    yield found
    for context in found.contexts:
        context.close()
    assert not found.wrong


def names(page: Any, table: str = "#table") -> list[str]:
    return page.locator(f"{table} tbody tr:not(.group) .name a").all_inner_texts()


def wait_for_rows(page: Any, table: str = "#table") -> None:
    page.locator(f"{table} tbody .name a").first.wait_for()


def overflow(page: Any) -> int:
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.mark.parametrize("path", PAGES)
def test_pages_open_without_errors_or_requests(opened: Opened, path: str) -> None:
    page = opened(path)
    wait_for_rows(page, "#settings" if path.startswith("predictors") else "#table")
    if path in ("index.html", "settings/toy/set-1.html"):
        page.locator(".chart svg").wait_for()
    assert "STS leaderboard" in page.title()


def test_every_link_within_the_site_leads_somewhere(opened: Opened, site: Path) -> None:
    page = opened()
    wait_for_rows(page)
    seen: set[str] = set()
    for path in ("index.html", "settings.html", "settings/toy/set-1.html", "predictors/good/1.html"):
        page.goto(f"{site.as_uri()}/{path}")
        wait_for_rows(page, "#settings" if path.startswith("predictors") else "#table")
        seen |= set(page.evaluate("[...document.querySelectorAll('a[href]')].map((a) => a.href)"))
    local = {url.partition("#")[0] for url in seen if url.startswith("file:")}
    assert len(local) > 15
    assert not [url for url in local if not Path(url.removeprefix("file://").partition("?")[0]).is_file()]
    outside = {url for url in seen if not url.startswith("file:")}
    assert outside and all(url.startswith(("https://example.org/", "https://arxiv.org/")) for url in outside)


def shown_values(body: Any) -> list[float]:
    return [float(text.replace("−", "-")) for text in body.locator("td:nth-child(3) b").all_inner_texts()]


def test_sorting(opened: Opened) -> None:
    page = opened(RAW)
    wait_for_rows(page)
    titles = page.locator("#table tr.group").all_inner_texts()
    assert "Leading" in titles
    leading = page.locator("#table tbody", has=page.locator("tr.group", has_text="Leading"))
    assert leading.locator("tr.leading").count() == leading.locator("tr:not(.group)").count() > 0
    assert page.locator("#table tr.leading").count() == leading.locator("tr.leading").count()
    rest = page.locator("#table tbody", has=page.locator("tr.group", has_text="Ruled out"))
    assert rest.locator("tr.leading, tr.possible").count() == 0
    shown = shown_values(rest)
    assert shown == sorted(shown, reverse=True) and len(shown) > 1
    heading = page.locator("#table thead th", has_text="Correlation")
    assert heading.get_attribute("aria-sort") == "descending"
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert shown_values(rest) == sorted(shown)
    page.locator("#table thead th", has_text="Predictor").locator("button").click()
    first = rest.locator(".name a").all_inner_texts()
    assert first == sorted(first)
    assert heading.get_attribute("aria-sort") is None


def test_missing_values_stay_last(opened: Opened) -> None:
    page = opened(RAW)
    wait_for_rows(page)
    button = page.locator("#table thead th", has_text="Tokens").locator("button")
    for _ in range(2):
        button.click()
        body = page.locator("#table tbody", has=page.locator("a", has_text="poor/1"))
        assert body.locator(".name a").all_inner_texts()[-1] == "poor/1"


def test_filtering(opened: Opened) -> None:
    page = opened(RAW)
    wait_for_rows(page)
    everything = names(page)
    assert len(everything) == 13  # one of them both partial and fitted
    page.locator("#filters summary").click()
    page.select_option("#category", "null")
    assert names(page) == ["null_constant/1"]
    assert "rows are hidden by filters; places count all" in page.locator("#verdict").inner_text()
    page.select_option("#category", "")
    page.fill("#search", "GOOD")
    assert sorted(names(page)) == ["good-too/1", "good/1"]
    page.fill("#search", "benchmark")  # in everybody's submitter, in nobody's name
    assert names(page) == []
    page.fill("#search", "")
    page.select_option("#declares", "magnitude")
    assert sorted(names(page)) == ["null_constant/1", "sizes/1"]
    assert page.locator("#table .mark", has_text="≠").count() == 2
    page.locator("[data-switch=target] button", has_text="size").click()
    expect(page.locator("#table .mark", has_text="≠")).to_have_count(0)


def test_the_first_view_is_of_real_models(opened: Opened) -> None:
    page = opened()
    expect(page.locator("#scope")).to_have_text("Toy settings")
    expect(page.locator("#world .badge")).to_have_text("real")
    groups = page.locator("#slice optgroup").evaluate_all("(found) => found.map((group) => group.label)")
    assert groups[0].startswith("real") and groups[-1].startswith("synthetic")
    page.select_option("#slice", label="Small world")
    expect(page.locator("#world .badge")).to_have_text("synthetic")
    assert "does not say how well they do on real models" in page.locator("#world").inner_text()


def test_what_has_no_entries_is_not_offered(opened: Opened) -> None:
    page = opened()
    wait_for_rows(page)
    offered = page.locator("#slice option").all_inner_texts()
    assert "toy/set-1" in offered and "toy/unused" not in offered and "quiz, org/model-c" not in offered
    page.locator("#filters summary").click()
    assert "quiz, org/model-c" in page.locator("#filters .note").inner_text()


def test_choosing_what_is_ranked_over(opened: Opened) -> None:
    page = opened()
    wait_for_rows(page)
    page.locator("#filters summary").click()
    page.select_option("#benchmark", "quiz")
    expect(page.locator("#table .name a")).to_have_text(["middling/1"])
    assert page.locator("#slice option").all_inner_texts() == ["quiz, org/model-b", "toy/other"]
    assert page.locator("[data-switch=values] button", has_text="double-centred").is_disabled()
    assert "Raw values: with one SFT run" in page.locator("#fallback").inner_text()
    page.select_option("#sft", "org/set-1")
    expect(page.locator("#scope")).to_have_text("No SFT run fits these filters")
    page.select_option("#benchmark", "")
    expect(page.locator("#scope")).to_have_text("toy/set-1")
    assert len(names(page)) == 12
    assert "fitted/1" in page.locator("#table tbody", has_text="Fitted on these SFT runs").inner_text()
    page.reload()
    expect(page.locator("#scope")).to_have_text("toy/set-1")
    page.select_option("#sft", "")
    page.select_option("#slice", label="Toy settings")
    expect(page.locator("[data-switch=values] button", has_text="double-centred")).to_have_attribute(
        "aria-pressed", "true"
    )


def test_the_address_holds_what_is_shown(opened: Opened) -> None:
    """Scope, sort, search and the rest can be shared, and the back button takes a choice back."""
    page = opened()
    wait_for_rows(page)
    assert "?" not in page.url
    page.select_option("#slice", label="toy/set-1")
    expect(page.locator("#scope")).to_have_text("toy/set-1")
    page.locator("#table thead th", has_text="Predictor").locator("button").click()
    page.locator("[data-switch=target] button", has_text="signed").click()
    page.fill("#search", "oo")
    shared = page.url
    kept = ["good-too/1", "good/1", "poor/1"]
    other = opened(shared.rpartition("/")[2])
    expect(other.locator("#table .name a")).to_have_text(kept)
    assert other.locator("#search").input_value() == "oo"
    assert other.locator("#table thead th", has_text="Predictor").get_attribute("aria-sort") == "ascending"
    assert other.locator("[data-switch=target] button", has_text="signed").get_attribute("aria-pressed") == "true"
    page.go_back()
    assert page.locator("[data-switch=target] button", has_text="size").get_attribute("aria-pressed") == "true"
    page.go_back()
    assert page.locator("#table thead th", has_text="Correlation").get_attribute("aria-sort") == "descending"
    page.go_back()
    expect(page.locator("#scope")).to_have_text("Toy settings")
    page.go_forward()
    expect(page.locator("#scope")).to_have_text("toy/set-1")


def test_an_address_that_names_what_is_not_here_says_so(opened: Opened) -> None:
    page = opened("index.html?over=scopes/gone")
    wait_for_rows(page)
    assert "scopes/gone" in page.locator("#notice").inner_text()
    page.select_option("#slice", label="toy/set-1")
    expect(page.locator("#notice")).to_be_hidden()


def test_both_kinds_of_values(opened: Opened) -> None:
    """Double-centred first, as in README's table; the other kind stands beside it."""
    page = opened("index.html?target=delta")
    wait_for_rows(page)
    row = page.locator("#table tr", has=page.locator("a", has_text="good/1")).first
    expect(page.locator("#table thead")).to_contain_text("Raw")
    centred, raw = row.locator("td b").inner_text(), row.locator("td:nth-child(5)").inner_text()
    constant = page.locator("#table tr", has=page.locator("a", has_text="null_constant/1"))
    expect(constant).to_contain_text("undefined: the same scores in all settings")
    page.locator("[data-switch=values] button", has_text="raw").click()
    expect(page.locator("#table thead")).to_contain_text("Double-centred")
    row = page.locator("#table tr", has=page.locator("a", has_text="good/1")).first
    assert (row.locator("td:nth-child(5)").inner_text(), row.locator("td b").inner_text()) == (centred, raw)


def test_columns_that_tell_nothing_wait_behind_a_switch(opened: Opened) -> None:
    page = opened(RAW)
    wait_for_rows(page)
    heads = page.locator("#table thead th:visible")
    assert not [text for text in heads.all_inner_texts() if "Domains" in text]
    assert "Domains 14" in page.locator("#constant").inner_text()
    page.check("#columns")
    assert [text for text in heads.all_inner_texts() if "Domains" in text]
    expect(page.locator("#constant")).to_have_text("")
    page.reload()
    assert page.locator("#columns").is_checked()


def test_a_line_of_description_under_each_name(opened: Opened) -> None:
    page = opened(RAW)
    wait_for_rows(page)
    lines = page.locator("#table .name small")
    assert lines.count() == len(names(page)) and all(lines.all_inner_texts())
    box = lines.first.bounding_box()
    assert box["height"] < 26
    paper = page.locator("#table tr", has=page.locator("a", has_text="paper/1"))
    assert "8 domains, selected" in paper.inner_text()


def test_csv_of_what_is_shown(opened: Opened) -> None:
    page = opened(RAW + "&search=good")
    wait_for_rows(page)
    with page.expect_download() as waiting:
        page.click("#csv")
    assert waiting.value.suggested_filename == "sts-leaderboard-scopes-toys.csv"
    found = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_bytes().decode(), newline="")))
    assert [row["predictor"] for row in found] == names(page)
    row = page.locator("#table tr", has=page.locator("a", has_text=re.compile("^good/1$")))
    first = next(each for each in found if each["predictor"] == "good/1")
    assert f"{float(first['correlation']):.2f}" == row.locator("td b").inner_text()
    assert (first["compared_with"], first["values"], first["world"]) == ("delta", "raw", "real")
    assert float(first["ci95_low"]) < float(first["correlation"]) < float(first["ci95_high"])


def test_no_cell_is_a_formula(opened: Opened) -> None:
    page = opened(SMALL)
    wait_for_rows(page)
    with page.expect_download() as waiting:
        page.click("#csv")
    found = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_bytes().decode(), newline="")))
    assert f"'{FORMULA}" in [row["title"] for row in found]
    assert not [cell for row in found for cell in row.values() if re.match(r"[=+@\t\r]|-\D", cell)]


def test_two_entries_side_by_side(opened: Opened) -> None:
    page = opened(RAW)
    wait_for_rows(page)
    page.select_option("#a", "poor/1")
    page.select_option("#b", "good/1")
    expect(page.locator("#pair .facing thead a")).to_have_text(["poor/1", "good/1"])
    expect(page.locator("#pair .verdict")).to_contain_text("of 5 SFT runs")
    rows = page.locator("#pair tbody tr", has=page.locator("a[href*='settings/toy']"))
    assert rows.count() == 5
    one, other, difference = (
        float(rows.first.locator(f"td:nth-child({i})").inner_text().replace("−", "-")) for i in (2, 3, 4)
    )
    assert difference == pytest.approx(one - other, abs=0.011)
    run = rows.first.locator("a").inner_text()
    shared = opened(page.url.rpartition("/")[2])
    expect(shared.locator("#pair .facing thead a")).to_have_text(["poor/1", "good/1"])
    shared.select_option("#slice", label="Small world")
    expect(shared.locator("#absent")).to_have_text("Not among the entries here: poor/1, good/1.")
    expect(shared.locator("#pair .facing thead a")).to_have_text(["tiny-too/1", "tiny/1"])
    single = opened(f"settings/{run}.html")
    single.locator("[data-switch=target] button", has_text="signed").click()
    row = single.locator("#table tr", has=single.locator("a", has_text="poor/1"))
    assert float(row.locator("td b").inner_text().replace("−", "-")) == one


@pytest.mark.parametrize("path", ["index.html", SMALL, RAW])
def test_the_table_is_on_a_phones_first_screen(opened: Opened, path: str) -> None:
    page = opened(path, viewport={"width": 390, "height": 844}, has_touch=True)
    wait_for_rows(page)
    box = page.locator("#table tbody tr:not(.group)").first.bounding_box()
    assert box["y"] + box["height"] <= 844


def test_where_to_go_from_here(opened: Opened) -> None:
    page = opened()
    assert page.locator("nav a[href='https://arxiv.org/abs/2603.02908']").count() == 1
    page.locator("nav a", has_text="Submit").click()
    expect(page.locator("#submit")).to_be_in_viewport()
    assert "in no git repository: commit and date are not known" in page.locator("#built").inner_text()


def test_frontier_hover_and_link(opened: Opened) -> None:
    page = opened(RAW)
    points = page.locator("#frontier .mark-symbol.role-mark path")
    points.first.wait_for()
    # All but: no cost (poor), one that is of other settings (middling), fitted on these settings; the unseen part of
    # that one is there.
    assert points.count() == 10
    assert page.locator("#uncosted").inner_text().endswith(": 2.")
    tip = page.locator("#vg-tooltip-element")
    nasty = page.locator("#frontier path[aria-label*='nasty/1']")
    nasty.hover()
    expect(tip).to_be_visible()
    assert "nasty/1" in tip.inner_text() and "<script>" in tip.inner_text()
    nasty.click()
    page.wait_for_url("**/predictors/nasty/1.html")


def test_points_of_the_frontier_are_labelled(opened: Opened) -> None:
    """The best first, and no name over another."""
    page = opened(RAW)
    page.locator("#frontier .mark-symbol.role-mark path").first.wait_for()
    labels = page.locator("#frontier .mark-text.role-mark text")
    boxes = labels.evaluate_all("""(all) => all.filter((label) => label.textContent.trim()).map((label) => {
      const box = label.getBoundingClientRect();
      return [label.textContent, box.left, box.right, box.top, box.bottom];
    })""")
    assert "oracle_noisy/1" in [box[0] for box in boxes] and len(boxes) >= 4
    for i, (_, left, right, top, bottom) in enumerate(boxes):
        for _, other_left, other_right, other_top, other_bottom in boxes[:i]:
            assert right < other_left or other_right < left or bottom < other_top + 2 or other_bottom < top + 2


def test_scatter(opened: Opened) -> None:
    page = opened("settings/toy/set-1.html")
    points = page.locator("#scatter .mark-symbol.role-mark path")
    expect(points).to_have_count(14)
    page.locator("[data-switch=target] button", has_text="signed").click()
    page.locator("#scatter path[aria-label*='domain: law']").hover()
    expect(page.locator("#vg-tooltip-element")).to_contain_text("±")
    page.select_option("#predictor", label="paper/1")
    expect(points).to_have_count(8)
    page.locator("details summary").click()
    assert page.locator("#points tbody tr").count() == 8


def test_a_setting_page_sorts_and_filters(opened: Opened) -> None:
    page = opened("settings/toy/set-1.html")
    wait_for_rows(page)
    assert page.locator("#table tbody", has_text="Fitted on this SFT run").locator("a").all_inner_texts() == [
        "fitted/1"
    ]
    page.select_option("#category", "published")
    assert names(page) == ["paper/1"]


def test_a_predictor_page_leads_to_the_board(opened: Opened) -> None:
    page = opened("predictors/good/1.html")
    wait_for_rows(page, "#scopes")
    page.locator("[data-switch=target] button", has_text="signed").click()
    page.locator("#scopes .name a").click()
    expect(page.locator("#scope")).to_have_text("Toy settings")
    assert page.locator("[data-switch=target] button", has_text="signed").get_attribute("aria-pressed") == "true"


def test_what_was_sealed_before_the_outcome_is_marked(opened: Opened) -> None:
    page = opened()
    wait_for_rows(page)
    marked = page.locator("#table tbody tr", has=page.locator("[title*='were sealed before the outcome']"))
    assert [row.split()[0] for row in marked.locator(".name").all_inner_texts()] == ["good-too/1"]
    page = opened("predictors/good-too/1.html")
    wait_for_rows(page, "#settings")
    assert page.locator("#settings tbody tr", has_text="sealed").count() == 5
    assert "5 SFT runs" in page.locator("main").inner_text()


@pytest.mark.parametrize("path", ["index.html", "predictors/nasty/1.html", "settings/toy/set-1.html"])
def test_markup_in_a_submission_is_text(opened: Opened, path: str) -> None:
    page = opened(path)
    wait_for_rows(page, "#settings" if path.startswith("predictors") else "#table")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert "<script>window.hacked=1</script>" in page.locator("main").inner_text()


def test_only_https_addresses_are_links(opened: Opened) -> None:
    page = opened("predictors/nasty/1.html")
    links = page.locator("main a[href^=https]")
    assert links.count() == 2
    assert set(links.evaluate_all("(found) => found.map((a) => a.rel)")) == {"nofollow noopener noreferrer"}
    assert page.locator("a[href^=javascript]").count() == 0


def test_problems_are_listed(opened: Opened) -> None:
    page = opened()
    assert "submissions/broken/1.json" in page.locator("#problems").inner_text()


def test_keyboard_alone(opened: Opened) -> None:
    page = opened()
    wait_for_rows(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached[-1]
        if reached[-1].startswith("Place"):
            break
    assert {"slice", "search"} <= set(reached)
    page.keyboard.press("Enter")
    assert page.locator("#table thead th", has_text="Place").get_attribute("aria-sort") == "ascending"
    assert page.locator("#table .scroll").get_attribute("tabindex") == "0"


def test_marks_stay_in_their_column(opened: Opened) -> None:
    page = opened(viewport={"width": 390, "height": 800}, has_touch=True)
    wait_for_rows(page)
    assert page.locator("#table .mark", has_text="same order as middling/1").count() == 1
    over = """(marks) => {
      const right = (element) => element.getBoundingClientRect().right;
      return marks.map((mark) => right(mark) - right(mark.closest('th')));
    }"""
    assert max(page.locator("#table .mark").evaluate_all(over)) <= 0


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_scrolls_down_only(opened: Opened, path: str) -> None:
    page = opened(path, viewport={"width": 375, "height": 700}, has_touch=True)
    wait_for_rows(page, "#settings" if path.startswith("predictors") else "#table")
    if path == "index.html":
        page.locator("#frontier svg").wait_for()
    assert overflow(page) <= 0
    inner = page.locator(".scroll").first
    assert inner.evaluate("(e) => e.scrollWidth > e.clientWidth")


def test_dark_and_light(opened: Opened) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    colours = light.evaluate(ground), dark.evaluate(ground)
    assert colours[0] != colours[1]
    dark.locator("#frontier svg").wait_for()
    before = dark.locator("#frontier svg text").first.get_attribute("fill")
    dark.locator("#theme").click()
    assert dark.evaluate(ground) == colours[0]
    expect(dark.locator("#frontier svg text").first).not_to_have_attribute("fill", before)
    dark.reload()
    assert dark.evaluate(ground) == colours[0]


def test_text_can_be_read_in_both(opened: Opened) -> None:
    contrast = """() => {
      const parts = (text) => { const c = document.createElement('canvas').getContext('2d');
        c.fillStyle = text; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3); };
      const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
      const style = getComputedStyle(document.documentElement);
      const of = (name) => light(parts(style.getPropertyValue(name).trim()));
      const ratio = (a, b) => (Math.max(of(a), of(b)) + .05) / (Math.min(of(a), of(b)) + .05);
      return ['--text', '--muted', '--accent', '--warn'].flatMap((front) =>
        ['--ground', '--raised', '--leading'].map((back) => ratio(front, back)));
    }"""
    for scheme in ("light", "dark"):
        assert min(opened(color_scheme=scheme).evaluate(contrast)) >= 4.5
