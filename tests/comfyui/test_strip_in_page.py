"""The strip of scales in the page: what it says, what it takes, and that it never lies."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest

from helpers.comfyui.graphs import Graph
from helpers.comfyui.page import ComfyPage
from helpers.comfyui.server import ComfyServer

SIDES = [1, 2, 3, 4]  # of the tiny model's token maps
SAMPLE = "VARSR_Sample"
PALETTES = ("dark", "light")
SEEDS = count(801)  # a run that is in the cache tells nothing
NONE = -1
# All strips that are on the page; which scale each marks, and whether it is the live node's own.
SHOWN = """() => [...document.querySelectorAll(".varsr-strip")].filter(s => s.offsetParent).map(
    (strip) => [
        [...strip.querySelectorAll(".varsr-scale")]
            .findIndex(c => c.classList.contains("varsr-first")),
        app.canvas.graph._nodes.some(n => n.varsrStrip?.element === strip),
    ])"""
TELL = """told => app.api.dispatchEvent(new CustomEvent("varsr.progress", { detail: told }))"""


def staged(picture: str, seed: int, first_scale: int = 0) -> Graph:
    """Goes on from the tokens of a picture that was encoded."""
    graph = Graph()
    model, image = graph.load(), graph.picture(picture)
    tokens = graph.encode(model, image, scale=2.0)
    prefix = graph.prefix(model, image, scale=2.0)
    sampled = graph.sample(model, prefix, tokens=tokens, seed=seed, first_scale=first_scale)
    graph.save(graph.decode(model, sampled))
    return graph


def value(page: ComfyPage) -> int:
    return page.on_node(SAMPLE, "return node.widgets.find(w => w.name === 'first_scale').value")


def agreed(page: ComfyPage) -> int:
    """What the widget, the one strip that is seen and the graph to be queued all say."""
    nodes = page.prompt().values()
    (queued,) = [n["inputs"]["first_scale"] for n in nodes if n["class_type"] == SAMPLE]
    page.until(SHOWN, [[queued or NONE, True]])
    assert value(page) == queued
    return queued


def cell(page: ComfyPage, scale: int) -> Any:
    return page.page.locator(".varsr-scale").nth(scale)


def click(page: ComfyPage, scale: int) -> None:
    cell(page, scale).click()
    page.page.wait_for_timeout(200)


def line(page: ComfyPage) -> str:
    return page.page.locator(".varsr-line").first.inner_text()


@pytest.fixture
def sampling(page: ComfyPage, uploaded: str) -> ComfyPage:
    """A graph whose sampler can resume, run once, so that the strip knows the model's scales."""
    page.build(staged(uploaded, seed=next(SEEDS)))
    assert page.run()[-1][0] == "execution_success"
    page.look_at(SAMPLE)
    page.take_in()
    return page


def test_undo_and_redo_leave_strip_widget_prompt_and_result_agreed(
    sampling: ComfyPage, server: ComfyServer, uploaded: str
) -> None:
    page = sampling
    click(page, 2)
    assert agreed(page) == 2
    click(page, 3)
    assert agreed(page) == 3
    page.press("Control+z")
    assert agreed(page) == 2
    page.press("Control+z")
    assert agreed(page) == 0
    page.press("Control+y")
    assert agreed(page) == 2
    page.press("Control+y")
    assert agreed(page) == 3
    page.press("Control+z")
    page.look_at(SAMPLE)
    click(page, 1)  # what a strip of a node that is gone would not do
    assert agreed(page) == 1
    page.shoot(f"{page.mode}_after_undo")
    told = page.run()
    assert told[-1][0] == "execution_success", told[-1]
    image = next(d["output"]["images"][0] for k, d in told if k == "executed")
    seed = page.on_node(SAMPLE, "return node.widgets.find(w => w.name === 'seed').value")
    expected = server.run(staged(uploaded, seed=seed, first_scale=1)).images()[0]
    assert np.array_equal(np.asarray(server.view(image)), np.asarray(server.view(expected)))
    assert agreed(page) == 1


