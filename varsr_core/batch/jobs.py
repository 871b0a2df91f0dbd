"""What is to be done, and what became of it; both travel between processes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..images.output_size import OutputSize
from ..upscaling import UpscaleSettings
from .output_format import OutputFormat

HASH_CHUNK = 2**22  # bytes


@dataclass(frozen=True)
class Job:
    """One file to restore, or a segment of a film.

    name:   of the output below the output folder, with "/"; unique in a run
    source: file to read
    output: file to write
    film:   whether it is a film rather than a picture
    mask:   picture of what to restore, or "" for all of it

    Of a segment:
    begin, end: time stamps of the film; frames from `begin` to before `end` are restored
    share:      of the film
    made_from:  stamp that its inputs must have
    """

    name: str
    source: str
    output: str
    film: bool = False
    mask: str = ""
    begin: int = 0
    end: int = 0
    share: float = 1.0
    made_from: str = ""

    @property
    def inputs(self) -> list[Path]:
        return [Path(path) for path in (self.source, self.mask) if path]

    def stamp(self) -> str:
        """Size and time of the inputs: while it stays, they are taken to be unchanged."""
        stats = [path.stat() for path in self.inputs]
        return " ".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)

    def content_hash(self) -> str:
        """Of all bytes of the inputs."""
        digest = hashlib.blake2b(digest_size=16)
        for path in self.inputs:
            with path.open("rb") as file:
                while chunk := file.read(HASH_CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    error:        in the user's words; "" where the output was written
    stamp:        of the inputs, see Job; "" where they could not be read
    content_hash: of the inputs
    bytes:        of the output
    tiles:        that were restored
    seconds:      that it took
    fatal:        whether every other job would fail for the same reason
    """

    name: str
    error: str = ""
    stamp: str = ""
    content_hash: str = ""
    bytes: int = 0
    tiles: int = 0
    seconds: float = 0.0
    fatal: bool = False


@dataclass(frozen=True)
class Work:
    """How jobs are done: everything that a worker, here or elsewhere, has to know.

    family:   name in FAMILIES
    model:    file of the model
    choices:  of the family
    dtype:    of the weights, or "auto"
    device:   for torch, or "auto"
    threads:  of a CPU; 0 leaves them to torch
    together: pictures, or frames of a film, in one call; 0 for as many as fill the device
    """

    family: str
    model: str
    choices: Any
    size: OutputSize
    settings: UpscaleSettings
    seed: int
    form: OutputFormat
    dtype: str = "auto"
    device: str = "auto"
    threads: int = 0
    together: int = 0

    def settings_hash(self, fingerprint: str) -> str:
        """Of all that the outputs depend on but the inputs; fingerprint: of the weights.

        Not on which machine, with how many threads and beside which others they are made: these
        may show in the last bits, and are no reason to do work again.
        """
        shown = {name: value for name, value in asdict(self).items() if name not in _HOW}
        text = json.dumps([shown, fingerprint], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


_HOW = ("model", "device", "threads", "together")
