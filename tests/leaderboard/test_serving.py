"""The page is served to this machine only, whatever is asked of the server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.leaderboard import serving
from lm_eval_sts.leaderboard.serving import make_server
from tests.leaderboard import boards
from tests.messages import says


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(serving._Handler, "timeout", 1.0)
    site = tmp_path / "site"
    (site / "inside").mkdir(parents=True)
    (site / "index.html").write_text("the page")
    (tmp_path / "secret").write_text("a secret")
    (site / "linked").symlink_to(tmp_path / "secret")
    with make_server(site, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()


def ask(port: int, path: str = "/index.html", *headers: str, method: str = "GET") -> str:
    """The whole answer to one request."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        lines = [f"{method} {path} HTTP/1.0", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        return connection.makefile("rb").read().decode("latin-1")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost"])
def test_this_machine_is_answered(port, name):
    for path in ("/index.html", "/", "/index.html?x=1"):
        assert ask(port, path, f"Host: {name}:{port}").endswith("the page")
    assert " 200 " in ask(port, "/index.html", f"Host: {name}:{port}", method="HEAD")


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Host: evil.example",),
        ("Host: evil.example:PORT",),
        ("Host: 127.0.0.1:PORT", "Host: evil.example"),
        ("Host: 127.0.0.1:1",),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_another_name_for_this_machine_is_refused(port, headers, method):
    answer = ask(port, "/index.html", *(header.replace("PORT", str(port)) for header in headers), method=method)
    assert " 421 " in answer.splitlines()[0] and "the page" not in answer


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/%00", 400), ("/index.html%00.txt", 400), ("/../secret", 404), ("/%2e%2e/secret", 404),
        ("/..%2fsecret", 404),
        ("//../secret", 404), ("/linked", 404), ("/inside/", 404), ("/none", 404), ("/%ff", 404),
        ("/" + "x" * 5000, 404),
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere(port, path, code, capfd):
    answer = ask(port, path, f"Host: 127.0.0.1:{port}")
    assert f" {code} " in answer.splitlines()[0] and "secret" not in answer.partition("\r\n\r\n")[2]
    assert "Traceback" not in capfd.readouterr().err
    assert ask(port, "/", f"Host: 127.0.0.1:{port}").endswith("the page")


def test_who_keeps_silent_is_let_go(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\nHost")
        assert connection.recv(1) == b""


def test_a_port_that_is_taken(port, tmp_path):
    with says(SettingsError, f"--port {port}: ", "choose another, or 0 for a free one"):
        make_server(tmp_path, port)


def test_ended_from_outside_it_leaves_nothing(tmp_path):
    root = boards.write(tmp_path / "leaderboard")
    (tmp_path / "tmp").mkdir()
    code = "from lm_eval_sts.cli import main; main()"
    command = [sys.executable, "-u", "-c", code, "leaderboard", "serve", "--port", "0", "--root", str(root)]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        assert running.stdout.readline().startswith("serving ")
        assert list((tmp_path / "tmp").iterdir())
        running.send_signal(signal.SIGTERM)
        assert running.communicate()[1].splitlines()[-1] == "wrote 19 pages"
    assert running.returncode == 0
    assert not list((tmp_path / "tmp").iterdir())
