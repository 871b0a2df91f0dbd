"""Films, frame by frame: in memory are never more than a few frames, however long the film."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .jobs import Job
from .model import Model
from .output_format import CONTAINERS
from .packages import import_av
from .progress_count import TileCount
from .reading import read_mask

CODEC, CODEC_OF = "libx264", {"webm": "libvpx-vp9"}
SHALLOW = 8  # bits; a film of more is worked on with 16 and written with ten
LEAST_SHARE = 0.95  # of the frames that a film says it has; fewer were cut off
UNSAID, BT601, HD_HEIGHT = 2, 6, 720  # colour spaces; from which height on players guess another


def restore_film(job: Job, part: Path, model: Model, count: TileCount) -> None:
    """Writes a film to `part`: same time stamps, same sound, larger frames, one seed for all.

    Raises InputError for what is no film, or not all of one.
    """
    av = import_av("films")
    if Path(job.source).stat().st_size == 0:
        raise InputError("the file is empty (0 bytes); copy it again")
    container = CONTAINERS[Path(job.source).suffix.lower()][1]
    try:
        with av.open(job.source) as source, av.open(str(part), "w", format=container) as target:
            _Film(source, target, job, model, count).run()
    except av.error.InvalidDataError as error:
        raise InputError(
            f"this is no film that can be read, or it is damaged ({error.strerror}); copy it again"
        ) from None


class _Film:
    """One film on its way from one container to another."""

    def __init__(self, source: Any, target: Any, job: Job, model: Model, count: TileCount) -> None:
        if not source.streams.video:
            raise InputError("the file has no moving picture")
        self.source, self.target, self.model, self.count = source, target, model, count
        self.video = source.streams.video[0]
        self.video.thread_type = "AUTO"
        self.mask = read_mask(Path(job.mask)) if job.mask else None
        target.metadata.update(source.metadata)
        self.sound = {
            stream.index: target.add_stream_from_template(stream) for stream in source.streams.audio
        }
        self.early: list[Any] = []  # sound before the first frame
        self.encoder: Any = None
        self.form = "rgb24"
        self.hand: list[Any] = []  # frames not yet restored
        self.seen = 0
        self.length = self.video.frames or _guessed_frames(self.video, source)

    def run(self) -> None:
        for packet in self.source.demux(self.video, *self.source.streams.audio):
            if packet.stream.index in self.sound:
                self._copy(packet)
                continue
            for frame in packet.decode():
                self.hand.append(frame)
                if len(self.hand) >= self.model.work.together:
                    self._restore()
        self._restore()
        if self.seen < self.video.frames * LEAST_SHARE or not self.seen:
            raise InputError(
                f"the film is cut off: {self.seen} of {self.video.frames or 'its'} frames can be "
                "decoded; copy it again"
            )
        self.target.mux(self.encoder.encode(None))

    def _copy(self, packet: Any) -> None:
        if packet.dts is None:  # the end of the stream
            return
        if self.encoder is None:  # nothing can be written before all streams are known
            self.early.append(packet)
            return
        packet.stream = self.sound[packet.stream.index]
        self.target.mux(packet)

    def _restore(self) -> None:
        """The frames at hand."""
        if not self.hand:
            return
        frames, self.hand = self.hand, []
        if self.encoder is None:
            self._begin(frames[0])
        limit = 65535.0 if self.form == "rgb48le" else 255.0
        pixels = [
            torch.from_numpy(_upright(frame, self.form).astype(np.float32)) for frame in frames
        ]
        length = max(self.length, self.seen + len(frames))
        self.count.begin(self.seen / length, len(frames) / length)
        results = self.model.restore(
            torch.stack(pixels).movedim(-1, 1) / limit, self.mask, self.count
        )
        for frame, result in zip(frames, results, strict=True):
            self.target.mux(self.encoder.encode(self._encodable(frame, result, limit)))
        self.seen += len(frames)

    def _begin(self, frame: Any) -> None:
        """Now that a frame is here, its size and colours are known."""
        height, width = self.model.work.size.of(*_upright(frame, "rgb24").shape[:2])
        deep = max(component.bits for component in frame.format.components) > SHALLOW
        self.form = "rgb48le" if deep else "rgb24"
        name = CODEC_OF.get(self.target.format.name, CODEC)
        options = {"crf": str(self.model.work.form.crf)}
        options |= {"b:v": "0"} if name == CODEC_OF["webm"] else {}
        rate = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        self.encoder = self.target.add_stream(name, rate=rate, options=options)
        context = self.encoder.codec_context
        halved = "420" in frame.format.name and height % 2 == width % 2 == 0
        context.pix_fmt = ("yuv420p" if halved else "yuv444p") + ("10le" if deep else "")
        context.width, context.height = width, height
        # Those of the input, so that a time stamp is the same number.
        context.time_base = self.encoder.time_base = self.video.time_base
        context.sample_aspect_ratio = self.video.sample_aspect_ratio or Fraction(1)
        context.colorspace, context.color_range = self._space(frame), frame.color_range
        context.color_primaries = self.video.codec_context.color_primaries
        context.color_trc = self.video.codec_context.color_trc
        early, self.early = self.early, []
        for packet in early:
            self._copy(packet)

    def _space(self, frame: Any) -> int:
        """Of the result. Players guess what is not said by the height, which grows."""
        unsaid = frame.colorspace == UNSAID and frame.height < HD_HEIGHT
        return BT601 if unsaid else frame.colorspace

    def _encodable(self, frame: Any, result: Tensor, limit: float) -> Any:
        """(3, H, W) in [0, 1] in the encoder's colours, at the time of the frame it came from."""
        kind = np.uint16 if limit > 255 else np.uint8
        rows = result.movedim(0, -1).mul(limit).round().cpu().numpy().astype(kind)
        made = type(frame).from_ndarray(np.ascontiguousarray(rows), format=self.form)
        made = made.reformat(
            format=self.encoder.codec_context.pix_fmt,
            dst_colorspace=self._space(frame),
            dst_color_range=frame.color_range,
        )
        made.pts, made.time_base = frame.pts, self.video.time_base
        made.duration = frame.duration
        return made


def _upright(frame: Any, form: str) -> np.ndarray:
    """(H, W, 3) in whole numbers, turned as the film says it is to be shown."""
    turns = round((getattr(frame, "rotation", 0) or 0) / 90)
    return np.rot90(frame.to_ndarray(format=form), turns)


def _guessed_frames(video: Any, source: Any) -> int:
    """How many frames there may be, for progress alone."""
    seconds = float(video.duration * video.time_base) if video.duration else 0.0
    seconds = seconds or (source.duration or 0) / 1_000_000
    return max(1, round(seconds * float(video.average_rate or 25)))
