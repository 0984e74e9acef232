"""What the site has and docs/ has not: pages made of the code, and pages that stand elsewhere in the repository.

Links in Markdown are those that hold on GitHub. Here one to a page of the site leads there, one to any other file of
the repository to GitHub, and one to nothing fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from generated import api, commands  # noqa: E402

ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
GENERATED: dict[str, Callable[[], str]] = {"commands.md": commands, "api.md": api}
_SOURCES = {page: source for source, page in ELSEWHERE.items()}
_FENCE = re.compile(r"^\s*(```|~~~)")
_ROLE = re.compile(r":(?:attr|class|func|meth|mod):\s?(?=<code>)")
_ITEM = re.compile(r"(?:[-*]|1\.) ")
_LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are no files of docs/."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for page, make in GENERATED.items():
        files.append(File.generated(config, page, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links out of docs/ to the page or the file on GitHub that they mean."""
    here = page.file.src_uri
    source = _SOURCES.get(here, f"docs/{here}")
    if here not in GENERATED:
        page.edit_url = f"{config.repo_url}/edit/main/{source}"
    text = spaced(markdown)
    return with_links(text, source, here, f"{config.repo_url}/blob/main", lambda uri: uri in files.src_uris)


def on_page_content(html: str, **_: object) -> str:
    """Takes the roles out that docstrings have: they are Sphinx's."""
    return _ROLE.sub("", html)


def with_links(markdown: str, source: str, here: str, github: str, is_here: Callable[[str], bool]) -> str:
    """The text of ``source``, a path in the repository, with links for its place ``here`` on the site."""

    def led(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        uri = ELSEWHERE.get(path, path.removeprefix("docs/"))
        if (path in ELSEWHERE or path.startswith("docs/")) and is_here(uri):
            return match[1] + posixpath.relpath(uri, posixpath.dirname(here) or ".")
        return f"{match[1]}{github}/{path}" if (ROOT / path).exists() else match[0]

    return "\n".join(line if is_code else _LINK.sub(led, line) for line, is_code in _lines(markdown))


def spaced(markdown: str) -> str:
    """With blanks that GitHub does without: lines before lists and tables and around code, indents of code in lists."""
    lines: list[str] = []
    before, was_code, shift = "", False, ""
    for line, is_code in _lines(markdown):
        starts_list = _ITEM.match(line) and not _ITEM.match(before) and not before.startswith(" ")
        starts_table = line.startswith("|") and not before.startswith("|")
        if before.strip() and (is_code != was_code or (starts_list or starts_table) and not is_code):
            lines.append("")
        if is_code and not was_code:
            shift = " " if re.match(r" {3}\S", line) else ""
        lines.append(f"{shift}{line}" if is_code else line)
        before, was_code = line, is_code
    return "\n".join(lines)


def _lines(markdown: str) -> Iterator[tuple[str, bool]]:
    """Every line, and whether it is one of a block of code."""
    in_code = False
    for line in markdown.split("\n"):
        fence = bool(_FENCE.match(line))
        yield line, in_code or fence
        in_code ^= fence
