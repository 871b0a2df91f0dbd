"""Hashes of whole files, for files that take minutes to read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tqdm import tqdm

HASH_CHUNK = 2**24  # bytes


def sha256(path: Path, name: str = "") -> str:
    """Hash of a file as hex, with a progress bar; name: for people, if not its own"""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file, byte_bar(f"hashing {name or path.name}", size) as bar:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def byte_bar(description: str, total: int) -> tqdm:
    """A progress bar that counts bytes."""
    return tqdm(desc=description, total=total, unit="B", unit_scale=True)
