"""Before and after in the page: on the node and over the whole page, all pixels of all pictures."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator

from helpers.comfyui.graphs import Graph
from helpers.comfyui.page import ComfyPage
from helpers.comfyui.pictures import structured_picture
from helpers.comfyui.server import ComfyServer

UPSCALE = "VARSR_Upscale"
SEEDS = count(901)
KEPT = 16  # pictures of a batch
# One that gives way to the whole picture meanwhile is asked again.
DECODED = """pictures => Promise.all(pictures.map(
    p => p.decode().catch(() => p.decode()).then(() => p.naturalWidth)))"""
PREVIEWS = """() => [...document.images]
    .filter(i => i.src.startsWith("blob:") && i.checkVisibility()).length"""
PANEL = "open => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', open)"
SHOWN_SIDES = (
    """() => [...document.querySelectorAll(".varsr-slider .varsr-picture")].map(p => p.src)"""
)


def upscaled(picture: str, batch: int = 1, **settings: Any) -> Graph:
    graph = Graph()
    image = graph.picture(picture)
    if batch > 1:
        image = graph.add("batch", "RepeatImageBatch", image=image, amount=batch)
    settings = {"seed": next(SEEDS), "scale": 2.0, **settings}
    graph.save(graph.upscale(graph.load(), image, **settings))
    return graph


def run(page: ComfyPage, graph: Graph) -> list[tuple[str, dict[str, Any]]]:
    page.build(graph)
    told = page.run()
    assert told[-1][0] == "execution_success", told[-1]
    page.look_at(UPSCALE)
    slider(page).wait_for()
    slider(page).locator("img").evaluate_all(DECODED)
    return told


def slider(page: ComfyPage) -> Locator:
    return page.page.locator(".varsr-slider").first


def count_of(page: ComfyPage) -> str:
    return slider(page).locator(".varsr-count").inner_text()


def border(place: Locator) -> float:
    found = place.evaluate("e => getComputedStyle(e).getPropertyValue('--varsr-border')")
    return float(found.removesuffix("%"))


def box(place: Locator) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    found = place.bounding_box()
    return (
        *(found["x"], found["y"]),
        *(found["x"] + found["width"], found["y"] + found["height"]),
    )


def settled(place: Locator) -> tuple[float, float, float, float]:
    """As box(), once it stays: on a busy machine, nodes find their size late."""
    found, earlier = box(place), None
    for _ in range(20):
        if found == earlier:
            break
        place.page.wait_for_timeout(500)
        found, earlier = box(place), found
    return found


def drag(page: ComfyPage, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.page.mouse.move(*start)
    page.page.mouse.down()
    page.page.mouse.move(*end, steps=5)
    page.page.mouse.up()


def told_pairs(told: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return next(
        d["output"] for k, d in told if k == "executed" and "varsr_comparison" in d["output"]
    )


def viewer(page: ComfyPage) -> Locator:
    """The full-size view, opened from the node."""
    slider(page).get_by_role("button", name="Full size").click()
    opened = page.page.locator("dialog.varsr-viewer[open]")
    opened.wait_for()
    opened.locator("img").evaluate_all(DECODED)
    return opened


def test_pictures_are_those_that_went_in_and_came_out(
    page: ComfyPage, server: ComfyServer, uploaded: str, photo: Image.Image
) -> None:
    """Without loss: Save Image writes the same bits."""
    told = run(page, upscaled(uploaded))
    ((small, whole, size),) = told_pairs(told)["varsr_comparison"]
    saved = next(
        d["output"]["images"][0] for k, d in told if k == "executed" and "images" in d["output"]
    )
    assert size == [80, 56]
    assert np.array_equal(np.asarray(server.view(whole[0])), np.asarray(photo))
    assert np.array_equal(np.asarray(server.view(whole[1])), np.asarray(server.view(saved)))
    assert small == whole
    assert slider(page).locator("img").evaluate_all(DECODED) == [40, 80]
    assert "80 x 56" in slider(page).inner_text()


@pytest.mark.parametrize("panel", [False, True], ids=["alone", "beside the panel"])
def test_border_stops_where_the_picture_ends(
    page: ComfyPage, server: ComfyServer, *, panel: bool
) -> None:
    """Also beside the panel of the selected node's inputs, which draws unknown widgets itself."""
    page.page.evaluate(PANEL, panel)
    tall = server.upload(structured_picture(24, 60), "tall.png")
    run(page, upscaled(tall))
    stage, frame = (slider(page).locator(f".varsr-{part}") for part in ("stage", "frame"))
    left, top, right, bottom = settled(frame)
    assert (right - left) / (bottom - top) == pytest.approx(24 / 60, rel=0.02)
    outer_left, _, outer_right, _ = box(stage)
    assert outer_left < left - 5, "the picture fills the element: nothing is tried"
    middle = (top + bottom) / 2
    handle = slider(page).locator(".varsr-handle")
    for end, stop in ((outer_left + 1, left), (outer_right - 1, right)):
        drag(page, ((left + right) / 2, middle), (end, middle))
        assert np.mean(box(handle)[::2]) == pytest.approx(stop, abs=1.5)
    drag(page, (right, middle), (left + 0.25 * (right - left), middle))
    assert border(stage) == pytest.approx(25, abs=3)
    page.page.evaluate(PANEL, False)


