"""Registers the measured outcomes of the first real model on the leaderboard, from the kit that holds them.

    python -m studies.real_outcomes KIT [--model FOLDER] [--check]

KIT holds ``outcomes`` (as they were measured, without SFT set and recipe) and ``sft``; what they lack is filled in: the
SFT set by content, and the recipe that the kit's README states. FOLDER is the model's: where it is given, its
two further hashes are added, once its weights are known to be those that were measured. Figures alone are written, no
texts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from lm_eval_sts.data import load_sft_set
from lm_eval_sts.errors import RecordError, StsError
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.records import UNKNOWN, ModelRef, Outcome, load_record
from lm_eval_sts.shipped import save_outcome

SETTINGS: Final = Path(__file__).parents[1] / "leaderboard" / "settings" / "qwen-coder"
RECIPE: Final = make_recipe(learning_rate=2e-4, max_steps=112, batch_size=16, warmup_ratio=0.05, max_length=700)
"""LoRA of rank 32, α 32, on all linear layers; 6 of 112 steps are warm-up."""
SOURCES: Final[Mapping[str, str]] = {
    "code_alpaca": "sahil280114/codealpaca",
    "codegen": "teknium1/GPTeacher, its code instructions",
    "competition_math": "competition problems with worked solutions",
    "counsel_chat": "nbertagnolli/counsel-chat",
    "gsm8k": "openai/grade-school-math",
    "medquad": "abachaa/MedQuAD",
    **{
        f"mmlu_{subject}": "right worked answers of public models in TIGER-AI-Lab/MMLU-Pro, to questions not asked here"
        for subject in ("biology", "business", "economics", "health")
    },
}
"""Where each SFT set's examples come from."""
CAVEATS: Final = (
    "trained by a plain loop, not by lm-eval-sts finetune: of the recipe, weight decay, betas and clipping are not "
    "told and stand as the package's defaults",
    "weights are those of the official Q4_K_M file, dequantised to bfloat16: the model as published has others",
    "prompts are plain: no chat template in training or measuring",
    "the base model's accuracy is .13 to .48 and chance about .10 (3 to 10 options): accuracy has little reliability "
    "within an SFT run (.08 to .63), the log-likelihood of the right letter among the options more (.68 to .91)",
    "licences of the SFT sets differ (MIT, Apache, CC BY, CC BY-NC, CC BY-NC-SA)",
)


def registered(kit: Path, name: str, model: ModelRef | None) -> Outcome:
    """One outcome of the kit with all that is known of it.

    Args:
        kit: The kit's folder.
        name: Of its file, and of the SFT set's.
        model: The model by all its hashes; None: as the outcome names it.

    Raises:
        StsError: The outcome or the SFT set cannot be read, or the model is another one.
    """
    measured = load_record(Outcome, kit / "outcomes" / f"{name}.json")
    sft_set = replace(load_sft_set(str(kit / "sft" / f"{name}.jsonl")), name=f"real/{name}")
    if model is not None and model.weights_hash != measured.model.weights_hash:
        raise RecordError(
            f"the model's weights are {model.weights_hash[:12]}, outcome {name} was measured on "
            f"{measured.model.weights_hash[:12]}: make its folder by the kit's prepare.py"
        )
    known = {} if model is None else model.model_dump(include={"tensors_hash", "config_hash"})
    return measured.model_copy(
        update={
            "name": name,
            "model": measured.model.model_copy(update=known),
            "sft_set": sft_set.reference,
            "recipe": RECIPE,
            "seeds": (0,),
            "source": f"lm-eval's tasks mcf before and after LoRA on real/{name} ({SOURCES[name]})",
            "caveats": (*measured.caveats, *CAVEATS),
        }
    )


def loaded_model(folder: Path) -> ModelRef:
    """A model's reference, with all its hashes."""
    import torch
    from transformers import AutoModelForCausalLM

    from lm_eval_sts.features.identity import model_ref

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return model_ref(model, folder.name, UNKNOWN)


def known_model(name: str) -> ModelRef | None:
    """The model as it is registered with an outcome; None where it is not."""
    path = SETTINGS / f"{name}.json"
    found = load_record(Outcome, path).model if path.is_file() else None
    return None if found is None or found.tensors_hash == UNKNOWN else found


def make(kit: Path, output: Path, model: ModelRef | None = None) -> list[Path]:
    """Writes every outcome of the kit; returns the files.

    Args:
        kit: The kit's folder.
        output: Where they are written.
        model: As of :func:`registered`; None: as it is registered already.

    Raises:
        StsError: As of :func:`registered`.
    """
    files = []
    for source in sorted((kit / "outcomes").glob("*.json")):
        files.append(output / source.name)
        save_outcome(registered(kit, source.stem, model or known_model(source.stem)), files[-1])
    return files


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    try:
        model = loaded_model(args.model) if args.model else None
        if not args.check:
            make(args.kit, SETTINGS, model)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            made = make(args.kit, Path(folder), model)
            stale = [path.name for path in made if path.read_bytes() != (SETTINGS / path.name).read_bytes()]
    except StsError as error:
        sys.exit(str(error))
    sys.stdout.write("".join(f"{name} is not what the kit gives\n" for name in stale))
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
