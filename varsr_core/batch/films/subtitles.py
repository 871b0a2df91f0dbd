"""Subtitles in text that a container cannot hold, in a codec that it can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..optional import import_av

CODEC_OF = {"mp4": "mov_text", "mov": "mov_text", "matroska": "ass", "webm": "webvtt"}
MILLISECONDS = 1000


def can_be_converted(source: Any) -> bool:
    """Whether they are text, not pictures; PyAV before 16 converts none."""
    context = source.codec_context
    return hasattr(context, "encode_subtitle") and context.codec.text_sub


class ConvertedSubtitles:
    """Packets of subtitles, decoded and encoded again, at the same times."""

    def __init__(self, source: Any, target: Any) -> None:
        """source: stream of the input; target: container to be written"""
        self.stream = target.add_stream(CODEC_OF[target.format.name])
        context = source.codec_context
        context.open()  # only now it has the header
        self.stream.codec_context.subtitle_header = context.subtitle_header
        self.stream.codec_context.time_base = self.stream.time_base = source.time_base

    def packets(self, packet: Any) -> Iterator[Any]:
        """packet: of the input; an empty one after the last"""
        if not packet.size or packet.pts is None:
            return
        av = import_av("films")
        try:
            found = packet.stream.codec_context.decode2(packet)
        except av.error.FFmpegError:
            return  # as players do: a damaged one is not shown
        if not found:
            return
        for line in found:
            length = round((packet.duration or 0) * packet.time_base * MILLISECONDS)
            text = av.subtitles.subtitle.SubtitleSet.create(line.ass, 0, length, packet.pts)
            made = self.stream.codec_context.encode_subtitle(text)
            made.pts = made.dts = packet.pts
            made.duration, made.time_base = packet.duration, packet.time_base
            made.stream = self.stream
            yield made