def test_click_switches_between_before_and_after(page: ComfyPage, uploaded: str) -> None:
    run(page, upscaled(uploaded))
    stage = slider(page).locator(".varsr-stage")
    for shown, hidden in (("after", "before"), ("before", "after"), ("after", "before")):
        stage.click()
        assert border(stage) == (0 if shown == "after" else 100)
        assert slider(page).locator(f".varsr-sign.varsr-{shown}").is_visible()
        assert not slider(page).locator(f".varsr-sign.varsr-{hidden}").is_visible()


def test_every_picture_of_a_batch_can_be_seen(page: ComfyPage, uploaded: str) -> None:
    run(page, upscaled(uploaded, batch=3))
    assert count_of(page) == "1 / 3"
    first = page.page.evaluate(SHOWN_SIDES)
    slider(page).get_by_role("button", name="Next picture").click()
    assert count_of(page) == "2 / 3"
    second = page.page.evaluate(SHOWN_SIDES)
    assert not set(first) & set(second)
    page.press("PageDown")
    assert count_of(page) == "3 / 3"
    assert slider(page).get_by_role("button", name="Next picture").is_disabled()
    slider(page).locator("input").focus()
    page.press("PageUp")
    assert count_of(page) == "2 / 3"
    assert page.page.evaluate(SHOWN_SIDES) == second
    page.shoot(f"{page.mode}_batch")


def test_long_batch_says_how_many_of_its_pictures_are_kept(page: ComfyPage, uploaded: str) -> None:
    told = run(page, upscaled(uploaded, batch=KEPT + 3, scale=1.0))
    assert len(told_pairs(told)["varsr_comparison"]) == KEPT
    assert count_of(page) == f"1 / {KEPT} of {KEPT + 3}"
    meaning = slider(page).locator(".varsr-count").get_attribute("title")
    assert meaning == f"Of {KEPT + 3} pictures, the first {KEPT} are kept for this view"


def test_full_size_view_shows_every_pixel_and_every_picture(page: ComfyPage, uploaded: str) -> None:
    run(page, upscaled(uploaded, batch=2))
    opened = viewer(page)
    frame, stage = opened.locator(".varsr-frame"), opened.locator(".varsr-stage")
    left, top, right, bottom = box(frame)
    assert (left, top) >= (0, 0)
    assert (right, bottom) <= (1600, 1000)
    assert max((right - left) / 1600, (bottom - top) / 1000) > 0.9, "room is wasted"
    page.press("1")
    dots = page.page.evaluate("() => devicePixelRatio")
    left, _, right, _ = box(frame)
    assert (right - left) * dots == pytest.approx(80, abs=0.5)
    assert "100 %" in opened.locator(".varsr-percent").inner_text()
    page.press("0")
    page.press("Space")
    assert border(stage) == 0
    page.press("PageDown")
    assert "2 / 2" in opened.inner_text()
    left, top, right, bottom = box(frame)
    drag(page, ((left + right) / 2, (top + bottom) / 2), (left + 0.75 * (right - left), top + 5))
    assert border(stage) == pytest.approx(75, abs=2)
    page.shoot(f"{page.mode}_full_size")
    page.press("Escape")
    assert page.page.locator("dialog.varsr-viewer").count() == 0
    assert count_of(page) == "2 / 2"


