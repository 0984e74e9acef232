"""Whether two names mean the same model: hub ids, TransformerLens aliases, cache folders.

Used for warnings and for look-ups in SAELens' directory; nothing is computed from a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_CACHE_FOLDER = re.compile(r"models--(?:[^/\\]+--)?([^/\\]+)")
_INSTRUCT = ("it", "instruct", "chat")
_BASE = ("pt", "base")


@dataclass(frozen=True)
class ModelName:
    """A model's name in parts.

    Attributes:
        family: lower-case name without organisation and without ``-it``, ``-Instruct``, ``-pt``, ``-Base``.
        tuning: ``instruct`` or ``base`` as far as the name says; "" where it says neither.
    """

    family: str
    tuning: str

    def __str__(self) -> str:
        """The short name."""
        return f"{self.family} ({self.tuning})" if self.tuning else self.family


@cache
def _aliases() -> dict[str, str]:
    from transformer_lens.supported_models import MODEL_ALIASES

    return {alias.lower(): official for official, aliases in MODEL_ALIASES.items() for alias in aliases}


def name_parts(text: str) -> list[str]:
    """Lower-case words and numbers of a name: ``gemma-scope-9b-it`` to ``gemma, scope, 9b, it``."""
    return [part for part in re.split(r"[^a-z0-9.]+", text.lower()) if part]


def tuning_of(text: str) -> str:
    """``instruct`` or ``base`` if a part of a name says so, else ""."""
    parts = name_parts(text)
    if any(part in _INSTRUCT for part in parts):
        return "instruct"
    return "base" if any(part in _BASE for part in parts) else ""


def parse_model_name(name: str) -> ModelName:
    """Takes a model's name apart.

    Args:
        name: a hub id, a TransformerLens alias, a local folder or a folder of the hub cache.
    """
    folder = _CACHE_FOLDER.search(name)
    short = folder[1] if folder else name.rstrip("/\\")
    official = _aliases().get(short.lower(), short)
    parts = name_parts(official.replace("\\", "/").rpartition("/")[2])
    # Llama 3 is published both as Meta-Llama-3-8B and as Llama-3.1-8B.
    if parts[:2] == ["meta", "llama"]:
        parts = parts[1:]
    family = [part for part in parts if part not in (*_INSTRUCT, *_BASE, "hf")]
    return ModelName("-".join(family), tuning_of("-".join(parts)))


def same_model(one: str, other: str) -> bool:
    """Whether two names can mean the same model: ``gemma-2-9b-it`` and ``google/gemma-2-9b-it``."""
    first, second = parse_model_name(one), parse_model_name(other)
    # Gemma calls its base models both gemma-3-270m and gemma-3-4b-pt; Qwen3-8B is not Qwen3-8B-Base.
    spelled_base = {tuning_of(one), tuning_of(other)} == {"", "base"}
    says_pt = "pt" in name_parts(one) + name_parts(other)
    return first.family == second.family and (first.tuning == second.tuning or (spelled_base and says_pt))
