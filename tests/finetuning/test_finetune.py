"""Fine-tuning the micro model on an SFT set that ships: what comes out, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
import typer
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from lm_eval_sts.commands.finetune import finetune as command
from lm_eval_sts.data import SftSet
from lm_eval_sts.errors import DatasetError, SettingsError, TrainingError
from lm_eval_sts.examples import Example
from lm_eval_sts.features.identity import weights_hash
from lm_eval_sts.files import LOCK
from lm_eval_sts.finetuning import hardware
from lm_eval_sts.finetuning import trainer_setup as setup
from lm_eval_sts.finetuning.finetune import finetune
from lm_eval_sts.finetuning.output_folder import CLAIM
from lm_eval_sts.finetuning.recipes import make_recipe
from lm_eval_sts.finetuning.training_checks import summarise_losses
from lm_eval_sts.finetuning.training_data import IGNORED, LengthLimit, tokenise
from lm_eval_sts.finetuning.tuned import MANIFEST, read_tuned
from tests.finetuning.tuning import FULL, LORA, MODEL, SET, faulty, pairs, tune
from tests.messages import says
from tests.tiny_models import llama, save, tiny_tokenizer

ANY = LengthLimit(None, "nothing")


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "adapter"
    return folder, tune(folder, LORA)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full") / "model"
    return folder, tune(folder, FULL)


def base_model(path=MODEL):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- What comes out.


def test_lora_changes_every_linear_layer_and_nothing_else(lora):
    folder, manifest = lora
    base, merged = base_model(), PeftModel.from_pretrained(base_model(), folder).merge_and_unload()
    moved = {}
    for (name, before), (_, after) in zip(base.named_parameters(), merged.named_parameters(), strict=True):
        moved[name] = float((after - before).detach().double().norm())
    linear = {f"{name}.weight" for name, m in base.model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {name.removeprefix("model.") for name, norm in moved.items() if norm > 0} == linear
    total = sum(norm**2 for norm in moved.values()) ** 0.5
    assert manifest.update_norm == pytest.approx(total, rel=1e-4)
    size = sum(float(p.detach().double().norm()) ** 2 for p in base.parameters()) ** 0.5
    assert manifest.relative_update_norm == pytest.approx(total / size, rel=1e-4)


def test_full_changes_the_weights(full):
    folder, manifest = full
    before, after = dict(base_model().named_parameters()), dict(base_model(folder).named_parameters())
    total = sum(float((after[name] - p).detach().double().norm()) ** 2 for name, p in before.items()) ** 0.5
    assert manifest.update_norm == pytest.approx(total, rel=1e-6)
    assert all(not torch.equal(after[name], p) for name, p in before.items())


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_manifest(kind, request):
    folder, manifest = request.getfixturevalue(kind)
    assert read_tuned(folder) == manifest
    assert (manifest.base.name, manifest.base.dtype) == ("micro/model", "float32")
    assert manifest.base.weights_hash == weights_hash(base_model())
    assert manifest.sft_set.name == SET and manifest.sft_set.content_hash == pairs().content_hash
    assert (manifest.n_examples, manifest.sft_set.n_examples, manifest.steps, manifest.seed) == (12, 12, 12, 0)
    data = tokenise(pairs(), AutoTokenizer.from_pretrained(MODEL), ANY, response_delimiter=" ")
    assert manifest.n_tokens == data.n_response_tokens
    assert manifest.loss_fell and manifest.final_loss < manifest.first_loss
    assert (manifest.first_loss, manifest.final_loss) == (manifest.loss_curve[0], manifest.loss_curve[-1])
    assert len(manifest.loss_curve) == 12
    assert (manifest.recipe.method, manifest.recipe.name) == (kind, "custom")
    assert (manifest.device, manifest.world_size, manifest.device_batch_size) == ("cpu", 1, 4)
    assert not manifest.gradient_checkpointing
    assert manifest.versions["trl"] and manifest.versions["transformers"] == transformers.__version__
    # The recipe asks for bfloat16; the record says what was done.
    assert manifest.recipe.dtype == "float32" and any("float32" in note for note in manifest.notes)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_only_the_result_is_left(kind, request):
    folder, _ = request.getfixturevalue(kind)
    names = {path.name for path in folder.iterdir()}
    weights = {"adapter_model.safetensors", "adapter_config.json"} if kind == "lora" else {"model.safetensors"}
    assert weights | {MANIFEST, CLAIM, "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl")) or "checkpoint" in name]


def test_the_tuned_model_keeps_its_cache(full):
    assert json.loads((full[0] / "config.json").read_text())["use_cache"] is True


# --- What the loss is computed on.


def trainer_for(values, folder, model=MODEL, **options):
    recipe, tokenizer = make_recipe(**values), setup.load_tokenizer(model, None)
    data = tokenise(pairs(), tokenizer, ANY, response_delimiter=" ")
    devices = hardware.plan_devices(recipe, data, 64, options.get("device_batch_size"), None)
    recipe, _ = hardware.as_hardware_allows(recipe, devices)
    arguments = setup.trainer_arguments(recipe, devices, folder, 0, 0)
    return setup.make_trainer(setup.load_model(model, None, recipe), tokenizer, data, recipe, arguments, None)


def test_prompts_are_masked_in_the_batches_that_are_trained_on(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    seen = []
    for batch in trainer_for(FULL, tmp_path).get_train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            kept = labels != IGNORED
            assert torch.equal(labels[kept], ids[kept])
            assert not kept[mask == 0].any(), "padding is not learned"
            seen.append((tokenizer.decode(ids[(mask == 1) & ~kept]), tokenizer.decode(labels[kept])))

    # The tokenizer splits at spaces, so texts are compared by their tokens.
    def tokens(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    expected = [
        (tokens(tokenizer.decode(tokenizer(e.prompt)["input_ids"])), tokens(f" {e.response}<eos>"))
        for e in pairs().examples
    ]
    assert sorted((tokens(prompt), tokens(response)) for prompt, response in seen) == sorted(expected)


def test_the_first_loss_is_that_of_plain_torch(tmp_path):
    """The mean over all response tokens of the step, however it is cut into forward passes."""
    values = {**FULL, "max_steps": 2, "batch_size": 8}
    manifest = tune(tmp_path / "run", values, device_batch_size=2)
    assert manifest.device_batch_size == 2
    batches = iter(trainer_for(values, tmp_path / "again", device_batch_size=2).get_train_dataloader())
    model, total, n = base_model(), 0.0, 0
    for _ in range(4):
        batch = next(batches)
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        chosen = batch["labels"][:, 1:] != IGNORED
        log_p = logits[:, :-1].log_softmax(-1)[chosen]
        total -= float(log_p.gather(1, batch["labels"][:, 1:][chosen][:, None]).sum())
        n += int(chosen.sum())
    assert manifest.loss_curve[0] == pytest.approx(total / n, rel=1e-5)


def test_passes_of_any_size_give_the_same_weights(tmp_path):
    """The mean is over the tokens of a step, which differ from pass to pass, also in an epoch's last, smaller step."""
    values = {**FULL, "max_steps": 4, "batch_size": 8}
    whole, parts = (tune(tmp_path / str(size), values, device_batch_size=size) for size in (8, 2))
    assert (whole.device_batch_size, parts.device_batch_size) == (8, 2)
    before, one, other = (dict(base_model(path).named_parameters()) for path in (MODEL, tmp_path / "8", tmp_path / "2"))
    apart = sum(float((one[name] - other[name]).detach().double().norm()) ** 2 for name in before) ** 0.5
    assert apart < 1e-3 * whole.update_norm