def test_large_picture_is_whole_in_the_full_size_view_alone(
    page: ComfyPage, server: ComfyServer, uploaded: str
) -> None:
    """The node has small copies; the wheel enlarges what is under the pointer, a drag moves it."""
    run(page, upscaled(uploaded))
    names = {"large.png": (2400, 1600), "small.png": (1024, 683), "low.png": (600, 400)}
    for name, size in names.items():
        server.upload(structured_picture(*size), name)
    large, small, low = ({"filename": name, "subfolder": "", "type": "input"} for name in names)
    output = {
        "varsr_comparison": [[[low, small], [low, large], [2400, 1600]]],
        "varsr_pictures": [1],
    }
    page.on_node(UPSCALE, "node.varsrSlider.tell(argument)", output)
    assert slider(page).locator("img").evaluate_all(DECODED) == [600, 1024]
    opened = viewer(page)
    after = opened.locator("img").nth(1)
    page.until(
        "() => document.querySelector('dialog').querySelectorAll('img')[1].naturalWidth", 2400
    )
    page.press("1")
    frame, stage = opened.locator(".varsr-frame"), opened.locator(".varsr-stage")
    assert box(frame)[2] - box(frame)[0] == pytest.approx(2400, abs=0.5)
    assert after.evaluate("p => p.clientWidth") == 2400
    before = box(frame)
    page.page.mouse.move(300, 300)
    page.page.mouse.wheel(0, -100)
    larger = box(frame)
    share = [(300 - box_[0]) / (box_[2] - box_[0]) for box_ in (before, larger)]
    assert larger[2] - larger[0] == pytest.approx(3000, abs=1)
    assert share[0] == pytest.approx(share[1], abs=0.002)
    kept = border(stage)
    drag(page, (300, 300), (500, 350))
    moved = box(frame)
    assert (moved[0] - larger[0], moved[1] - larger[1]) == pytest.approx((200, 50), abs=2)
    assert border(stage) == kept
    opened.get_by_role("button", name="Close").click()
    assert page.page.locator("dialog.varsr-viewer").count() == 0


def test_workflow_of_an_earlier_version_shows_its_pictures(
    page: ComfyPage, server: ComfyServer, uploaded: str
) -> None:
    page.build(upscaled(uploaded))
    saved = page.saved()
    node = next(node for node in saved["nodes"] if node["type"] == UPSCALE)
    file = {"filename": uploaded, "subfolder": "", "type": "input"}
    for held in ([file, file], [file, file, "Nothing is selected."]):
        node["properties"]["varsr_comparison"] = held
        page.load(saved)
        page.look_at(UPSCALE)
        slider(page).wait_for()
        assert slider(page).locator("img").evaluate_all(DECODED) == [40, 40]
        assert slider(page).locator(".varsr-note").inner_text() == (held[2] if held[2:] else "")
    new = run(page, upscaled(uploaded))
    ((small, _, _),) = told_pairs(new)["varsr_comparison"]
    kept = next(node for node in page.saved()["nodes"] if node["type"] == UPSCALE)
    assert kept["properties"]["varsr_comparison"][:3] == [*small, ""], "earlier versions read this"
    page.load(page.saved())
    page.look_at(UPSCALE)
    assert slider(page).locator("img").evaluate_all(DECODED) == [40, 80]


