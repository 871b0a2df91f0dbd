"""Sound that a container cannot hold, in a codec that it can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..optional import import_av
from .reader import FIRST

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
        self.resampler: Any = None
        self.kind: Any = None  # of the samples that it was made for
        self.next = FIRST  # time of the next sample, at the earliest

    def packets(self, packet: Any) -> Iterator[Any]:
        """packet: of the input; an empty one after the last"""
        try:
            frames = packet.decode()
        except import_av("films").error.FFmpegError:
            return  # as players do: a damaged packet is not heard
        for frame in frames:
            kind = frame.format.name, frame.layout.name, frame.sample_rate
            if kind != self.kind:
                yield from self._encoded(None)
                encoder = self.stream.codec_context
                self.resampler = import_av("films").AudioResampler(
                    encoder.format, encoder.layout, encoder.sample_rate
                )
                self.kind = kind
            yield from self._encoded(frame)
        if not packet.size:
            yield from self._encoded(None)
            yield from self.stream.encode(None)

    def _encoded(self, frame: Any) -> Iterator[Any]:
        """frame: None where others follow that are of another kind"""
        for fitting in self.resampler.resample(frame) if self.resampler else ():
            if fitting.pts is not None:  # containers take none that goes back
                fitting.pts = max(fitting.pts, self.next)
                self.next = fitting.pts + fitting.samples
            yield from self.stream.encode(fitting)