def test_packing_gives_the_same_loss(tmp_path):
    """Packed rows keep their examples apart: the loss of all examples at once is the same."""
    values = {**FULL, "max_steps": 2, "batch_size": 12}
    apart = tune(tmp_path / "apart", values)
    packed = tune(tmp_path / "packed", {**values, "packing": True, "max_length": 512})
    assert packed.loss_curve[0] == pytest.approx(apart.loss_curve[0], rel=1e-5)


# --- The same again.


def test_a_seed_decides_everything(lora, tmp_path):
    again = tune(tmp_path / "again", LORA)
    assert again.loss_curve == lora[1].loss_curve
    assert same(adapter(tmp_path / "again"), adapter(lora[0]))
    tune(tmp_path / "other", LORA, seed=1)
    assert not same(adapter(tmp_path / "other"), adapter(lora[0]))


def test_a_run_that_is_done_is_left_alone(lora):
    folder, manifest = lora

    def files():
        return {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != LOCK}

    before = files()
    assert tune(folder, LORA) == manifest
    assert files() == before


def test_another_run_does_not_take_its_folder(lora, tmp_path):
    folder, _ = lora
    before = adapter(folder)
    with says(SettingsError, folder, "learning_rate was 0.005, now 0.001", "--output"):
        tune(folder, {**LORA, "learning_rate": 1e-3})
    with says(SettingsError, "seed was 0, now 7"):
        tune(folder, LORA, seed=7)
    assert same(adapter(folder), before)
    (tmp_path / "notes.txt").write_text("mine")
    with says(SettingsError, tmp_path, "not begun by"):
        tune(tmp_path, LORA)


