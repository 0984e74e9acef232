"""The model card that fine-tuning leaves: valid for the hub, true to the manifest, and with code that runs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard

from lm_eval_sts.finetuning.card import CARD, write_card
from lm_eval_sts.finetuning.finetune import finetune
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.finetuning.tuned import read_tuned
from tests.finetuning.tuning import FULL, LORA, MODEL, pairs

KINDS = {"lora": LORA, "full": FULL}


@pytest.fixture(scope="module", params=KINDS)
def tuned(request, tmp_path_factory):
    output = tmp_path_factory.mktemp(request.param)
    sft_set = replace(pairs(), notes=("columns of the SFT set that are left out: <b>`x|y`</b>",))
    recipe = make_recipe(**{**KINDS[request.param], "max_steps": 2})
    finetune(MODEL, sft_set, output, recipe, 3, model_name="micro/model", response_delimiter=" ", save_steps=0)
    return request.param, output


def test_the_hub_reads_it(tuned):
    kind, output = tuned
    data = ModelCard.load(output / CARD).data.to_dict()
    assert data.pop("tags") == ["lm-eval-sts", "sft", "trl"] + ["lora"] * (kind == "lora")
    # Neither a licence nor a language is known, and nothing here is on the hub.
    assert data == {"library_name": {"lora": "peft", "full": "transformers"}[kind], "pipeline_tag": "text-generation"}


def test_it_says_what_the_manifest_says(tuned):
    _, output = tuned
    text, manifest = (output / CARD).read_text(), read_tuned(output)
    told = [manifest.base.name, manifest.sft_set.name, manifest.command, *manifest.versions.values()]
    told += [manifest.base.weights_hash[:16], manifest.sft_set.content_hash[:16], manifest.base.revision]
    told += [value for value in manifest.recipe.model_dump().values() if value is not None]
    assert not [value for value in told if f"`{value}`" not in text]
    assert "| columns | `prompt`, `response` |" in text and "| seed | 3 |" in text
    assert r"left out: \<b\>\`x\|y\`\</b\>" in text, "notes are no mark-up"
    assert all("trained in float32" in where for where in (text, " ".join(manifest.notes)))


def test_its_code_loads_the_model(tuned):
    _, output = tuned
    (code,) = re.findall(r"```python\n(.*?)```", (output / CARD).read_text(), re.DOTALL)
    found: dict = {}
    exec(code.replace("PATH_OF_THIS_FOLDER", str(output)), found)
    ids = found["tokenizer"]("Question: claims", return_tensors="pt")["input_ids"]
    assert torch.isfinite(found["model"](ids).logits).all()


def test_what_is_on_the_hub_is_linked_and_what_is_local_is_no_path(tuned, tmp_path):
    _, output = tuned
    manifest = read_tuned(output)

    def data_of(base: tuple[str, str], sft_set: tuple[str, str]) -> tuple[dict, str]:
        changed = manifest.model_copy(
            update={
                "base": manifest.base.model_copy(update=dict(zip(("name", "revision"), base, strict=True))),
                "sft_set": manifest.sft_set.model_copy(update=dict(zip(("name", "revision"), sft_set, strict=True))),
                "long_examples": "drop",
                "long_rows": (4, 7),
            }
        )
        write_card(changed, (), tmp_path)
        return ModelCard.load(tmp_path / CARD).data.to_dict(), (tmp_path / CARD).read_text()

    data, text = data_of(("google/gemma-2-9b-it", "1" * 40), ("GAIR/LIMO", "2" * 40))
    assert data["base_model"] == "google/gemma-2-9b-it" and data["datasets"] == "GAIR/LIMO"
    assert "1" * 40 in text and "rows that did not fit (drop): 4, 7" in text and "| columns | unknown |" in text
    data, text = data_of(("/home/me/models/mine", "unknown"), ("/home/me/data: {x}`\n---\n.jsonl", "unknown"))
    assert "base_model" not in data and "datasets" not in data and "/home/me" not in text
    data, text = data_of(("models/mine", "unknown"), ("data/set.jsonl", "unknown"))
    assert "base_model" not in data and "datasets" not in data and "# models/mine fine-tuned on data/set.jsonl" in text
