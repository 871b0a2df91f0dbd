"""Pictures and films as files: written to be read by the command, and read to be compared."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

RATE = 24  # frames a second


def save_picture(path: Path, values: np.ndarray) -> Path:
    """values: (height, width, 1, 3 or 4) uint8, or (height, width, 3) uint16 for a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.dtype == np.uint8:
        Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(path)
        return path
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = values.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb48be", Fraction(1, RATE)
    frame = av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format="rgb48be")
    path.write_bytes(b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)])))
    return path


def read_picture(path: Path) -> np.ndarray:
    """In the channels and bits of the file."""
    with av.open(str(path)) as container:
        if container.streams.video[0].format.name == "rgb48be":  # Pillow has no such pictures
            return next(container.decode(video=0)).to_ndarray(format="rgb48le")
    with Image.open(path) as image:
        return np.array(image)


def save_film(path: Path, frames: int, height: int, width: int) -> Path:
    """A gradient that moves, without loss: the code of lossy encoders may differ by run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(frames):
            rows = (20 + 6 * x, 30 + 5 * y, 40 + 3 * (x + y) + 2 * number)
            values = (np.stack(rows, axis=-1) % 236).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_film(path: Path) -> dict[str, np.ndarray]:
    """frames: (n, height, width, 3) uint8; times: in the units of the file"""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return {
        "frames": np.stack([frame.to_ndarray(format="rgb24") for frame in frames]),
        "times": np.array([frame.pts for frame in frames]),
    }
