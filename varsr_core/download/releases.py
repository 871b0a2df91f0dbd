"""What is handed out, and what becomes of it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..varsr import family as varsr
from ..varsr.k2n import kind as k2n


@dataclass(frozen=True)
class Release:
    """
    repository: on Hugging Face
    files:      their names, and about how many bytes each has
    converted_files: names of the one that is made of them: today's, then earlier ones
    converted_bytes: of that one, about
    """

    repository: str
    files: Mapping[str, float]
    converted_files: tuple[str, ...]
    converted_bytes: float

    @property
    def address(self) -> str:
        return f"https://huggingface.co/{self.repository}"


VARSR = Release(
    varsr.REPOSITORY,
    {name: varsr.RELEASED_BYTES[name] for name in varsr.FILES},
    (varsr.CONVERTED_FILE, varsr.EARLIER_FILE),
    varsr.CONVERTED_BYTES,
)
K2N = Release(k2n.REPOSITORY, k2n.RELEASED_BYTES, (k2n.CONVERTED_FILE,), k2n.CONVERTED_BYTES)
