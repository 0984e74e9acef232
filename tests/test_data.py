"""SFT sets and benchmarks: every way they are read, and what is said about those that cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lm_eval_sts.data import load_benchmark, load_sft_set
from lm_eval_sts.errors import DatasetError
from lm_eval_sts.examples import Example, Message
from tests.messages import says

ROWS = [{"prompt": "one?", "response": "1"}, {"prompt": "twö?\n", "response": "2"}]
PAIRS = (Example("one?", "1"), Example("twö?\n", "2"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def write(path: Path, rows: list[dict[str, Any]] | str | bytes) -> str:
    """Writes rows as JSON Lines (or text, or bytes as they are); gives the path as a string."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, list):
        rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
    return str(path)


# ---- formats


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.JSONL", "a.json", "list.json", "a.parquet", "a.csv", "a.tsv", "a.jsonl.gz", "a.arrow"]
)
def test_files(tmp_path, name):
    import gzip

    from datasets import Dataset

    path, table = tmp_path / name, Dataset.from_list(ROWS)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".arrow":
        table.save_to_disk(tmp_path / "saved")
        (tmp_path / "saved" / "data-00000-of-00001.arrow").rename(path)
    elif path.suffix in (".csv", ".tsv"):
        table.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(Path(write(tmp_path / "plain.jsonl", ROWS)).read_bytes()))
    else:
        write(path, json.dumps(ROWS) if name == "list.json" else ROWS)
    loaded = load_sft_set(str(path))
    assert loaded.examples == PAIRS
    assert (loaded.name, loaded.revision, loaded.notes) == (str(path), "unknown", ())


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    for name, text in (("a.jsonl", json.dumps(ROWS[0])), ("a.csv", "prompt,response\r\none?,1\r\n")):
        assert load_sft_set(write(tmp_path / name, "\ufeff" + text)).examples == PAIRS[:1]


@pytest.mark.parametrize(
    "text", ["2020-01-01", "2020-01-01T10:00:00Z", "NA", "null", "007", "1e5", "True", "a\0b", "a\u2028b"]
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("folder", [False, True])
def test_text_stays_as_it_is_written(tmp_path, name, text, folder):
    rows = [{"prompt": "q", "response": f"{text}"}] * 2
    whole = {
        "a.jsonl": "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        "a.json": json.dumps(rows, indent=1),
        "a.csv": f"prompt,response\nq,{text}\nq,{text}\n",
    }
    path = write(tmp_path / name, whole[name])
    assert load_sft_set(str(tmp_path) if folder else path).examples == (Example("q", text),) * 2


def test_a_folder_with_options_of_its_own(tmp_path):
    write(tmp_path / "train.csv", "prompt;response\nq;a,b\n")
    write(tmp_path / "README.md", "---\nconfigs:\n- config_name: c\n  data_files: train.csv\n  sep: ;\n---\n")
    assert load_sft_set(str(tmp_path)).examples == (Example("q", "a,b"),)


def test_what_rows_of_another_form_lack_is_blank(tmp_path):
    write(tmp_path / "a.jsonl", ROWS)
    write(tmp_path / "b.jsonl", [{"question": "q", "answer": "a"}])
    with says(DatasetError, "1 of 3 rows have a blank prompt or response (rows 2,"):
        load_sft_set(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.jsonl", '{"prompt": "a", "prompt": "b", "response": "x"}', "'prompt' stands twice"),
        ("a.json", '[{"prompt": "a", "prompt": "b", "response": "x"}]', "'prompt' stands twice"),
        ("a.jsonl", '{"prompt": "a", "response": "x"}\n{"prompt"\n', "line 2"),
        ("a.json", '{"prompt": ["a"], "response": ["x"]}', "list in place of text"),
        ("a.json", '["a", "b"]', "rows must be JSON objects"),
        ("a.csv", "prompt,response\na,b,c\n", "line 2 has 3 cells under 2 names"),
        ("a.csv", "prompt,prompt\na,b\n", "the same name"),
        ("a.csv", "prompt,response\n", "empty"),
        ("a.tsv", 'prompt\tresponse\na\tb\n"a" or\tb\n', "line 3: "),
        ("a.jsonl.gz", "no archive", "cannot be loaded"),
    ],
)
def test_damaged_text_files(tmp_path, name, content, part):
    with says(DatasetError, tmp_path / name, part):
        load_sft_set(write(tmp_path / name, content))


