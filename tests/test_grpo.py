"""The example of reinforcement learning that docs/rl.md shows: TRL trains, `measure` takes the folder."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import lm_eval_sts as sts
from lm_eval_sts.errors import RecordError, SettingsError
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.records import Outcome, load_record
from tests.messages import says
from tests.outcomes.measuring import MICRO_TASKS, command

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "grpo.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What the example leaves behind: its folder, and its names."""
    folder = tmp_path_factory.mktemp("grpo") / "tuned-grpo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["grpo.py", str(folder)])
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return folder, runpy.run_path(str(EXAMPLE))


def log_likelihood(model, tokenizer, rows) -> float:
    """Of the right answers, nats: the mean over prompts."""
    found = []
    for row in rows:
        asked, whole = (tokenizer(text).input_ids for text in (row["prompt"], f"{row['prompt']} {row['answer']}"))
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        found.append(sum(logits[i - 1, whole[i]].item() for i in range(len(asked), len(whole))))
    return sum(found) / len(found)


def test_the_reward_is_for_right_answers(trained):
    reward = trained[1]["right_answer"]
    texts = [" 29. 12 with 16 yields 28 extra 29.", " 28. 29.", "29", "", " 2"]
    assert reward(completions=texts, answer=["29."] * 5, prompts=[""] * 5) == [1, 0, 0, 0, 0]


def test_it_learns_what_is_rewarded(trained):
    folder, made = trained
    rows, tokenizer = list(made["prompts"])[:64], made["tokenizer"]
    base, tuned = (AutoModelForCausalLM.from_pretrained(path) for path in (asset("micro/model"), folder))
    # .5 nats on one machine; were the reward of something else, or none, the answers would not become likelier
    assert log_likelihood(tuned, tokenizer, rows) > log_likelihood(base, tokenizer, rows) + 0.1


def test_measure_takes_the_folder_and_compare_its_outcome_where_told(trained, tmp_path):
    from tests.agreement.made import prediction

    output = tmp_path / "outcome.json"
    command(
        *("--base", "micro/model", "--tuned", trained[0], "--tasks", ",".join(MICRO_TASKS), "--limit", 8),
        *("--batch_size", 24, "--device", "cpu", "--no_cache", "--output", output),
    )
    outcome = load_record(Outcome, output)
    assert outcome.name == "model-tuned-grpo" and outcome.provenance.settings["loaded"][1]["given"] == str(trained[0])
    assert (outcome.sft_set, outcome.recipe, outcome.seeds, outcome.tuned) == (None, None, (), ())
    assert not [caveat for caveat in outcome.caveats if "generating" in caveat or "tokenizer" in caveat]
    assert any(domain.log_likelihood.delta for domain in outcome.domains.values())
    predicted = prediction(dict.fromkeys(outcome.domains, 1.0) | {next(iter(outcome.domains)): 2.0})
    predicted = predicted.model_copy(update={"setting": predicted.setting.model_copy(update={"model": outcome.model})})
    with says(RecordError, "measured after an unknown one", "--force_match"):
        sts.compare([predicted], [outcome])
    assert sts.compare([predicted], [outcome], force_match=True).to_frame()["predictor"].tolist() == ["sts_icl"]


def test_an_outcome_of_prompts_belongs_to_predictions_for_them(trained, tmp_path):
    output = tmp_path / "outcome.json"
    measured = ("--base", "micro/model", "--tuned", trained[0], "--tasks", ",".join(MICRO_TASKS), "--limit", 4)
    on = ("--batch_size", 24, "--device", "cpu", "--no_cache", "--output", output)
    command(*measured, "--prompts", "micro/sft/add-home-short", *on)
    outcome = load_record(Outcome, output)
    assert outcome.sft_set == sts.load_prompts("micro/sft/add-home-short").reference
    with says(SettingsError, "--sft_set and --prompts both"):
        command(*measured, "--prompts", "micro/sft/add-home-short", "--sft_set", "micro/sft/add-home-short", *on)


def test_the_page_shows_the_example():
    (shown,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "rl.md").read_text(), re.MULTILINE | re.DOTALL)
    assert shown == EXAMPLE.read_text(encoding="utf-8").partition('"""\n\n')[2] != ""
