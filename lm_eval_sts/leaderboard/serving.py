"""Serving the page on this machine, to nobody else: neither to other machines nor to other pages in the browser."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import unquote

from lm_eval_sts.errors import SettingsError
from lm_eval_sts.texts import printable

HOST: Final = "127.0.0.1"
_SECONDS: Final = 10.0
"""How long a request may keep silent; a browser on the same machine needs none of it."""


def make_server(site: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder, reachable from this machine only.

    Args:
        site: The folder; it may be made later.
        port: 0 takes a free one.

    Raises:
        SettingsError: The port cannot be taken.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, directory=str(site.resolve())))
    except (OSError, OverflowError) as error:
        raise SettingsError(f"--port {port}: {error}: choose another, or 0 for a free one") from error


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Ends in silence at Ctrl-C, and at SIGTERM too, after what is inside was cleaned up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Handler(SimpleHTTPRequestHandler):
    """Answers requests that name this machine, for files that really lie in the folder."""

    timeout = _SECONDS
    server_version = "lm-eval-sts"
    sys_version = ""

    def parse_request(self) -> bool:
        """Refuses what was addressed to another name that leads here, as a hostile page makes one (DNS rebinding)."""
        if not super().parse_request():
            return False
        if [name.lower() for name in self.headers.get_all("Host", [])] not in self._names():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This page is served to this machine only")
            return False
        return True

    def send_head(self) -> Any:
        """Refuses paths that no file can have, or that lead out of the folder through a link."""
        if "\0" in unquote(self.path):
            self.send_error(HTTPStatus.BAD_REQUEST, "No file has such a name")
            return None
        with contextlib.suppress(OSError, ValueError):
            if Path(self.translate_path(self.path)).resolve().is_relative_to(self.directory):
                return super().send_head()
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def list_directory(self, path: Any) -> None:
        """Folders are not listed."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Nothing may be guessed of a file, and no other page may show or read it."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are lines of unknown origin."""
        super().log_message("%s", printable(format % args))

    def _names(self) -> list[list[str]]:
        port = self.connection.getsockname()[1]
        return [[f"{name}:{port}"] for name in (HOST, "localhost")] + ([[HOST], ["localhost"]] if port == 80 else [])