def test_two_processes_train_as_one(tmp_path):
    """The same batches, shared out: the same losses and weights up to the order of sums; one manifest.

    In the second step one of them has a loss that is not finite, while the gradients of both are.
    """
    values, fault = {**FULL, "max_steps": 3}, {"fault": "infinite loss with a finite gradient", "steps": [2]}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.finetuning.tuning", str(tmp_path / "two"), json.dumps(values)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, json.dumps({**fault, "rank": 1})], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with faulty(**fault):
        one = tune(tmp_path / "one", values)
    two = read_tuned(tmp_path / "two")
    assert (two.world_size, two.device_batch_size, one.world_size, one.device_batch_size) == (2, 2, 1, 4)
    assert two.skipped_steps == one.skipped_steps == (2,)
    assert two.loss_curve == pytest.approx(one.loss_curve, rel=1e-4)
    assert two.update_norm == pytest.approx(one.update_norm, rel=1e-4)


# --- What goes wrong.


def test_training_that_changes_nothing(tmp_path):
    with says(TrainingError, "no weight of micro/model", "1e-30"):
        tune(tmp_path, {**FULL, "learning_rate": 1e-30, "max_steps": 2})
    assert not (tmp_path / MANIFEST).exists()


def test_a_loss_that_rose_is_noted(tmp_path):
    manifest = tune(tmp_path, {**FULL, "learning_rate": 0.3, "max_steps": 4})
    assert not manifest.loss_fell and manifest.final_loss > manifest.first_loss
    assert any("did not fall" in note for note in manifest.notes)


def test_examples_that_do_not_fit_stop_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "load_model", lambda *_: pytest.fail("loaded"))
    with says(DatasetError, SET, "of 12 examples are longer than 20 tokens (max_length)", "--truncate"):
        tune(tmp_path / "x", {**LORA, "max_length": 20})
    assert not (tmp_path / "x").exists()


def test_truncated_examples_are_recorded(tmp_path):
    long = tokenise(pairs(), AutoTokenizer.from_pretrained(MODEL), ANY, response_delimiter=" ").longest
    manifest = tune(tmp_path, {**FULL, "max_steps": 2, "max_length": long - 1}, long_examples="drop")
    assert manifest.long_rows and manifest.n_examples == 12 - len(manifest.long_rows)
    assert manifest.long_examples == "drop" and any("dropped" in note for note in manifest.notes)


def test_the_models_context_is_a_limit(tmp_path):
    model = llama()
    model.config.max_position_embeddings = 64
    folder = save(model, tiny_tokenizer(chat_template=True), tmp_path / "model")
    long = SftSet("long", (Example("q" * 80, "a"),))
    with says(DatasetError, "longer than 64 tokens (the model's context)"):
        finetune(str(folder), long, tmp_path / "out", make_recipe(max_length=512), 0)


def test_the_losses_in_short():
    summary = summarise_losses([float(x) for x in range(100, 0, -1)])
    assert (summary.first, summary.final) == (95.5, 5.5)
    assert len(summary.curve) == 50 and summary.curve[:2] == (99.5, 97.5) and summary.curve[-1] == 1.5
    short = summarise_losses([3.0, 1.0, 2.0])
    assert (short.first, short.final, short.curve) == (3.0, 2.0, (3.0, 1.0, 2.0))


# --- Other models.


def test_a_model_with_a_chat_template(tmp_path):
    folder = save(llama(), tiny_tokenizer(chat_template=True), tmp_path / "model")
    sft_set = SftSet("chat", tuple(Example(f"say {i}", f"{i}") for i in range(8)))
    values = {"max_steps": 6, "batch_size": 4, "learning_rate": 1e-2, "lora_rank": 4}
    manifest = finetune(str(folder), sft_set, tmp_path / "out", make_recipe(**values), 0, gradient_checkpointing=True)
    assert manifest.chat_template_hash and manifest.response_delimiter is None
    assert manifest.gradient_checkpointing and manifest.loss_fell
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
        == tiny_tokenizer(chat_template=True).chat_template
    )


