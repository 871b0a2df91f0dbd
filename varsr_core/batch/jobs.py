"""What is to be done: pictures and films that the user named, and segments of films."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .disk import regular_stat

HASH_CHUNK = 2**22  # bytes


@dataclass(frozen=True)
class Job:
    """A file that is made from others.

    name:   of the output below the output folder, with "/"; unique in a run
    source: file to read
    output: file to write
    mask:   picture of what to restore, or "" for all of it
    """

    name: str
    source: str
    output: str
    mask: str = ""

    @property
    def inputs(self) -> list[Path]:
        return [Path(path) for path in (self.source, self.mask) if path]

    def stamp(self) -> str:
        """Size and time of the inputs: while it stays, they are taken to be unchanged.

        Raises InputError for inputs that are no files, before one of them is opened.
        """
        stats = [regular_stat(path) for path in self.inputs]
        return " ".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)

    def check_unchanged(self, stamp: str) -> None:
        """Raises InputError where the inputs had this stamp and have another now."""
        if self.stamp() != stamp:
            raise InputError("it was changed meanwhile; run the same command again")

    def content_hash(self) -> str:
        """Of all bytes of the inputs."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.inputs:
            with path.open("rb") as file:
                while chunk := file.read(HASH_CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True)
class Picture(Job):
    """A picture, restored as a whole."""


@dataclass(frozen=True)
class Film(Job):
    """A film, restored as segments and joined from them."""


@dataclass(frozen=True, kw_only=True)
class Segment(Job):
    """Frames of a film that follow each other, restored into a file of their own.

    begin, end: time stamps of the film; frames from `begin` to before `end` are restored
    fraction:   of the film
    film_stamp: stamp of the inputs when the film was cut into segments
    """

    begin: int
    end: int
    fraction: float
    film_stamp: str


Task = Picture | Segment
"""What one worker does by itself."""
