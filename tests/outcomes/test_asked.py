"""Base and tuned models are asked the same: what is prepared once, and that what they are asked is the same."""

from __future__ import annotations

import jinja2
import lm_eval.utils
import pytest

from lm_eval_sts.harness.discovery import our_tasks
from lm_eval_sts.outcomes.asked import Asked, templates_compiled_once
from lm_eval_sts.outcomes.lm_eval_run import build_task_manager
from lm_eval_sts.outcomes.measure import Conditions, evaluate_model
from tests.outcomes.measuring import few_tasks, local_task

CODE = """
from pathlib import Path

def some(docs):
    with open(Path(__file__).parent.with_name("chosen"), "a") as log:
        log.write("x")
    return docs.filter(lambda doc: "3" not in doc["question"])
"""
EXTRA = "process_docs: !function code.some\nfewshot_split: test\nfewshot_config: {sampler: first_n}\n"


@pytest.fixture(params=[False, True], ids=["options", "written"])
def folder(request, tmp_path):
    found = local_task(tmp_path / "tasks", questions=6, extra=EXTRA, generates=request.param)
    (found / "code.py").write_text(CODE)
    task = found / "local.yaml"
    task.write_text(task.read_text().replace("num_fewshot: 0\n", ""))  # lm-eval leaves a task at 0 that says so
    return found


def measured(models, which, output, folder, asked=None, **conditions):
    """The files of a run, by the task's name."""
    run = evaluate_model(
        f"pretrained={models / which}",
        ["local"],
        output,
        Conditions(include_path=folder, **{"num_fewshot": 2, **conditions}),
        device="cpu",
        use_cache=False,
        share_prefix=True,
        asked=asked,
    )
    (file,) = output.rglob("samples_local_*.jsonl")
    return file.read_bytes(), run


def test_runs_are_the_same_to_the_byte_and_documents_are_chosen_once(models, folder, tmp_path):
    with few_tasks():
        asked = Asked(build_task_manager(folder, {}), ["local"])
        together = [measured(models, w, tmp_path / f"one/{w}", folder, asked) for w in ("base", "tuned", "other")]
        chosen = folder.with_name("chosen").read_text()
        alone = [measured(models, w, tmp_path / f"two/{w}", folder) for w in ("base", "tuned", "other")]
    assert [file for file, _ in together] == [file for file, _ in alone]
    assert [run.facts.depends for _, run in together] == [run.facts.depends for _, run in alone]
    assert len({file for file, _ in together}) == 3, "three models answer differently"
    assert len(chosen) == 3 < len((folder.with_name("chosen")).read_text()) / 3, (
        "once for the questions, and what is shown"
    )


def test_prompts_are_kept_only_for_models_that_are_asked_alike(models, folder, tmp_path):
    with few_tasks():
        asked = Asked(build_task_manager(folder, {}), ["local"])
        measured(models, "base", tmp_path / "first", folder, asked)
        other = measured(models, "tuned", tmp_path / "second", folder, asked, num_fewshot=1)[0]
        again = measured(models, "tuned", tmp_path / "third", folder, asked)[0]
        assert other == measured(models, "tuned", tmp_path / "fourth", folder, num_fewshot=1)[0] != again
        assert again == measured(models, "tuned", tmp_path / "fifth", folder)[0]


def test_prompts_are_built_once(models, folder, tmp_path, monkeypatch):
    from lm_eval.api.task import ConfigurableTask

    built = []
    original = ConfigurableTask.fewshot_context
    monkeypatch.setattr(
        ConfigurableTask,
        "fewshot_context",
        lambda self, doc, *a, **o: built.append(doc) or original(self, doc, *a, **o),
    )
    with few_tasks():
        asked = Asked(build_task_manager(folder, {}), ["local"])
        measured(models, "base", tmp_path / "base", folder, asked)
        first = len(built)
        measured(models, "tuned", tmp_path / "tuned", folder, asked)
    assert first == len(built) == 5


def test_tasks_are_as_just_loaded():
    asked = Asked(our_tasks(), ["micro_law_torts"])
    (task,) = asked.tasks().single.values()
    before, metrics = repr(task.config.to_dict()), len(task.config.metric_list)
    task.set_config("num_fewshot", 17)
    task.config.metric_list.clear()
    (again,) = asked.tasks().single.values()
    assert again is task and repr(again.config.to_dict()) == before and len(again.config.metric_list) == metrics > 0


def test_templates_are_compiled_once(monkeypatch):
    compiled = []
    original = jinja2.Environment.compile
    monkeypatch.setattr(
        jinja2.Environment,
        "compile",
        lambda self, source, *a, **o: compiled.append(source) or original(self, source, *a, **o),
    )
    documents = [{"question": f"{i}?"} for i in range(5)]
    plain = [lm_eval.utils.apply_template("Q: {{question}}", doc) for doc in documents]
    assert len(compiled) == 5
    with templates_compiled_once():
        assert [lm_eval.utils.apply_template("Q: {{question}}", doc) for doc in documents] == plain
        assert lm_eval.utils.apply_template("{{question|regex_replace('[0-9]', 'x')}}", documents[0]) == "x?"
        with pytest.raises(jinja2.UndefinedError):
            lm_eval.utils.apply_template("Q: {{question}}", {})
    assert len(compiled) == 7 and "from_string" not in vars(lm_eval.utils.env)
    monkeypatch.setattr(lm_eval.utils, "env", None)
    with templates_compiled_once():
        pass
