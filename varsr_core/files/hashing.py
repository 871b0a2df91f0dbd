"""Hashes of whole files, for files that take minutes to read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

HASH_CHUNK = 2**24  # bytes


def sha256(path: Path, name: str = "", on_read: Callable[[int], object] = lambda size: None) -> str:
    """Hash of a file as hex, with a progress bar.

    name:    for people, if not its own
    on_read: called with the bytes of each piece read
    """
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file, byte_bar(f"hashing {name or path.name}", size) as bar:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
            on_read(len(chunk))
    return digest.hexdigest()


def byte_bar(description: str, total: int) -> tqdm:
    """A progress bar that counts bytes."""
    from tqdm import tqdm  # the commands need it; the library, which is imported alone, does not

    return tqdm(desc=description, total=total, unit="B", unit_scale=True)
