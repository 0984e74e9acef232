"""A plan beside what a run then does: tokens, parameters, bytes; its commands; what it says where it cannot know."""

from __future__ import annotations

import json
import shlex
import subprocess
from contextlib import contextmanager

import pytest
from safetensors import safe_open
from torch.nn.modules.module import register_module_forward_hook
from typer.main import get_command
from typer.testing import CliRunner

from lm_eval_sts.cli import app
from lm_eval_sts.errors import DatasetError, SettingsError
from lm_eval_sts.microworld.paths import asset
from lm_eval_sts.planning import make
from lm_eval_sts.planning.make import Options, make_plan
from lm_eval_sts.planning.next_steps import Question
from lm_eval_sts.planning.plan import _ROOM
from lm_eval_sts.predictors.settings import Settings
from lm_eval_sts.verdict.next_step import broken
from lm_eval_sts.verdict.results import read_predictions
from tests.finetuning import tuning
from tests.harness.world import evaluate, make_world

SMALL = {"sft_tokens": 500, "domain_tokens": 250, "demo_draws": 2, "predictors": ["sts_icl", "loss_gap"]}


@pytest.fixture(autouse=True, scope="module")
def questions_asked_for_once():
    """What a task asks does not change between these tests, and building it for 28 tasks takes seconds."""
    found = {}

    def once(name, options, include_path=None):
        if name not in found:
            found[name] = make.asked_of_lm_eval(name, options, include_path)
        return found[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "asked_of_lm_eval", make.asked_of, raising=False)
        patch.setattr(make, "asked_of", once)
        yield


@contextmanager
def tokens_through(block, blocks):
    """Counts tokens that pass decoder blocks, as parts of a token through the whole model."""
    passed = []

    def count(module, args, output):
        if type(module).__name__ == block:
            hidden = output if hasattr(output, "shape") else output[0]
            passed.append(hidden.shape[0] * hidden.shape[1] / blocks)

    handle = register_module_forward_hook(count)
    try:
        yield passed
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def run_of_sts_micro(tmp_path_factory):
    """A run of ``sts_micro``: its records, and the tokens that went through the model."""
    folder = tmp_path_factory.mktemp("run")
    settings = {**SMALL, "sft_set": "micro/sft/laws-home-long", "profiles_dir": str(folder)}

    class Micro:
        model = str(asset("micro/model"))
        settings = {}

    with tokens_through("LlamaDecoderLayer", 4) as passed:
        results = evaluate(Micro, ["sts_micro"], settings, batch_size="auto")
    file = folder / "results.json"
    file.write_text(json.dumps({"configs": results["configs"]}, default=str))
    return read_predictions(file), sum(passed)


@pytest.fixture(scope="module")
def plan_of_sts_micro():
    return make_plan("micro/model", "micro/sft/laws-home-long", Options(task="sts_micro", device="cpu", settings=SMALL))


def test_the_scored_tokens_are_those_of_the_run(run_of_sts_micro, plan_of_sts_micro):
    (*_, prediction) = [p for p in run_of_sts_micro[0] if p.predictor == "sts_icl"]
    planned = dict(plan_of_sts_micro.stages[0].facts["scored"])
    sft = planned.pop("sft")
    assert (sft["questions"], sft["tokens"]) == (prediction.selection.n_queries, prediction.selection.n_tokens)
    read = prediction.domains.items()
    assert planned == {name: {"questions": of.n_questions, "tokens": of.n_tokens} for name, of in read}


def test_the_tokens_through_the_model_are_those_of_the_run_but_for_padding(run_of_sts_micro, plan_of_sts_micro):
    planned, passed = plan_of_sts_micro.stages[0].tokens["forward"], run_of_sts_micro[1]
    assert planned < passed < 1.4 * planned


def test_the_parts_are_those_of_the_files(plan_of_sts_micro):
    predicting = plan_of_sts_micro.stages[0]
    assert predicting.memory["weights"] == plan_of_sts_micro.model.bytes == _tensor_bytes(asset("micro/model"))
    assert predicting.memory["SAE"] == plan_of_sts_micro.sae.bytes == _tensor_bytes(asset("micro/sae"))


