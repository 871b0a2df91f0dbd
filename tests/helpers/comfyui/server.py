"""A real ComfyUI in a process of its own, driven the way a browser drives it.

The nodes promise things only a running host can confirm: that the pack loads, that progress and
previews arrive, that Cancel works, that a second run is cached. So these tests talk HTTP and
websocket to the program users run, with a folder of its own for models, input and output.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import requests
import websocket
from PIL import Image

from helpers.comfyui.run import Event, Preview, Run

Graph = Mapping[str, Any]  # node id -> {"class_type": ..., "inputs": ...}, ComfyUI's API format
InterruptWhen = Callable[[Event], bool]

HOST_VERSIONS = ("0.30.0", "0.3.75")  # newest and oldest supported

# The models are too small to gain from more, and on a busy machine threads wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

LOG_TAIL = 6000  # characters; enough for a traceback
TEXT, PREVIEW_WITH_METADATA = 3, 4  # kinds of binary messages
CLIENT_FEATURES = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


@final
class ComfyServer:
    """host: folder with ComfyUI's main.py; pack, extra_packs: copied to custom_nodes/<name>.

    base: a folder of its own; models, input, output and temp are made below it, so a test can put
    a checkpoint into base / "models" at any time (lists of files are read per request).
    place: arguments that say where it computes; none for the first card it finds
    """

    def __init__(
        self,
        host: Path,
        pack: Path,
        base: Path,
        *,
        extra_packs: Sequence[Path] = (),
        extra_args: Sequence[str] = (),
        place: Sequence[str] = ("--cpu",),
        env: Mapping[str, str] | None = None,
        boot_timeout: float = 180,
    ) -> None:
        self.host = host
        self.base = base
        self._log_path = base / "server.log"
        self._lay_out([pack, *extra_packs])
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        with self._log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self._command(port, [*place, *extra_args]),
                cwd=host,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready(boot_timeout)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> ComfyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Everything the server has printed so far."""
        return self._log_path.read_text(errors="replace")

    def run(
        self,
        graph: Graph,
        *,
        interrupt_when: InterruptWhen | None = None,
        timeout: float = 120,
        workflow: Mapping[str, Any] | None = None,
        preview_method: str | None = None,
    ) -> Run:
        """Queues graph and returns when it has succeeded, failed or been interrupted.

        interrupt_when: sees every event of this prompt; the first True presses Cancel.
        workflow: the editor's format, saved into output pictures beside graph.
        preview_method: the page's setting; versions that have none ignore it.
        """
        client = uuid.uuid4().hex
        connection = websocket.create_connection(
            f"ws://{self.address}/ws?clientId={client}", timeout=timeout
        )
        try:
            # Only honoured as the first message; without it previews do not name their node.
            connection.send(json.dumps(CLIENT_FEATURES))
            extra = {"extra_pnginfo": {"workflow": dict(workflow or {})}}
            if preview_method is not None:
                extra["preview_method"] = preview_method
            request = {"prompt": graph, "client_id": client, "extra_data": extra}
            response = requests.post(f"{self.url}/prompt", json=request, timeout=timeout)
            body = response.json()
            if response.status_code != 200:
                return Run(response.status_code, body)
            prompt = body["prompt_id"]
            events, previews, texts = self._listen(connection, prompt, interrupt_when, timeout)
            history = self._get(f"history/{prompt}")[prompt]
            return Run(response.status_code, body, events, previews, history, texts)
        finally:
            connection.close()

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Stops that prompt; without an id, whatever runs."""
        self._post("interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def free(self, *, unload_models: bool = True, free_memory: bool = False) -> None:
        """The menu's "unload models"; free_memory also drops cached results.

        Returns at once: ComfyUI does it in its worker a moment later, so poll for the effect.
        """
        self._post("free", {"unload_models": unload_models, "free_memory": free_memory})

    def view(self, image: Mapping[str, str]) -> Image.Image:
        """image: as in Run.images()."""
        response = requests.get(f"{self.url}/view", params=image, timeout=60)
        response.raise_for_status()
        return Image.open(io.BytesIO(response.content))

    def upload(self, image: Image.Image, name: str) -> str:
        """Returns what a LoadImage node takes as its image."""
        content = io.BytesIO()
        image.save(content, "PNG")
        files = {"image": (name, content.getvalue(), "image/png")}
        data = {"overwrite": "true"}
        response = requests.post(f"{self.url}/upload/image", files=files, data=data, timeout=60)
        response.raise_for_status()
        return response.json()["name"]

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """What the editor knows of one node, or of all: id -> description."""
        if node is None:
            return self._get("object_info")
        return self._get(f"object_info/{node}")[node]

    def queue_length(self) -> int:
        """Prompts that run or wait."""
        queue = self._get("queue")
        return len(queue["queue_running"]) + len(queue["queue_pending"])

    def stats(self) -> dict[str, Any]:
        return self._get("system_stats")

    def rss_anon(self) -> int:
        """Bytes of memory the server holds, mapped files not counted. Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024

    def stop(self) -> None:
        """Safe to call twice."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _lay_out(self, packs: Sequence[Path]) -> None:
        for folder in ("custom_nodes", "models", "input", "output", "temp", "user/default"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for pack in packs:
            shutil.copytree(pack, self.base / "custom_nodes" / pack.name)
        # Keeps the first-run dialog out of the way of tests that open a browser.
        settings = self.base / "user" / "default" / "comfy.settings.json"
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))

    def _command(self, port: int, extra_args: Sequence[str]) -> list[str]:
        # The default database lies in the ComfyUI folder, which other servers share.
        database = f"sqlite:///{self.base / 'comfyui.db'}"
        return [
            *(sys.executable, "main.py", "--disable-api-nodes"),
            *("--listen", "127.0.0.1", "--port", str(port)),
            *("--base-directory", str(self.base), "--database-url", database),
            *("--preview-method", "auto", *extra_args),
        ]

    def _wait_until_ready(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(self._with_log(f"exited with {self.process.returncode}"))
            try:
                self.stats()
                return
            except requests.RequestException:
                time.sleep(0.1)
        raise TimeoutError(self._with_log(f"did not answer within {timeout:.0f} s"))

    def _listen(
        self,
        connection: websocket.WebSocket,
        prompt: str,
        interrupt_when: InterruptWhen | None,
        timeout: float,
    ) -> tuple[list[Event], list[Preview], list[tuple[str, str]]]:
        events: list[Event] = []
        previews: list[Preview] = []
        texts: list[tuple[str, str]] = []
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                opcode, message = connection.recv_data()
            except websocket.WebSocketTimeoutException:
                break
            except (websocket.WebSocketException, OSError) as error:
                raise RuntimeError(self._with_log("closed the connection")) from error
            if opcode == websocket.ABNF.OPCODE_BINARY:
                previews += _read_preview(message, prompt)
                texts += _read_text(message)
                continue
            event = _read_event(message, prompt)
            if event is None:
                continue
            events.append(event)
            if interrupt_when and interrupt_when(event):
                interrupt_when = None
                self.interrupt(prompt)
            # Sent once, last, after success, failure and interruption alike.
            if event.type == "executing" and event.data["node"] is None:
                return events, previews, texts
        raise TimeoutError(self._with_log(f"did not finish the prompt within {timeout:.0f} s"))

    def _get(self, path: str) -> dict[str, Any]:
        response = requests.get(f"{self.url}/{path}", timeout=60)
        response.raise_for_status()
        return response.json()

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        requests.post(f"{self.url}/{path}", json=body, timeout=60).raise_for_status()

    def _with_log(self, what: str) -> str:
        return f"ComfyUI ({self.host}) {what}. End of its log:\n{self.log[-LOG_TAIL:]}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _read_event(message: bytes, prompt: str) -> Event | None:
    """None for events of other prompts, and for those of the queue."""
    content = json.loads(message)
    data = content.get("data") or {}
    return Event(content["type"], data) if data.get("prompt_id") == prompt else None


def _read_preview(message: bytes, prompt: str) -> list[Preview]:
    """message: kind, length of the metadata (both big-endian uint32), metadata, picture."""
    kind, length = struct.unpack_from(">II", message)
    if kind != PREVIEW_WITH_METADATA:
        return []
    metadata = json.loads(message[8 : 8 + length])
    if metadata.get("prompt_id") != prompt:
        return []
    return [Preview(metadata, message[8 + length :])]


def _read_text(message: bytes) -> list[tuple[str, str]]:
    """message: kind, length of the node's id, both big-endian uint32, that id and the text."""
    kind, length = struct.unpack_from(">II", message)
    if kind != TEXT:
        return []
    return [(message[8 : 8 + length].decode(), message[8 + length :].decode())]
