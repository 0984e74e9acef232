"""The blocks of code in the documentation, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)
_BLOCK = re.compile(r"(?:^ *<!-- (run|not run: [^>]+) -->\n)?^( *)```(\w*)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)
_OURS = re.compile(r"^(?:lm-eval-sts|lm_eval) ")
_NOT_HERE = re.compile(r"…|google/|meta-llama/|Qwen/|GAIR/|\bserve\b|git |\bstudy\b")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: path of its file in the repository.
        line: number of its first line.
        mark: ``run``, ``not run: why``, or "": what the comment above it says.
        language: what stands after the fence.
        text: its lines, without their indent.
    """

    page: str
    line: int
    mark: str
    language: str
    text: str

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its shell commands, each on one line, comments left out; none where it is something else."""
        if self.language not in {"", "sh", "bash"}:
            return []
        lines = re.sub(r"\\\n\s*", " ", self.text).replace("&&", "\n").split("\n")
        joined: list[str] = []
        for line in lines:  # a quoted argument may go over several lines
            if joined and joined[-1].count("'") % 2:
                joined[-1] += f" {line.strip()}"
            else:
                joined.append(line.strip())
        return [re.sub(r"\s+#\s.*$", "", line) for line in joined if line]

    @property
    def is_ours(self) -> bool:
        """Whether it has a command of this package or of lm-eval."""
        return any(_OURS.match(command) for command in self.commands)

    @property
    def can_run(self) -> bool:
        """Whether everything in it is at hand: no model of the hub, nothing to fill in, nothing that never ends."""
        commands = self.commands
        return self.is_ours and all(_OURS.match(command) and not _NOT_HERE.search(command) for command in commands)


def blocks(page: str) -> Iterator[Block]:
    """All blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        body = "".join(line.removeprefix(match[2]) for line in match[4].splitlines(keepends=True))
        line = text.count("\n", 0, match.start(4)) + 1
        yield Block(page, line, match[1] or "", match[3], body)


def words(command: str) -> list[str]:
    """The words of a command, redirections left out, and an x for what another command says."""
    return shlex.split(re.sub(r"\$\([^)]*\)", "x", re.sub(r"\s+>\s+\S+$", "", command)))