def _tensor_bytes(folder):
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            total += sum(t.numel() * t.element_size() for t in map(tensors.get_tensor, tensors.keys()))
    return total


@pytest.mark.parametrize("values", [tuning.LORA, tuning.FULL], ids=["lora", "full"])
def test_steps_and_trained_parameters_are_those_of_a_run(values, tmp_path):
    from lm_eval_sts.finetuning.recipes import make_recipe
    from lm_eval_sts.finetuning.training_data import LengthLimit, tokenise
    from lm_eval_sts.planning.devices import CPU
    from lm_eval_sts.planning.shapes import build_without_weights, load_tokenizer, shape_of
    from lm_eval_sts.planning.training import count_training

    values = {**{k: v for k, v in values.items() if k != "max_steps"}, "epochs": 1.5}
    manifest = tuning.tune(tmp_path, values)
    whole = build_without_weights(tuning.MODEL)
    tokenizer = load_tokenizer(tuning.MODEL)
    data = tokenise(tuning.pairs(), tokenizer, LengthLimit(None, ""), response_delimiter=" ")
    lengths = [len(example.input_ids) for example in data.examples]
    planned = count_training(shape_of(whole, ""), whole, lengths, make_recipe(**values), CPU)
    assert (planned.steps, planned.batch_size) == (manifest.steps, manifest.device_batch_size)
    assert planned.recipe.dtype == manifest.recipe.dtype
    with safe_open(next(tmp_path.glob("*.safetensors")), "pt") as tensors:
        saved = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118  # no mapping
    assert planned.trained == saved
    assert planned.memory["optimiser states"] == 8 * saved


def test_measuring_counts_what_a_measurement_reads(plan_of_sts_micro, tmp_path):
    """On a few tasks whose every question is looked at."""
    from lm_eval_sts.harness.discovery import our_tasks
    from lm_eval_sts.outcomes.lm_eval_options import Conditions
    from lm_eval_sts.outcomes.lm_eval_run import load_tasks
    from lm_eval_sts.outcomes.measure import evaluate_model
    from lm_eval_sts.planning.dry_run import measuring

    tasks, conditions = ["micro_law_torts", "micro_math_algebra"], Conditions(limit=32)
    args = {"pretrained": str(asset("micro/model")), "dtype": "float32"}
    for shares in (True, False):
        planned = measuring(
            args,
            load_tasks(our_tasks(), tasks),
            conditions,
            models=1,
            batch_size=32,
            on_cpu=True,
            share_prefix=shares,
        )
        with tokens_through("LlamaDecoderLayer", 4) as passed:
            evaluate_model(
                args,
                tasks,
                tmp_path / str(shares),
                conditions,
                batch_size=32,
                device="cpu",
                use_cache=False,
                share_prefix=shares,
                task_manager=our_tasks(),
            )
        assert planned.facts["questions"] == planned.facts["looked_at"] == 64
        # More are padding, and with shared prefixes the looks whether the model attends to them as it should.
        assert planned.tokens["read"] <= sum(passed) < 1.5 * planned.tokens["read"] + 200


def test_a_local_benchmark_is_counted_and_one_that_is_not_at_hand_bounded(tmp_path):
    world = make_world(tmp_path)
    settings = {"sae": world.settings["sae"], "sft_tokens": 300, "domain_tokens": 250, "demo_draws": 2}
    asked = Options(device="l4", settings={**settings, "benchmark_path": world.settings["benchmark_path"]})
    counted = make_plan(world.model, world.settings["sft_set"], asked)
    bound = make_plan(world.model, world.settings["sft_set"], Options(device="l4", settings=settings))
    first, at_most = counted.stages[0], bound.stages[0]
    assert first.counted.startswith("counted")
    assert at_most.counted.startswith("at most: benchmark not at hand")
    assert at_most.tokens["forward"] > first.tokens["forward"] > 0
    assert any("TIGER-Lab/MMLU-Pro" in note for note in at_most.notes)
    # mmlu_pro has the model write; its questions are those of the local copy, its limits its own.
    assert counted.stages[2].facts["questions"] == 14 * 6
    assert counted.stages[2].tokens["written"] > 0
    assert bound.stages[2].time is None
    assert "--tasks mmlu_pro" in bound.stages[2].command
    assert bound.time is None
    assert "not known" in bound.stages[2].counted


