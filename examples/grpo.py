"""Reinforcement learning with TRL on prompts of the micro world: ``python examples/grpo.py tuned-grpo/``."""

import sys

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

import lm_eval_sts as sts
from lm_eval_sts.shipped import resolve

output = sys.argv[1]
path = resolve("micro/model")
model = AutoModelForCausalLM.from_pretrained(path)
tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
# Prompts, and what the reward compares completions with, which the model never sees.
examples = sts.load_sft_set("micro/sft/add-home-short").examples
prompts = Dataset.from_list([{"prompt": e.prompt, "answer": e.response.split()[0]} for e in examples])


def right_answer(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """1 where a completion begins with the right answer, else 0."""
    return [float(text.split()[:1] == [right]) for text, right in zip(completions, answer, strict=True)]


config = GRPOConfig(
    output,
    max_steps=12,
    learning_rate=3e-4,
    lr_scheduler_type="constant",
    per_device_train_batch_size=64,  # completions: 8 prompts
    num_generations=8,
    max_completion_length=32,
    bf16=False,
    gradient_checkpointing=False,
    logging_steps=4,
    save_strategy="no",
    report_to="none",
    seed=0,
)
# This model ends an answer with a newline; one with a chat template has a token for that, and needs no such lines.
ends = model.generation_config.eos_token_id
model.generation_config.eos_token_id = [ends, tokenizer("\n").input_ids[-1]]
trainer = GRPOTrainer(model, right_answer, config, train_dataset=prompts, processing_class=tokenizer)
trainer.train()
model.generation_config.eos_token_id = ends
trainer.save_model(output)  # weights, configuration and tokenizer: all that measure needs
print("mean reward:", *(f"{entry['reward']:.2f}" for entry in trainer.state.log_history if "reward" in entry))
