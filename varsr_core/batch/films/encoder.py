"""How restored frames become a film again: codec, colours, time stamps."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from ..options import Options
from .codecs import Mastering, codec_for, pixel_format
from .pixels import Turn, array_of, has_alpha, is_deep, result_space

PROGRESSIVE = 1  # field order
HEVC_TAG = "hvc1"  # without it, Apple's players do not show HEVC
TAGGED = ("mp4", "mov")

FORMS = {  # by whether there is alpha and whether there are more than eight bits
    (False, False): "rgb24",
    (False, True): "rgb48le",
    (True, False): "rgba",
    (True, True): "rgba64le",
}


def said_rate(choices: dict[str, str]) -> dict[str, str]:
    """Options of x264 by which a stream says its frame rate; else it says that of the time base,
    thousands a second, and who copies it can make no track of its time code.

    Not for films in the container of their input: those that earlier versions began are gone on
    with, and all segments of a film are to say the same.
    """
    given = [choices["x264-params"]] if "x264-params" in choices else []
    return {**choices, "x264-params": ":".join([*given, "force-cfr=1"])}


class FilmEncoder:
    """An encoder in a container; of the same film, it is the same for every segment.

    stream: of the container, whose `encode` takes what `frame` gives
    form:   of NumPy's frames, with 16 bits for films of more than 8, and alpha where it is kept
    """

    def __init__(
        self, target: Any, video: Any, first: Any, options: Options, woven: bool = False
    ) -> None:
        """target: container to be written; video, first: stream and first frame of the input;
        woven: whether frames were interlaced."""
        self.codec = codec_for(target.format.name, options)
        self.alpha = self.codec.alpha and has_alpha(first)
        deep = is_deep(first)
        self.form = FORMS[self.alpha, deep]
        self.limit = 65535.0 if deep else 255.0
        self.time_base = video.time_base
        self.space, self.range = result_space(first), first.color_range
        turned = Turn.of(first).transposed
        sides = first.height, first.width
        self.height, self.width = sides[::-1] if turned else sides
        height, width = options.size.of(self.height, self.width)
        rate = video.average_rate or video.guessed_rate or Fraction(25)
        self.codec.check_width(width)
        choices = self.codec.options(options.form.crf, Mastering.of(first))
        if self.codec.name == "libx264" and options.form.container != "same":
            choices = said_rate(choices)
        self.stream = target.add_stream(self.codec.name, rate=rate, options=choices)
        context = self.stream.codec_context
        context.pix_fmt = pixel_format(self.codec, first, height % 2 == width % 2 == 0)
        context.width, context.height = width, height
        # Those of the input, so that a time stamp is the same number.
        context.time_base = self.stream.time_base = video.time_base
        aspect = video.sample_aspect_ratio or Fraction(1)
        context.sample_aspect_ratio = 1 / aspect if turned else aspect
        context.colorspace, context.color_range = self.space, self.range
        context.color_primaries = video.codec_context.color_primaries
        context.color_trc = video.codec_context.color_trc
        if woven and options.form.deinterlaces and hasattr(context, "field_order"):
            context.field_order = PROGRESSIVE
        if self.codec.name == "libx265" and target.format.name in TAGGED:
            context.codec_tag = HEVC_TAG

    @property
    def header(self) -> str:
        """What the container says of the stream, in hexadecimal digits; opens the encoder."""
        context = self.stream.codec_context
        if not context.is_open:
            context.open()
        return (context.extradata or b"").hex()

    def pixels(self, frame: Any) -> np.ndarray:
        """(H, W, 3 or 4) in whole numbers, turned as the film says it is to be shown."""
        return array_of(frame, self.form, self.width, self.height)

    def frame(self, source: Any, result: Tensor) -> Any:
        """(3 or 4, H, W) in [0, 1] in the encoder's colours, at the time of the frame it came
        from."""
        kind = np.uint16 if self.limit > 255 else np.uint8
        rows = result.movedim(0, -1).mul(self.limit).round().cpu().numpy().astype(kind)
        made = type(source).from_ndarray(np.ascontiguousarray(rows), format=self.form)
        made = made.reformat(
            format=self.stream.codec_context.pix_fmt,
            dst_colorspace=self.space,
            dst_color_range=self.range,
        )
        made.pts, made.time_base = source.pts, self.time_base
        made.duration = source.duration
        return made
