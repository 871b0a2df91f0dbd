"""Kinds of film files, and which of them results are."""

from __future__ import annotations

from pathlib import Path

CONTAINERS = {  # suffix of a film -> suffix and container of the result
    ".mp4": (".mp4", "mp4"),
    ".m4v": (".m4v", "mp4"),
    ".mov": (".mov", "mov"),
    ".mkv": (".mkv", "matroska"),
    ".webm": (".webm", "webm"),
    ".avi": (".mkv", "matroska"),  # AVI has no time stamps
}
RESULTS = {suffix[1:]: (suffix, kind) for suffix, kind in sorted(set(CONTAINERS.values()))}
QUICKTIME, EBML, OTHER = {".mp4", ".m4v", ".mov"}, {".mkv", ".webm"}, {".avi"}
HEAD_BYTES = 64


def result_of(source: Path) -> tuple[str, str]:
    """Suffix and container of a film's result: those of its own suffix, unless the file is of
    another kind than that says; then those of what it is. Matroska holds all kinds."""
    suffix = source.suffix.lower()
    real = _real_suffix(source, suffix)
    return CONTAINERS[suffix if suffix == ".mkv" else real]


def lies(source: Path) -> bool:
    """Whether the result is of another kind than the film's suffix says."""
    told = CONTAINERS.get(source.suffix.lower())
    return told is not None and result_of(source) != told


def _real_suffix(source: Path, suffix: str) -> str:
    """By the first bytes; of several suffixes for one kind, the file's own."""
    head = _head(source)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        kind, usual = QUICKTIME, ".mov" if head[8:12] == b"qt  " else ".mp4"
    elif head.startswith(b"\x1a\x45\xdf\xa3"):
        kind, usual = EBML, ".webm" if b"webm" in head else ".mkv"
    elif head:
        kind, usual = OTHER, ".avi"
    else:
        return suffix
    return suffix if suffix in kind else usual


def _head(source: Path) -> bytes:
    """Nothing of what is no file, which opening alone might wait for."""
    try:
        if not source.is_file():
            return b""
        with source.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
