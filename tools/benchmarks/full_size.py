"""The whole way of a full-size release on this machine: convert, load in ComfyUI, a picture.

    python3 tools/benchmarks full_size FOLDER [--rounds 2]

FOLDER needs about 18 GB. Random weights stand in for the release: VARSR.pth has an optimiser state
of the real size. Reports the file's size, peak anonymous memory (mapped pages do not count), and
the time of a 128x128 -> 512x512 picture against the same work done the plain way in float32 (see
plain_varsr.py), both timed in turn. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from tools.benchmarks.common import PeakMemory, read_picture
from tools.benchmarks.plain_varsr import restore
from tools.host import NEWEST, PHOTOGRAPH, ROOT, comfyui, in_environment, node
from tools.random_checkpoint import RELEASED, random_weights, tokenizer_shapes, transformer_shapes
from varsr_core import load_model
from varsr_core.images.resize import resize

NEEDED_BYTES = 18e9


def write_full_release(folder: Path) -> tuple[Path, Path]:
    """VQVAE.pth and VARSR.pth with optimiser states, like the released ones in size and nesting."""

    def with_optimizer(key: str, weights: dict) -> dict:
        # numpy's zeros take no memory until written to.
        moments = {
            i: {
                "step": torch.tensor(1.0),
                "exp_avg": torch.from_numpy(np.zeros(w.shape, np.float32)),
                "exp_avg_sq": torch.from_numpy(np.zeros(w.shape, np.float32)),
            }
            for i, w in enumerate(weights.values())
            if w.is_floating_point()
        }
        optimizer = {"optimizer": {"state": moments, "param_groups": [{"lr": 5e-5}]}}
        return {"epoch": 1, "iter": 0, "trainer": {key: weights, "opt": optimizer}}

    vqvae, varsr = folder / "VQVAE.pth", folder / "VARSR.pth"
    for path, key, shapes in (
        (vqvae, "vae_local", tokenizer_shapes(RELEASED)),
        (varsr, "var_wo_ddp", transformer_shapes(RELEASED)),
    ):
        if not path.exists():
            torch.save(with_optimizer(key, random_weights(shapes, RELEASED)), path)
        print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB")
    return vqvae, varsr


def convert(files: tuple[Path, Path], output: Path) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "varsr_core.convert", *map(str, files), "-o", str(output)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    with PeakMemory(process.pid) as memory:
        if process.wait():
            raise SystemExit("conversion failed")
    print(
        f"converted: {output.stat().st_size / 1e9:.3f} GB in {time.monotonic() - started:.0f} s, "
        f"peak anonymous memory {memory.peak / 1e9:.2f} GB"
    )


def compare(host: Path, files: tuple[Path, Path], converted: Path, rounds: int) -> None:
    """The picture in ComfyUI and the plain way, in turn."""
    with comfyui(host) as (server, graph):
        models = server.base / "models" / "varsr"
        models.mkdir(parents=True, exist_ok=True)
        (models / converted.name).symlink_to(converted)
        node(graph, "VARSR_LoadModel")["checkpoint"] = converted.name
        idle, ours, plain = server.rss_anon(), [], []
        for seed in range(rounds):
            node(graph, "VARSR_Upscale")["seed"] = seed
            with PeakMemory(server.process.pid) as memory:
                started = time.monotonic()
                done = server.run(graph, timeout=1800)
                ours.append(time.monotonic() - started)
            if not done.succeeded:
                raise SystemExit(f"the run failed: {done.error}")
            size = server.view(done.images()[0]).size
            plain.append(_plain_seconds(files))
            print(
                f"round {seed}: ComfyUI {ours[-1]:.1f} s ({size[0]}x{size[1]}, peak "
                f"{(memory.peak - idle) / 1e9:.2f} GB over idle), plain {plain[-1]:.1f} s"
            )
    print(f"best against best: {min(ours) / min(plain):.2f} of the plain time")


def _plain_seconds(files: tuple[Path, Path]) -> float:
    """Seconds of the plain float32 run, in a process of its own; reading the files not counted."""
    given = [str(file) for file in files]
    call = f"from tools.benchmarks.full_size import time_plain as t; print(t({given!r}))"
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    return float(done.stdout)


def time_plain(files: list[str]) -> float:
    tokenizer = load_model(files[1], device=None, dtype="fp32").model
    stored = torch.load(files[1], mmap=True, weights_only=True)["trainer"]["var_wo_ddp"]
    # Read into memory beforehand, as the public code has them when it starts.
    weights = {name: tensor.clone() for name, tensor in stored.items()}
    for part in (tokenizer.quantizer, tokenizer.post_quantizer, tokenizer.decoder):
        for parameter in part.parameters():
            parameter.data = parameter.data.clone()
    image = read_picture(PHOTOGRAPH)
    tile = tokenizer.config.tile_size
    noise = torch.randn(11, tokenizer.config.prefix_tokens, 32)
    started = time.monotonic()
    restore(weights, tokenizer, resize(image, tile, tile) * 2 - 1, noise, cfg=6.0)
    return time.monotonic() - started


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=2)


def run(arguments: argparse.Namespace) -> None:
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(file.stat().st_size for file in folder.iterdir())
    if shutil.disk_usage(folder).free + there < NEEDED_BYTES:
        raise SystemExit(f"{folder} needs {NEEDED_BYTES / 1e9:.0f} GB of free disk")
    files = write_full_release(folder)
    converted = folder / "varsr_bf16.safetensors"
    convert(files, converted)
    compare(in_environment().hosts[NEWEST], files, converted, arguments.rounds)
