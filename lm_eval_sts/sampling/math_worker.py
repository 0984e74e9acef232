"""Compares mathematical answers with math-verify, in a process that may be killed; nothing else is done in it.

Not every comparison ends, and Python stops none that is inside a computation with large integers. math-verify's own
limit is an alarm signal, which is to be had in the main thread only, takes the alarm of whoever set one before, and
does not reach such a computation either.

Reads JSON lists of texts, one a line: [answer] asks whether it can be read, [answer, response] whether they are equal.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from functools import lru_cache
from typing import Any, Final

_DELIMITERS: Final = ("$", "\\(", "\\[", "\\boxed")


def to_read(text: str) -> str:
    """What is read of a text: its last line, where that follows ``####``; one line without delimiters is a formula."""
    last = text.rpartition("####")[2].strip()
    text = text.strip() if "\n" in last else last
    delimited = any(delimiter in text.replace("\\$", "") for delimiter in _DELIMITERS)
    return text if delimited or "\n" in text else f"${text}$"


def main() -> None:
    """Answers the questions of the standard input, each within the seconds of the first argument; ends with it."""
    seconds = float(sys.argv[1])
    out, sys.stdout = sys.stdout, sys.stderr  # antlr prints there
    logging.disable()
    try:
        from math_verify import parse, verify
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), file=out, flush=True)
        return

    @lru_cache(maxsize=256)
    def parsed(answer: str) -> Any:
        return parse(to_read(answer), parsing_timeout=None)

    print("true", file=out, flush=True)
    for line in sys.stdin:
        answer, *responses = json.loads(line)
        _limit(seconds)
        equal = bool(parsed(answer)) and all(
            verify(parsed(answer), parse(to_read(response), parsing_timeout=None), timeout_seconds=None)
            for response in responses
        )
        _limit(0)
        print(json.dumps(equal), file=out, flush=True)


def _limit(seconds: float) -> None:
    """Lets the system end this process after so much of the processor's time; what waits for it ends it elsewhere."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
