"""Converts a release to one file that loads fast: python -m varsr_core.convert --help."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from .checkpoint import FAMILIES, check_output, load_checkpoint, save_checkpoint, saved_size
from .errors import CheckpointError
from .family import Checkpoint
from .files.hashing import byte_bar, sha256
from .files.progress import FileProgress, FileProgressFn, silent
from .files.split_files import joined_pieces
from .nn.float8 import FLOAT8
from .runtime.background import wait_for

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": FLOAT8,
}


def convert_files(
    paths: list[Path],
    output: Path,
    dtype: torch.dtype | None = None,
    *,
    scales: int | None = None,
    hashes: Mapping[Path, str] | None = None,
    on_progress: FileProgressFn = silent,
) -> None:
    """Writes `output` whole or not at all, with a progress bar. Raises CheckpointError.

    dtype:       of the file; None for the one that the family runs in on most GPUs
    paths:       one converted file, or the files of one release; pieces of a file are joined first
    scales:      how many first scales are kept, of what gives only first ones; None for as many as
                 are usual
    hashes:      sha256 of those of them that need not be read for it once more
    on_progress: told that the files are read, of the bytes hashed, and, after each tensor, of those
                 written; may raise, and nothing is left of the output
    """
    check_output(output, 0)
    with joined_pieces(paths, output.parent) as whole:
        _convert_whole(whole, output, dtype, scales, hashes or {}, on_progress)


def _convert_whole(
    files: Mapping[Path, str],
    output: Path,
    dtype: torch.dtype | None,
    scales: int | None,
    hashes: Mapping[Path, str],
    on_progress: FileProgressFn,
) -> None:
    """files: and the names under which they were released"""
    reading = FileProgress(f"reading {' and '.join(files.values())}")
    checkpoint = wait_for(
        lambda: _prepared(load_checkpoint(list(files)), next(iter(files)), scales),
        lambda: on_progress(reading),
    )
    dtype = dtype or checkpoint.family.dtypes[0]
    size = saved_size(checkpoint, dtype)
    check_output(output, size)
    metadata = dict(checkpoint.metadata)
    if "sources" not in metadata:
        metadata["sources"] = json.dumps(_sources(files, hashes, on_progress), sort_keys=True)
    stage, written = f"writing {output.name}", 0
    with byte_bar(stage, size) as bar:

        def on_written(more: int) -> None:
            nonlocal written
            written += more
            bar.update(more)
            on_progress(FileProgress(stage, written, size))

        save_checkpoint(checkpoint, output, dtype, metadata=metadata, on_written=on_written)


def _prepared(checkpoint: Checkpoint, path: Path, scales: int | None) -> Checkpoint:
    """What of it is to be written."""
    kind = checkpoint.family
    if kind.prepare is not None:
        return kind.prepare(checkpoint, path, scales)
    if scales is not None:
        raise CheckpointError(
            f"{checkpoint.files} is a {kind.title} model, which needs all of its scales; leave "
            "--scales out"
        )
    return checkpoint


def _sources(
    files: Mapping[Path, str], hashes: Mapping[Path, str], on_progress: FileProgressFn
) -> dict[str, str]:
    """Name -> sha256."""
    unknown = [path for path in files if path not in hashes]
    total, done = sum(path.stat().st_size for path in unknown), 0
    found = {name: hashes[path] for path, name in files.items() if path in hashes}
    for path in unknown:

        def on_read(size: int, stage: str = f"hashing {files[path]}") -> None:
            nonlocal done
            done += size
            on_progress(FileProgress(stage, done, total))

        found[files[path]] = sha256(path, files[path], on_read)
    return found


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m varsr_core.convert",
        description="Converts the files of a release, in any order, or an already converted file, "
        "to one safetensors file. What model it is, the tensors tell.",
    )
    parser.add_argument("files", nargs="+", type=Path, help="all files of one release")
    parser.add_argument("-o", "--output", required=True, type=Path, help="file to write")
    names = {dtype: name for name, dtype in DTYPES.items()}
    usual = ", ".join(f"{names[one.dtypes[0]]} for {one.title}" for one in FAMILIES.values())
    parser.add_argument(
        "--dtype", choices=DTYPES, help=f"default: {usual}; fp8 for large models only"
    )
    parser.add_argument(
        "--scales",
        type=int,
        metavar="N",
        help="of K2N: how many first scales are kept (default: 3, as published, or what there is)",
    )
    arguments = parser.parse_args()
    dtype = DTYPES.get(arguments.dtype)
    try:
        convert_files(arguments.files, arguments.output, dtype, scales=arguments.scales)
    except (CheckpointError, OSError) as error:  # of a disk that fails while it is read, too
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
