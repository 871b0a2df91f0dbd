"""A server on this machine that answers as Hugging Face does, and fails where it is told to."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from varsr_core.varsr.family import FILES, REPOSITORY

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 2**14  # bytes sent at once


@cache
def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """/REPOSITORY/resolve/REVISION/FILE tells a file's hash and leads to /cdn/FILE, which has it.

    By the file's name:
    damaged:  whose bytes are all zero
    breaks:   after how many bytes of a connection the server ends it
    stops:    at which byte of the file it says no more; once that is lifted, it ends the connection
    hashless: whose hash it does not tell
    pause:    seconds before each piece
    ranges:   whether parts of a file can be asked for
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = dict(files)
        self.damaged: set[str] = set()
        self.hashless: set[str] = set()
        self.breaks: dict[str, int] = {}
        self.stops: dict[str, int] = {}
        self.pause, self.ranges = 0.0, True
        self.requests: list[str] = []
        self.asked: list[tuple[str, int]] = []  # of contents: file, first byte
        self.sent: dict[str, int] = {}
        self.stopped = threading.Event()  # waiting at a place of `stops`

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def let_go(self) -> None:
        """Nothing fails from now on."""
        for failing in (self.damaged, self.hashless, self.breaks, self.stops):
            failing.clear()
        self.pause = 0.0
        self.stopped.clear()

    def forget(self) -> None:
        """What was asked and sent before."""
        for seen in (self.requests, self.asked, self.sent):
            seen.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what tests are about."""


class HubHandler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        name = self.path.rsplit("/", 1)[-1]
        content = self.server.files.get(name)
        if content is None:
            self.told(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        elif f"/{REPOSITORY}/resolve/" in self.path:
            linked = {"X-Linked-ETag": f'"{self.tag(name)}"', "X-Linked-Size": str(len(content))}
            # Another name for this machine, as the files lie on another server than the pages.
            place = {"Location": f"http://localhost:{self.server.server_port}/cdn/{name}"}
            self.told(302, {"X-Repo-Commit": COMMIT, "Content-Length": "0", **linked, **place})
        else:
            self.send(name, content, body=body)

    def tag(self, name: str) -> str:
        if name in self.server.hashless:
            return "not-a-hash"
        return sha256(self.server.files[name])

    def send(self, name: str, content: bytes, *, body: bool) -> None:
        asked = self.headers.get("Range", "") if self.server.ranges else ""
        first = int(asked.removeprefix("bytes=").partition("-")[0] or 0)
        size = len(content)
        said = {"ETag": f'"{self.tag(name)}"', "Content-Length": str(size - first)}
        if asked:
            said["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
        self.told(206 if asked else 200, said)
        if body:
            self.server.asked.append((name, first))
            self.send_bytes(name, bytes(size) if name in self.server.damaged else content, first)

    def send_bytes(self, name: str, content: bytes, first: int) -> None:
        server, at = self.server, first
        while at < len(content):
            ends = [first + server.breaks[name]] if name in server.breaks else []
            stops = [server.stops[name]] if name in server.stops else []
            if at in stops:
                server.stopped.set()
                while server.stops.get(name) == at:
                    time.sleep(0.01)
            if at in (*ends, *stops):
                self.close_connection = True
                return
            nearest = min(end for end in (at + PIECE, len(content), *ends, *stops) if end > at)
            time.sleep(server.pause)
            self.wfile.write(content[at:nearest])
            server.sent[name] = server.sent.get(name, 0) + nearest - at
            at = nearest

    def told(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(files: Mapping[str, bytes] | None = None) -> Iterator[Hub]:
    """files: by name; by default as many bytes that are no model."""
    made = {name: name.encode() * 20_000 for name in FILES}
    with Hub(made if files is None else files) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield hub
        hub.let_go()
        hub.shutdown()
        thread.join()
