"""Where public modules and names went: for one version, importing an old one says so."""

from __future__ import annotations

from typing import Final, NoReturn

_ROOMS: Final = {
    "agreement.descriptive": "agreement.influence agreement.sign",
    "agreement.differences": "agreement.williams",
    "agreement.panel": "agreement.double_centre agreement.over_settings",
    "agreement.reliability": "outcomes.split_half",
    "agreement.row": "harness.measured",
    "commands.demo": "harness.demo",
    "commands.terminal": "commands.spread commands.tables",
    "dataset_source": "tables",
    "evidence.answers": "harness.answers",
    "evidence.development": "harness.development",
    "evidence.domain": "harness.domains",
    "evidence.gradients": "evidence.answer_gradients harness.gradients harness.responses",
    "evidence.kinds": "harness.passes",
    "evidence.losses": "evidence.rehearsal harness.losses harness.rehearsal",
    "evidence.model": "evidence.tuned_models harness.tuned_models",
    "evidence.profiles": "harness.layers harness.profile_sets harness.profiling",
    "evidence.reading": "features.reading harness.progress harness.row_sets",
    "evidence.rendering": "harness.opening harness.rendering",
    "evidence.setup": "evidence.saes harness.saes",
    "evidence.store": "features.store",
    "evidence.trial_runs": "harness.probing",
    "evidence.tuned": "features.pair_reader harness.tuned",
    "features.answer_gradients": "features.decoder features.response",
    "features.block_parts": "features.hook_probe",
    "features.likelihood": "features.answers",
    "features.prefix_cache": "features.prefix_attention",
    "features.queries": "evidence.samples harness.samples",
    "features.sae_directory": "features.model_names",
    "finetuning.finetune": "outcomes.finetune",
    "finetuning.hardware": "outcomes.hardware",
    "finetuning.output_folder": "finetuning.claims outcomes.claims",
    "finetuning.recipes": "outcomes.recipes",
    "finetuning.trainer_setup": "outcomes.trainer_setup",
    "finetuning.training_checks": "outcomes.training_checks",
    "finetuning.training_data": "outcomes.training_data",
    "finetuning.tuned": "outcomes.tuned",
    "harness.command": "harness.log",
    "leaderboard.layout": "leaderboard.places",
    "leaderboard.registered": "leaderboard.settings",
    "outcomes.base_and_tuned": "outcomes.sides",
    "outcomes.lm_eval_options": "outcomes.conditions",
    "outcomes.lm_eval_results": "outcomes.result_files outcomes.run_results",
    "outcomes.runs": "outcomes.run_facts",
    "predictors.null": "predictors.development",
    "predictors.predict": "harness.report predictors.scoring",
    "predictors.preflight": "harness.preflight",
    "predictors.settings": "harness.settings",
    "predictors.statistics": "predictors.resampling predictors.similarity",
    "predictors.trial_runs": "predictors.probing",
    "shipped": "harness.shipped outcomes.shipped",
    "verdict.results": "harness.results",
}
_GENERATOR: Final = (
    "accuracy build corpus domains figures manifest packing questions sae sft_sets skills split sweep task_files "
    "tokenizer training world"
)

MODULES: Final = {
    **{old: f"lm_eval_sts.{new}" for new, olds in _ROOMS.items() for old in olds.split()},
    **{f"microworld.{name}": "the folder microworld/ of the repository" for name in _GENERATOR.split()},
    "commands.micro_sweep": "the folder microworld/ of the repository",
}
"""Old module, below this package, to where its content is."""

NAMES: Final = {
    **{
        f"predictors.base.{name}": f"lm_eval_sts.evidence.evidence.{name}"
        for name in ("Gradients", "Losses", "Profiles", "Question", "Texts")
    },
    "predictors.base.Responses": "lm_eval_sts.evidence.evidence.AnswerGradients",
    "predictors.base.Need": "a text: the name of a kind in lm_eval_sts.evidence.kinds",
}
"""Old name in a module that is still there to where it is."""


def check_module(name: str) -> None:
    """Raises ImportError for a module that went elsewhere; says where."""
    package, _, module = name.partition(".")
    if package == __package__ and module in MODULES:
        raise ImportError(f"{name} moved to {MODULES[module]}", name=name)


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
