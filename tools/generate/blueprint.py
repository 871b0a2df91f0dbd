"""The subgraphs of the node library: a model and what works with it, in one node."""

from __future__ import annotations

from typing import Any

from tools.generate.template import Template
from tools.generate.template_layout import Layout

FOR_PICTURES, FOR_FILMS = "VARSR Upscale 4x", "VARSR Upscale Video"
DESCRIPTIONS = {
    FOR_PICTURES: "Restores and enlarges a picture, four times or by another scale.",
    FOR_FILMS: "Restores and enlarges a film, its sound kept, from Load Video to Save Video.",
}


def for_pictures() -> Template:
    flow = Template(FOR_PICTURES)
    box = flow.box(FOR_PICTURES, image=None, mask=None, alpha=None)
    model = box.inside.model()
    given = {name: box.given(name) for name in ("image", "mask", "alpha")}
    upscaled = box.inside.upscaled(model, scale=4.0, **given)
    box.leaving = {"image": upscaled.node[0], "alpha": upscaled.node[1]}
    box.shown = [
        (model.node, "checkpoint"),
        *((upscaled.node, widget) for widget in ("scale", "seed", "guidance")),
    ]
    return flow


def for_films() -> Template:
    flow = Template(FOR_FILMS)
    box = flow.box(FOR_FILMS, video=None)
    model = box.inside.model()
    video = box.given("video")
    upscaled = box.inside.add("VARSR_UpscaleVideo", model=model, video=video, scale=2.0)
    box.leaving = {"video": upscaled[0]}
    box.shown = [
        (model.node, "checkpoint"),
        *((upscaled, widget) for widget in ("scale", "seed", "guidance")),
    ]
    return flow


def blueprints(known: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """Name -> a workflow with the subgraph as its only node, as the page saves blueprints."""
    made = {}
    for template in (for_pictures(), for_films()):
        whole = Layout(template, known).editor()
        (subgraph,) = whole["definitions"]["subgraphs"]
        subgraph["category"] = known["VARSR_Upscale"]["category"]
        subgraph["description"] = DESCRIPTIONS[template.name]
        made[template.name] = whole
    return made
