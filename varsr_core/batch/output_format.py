"""In which format results are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .films.containers import CONTAINERS, RESULTS, result_of
from .pictures.formats import DEEP_FORMATS, PICTURE_FORMATS, SUFFIXES

FORMATS = ("same", *SUFFIXES)
DEPTHS = ("same", "8", "16")
CODEC_CHOICES = ("auto", "libx264", "libx265", "libsvtav1", "ffv1", "prores_ks")
AUDIO_CHOICES = ("auto", "copy", "convert", "none")
CONTAINER_CHOICES = ("same", *RESULTS)
DEINTERLACE_CHOICES = ("auto", "off")


@dataclass(frozen=True)
class OutputFormat:
    """The user's choices for files of results.

    picture: one of FORMATS; "same" is the input's
    depth:   bits per channel, one of DEPTHS; "same" is the input's where the format holds it
    quality: 1 to 100, of JPEG and WebP; WebP is lossless at 100
    crf:     of films, 0 (lossless) to 51
    video_codec: of films, one of CODEC_CHOICES
    audio:   of films, one of AUDIO_CHOICES; "auto" copies what the container holds and converts
             the rest
    deinterlace: of films, one of DEINTERLACE_CHOICES; "auto" those frames that are interlaced
    container: of films, one of CONTAINER_CHOICES; "same" is of the input's kind

    Raises InputError for anything else.
    """

    picture: str = "same"
    depth: str = "same"
    quality: int = 95
    crf: int = 16
    video_codec: str = "auto"
    audio: str = "auto"
    deinterlace: str = "auto"
    container: str = "same"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("format", self.picture, FORMATS),
            ("depth", self.depth, DEPTHS),
            ("video codec", self.video_codec, CODEC_CHOICES),
            ("audio", self.audio, AUDIO_CHOICES),
            ("deinterlace", self.deinterlace, DEINTERLACE_CHOICES),
            ("container", self.container, CONTAINER_CHOICES),
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

    def of_film(self, source: Path) -> tuple[str, str]:
        """Suffix and container of a film's result."""
        return result_of(source) if self.container == "same" else RESULTS[self.container]

    def suffix(self, source: Path) -> str:
        """Of the result of a picture or film."""
        suffix = source.suffix.lower()
        if suffix in CONTAINERS:
            return self.of_film(source)[0]
        return suffix if self.picture == "same" else SUFFIXES[self.picture]

    @property
    def deinterlaces(self) -> bool:
        return self.deinterlace != "off"

    def deep(self, suffix: str, input_is_deep: bool) -> bool:
        """Whether a picture of this suffix is written with 16 bits."""
        if PICTURE_FORMATS[suffix] not in DEEP_FORMATS:
            return False
        return input_is_deep if self.depth == "same" else self.depth == "16"
