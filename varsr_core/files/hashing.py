"""Hashes of whole files, for files that take minutes to read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tqdm import tqdm

HASH_CHUNK = 2**24  # bytes


def sha256(path: Path) -> str:
    """Hash of a file as hex, with a progress bar."""
    digest = hashlib.sha256()
    with path.open("rb") as file, byte_bar(f"hashing {path.name}", path.stat().st_size) as bar:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def byte_bar(description: str, total: int) -> tqdm:
    """A progress bar that counts bytes."""
    return tqdm(desc=description, total=total, unit="B", unit_scale=True)
