"""The shipped workflows run on a fresh installation as they are; both of their formats agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from helpers.comfyui.run import Run
from helpers.comfyui.server import HOST_VERSIONS, ComfyServer
from helpers.comfyui.workflows import (
    BUILT_IN,
    EXAMPLE,
    FETCHED,
    FILES,
    SHIPPED,
    without_boxes,
)

PATIENCE = 900  # seconds; on a machine with nothing else to do, each takes less than 30
NOTE = "MarkdownNote"  # only in the editor's format
WHOLE = "3 Restore a part of a picture"  # takes all of the picture, not a corner
SIZES = {
    "1 Upscale a picture": (768, 768),
    WHOLE: (1536, 1536),
    "4 Compare settings": (768, 768),
    "5 Keep the structure": (768, 768),
    "6 Step by step": (768, 768),
    "Upscale model for other nodes": (768, 768),
}
VIDEO, STILL_VIDEO = "2 Upscale a video", "Film steady"
FRAMES, FRAME = 5, (384, 384)
Made = Callable[[str], np.ndarray]
DIFFERENT = 5.0  # of 255, on average: what the eye sees at a glance
LESS = 40  # pixels; a side of what is restored where a part is enough
# Whole, as they are shipped, templates take minutes: on one host, and on the other a part of each.
newest = pytest.mark.parametrize("fresh", HOST_VERSIONS[:1], indirect=True)
PARTLY = ("5 Keep the structure", "Upscale model for other nodes")  # on both
PARTS = [(HOST_VERSIONS[0], name) for name in PARTLY]
PARTS += [(host, name) for host in HOST_VERSIONS[1:] for name in BUILT_IN]


def run_shipped(fresh: ComfyServer, name: str) -> Run:
    done = fresh.run(SHIPPED.api(name), timeout=PATIENCE)
    assert done.succeeded, done.error or done.body
    return done


@pytest.fixture
def picture(fresh: ComfyServer) -> Made:
    """What a template makes; each runs once."""
    return lambda name: made_by(fresh, name)


@cache
def made_by(fresh: ComfyServer, name: str) -> np.ndarray:
    (image,) = run_shipped(fresh, name).images()
    return np.asarray(fresh.view(image).convert("RGB"), float)


def enlarged(fresh: ComfyServer, corner: tuple[int, int, int, int], times: int) -> np.ndarray:
    whole = Image.open(fresh.base / "input" / EXAMPLE).convert("RGB").crop(corner)
    return np.asarray(whole.resize((whole.width * times, whole.height * times)), float)


def test_an_installation_has_the_picture_that_templates_name(fresh: ComfyServer) -> None:
    files = [path for path in (fresh.base / "input").rglob("*") if path.is_file()]
    assert [path.name for path in files] == [EXAMPLE]
    with Image.open(fresh.base / "input" / EXAMPLE) as shipped:
        assert shipped.size == (768, 768)
    for name in SHIPPED.names:
        nodes = SHIPPED.api(name).values()
        assert {n["inputs"]["image"] for n in nodes if n["class_type"] == "LoadImage"} <= {EXAMPLE}


def test_templates_that_need_no_file_are_these() -> None:
    assert sorted([*SIZES, VIDEO, STILL_VIDEO]) == BUILT_IN
    assert sorted([*BUILT_IN, *FILES, *FETCHED]) == SHIPPED.names


@pytest.mark.parametrize("name", FETCHED)
def test_template_that_fetches_its_model_stops_with_what_to_do(
    fresh: ComfyServer, name: str
) -> None:
    done = fresh.run(SHIPPED.api(name))
    kind, told = done.error["node_type"], done.error["exception_message"]
    assert kind in FETCHED[name]
    assert "download" in told
    assert ("15" if kind == "VARSR_GetModel" else "k2n in Get VARSR Model") in told


@pytest.mark.parametrize(("fresh", "name"), PARTS, indirect=["fresh"])
def test_a_part_of_a_template_is_restored(fresh: ComfyServer, name: str) -> None:
    graph, times = SHIPPED.api(name), 1.0
    for node in graph.values():
        if node["class_type"] == "ImageCrop":
            times = LESS / node["inputs"]["width"]
            node["inputs"] |= {"width": LESS, "height": LESS}
        if name == WHOLE and node["class_type"] == "VARSR_Upscale":
            node["inputs"]["scale"], times = 1.0, 0.5
    done = fresh.run(graph, timeout=PATIENCE)
    assert done.succeeded, done.error or done.body
    if name in SIZES:
        (image,) = done.images()
        assert fresh.view(image).size == tuple(int(times * side) for side in SIZES[name])


@newest
@pytest.mark.parametrize("name", [name for name in SIZES if name not in PARTLY])
def test_template_runs_at_once(picture: Made, name: str) -> None:
    assert picture(name).shape == (*SIZES[name], 3)


@newest
def test_corner_of_the_picture_comes_back_four_times_larger(
    fresh: ComfyServer, picture: Made
) -> None:
    made = picture("1 Upscale a picture")
    assert np.abs(made - enlarged(fresh, (0, 0, 192, 192), 4)).mean() < 6, "another picture"


@newest
def test_stages_make_what_the_one_node_makes(picture: Made) -> None:
    assert np.array_equal(picture("6 Step by step"), picture("1 Upscale a picture"))


@newest
def test_only_the_part_under_the_mask_is_restored(fresh: ComfyServer, picture: Made) -> None:
    made = picture(WHOLE)
    changed = np.abs(made - enlarged(fresh, (0, 0, 768, 768), 2)).max(2) > 16
    nodes = SHIPPED.api(WHOLE)
    whole, part, place = (nodes[number]["inputs"] for number in ("3", "4", "5"))
    for across, along, side in zip(changed.nonzero(), "yx", ("height", "width"), strict=True):
        factor = made.shape["yx".index(along)] / whole[side]
        first, last = place[along] * factor, (place[along] + part[side]) * factor
        assert first - 24 <= across.min() < first + 48
        assert last - 48 < across.max() <= last + 24


@newest
def test_compared_settings_differ_to_the_eye(picture: Made) -> None:
    whole = picture("4 Compare settings")
    height, width = (side // 2 for side in whole.shape[:2])
    halves = whole[:, :width], whole[:, width:]
    panels = [half[place] for place in (slice(height), slice(height, None)) for half in halves]
    between = [np.abs(a - b).mean() for a, b in zip(panels, panels[1:], strict=False)]
    assert min(between) > DIFFERENT, between


def frames_of(fresh: ComfyServer, name: str) -> list[np.ndarray]:
    """Of the film that a template makes."""
    folder = fresh.base / "output" / "video"
    before = set(folder.glob("*"))
    run_shipped(fresh, name)
    (file,) = set(folder.glob("*")) - before
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [
            frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(stream)
        ]
        assert stream.average_rate == FRAMES
    return frames


@newest
def test_video_is_made_and_enlarged_with_all_its_frames(fresh: ComfyServer) -> None:
    frames = frames_of(fresh, VIDEO)
    assert [frame.shape for frame in frames] == [(*FRAME, 3)] * FRAMES
    moves = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert min(moves) > DIFFERENT, "nothing moves"


@newest
def test_still_video_flickers_less_from_frame_to_frame(fresh: ComfyServer) -> None:
    frames = frames_of(fresh, STILL_VIDEO)
    assert [frame.shape for frame in frames] == [(*FRAME, 3)] * FRAMES
    changes = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert 0 < changes[-1] < changes[0], changes


@pytest.mark.parametrize("name", FILES)
def test_template_that_lacks_a_file_names_it_before_anything_runs(
    fresh: ComfyServer, name: str
) -> None:
    graph = SHIPPED.api(name)
    done = fresh.run(graph)
    if fresh.host.match("*/0.3.75/*") and name.startswith("9"):
        ((_, _, file),) = FILES[name]  # whose loader of upscale models checks when it runs
        assert file in done.error["exception_message"]
        return
    assert done.status == 400
    refused = {
        (graph[number]["class_type"], error["extra_info"]["input_name"]): error["details"]
        for number, node in done.node_errors.items()
        for error in node["errors"]
    }
    assert set(refused) == {(kind, widget) for kind, widget, _ in FILES[name]}
    for kind, widget, file in FILES[name]:
        said = refused[kind, widget]
        assert said in fresh.log
        assert f"'{file}'" in said
        if kind.startswith(("VARSR", "NSARM")):
            ours = rf"{widget} - there is no file '{file}' in the list of models; .+"
            assert re.fullmatch(ours, said)
            assert str(fresh.base / "models") in said


@pytest.mark.parametrize("name", SHIPPED.names)
def test_editor_and_api_format_say_the_same(name: str) -> None:
    nodes, sources = without_boxes(SHIPPED.editor(name))
    nodes = {number: node for number, node in nodes.items() if node["type"] != NOTE}
    api = SHIPPED.api(name)
    assert {number: node["type"] for number, node in nodes.items()} == {
        number: node["class_type"] for number, node in api.items()
    }
    assert sources == {
        f"{number} {key}": value
        for number, node in api.items()
        for key, value in node["inputs"].items()
        if isinstance(value, list)
    }
    for number, node in nodes.items():
        assert shown(node) == widgets(node, api[number]["inputs"])


def widgets(node: dict[str, Any], wanted: dict[str, Any]) -> list:
    """What the API says of those widgets that no wire has taken the place of."""
    wired = {i["name"] for i in node["inputs"] if "widget" in i}
    return [v for name, v in wanted.items() if not isinstance(v, list) and name not in wired]


def shown(node: dict[str, Any]) -> list:
    """A node's widgets without those that are only in the editor's format, or wired."""
    values = list(node["widgets_values"])
    if "fixed" in values:  # control after generate
        values.remove("fixed")
    if node["type"] in ("LoadImage", "LoadVideo"):  # the button for uploading
        values.pop()
    wired = sum("widget" in socket for socket in node["inputs"])
    return values[: len(values) - wired] if wired else values


def test_templates_are_ordered_by_their_names() -> None:
    numbers = [name.split()[0] for name in SHIPPED.names if name[0].isdigit()]
    assert numbers == [str(number + 1) for number in range(len(numbers))]
    assert len(numbers) < 10, "10 would come before 2"
    files = sorted(path.stem for path in SHIPPED.folder.glob("*.json"))
    assert files == SHIPPED.names
