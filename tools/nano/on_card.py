"""Trains the embedded model on a GPU in ten minutes, from a kit that was brought to it.

    python tools/nano/on_card.py pack CROPS FEATURES MODEL KIT
    python tools/nano/on_card.py run KIT OUT [--seconds 560] [--config nano]
    python tools/nano/on_card.py run KIT OUT --rehearse

CROPS are of training_set.py, FEATURES of `train.py pack-features`; training begins with MODEL's
tokenizer and prefix encoder. `run` makes the teacher's pairs, measures how long a step of each
stage takes, shares the time out among the stages, and writes OUT after each of them: the model in
files of less than 16 MB, and the logs. `--rehearse` does two steps a stage.
"""

from __future__ import annotations

import argparse
import csv
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.nano import kit as kits
from tools.nano.begin import resize
from tools.nano.teacher_set import Piece, corrected, cut, pieces_of, write, write_licences
from varsr_core.checkpoint import load_checkpoint
from varsr_core.tiling.noise import derive_seed
from varsr_core.training import stage_table
from varsr_core.training.config import TrainingConfig, read_config
from varsr_core.training.data.degradation import degrade
from varsr_core.training.loop import LOG_FILE, LoopSettings
from varsr_core.training.run import MODEL_FILE, Training

logger = logging.getLogger("on_card")

# Seconds of 560: what is not here goes to the teacher, to starts and to results.
SHARES = {"tokenizer": 0.25, "prefix": 0.08, "sight": 0.24, "isr": 0.20, "decoder": 0.08}
MEASURING = 0.15  # of a stage's time, in which its speed is found
MANY = 1_000_000  # steps, while that is measured
REHEARSED, REHEARSED_PAIRS, REHEARSAL_S = 2, 64, 3600.0
SOLVED = "isr"  # whose first weights are solved for, which is done on the CPU
TAUGHT_AT_ONCE = 16
FILE_BYTES = 15e6


def degraded(piece: Piece) -> tuple[Piece, Tensor, Tensor]:
    """A photograph and what a bad camera makes of it; runs in a process of its own."""
    torch.set_num_threads(1)
    seed = derive_seed(0, "teacher", piece.number, piece.crop.stem)
    generator = torch.Generator().manual_seed(seed)
    high = cut(piece, generator)
    return piece, high, degrade(high, read_config(Path("nano")).degradation, generator)


