"""Random graphs on a real ComfyUI: a finite picture, the host's refusal, or an error of ours."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from helpers.comfyui.checkpoints import write_checkpoints
from helpers.comfyui.graphs import upscale_graph
from helpers.comfyui.nsarm_checkpoints import write_nsarm
from helpers.comfyui.pictures import structured_picture
from helpers.comfyui.run import Run
from helpers.comfyui.server import ONE_THREAD, ComfyServer
from tools.fuzzing.common import Outcome, draw
from tools.fuzzing.graphs import OURS, random_graph
from tools.host import NOT_SHIPPED, ROOT

PROBE_PACK = ROOT / "tests" / "comfyui" / "probe_pack"
PICTURE = "fuzz.png"
LONG = 30  # seconds, after which a run is interrupted: its picture is only large
LONGEST = 300
ALLOWED = ("InputError", "CheckpointError")


def outcomes(host: Path, seed: int, numbers: Sequence[int], folder: Path) -> Iterator[Outcome]:
    """Of one server; the last outcome is that of a good graph after all the others."""
    pack, base = folder / "ComfyUI-VARSR", folder / "comfyui"
    shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    with redirect_stderr(io.StringIO()):  # bars
        write_checkpoints(base / "models" / "varsr")
        write_nsarm(base / "models")
    with ComfyServer(host, pack, base, extra_packs=[PROBE_PACK], env=ONE_THREAD) as server:
        yield from on_server(server, seed, numbers)


def on_server(server: ComfyServer, seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    server.upload(structured_picture(12, 10), PICTURE)
    info = server.object_info()
    number = -1
    for number in numbers:
        graph = random_graph(draw("nodes", seed, number), info, PICTURE)
        yield tried(server, number, graph)
        if server.process.poll() is not None:
            return
    run = server.run(upscale_graph(PICTURE, seed=seed))
    fault = "" if run.succeeded else f"a good graph fails in the end: {run.error or run.body}"
    yield Outcome(number + 1, "good graph in the end", "the graph of an upscale", fault)


def tried(server: ComfyServer, number: int, graph: dict[str, Any]) -> Outcome:
    began = time.monotonic()
    cancel = threading.Timer(LONG, server.interrupt)
    cancel.start()
    try:
        run = server.run(graph, timeout=LONGEST)
        kind, fault = judged(server, run)
    except requests.JSONDecodeError:  # the host stumbled over the graph, before any node
        kind, fault = "refused by the host, without words", ""
    except (OSError, RuntimeError, TimeoutError, ValueError) as error:
        kind, fault = type(error).__name__, f"{type(error).__name__}: {str(error)[-1500:]}"
    finally:
        cancel.cancel()
        cancel.join()
    if server.process.poll() is not None:
        fault = f"the server ended with {server.process.returncode}: {server.log[-1500:]}"
    what = json.dumps(graph)
    what = what if fault else f"{len(graph)} nodes"
    return Outcome(number, kind, what, fault, time.monotonic() - began)


def judged(server: ComfyServer, run: Run) -> tuple[str, str]:
    """Kind of a run, and its fault."""
    if run.status != 200:
        return "refused by the host", ""
    if run.interrupted:
        return "interrupted, took long", ""
    if run.error is not None:
        node, raised = run.error["node_type"], run.error["exception_type"].rpartition(".")[2]
        if not node.startswith(OURS):
            return f"{raised} in another node", ""
        said = f"{node}: {raised}: {run.error['exception_message'][:300]}"
        if raised in ALLOWED:
            return raised, ""
        return raised, f"{said}\n{''.join(run.error['traceback'][-3:])}"
    if not run.succeeded:
        return "no end", f"neither done nor failed: {run.history}"
    finite = [one for shown in run.outputs.values() for one in shown.get("finite", [])]
    if not all(finite):
        return "not finite", "a picture with NaN or infinite values"
    for image in run.images():
        name = image["filename"]
        if image.get("type") == "output" and not _readable(server, image):
            return "no picture", f"{name} cannot be read"
    return "a picture", ""


def _readable(server: ComfyServer, image: dict[str, str]) -> bool:
    answer = requests.get(f"{server.url}/view", params=image, timeout=60)
    with Image.open(io.BytesIO(answer.content)) as opened:
        return min(opened.size) > 0
