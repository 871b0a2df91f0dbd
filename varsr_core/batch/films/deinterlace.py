"""Interlaced frames made whole by FFmpeg's own filter, one for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from ..optional import import_av

FILTER = "bwdif"
BEFORE = 2  # frames that the filter must have seen before one comes out as in the whole film
TOP_FIRST, BOTTOM_FIRST = (2, 5), (3, 4)  # field orders of FFmpeg, by which field is shown first
# Codecs whose frames themselves say whether they are interlaced.
FLAGGING = {
    "dnxhd", "dvvideo", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores",
    "vc1", "wmv3",
}  # fmt: skip


def field_order(video: Any) -> str | None:
    """Of a stream whose frames do not say it themselves, as the filter names it."""
    context = video.codec_context
    if context.codec.canonical_name in FLAGGING:
        return None
    order = getattr(context, "field_order", 0)
    return {**dict.fromkeys(TOP_FIRST, "tff"), **dict.fromkeys(BOTTOM_FIRST, "bff")}.get(order)


def deinterlaced(frames: Iterable[Any], order: str | None, sought: bool) -> Iterator[Any]:
    """Frames at the same times; those that are not interlaced are left as they are.

    order:  of the fields, see `field_order`; None goes by the frames' own flags
    sought: whether frames before the first were skipped. Those that would not come out as in the
            whole film are left out then.
    """
    before: deque[Any] = deque(maxlen=BEFORE)
    filtered: _Filter | None = None
    left_out = 0  # of those that come out next
    for frame in frames:
        if filtered and not filtered.takes(frame):
            yield from filtered.put(None)
            filtered, sought = None, False
            before.clear()
        if filtered is None:
            if not (order or frame.interlaced_frame):
                before.append(frame)
                yield frame
                continue
            filtered = _Filter(frame, order)
            left_out = len(before) + (BEFORE - len(before) if sought else 0)
            for earlier in before:
                left_out -= len(filtered.put(earlier))
        for made in filtered.put(frame):
            if left_out > 0:
                left_out -= 1
            else:
                yield made
    if filtered:
        yield from filtered.put(None)[left_out:]


class _Filter:
    """A filter for frames of one size and format."""

    def __init__(self, frame: Any, order: str | None) -> None:
        av = import_av("films")
        self.shape = _shape(frame)
        self.waiting: deque[Any] = deque()  # frames that went in and have not come out
        self.nothing_yet = (av.error.BlockingIOError, av.error.EOFError)
        self.graph = av.filter.Graph()
        source = self.graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        asked = f"parity={order}:deint=all" if order else "parity=auto:deint=interlaced"
        middle = self.graph.add(FILTER, f"mode=send_frame:{asked}")
        self.graph.link_nodes(source, middle, self.graph.add("buffersink")).configure()

    def takes(self, frame: Any) -> bool:
        return _shape(frame) == self.shape

    def put(self, frame: Any) -> list[Any]:
        """Frames that are ready; frame: None after the last."""
        if frame is not None:
            self.waiting.append(frame)
        self.graph.push(frame)
        ready = []
        while self.waiting:
            try:
                made = self.graph.pull()
            except self.nothing_yet:
                break
            source = self.waiting.popleft()
            made.pts, made.time_base, made.duration = source.pts, source.time_base, source.duration
            made.colorspace, made.color_range = source.colorspace, source.color_range
            ready.append(made)
        return ready


def _shape(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