def test_folders(tmp_path, monkeypatch):
    from datasets import Dataset, DatasetDict

    Dataset.from_list(ROWS).save_to_disk(tmp_path / "table")
    DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:1])).save_to_disk(tmp_path / "dict")
    write(tmp_path / "files" / "README.md", "text")
    write(tmp_path / "files" / "data" / "train.jsonl", ROWS)
    write(tmp_path / "several" / "part-1.jsonl", ROWS[:1])
    write(tmp_path / "several" / "part-2.jsonl", ROWS[1:])
    for name in ("table", "dict", "files", "several"):
        assert load_sft_set(str(tmp_path / name)).examples == PAIRS
    assert load_sft_set(str(tmp_path / "dict"), split="test").examples == PAIRS[:1]
    monkeypatch.chdir(tmp_path)
    assert load_sft_set("several").examples == PAIRS
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_sft_set("~/table").examples == PAIRS


def test_a_single_split_needs_no_name(tmp_path):
    write(tmp_path / "test.jsonl", ROWS)
    assert load_sft_set(str(tmp_path)).examples == PAIRS


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS)
    before = load_sft_set(path)
    write(tmp_path / "a.jsonl", ROWS[:1])
    assert load_sft_set(path).examples == PAIRS[:1]
    assert load_sft_set(path).content_hash != before.content_hash


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "folder/a.jsonl", "folder/a.parquet"])
def test_content_decides_not_time(tmp_path, name):
    from datasets import Dataset

    def keep(rows: list[dict[str, Any]]) -> None:
        path = tmp_path / name
        if path.suffix == ".parquet":
            path.parent.mkdir(exist_ok=True)
            Dataset.from_list(rows).to_parquet(path)
        else:
            write(path, rows)
        for changed in (path, path.parent):
            os.utime(changed, ns=(10**18, 10**18))

    spec = str(tmp_path / name.split("/")[0])
    keep(ROWS)
    assert load_sft_set(spec).examples == PAIRS
    assert load_benchmark(spec)["train"]["prompt"][:] == [e.prompt for e in PAIRS]
    keep([{"prompt": "two?", "response": "2"}, ROWS[1]])
    assert load_sft_set(spec).examples == (Example("two?", "2"), PAIRS[1])
    assert load_benchmark(spec)["train"]["prompt"][0] == "two?"


def test_a_folder_that_cannot_be_written_is_read(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS)
    tmp_path.chmod(0o500)
    try:
        assert load_sft_set(str(tmp_path)).examples == load_sft_set(path).examples == PAIRS
    finally:
        tmp_path.chmod(0o700)


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path):
    for name in ("train.jsonl", "extra.jsonl"):
        write(tmp_path / name, ROWS)
    write(tmp_path / "more.csv", "prompt,response\na,b\n")
    loaded = load_sft_set(str(tmp_path))
    assert loaded.examples == PAIRS
    assert loaded.notes == ("files of the folder that are left out: extra.jsonl, more.csv",)


def test_links_are_read_or_named(tmp_path):
    write(tmp_path / "elsewhere" / "x.jsonl", ROWS)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").symlink_to(tmp_path / "elsewhere" / "x.jsonl")
    assert load_sft_set(str(folder)).notes == ()
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "b.jsonl").symlink_to(tmp_path / "gone")
    loaded = load_sft_set(str(folder))
    left_out = "files of the folder that are left out: b.jsonl (a link), more (a link)"
    assert (loaded.examples, loaded.notes) == (PAIRS, (left_out,))


def test_a_folder_in_it_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "more" / "train.jsonl", ROWS)
    scandir = os.scandir

    def refusing(path: Any) -> Any:  # root reads every folder
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with says(DatasetError, "cannot be read (Permission denied", tmp_path / "more"):
        load_sft_set(str(tmp_path))


def test_the_folder_one_is_in(tmp_path, monkeypatch):
    write(tmp_path / "data" / "train.jsonl", ROWS)
    monkeypatch.chdir(tmp_path / "data")
    for spec in (".", "../data", ".."):
        assert load_sft_set(spec).examples == PAIRS