def test_run_adds_no_step_to_undo(sampling: ComfyPage) -> None:
    """The scales that it told are no change of the user's."""
    page = sampling
    click(page, 2)
    page.run()
    page.press("Control+z")
    assert agreed(page) == 0


def test_strip_is_right_on_copies_in_subgraphs_and_in_other_tabs(
    sampling: ComfyPage,
) -> None:
    page = sampling
    saved = page.saved()
    click(page, 2)
    page.page.evaluate(
        """() => {
            const node = app.graph._nodes.find(n => n.type === "VARSR_Sample");
            app.canvas.selectNode(node);
            app.canvas.copyToClipboard();
            app.canvas.pasteFromClipboard();
            const [one, copy] = app.graph._nodes.filter(n => n.type === "VARSR_Sample");
            app.canvas.emitBeforeChange();
            copy.pos = [one.pos[0], one.pos[1] + 30]; // in view
            app.canvas.emitAfterChange();
        }"""
    )
    page.look_at(SAMPLE)
    page.until(SHOWN, [[2, True], [2, True]])
    first = page.tab()
    page.load(saved)  # in a tab whose nodes have the same numbers
    page.look_at(SAMPLE)
    second = page.tab()
    assert agreed(page) == 0
    click(page, 3)
    page.turn_to(first)
    page.look_at(SAMPLE)
    page.until(SHOWN, [[2, True], [2, True]])
    page.turn_to(second)
    assert agreed(page) == 3
    page.page.evaluate(
        """() => {
            const node = app.graph._nodes.find(n => n.type === "VARSR_Sample");
            const { node: outer } = app.graph.convertToSubgraph(new Set([node]));
            app.canvas.openSubgraph(outer.subgraph, outer);
        }"""
    )
    page.page.wait_for_timeout(1500)
    page.until(SHOWN, [[3, True]])


def test_keys_move_among_the_scales_choose_and_clear(sampling: ComfyPage) -> None:
    page = sampling
    cell(page, 0).focus()
    page.press("ArrowRight")
    page.press("ArrowRight")
    focused = (
        "() => [...document.activeElement.parentElement.children].indexOf(document.activeElement)"
    )
    assert page.page.evaluate(focused) == 2
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert page.page.evaluate(outline) == "solid"
    page.press("Enter")
    assert agreed(page) == 2
    assert cell(page, 2).get_attribute("aria-pressed") == "true"
    assert page.page.evaluate(focused) == 2, "choosing loses the place"
    page.press("End")
    page.press("Space")
    assert agreed(page) == 3
    page.press("Escape")
    assert agreed(page) == 0
    page.press("ArrowLeft")
    page.press("Enter")
    page.press("Enter")
    assert agreed(page) == 0, "the same again"
    page.press("Home")
    assert page.page.evaluate(focused) == 0


def test_strip_says_what_it_is_to_those_who_cannot_see_it(sampling: ComfyPage) -> None:
    page = sampling
    group = page.page.get_by_role("group", name="Scales, coarse to fine")
    names = [button.get_attribute("aria-label") for button in group.get_by_role("button").all()]
    assert len(names) == len(SIDES)
    assert names[2].startswith("Scale 3 of 4: 3 x 3 tokens a tile")
    assert group.get_by_role("status").inner_text() == line(page)
    assert "Click" in line(page)


