"""What steady frames gain where a film stands still, and cost where it does not.

    python tools/benchmarks steady [--model FILE] [--steady 0.5 1 ...] [--clips NAME...]
                                   [--frames 10] [--noise 6] [--sheet SHEET.png] PICTURE...

From each picture films are made, reduced to half their size, with noise that differs from frame to
frame, and restored to their size again, once with each frame by itself and once for each strength:
deviation  mean over cells that never change of the standard deviation of their pixels over time, in
           1/255, and relative to that of frames by themselves
PSNR       against the film before it was reduced, at cells that change from the frame before, in
           dB, and less that of frames by themselves
anew       whether the frame after the cut has the bits of a film that starts there
parts      root mean square difference of a film that starts in the middle, after its run-in, from
           the whole film at that frame, relative to that of two frames there that follow each other
time       a frame's, relative to that of frames by themselves

The sheet has a row for each film and strength: every second frame of the first picture.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tools.benchmarks.common import psnr, read_picture
from varsr_core import UpscaleSettings, load_model, upscale
from varsr_core.tiling.restorer import Restorer
from varsr_core.tiling.steady import run_in_frames
from varsr_core.varsr.family import NANO_FILE

SMALLER = 2  # times, along a side
CELL = 8  # pixels of the output, along a side of what is judged as one
CHANGED = 1 / 255  # root mean square of a cell's change, from which it moves
WINDOW = 112  # pixels along a side of the films
SPEED = 2  # pixels a frame

Made = Callable[[Tensor, Tensor, int], list[Tensor]]
"""Two pictures (1, 3, h, w) and how many frames to frames of the size of a window."""


def _window(picture: Tensor, left: int = 0) -> Tensor:
    return picture[:, :, :WINDOW, left : left + WINDOW]


def still(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    return [_window(one)] * frames


def pan(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    room = one.shape[3] - WINDOW
    return [_window(one, min(k * SPEED, room)) for k in range(frames)]


def object_moves(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    made, side = [], WINDOW // 3
    for k in range(frames):
        frame, left = _window(one).clone(), 20 + SPEED * k
        frame[:, :, side : 2 * side, left : left + side] = other[:, :, side : 2 * side, :side]
        made.append(frame)
    return made


def flicker(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    light = torch.randn(frames, generator=torch.Generator().manual_seed(1)) * 0.03 + 1
    return [(_window(one) * factor).clamp(0, 1) for factor in light]


def cut(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    half = frames // 2
    return [_window(one)] * half + [_window(other)] * (frames - half)


def fade(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    """To black, in two seconds of which this is the beginning."""
    return [_window(one) * (1 - k / 48) for k in range(frames)]


def dissolve(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    return [torch.lerp(_window(one), _window(other), k / 24) for k in range(frames)]


def flash(one: Tensor, other: Tensor, frames: int) -> list[Tensor]:
    made = still(one, other, frames)
    made[frames // 2] = (_window(one) * 1.6 + 0.2).clamp(0, 1)
    return made


FILMS: dict[str, Made] = {
    "still": still,
    "pan": pan,
    "object": object_moves,
    "flicker": flicker,
    "cut": cut,
    "fade": fade,
    "dissolve": dissolve,
    "flash": flash,
}


def noisy(clean: Sequence[Tensor], noise: float) -> Tensor:
    """Reduced frames with noise, (frames, 3, h, w)."""
    generator = torch.Generator().manual_seed(0)
    small = F.interpolate(torch.cat([*clean]), scale_factor=1 / SMALLER, mode="area")
    return (small + torch.randn(small.shape, generator=generator) * noise / 255).clamp(0, 1)


def changing(clean: Tensor) -> Tensor:
    """Cells of each frame that differ from the frame before: (frames, 1, h, w) bool."""
    change = clean.diff(dim=0, prepend=clean[:1]).square().mean(dim=1, keepdim=True)
    return F.avg_pool2d(change, CELL).sqrt() > CHANGED


def deviation(frames: Tensor, clean: Tensor) -> float | None:
    """Of cells that never change, nor those beside them; in 1/255."""
    ever = F.max_pool2d(changing(clean).any(dim=0, keepdim=True).float(), 5, 1, 2)
    spread = F.avg_pool2d(frames.std(dim=0, correction=0).mean(0, keepdim=True)[None], CELL)
    kept = spread[ever == 0]
    return float(kept.mean()) * 255 if kept.numel() else None


def moving_psnr(frames: Tensor, clean: Tensor) -> float | None:
    """At cells that change, dB."""
    where = F.interpolate(changing(clean).float(), scale_factor=CELL) > 0
    where = where.expand_as(frames)
    return psnr(frames[where], clean[where]) if where.any() else None


class Bench:
    """Restores films, and keeps what was made of each."""

    def __init__(self, restorer: Restorer, frames: int, noise: float) -> None:
        self.restorer, self.frames, self.noise = restorer, frames, noise

    def restored(self, small: Tensor, steady: float) -> tuple[Tensor, float]:
        """The frames, and seconds of each."""
        began = time.perf_counter()
        made = upscale(
            small, float(SMALLER), self.restorer, settings=UpscaleSettings(steady=steady)
        )
        return made, (time.perf_counter() - began) / len(small)

    def parts(self, small: Tensor, whole: Tensor, steady: float) -> float:
        """How far a film that starts in the middle is from the whole one; see above."""
        middle, run_in = len(small) - 2, run_in_frames(steady)
        part = self.restored(small[max(middle - run_in, 0) : middle + 1], steady)[0][-1]
        away = (part - whole[middle]).square().mean().sqrt()
        return float(away / (whole[middle] - whole[middle - 1]).square().mean().sqrt())

    def starts_anew(self, small: Tensor, whole: Tensor, steady: float) -> bool:
        half = len(small) // 2
        return torch.equal(self.restored(small[half:], steady)[0], whole[half:])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, default=NANO_FILE)
    parser.add_argument("--steady", type=float, nargs="+", default=[0.5])
    parser.add_argument("--clips", choices=FILMS, nargs="+", default=list(FILMS))
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--noise", type=float, default=6.0)
    parser.add_argument("--parts-of", type=int, default=24, help="frames of the film cut in parts")
    parser.add_argument("--sheet", type=Path)


def run(arguments: argparse.Namespace) -> None:
    restorer = load_model(arguments.model, device=None, dtype="fp32")
    bench = Bench(restorer, arguments.frames, arguments.noise)
    pictures = [read_picture(path) for path in arguments.pictures]
    rows: list[Tensor] = []
    for name in arguments.clips:
        plain: list[tuple[float | None, float | None, float]] = []
        for steady in (0.0, *arguments.steady):
            found = []
            for number, picture in enumerate(pictures):
                other = pictures[(number + 1) % len(pictures)]
                clean = torch.cat(FILMS[name](picture, other, arguments.frames))
                small = noisy([clean], arguments.noise)
                made, seconds = bench.restored(small, steady)
                found.append((deviation(made, clean), moving_psnr(made, clean), seconds))
                if not number:
                    rows.append(torch.cat([*made[1::2]], dim=2))
                if name == "cut" and steady:
                    anew = bench.starts_anew(small, made, steady)
                    print(f"cut, {arguments.pictures[number].stem}: anew {anew}", flush=True)
            plain = plain or found
            print(f"{name:9} steady {steady:<5g}", *_told(found, plain), flush=True)
    if arguments.parts_of:
        for steady in arguments.steady:
            small = noisy(still(pictures[0], pictures[0], arguments.parts_of), arguments.noise)
            parts = bench.parts(small, bench.restored(small, steady)[0], steady)
            print(f"parts at steady {steady:g}, run-in {run_in_frames(steady)}: {parts:.2f}")
    if arguments.sheet:
        sheet = torch.cat(rows, dim=1).mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(sheet).save(arguments.sheet)


def _told(found: Sequence[tuple], plain: Sequence[tuple]) -> list[str]:
    """Means over the pictures, and against frames by themselves."""
    told = []
    for place, form in enumerate(("deviation {:.2f} ({:.2f}x)", "PSNR {:.2f} ({:+.2f})")):
        pairs = [
            (one[place], by_itself[place])
            for one, by_itself in zip(found, plain, strict=True)
            if one[place] is not None
        ]
        if pairs:
            mean, before = (fmean(values) for values in zip(*pairs, strict=True))
            told.append(form.format(mean, mean - before if place else mean / before))
    seconds, before = (fmean(one[2] for one in kind) for kind in (found, plain))
    return [*told, f"time {seconds:.2f} s ({seconds / before:.2f}x)"]
