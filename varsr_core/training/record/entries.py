"""What it takes to repeat a run: written in its folder when it begins, and whenever it goes on."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from glob import glob
from pathlib import Path
from typing import Any

import torch

from ...files.atomic import unfinished_file, whole_file
from ..config import TrainingConfig
from ..steps.processes import place

RECORD_FILE = "run_record.json"
ROOT = Path(__file__).parents[3]
CHUNK = 2**24  # bytes read at once


def add_record(
    folder: Path,
    config: TrainingConfig,
    sources: Mapping[str, Sequence[Path]],
    start: Sequence[Path],
    device: torch.device,
) -> None:
    """Appends one entry to the record of a run.

    sources: folders, files or globs that the run learns from, by what they are for
    start:   files that its first weights come from
    """
    path = folder / RECORD_FILE
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": _versions(),
        "device": _device_name(device),
        "processes": place()[1],
        "seed": config.seed,
        "recipe": asdict(config),
        "data": {name: listing(found) for name, found in sources.items() if found},
        "tables": {str(path): file_hash(path) for path in _named_files(asdict(config))},
        "start": {path.name: file_hash(path) for path in start if path.is_file()},
    }
    entries = [*read_record(folder), entry]
    with unfinished_file(folder) as part, whole_file(path, part):
        part.write_text(json.dumps(entries, indent=1, default=str) + "\n")


def read_record(folder: Path) -> list[dict[str, Any]]:
    """All entries of a run, the first one first; none where there is no record."""
    path = folder / RECORD_FILE
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def listing(sources: Sequence[Path]) -> dict[str, Any]:
    """How many files there are, and a hash of their names and sizes, which content may outlive."""
    digest, count, size = hashlib.sha256(), 0, 0
    for name, nbytes in sorted(entry for source in sources for entry in _entries(source)):
        digest.update(f"{name}\t{nbytes}\n".encode())
        count, size = count + 1, size + nbytes
    return {
        "sources": [str(source) for source in sources],
        "files": count,
        "bytes": size,
        "sha256_of_names_and_sizes": digest.hexdigest(),
    }


def _entries(source: Path) -> Iterator[tuple[str, int]]:
    """Names below a source, and sizes, of all its files."""
    if source.is_dir():
        for path in source.rglob("*"):
            if path.is_file():
                yield path.relative_to(source).as_posix(), path.stat().st_size
        return
    for path in [source] if source.exists() else map(Path, glob(str(source), recursive=True)):
        if path.is_file():
            yield path.name, path.stat().st_size


def file_hash(path: Path) -> str:
    """SHA-256 of what a file contains."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _named_files(values: Any) -> Iterator[Path]:
    """Files whose paths stand in settings: tables."""
    if isinstance(values, Mapping):
        for value in values.values():
            yield from _named_files(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _named_files(value)
    elif isinstance(values, (str, Path)) and Path(values).suffix and Path(values).is_file():
        yield Path(values)


def _versions() -> dict[str, str | None]:
    return {
        "pack": _pack_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
    }


def _pack_version() -> str | None:
    """From pyproject.toml, which lies beside the core wherever the pack is installed."""
    try:
        lines = (ROOT / "pyproject.toml").read_text().splitlines()
    except OSError:
        return None
    found = (line.partition("=")[2] for line in lines if line.startswith("version"))
    return next(found, "").strip().strip('"') or None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