def test_a_name_is_no_pattern(tmp_path):
    from datasets import Dataset

    for name in ("a*.parquet", "ab.parquet", "c[1].parquet"):
        Dataset.from_list(ROWS if name != "ab.parquet" else ROWS[:1]).to_parquet(tmp_path / name)
    for name in ("a*.parquet", "c[1].parquet"):
        assert load_sft_set(str(tmp_path / name)).examples == PAIRS
    write(tmp_path / "d[1]" / "train.jsonl", ROWS)
    with says(DatasetError, tmp_path / "d[1]", "rename it"):
        load_sft_set(str(tmp_path / "d[1]"))


def test_rows_that_are_read_twice_are_counted(tmp_path):
    import gzip

    path = Path(write(tmp_path / "train.jsonl", ROWS))
    path.with_name("train.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert load_sft_set(str(tmp_path)).notes == ("2 of 4 rows of the SFT set repeat an earlier row",)


def test_configurations_of_a_local_folder(tmp_path):
    names = ("main", "socratic")
    for name, row in zip(names, ROWS, strict=True):
        write(tmp_path / name / "train.jsonl", [row])
    configs = "".join(f"- config_name: {n}\n  data_files: {n}/train.jsonl\n" for n in names)
    write(tmp_path / "README.md", f"---\nconfigs:\n{configs}---\n")
    spec = str(tmp_path)
    assert [load_sft_set(spec, config=name).examples for name in names] == [PAIRS[:1], PAIRS[1:]]
    assert load_benchmark(spec, "socratic")["train"]["prompt"][:] == ["twö?\n"]
    with says(DatasetError, spec, "several configurations", "main, socratic", "sft_name"):
        load_sft_set(spec)
    with says(DatasetError, spec, "no configuration 'other'", "main, socratic"):
        load_sft_set(spec, config="other")
    with says(DatasetError, spec, "no revisions"):
        load_sft_set(spec, config="main", revision="v1")
    file = str(tmp_path / "main" / "train.jsonl")
    with says(DatasetError, file, "without configurations", "'main'", "sft_name"):
        load_sft_set(file, config="main")
    with says(DatasetError, file, "no revisions"):
        load_sft_set(file, revision="v1")


def test_the_hash_is_of_content_alone(tmp_path):
    one, two = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.json", json.dumps(ROWS))
    turned = write(tmp_path / "c.jsonl", ROWS[::-1])
    assert load_sft_set(one).content_hash == load_sft_set(two).content_hash != load_sft_set(turned).content_hash


# ---- columns


@pytest.mark.parametrize(
    "pair",
    [
        "prompt response",
        "prompt completion",
        "question solution",
        "problem solution",
        "instruction output",
        "instruction response",
        "question response",
        "question answer",
        "query response",
        "query answer",
        "Question Response",
        "INSTRUCTION OUTPUT",
        "input output",
    ],
)
def test_recognised_columns(tmp_path, pair):
    prompt, response = pair.split()
    path = write(tmp_path / "a.jsonl", [{"id": 7, response: "r", "extra": None, prompt: "p"}])
    assert load_sft_set(path).examples == (Example("p", "r"),)
    assert load_sft_set(path).notes == ("columns of the SFT set that are left out: id, extra",)


def test_given_columns_come_first(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "response": "r", "frage": "f", "antwort": 5}])
    assert load_sft_set(path, columns=("frage", "antwort")).examples == (Example("f", "5"),)


def test_the_input_of_an_instruction_belongs_to_its_prompt(tmp_path):
    rows = [{"instruction": "add", "input": "1 2", "output": "3"}, {"instruction": "say", "input": "", "output": "a"}]
    assert load_sft_set(write(tmp_path / "a.jsonl", rows)).examples == (Example("add\n1 2", "3"), Example("say", "a"))


