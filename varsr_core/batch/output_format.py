"""In which format results are written, and under which names."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

PICTURE_FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
FORMATS = ("same", "png", "jpeg", "webp", "tiff")
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
DEPTHS = ("same", "8", "16")
DEEP_FORMATS = ("png", "tiff")  # that hold 16 bits
LONGEST_SIDE = {"jpeg": 65535, "webp": 16383}  # pixels
FILM_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
CONTAINERS = {  # suffix of a film -> suffix and container of the result
    ".mp4": (".mp4", "mp4"),
    ".m4v": (".m4v", "mp4"),
    ".mov": (".mov", "mov"),
    ".mkv": (".mkv", "matroska"),
    ".webm": (".webm", "webm"),
    ".avi": (".mkv", "matroska"),  # AVI has no time stamps
}
FIELDS = ("stem", "suffix", "scale", "seed", "model")


@dataclass(frozen=True)
class OutputFormat:
    """The user's choices for files of results.

    picture: one of FORMATS; "same" is the input's
    depth:   bits per channel, one of DEPTHS; "same" is the input's where the format holds it
    quality: 1 to 100, of JPEG and WebP; WebP is lossless at 100
    crf:     of films, 0 (lossless) to 51

    Raises InputError for anything else.
    """

    picture: str = "same"
    depth: str = "same"
    quality: int = 95
    crf: int = 16

    def __post_init__(self) -> None:
        for name, value, known in (
            ("format", self.picture, FORMATS),
            ("depth", self.depth, DEPTHS),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is none of {', '.join(known)}")
        for name, value, low, high in (
            ("quality", self.quality, 1, 100),
            ("crf", self.crf, 0, 51),
        ):
            if not low <= value <= high:
                raise InputError(f"{name} is {value}; {low} to {high} is expected")
        if self.depth == "16" and self.picture not in ("same", *DEEP_FORMATS):
            raise InputError(f"{self.picture} has no 16 bits; choose png or tiff")

    def suffix(self, source: Path) -> str:
        """Of the result of a picture or film."""
        suffix = source.suffix.lower()
        if suffix in CONTAINERS:
            return CONTAINERS[suffix][0]
        return suffix if self.picture == "same" else SUFFIXES[self.picture]

    def deep(self, suffix: str, input_is_deep: bool) -> bool:
        """Whether a picture of this suffix is written with 16 bits."""
        if PICTURE_FORMATS[suffix] not in DEEP_FORMATS:
            return False
        return input_is_deep if self.depth == "same" else self.depth == "16"


def check_template(template: str) -> None:
    """Refuses a template of names that is no single name. Raises InputError."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        filled = template.format(**dict.fromkeys(FIELDS, "x"))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(
            f"name {template!r} cannot be filled in ({error}); it may hold "
            f"{', '.join(f'{{{name}}}' for name in FIELDS)}"
        ) from None
    if not fields or any(mark in filled for mark in '/\\:*?"<>|\0') or filled.startswith("."):
        raise InputError(
            f"name {template!r} is no name of a file with a field such as {{stem}}; folders are "
            "kept as they are"
        )
