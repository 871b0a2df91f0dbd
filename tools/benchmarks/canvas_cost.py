"""Peak memory and time of upscaling against the size of the canvas; one process for each size.

    python tools/benchmarks canvas_cost [--model FILE] [--sizes 512 1024 2048 4096]
    python tools/benchmarks canvas_cost [--model FILE] --frames 60
    python tools/benchmarks canvas_cost [--model FILE] --decode PICTURE

Without --model the one that comes with the pack, in float32. Reads Linux' own count of a process'
memory. A picture of SIZE x SIZE is made, 4x. --frames: a clip of 64x64 frames, 4x; the
memory after the fifth frame and after the last. --decode: how far decoding in pieces is from
decoding at once, for the latent of a picture at its own size.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from tools.benchmarks.common import PeakMemory, read_picture, resident
from varsr_core import load_model, upscale
from varsr_core.runtime.execution import Execution, Session
from varsr_core.runtime.progress import Progress
from varsr_core.tiling.decode import decode_canvas
from varsr_core.tiling.grid import TileGrid
from varsr_core.tiling.group_norm import own_norm
from varsr_core.varsr.decoding import VARSRDecoder
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.restorer import VARSRRestorer

HERE = Path(__file__).resolve().parent
SCALE = 4
FRAME = 64  # pixels, the side of a frame


def one_size(restorer: VARSRRestorer, size: int) -> None:
    """Prints a line for one canvas."""
    picture = torch.rand(1, 3, size // SCALE, size // SCALE)
    tiles: list[int] = []
    execution = Execution(on_progress=lambda progress: tiles.append(progress.total))
    upscale(picture[:, :, :16, :16], SCALE, restorer)  # what the first run alone needs
    before, start = resident(), time.perf_counter()
    with PeakMemory(os.getpid()) as memory:
        result = upscale(picture, SCALE, restorer, execution=execution)
    seconds = time.perf_counter() - start
    canvas = result.nbytes
    print(
        f"{size}x{size}: peak {(memory.peak - before) / 1e6:.0f} MB over idle, of which the result "
        f"{canvas / 1e6:.0f} MB; {(memory.peak - before) / canvas:.1f} results; {seconds:.1f} s, "
        f"{tiles[-1]} pieces of work, {1000 * seconds / tiles[-1]:.1f} ms each",
        flush=True,
    )


def clip(restorer: VARSRRestorer, frames: int) -> None:
    """Prints what a clip leaves in memory after its fifth frame and after its last."""
    found: dict[int, int] = {}

    def on_progress(progress: Progress) -> None:
        per_frame = progress.total // frames
        if progress.done % per_frame == 0:
            found[progress.done // per_frame] = resident()

    pictures = torch.rand(frames, 3, FRAME, FRAME)
    upscale(pictures, SCALE, restorer, execution=Execution(on_progress=on_progress))
    print(
        f"{frames} frames of {FRAME}x{FRAME}: {found[5] / 1e6:.1f} MB after frame 5, "
        f"{found[frames] / 1e6:.1f} MB after frame {frames}"
    )


@torch.inference_mode()
def decode(model: VARSR, path: Path) -> None:
    """Prints the differences between the ways of decoding one latent."""
    pixels = read_picture(path)
    decoder, cell = VARSRDecoder(model), model.config.tokenizer.downsampling
    height, width = (side // cell * cell for side in pixels.shape[2:])
    latent = model.encode_latent(pixels[:, :, :height, :width])
    ways = {
        "at once, attention in windows": decoder.fine(decoder.coarse(latent), own_norm)[0],
        "at once, attention over all": model.decode(latent)[0],
    }
    grid = TileGrid(height, width, model.config.tile_size, model.config.tile_size // 4, cell)
    tiles = model.decode(grid.cells().split(latent))
    ways["tile by tile, cross-faded"] = grid.merge(tiles)[0]
    pieces = torch.zeros(3, height, width)
    decode_canvas(latent[0], decoder, Session(Execution()), pieces)
    for name, other in ways.items():
        difference = (pieces - other).abs()
        print(
            f"in pieces against {name}: mean {difference.mean():.2e}, most {difference.max():.2e}"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--frames", type=int)
    parser.add_argument("--decode", type=Path, metavar="PICTURE")


def run(arguments: argparse.Namespace) -> None:
    if len(arguments.sizes) > 1 and not (arguments.decode or arguments.frames):
        for size in arguments.sizes:
            command = [sys.executable, str(HERE), "canvas_cost", "--sizes", str(size)]
            if arguments.model:
                command += ["--model", str(arguments.model)]
            subprocess.run(command, check=True)
        return
    restorer = load_model(arguments.model, device=None, dtype="fp32")
    if arguments.decode:
        decode(restorer.model, arguments.decode)
    elif arguments.frames:
        clip(restorer, arguments.frames)
    else:
        one_size(restorer, arguments.sizes[0])