def test_strip_cannot_be_pressed_where_it_does_not_decide(
    sampling: ComfyPage, uploaded: str
) -> None:
    """A wire to first_scale decides; VARSR Upscale has nothing to resume."""
    page = sampling
    click(page, 2)
    page.page.evaluate(
        """() => {
            const number = LiteGraph.createNode("PrimitiveInt");
            app.graph.add(number);
            const node = app.graph._nodes.find(n => n.type === "VARSR_Sample");
            number.connect(0, node, node.inputs.findIndex(i => i.name === "first_scale"));
        }"""
    )
    strip = page.page.locator(".varsr-strip")
    strip.locator("span.varsr-scale").first.wait_for()
    assert strip.locator("button").count() == 0
    assert strip.locator("[aria-pressed]").count() == 0
    unplug = "node.disconnectInput(node.inputs.findIndex(i => i.name === 'first_scale'))"
    page.on_node(SAMPLE, unplug)
    strip.locator("button").first.wait_for()
    assert strip.locator(".varsr-first").inner_text() == "3"

    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=next(SEEDS)))
    page.build(graph)
    page.look_at("VARSR_Upscale")
    strip.get_by_role("img").nth(6).wait_for()
    assert strip.locator("button").count() == 0
    assert line(page) == "Tokens along a tile's side at each scale"


def test_line_names_the_stage_and_the_strip_keeps_its_height(sampling: ComfyPage) -> None:
    page = sampling
    number = page.on_node(SAMPLE, "return node.id")
    told = {"node": number, "sides": SIDES, "all_tiles": 2, "tiles": [2, 1, 0, 0]}
    told |= {"done": 3, "total": 9}
    rest, height = line(page), page.page.locator(".varsr-strip").first.bounding_box()["height"]
    for new, words in [
        ({"stage": "encoding", "scale": None, "scales": 4}, "encoding"),
        ({"stage": "scale", "scale": 2, "scales": 4}, "scale 2 of 4"),
        ({"stage": "refining", "scale": None, "scales": 4}, "refining"),
        ({"stage": "decoding"}, "decoding"),
        ({"stage": "finishing"}, "finishing"),
        ({"stage": "scale 3 of 4"}, "scale 3 of 4"),  # as earlier versions tell it
        ({"stage": "something new"}, "something new"),
        ({}, rest),
    ]:
        page.page.evaluate(TELL, told | new)
        assert line(page) == words
        box = page.page.locator(".varsr-strip").first.bounding_box()
        assert box["height"] == height
    page.page.evaluate(TELL, told | {"stage": "decoding"})
    page.page.evaluate("() => app.api.dispatchEvent(new CustomEvent('executing', {detail: null}))")
    assert line(page) == rest


@pytest.mark.parametrize("palette", PALETTES)
def test_words_of_the_strip_can_be_read(sampling: ComfyPage, palette: str) -> None:
    page = sampling
    choose = "palette => app.extensionManager.setting.set('Comfy.ColorPalette', palette)"
    page.page.evaluate(choose, palette)
    try:
        click(page, 2)
        number = page.on_node(SAMPLE, "return node.id")
        told = {"node": number, "sides": SIDES, "all_tiles": 2, "tiles": [2, 2, 2, 1]}
        page.page.evaluate(TELL, told | {"stage": "refining", "done": 1, "total": 2})
        found = page.contrasts(".varsr-strip")
        page.shoot(f"{page.mode}_strip_{palette}")
        assert len(found) >= len(SIDES) + 1
        assert min(found.values()) >= 4.5, found
    finally:
        page.page.evaluate(choose, "dark")


def test_scale_can_be_chosen_before_any_run(page: ComfyPage) -> None:
    """Before any run the strip shows the scales of the model that comes with the pack."""
    page.build({"sample": {"class_type": SAMPLE, "inputs": {}}})
    page.look_at(SAMPLE)
    click(page, 5)
    assert value(page) == 5


def test_scales_of_another_model_are_taken_from_its_first_run(
    page: ComfyPage, uploaded: str
) -> None:
    page.build(staged(uploaded, seed=next(SEEDS)))
    assert page.page.locator(".varsr-scale").count() == 7
    page.run()
    cells = page.page.locator(".varsr-scale")
    assert cells.all_inner_texts() == [str(side) for side in SIDES]
