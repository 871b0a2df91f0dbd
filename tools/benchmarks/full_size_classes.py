"""The class-to-image model in full size on this machine: convert, load in ComfyUI, pictures.

    python3 tools/benchmarks full_size_classes FOLDER [--hosts 0.30.0 0.3.75] [--stop-scale 6]

FOLDER needs about 9 GB. Random weights stand in for the release. Reports the file's size, peak
anonymous memory (mapped pages do not count) of converting and of a picture of all scales in each
ComfyUI, and, stopped early so that it is soon done: whether two pictures are those made singly,
whether a run that goes on is the unbroken one, and whether both hosts make the same. Linux only:
memory is read from /proc.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from tools import random_checkpoint
from tools.benchmarks.common import PeakMemory
from tools.benchmarks.full_size import convert
from tools.host import NEWEST, OLDEST, comfyui, in_environment

PATIENCE = 3600  # seconds
KEPT = 2  # scales fewer than --stop-scale from which a run goes on
SEED = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hosts", nargs="+", choices=(NEWEST, OLDEST), default=[NEWEST, OLDEST])
    parser.add_argument("--stop-scale", type=int, default=6)


def run(arguments: argparse.Namespace) -> None:
    folder, hosts = arguments.folder.resolve(), in_environment().hosts
    converted = folder / "varsr_c2i.safetensors"
    if not converted.exists():
        released = random_checkpoint.RELEASED
        files = random_checkpoint.write_release(folder, released, with_prefix=False)
        for path in files:
            print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB")
        convert(files, converted)
    made = [_on(hosts[version], converted, arguments.stop_scale) for version in arguments.hosts]
    for name in made[0]:
        same = all(np.array_equal(made[0][name], other[name]) for other in made[1:])
        print(f"{name}: {'the same' if same else 'not the same'} on {len(made)} hosts")


def _on(host: Path, converted: Path, stop: int) -> dict[str, np.ndarray]:
    """Pictures by name, after what one host does has been compared and told."""
    from helpers.comfyui.graphs import Graph

    with comfyui(host) as (server, _):
        models = server.base / "models" / "varsr"
        models.mkdir(parents=True, exist_ok=True)
        (models / converted.name).symlink_to(converted)
        whole, early = Graph(), Graph()
        whole.save(whole.class_to_image(whole.load(converted.name, "auto"), seed=SEED), "whole")
        _early(early, early.load(converted.name, "auto"), stop)
        idle = server.rss_anon()
        with PeakMemory(server.process.pid) as memory:
            started = time.monotonic()
            pictures = _pictures(server, whole)
            seconds = time.monotonic() - started
        print(
            f"{host.parent.name}: a picture of all scales {pictures['whole'].shape} in "
            f"{seconds:.0f} s, peak {(memory.peak - idle) / 1e9:.2f} GB over idle"
        )
        pictures |= _pictures(server, early)
    pair, single = pictures["pair"], pictures["single"]
    print(f"  two are those made singly: {np.array_equal(pair[1:], single)}")
    print(f"  going on is the unbroken run: {np.array_equal(pair, pictures['gone on'])}")
    print(f"  two seeds make two pictures: {not np.array_equal(pair[:1], pair[1:])}")
    return pictures


def _early(graph: Any, model: Any, stop: int) -> None:
    """Two pictures, the second alone, and both again from a run that stopped before."""
    two = {"pictures": 2, "seed": SEED}
    graph.save(graph.class_to_image(model, **two, stop_scale=stop), "pair")
    single = graph.class_to_image(model, seed=SEED + 1, stop_scale=stop, node="one")
    graph.save(single, "single")
    part = graph.class_to_image(model, **two, stop_scale=stop - KEPT, node="part")
    given = {"tokens": [part[0], 1], "first_scale": stop - KEPT, "node": "on"}
    graph.save(graph.class_to_image(model, **two, stop_scale=stop, **given), "gone on")


def _pictures(server: Any, graph: Any) -> dict[str, np.ndarray]:
    """(B, H, W, 3) uint8 by the name of the node that saved them."""
    done = server.run(graph, timeout=PATIENCE)
    if not done.succeeded:
        raise SystemExit(f"the run failed: {done.error or done.body}")
    names = [name for name, node in graph.items() if node["class_type"] == "SaveImage"]
    return {
        name: np.stack([np.asarray(server.view(image)) for image in done.images(name)])
        for name in names
    }
