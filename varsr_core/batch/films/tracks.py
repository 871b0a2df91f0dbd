"""What a film holds beside its moving picture, on its way into another file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ...errors import InputError
from ..optional import import_av
from .reader import ATTACHED, METADATA_ERRORS, moving_picture, open_film, purposes
from .sound import CODEC_OF, ConvertedSound
from .subtitles import CODEC_OF as TEXT_CODEC_OF
from .subtitles import ConvertedSubtitles, can_be_converted

# Tags of the muxers, which write their own, or of programs that counted the old stream's bytes.
OWN_TAGS = ("encoder", "duration", "bps", "number_of_", "_statistics", "vendor_id", "handler_name")
DISCARDED = 48  # tracks that a demuxer has read by itself: chapters
EMPTY_TEXT_BYTES = 2  # its length, which is 0
NAMES = {"audio": "sound", "video": "moving picture", "subtitle": "subtitles"}
MIMETYPES = {"mjpeg": "image/jpeg", "png": "image/png"}


class Tracks:
    """Streams of the output, in the order of the input's.

    notes: what is converted or left out, in words
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        audio: str,
        picture: Callable[[], Any],
    ) -> None:
        """source, target: containers; audio: see OutputFormat; picture: adds the stream of the
        moving picture. Raises InputError for sound that is to be copied and cannot."""
        self.source, self.target, self.audio = source, target, audio
        self.container = target.format.name
        self.notes: list[str] = []
        self.unable: set[str] = set()  # what this version of PyAV is too old for
        self.by_index: dict[int, Callable[[Any], Iterator[Any]]] = {}
        shown = moving_picture(source)
        for stream in source.streams:
            made = picture() if stream == shown else self._add(stream)
            if made is not None:
                self._describe(stream, made)
        self._add_chapters()
        if self.unable:
            version = import_av("films").__version__
            self.notes.append(
                f"{', '.join(sorted(self.unable))} left out, which PyAV {version} cannot write"
            )

    @property
    def streams(self) -> list[Any]:
        """Of the input, whose packets are wanted."""
        return [stream for stream in self.source.streams if stream.index in self.by_index]

    def packets(self, packet: Any) -> Iterator[Any]:
        """Those of the output for one of the input."""
        return self.by_index[packet.stream.index](packet)

    def _add(self, stream: Any) -> Any:
        """A stream of the output, or None."""
        kind = stream.type
        if kind == "audio":
            return self._add_sound(stream)
        if not hasattr(self.target, "add_attachment"):  # such a PyAV crashes on other tracks
            self.unable.add(f"{NAMES.get(kind, kind)} beside the film")
            return None
        if kind == "subtitle" and not fits(stream, self.container) and can_be_converted(stream):
            self._note(stream, f"converted to {TEXT_CODEC_OF[self.container]}")
            return self._convert(stream, ConvertedSubtitles)
        if kind == "video" and purposes(stream) & ATTACHED:
            return self._add_cover(stream)
        if kind == "data" and _made_anew(stream):
            code = stream.metadata.get("timecode")
            if code and "timecode" not in moving_picture(self.source).metadata:
                self.target.metadata["timecode"] = code
            return None
        possible = kind == "subtitle" or (kind == "data" and self.container in ("mp4", "mov"))
        possible |= kind == "attachment" and self.container == "matroska"
        if not possible or not fits(stream, self.container):
            self._note(stream, "left out")
            return None
        return self._copy(stream)

    def _add_sound(self, stream: Any) -> Any:
        if self.audio == "none":
            self._note(stream, "left out, as asked for")
            return None
        if self.audio != "convert" and fits(stream, self.container):
            return self._copy(stream)
        name = getattr(stream.codec_context, "name", "of an unknown codec")
        if self.audio == "copy":
            raise InputError(
                f"{self.container} cannot hold the sound ({name}); choose --audio auto, which "
                "converts it, or --audio none"
            )
        if stream.codec_context is None:
            self._note(stream, "left out")
            return None
        self._note(stream, f"converted to {CODEC_OF[self.container].removeprefix('lib')}")
        return self._convert(stream, ConvertedSound)

    def _add_cover(self, stream: Any) -> Any:
        """MP4 has a place for it, Matroska attaches a file; others have none."""
        name = getattr(stream.codec_context, "name", "")
        if self.container == "mp4" and fits(stream, self.container):
            return self._copy(stream)
        if self.container != "matroska":
            self._note(stream, "left out")
            return None
        with open_film(self.source.name) as again:
            packets = again.demux(again.streams[stream.index])
            data = next((bytes(packet) for packet in packets if packet.size), b"")
        mimetype = stream.metadata.get("mimetype") or MIMETYPES.get(name, f"image/{name}")
        usual = f"cover.{'jpg' if name == 'mjpeg' else name}"
        return self.target.add_attachment(stream.metadata.get("filename", usual), mimetype, data)

    def _copy(self, stream: Any) -> Any:
        made = self.target.add_stream_from_template(stream, opaque=True)
        # Gaps between subtitles are packets in MP4 and MOV, and written by the muxer.
        least = 1 + EMPTY_TEXT_BYTES * (stream.name == "mov_text")

        def packets(packet: Any) -> Iterator[Any]:
            if packet.size >= least:
                packet.stream = made
                yield packet

        if stream.type != "attachment":
            self.by_index[stream.index] = packets
        return made

    def _convert(self, stream: Any, kind: Callable[[Any, Any], Any]) -> Any:
        converted = kind(stream, self.target)
        self.by_index[stream.index] = converted.packets
        return converted.stream

    def _describe(self, stream: Any, made: Any) -> None:
        """Language, title and what it is for."""
        for name, value in stream.metadata.items():
            if not name.lower().startswith(OWN_TAGS):
                made.metadata["title" if name == "name" else name] = value
        if stream.type != "attachment" and made.type != "attachment":
            try:
                made.disposition = stream.disposition
            except (AttributeError, TypeError):
                self.unable.add("default and forced flags")

    def _add_chapters(self) -> None:
        if not hasattr(self.target, "set_chapters"):
            self.unable.add("chapters")
        elif chapters := self.source.chapters():
            self.target.set_chapters(chapters)

    def _note(self, stream: Any, what: str) -> None:
        kind = NAMES.get(stream.type, stream.type)
        if stream.type == "video" and purposes(stream) & ATTACHED:
            kind = "cover picture"
        codec = getattr(stream.codec_context, "name", None)
        title = stream.metadata.get("title") or stream.metadata.get("filename")
        known = ", ".join(filter(None, (codec, stream.language, title)))
        self.notes.append(f"{kind}{f' ({known})' if known else ''} {what}")


def fits(stream: Any, container: str) -> bool:
    """Whether a container takes a stream as it is: asked by writing the head of such a file."""
    av = import_av("films")
    target = av.open(io.BytesIO(), "w", format=container, metadata_errors=METADATA_ERRORS)
    try:
        made = target.add_stream_from_template(stream, opaque=True)
        with suppress(AttributeError, TypeError):  # PyAV before 15
            made.disposition = stream.disposition
        target.start_encoding()
    except (av.error.FFmpegError, ValueError, AttributeError):  # the last for what has no codec
        return False
    finally:
        with suppress(av.error.FFmpegError):  # nothing is in it
            target.close()
    return True


def _made_anew(stream: Any) -> bool:
    """Whether muxers make such a track from what is copied otherwise: chapters, the time code."""
    discarded = getattr(stream, "discard", 0) == DISCARDED
    return discarded or bool(stream.metadata.get("timecode"))
