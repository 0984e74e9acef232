"""Submissions as pull requests of a results repository, and the board as a Space, against a stand-in for the hub."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from huggingface_hub.repocard import metadata_load

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.leaderboard.serving import make_server
from lm_eval_sts.leaderboard.space import write_space
from lm_eval_sts.records import Submission, parse_record, save_record
from tests.agreement import made
from tests.leaderboard import boards
from tests.leaderboard.made import CONTENT, WEIGHTS, leaderboard
from tests.messages import says

REPO = "org/results"
WORDS = ("--category", "predictor", "--title", "T", "--description", "D", "--source", "S", "--evidence", "texts")


@pytest.fixture
def submit(call, tmp_path):
    root = leaderboard(tmp_path)
    prediction = made.prediction({"law": 1.5, "math": 2.0, "physics": 0.25}, weights=WEIGHTS, content=CONTENT)
    save_record(prediction, tmp_path / "p.json")
    about = ("--name", "A. Nother", "--code_url", "https://example.org/code", "--commit", "abcdef0", *WORDS)

    def run(*options: object, **how: object):
        return call("leaderboard", "submit", tmp_path / "p.json", "--root", root, *about, *options, **how)

    return run


def test_a_submission_opens_a_pull_request(hub, submit):
    repository = hub.make(f"datasets/{REPO}")
    done = submit("--push", REPO, token="hf_reads")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == f"{hub.url}/datasets/{REPO}/discussions/1"
    (request,) = repository.requests
    assert request["title"] == "Submissions of sts_icl" and "A. Nother" in request["text"]
    ((name, content),) = request["files"].items()
    assert name == "submissions/sts_icl/1.json" and len(repository.commits) == 1
    assert parse_record(Submission, json.loads(content), name).submitter.name == "A. Nother"
    repository.commit({**repository.files, **request["files"]})  # it is merged
    again = submit("--push", REPO)
    assert again.code == 0 and "nothing new" in again.out and len(repository.requests) == 1


def test_without_a_token_the_commands_are_told(hub, submit, tmp_path):
    done = submit("--push", REPO, token=None)
    assert done.code == 1 and "no token of the hub" in done.err
    file, upload, pull_request = done.out.splitlines()
    assert upload == f"hf upload {REPO} {file} submissions/sts_icl/1.json --repo-type=dataset --create-pr"
    assert f"git add {file}" in pull_request and pull_request.endswith("gh pr create --fill")
    assert not hub.asked


def test_what_stops_a_pull_request(submit, tmp_path):
    done = submit("--push", REPO)
    assert done.code == 1 and f"no dataset repository {REPO}" in done.err
    assert "--push shows what --output is to keep" in submit("--push", REPO, "--output", tmp_path / "private").error


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    root = boards.write(tmp_path_factory.mktemp("board") / "leaderboard")
    folder = tmp_path_factory.mktemp("space") / "space"
    write_space(root, folder, "Who predicts: best?")
    write_space(root, folder, "Who predicts: best?")  # over an older one
    return folder


def test_a_space_has_the_hubs_header_and_serves(space):
    header = metadata_load(space / "README.md")
    assert (header["sdk"], header["app_file"], header["title"]) == ("static", "index.html", "Who predicts: best?")
    assert len(header["short_description"]) <= 60
    with make_server(space, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        page = urlopen(address).read().decode()
        assert "<title>" in page and "good" in page
        assert urlopen(address + "assets/board.css").status == 200
        server.shutdown()


def test_a_space_is_uploaded_as_it_is(space, hub, process, call):
    """By a child that may reach the network, with the hub's own command line."""
    import os
    import subprocess
    import sys

    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_writes", "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    hub.make("spaces/me/board")
    code = (
        "import sys; from huggingface_hub import HfApi; HfApi().upload_folder(repo_id='me/board', repo_type='space', "
    )
    code += "folder_path=sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(space)], env=environment, check=True, capture_output=True)
    files = hub.repositories["spaces/me/board"].files
    below = {path.relative_to(space).as_posix(): path for path in space.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in below.items()}.items() <= files.items()
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1])["sdk"] == "static"


def test_a_title_is_one_line(tmp_path):
    for title in (" ", "a\nb"):
        with says(SettingsError, "--title"):
            write_space(tmp_path, tmp_path / "space", title)
