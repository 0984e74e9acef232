"""The YAMLs are the ones that the package writes, and their prompts are the model's own documents."""

from pathlib import Path

import pytest

from lm_eval_sts.microworld.paths import ASSETS
from microworld.domains import DOMAINS
from microworld.figures import contexts
from microworld.manifest import read_manifest
from microworld.questions import domain_questions
from microworld.task_files import task_files
from microworld.world import make_world

FOLDER = Path(__file__).parents[2] / "tasks" / "sts_micro"


def test_files_are_what_the_package_writes():
    made = task_files()
    present = {p.name: p.read_text() for p in FOLDER.iterdir() if p.is_file()}
    assert present == made
    assert sum(name.startswith("sts_micro_") for name in made) == len(DOMAINS)


@pytest.fixture(scope="module")
def tasks():
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    return manager.load_task_or_group(["micro_law_torts"])


def test_plain_task_builds_the_documents_that_the_model_was_trained_on(tasks):
    (task,) = tasks.values()
    world = make_world(read_manifest(ASSETS).seed)
    doc = task.test_docs()[0]
    question = next(domain_questions(world, "law_torts", "measure"))
    assert task.fewshot_context(doc, num_fewshot=5) == contexts(world, "law_torts")["own"] + question.prompt
    requests = task.construct_requests(doc, ctx=question.prompt)
    assert [r.arguments[1] for r in requests] == [f" {option}" for option in question.options]
    assert task.doc_to_target(doc) == question.answer_index