def teach(kit: Path, out: Path, passes: int, most: int, device: torch.device) -> None:
    """As teacher_set.py, the teacher on a device and all else in many processes."""
    with (kit / kits.CROPS / "manifest.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    write_licences(rows, out)
    pieces = pieces_of(rows, kit / kits.CROPS, passes)
    chosen = [piece for piece in pieces if piece.split == "choose"]
    learned = [piece for piece in pieces if piece.split == "train"]
    pieces = chosen[:most] + learned[: most or None] if most else pieces
    teacher = kits.teacher_of(kit).to(device, memory_format=torch.channels_last)
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    with context.Pool() as pool:
        made = pool.imap(degraded, pieces, chunksize=4)
        while group := list(islice(made, TAUGHT_AT_ONCE)):
            for piece, high, low, taught in _taught(group, teacher, device):
                target = corrected(taught, high)
                for name, picture in (("high", high), ("low", low), ("target", target)):
                    write(picture[0], out / piece.split / name / piece.name)


def _taught(
    group: list[tuple[Piece, Tensor, Tensor]], teacher: kits.Teacher, device: torch.device
) -> Iterator[tuple[Piece, Tensor, Tensor, Tensor]]:
    """Pictures of one size together."""
    sizes = {low.shape for _, _, low in group}
    for size in sizes:
        same = [given for given in group if given[2].shape == size]
        small = torch.cat([low for _, _, low in same]).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            taught = teacher(small).float().cpu()
        for (piece, high, low), picture in zip(same, taught, strict=True):
            yield piece, high, low, picture[None]


class Stages:
    """The stages of a run, each given its share of the time."""

    def __init__(
        self, kit: Path, data: Path, run: Path, config: TrainingConfig, device: torch.device
    ) -> None:
        self.data, self.folder, self.device = data / "train", run, device
        self.config = replace(config, **dict.fromkeys(SHARES))
        self.wanted = config
        self.features = kits.features_of(kit).to(device)

    def train(self, name: str, seconds: float, rehearse: bool) -> None:
        """One stage more."""
        settings: LoopSettings | None = getattr(self.wanted, name)
        if settings is None:
            return
        began = time.monotonic()
        settings = replace(settings, steps=REHEARSED if rehearse else MANY)
        if name == SOLVED:
            self._run(name, settings, 0, torch.device("cpu"))
        if rehearse:
            self._run(name, settings, REHEARSAL_S)
            return
        self._run(name, settings, MEASURING * seconds)
        log = self.folder / name / LOG_FILE
        done = len(log.read_text().splitlines()) - 1
        each = MEASURING * seconds / max(1, done)
        steps = done + int((seconds - (time.monotonic() - began)) / each)
        logger.info("%s: %d steps of %.1f ms", name, steps, 1000 * each)
        self._run(name, replace(settings, steps=max(steps, done + 1)), 2 * seconds)

    def _run(
        self, name: str, settings: LoopSettings, seconds: float, device: torch.device | None = None
    ) -> None:
        """All stages so far; those that are done are passed over."""
        self.config = replace(self.config, **{name: settings})
        device = device or self.device
        high = [self.data / "target", self.data / "high"]
        paired = (self.data / "low", self.data / "target")
        features = self.features.to(device)
        training = Training(self.config, self.folder, high, [], None, device, features, paired)
        training.run(time.monotonic() + seconds)


def keep(run: Path, out: Path) -> None:
    """The model in half precision, in parts that are small enough, and the logs."""
    tensors = load_checkpoint([run / MODEL_FILE]).tensors
    parts: list[dict[str, Tensor]] = [{}]
    size = 0.0
    for name, tensor in tensors.items():
        half = tensor.half() if tensor.is_floating_point() else tensor
        if size + half.nbytes > FILE_BYTES:
            parts.append({})
            size = 0.0
        parts[-1][name] = half.contiguous()
        size += half.nbytes
    for number, part in enumerate(parts):
        save_file(part, out / f"model-{number}.safetensors")
    with tempfile.TemporaryDirectory() as scratch:
        for log in run.rglob(LOG_FILE):
            shutil.copy(log, Path(scratch) / f"{log.parent.name}.csv")
        shutil.make_archive(str(out / "logs"), "zip", scratch)


def run(kit: Path, out: Path, config: TrainingConfig, seconds: float, rehearse: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if rehearse:
        stage_table.START_PAIRS = REHEARSED_PAIRS
    with tempfile.TemporaryDirectory() as scratch:
        data, folder = Path(scratch) / "data", Path(scratch) / "run"
        began = time.monotonic()
        few = 8 if rehearse else 0
        teach(kit, data, 1 if rehearse else 4, few, device)
        logger.info("taught after %.0f s", time.monotonic() - began)
        resize(kits.start_of(kit), folder, config, [data / "train" / "target"])
        logger.info("resized after %.0f s", time.monotonic() - began)
        stages = Stages(kit, data, folder, config, device)
        for name, share in SHARES.items():
            stages.train(name, share * seconds, rehearse)
            keep(folder, out)  # whatever comes later
            logger.info("%s done after %.0f s", name, time.monotonic() - began)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    for name in ("crops", "features", "model", "kit"):
        packing.add_argument(name, type=Path)
    packing.add_argument("--side", type=int, default=384)
    packing.add_argument("--quality", type=int, default=90)
    running = commands.add_parser("run")
    running.add_argument("kit", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--seconds", type=float, default=560)
    running.add_argument("--config", type=Path, default=Path("nano"))
    running.add_argument("--rehearse", action="store_true")
    given = parser.parse_args()
    if given.command == "pack":
        kits.pack(given.crops, given.features, given.model, given.kit, given.side, given.quality)
    else:
        workers = min(12, os.cpu_count() or 1)  # read the files faster than a cache is filled
        config = replace(read_config(given.config), workers=workers, cache=False)
        run(given.kit, given.out, config, given.seconds, given.rehearse)


if __name__ == "__main__":
    main()
