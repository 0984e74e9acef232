"""What ships: it loads offline, equals what the seed makes, and the model learns from demonstrations."""

import hashlib
import json
from itertools import islice

import pyarrow.parquet as pq
import pytest
import torch

from lm_eval_sts.errors import DatasetError, RecordError
from lm_eval_sts.microworld.data import load, only_domain
from lm_eval_sts.microworld.paths import ASSETS, asset, asset_names
from microworld.accuracy import answer
from microworld.data import SHIPPED, TRUTH_FILE, ground_truth, split_records
from microworld.domains import DOMAINS
from microworld.figures import contexts
from microworld.manifest import read_manifest
from microworld.questions import domain_questions
from microworld.sae import SaeConfig, activations
from microworld.sft_sets import sft_examples, sft_specs
from microworld.world import make_world

MANIFEST = read_manifest(ASSETS)
WORLD = make_world(MANIFEST.seed)


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(asset("micro/model"), local_files_only=True)


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(asset("micro/model"), local_files_only=True).eval()


def test_every_shipped_file_is_the_one_that_was_built():
    assert MANIFEST.files
    for name, digest in MANIFEST.files.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest, name
    assert sum((ASSETS / name).stat().st_size for name in MANIFEST.files) < 12e6


def test_shipped_questions_are_what_the_seed_makes():
    for split, per_domain in SHIPPED.items():
        shipped = pq.read_table(asset("micro/data") / f"{split}.parquet").to_pylist()
        assert shipped == split_records(WORLD, split, per_domain)


def test_shipped_sft_sets_and_truth_are_what_the_seed_makes():
    specs = sft_specs(WORLD)
    assert {n.removeprefix("micro/sft/") for n in asset_names() if n.startswith("micro/sft/")} == set(specs)
    for name, spec in specs.items():
        rows = pq.read_table(asset(f"micro/sft/{name}")).to_pylist()
        made = sft_examples(WORLD, spec, len(rows))
        assert rows == [{"prompt": e.prompt, "response": e.response} for e in made]
    truth = json.loads((ASSETS / TRUTH_FILE).read_text())
    assert truth == json.loads(json.dumps(ground_truth(WORLD, specs)))


def test_splits_load_for_lm_eval_and_as_a_plain_folder(tmp_path):
    from datasets import load_dataset

    splits = load(version=1.0)
    rows = only_domain(splits["measure"], "law_torts")
    assert len(rows) == SHIPPED["measure"]
    assert set(rows["category"]) == {"law_torts"}
    plain = load_dataset(str(asset("micro/data")), cache_dir=str(tmp_path))
    assert {name: len(rows) for name, rows in plain.items()} == {s: n * len(DOMAINS) for s, n in SHIPPED.items()}


def test_unknown_asset_names_what_exists():
    with pytest.raises(DatasetError, match="did you mean 'micro/model'.*micro/sae"):
        asset("micro/modle")


def test_manifest_is_validated(tmp_path):
    with pytest.raises(RecordError, match="no manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 1, "seed": 0}')
    with pytest.raises(RecordError, match="not a manifest"):
        read_manifest(tmp_path)


def test_tokenizer_encodes_any_text(tokenizer):
    text = "Où est-ce? 東京 – Ω\t∫ f(x)\n🙂"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.eos_token_id is not None
    assert tokenizer.pad_token_id is not None
    assert tokenizer.chat_template is None


def test_options_are_single_tokens_of_their_own(tokenizer):
    for row in split_records(WORLD, "measure", 40):
        ids = [tokenizer.encode(f" {option}", add_special_tokens=False) for option in row["options"]]
        assert all(len(x) == 1 for x in ids)
        assert len({x[0] for x in ids}) == 4


def test_model_knows_its_world_and_demonstrations_help(model, tokenizer):
    right = {"own": 0.0, "none": 0.0, "wrong_rule": 0.0}
    n = 8
    for domain in DOMAINS:
        questions = list(islice(domain_questions(WORLD, domain, "measure"), n))
        for name, context in contexts(WORLD, domain).items():
            if name in right:
                right[name] += answer(model, tokenizer, questions, [context] * n).accuracy / len(DOMAINS)
    assert right["own"] > 0.45
    assert right["own"] > right["none"] + 0.05
    assert right["own"] > right["wrong_rule"] + 0.15


def test_model_reads_prompts_far_longer_than_it_was_trained_on(model, tokenizer):
    assert model.config.max_position_embeddings >= 8192
    ids = torch.tensor([tokenizer("word " * 600)["input_ids"]])
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=ids).logits).all()


def test_sae_loads_and_explains_the_stream_it_was_trained_on(model, tokenizer):
    from sae_lens import SAE

    from microworld.corpus import CorpusConfig, documents
    from microworld.packing import pack

    sae = SAE.load_from_disk(str(asset("micro/sae")))
    assert sae.cfg.metadata.hook_name == "blocks.2.hook_resid_post"
    assert sae.cfg.metadata.model_name == "micro/model"
    rows = pack(tokenizer, documents(WORLD, CorpusConfig(), "another"), 8)
    read = activations(model, rows, SaeConfig().layer, torch.arange(8).numpy())
    with torch.no_grad():
        features = sae.encode(read)
        error = (sae.decode(features) - read).pow(2).sum()
    assert 1 - error / (read - read.mean(0)).pow(2).sum() > 0.85
    assert (features > 0).sum(1).max() <= SaeConfig().k