def test_what_the_system_says_stands_before_the_prompt(tmp_path):
    rows = [{"system": "be brief", "prompt": "q", "response": "a"}, {"system": "", "prompt": "q", "response": "a"}]
    loaded = load_sft_set(write(tmp_path / "a.jsonl", rows))
    assert loaded.examples == (Example("q", "a", (Message("system", "be brief"),)), Example("q", "a"))
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("column", "pair"),
    [
        ("context", "question answer"),
        ("Context", "instruction response"),
        ("choices", "question answer"),
        ("input", "prompt response"),
        ("history", "instruction output"),
        ("instruction", "question answer"),
    ],
)
def test_columns_of_the_prompt_are_not_left_out_in_silence(tmp_path, column, pair):
    prompt, response = pair.split()
    path = write(tmp_path / "a.jsonl", [{prompt: "q", response: "a", column: "c"}])
    with says(
        DatasetError, path, f"column {column!r}", "belong to the prompt", f'sft_columns: ["{prompt}", "{response}"]'
    ):
        load_sft_set(path)
    loaded = load_sft_set(path, columns=(prompt, response))
    assert loaded.examples == (Example("q", "a"),)
    assert loaded.notes == (f"columns of the SFT set that are left out: {column}",)
    empty = load_sft_set(write(tmp_path / "b.jsonl", [{prompt: "q", response: "a", column: None}]))
    assert empty.examples == (Example("q", "a"),)


def test_preferences_are_no_sft_set(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    with says(DatasetError, path, "preferences", '["prompt column", "chosen"]'):
        load_sft_set(path)
    assert load_sft_set(path, columns=("prompt", "chosen")).examples == (Example("q", "a"),)


def test_conversations_under_any_of_their_names(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    sharegpt = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    for name, messages in (("messages", turns), ("conversations", turns), ("conversations", sharegpt)):
        row = {name: messages, "prompt": "no", "response": "no"}
        loaded = load_sft_set(write(tmp_path / "a.jsonl", [row]))
        assert loaded.examples == (Example("q", "a"),)
        assert loaded.notes == ("columns of the SFT set that are left out: prompt, response",)
    row = {"system": "think", "conversations": [*sharegpt, {**sharegpt[0], "id": 3}, sharegpt[1]]}
    loaded = load_sft_set(write(tmp_path / "b.jsonl", [row]))
    before = (Message("system", "think"), Message("user", "q"), Message("assistant", "a"))
    assert loaded.examples == (Example("q", "a", before, learns_before=True),)
    assert loaded.notes == ("fields of the SFT set's messages that are left out: id",)
    with says(DatasetError, "column 'tools'", "belong to the prompt"):
        load_sft_set(write(tmp_path / "c.jsonl", [{"messages": turns, "tools": [{"name": "f"}]}]))


def test_a_conversation_in_a_table_of_arrow(tmp_path):
    from datasets import Dataset

    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    Dataset.from_list([{"messages": turns}, {"messages": [*turns, *turns]}]).to_parquet(tmp_path / "a.parquet")
    assert load_sft_set(str(tmp_path / "a.parquet")).examples == (
        Example("q", "a"),
        Example("q", "a", (Message("user", "q"), Message("assistant", "a")), learns_before=True),
    )


def test_one_column_is_no_pair(tmp_path):
    with says(DatasetError, "as prompt and as response", "messages"):
        load_sft_set(write(tmp_path / "a.jsonl", [{"talk": []}]), columns=("talk", "talk"))


@pytest.mark.parametrize("columns", [("prompt",), ("prompt", "response", "text"), "prompt"])
def test_columns_are_two(tmp_path, columns):
    with says(DatasetError, "takes two names", repr(columns)):
        load_sft_set(write(tmp_path / "a.jsonl", ROWS), columns=columns)


def test_columns_that_are_not_there(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "p", "label": "r"}])
    with says(DatasetError, path, "text, label", "prompt/response", "messages", "sft_columns"):
        load_sft_set(path)
    with says(DatasetError, path, "no column 'answer'", "text, label"):
        load_sft_set(path, columns=("text", "answer"))


# ---- what cannot be used


@pytest.mark.parametrize("blank", ["", "  \n", None])
@pytest.mark.parametrize("column", ["prompt", "response"])
def test_blank_cells_name_their_rows(tmp_path, blank, column):
    rows = [dict(ROWS[0]) for _ in range(9)]
    for i in (1, 4):
        rows[i][column] = blank
    with says(DatasetError, "2 of 9 rows", "(rows 1, 4, counted from 0)"):
        load_sft_set(write(tmp_path / "a.jsonl", rows))
    for row in rows[1:]:
        row[column] = blank
    with says(DatasetError, "8 of 9 rows", "(rows 1, 2, 3, 4, 5, …, counted from 0)"):
        load_sft_set(write(tmp_path / "a.jsonl", rows))