def test_an_sft_set_that_is_not_at_hand_leaves_fine_tuning_open_unless_steps_bound_it():
    options = {"task": "sts_micro_law_torts", "device": "cpu", "predictors": ["sts_icl"], "settings": SMALL}
    open_ended = make_plan("micro/model", "nobody/nothing", Options(**options)).stages[1]
    assert open_ended.time is None
    assert "not known: SFT set not at hand" in open_ended.counted
    steps = {"max_steps": 3, "max_length": 64}
    bounded = make_plan("micro/model", "nobody/nothing", Options(**options, recipe_changes=steps)).stages[1]
    assert bounded.counted.startswith("at most")
    assert bounded.tokens["trained on"] == 3 * 16 * 64


def test_a_local_sft_set_that_cannot_be_read_is_an_error():
    with pytest.raises(DatasetError, match="missing.jsonl"):
        make_plan("micro/model", "./missing.jsonl", Options(task="sts_micro"))


def test_what_does_not_fit_comes_with_changes_that_do(tmp_path):
    from dataclasses import replace

    from lm_eval_sts.finetuning.recipes import make_recipe
    from lm_eval_sts.planning.devices import find_device
    from lm_eval_sts.planning.make import changes_of
    from lm_eval_sts.planning.plan import finetune_stage
    from lm_eval_sts.planning.shapes import build_without_weights, shape_of
    from lm_eval_sts.planning.training import count_training

    whole = build_without_weights(tuning.MODEL)
    shape, recipe, lengths = shape_of(whole, ""), make_recipe("paper"), [100] * 600
    full = count_training(shape, whole, lengths, recipe, find_device("l4"))
    small = replace(find_device("l4"), memory=sum(full.memory.values()) * 9 // 10)
    others = changes_of(shape, whole, lengths, recipe, small, 1)
    stage = finetune_stage((), small, 1, full, counted="", others=others)
    assert stage.fits is False
    assert stage.changes
    for what, other in others.items():
        fits = sum(other().memory.values()) <= _ROOM * small.memory
        assert any(change.startswith(what) for change in stage.changes) == fits
    assert finetune_stage((), find_device("l4"), 1, full, counted="").fits is True


def test_more_devices_take_less_time_and_full_fine_tuning_is_shared_out():
    options = {"task": "sts_micro_law_torts", "device": "h100", "settings": SMALL, "recipe": "paper"}
    one, four = (make_plan("micro/model", None, Options(**options, gpus=n)) for n in (1, 4))
    start = {"predict", "finetune", "measure"}
    assert {stage.name for stage in one.stages} == start
    for alone, shared in zip(one.stages, four.stages, strict=True):
        assert shared.time.seconds < alone.time.seconds
    assert four.stages[1].memory["optimiser states"] == one.stages[1].memory["optimiser states"] // 4
    assert "accelerate launch --num_processes 4" in four.stages[1].command[0]


def test_commands_ask_for_what_was_planned(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"q": "a b", "a": "c d", "other": "x"}\n' * 40)
    settings = {**SMALL, "sae": "micro/sae", "sft_columns": ["q", "a"], "sft_response_delimiter": " --\n"}
    options = Options(
        task="sts_micro_law_torts",
        device="cpu",
        settings=settings,
        dtype="float32",
        recipe_changes={"max_steps": 3},
        system_instruction="Be brief -- please.",
    )
    made = make_plan("micro/model", str(tmp_path / "rows.jsonl"), options)
    predict, finetune, measure = (shlex.split(" ".join(stage.command)) for stage in made.stages)
    assert json.loads(predict[predict.index("--metadata") + 1])["sts"]["sft_columns"] == ["q", "a"]
    assert predict[predict.index("--system_instruction") + 1] == "Be brief -- please."
    commands = get_command(app).commands
    trained = commands["finetune"].make_context("finetune", finetune[2:]).params
    assert trained["sft_columns"] == ("q", "a") and trained["max_steps"] == 3
    assert trained["response_delimiter"] == " --\\n" and trained["seed"] == 0
    measured = commands["measure"].make_context("measure", measure[2:]).params
    assert measured["system_instruction"] == "Be brief -- please." and measured["model_args"] == "dtype=float32"


def test_a_command_over_several_lines_is_what_a_shell_runs():
    parts = ("printf", "'%s\\n'", *(shlex.join(["--of", f"it's -- {i}"]) for i in range(9)))
    lines = broken(parts, 40, " ")
    assert len(lines) > 3 and max(map(len, lines)) <= 40
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [text for i in range(9) for text in ("--of", f"it's -- {i}")]


def test_a_revision_reaches_every_command():
    asked = Question(
        model="org/name",
        revision="0123abc",
        sft_set="org/set",
        task="sts_mmlu_pro",
        measured_by="mmlu_pro",
        given={},
        settings=Settings(),
        dtype=None,
        recipe={},
        apply_chat_template=True,
        system_instruction=None,
        include_path=None,
    )
    assert "--model_args pretrained=org/name,revision=0123abc" in asked.predict(on_cpu=False)
    assert "--revision 0123abc" in asked.finetune(1)
    assert "--model_args revision=0123abc" in asked.measure(None, on_cpu=False)


def run(*arguments):
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


@pytest.fixture
def made(monkeypatch, plan_of_sts_micro):
    """The command makes the plan that is there."""
    monkeypatch.setattr(make, "make_plan", lambda *arguments: plan_of_sts_micro)


def test_the_command_begins_with_the_summary_and_ends_in_commands_that_are_ours(monkeypatch, made):
    monkeypatch.setenv("COLUMNS", "80")
    settings = ["--tasks", "sts_micro", "--device", "cpu", "--settings", json.dumps(SMALL)]
    shown = run("plan", "--model", "micro/model", "--sft_set", "micro/sft/laws-home-long", *settings).stdout
    summary = " ".join(shown.split("\n\n")[0].split())
    assert summary.startswith("Predicting: ")
    assert " on a CPU, " in summary
    assert "Fine-tuning: " in summary
    assert "Measuring: " in summary
    assert "In all: " in summary
    said, commands = shown.split("Run next:\n")
    assert max(map(len, said.splitlines())) <= 80
    ours = [shlex.split(line) for line in commands.replace("\\\n", "").splitlines()]
    assert [line[0] for line in ours] == ["lm_eval", "lm-eval-sts", "lm-eval-sts", "lm-eval-sts"]
    settings_given = json.loads(ours[0][ours[0].index("--metadata") + 1])["sts"]
    assert settings_given == {**SMALL, "sft_set": "micro/sft/laws-home-long"}
    for line in ours[1:]:
        command = get_command(app).commands[line[1]]
        assert command.make_context(line[1], list(line[2:])).params  # raises for what it does not know


def test_json_holds_everything(plan_of_sts_micro, made):
    settings = ["--tasks", "sts_micro", "--device", "cpu", "--settings", json.dumps(SMALL)]
    found = json.loads(
        run("plan", "--model", "micro/model", "--sft_set", "micro/sft/laws-home-long", *settings, "--json").stdout
    )
    assert found == json.loads(json.dumps(plan_of_sts_micro.to_dict()))
    assert found["stages"]["predict"]["fits"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "h1000"], "did you mean 'h100'"),
        (["--settings", "[1]"], "--settings must be a JSON object"),
        (["--settings", "{"], "--settings is not JSON"),
        (["--settings", '{"sft_tokns": 1}'], "did you mean 'sft_tokens'"),
        (["--recipe_args", "epochs"], "'epochs' is not key=value"),
        (["--recipe_args", "epochs=1,max_steps=2"], "both say how long to train"),
        (["--gpus", "0"], "gpus is 0"),
        (["--calibrate"], "give --device cpu with it"),
        (["--tasks", "sts_micr"], "did you mean 'sts_micro'"),
        (["--dtype", "float7"], "dtype 'float7'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(arguments, message):
    with pytest.raises(SettingsError, match=message):
        run("plan", "--model", "micro/model", "--tasks", "sts_micro", *arguments)


def test_from_python():
    import lm_eval_sts as sts

    made = sts.plan(
        "micro/model", "micro/sft/laws-home-long", task="sts_micro_law_torts", device="h100", predictors=["sts_icl"]
    )
    assert [stage.name for stage in made.stages] == ["predict", "finetune", "measure"]
    assert made.time is not None
