"""How restored frames become a film again: codec, colours, time stamps."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..options import Options

CODEC, CODEC_OF = "libx264", {"webm": "libvpx-vp9"}
# x264's code for AVX-512 encodes frames of some sizes (48x64 pixels for one) differently every
# time; its code for AVX2 does not.
AVX_512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
REPEATABLE = {"x264-params": "asm=avx2"} if AVX_512 else {}
SHALLOW = 8  # bits; a film of more is worked on with 16 and written with ten
UNSAID, BT601 = 2, 6  # colour spaces
HD_HEIGHT = 720  # pixels; from here on, players take what is unsaid for BT.709, below for BT.601


class FilmEncoder:
    """An encoder in a container; of the same film, it is the same for every segment.

    stream: of the container, whose `encode` takes what `frame` gives
    form:   of NumPy's frames: "rgb48le" for films of more than 8 bits, else "rgb24"
    """

    def __init__(self, target: Any, video: Any, first: Any, options: Options) -> None:
        """target: container to be written; video, first: stream and first frame of the input."""
        deep = max(component.bits for component in first.format.components) > SHALLOW
        self.form = "rgb48le" if deep else "rgb24"
        self.limit = 65535.0 if deep else 255.0
        self.time_base = video.time_base
        height, width = options.size.of(*self.pixels(first).shape[:2])
        name = CODEC_OF.get(target.format.name, CODEC)
        choices = {"crf": str(options.form.crf)} | (REPEATABLE if name == CODEC else {"b:v": "0"})
        rate = video.average_rate or video.guessed_rate or Fraction(25)
        self.stream = target.add_stream(name, rate=rate, options=choices)
        context = self.stream.codec_context
        halved = "420" in first.format.name and height % 2 == width % 2 == 0
        context.pix_fmt = ("yuv420p" if halved else "yuv444p") + ("10le" if deep else "")
        context.width, context.height = width, height
        # Those of the input, so that a time stamp is the same number.
        context.time_base = self.stream.time_base = video.time_base
        context.sample_aspect_ratio = video.sample_aspect_ratio or Fraction(1)
        context.colorspace, context.color_range = _space(first), first.color_range
        context.color_primaries = video.codec_context.color_primaries
        context.color_trc = video.codec_context.color_trc

    @property
    def header(self) -> str:
        """What the container says of the stream, in hexadecimal digits; opens the encoder."""
        context = self.stream.codec_context
        if not context.is_open:
            context.open()
        return (context.extradata or b"").hex()

    def pixels(self, frame: Any) -> np.ndarray:
        """(H, W, 3) in whole numbers, turned as the film says it is to be shown."""
        turns = round((getattr(frame, "rotation", 0) or 0) / 90)
        return np.rot90(frame.to_ndarray(format=self.form), turns)

    def frame(self, source: Any, result: Tensor) -> Any:
        """(3, H, W) in [0, 1] in the encoder's colours, at the time of the frame it came from."""
        kind = np.uint16 if self.limit > 255 else np.uint8
        rows = result.movedim(0, -1).mul(self.limit).round().cpu().numpy().astype(kind)
        made = type(source).from_ndarray(np.ascontiguousarray(rows), format=self.form)
        made = made.reformat(
            format=self.stream.codec_context.pix_fmt,
            dst_colorspace=_space(source),
            dst_color_range=source.color_range,
        )
        made.pts, made.time_base = source.pts, self.time_base
        made.duration = source.duration
        return made


def _space(frame: Any) -> int:
    """Of the result, which is larger: players might no longer take what is unsaid for BT.601."""
    unsaid = frame.colorspace == UNSAID and frame.height < HD_HEIGHT
    return BT601 if unsaid else frame.colorspace
