"""From what a run kept back to its evidence, without the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lm_eval_sts.errors import ProfileError, SettingsError
from lm_eval_sts.evidence.domain import SFT
from lm_eval_sts.evidence.evidence import About, AnswerGradients, Array, Evidence, Profiles, Texts
from lm_eval_sts.evidence.kept import load_sets
from lm_eval_sts.evidence.profiles import PROFILES
from lm_eval_sts.evidence.reading import Rows
from lm_eval_sts.evidence.settings import ReadSettings
from lm_eval_sts.evidence.setup import named_sae
from lm_eval_sts.explanation.explain import explain, from_record
from lm_eval_sts.explanation.parts import SIGNED, adds_up
from lm_eval_sts.features.answer_gradients import Decoder
from lm_eval_sts.records import Explanation, KeptRun, Prediction, SaeRef

_TOLERANCE = 1e-9
"""Between a score as it was recorded and as the stored sums give it on another processor."""


def explain_run(
    prediction: Prediction,
    kept: KeptRun,
    profiles_dir: Path | None = None,
    beside: tuple[Prediction, KeptRun] | None = None,
) -> Explanation:
    """Explains a prediction of a finished run.

    Args:
        prediction: The prediction.
        kept: What its run left behind.
        profiles_dir: Where the profiles are; None: where the run put them.
        beside: The prediction of another run by the same predictor, for what the two SFT sets share.

    Raises:
        SettingsError: The predictor cannot be explained, or the two runs cannot be compared.
        ProfileError: What the run stored is gone, damaged, or gives other scores.
    """
    if not adds_up(prediction.predictor):
        if beside is not None:
            raise SettingsError(f"{prediction.predictor} selects no features that two SFT sets could share")
        return from_record(prediction, kept)
    other = None if beside is None else evidence_of(*beside, profiles_dir)
    found = explain(evidence_of(prediction, kept, profiles_dir), prediction.predictor, other)
    _check_scores(prediction, found)
    return found


def evidence_of(prediction: Prediction, kept: KeptRun, profiles_dir: Path | None = None) -> Evidence:
    """The evidence that a prediction of the STS family was made from.

    Raises:
        ProfileError: Something of it is gone, damaged, or of another version.
        SaeError: The SAE that signed STS needs cannot be loaded.
    """
    settings = dict(prediction.provenance.settings)
    if profiles_dir is not None:
        settings["profiles_dir"] = str(profiles_dir)
    root = ReadSettings(profiles_dir=settings.get("profiles_dir")).profiles_path
    if SFT not in kept.profiles or not set(prediction.domains) <= set(kept.profiles):
        raise ProfileError("this run did not note where it keeps its profiles: run the same lm_eval command again")
    domains = load_sets(root, kept.profiles, PROFILES)
    read: dict[str, Any] = {"profiles": Profiles(domains.pop(SFT), kept.demonstrations, domains)}
    if prediction.predictor in SIGNED:
        found = load_sets(root, kept.answer_gradients, Rows())
        plain, decoded = ({name: part[:, i] for name, part in found.items()} for i in (0, 1))
        read["answer_gradients"] = AnswerGradients(plain, decoded, _decode(prediction.sae))
    return Evidence(
        texts=Texts((), {name: () for name in domains}, {}),
        n_features=min(int(settings["n_features"]), next(iter(domains.values())).d_sae),
        seed=prediction.provenance.seed,
        read=read,
        about=About(
            prediction.setting, prediction.sae, prediction.provenance.model_copy(update={"settings": settings}), kept
        ),
    )


def _decode(sae: SaeRef | None) -> Callable[[npt.NDArray[np.int64]], Array]:
    assert sae is not None, "profiles are read with one"
    loaded = named_sae(sae.name, sae.hook_name)
    if loaded.content_hash != sae.weights_hash:
        raise ProfileError(f"SAE {sae.name} is not the one of this run any more (other weights): run lm_eval again")
    return Decoder(loaded).rows


def _check_scores(prediction: Prediction, found: Explanation) -> None:
    """Whether the stored sums give the recorded scores."""
    for name, domain in prediction.domains.items():
        again = found.domains[name].score if name in found.domains else float("nan")
        size = max(1e-300, *(abs(each.score) for each in prediction.domains.values()))
        if not abs(again - domain.score) <= _TOLERANCE * size:
            raise ProfileError(
                f"the stored profiles give {again:g} for {name}, the record says {domain.score:g}: they are not what "
                "this prediction was made from; run the same lm_eval command again"
            )
