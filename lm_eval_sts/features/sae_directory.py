"""Which published SAE fits a model: a fixed rule over the directory that SAELens ships.

Whether two names mean the same model (hub ids, names in SAELens' directory, cache folders) serves for warnings and for
this look-up; nothing is computed from a name.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lm_eval_sts.errors import SaeError

if TYPE_CHECKING:
    from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup

_DEPTH = 0.75
"""Where in the model to read, as a part of its layers. The paper reads at 0.76 to 0.93 (layer 25 of 32, 31 of 42, 25 of
28); three quarters is where released SAEs are to be found for most models."""

_LEAST_WIDTH = 2.0**14

_OTHER_SITES = re.compile(r"^(transcoders?|clt|crosscoders?|mlp|att|attn|embedding|embed|mid|lx[am]|z|temporal)$")
_HOOK = re.compile(r"(?:blocks\.)?(\d+)?\.?hook_(resid_post|resid_pre)")
_LAYER = (re.compile(r"layers?[_.]?(\d+)"), re.compile(r"^l(\d+)r(?:_|$)"), re.compile(r"(?:^|\.)(\d+)\."))
_WIDTH = (
    (re.compile(r"2pow(\d+)"), lambda n: 2.0**n),
    (re.compile(r"(?:^|[^a-z0-9])w?(?:idth[_-])?(\d+)k(?:$|[^a-z0-9])"), lambda n: n * 1024.0),
    (re.compile(r"width[_-](\d+)m(?:$|[^a-z0-9])"), lambda n: n * 1024.0**2),
    # An expansion factor, over a nominal model width: it is compared with other factors only.
    (re.compile(r"(?:^|[^a-z0-9])(\d+)x(?:$|[^a-z0-9])"), lambda n: n * 4096.0),
    (re.compile(r"hook_resid_\w+_(\d{3,})"), float),
)
_L0 = re.compile(r"(?:^|[^a-z0-9])l0?[_-](\d+)(?:$|[^a-z0-9])")
_CACHE_FOLDER = re.compile(r"models--(?:[^/\\]+--)?([^/\\]+)")
# The short names of SAELens' directory and of its SAEs that are more than a hub id without its organisation.
_HUB_IDS = {
    "gpt2-small": "openai-community/gpt2",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "mistral-7b-instruct": "mistralai/Mistral-7B-Instruct-v0.1",
}
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


@dataclass(frozen=True)
class SaeChoice:
    """An SAE chosen for a model.

    Attributes:
        release: SAELens release.
        sae_id: id in it.
        layer: decoder block after which it reads, from 0.
        why: one sentence for the user: what was chosen, and by what rule.
    """

    release: str
    sae_id: str
    layer: int
    why: str


@dataclass(frozen=True)
class _Entry:
    release: str
    sae_id: str
    model: str
    name: ModelName
    layer: int
    is_post: bool
    width: float
    l0: float


def find_sae(model_name: str, n_layers: int, *, instruct: bool | None = None, layer: int | None = None) -> SaeChoice:
    """Chooses an SAE for a model from SAELens' directory, always the same one.

    Only SAEs of the residual stream after a block count (before a block, if there are no others); for an instruct model
    one trained on the instruct model if there is one, else one of the base model. Of these the one whose layer is
    nearest to the one asked for, else to three quarters of the depth (the later of two equally near), then the
    narrowest of at least ``2**14`` features (narrower ones are steps of a sweep, and the paper finds wider better),
    then the sparsest as far as stated, then the first by name.

    Args:
        model_name: what the model was loaded by: a hub id, an alias, a folder.
        n_layers: number of decoder blocks.
        instruct: whether it is an instruct model; None: as its name says.
        layer: decoder block, from 0, after which it should read; None: three quarters of the depth.

    Raises:
        SaeError: if the directory has none, the message lists near model names; or the model has no such layer.
    """
    if layer is not None and not 0 <= layer < n_layers:
        raise SaeError(f"layer {layer}: {model_name} has layers 0 to {n_layers - 1}: choose one of them")
    blocks = _DEPTH * n_layers if layer is None else layer + 1
    wanted = parse_model_name(model_name)
    is_instruct = wanted.tuning == "instruct" if instruct is None else instruct
    entries = [entry for entry in _entries() if entry.layer < n_layers]
    family = [entry for entry in entries if entry.name.family == wanted.family]
    own = [entry for entry in family if (entry.name.tuning == "instruct") == is_instruct]
    substitute = is_instruct and not own
    fitting = own or (family if substitute else [])
    if not fitting:
        raise SaeError(_no_match(model_name, wanted, entries))
    posts = [entry for entry in fitting if entry.is_post] or fitting
    best = min(
        posts,
        key=lambda entry: (
            abs(entry.layer + 1 - blocks),
            -entry.layer,
            entry.width < _LEAST_WIDTH,
            entry.width,
            entry.l0,
            entry.release,
            entry.sae_id,
        ),
    )
    note = ""
    if substitute:
        note = f", trained on the base model (no SAE of the instruct model {wanted.family} is known)"
    elif best.name.tuning != wanted.tuning and not same_model(best.model, model_name):
        note = f", trained on {best.model}"
    aim = "3/4 of the depth" if layer is None else f"layer {layer}"
    why = (
        f"SAE {best.release}/{best.sae_id}, found in SAELens' directory for {model_name}: residual stream "
        f"after layer {best.layer} of 0 to {n_layers - 1}, nearest to {aim}, the narrowest and "
        f"sparsest there{note}"
    )
    return SaeChoice(best.release, best.sae_id, best.layer, why)


@cache
def _entries() -> tuple[_Entry, ...]:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return tuple(
        entry
        for lookup in get_pretrained_saes_directory().values()
        for sae_id in lookup.saes_map
        if (entry := _read_entry(lookup, sae_id)) is not None
    )


def _read_entry(lookup: PretrainedSAELookup, sae_id: str) -> _Entry | None:
    """What the directory says about one SAE; None if it is not one of the residual stream."""
    # Checkpoints from the middle of a training run are not finished SAEs.
    if "_step_" in sae_id:
        return None
    words = {word for text in (lookup.release, lookup.repo_id, sae_id) for word in name_parts(text.replace("_", "-"))}
    hook = _HOOK.search(sae_id)
    if hook is None and ("hook_" in sae_id or any(_OTHER_SITES.match(word) for word in words)):
        return None
    if lookup.conversion_func == "temporal":  # encodes whole texts, not tokens
        return None
    layer = _first(_LAYER, sae_id)
    if layer is None:
        return None
    is_post = hook is None or hook[2] == "resid_post"
    index = int(layer) if is_post else int(layer) - 1  # before block i is after block i - 1
    if index < 0:
        return None
    texts = (sae_id, lookup.saes_map[sae_id], lookup.release, lookup.repo_id)
    stated = lookup.expected_l0.get(sae_id) or math.inf
    return _Entry(
        release=lookup.release,
        sae_id=sae_id,
        model=lookup.model,
        name=_model_of(lookup),
        layer=index,
        is_post=is_post,
        width=next((width for text in texts if (width := _width(text)) is not None), math.inf),
        l0=next((float(l0) for text in texts if (l0 := _first((_L0,), text.lower())) is not None), float(stated)),
    )


def _model_of(lookup: PretrainedSAELookup) -> ModelName:
    """The model of a release. Base or instruct is taken from the repository's and the release's names.

    The directory's field is not reliable there: it gives gemma-2-9b for gemma-scope-9b-it-res.
    """
    stated = parse_model_name(lookup.model)
    tunings = [tuning_of(lookup.repo_id), tuning_of(lookup.release.replace("_", "-")), stated.tuning]
    tuning = "instruct" if "instruct" in tunings else stated.tuning
    return ModelName(stated.family, tuning)


def _first(patterns: Iterable[re.Pattern[str]], text: str) -> str | None:
    matches = (pattern.search(text) for pattern in patterns)
    return next((match[1] for match in matches if match), None)


def _width(text: str) -> float | None:
    for pattern, value in _WIDTH:
        match = pattern.search(text.lower())
        if match:
            return value(int(match[1]))
    return None


def _no_match(model_name: str, wanted: ModelName, entries: list[_Entry]) -> str:
    names = {str(entry.name) for entry in entries}
    near = difflib.get_close_matches(str(wanted), names, n=4, cutoff=0.5)
    listed = f"near: {', '.join(near)}" if near else f"it has {', '.join(sorted(names)[:6])}, ..."
    return (
        f"SAELens' directory has no residual-stream SAE for {model_name} ({listed}): pass one with "
        '--metadata \'{"sts": {"sae": "release/sae_id"}}\' (or a local folder), or train one with SAELens'
    )


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
        name: a hub id, a name in SAELens' directory, a local folder or a folder of the hub cache.
    """
    folder = _CACHE_FOLDER.search(name)
    short = folder[1] if folder else name.rstrip("/\\")
    hub_id = _HUB_IDS.get(short.lower(), short)
    parts = name_parts(hub_id.replace("\\", "/").rpartition("/")[2])
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
