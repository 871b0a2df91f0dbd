"""Files for the batch command, the command itself, and what it left behind."""

from __future__ import annotations

import hashlib
import json
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from helpers import models
from helpers.paths import ROOT
from varsr_core.batch.__main__ import main
from varsr_core.batch.journal import NAME
from varsr_core.batch.part_files import ENDING
from varsr_core.checkpoint import Checkpoint, fingerprint, save_checkpoint
from varsr_core.varsr.family import VARSR_FAMILY

QUICK = ("--refine-steps", "2", "--threads", "1", "--dtype", "fp32")
KINDS = ("png", "jpg", "webp", "tif", "grey.png", "alpha.png", "deep.png")
BOMB_SIDE = 30_000  # pixels; 900 million of them in a file of 84 bytes


def write_micro(path: Path, seed: int = 0) -> Path:
    tensors = models.converted_weights(seed)
    checkpoint = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(checkpoint, path, torch.float32, metadata={})
    return path


def pixels(height: int = 12, width: int = 10, *, channels: int = 3, seed: int = 0) -> np.ndarray:
    """(height, width, channels) uint8."""
    values = models.picture(height, width, channels=channels, seed=seed)[0]
    return (values.movedim(0, -1) * 255).round().byte().numpy()


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.squeeze()).save(path, **options)
    return path


def save_png16(path: Path, values: np.ndarray) -> Path:
    """(H, W, 1, 3 or 4) uint16, unfiltered."""
    height, width, channels = values.shape
    color = {1: 0, 3: 2, 4: 6}[channels]
    rows = values.astype(">u2").tobytes()
    step = len(rows) // height
    data = b"".join(b"\0" + rows[n * step : (n + 1) * step] for n in range(height))
    return _write_png(path, (width, height, 16, color), zlib.compress(data))


def save_bomb(path: Path) -> Path:
    return _write_png(path, (BOMB_SIDE, BOMB_SIDE, 8, 2), zlib.compress(b"\0" * 9))


def _write_png(path: Path, header: tuple[int, int, int, int], data: bytes) -> Path:
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, part in chunks:
        content += struct.pack(">I", len(part)) + kind + part
        content += struct.pack(">I", zlib.crc32(kind + part))
    path.write_bytes(content)
    return path


def make_mixed(folder: Path, good: int, broken: int) -> None:
    """Good pictures of all kinds in two folders, and broken ones of four kinds among them."""
    folder.mkdir(parents=True)
    for number in range(good):
        kind = KINDS[number % len(KINDS)]
        path = folder / ("inner" if number % 3 == 0 else "") / f"g{number:03}.{kind}"
        height, width = 10 + number % 3, 12 - number % 2
        if kind == "deep.png":
            values = pixels(height, width, seed=number).astype(np.uint16) * 256 + number
            path.parent.mkdir(exist_ok=True)
            save_png16(path, values)
        else:
            channels = {"grey.png": 1, "alpha.png": 4}.get(kind, 3)
            save(path, pixels(height, width, channels=channels, seed=number))
    for number in range(broken):
        path = folder / f"b{number:03}.png"
        kind = number % 4
        if kind == 0:
            path.write_bytes(b"")
        elif kind == 1:
            path.write_text("This is no picture.")
        elif kind == 2:
            whole = save(path, pixels(40, 40)).read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
        else:
            save_bomb(path)


def command(*arguments: object) -> int:
    """Runs in this process; returns the exit code."""
    return main([str(argument) for argument in arguments])


def started(*arguments: object, **options: object) -> subprocess.Popen:
    """The command in a process of its own, whose lines can be read."""
    call = [sys.executable, "-m", "varsr_core.batch", *map(str, arguments), "--json"]
    # Where tests run in the background a shell has told them to ignore Ctrl-C, and who is started
    # inherits that, unless it is heard here.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def events(output: str, kind: str) -> list[dict]:
    """What a run with --json wrote."""
    read = [json.loads(line) for line in output.splitlines()]
    return [event for event in read if event["event"] == kind]


def hashes(folder: Path) -> dict[str, str]:
    """Of all results, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def left_behind(folder: Path) -> list[str]:
    """Hidden files but the journal, of which SQLite keeps two."""
    found = [path.name for path in folder.rglob(".*") if not path.name.startswith(NAME)]
    assert all(name.endswith(ENDING) for name in found), found
    return found


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)