@pytest.mark.parametrize("held", ["text", [], [1, 2], [None, None], {"a": 1}, [{}, {}, {}, {}]])
def test_nonsense_in_a_workflow_shows_nothing(page: ComfyPage, uploaded: str, held: Any) -> None:
    page.build(upscaled(uploaded))
    saved = page.saved()
    node = next(node for node in saved["nodes"] if node["type"] == UPSCALE)
    node["properties"]["varsr_comparison"] = held
    page.load(saved)
    page.look_at(UPSCALE)
    assert not slider(page).is_visible()


def test_result_takes_the_place_of_the_preview(page: ComfyPage, uploaded: str) -> None:
    """Two pictures of one thing, one of them unfinished, would only confuse."""
    told = run(page, upscaled(uploaded, scale=4.0))
    assert any(kind == "preview" for kind, _ in told)
    page.until(PREVIEWS, 0)
    widgets = "return node.widgets.filter(w => w.name.includes('image-preview')).length"
    assert page.on_node(UPSCALE, widgets) == 0
    assert page.on_node(UPSCALE, "return node.imgs?.length ?? 0") == 0
    page.shoot(f"{page.mode}_result")


def test_earlier_result_steps_aside_for_previews_and_comes_back(
    page: ComfyPage, uploaded: str
) -> None:
    run(page, upscaled(uploaded))
    number = page.on_node(UPSCALE, "return node.id")
    event = "([kind, detail]) => app.api.dispatchEvent(new CustomEvent(kind, { detail }))"
    preview = "node.varsrSlider.stepAside()"
    page.on_node(UPSCALE, preview)
    assert not slider(page).is_visible()
    page.page.evaluate(event, ["execution_interrupted", {"prompt_id": "x", "node_id": number}])
    assert slider(page).is_visible()


def test_undo_takes_back_a_setting_and_not_the_result(page: ComfyPage, uploaded: str) -> None:
    run(page, upscaled(uploaded))
    page.take_in()
    kept = "return node.widgets.find(w => w.name === 'guidance').value"
    page.page.evaluate(
        """() => {
            app.canvas.emitBeforeChange();
            const node = app.graph._nodes.find(n => n.type === "VARSR_Upscale");
            node.widgets.find(w => w.name === "guidance").value = 2;
            app.canvas.emitAfterChange();
        }"""
    )
    page.run()
    shown = page.page.evaluate(SHOWN_SIDES)
    page.page.mouse.click(1000, 900)  # on the empty canvas: the page looks for changes
    page.press("Control+z")
    assert page.on_node(UPSCALE, kept) == 6
    page.until(SHOWN_SIDES, shown)
    assert page.on_node(UPSCALE, "return node.varsrSlider.element.isConnected")
    page.press("Control+y")
    assert page.on_node(UPSCALE, kept) == 2
    page.until(SHOWN_SIDES, shown)


@pytest.mark.parametrize("palette", ["dark", "light"])
def test_words_of_the_slider_can_be_read(page: ComfyPage, uploaded: str, palette: str) -> None:
    choose = "palette => app.extensionManager.setting.set('Comfy.ColorPalette', palette)"
    page.page.evaluate(choose, palette)
    try:
        run(page, upscaled(uploaded, batch=2))
        on_node = page.contrasts(".varsr-slider")
        page.shoot(f"{page.mode}_slider_{palette}")
        viewer(page)
        over_page = page.contrasts(".varsr-viewer")
        page.press("Escape")
        assert len(on_node) >= 6
        assert len(over_page) >= 9
        assert min([*on_node.values(), *over_page.values()]) >= 4.5, (on_node, over_page)
    finally:
        page.page.evaluate(choose, "dark")


def test_slider_works_by_keys_and_says_what_it_is(page: ComfyPage, uploaded: str) -> None:
    run(page, upscaled(uploaded))
    group = page.page.get_by_role("group", name="Before and after")
    handle = group.get_by_role("slider", name="Border between before and after")
    handle.focus()
    page.press("ArrowRight")
    assert border(slider(page).locator(".varsr-stage")) == 50.5
    assert handle.get_attribute("aria-valuetext") == "51 % before"
    outline = slider(page).locator(".varsr-frame").evaluate("f => getComputedStyle(f).outlineStyle")
    assert outline == "solid"
    assert group.get_by_role("img").count() == 2
