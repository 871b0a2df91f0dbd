"""Sound that a container cannot hold, in a codec that it can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..optional import import_av

# FLAC loses nothing and delays nothing; MP4 holds it, but many of its players do not know it.
CODEC_OF = {"mp4": "aac", "mov": "aac", "matroska": "flac", "webm": "libopus"}
BIT_RATE = 96_000  # a second and channel, of AAC and Opus
USUAL_RATE = 48_000
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # by channels; others become stereo
FINE = ("s32", "s32p", "flt", "fltp", "dbl", "dblp")  # samples of more than 16 bits


class ConvertedSound:
    """Packets of sound, decoded and encoded again, at the same times."""

    def __init__(self, source: Any, target: Any) -> None:
        """source: stream of the input; target: container to be written"""
        av = import_av("films")
        name = CODEC_OF[target.format.name]
        context = source.codec_context
        rates = av.Codec(name, "w").audio_rates or [context.sample_rate]
        rate = context.sample_rate if context.sample_rate in rates else USUAL_RATE
        layout = LAYOUTS.get(context.channels, "stereo")
        self.stream = target.add_stream(name, rate=rate)
        encoder = self.stream.codec_context
        encoder.layout = layout
        if name == "flac":
            encoder.format = "s32" if context.format.name in FINE else "s16"
        else:
            encoder.bit_rate = BIT_RATE * encoder.channels
        self.resampler = av.AudioResampler(encoder.format, layout, rate)

    def packets(self, packet: Any) -> Iterator[Any]:
        """packet: of the input; an empty one after the last"""
        try:
            frames = packet.decode()
        except import_av("films").error.InvalidDataError:
            return  # as players do: a damaged packet is not heard
        for frame in frames:
            for fitting in self.resampler.resample(frame):
                yield from self.stream.encode(fitting)
        if not packet.size:
            for fitting in self.resampler.resample(None):
                yield from self.stream.encode(fitting)
            yield from self.stream.encode(None)
