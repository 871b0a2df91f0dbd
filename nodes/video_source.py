"""A VIDEO of ComfyUI as a file that can be read frame by frame."""

from __future__ import annotations

import io
import math
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl

LOSSLESS = {"qp": "0", "preset": "ultrafast"}  # of what lies in memory, until it is restored
BT709, LIMITED = 1, 1  # FFmpeg's numbers
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
SOUND_RATE = 256_000  # bits a second


@contextmanager
def as_file(video: Any, folder: Path) -> Iterator[Path]:
    """The film's own file where it has one; else a copy in `folder`, removed in the end.

    A trimmed film, of newer versions of ComfyUI, is cut by ComfyUI, at its highest quality. Frames
    in memory are written as Create Video would have them saved, without loss but in its 4:2:0.
    """
    own = _own_file(video)
    if own is not None:
        yield own
        return
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{uuid.uuid4().hex}.film"
    try:
        _write(video, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _own_file(video: Any) -> Path | None:
    if not isinstance(video, InputImpl.VideoFromFile) or _is_trimmed(video):
        return None
    source = video.get_stream_source()
    return None if isinstance(source, io.BytesIO) else Path(source)


def _is_trimmed(video: Any) -> bool:
    """Older versions of ComfyUI cannot trim."""
    window = getattr(video, "get_active_trim_window", None)
    return window is not None and any(window())


def _write(video: Any, path: Path) -> None:
    if not isinstance(video, InputImpl.VideoFromFile):
        depth = video.get_bit_depth() if hasattr(video, "get_bit_depth") else 8
        _encode(video.get_components(), depth, path)
    elif _is_trimmed(video):
        whole = path.with_suffix(".mp4")  # ComfyUI goes by the suffix
        video.save_to(str(whole), crf=0.0)
        whole.replace(path)
    else:
        with path.open("wb") as file:
            shutil.copyfileobj(video.get_stream_source(), file)


def _encode(components: Any, depth: int, path: Path) -> None:
    """Frame by frame. components: images (B, H, W, C) in [0, 1], audio or None, frame_rate."""
    import av  # comes with ComfyUI; not needed by other nodes

    images, deep = components.images, depth > 8
    height, width = images.shape[1:3]
    rate = Fraction(components.frame_rate).limit_denominator(1000)
    with av.open(str(path), "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=rate, options=LOSSLESS)
        context = stream.codec_context
        context.width, context.height = width, height
        planes = "420" if height % 2 == width % 2 == 0 else "444"
        context.pix_fmt = f"yuv{planes}p{'10le' if deep else ''}"
        context.colorspace, context.color_range = BT709, LIMITED
        sound = _sound_stream(target, components, rate)
        limit, dtype, form = (65535, "uint16", "rgb48le") if deep else (255, "uint8", "rgb24")
        for image in images:
            pixels = (image[..., :3].expand(-1, -1, 3).float() * limit).round().clamp(0, limit)
            frame = av.VideoFrame.from_ndarray(pixels.cpu().numpy().astype(dtype), format=form)
            frame = frame.reformat(format=context.pix_fmt, dst_colorspace="ITU709")
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        if sound is not None:
            target.mux(sound[0].encode(sound[1]))
            target.mux(sound[0].encode(None))


def _sound_stream(target: Any, components: Any, rate: Fraction) -> tuple[Any, Any] | None:
    """A stream and the one frame it gets; cut where the pictures end."""
    import av

    if not components.audio:
        return None
    sampling = int(components.audio["sample_rate"])
    length = math.ceil(sampling * len(components.images) / rate)
    wave = components.audio["waveform"][0, :, :length].float().cpu().contiguous().numpy()
    layout = LAYOUTS.get(len(wave), "stereo")
    stream = target.add_stream("aac", rate=sampling, layout=layout)
    stream.bit_rate = SOUND_RATE
    frame = av.AudioFrame.from_ndarray(wave[: {"mono": 1, "5.1": 6}.get(layout, 2)], "fltp", layout)
    frame.sample_rate, frame.pts = sampling, 0
    return stream, frame
