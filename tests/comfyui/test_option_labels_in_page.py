"""Choices in the page's language, on both canvases; prompt and workflow keep the English values."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser

from helpers.comfyui.graphs import Graph
from helpers.comfyui.page import ComfyPage, opened
from helpers.comfyui.server import ComfyServer
from helpers.paths import KITTEN
from tools.generate.translating import read_table

LABELS = read_table("options/zh")
UPSCALE = "VARSR_Upscale"
SHOWN = """
const widget = node.widgets.find((one) => one.name === argument);
return [widget.value, widget.options.getOptionLabel(widget.value)];
"""


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes 2.0"])
def chinese(
    request: pytest.FixtureRequest, browser: Browser, server: ComfyServer
) -> Iterator[ComfyPage]:
    server.upload(Image.open(KITTEN), KITTEN.name)
    with opened(browser, server, vue=request.param, language="zh-CN") as page:
        page.mode = f"{server.host.parent.name}_{'vue' if request.param else 'classic'}_zh"
        yield page
        assert page.errors == []
        assert page.failed == []


def test_labels_are_chinese_and_the_prompt_is_not(chinese: ComfyPage, uploaded: str) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), seed=4401, preset="faithful"))
    chinese.build(graph)
    for name, value in (("preset", "faithful"), ("tiling", "phased"), ("size_by", "scale")):
        assert chinese.on_node(UPSCALE, SHOWN, name) == [value, LABELS[value]]
    (inputs,) = [
        node["inputs"] for node in chinese.prompt().values() if node["class_type"] == UPSCALE
    ]
    assert inputs["preset"] == "faithful"
    assert inputs["tiling"] == "phased"
    chinese.load(chinese.saved())
    assert chinese.on_node(UPSCALE, SHOWN, "preset") == ["faithful", LABELS["faithful"]]
    chinese.shoot(f"{chinese.mode}_labels")


def test_names_that_are_no_words_stay_as_they_are(chinese: ComfyPage, uploaded: str) -> None:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(uploaded), color_fix="wavelet"))
    chinese.build(graph)
    assert chinese.on_node(UPSCALE, SHOWN, "color_fix") == ["wavelet", "wavelet"]
