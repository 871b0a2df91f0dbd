"""VARSR Upscale Video between ComfyUI's own nodes for films."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from helpers import film_files as films
from helpers import film_kinds
from helpers.comfyui.graphs import SAMPLING, TILING, Graph, Link, upscale_graph
from helpers.comfyui.pictures import restore, saved_pictures
from helpers.comfyui.run import Event, Run
from helpers.comfyui.server import ComfyServer
from helpers.paths import ROOT

FRAMES = 60
SETTINGS = {
    **SAMPLING,
    **TILING,
    "seed": 0,
    "scale": 2.0,
    "size_by": "scale",
    "target": 2048.0,
    "color_fix": "adain",
    "color_strength": 1.0,
    "refine_steps": 2,
    "refine_strength": 1.0,
    "video_codec": "auto",
    "crf": 0,
}
KEPT = {  # container of the input -> streams that Save Video leaves of the larger film
    ".mp4": ["video", "audio"],
    ".mov": ["video", "audio"],
    ".mkv": ["video", "audio"],
    ".webm": ["video", "audio"],
}


def film_in(server: ComfyServer, name: str, frames: int = FRAMES, **options: Any) -> Path:
    folder = server.base / "input"
    folder.mkdir(exist_ok=True)
    return films.make_film(folder / name, frames, **options)


def graph_of(name: str, **settings: Any) -> Graph:
    """Load Video -> VARSR Upscale Video -> Save Video."""
    graph = Graph()
    loaded = graph.add("film", "LoadVideo", file=name)
    return enlarged(graph, loaded, **settings)


def enlarged(graph: Graph, video: Link, **settings: Any) -> Graph:
    given = SETTINGS | settings
    larger = graph.add("upscale", "VARSR_UpscaleVideo", model=graph.load(), video=video, **given)
    graph.add(
        "save", "SaveVideo", video=larger, filename_prefix="larger", format="auto", codec="auto"
    )
    return graph


def saved(server: ComfyServer, run: Run) -> Path:
    (file,) = run.outputs["save"]["images"]
    return server.base / "output" / file["subfolder"] / file["filename"]


def times_and_frames(path: Path) -> tuple[list[float], np.ndarray]:
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.video[0]))
        return [f.time for f in frames], np.stack([f.to_ndarray(format="rgb24") for f in frames])


def test_frames_are_those_of_the_command(server: ComfyServer, tmp_path: Path) -> None:
    source = film_in(server, "command.mp4")
    run = restore(server, graph_of(source.name))
    model = server.base / "models" / "varsr" / "micro.safetensors"
    options = "--model", model, "--scale", "2", "--guidance", "6", "--color-fix", "adain"
    quality = "--crf", "0", "--refine-steps", "2", "--dtype", "fp32", "--threads", "1"
    command = [sys.executable, "-m", "varsr_core.batch", source, tmp_path, *options, *quality]
    subprocess.run(command, cwd=ROOT, check=True)
    wanted_times, wanted = times_and_frames(tmp_path / source.name)
    found_times, found = times_and_frames(saved(server, run))
    assert found.shape == (FRAMES, 24, 32, 3)
    assert found_times == pytest.approx(wanted_times, abs=1e-3)
    assert np.array_equal(found, wanted)


def test_bar_counts_frames_to_the_last(server: ComfyServer) -> None:
    source = film_in(server, "bar.mp4", sound=False)
    run = restore(server, graph_of(source.name, seed=3))
    values, totals = zip(*run.progress("upscale"), strict=True)
    assert set(totals) == {FRAMES}
    assert list(values) == sorted(values)
    assert values[-1] == FRAMES


@pytest.mark.parametrize("suffix", KEPT)
def test_every_container_comes_through_save_video_with_its_sound(
    server: ComfyServer, suffix: str
) -> None:
    source = film_in(server, f"kinds{suffix}", 20)
    path = saved(server, restore(server, graph_of(source.name, crf=16)))
    assert times_and_frames(path)[1].shape == (20, 24, 32, 3)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == KEPT[suffix]
        assert sum(frame.samples for frame in container.decode(audio=0)) > 0


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_film_with_a_time_code_comes_through_save_video(server: ComfyServer, suffix: str) -> None:
    source = server.base / "input" / f"everything{suffix}"
    source.parent.mkdir(exist_ok=True)
    film_kinds.save_everything(source)
    path = saved(server, restore(server, graph_of(source.name, crf=16, scale=1.0)))
    assert len(times_and_frames(path)[1]) == 8
    with av.open(str(path)) as container:
        code = container.metadata.get("timecode")
    assert code == (None if suffix == ".mov" else "01:02:03:2"), "of four frames a second"


def test_frames_in_memory_are_accepted_with_their_sound(
    server: ComfyServer, uploaded: str, photo: Image.Image
) -> None:
    graph = Graph()
    picture = graph.picture(uploaded)
    batch = graph.add("batch", "RepeatImageBatch", image=picture, amount=6)
    sound = graph.add("sound", "EmptyAudio", duration=0.5, sample_rate=44100, channels=2)
    made = graph.add("make", "CreateVideo", images=batch, fps=12.0, audio=sound)
    path = saved(server, restore(server, enlarged(graph, made)))
    times, found = times_and_frames(path)
    assert found.shape == (6, 2 * photo.height, 2 * photo.width, 3)
    assert times == pytest.approx([number / 12 for number in range(6)])
    still = upscale_graph(uploaded, scale=2.0, refine_steps=2)
    (wanted,) = saved_pictures(server, restore(server, still))
    shrunk = [
        np.asarray(Image.fromarray(picture).convert("L").reduce(4), int)
        for picture in (found[0], wanted)
    ]
    assert np.abs(shrunk[0] - shrunk[1]).mean() < 5  # chroma of half the size is another input
    assert np.corrcoef(shrunk[0].ravel(), shrunk[1].ravel())[0, 1] > 0.95
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1


def test_trimmed_film_has_the_frames_of_its_window(server: ComfyServer) -> None:
    if "Video Slice" not in server.object_info():
        assert server.host.match("*/0.3.75/*")
        return
    source = film_in(server, "long.mp4")
    graph = Graph()
    loaded = graph.add("film", "LoadVideo", file=source.name)
    rate = films.RATE
    window = {"start_time": 10 / rate, "duration": 15 / rate, "strict_duration": False}
    cut = graph.add("cut", "Video Slice", video=loaded, **window)
    path = saved(server, restore(server, enlarged(graph, cut)))
    _, found = times_and_frames(path)
    _, whole = times_and_frames(saved(server, restore(server, graph_of(source.name))))
    assert len(found) == 15
    assert np.abs(found.astype(int) - whole[10:25]).mean() < 8


def test_cancelled_film_goes_on_at_the_segment_that_was_stopped(server: ComfyServer) -> None:
    source = film_in(server, "cancelled.mp4", 150)

    def when(event: Event) -> bool:
        return event.type == "progress" and event.data["value"] >= 60

    run = server.run(graph_of(source.name, seed=5), interrupt_when=when)
    assert run.interrupted
    again = restore(server, graph_of(source.name, seed=5))
    first = again.progress("upscale")[0][0]
    assert 48 <= first < 60
    assert len(times_and_frames(saved(server, again))[1]) == 150


def test_what_is_no_film_is_refused_by_name(server: ComfyServer) -> None:
    path = server.base / "input" / "no.mp4"
    path.write_bytes(b"no film " * 100)
    run = server.run(graph_of("no.mp4"))
    assert not run.succeeded
    assert run.error["exception_type"] == "varsr_core.errors.InputError"
    assert "no film" in run.error["exception_message"]
