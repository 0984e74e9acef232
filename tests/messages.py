"""What a message to the user must be: of a class of ours, one line, naming what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lm_eval_sts.errors import StsError


@contextmanager
def says(kind: type[StsError], *parts: object) -> Iterator[pytest.ExceptionInfo[StsError]]:
    """Expects an error of the kind (not merely of a subclass) whose one-line message holds all the parts."""
    with pytest.raises(kind) as caught:
        yield caught
    text = str(caught.value)
    assert type(caught.value) is kind
    assert text == " ".join(text.split()) and text, f"not one line: {text!r}"
    for part in parts:
        assert str(part) in text, f"{str(part)!r} is not in {text!r}"
