"""Codecs of the moving picture: what each of them holds, and how it is set."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import InputError
from ..optional import import_av
from ..options import Options
from ..output_format import CODEC_CHOICES
from .pixels import has_alpha, is_deep

# x264's code for AVX-512 encodes frames of some sizes (48x64 pixels for one) differently every
# time; its code for AVX2 does not.
AVX_512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
REPEATABLE = {"asm": "avx2"} if AVX_512 else {}
DEFAULT, DEFAULT_OF = "libx264", {"webm": "libvpx-vp9"}
MASTERING, LIGHT = "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"
CHROMA_STEPS, LIGHT_STEPS = 50_000, 10_000  # of one, and of one candela per square metre
FULL = "yuv444p"


@dataclass(frozen=True)
class Mastering:
    """What HDR films say of the screen they were made on.

    primaries: x and y of red, green, blue and white
    light:     of the screen, least and most, in candelas per square metre; () where unsaid
    levels:    of the film, the highest and the highest average; () where unsaid
    """

    primaries: tuple[float, ...] = ()
    light: tuple[float, ...] = ()
    levels: tuple[int, ...] = ()

    @classmethod
    def of(cls, frame: Any) -> Mastering:
        data = {one.type.name: bytes(one) for one in frame.side_data}
        primaries: tuple[float, ...] = ()
        light: tuple[float, ...] = ()
        if MASTERING in data:
            numbers = struct.unpack("<22i", data[MASTERING][:88])
            pairs = zip(numbers[:20:2], numbers[1:20:2], strict=True)
            values = [above / below if below else 0.0 for above, below in pairs]
            primaries = tuple(values[:8]) if numbers[20] else ()
            light = tuple(values[8:]) if numbers[21] else ()
        levels = struct.unpack("<2I", data[LIGHT][:8]) if LIGHT in data else ()
        return cls(primaries, light, levels)

    @property
    def display(self) -> str:
        """As x264 and x265 write it; "" where it is not said in full."""
        if not (self.primaries and self.light):
            return ""
        red, green, blue, white = (
            "({},{})".format(*(round(value * CHROMA_STEPS) for value in self.primaries[n : n + 2]))
            for n in (0, 2, 4, 6)
        )
        least, most = (round(value * LIGHT_STEPS) for value in self.light)
        return f"G{green}B{blue}R{red}WP{white}L({most},{least})"

    @property
    def display_in_units(self) -> str:
        """As SVT-AV1 writes it."""
        if not (self.primaries and self.light):
            return ""
        red, green, blue, white = (
            "({:.5f},{:.5f})".format(*self.primaries[n : n + 2]) for n in (0, 2, 4, 6)
        )
        return f"G{green}B{blue}R{red}WP{white}L({self.light[1]:.4f},{self.light[0]:.4f})"


def _parameters(**values: str) -> str:
    return ":".join(f"{name.replace('_', '-')}={value}" for name, value in values.items() if value)


def _levels(mastering: Mastering) -> str:
    return ",".join(map(str, mastering.levels))


def _x264(crf: int, mastering: Mastering) -> dict[str, str]:
    said = _parameters(**REPEATABLE, mastering_display=mastering.display, cll=_levels(mastering))
    return {"crf": str(crf)} | ({"x264-params": said} if said else {})


def _x265(crf: int, mastering: Mastering) -> dict[str, str]:
    said = _parameters(
        log_level="error", master_display=mastering.display, max_cll=_levels(mastering)
    )
    return {"crf": str(crf), "x265-params": said}


def _svt_av1(crf: int, mastering: Mastering) -> dict[str, str]:
    said = _parameters(
        mastering_display=mastering.display_in_units, content_light=_levels(mastering)
    )
    return {"crf": str(max(crf, 1))} | ({"svtav1-params": said} if said else {})


@dataclass(frozen=True)
class VideoCodec:
    """A codec as it is used here.

    options: of the encoder, from --crf and what an HDR film says of its screen
    formats: by names of formats without their bits, those it takes; the last for all others
    deep:    whether it always has ten bits
    alpha, mastering: whether it holds them
    least:   pixels that a frame must be wide
    """

    name: str
    options: Callable[[int, Mastering], dict[str, str]]
    formats: tuple[str, ...] = ("yuv420p", FULL)
    deep: bool = False
    alpha: bool = False
    mastering: bool = True
    least: int = 1

    def check_width(self, width: int) -> None:
        """Raises InputError."""
        if width < self.least:
            raise InputError(
                f"the result would be {width} pixels wide, and {self.name} needs {self.least}; "
                "choose another --video-codec or a larger --scale"
            )


VIDEO_CODECS = {
    one.name: one
    for one in (
        VideoCodec("libx264", _x264),
        VideoCodec("libvpx-vp9", lambda crf, _: {"crf": str(crf), "b:v": "0"}, mastering=False),
        VideoCodec("libx265", _x265, least=64),  # x265 4.2 crashes on some below
        VideoCodec("libsvtav1", _svt_av1, ("yuv420p",)),
        VideoCodec(
            "ffv1",
            lambda *_: {"level": "3", "slicecrc": "1", "g": "1"},
            alpha=True,
            mastering=False,
        ),
        VideoCodec("prores_ks", lambda *_: {}, ("yuv422p", FULL), True, True, False),
    )
}


def codec_for(container: str, options: Options) -> VideoCodec:
    """Raises InputError for one that the container cannot hold, or that is not there."""
    av = import_av("films")
    asked = options.form.video_codec
    name = DEFAULT_OF.get(container, DEFAULT) if asked == "auto" else asked
    try:
        av.Codec(name, "w")
    except ValueError:
        raise InputError(
            f"this PyAV has no encoder {name}; choose another --video-codec, or the wheel of PyAV "
            "from PyPI"
        ) from None
    if not holds(container, name):
        fitting = [other for other in CODEC_CHOICES[1:] if holds(container, other)]
        raise InputError(
            f"{container} cannot hold {name}; choose --video-codec {' or '.join(fitting)}, or "
            "convert the film to .mkv first"
        )
    return VIDEO_CODECS[name]


UNHELD = {("mov", "libsvtav1")}  # which FFmpeg knows only when it writes the head of a file


def holds(container: str, name: str) -> bool:
    """Whether a container holds what an encoder makes."""
    av = import_av("films")
    supported = av.open(io.BytesIO(), "w", format=container).supported_codecs
    return name in supported and (container, name) not in UNHELD


def pixel_format(codec: VideoCodec, frame: Any, halved: bool) -> str:
    """In which frames are encoded; halved: whether the sides allow half the colour resolution."""
    name = next((one for one in codec.formats if one[3:6] in frame.format.name), codec.formats[-1])
    if "422" in codec.formats[0] and "420" in frame.format.name:
        name = codec.formats[0]
    if "420" in name and not halved and FULL in codec.formats:
        name = FULL
    if codec.alpha and has_alpha(frame):
        name = "yuva444p" if codec.deep or "420" not in name else "yuva420p"
    return name + ("10le" if codec.deep or is_deep(frame) else "")
