"""The Python API: what the command line and lm-eval's tasks do, as functions and objects.

``import lm_eval_sts as sts`` gives all of it, each name imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_sts.agreement.compare import Rules
from lm_eval_sts.agreement.compare import compare as _compare
from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import SettingsError
from lm_eval_sts.evidence.domain import Benchmark
from lm_eval_sts.evidence.evidence import Evidence, Question
from lm_eval_sts.evidence.model import Model
from lm_eval_sts.evidence.own import own_benchmark
from lm_eval_sts.evidence.read import read as _read
from lm_eval_sts.evidence.rendering import options_for
from lm_eval_sts.evidence.settings import ReadSettings, validated
from lm_eval_sts.evidence.setup import Setup
from lm_eval_sts.features.sae import LoadedSae
from lm_eval_sts.loading import expect, load_domains, load_prompts, load_sae, load_sft_set
from lm_eval_sts.predictors.predict import score
from lm_eval_sts.predictors.registry import DEFAULT_PREDICTORS, chosen, get_predictor
from lm_eval_sts.records import Agreement, Explanation, Outcome, Prediction
from lm_eval_sts.records.score_errors import score_errors
from lm_eval_sts.sampling.prompts import PromptSet
from lm_eval_sts.shipped import load_outcome

if TYPE_CHECKING:
    import pandas as pd

    from lm_eval_sts.mixing.mix import Mixed
    from lm_eval_sts.planning.plan import Plan
    from lm_eval_sts.sampling.sample import Sampled

__all__ = [
    "Comparison",
    "Evidence",
    "Explanation",
    "Model",
    "Outcome",
    "Prediction",
    "Question",
    "compare",
    "explain",
    "load_domains",
    "load_outcome",
    "load_prompts",
    "load_sae",
    "load_sft_set",
    "mix",
    "plan",
    "predict",
    "read",
    "sample",
    "score_errors",
]

_DEMONSTRATIONS = 5
_OF_LOADING = ("sft_answers", "sampling", "sft_columns", "sft_split", "sft_name", "sft_revision", "benchmark_path")


def sample(
    model: Model,
    prompts: PromptSet,
    *,
    answers: str = "verified",
    apply_chat_template: bool = False,
    system_instruction: str | None = None,
    sft_response_delimiter: str = "\n",
    sft_example_delimiter: str = "\n\n",
    profiles_dir: str | None = None,
    seed: int = 1234,
    **sampling: Any,
) -> Sampled:
    """Answers prompts by a model, and makes an SFT set of the answers.

    ``.sft_set`` of what is returned is the SFT set, ``.record`` says what was drawn, kept and left out, and
    :func:`lm_eval_sts.sampling.writing.write_sampled` writes both.

    Args:
        model: The model.
        prompts: From :func:`load_prompts`.
        answers: ``verified``: those that ``verifier`` takes for right; ``sampled``: any.
        apply_chat_template: Put prompts as conversations.
        system_instruction: System message.
        sft_response_delimiter: Between prompt and answer, without a chat template.
        sft_example_delimiter: Ends an answer, without a chat template.
        profiles_dir: Where answers are kept, which are not drawn again; None: the user's cache folder.
        seed: Of the draws.
        sampling: As of :class:`lm_eval_sts.evidence.settings.SamplingSettings`: ``verifier``, ``samples``,
            ``temperature``, ``max_tokens``, …

    Raises:
        StsError: The prompts cannot be answered, or no answer may be kept.
        TypeError: An argument is of another type.
    """
    from lm_eval_sts.harness.generating import generator
    from lm_eval_sts.sampling.sample import Asking
    from lm_eval_sts.sampling.sample import sample as _sample

    expect("model", model, Model, hint="wrap the model and its tokenizer: sts.Model(model, tokenizer)")
    expect("prompts", prompts, PromptSet, hint="load them: sts.load_prompts(…)")
    given = {
        "sft_set": prompts.name,
        "sft_answers": answers,
        "sampling": {"max_prompts": None, **sampling},
        "sft_response_delimiter": sft_response_delimiter,
        "sft_example_delimiter": sft_example_delimiter,
        "profiles_dir": profiles_dir,
    }
    asking = Asking(
        model,
        validated(ReadSettings, given, "the settings of sample()"),
        options_for(
            model.tokenizer,
            model.name,
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
        ),
        seed,
    )
    return _sample(asking, prompts, generator(model))


def read(
    model: Model,
    sae: LoadedSae | str | Path | None,
    sft_set: SftSet,
    domains: Benchmark | Mapping[str, Sequence[Question]],
    *,
    predictors: Sequence[str] = DEFAULT_PREDICTORS,
    apply_chat_template: bool = False,
    system_instruction: str | None = None,
    **settings: Any,
) -> Evidence:
    """Reads the frozen model once: everything that some predictors need; what is stored is not read again.

    Args:
        model: The model.
        sae: The SAE, its name or its folder; None: found by the model's name.
        sft_set: The SFT set.
        domains: A benchmark, or questions of your own by domain, the first five of which serve as worked examples
            (``domain_demos`` of them where given).
        predictors: Predictors that shall be able to score, or groups of them: ``default``, ``forward``, ``all``.
        apply_chat_template: Put prompts as conversations, worked examples as turns of their own.
        system_instruction: System message.
        settings: Further settings (docs/settings.md): ``sft_tokens``, ``domain_tokens``, ``demo_draws``, …; ``seed``
            is by default that of the benchmark's order of questions.

    Raises:
        StsError: Anything that can be put right; before any reading where it can be known before.
        TypeError: An argument is of another type.
    """
    expect("model", model, Model, hint="wrap the model and its tokenizer: sts.Model(model, tokenizer)")
    expect("sae", sae, LoadedSae, str, Path, type(None), hint="give its name, or load it: sts.load_sae(…)")
    expect("sft_set", sft_set, SftSet, hint="load it: sts.load_sft_set(…)")
    expect("domains", domains, Benchmark, Mapping, hint="load them: sts.load_domains(…), or give questions by domain")
    expect("system_instruction", system_instruction, str, type(None), hint="give a text")
    decided = {*_OF_LOADING, *(("hook_name", "layer") if isinstance(sae, LoadedSae) else ())}
    if isinstance(domains, Benchmark):
        decided.add("domain_demos")
    if unused := sorted(decided & set(settings)):
        raise SettingsError(f"read() does not use {', '.join(unused)}: set it where that is loaded")
    named = sae.id if isinstance(sae, LoadedSae) else sae and str(sae)
    options = validated(ReadSettings, {**settings, "sae": named, "sft_set": sft_set.name}, "the settings of read()")
    if not isinstance(domains, Benchmark):
        domains = own_benchmark(domains, options.domain_demos or _DEMONSTRATIONS)
    scorers = [get_predictor(name) for name in chosen(predictors)]
    for predictor in scorers:
        if (check := getattr(predictor, "check", None)) is not None:
            check(options)
    setup = Setup(
        model=model,
        settings=options,
        sft_set=sft_set,
        benchmark=domains.ref,
        options=options_for(
            model.tokenizer,
            model.name,
            apply_chat_template=apply_chat_template,
            system_instruction=system_instruction,
        ),
        seed=domains.seed if options.seed is None else options.seed,
        given_sae=sae if isinstance(sae, LoadedSae) else None,
    )
    needs = {need for predictor in scorers for need in predictor.needs}
    found = _read(setup, domains.domains, needs, sft_set.notes).evidence
    assert found is not None, "one process has all evidence"
    return found


def plan(model: str, sft_set: str | None = None, **options: Any) -> Plan:
    """What predicting, fine-tuning and measuring would cost: tokens, memory, time, and the commands; reads no weights.

    Args:
        model: Hub id, folder, or ``micro/model``.
        sft_set: Hub id, file, folder or shipped name; None: the benchmark's own default.
        options: As of :class:`lm_eval_sts.planning.make.Options`: ``task``, ``device``, ``gpus``, ``recipe``, …

    Raises:
        StsError: There is no such model, SAE, benchmark, recipe or device, or local data cannot be used.
    """
    from lm_eval_sts.planning.make import Options, make_plan

    return make_plan(model, sft_set, Options(**options))


def predict(evidence: Evidence, predictor: str) -> Prediction:
    """Scores every domain.

    Args:
        evidence: From :func:`read`.
        predictor: A predictor's name (``lm-eval-sts predictors`` lists them).

    Raises:
        SettingsError: There is no such predictor, it has no score for any domain, or what it needs was not read.
    """
    expect("evidence", evidence, Evidence, hint="read it: sts.read(…)")
    scored = score(evidence, [get_predictor(predictor)])
    if not scored.predictions:
        raise SettingsError(f"{predictor} has no score for any domain: {scored.left_out[predictor]}")
    return scored.predictions[0]


def explain(evidence: Evidence, predictor: str = "sts_icl", beside: Evidence | None = None) -> Explanation:
    """Says what a prediction rests on: each domain's score by feature, and where the features fire.

    Args:
        evidence: From :func:`read`.
        predictor: A predictor's name; of one whose score is no sum over features, only its questions.
        beside: From :func:`read` with another SFT set, for what the two share.

    Raises:
        SettingsError: There is no such predictor, it has no score for any domain, what it needs was not read, or
            ``beside`` cannot be compared.
        ProfileError: The texts that were read are no longer kept.
    """
    from lm_eval_sts.explanation.explain import explain as _explain

    for given in (evidence, *filter(None, [beside])):
        expect("evidence", given, Evidence, hint="read it: sts.read(…)")
    return _explain(evidence, predictor, beside)


def mix(
    prediction: Prediction,
    sft_set: SftSet,
    sources: Mapping[str, SftSet | str | Path | Iterable[Any]],
    *,
    budget: int,
    questions: Benchmark | Mapping[str, Sequence[Question]] | None = None,
    benchmark_path: str | Path | None = None,
    include_path: str | Path | None = None,
    **how: Any,
) -> Mixed:
    """Adds examples of the domains that are predicted to move to an SFT set.

    ``.record`` of what is returned says how many of each and why, ``.sft_set`` is the mixed set, and
    :func:`lm_eval_sts.mixing.writing.write_mixed` writes both.

    Args:
        prediction: For this SFT set; of a size, shares are in proportion to it, of a signed change to the loss.
        sft_set: The SFT set.
        sources: Examples by domain: SFT sets, or what :func:`load_sft_set` takes.
        budget: Examples to add.
        questions: The benchmark's questions, none of which is ever added; None: those of the prediction's benchmark.
        benchmark_path: A local copy of these.
        include_path: Folder of further tasks, where the benchmark is one of them.
        how: As of :class:`lm_eval_sts.mixing.mix.Mixing`: ``rule``, ``floor``, ``cap``, ``redistribute``,
            ``drop_questions``, ``seed``, …

    Raises:
        StsError: Sources or questions cannot be loaded, an example is a question, or shares cannot be made.
    """
    from lm_eval_sts.harness.questions import evaluation_questions, of_benchmark
    from lm_eval_sts.mixing.mix import Mixing
    from lm_eval_sts.mixing.mix import mix as _mix

    expect("prediction", prediction, Prediction, hint="give one that sts.predict(…) makes")
    expect("sft_set", sft_set, SftSet, hint="load it: sts.load_sft_set(…)")
    options = Mixing(budget, **how)
    loaded = {name: each if isinstance(each, SftSet) else load_sft_set(each) for name, each in sources.items()}
    if questions is None:
        texts = evaluation_questions(
            prediction.setting.benchmark,
            None if benchmark_path is None else str(benchmark_path),
            None if include_path is None else Path(include_path),
        )
    elif isinstance(questions, Benchmark):
        texts = of_benchmark(questions)
    else:
        texts = {f"{name}/{i}": (each.text,) for name, some in questions.items() for i, each in enumerate(some)}
    return _mix(prediction, sft_set, loaded, texts, options)


@dataclass(frozen=True)
class Comparison:
    """Predictions compared with outcomes.

    Attributes:
        agreement: The whole record.
    """

    agreement: Agreement

    def to_frame(self) -> pd.DataFrame:
        """One row for each predictor and outcome: Pearson's and Spearman's correlation with their 95% intervals."""
        return self.agreement.to_frame()

    def _repr_html_(self) -> str:
        """For notebooks."""
        return self.agreement._repr_html_()

    def plot(self, *scatter: str, panels: int = 6) -> Any:
        """An Altair chart: every predictor's correlation with its interval and place.

        Args:
            scatter: Predictors that shall be drawn against the changes instead, a panel an outcome.
            panels: How many panels at most.

        Raises:
            SettingsError: Altair is not installed, or a predictor was not compared.
        """
        from lm_eval_sts.agreement.figure import check_figure, make_chart

        check_figure(Path("figure.svg"), panels)
        return make_chart(self.agreement, scatter, panels)


def compare(predictions: Sequence[Prediction], outcomes: Sequence[Outcome], **rules: Any) -> Comparison:
    """Compares predictions with measured changes.

    Args:
        predictions: Of one or many predictors, for one or many settings.
        outcomes: The measured changes.
        rules: As of :class:`lm_eval_sts.agreement.compare.Rules`: ``target`` (by default the size of the change, unless
            all predictors declare the signed one), ``view``, ``domains``, ``interval``, …

    Raises:
        RecordError: A prediction has no outcome or no domain in common with it, or an outcome lacks the view.
    """
    for prediction in predictions:
        expect("a prediction", prediction, Prediction, hint="give a list of those that sts.predict(…) makes")
    for outcome in outcomes:
        expect("an outcome", outcome, Outcome, hint="give a list of those that sts.load_outcome(…) loads")
    return Comparison(_compare(predictions, outcomes, Rules(**rules)))
