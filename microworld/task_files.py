"""Writes the lm-eval YAMLs of the micro world: `sts_micro` predicts, `micro` measures."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lm_eval_sts.files import write_atomically
from microworld.domains import DOMAINS
from microworld.sft_sets import DEFAULT_SFT_SET

_COMMON: Final = """custom_dataset: !function lm_eval_sts.microworld.data.load
fewshot_split: validation
fewshot_config:
  sampler: first_n
  doc_to_text: question
  doc_to_target: cot_content
  target_delimiter: " "
  fewshot_delimiter: "\\n\\n"
doc_to_text: question
target_delimiter: " "
fewshot_delimiter: "\\n\\n"
num_fewshot: 5
"""

_PREDICT: Final = """# The embedded default: a small synthetic world, described in docs/microworld.md.
class: !function lm_eval_sts.harness.task.TransferTask
test_split: test
doc_to_choice: options
doc_to_target: answer_index
{common}metadata:
  version: 1.0
  benchmark: sts_micro
  measured_by: micro
  measured_version: {measured}
  shares_questions: false
  columns:
    questions: [question, options, answer_index, category]
    worked_examples: [question, options, category, cot_content]
  answers:
    form: " {{option}}"
    options: options
    gold: answer_index
  sts_defaults:
    sae: micro/sae
    sft_set: micro/sft/{sft_set}
    sft_response_delimiter: " "
    sft_example_delimiter: "\\n\\n"
    # All of the short texts, as they were studied.
    sft_tokens: 20000
    domain_tokens: 10000
"""

_AGREEMENT: Final = """include: _sts_micro_yaml
class: !function lm_eval_sts.harness.agreement_task.AgreementTask
task: sts_micro_agreement
"""

_MEASURE: Final = """# Measures a model on the micro world's questions for measuring, none of which `sts_micro` reads.
output_type: multiple_choice
test_split: measure
doc_to_choice: options
doc_to_target: answer_index
{common}metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: {measured}
"""

_MEASURED_VERSION: Final = "1.0"

_UTILS: Final = '''"""One filter a domain, for ``process_docs``."""

from functools import partial

from lm_eval_sts.microworld.data import only_domain

{filters}
'''


def task_files() -> dict[str, str]:
    """Makes the files of ``tasks/sts_micro``.

    Returns:
        Path below that folder to the file's text.
    """
    filters = "\n".join(f'{domain} = partial(only_domain, domain="{domain}")' for domain in DOMAINS)
    files = {"utils.py": _UTILS.format(filters=filters)}
    files["_sts_micro_agreement.yaml"] = _AGREEMENT
    includes = {
        "sts_micro": _PREDICT.format(common=_COMMON, sft_set=DEFAULT_SFT_SET, measured=_MEASURED_VERSION),
        "micro": _MEASURE.format(common=_COMMON, measured=_MEASURED_VERSION),
    }
    last = {"sts_micro": ["sts_micro_agreement"]}
    for group, include in includes.items():
        names = [*(f"{group}_{domain}" for domain in DOMAINS), *last.get(group, ())]
        tasks = "\n".join(f"  - {name}" for name in names)
        files[f"_{group}_yaml"] = include
        files[f"_{group}.yaml"] = f"group: {group}\ntask:\n{tasks}\nmetadata:\n  version: 1.0\n"
        for domain in DOMAINS:
            files[f"{group}_{domain}.yaml"] = (
                f"include: _{group}_yaml\ntask: {group}_{domain}\ntask_alias: {domain}\n"
                f"process_docs: !function utils.{domain}\n"
            )
    return files


def write_task_files(folder: Path) -> None:
    """Writes them all into a folder."""
    for name, text in task_files().items():
        write_atomically(folder / name, text.encode())