def test_where_there_is_bfloat16(tmp_path, monkeypatch):
    """A CPU can compute in it, too slowly for use: here it stands for a GPU."""
    plan = hardware.plan_devices
    monkeypatch.setattr(hardware, "plan_devices", lambda *given: replace(plan(*given), has_bfloat16=True))
    manifest = tune(tmp_path, {**LORA, "max_steps": 3})
    assert (manifest.recipe.dtype, manifest.base.dtype, manifest.notes) == ("bfloat16", "bfloat16", ())
    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    assert manifest.base.weights_hash == weights_hash(base)
    assert {tensor.dtype for tensor in adapter(tmp_path).values()} == {torch.float32}
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert trainer_for({**LORA, "dtype": "float32"}, tmp_path / "x").accelerator.mixed_precision == "no"
    full = setup.load_model(MODEL, None, make_recipe(method="full", learning_rate=1e-5, dtype="bfloat16"))
    assert full.dtype == torch.float32, "weights that train keep small updates"


# --- The command.

app = typer.Typer()
app.command()(command)
FEW = ["--max_steps", "3", "--batch_size", "4", "--learning_rate", "0.001", "--save_steps", "0"]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command(tmp_path):
    done = invoke("--model", "micro/model", "--sft_set", SET, "--output", tmp_path, "--seed", 3, *FEW)
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    for part in ("custom", "lora", "0.001", "cosine", "micro/model", SET, "training loss", "moved by"):
        assert part in shown
    manifest = read_tuned(tmp_path)
    assert (manifest.base.name, manifest.sft_set.name, manifest.seed) == ("micro/model", SET, 3)
    assert (manifest.recipe.max_steps, manifest.recipe.epochs, manifest.response_delimiter) == (3, None, " ")


def test_the_command_takes_columns_and_the_papers_recipe(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"a": f"the king {i}", "b": f"was {i}"}) for i in range(6)))
    arguments = ["--model", "micro/model", "--sft_set", rows, "--output", tmp_path / "out", "--recipe", "paper"]
    done = invoke(
        *arguments, "--sft_columns", "a", "b", "--epochs", 2, "--batch_size", 3, "--response_delimiter", "\\n"
    )
    assert done.exit_code == 0, done.output
    manifest = read_tuned(tmp_path / "out")
    assert (manifest.recipe.method, manifest.steps, manifest.response_delimiter) == ("full", 4, "\n")
    assert manifest.recipe.learning_rate == 1e-5 and any("no learning rate" in note for note in manifest.notes)


def test_without_trl_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    failed = invoke("--model", "micro/model", "--sft_set", SET, "--output", tmp_path)
    assert type(failed.exception) is SettingsError
    assert 'pip install "lm-eval-sts[finetune]"' in str(failed.exception)


def test_contradictory_options(tmp_path):
    failed = invoke("--model", "micro/model", "--sft_set", SET, "--output", tmp_path, "--truncate", "--drop_long")
    assert type(failed.exception) is SettingsError and "--drop_long" in str(failed.exception)


def test_a_folder_has_no_revisions(tmp_path):
    failed = invoke("--model", "micro/model", "--sft_set", SET, "--output", tmp_path / "out", "--revision", "v2")
    assert type(failed.exception) is SettingsError and "--revision v2" in str(failed.exception)
    assert not (tmp_path / "out").exists()


def test_a_hub_model_is_trained_and_recorded_at_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--lab--tiny"
    (repository / "refs").mkdir(parents=True)
    for ref, size in (("main", 3), ("step3", 1)):
        model = llama()
        model.load_state_dict({name: size * weights for name, weights in model.state_dict().items()})
        save(model, tiny_tokenizer(), repository / "snapshots" / (str(size) * 40))
        (repository / "refs" / ref).write_text(str(size) * 40)
    short = replace(pairs(), examples=[Example("2 + 2 =", "4")] * 4)
    recipe = make_recipe(method="full", learning_rate=1e-4, max_steps=3, batch_size=2)
    made = finetune("lab/tiny", short, tmp_path / "out", recipe, 0, revision="step3")
    assert made.base.revision == "1" * 40
    assert made.relative_update_norm < 0.1  # and not the distance from main
