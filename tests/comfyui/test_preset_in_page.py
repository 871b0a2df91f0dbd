"""What a preset sets is greyed out in the page, and comes back with custom."""

from __future__ import annotations

import pytest

from helpers.comfyui.page import ComfyPage

ADD = """kind => {
    app.graph.clear();
    const node = LiteGraph.createNode(kind);
    node.id = 1000 + Math.floor(Math.random() * 1e6); // the page keeps what a number's node had
    app.graph.add(node);
}"""
CHOOSE = """const widget = node.widgets.find(w => w.name === "preset");
widget.value = argument;
widget.callback?.(argument, app.canvas, node);"""
GREY = """node.updateComputedDisabled?.();
return node.widgets.filter(w => w.computedDisabled ?? w.disabled).map(w => w.name)"""
SETTLED_MS = 600
SETS = {
    "VARSR_Upscale": {"guidance", "refine_strength", "fidelity", "color_fix"},
    "VARSR_AsUpscaleModel": {"guidance", "refine_strength", "fidelity", "color_fix"},
    "VARSR_UpscaleVideo": {"guidance", "refine_strength", "fidelity", "color_fix"},
    "NSARM_Upscale": {"temperature", "fidelity", "color_fix"},
}


@pytest.mark.parametrize("kind", SETS)
def test_widgets_of_a_preset_are_grey_while_it_is_chosen(page: ComfyPage, kind: str) -> None:
    page.page.evaluate(ADD, kind)
    assert page.on_node(kind, GREY) == []
    page.on_node(kind, CHOOSE, "faithful")
    assert set(page.on_node(kind, GREY)) == SETS[kind]
    page.page.wait_for_timeout(300)
    page.shoot(f"{page.mode}_preset_{kind}")
    page.load(page.saved())
    page.page.wait_for_timeout(SETTLED_MS)
    assert set(page.on_node(kind, GREY)) == SETS[kind]
    page.on_node(kind, CHOOSE, "custom")
    assert page.on_node(kind, GREY) == []


def test_values_stay_in_the_workflow_under_a_preset(page: ComfyPage) -> None:
    kind = "VARSR_Upscale"
    page.page.evaluate(ADD, kind)
    page.on_node(kind, "node.widgets.find(w => w.name === 'guidance').value = 2.5")
    page.on_node(kind, CHOOSE, "creative")
    page.load(page.saved())
    page.on_node(kind, CHOOSE, "custom")
    assert page.on_node(kind, "return node.widgets.find(w => w.name === 'guidance').value") == 2.5