@pytest.mark.parametrize("content", ["", " \n\n", "[]"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_empty_files(tmp_path, content, suffix):
    path = write(tmp_path / f"a{suffix}", content)
    with says(DatasetError, path, "empty"):
        load_sft_set(path)
    with says(DatasetError, "benchmark", path, "empty"):
        load_benchmark(path)


def test_empty_tables(tmp_path):
    from datasets import Dataset

    table = Dataset.from_dict({"prompt": [], "response": []})
    table.to_parquet(tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "saved")
    write(tmp_path / "folder" / "a.jsonl", "")
    (tmp_path / "nothing").mkdir()
    for name, part in (
        ("a.parquet", "empty"),
        ("saved", "empty"),
        ("folder", "a.jsonl is empty"),
        ("nothing", "holds no"),
    ):
        with says(DatasetError, tmp_path / name, part):
            load_sft_set(str(tmp_path / name))


def test_text_that_is_not_utf_8(tmp_path):
    good = json.dumps(ROWS[0]).encode() + b"\n"
    latin = '{"prompt": "für", "response": "x"}\n'.encode("latin-1")
    cut = good + "ü".encode()[:1]
    utf16 = json.dumps(ROWS).encode("utf-16")
    far = good * 60_000 + latin
    at = latin.index(b"\xfc")
    for content, byte in (
        (latin, at),
        (good + latin, len(good) + at),
        (cut, len(good)),
        (utf16, 0),
        (far, len(good) * 60_000 + at),
    ):
        with says(DatasetError, "a.jsonl", f"not UTF-8 (near byte {byte})"):
            load_sft_set(write(tmp_path / "a.jsonl", content))
    write(tmp_path / "folder" / "b.jsonl", latin)
    with says(DatasetError, tmp_path / "folder", "b.jsonl", "not UTF-8"):
        load_sft_set(str(tmp_path / "folder"))


def test_a_letter_across_two_blocks_is_utf_8(tmp_path):
    start = '{"response": "x", "prompt": "'
    text = start + "a" * ((1 << 20) - len(start) - 1) + "ü" + '"}\n'
    assert load_sft_set(write(tmp_path / "a.jsonl", text)).examples[0].prompt.endswith("aü")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", "hello\n"), ("a.json", "{"), ("a.jsonl", '{"prompt": 1}\n[2]\n'), ("a.parquet", "x")],
)
def test_files_that_are_not_what_their_suffix_says(tmp_path, name, content):
    path = write(tmp_path / name, content)
    with says(DatasetError, path, "cannot be loaded", "suffix"):
        load_sft_set(path)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.jsonl.bak", "a.xlsx"])
def test_unknown_suffixes(tmp_path, name):
    path = write(tmp_path / name, ROWS)
    with says(DatasetError, path, "cannot tell the format", ".jsonl"):
        load_sft_set(path)


@pytest.mark.parametrize(
    "spec",
    [
        "./none",
        "/none/at/all",
        "~/none",
        "~nobody-of-that-name/x",
        "none.jsonl",
        "a/none.parquet",
        "a/b/c",
        "",
        "none.csv",
    ],
)
def test_missing_files(spec):
    with says(DatasetError, f"SFT set {spec}", "does not exist"):
        load_sft_set(spec)
    with says(DatasetError, f"benchmark {spec}", "does not exist"):
        load_benchmark(spec)


def test_missing_splits(tmp_path):
    from datasets import Dataset

    write(tmp_path / "f" / "validation.jsonl", ROWS)
    write(tmp_path / "f" / "test.jsonl", ROWS)
    with says(DatasetError, tmp_path / "f", "no split 'train'", "validation, test", "sft_split"):
        load_sft_set(str(tmp_path / "f"))
    with says(DatasetError, "no split 'dev'", "validation, test"):
        load_sft_set(str(tmp_path / "f"), split="dev")
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "table")
    with says(DatasetError, tmp_path / "table", "no split 'test'"):
        load_sft_set(str(tmp_path / "table"), split="test")


@pytest.mark.parametrize("spec", ["no-such-owner/no-such-set", "no-such-set", "bad name!/x", "x" * 300])
def test_hub_ids_that_cannot_be_reached(spec, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with says(DatasetError, f"SFT set {spec}", "cannot be loaded", "local copy"):
        load_sft_set(spec)
    with says(DatasetError, f"benchmark {spec}", "cannot be loaded", "benchmark_path"):
        load_benchmark(spec)


# ---- benchmarks


def test_benchmarks(tmp_path):
    from datasets import Dataset

    write(tmp_path / "b" / "test.jsonl", ROWS)
    write(tmp_path / "b" / "validation.jsonl", ROWS[:1])
    splits = load_benchmark(str(tmp_path / "b"), trust_remote_code=True)  # as some of lm-eval's YAMLs have it
    assert {name: len(rows) for name, rows in splits.items()} == {"test": 2, "validation": 1}
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "table")
    assert len(load_benchmark(str(tmp_path / "table"))["test"]) == 2


# ---- the hub's cache

HUB = """
import json, sys
from lm_eval_sts.data import load_benchmark, load_sft_set
from lm_eval_sts.errors import DatasetError
found = {}
for spec, revision in (("org/files", None), ("org/files", %(commit)r), ("org/table", None), ("org/prepared", None)):
    loaded = load_sft_set(spec, revision=revision)
    found[f"{spec}@{revision}"] = [[[e.prompt, e.response] for e in loaded.examples], loaded.revision]
for spec, revision in (("org/files", "f" * 40), ("org/prepared", "f" * 40), ("org/none", None)):
    try:
        load_sft_set(spec, revision=revision)
    except DatasetError as error:
        found[f"{spec}@{revision}"] = str(error)
found["named"] = {k: len(v) for k, v in load_benchmark("org/table", "second").items()}
print(json.dumps(found))
"""


def test_the_hub_cache_is_enough_offline(tmp_path):
    """Downloaded files and tables that datasets prepared, laid out as huggingface_hub and datasets lay them out."""
    from datasets import Dataset, load_dataset

    def snapshot(name: str) -> Path:
        repository = tmp_path / "hub" / f"datasets--org--{name}"
        write(repository / "refs" / "main", COMMIT)
        return repository / "snapshots" / COMMIT

    rows = [{"question": r["prompt"], "solution": r["response"]} for r in ROWS]
    write(snapshot("files") / "train.jsonl", rows)
    blob = tmp_path / "hub" / "datasets--org--table" / "blobs" / "b1"
    blob.parent.mkdir(parents=True)
    Dataset.from_list(ROWS).to_parquet(blob)
    link = snapshot("table") / "data" / "train-00000-of-00001.parquet"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    (snapshot("table") / "second").mkdir()
    Dataset.from_list(ROWS[:1]).to_parquet(snapshot("table") / "second" / "test.parquet")
    second = "- config_name: second\n  data_files:\n  - split: test\n    path: second/*\n"
    write(
        snapshot("table") / "README.md",
        f"---\nconfigs:\n- config_name: default\n  data_files: data/*\n{second}---\n",
    )

    source = load_dataset("json", data_files=write(tmp_path / "x.jsonl", ROWS), cache_dir=str(tmp_path / "made"))
    prepared = Path(source["train"].cache_files[0]["filename"]).parent
    target = tmp_path / "datasets" / "org___prepared" / "default" / "0.0.0" / COMMIT
    target.mkdir(parents=True)
    info = json.loads((prepared / "dataset_info.json").read_text()) | {"dataset_name": "prepared"}
    write(target / "dataset_info.json", json.dumps(info))
    (prepared / "json-train.arrow").rename(target / "prepared-train.arrow")

    home = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    command = [sys.executable, "-c", HUB % {"commit": COMMIT}]
    done = subprocess.run(command, env={**os.environ, **home, **cache}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    pairs = [[e.prompt, e.response] for e in PAIRS]
    for name in ("org/files@None", f"org/files@{COMMIT}", "org/table@None", "org/prepared@None"):
        assert found.pop(name) == [pairs, COMMIT], name
    assert found.pop("named") == {"test": 1}
    assert "org/files" in found[f"org/files@{'f' * 40}"]
    assert COMMIT in found[f"org/prepared@{'f' * 40}"] and "f" * 40 in found[f"org/prepared@{'f' * 40}"]
    assert "org/none cannot be loaded" in found["org/none@None"]
    assert not any("\n" in text for text in found.values())
