"""Converts a release to one file that loads fast: python -m varsr_core.convert --help."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from .checkpoint import check_output, load_checkpoint, save_checkpoint, saved_size
from .errors import CheckpointError
from .files.hashing import byte_bar, sha256
from .files.split_files import joined_pieces
from .nn.float8 import FLOAT8

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": FLOAT8,
}


def convert_files(paths: list[Path], output: Path, dtype: torch.dtype) -> None:
    """Writes `output` whole or not at all, with a progress bar. Raises CheckpointError.

    paths: one converted file, or the files of one release; pieces of a file are joined first
    """
    check_output(output, 0)
    with joined_pieces(paths, output.parent) as whole:
        _convert_whole(whole, output, dtype)


def _convert_whole(files: Mapping[Path, str], output: Path, dtype: torch.dtype) -> None:
    """files: and the names under which they were released"""
    checkpoint = load_checkpoint(list(files))
    size = saved_size(checkpoint, dtype)
    check_output(output, size)
    metadata = dict(checkpoint.metadata)
    if "sources" not in metadata:
        hashes = {name: sha256(path, name) for path, name in files.items()}
        metadata["sources"] = json.dumps(hashes, sort_keys=True)
    with byte_bar(f"writing {output.name}", size) as bar:
        save_checkpoint(checkpoint, output, dtype, metadata=metadata, on_written=bar.update)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m varsr_core.convert",
        description="Converts the files of a release, in any order, or an already converted file, "
        "to one safetensors file. What model it is, the tensors tell.",
    )
    parser.add_argument("files", nargs="+", type=Path, help="all files of one release")
    parser.add_argument("-o", "--output", required=True, type=Path, help="file to write")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="bf16",
        help="default: %(default)s; fp8 for large models only",
    )
    arguments = parser.parse_args()
    try:
        convert_files(arguments.files, arguments.output, DTYPES[arguments.dtype])
    except (CheckpointError, OSError) as error:  # of a disk that fails while it is read, too
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
