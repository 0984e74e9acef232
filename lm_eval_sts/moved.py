"""Where public modules and names went: for one version, importing an old one says so."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

_GENERATOR: Final = "the folder microworld/ of the repository"

MODULES: Final = {
    **{
        f"outcomes.{name}": f"lm_eval_sts.finetuning.{name}"
        for name in (
            *(
                "claims",
                "finetune",
                "hardware",
                "recipes",
                "trainer_setup",
                "training_checks",
                "training_data",
                "tuned",
            ),
        )
    },
    "outcomes.split_half": "lm_eval_sts.agreement.split_half",
    "features.reading": "lm_eval_sts.evidence.reading",
    "features.store": "lm_eval_sts.evidence.store (ProfileFolder is its Store)",
    "harness.domains": "lm_eval_sts.evidence.domain",
    "harness.passes": "lm_eval_sts.evidence.kinds",
    "harness.probing": "lm_eval_sts.evidence.trial_runs",
    "harness.responses": "lm_eval_sts.evidence.answer_gradients",
    "harness.shipped": "lm_eval_sts.shipped",
    **{
        f"harness.{name}": f"lm_eval_sts.evidence.{name}"
        for name in (
            *("answers", "development", "gradients", "losses", "progress", "rehearsal", "rendering", "saes", "samples"),
            *("tuned", "tuned_models"),
        )
    },
    **{f"harness.{name}": "lm_eval_sts.evidence.profiles" for name in ("layers", "profile_sets", "profiling")},
    "predictors.probing": "lm_eval_sts.predictors.trial_runs",
    "predictors.scoring": "lm_eval_sts.predictors.predict",
    **{
        f"microworld.{name}": _GENERATOR
        for name in (
            *(
                "accuracy",
                "build",
                "corpus",
                "domains",
                "figures",
                "manifest",
                "packing",
                "questions",
                "sae",
                "sft_sets",
            ),
            *("skills", "sweep", "task_files", "tokenizer", "training", "world"),
        )
    },
}
"""Old module, below this package, to where its content is."""

NAMES: Final = {
    **{
        f"predictors.base.{name}": f"lm_eval_sts.evidence.evidence.{name}"
        for name in (*("Gradients", "Losses", "Profiles", "Question", "Texts"),)
    },
    "predictors.base.Responses": "lm_eval_sts.evidence.evidence.AnswerGradients",
    "predictors.base.Need": "a text: the name of a kind in lm_eval_sts.evidence.kinds",
}
"""Old name in a module that is still there to where it is."""


class _OldModules:
    """The last finder of modules: what it is asked for does not exist."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raises for a module that went elsewhere.

        Raises:
            ImportError: It did; says where.
        """
        package, _, module = name.partition(".")
        if package == __package__ and module in MODULES:
            raise ImportError(f"{name} moved to {MODULES[module]}", name=name)


def watch() -> None:
    """From here on, importing a module that went elsewhere says where; each folder that lost some calls this."""
    if _OldModules not in sys.meta_path:
        sys.meta_path.append(_OldModules)


def missing(module: str, name: str) -> NoReturn:
    """What a module's ``__getattr__`` does.

    Raises:
        ImportError: The name went elsewhere; says where.
        AttributeError: There never was such a name.
    """
    old = f"{module}.{name}"
    if (new := NAMES.get(old.partition(".")[2])) is not None:
        raise ImportError(f"{old} moved to {new}", name=module)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
