"""Step 6: the pack in a real ComfyUI that was brought along, started as users start it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tools import random_nsarm
from tools.gpu.chip import Chip
from tools.gpu.notes import Notes

if TYPE_CHECKING:
    from helpers.comfyui.run import Event, Run
    from helpers.comfyui.server import ComfyServer

NEEDED = ("requests", "websocket", "PIL")  # what talks to a server
COLOR = re.compile(r"\x1b\[\d*m")
FAULTS = re.compile(r"traceback|exception|error|not work|cannot", re.IGNORECASE)
MEMORY = re.compile(r"vram|aimdo|memory", re.IGNORECASE)
LINES, PATIENCE = 12, 100.0  # of the log that are kept; seconds for one prompt
MODEL_FILE, TEXT_ENCODER = "micro_fp32.safetensors", "t5_tiny.safetensors"


def run(chip: Chip, notes: Notes, host: Path | None) -> None:
    """host: the folder with ComfyUI's main.py, or None"""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if host is None or missing:
        lacks = f"Python has no {', '.join(missing)}" if host else "--comfyui names no folder"
        notes.add("ComfyUI", {"not brought": lacks})
        return
    from tools.host import comfyui, node

    with comfyui(host, place=chip.comfyui) as (server, graph):
        node(graph, "VARSR_Upscale")["scale"] = chip.amount.enlarged
        notes.attempt("start", partial(_start, server))
        for seed in range(3):
            notes.attempt(f"template, run {seed + 1}", partial(_template, server, graph, seed))
        notes.attempt("Cancel", partial(_cancel, server, graph))
        for method in _methods(server, chip.lacks):
            for run_ in range(1, 4):
                what = f"Accelerate, {method}, run {run_}"
                notes.attempt(what, partial(_accelerated, server, graph, method, run_))
        notes.attempt("NSARM Encode Text", partial(_text, server, graph))
        notes.add("log", _log(server))


def _start(server: ComfyServer) -> dict[str, Any]:
    stats = server.stats()
    return {
        "ComfyUI": stats["system"].get("comfyui_version"),
        "device": [device["name"] for device in stats["devices"]],
        "on memory": [line for line in _lines(server) if MEMORY.search(line)][:LINES],
    }


def _told(server: ComfyServer, graph: dict, **asked: Any) -> tuple[Run, dict[str, Any]]:
    started = time.perf_counter()
    done = server.run(graph, timeout=PATIENCE, **asked)
    told: dict[str, Any] = {
        "succeeded": done.succeeded, "s": time.perf_counter() - started
    }  # fmt: skip
    if not done.succeeded and not done.interrupted:
        told["error"] = str((done.error or {}).get("exception_message", done.body)).strip()
    return done, told


def _template(server: ComfyServer, graph: dict, seed: int) -> dict[str, Any]:
    from tools.host import node

    asked = deepcopy(graph)
    node(asked, "VARSR_Upscale")["seed"] = seed
    done, told = _told(server, asked, preview_method="auto")
    sizes = [server.view(image).size for image in done.images()]
    return {**told, "previews": len(done.previews), "sizes": sizes}


def _cancel(server: ComfyServer, graph: dict) -> dict[str, Any]:
    """In the middle of a picture, and a whole picture after that."""
    from tools.host import node

    asked, pressed = deepcopy(graph), [0.0]
    node(asked, "VARSR_Upscale")["seed"] = 1000

    def half_done(event: Event) -> bool:
        pressed[0] = time.perf_counter()
        return event.type == "progress" and 2 * event.data["value"] >= event.data["max"]

    done = server.run(asked, timeout=PATIENCE, interrupt_when=half_done)
    waited = time.perf_counter() - pressed[0]
    _, after = _told(server, asked)
    return {"stopped": done.interrupted, "s to stop": waited, "afterwards": after}


def _methods(server: ComfyServer, lacks: Sequence[str]) -> list[str]:
    """All that the node offers, but for what the chip has not."""
    method = server.object_info("VARSR_Accelerate")["input"]["required"]["method"]
    offered = method[1]["options"] if method[0] == "COMBO" else method[0]
    return [name for name in offered if not any(word in name for word in lacks)]


def _accelerated(server: ComfyServer, graph: dict, method: str, number: int) -> dict[str, Any]:
    from tools.host import node
    from tools.host import number as id_of

    asked = deepcopy(graph)
    model = [id_of(asked, "VARSR_LoadModel"), 0]
    choices = {"method": method, "weights": "as loaded", "unguided_scales": 0}
    asked["accelerate"] = {"class_type": "VARSR_Accelerate", "inputs": {"model": model, **choices}}
    upscale = node(asked, "VARSR_Upscale")
    upscale["model"], upscale["seed"] = ["accelerate", 0], 2000 + number
    return _told(server, asked)[1]


def _text(server: ComfyServer, graph: dict) -> dict[str, Any]:
    """A prompt through a tiny T5, and a picture made with it by a tiny model."""
    from helpers.comfyui.nsarm_checkpoints import TEXT_WIDTH, write_text_encoder
    from helpers.comfyui.nsarm_graphs import NSARMGraph
    from tools.host import node
    from varsr_core.convert import convert_files

    models = server.base / "models"
    release = random_nsarm.write_release(models / "nsarm", random_nsarm.MICRO)
    convert_files(list(release), models / "nsarm" / MODEL_FILE, torch.float32)
    (models / "text_encoders").mkdir(exist_ok=True)
    write_text_encoder(models / "text_encoders" / TEXT_ENCODER, TEXT_WIDTH)
    asked = NSARMGraph()
    picture = asked.picture(node(graph, "LoadImage")["image"])
    model, text = asked.load(MODEL_FILE), asked.text(TEXT_ENCODER)
    asked.save(asked.upscale(model, picture, text=text, scale=1.0, guidance=3.0))
    return _told(server, asked)[1]


def _lines(server: ComfyServer) -> list[str]:
    return COLOR.sub("", server.log).splitlines()


def _log(server: ComfyServer) -> dict[str, Any]:
    faults = [line for line in _lines(server) if FAULTS.search(line)]
    return {"lines with faults": len(faults), "first": faults[:LINES]}
