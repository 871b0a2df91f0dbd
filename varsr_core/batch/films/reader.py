"""Frames of a film between two time stamps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..disk import regular_stat
from ..optional import import_av
from .deinterlace import deinterlaced, field_order

FIRST, LAST = -(2**62), 2**62  # before and after every time stamp
# Codecs whose frames after a key frame come out the same when decoding begins there
# (tests/unit/batch/test_film_reader.py). Films in others are read from the beginning.
SEEKABLE = {
    "av1", "ffv1", "h264", "hevc", "mjpeg", "mpeg2video", "mpeg4", "prores", "vp8", "vp9",
}  # fmt: skip
# Kinds of files that hold all of a film. Others are lists of files, devices and addresses, which
# FFmpeg would open by what the file says, whatever its name.
READABLE = (
    "mov,matroska,avi,asf,dv,flv,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,ivf,mxf,nut,ogg,gif,apng,rm,"
    "wtv,yuv4mpegpipe"
)
METADATA_ERRORS = "surrogateescape"  # what cameras write need be no text; it is kept byte by byte
ATTACHED = 0x400  # what a stream is for: a cover picture
STILL = ATTACHED | 0x800  # and thumbnails
INTRA = 1  # picture type of a frame that is predicted from no other
STEPS_BACK = (0, 2, 8, 32)  # seconds before the frame that is looked for


class SeekError(Exception):
    """Frames after a seek may not be those of the film; read it from the beginning."""


@contextmanager
def input_errors() -> Iterator[None]:
    """Raises InputError for what FFmpeg does not recognise."""
    av = import_av("films")
    try:
        yield
    except av.error.InvalidDataError as error:
        raise InputError(
            f"this is no film that can be read, or it is damaged ({error.strerror}); copy it again"
        ) from None


def open_film(path: str) -> Any:
    """A container with a moving picture. Raises InputError for anything else."""
    av = import_av("films")
    if regular_stat(Path(path)).st_size == 0:
        raise InputError("the file is empty (0 bytes); copy it again")
    allowed = {"format_whitelist": READABLE, "protocol_whitelist": "file"}
    with input_errors():
        try:
            source = av.open(path, options=allowed, metadata_errors=METADATA_ERRORS)
        except av.error.ArgumentError:
            raise InputError(
                "this is no film, or a list that names other files; read are files that hold all "
                "of a film, such as MP4, MOV, MKV, WebM and AVI"
            ) from None
    if moving_picture(source) is None:
        source.close()
        raise InputError("the file has no moving picture")
    return source


def moving_picture(source: Any) -> Any:
    """The first stream of frames that is no cover picture and no row of thumbnails, or None."""
    streams = source.streams.video
    return next((stream for stream in streams if not purposes(stream) & STILL), None)


def purposes(stream: Any) -> int:
    """What a stream is for, as FFmpeg's flags; of PyAV before 15 they are no numbers."""
    return getattr(stream.disposition, "value", stream.disposition)


class FilmReader:
    """Reads a film forward, span after span; seeks only where a span does not follow the last.

    Frames may have no time stamp, or one that is below an earlier frame's. So what counts is the
    highest time stamp up to a frame: by it, every frame lies in exactly one span.

    first:    the first frame
    woven:    whether it was interlaced; None before there is one
    seekable: whether decoding may begin at a key frame
    sought:   whether the frames that are now read were reached by seeking
    """

    def __init__(self, path: str, deinterlace: bool = True) -> None:
        """deinterlace: whether interlaced frames are made whole"""
        self.path, self.deinterlace = path, deinterlace
        self.woven: bool | None = None
        self._begin()
        # AVI has no time stamps; those that FFmpeg makes up depend on where it began.
        timed = self.source.format.name != "avi"
        self.seekable = timed and self.video.codec_context.codec.canonical_name in SEEKABLE

    def _begin(self) -> None:
        self.source = open_film(self.path)
        self.sought = False
        self._at(self.source.demux(moving_picture(self.source)), FIRST)
        self.video.thread_type = "AUTO"
        self.first = next(self.frames, None)
        if self.first is None:
            raise InputError(
                "the film is cut off: none of its frames can be decoded; copy it again"
            )
        self.ahead = [self.first]

    def _at(self, packets: Iterator[Any], reached: int) -> None:
        """Reads on from these packets; reached: where the span before them ended."""
        self.video = moving_picture(self.source)
        self.frames = self._decoded(packets)
        if self.deinterlace:
            self.frames = deinterlaced(self.frames, field_order(self.video), self.sought)
        self.ahead: list[Any] = []  # frames of the next span that are read already
        self.due: list[int] = []  # after a seek: time stamps of the frames that packets hold
        self.latest, self.reached = FIRST, reached
        # Time stamp at which a seek arrived, until its frame turns out to be a key frame.
        self.key: int | None = None

    def _decoded(self, packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            if self.sought and packet.size and not packet.is_discard:
                if packet.pts is None:
                    raise SeekError
                self.due.append(packet.pts)
            try:
                frames = packet.decode()
            except import_av("films").error.FFmpegError as error:
                raise (SeekError if self.sought else error) from None
            for frame in frames:
                if frame.pts == self.key and frame.pict_type == INTRA:
                    self.key = None
                # Shown before the key frame where decoding began, it may miss what it refers to.
                elif self.key is not None and frame.pts is not None and frame.pts < self.key:
                    continue
                if self.woven is None:
                    self.woven = bool(frame.interlaced_frame or field_order(self.video))
                if self.sought and frame.interlaced_frame and frame.is_corrupt:
                    raise SeekError  # it would show in the frames beside it
                yield frame

    def span(self, begin: int, end: int) -> Iterator[Any]:
        """Frames from `begin` to before `end`, in the time base of the film.

        Raises SeekError, also after the last frame, where they are not certain to be those of the
        span: read it again by a reader that does not seek.
        """
        if begin != self.reached:
            self._move_to(begin)
        found = []
        for frame in chain(self.ahead, self.frames):
            self.latest = self.latest if frame.pts is None else max(self.latest, frame.pts)
            if self.latest >= end:
                self.ahead = [frame]
                break
            if self.latest < begin:
                continue
            if self.sought:
                if frame.is_corrupt or self.key is not None:
                    raise SeekError
                found.append(frame.pts)
            yield frame
        else:
            self.ahead = []
        self.reached = end
        if self.sought:
            if sorted(pts for pts in self.due if begin <= pts < end) != found:
                raise SeekError
            self.due = [pts for pts in self.due if pts >= end]

    def _move_to(self, begin: int) -> None:
        if self.seekable and begin > FIRST and self._seek(begin):
            return
        if self.sought or begin < self.reached:
            self.source.close()
            self._begin()

    def _seek(self, begin: int) -> bool:
        """To a key frame that is shown at `begin` or before. Returns whether there is one."""
        av = import_av("films")
        # Interlaced frames need those before them.
        for seconds in STEPS_BACK[1:] if self.woven else STEPS_BACK:
            earlier = begin - round(seconds / self.video.time_base)
            try:
                self.source.seek(earlier, stream=self.video)
                packets = self.source.demux(self.video)
                packet = next(packets)
            except (av.error.FFmpegError, StopIteration):
                continue
            if packet.is_keyframe and packet.pts is not None and packet.pts <= begin:
                self.sought = True
                self._at(chain([packet], packets), begin)
                self.key = packet.pts
                return True
        self.sought = True  # in vain; so it begins anew
        return False
