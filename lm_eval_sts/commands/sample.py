"""The command ``lm-eval-sts sample``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lm_eval_sts.errors import SettingsError, choices

if TYPE_CHECKING:
    from lm_eval_sts.records import Sampling
    from lm_eval_sts.sampling.sample import Sampled

_WAYS = ("verified", "sampled")


def sample(
    prompts: Annotated[str, typer.Argument(help="Hub id, file or folder of prompts; responses are not read.")],
    model: Annotated[str, typer.Option("--model", help="Who answers: hub id, folder, or micro/model.")],
    output: Annotated[
        Path, typer.Option("--output", help="File ….jsonl for the SFT set; its manifest goes beside it.")
    ],
    answers: Annotated[
        str, typer.Option("--answers", help="verified: those that --verifier takes for right; sampled: any.")
    ] = "verified",
    verifier: Annotated[
        str | None,
        typer.Option("--verifier", help="exact, numeric, math, choice, or module:function of your own."),
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", help="Column of the right answers, where it is not recognised.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="Regular expression that finds the answer in what is written.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Answers drawn for each prompt.")] = 8,
    keep: Annotated[int, typer.Option("--keep", help="Most answers of a prompt that become responses.")] = 1,
    temperature: Annotated[float, typer.Option("--temperature")] = 1.0,
    top_p: Annotated[float, typer.Option("--top_p")] = 1.0,
    max_tokens: Annotated[int, typer.Option("--max_tokens", help="Most tokens of an answer.")] = 256,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="Text at which an answer ends; again for each.")
    ] = None,
    max_prompts: Annotated[
        int | None, typer.Option("--max_prompts", help="Most prompts that are answered, drawn by the seed; else all.")
    ] = None,
    model_args: Annotated[
        str, typer.Option("--model_args", help="lm-eval's model arguments: dtype=bfloat16,peft=…,revision=…")
    ] = "",
    batch_size: Annotated[str, typer.Option("--batch_size", help="Answers drawn at once, a number or auto.")] = "32",
    device: Annotated[str | None, typer.Option("--device", help="For instance cuda:0 or cpu.")] = None,
    apply_chat_template: Annotated[bool, typer.Option("--apply_chat_template", help="Put prompts as a chat.")] = False,
    system_instruction: Annotated[str | None, typer.Option("--system_instruction")] = None,
    response_delimiter: Annotated[
        str | None,
        typer.Option("--response_delimiter", help="Between prompt and answer without a chat template; else a break."),
    ] = None,
    example_delimiter: Annotated[
        str, typer.Option("--example_delimiter", help="Ends an answer without a chat template.")
    ] = "\\n\\n",
    prompts_name: Annotated[str | None, typer.Option("--name", help="Configuration of the prompts on the hub.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Their split; train if not given.")] = None,
    revision: Annotated[str | None, typer.Option("--prompts_revision", help="Their hub revision.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the answers.")] = 1234,
    profiles_dir: Annotated[
        str | None, typer.Option("--profiles_dir", help="Where answers are kept, which are not drawn again.")
    ] = None,
    show: Annotated[int, typer.Option("--show", help="Responses to look at.")] = 3,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at --output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: the manifest, and nothing else.")] = False,
) -> None:
    """Answer prompts by a model, keep what a verifier takes for right, and write that as an SFT set.

    For rejection sampling, self-training, and reinforcement learning, whose SFT set has prompts only.
    """
    from lm_eval_sts.api import load_prompts
    from lm_eval_sts.api import sample as sampled_by
    from lm_eval_sts.commands.finetune import read_delimiter, unescaped
    from lm_eval_sts.commands.measure import read_batch_size
    from lm_eval_sts.harness.model import LmEvalModel
    from lm_eval_sts.outcomes.lm_eval_options import parse_args
    from lm_eval_sts.outcomes.model_loading import check_loadable, choose_device, load_model
    from lm_eval_sts.outcomes.outcome_files import check_writable
    from lm_eval_sts.records import SAMPLING_SUFFIX, dump_record
    from lm_eval_sts.sampling.verifiers import get_verifier
    from lm_eval_sts.sampling.writing import write_sampled
    from lm_eval_sts.sft_files import check_output
    from lm_eval_sts.shipped import resolve

    if answers not in _WAYS:
        raise SettingsError(f"--answers {answers}: {choices(answers, _WAYS)}")
    if answers == "verified" and verifier is None:
        raise SettingsError("give --verifier (exact, numeric, math, choice, module:function), or --answers sampled")
    rows = read_batch_size(batch_size)
    check_output(output, SAMPLING_SUFFIX, overwrite=overwrite)
    check_writable(output.parent)
    if verifier is not None:
        get_verifier(verifier, pattern)
    loaded = load_prompts(prompts, answer=answer, config=prompts_name, split=split, revision=revision)
    args = parse_args(f"pretrained={resolve(model)}" + (f",{model_args}" if model_args else ""))
    check_loadable(args, apply_chat_template)
    lm = load_model(args, rows, choose_device(device), share_prefix=False)
    found = sampled_by(
        LmEvalModel(lm),
        loaded,
        answers=answers,
        apply_chat_template=apply_chat_template,
        system_instruction=system_instruction,
        sft_response_delimiter=read_delimiter(response_delimiter, model),
        sft_example_delimiter=unescaped(example_delimiter),
        profiles_dir=profiles_dir,
        seed=seed,
        verifier=verifier,
        pattern=pattern,
        answer=answer,
        max_prompts=max_prompts,
        samples=samples,
        keep=keep,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        stop=[unescaped(text) for text in stop or ()],
    )
    record = write_sampled(found, output, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(dump_record(record), indent=2, ensure_ascii=False))
    else:
        _show(found, record, output, show)


def _show(found: Sampled, record: Sampling, output: Path, n: int) -> None:
    from lm_eval_sts.commands.terminal import PlainConsole
    from lm_eval_sts.sampling.sample import said

    console = PlainConsole()
    for example in found.sft_set.examples[:n]:
        console.print(f"{example.prompt}\n    → {example.response}\n", markup=False, soft_wrap=True)
    for line in said(record):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"SFT set: {output}", soft_wrap=True)
