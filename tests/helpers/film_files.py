"""Small films with sound, and what is seen and heard in films."""

from fractions import Fraction

import av
import numpy as np

RATE, SOUND_RATE = 4, 48_000  # a second
SECONDS = 10
SOUND_CODECS = {".webm": "libopus"}


def frame_pixels(number, size=(12, 16)):
    """A gradient that moves: (H, W, 3) uint8."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    rows = (20 + 9 * x, 30 + 9 * y, 40 + 4 * (x + y + number))
    return np.stack(rows, axis=-1).clip(0, 235).astype(np.uint8)


def make_film(path, frames=RATE * SECONDS, sound=True, gap=0, **context):
    """gap: after so many frames one is left out, so that time stamps are uneven; 0 for none."""
    with av.open(str(path), "w") as container:
        codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
        video = container.add_stream(codec, rate=RATE, options={"crf": "4"})
        video.height, video.width, video.pix_fmt = 12, 16, "yuv420p"
        for name, value in context.items():
            setattr(video.codec_context, name, value)
        audio = None
        if sound:
            audio = container.add_stream(SOUND_CODECS.get(path.suffix, "aac"), rate=SOUND_RATE)
            audio.layout = "stereo"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(frame_pixels(number), format="rgb24")
            frame.pts = number + (number // gap if gap else 0)
            frame.time_base = Fraction(1, RATE)
            container.mux(video.encode(frame))
            if audio:
                container.mux(audio.encode(tone(number)))
        container.mux(video.encode(None))
        if audio:
            container.mux(audio.encode(None))
    return path


def tone(number):
    """A quarter of a second of sound."""
    length = SOUND_RATE // RATE
    times = np.arange(number * length, (number + 1) * length)
    samples = 0.3 * np.stack((np.sin(times / 30), np.sin(times / 50))).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = (
        SOUND_RATE,
        int(times[0]),
        Fraction(1, SOUND_RATE),
    )
    return frame


def shown(path):
    """Times in seconds and pixels (H, W, 3) of all frames."""
    with av.open(str(path)) as container:
        frames = [
            (f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)
        ]
    return [time for time, _ in frames], [pixels for _, pixels in frames]


def heard(path):
    """Times in seconds and bytes of all packets of sound."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.dts is not None]
        return [(p.pts * p.time_base, bytes(p)) for p in packets]


def frame_rate(path):
    with av.open(str(path)) as container:
        return container.streams.video[0].average_rate
