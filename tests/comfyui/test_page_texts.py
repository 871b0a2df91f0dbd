"""Our texts in the page's language: strip, slider, notes of templates, messages of the nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Route

from helpers.comfyui.graphs import Graph
from helpers.comfyui.page import ComfyPage, opened
from helpers.comfyui.server import ComfyServer
from tools.generate.page_texts import english

OTHERS = ("zh", "ja", "ko")
UPSCALE, SAMPLE = "VARSR_Upscale", "VARSR_Sample"
NOTE = "Enlarges a photograph.\n\nIn one node."
TABLES = {
    "notes": {NOTE: "Ein Foto, größer.\n\nMit {einem} Knoten @ Werk | fertig."},
    "messages": {
        "{name} is what Load Image gives for a picture without transparency: {size}, all 0, and "
        "the picture has {other}. {advice}": "{name}: {size} statt {other}. {advice}",
        "Paint a mask there, or disconnect it. {more}": "Maske malen oder Kabel ziehen.",
        "Nothing is selected: {rest}": "Nichts ausgewählt ({rest})",
        "pass {pass} of {passes}": "Durchgang {pass} von {passes}",
    },
}
SET = "language => app.extensionManager.setting.set('Comfy.Locale', language)"
OURS = "import('/extensions/ComfyUI-VARSR/js/{}.js')".format


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes 2.0"])
def foreign(
    request: pytest.FixtureRequest, browser: Browser, server: ComfyServer
) -> Iterator[ComfyPage]:
    """A page in Japanese, to whose texts tables of notes and messages have been added."""

    def answer(route: Route) -> None:
        texts = requests.get(f"{server.url}/i18n", timeout=60).json()
        texts["ja"]["varsr"] |= TABLES
        route.fulfill(body=json.dumps(texts), content_type="application/json")

    with opened(browser, server, vue=request.param) as page:
        page.mode = f"{server.host.parent.name}_{'vue' if request.param else 'classic'}"
        page.page.context.route("**/i18n", answer)
        page.page.evaluate(SET, "ja")
        page.page.wait_for_timeout(500)
        page.open(vue=request.param)
        yield page
        page.page.evaluate(SET, "en")
        page.page.wait_for_timeout(500)
        assert page.errors == []
        assert page.failed == []


def graph(picture: str, seed: int) -> Graph:
    graph = Graph()
    graph.save(graph.upscale(graph.load(), graph.picture(picture), seed=seed, scale=1.0))
    return graph


@pytest.fixture
def served(server: ComfyServer) -> dict[str, Any]:
    return requests.get(f"{server.url}/i18n", timeout=60).json()


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_served_in_every_language(served: dict[str, Any], language: str) -> None:
    ours = served[language]["varsr"]["page"]
    assert ours.keys() == english().keys()
    same = {key for key, text in english().items() if ours[key] == text}
    assert same == {"number", "size", "actual", "zoom"}, "numbers alone need no words"


def test_english_is_served_as_it_is_written(served: dict[str, Any]) -> None:
    assert served["en"]["varsr"] == {"page": english()}


def test_strip_and_slider_speak_the_language(foreign: ComfyPage, uploaded: str) -> None:
    page = foreign
    page.build(graph(uploaded, seed=1101))
    assert page.run()[-1][0] == "execution_success"
    page.look_at(UPSCALE)
    page.page.get_by_role("group", name="復元前後の比較").wait_for()
    assert page.page.locator(".varsr-line").first.inner_text().startswith("各スケール")
    page.page.locator(".varsr-slider").get_by_role("button", name="原寸で見る").click()
    keys = page.page.locator(".varsr-viewer .varsr-keys").inner_text()
    assert keys.startswith("ドラッグ")
    page.shoot(f"{page.mode}_japanese")
    page.press("Escape")


def test_stages_are_told_in_the_language(foreign: ComfyPage) -> None:
    page = foreign
    page.build({"sample": {"class_type": SAMPLE, "inputs": {}}})
    told = {"sides": [1, 2, 3], "all_tiles": 1, "tiles": [0, 0, 0], "done": 1, "total": 9}
    told["node"] = page.on_node(SAMPLE, "return node.id")
    for stage, words in [
        ({"stage": "scale", "scale": 2, "scales": 3}, "スケール 2/3"),
        ({"stage": "decoding"}, "デコード中"),
        ({"stage": "pass 2 of 5"}, "Durchgang 2 von 5"),
        ({"stage": "something new"}, "something new"),
    ]:
        event = "told => app.api.dispatchEvent(new CustomEvent('varsr.progress', {detail: told}))"
        page.page.evaluate(event, told | stage)
        assert page.page.locator(".varsr-line").first.inner_text() == words


def test_note_of_a_template_is_shown_in_the_language(foreign: ComfyPage) -> None:
    page = foreign
    page.build({"sample": {"class_type": SAMPLE, "inputs": {}}})
    saved = page.saved()
    note = {"type": "MarkdownNote", "pos": [0, 0], "size": [300, 200], "flags": {}, "order": 0}
    note |= {"mode": 0, "inputs": [], "outputs": [], "properties": {}}
    texts = [NOTE + "\n", "A note of the user's.", 7]
    saved["nodes"] += [{**note, "id": 50 + i, "widgets_values": [t]} for i, t in enumerate(texts)]
    page.load(saved)
    shown = page.page.evaluate(
        "() => app.graph._nodes.filter(n => n.type === 'MarkdownNote').map(n => n.widgets[0].value)"
    )
    assert shown[:2] == [TABLES["notes"][NOTE], texts[1]]
    page.shoot(f"{page.mode}_note")


def test_error_of_a_node_is_shown_in_the_language(foreign: ComfyPage, uploaded: str) -> None:
    page = foreign
    wired = Graph()
    image = wired.picture(uploaded)
    wired.save(wired.upscale(wired.load(), image, mask=[image[0], 1], seed=1102))
    page.build(wired)
    kind, error = page.run()[-1]
    assert kind == "execution_error"
    translated = "mask: 64x64 statt 40x28. Maske malen oder Kabel ziehen."
    assert error["exception_message"] == translated
    assert "mask is what Load Image gives" in error["traceback"][-1], "reports keep the English"
    page.page.get_by_test_id("error-overlay-see-errors").dispatch_event("click")
    page.page.get_by_text("Maske malen").first.wait_for()
    page.shoot(f"{page.mode}_error")


def test_error_of_another_node_is_left_alone(foreign: ComfyPage) -> None:
    detail = {"exception_type": "ValueError", "exception_message": "pass 1 of 2", "traceback": []}
    ask = f"detail => {OURS('errors')}.then(e => {{ e.translateError(detail); return detail }})"
    changed = foreign.page.evaluate(ask, detail)
    assert changed == detail


def test_note_under_the_slider_is_shown_in_the_language(foreign: ComfyPage, uploaded: str) -> None:
    page = foreign
    masked = Graph()
    image = masked.picture(uploaded)
    mask = masked.add("mask", "SolidMask", value=0.0, width=40, height=28)
    masked.save(masked.upscale(masked.load(), image, mask=mask, seed=1103, scale=1.0))
    page.build(masked)
    assert page.run()[-1][0] == "execution_success"
    note = page.page.locator(".varsr-note").first.inner_text()
    assert note.startswith("Nichts ausgewählt (nothing was restored")


@pytest.mark.parametrize(
    "message",
    ["", "pass of", "no pass 1 of 2 more", "(.*) [a", "Nothing is selected", "x" * 20000],
)
def test_unknown_message_stays_as_it_is(foreign: ComfyPage, message: str) -> None:
    ask = f"message => {OURS('texts')}.then(t => t.translatedMessage(message))"
    assert foreign.page.evaluate(ask, message) == message


def test_language_changes_without_reloading(page: ComfyPage, uploaded: str) -> None:
    page.build({"sample": {"class_type": SAMPLE, "inputs": {}}})
    line = "() => document.querySelector('.varsr-line').textContent"
    try:
        page.page.evaluate(SET, "ko")
        page.until(line, "타일 한 변의 토큰 수. 클릭한 곳부터 이어 갑니다.")
    finally:
        page.page.evaluate(SET, "en")
    page.until(line, "Tokens per tile side. Click one to go on from there.")


def test_texts_stay_english_where_no_translations_can_be_had(page: ComfyPage) -> None:
    page.build({"sample": {"class_type": SAMPLE, "inputs": {}}})
    page.page.context.route("**/i18n", lambda route: route.abort())
    line = "() => document.querySelector('.varsr-line').textContent"
    first = page.page.evaluate(line)
    try:
        page.page.evaluate(SET, "ja")
        page.page.wait_for_timeout(1000)
        assert page.page.evaluate(line) == first
        assert first.startswith("Tokens per tile")
    finally:
        page.page.context.unroute("**/i18n")
        page.page.evaluate(SET, "en")
