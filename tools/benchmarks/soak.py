"""What a real ComfyUI holds after many small prompts, and whether it goes on after interruptions.

    python3 tools/benchmarks soak [--prompts 1000] [--interrupts 30]

A tiny random model, pictures of six sizes, another seed each time, so that no result is reused.
Memory is the server's own, in RAM. Interruptions come in the load, the sampling and the decoding in
turn, a whole prompt after each. Linux only: all is read from /proc.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch

from helpers.comfyui.graphs import Graph, stages, upscale_graph
from helpers.comfyui.pictures import structured_picture
from helpers.comfyui.run import Event, Run
from helpers.comfyui.server import ONE_THREAD, ComfyServer
from tools.benchmarks.common import resident
from tools.host import NEWEST, OLDEST, comfyui, in_environment
from tools.random_checkpoint import MICRO, write_release
from varsr_core.convert import convert_files

FIRST = 50  # prompts until the server has all that it keeps
SIZES = ((24, 16), (40, 28), (28, 40), (17, 33), (48, 48), (64, 20))
SCALES = (1.0, 2.0, 4.0)
LARGE = (200, 200)  # interrupted: hundreds of tiles at four times the size
STAGES = ("load", "sample", "decode")


class Held(NamedTuple):
    """By the server's process; memory in bytes."""

    memory: int
    handles: int
    threads: int

    @classmethod
    def of(cls, server: ComfyServer) -> Held:
        process = Path(f"/proc/{server.process.pid}")
        counts = [len(os.listdir(process / folder)) for folder in ("fd", "task")]
        return cls(resident(str(server.process.pid)), *counts)

    def __str__(self) -> str:
        return f"{self.memory / 1e6:.1f} MB, {self.handles} handles, {self.threads} threads"


@contextmanager
def prepared(host: Path) -> Iterator[ComfyServer]:
    """A server with the model and the pictures."""
    with comfyui(host, env=ONE_THREAD) as (server, _):
        folder = server.base / "models" / "varsr"
        release = list(write_release(server.base / "release", MICRO))
        folder.mkdir(exist_ok=True)
        convert_files(release, folder / "micro.safetensors", torch.float32)
        for width, height in (*SIZES, LARGE):
            server.upload(structured_picture(width, height), f"{width}x{height}.png")
        yield server


def small(seed: int) -> Graph:
    width, height = SIZES[seed % len(SIZES)]
    scale = SCALES[seed // len(SIZES) % len(SCALES)]
    graph = upscale_graph(f"{width}x{height}.png", seed=seed, scale=scale)
    del graph["dump"]  # of a node that only tests have
    return graph


def whole(server: ComfyServer, graph: Graph) -> Run:
    done = server.run(graph)
    if not done.succeeded:
        raise SystemExit(f"a prompt failed: {done.error or done.body}")
    return done


def interrupted(server: ComfyServer, stage: str, seed: int) -> str:
    """The kind of node that was at work when the run ended, "" if it came to its end."""
    graph = Graph()
    model, picture = graph.load(), graph.picture(f"{LARGE[0]}x{LARGE[1]}.png")
    if stage == "decode":  # at once behind the encoder, without the long sampling
        graph.save(graph.decode(model, graph.encode(model, picture)))
    else:
        graph.save(stages(graph, model, picture, seed=seed))
    os.utime(server.base / "models" / "varsr" / "micro.safetensors")  # it is loaded again

    def reached(event: Event) -> bool:
        kind = "executing" if stage == "load" else "progress"
        return event.type == kind and event.data["node"] == stage

    run = server.run(graph, interrupt_when=reached)
    stopped = [event.data["node_type"] for event in run.events if "interrupted" in event.type]
    return stopped[0] if stopped else ""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--interrupts", type=int, default=0)
    parser.add_argument("--comfyui", choices=(NEWEST, OLDEST), default=NEWEST)


def run(arguments: argparse.Namespace) -> None:
    seeds, started = count(), time.monotonic()
    with prepared(in_environment().hosts[arguments.comfyui]) as server:
        first = Held.of(server)
        print(f"idle: {first}", flush=True)
        for number in range(1, arguments.prompts + 1):
            whole(server, small(next(seeds)))
            if number == min(FIRST, arguments.prompts):
                first = Held.of(server)
                print(f"after {number}: {first}", flush=True)
        seconds, last = time.monotonic() - started, Held.of(server)
        growth = 100 * (last.memory / first.memory - 1)
        print(f"after {arguments.prompts}: {last}; memory {growth:+.1f} %, {seconds:.0f} s")
        ends = Counter()
        for number in range(arguments.interrupts):
            stage = STAGES[number % len(STAGES)]
            ends[stage, interrupted(server, stage, next(seeds)) or "not stopped"] += 1
            whole(server, small(next(seeds)))
        for (stage, node), times in sorted(ends.items()):
            print(f"interrupted in {stage}: {times} times, stopped in {node}, next prompt whole")
        if arguments.interrupts:
            print(f"after {arguments.interrupts} interruptions: {Held.of(server)}")
