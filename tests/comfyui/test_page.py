"""The pack in ComfyUI's page, in a real browser: previews, strip, slider, help."""

from __future__ import annotations

import io
from itertools import count

import pytest
from PIL import Image
from playwright.sync_api import Browser

from helpers.comfyui.page import ComfyPage, opened
from helpers.comfyui.server import ComfyServer
from helpers.comfyui.workflows import SAVED, as_in
from helpers.paths import KITTEN

SEEDS = count(7700)
SMALL = "node.widgets.find(w => w.name === 'scale').value = 1"  # quickly done
FEW_TILES = """() => app.graph._nodes.flatMap((node) => node.widgets ?? [])
    .filter((widget) => widget.name === "scale").forEach((widget) => (widget.value = 1.5))"""
SHARES = "cell => getComputedStyle(cell).getPropertyValue('--varsr-share')"


def workflow(name: str) -> dict:
    return SAVED.editor(name)


def api_graph(name: str) -> dict:
    return SAVED.api(name)


@pytest.mark.parametrize(
    ("name", "node"), [("varsr_upscale", "VARSR_Upscale"), ("varsr_stages", "VARSR_Sample")]
)
def test_template_runs_with_previews_and_a_strip_that_fills(
    page: ComfyPage, name: str, node: str
) -> None:
    page.load(workflow(name))
    assert as_in(api_graph(name), page.prompt()) == api_graph(name)
    page.page.evaluate(FEW_TILES)
    told = page.run()
    assert told[-1][0] == "execution_success", told[-1]
    number = str(page.on_node(node, "return node.id"))
    previews = [detail for kind, detail in told if kind == "preview" and detail["node"] == number]
    sides = page.on_node(node, "return node.varsrStrip.sides")
    assert len(previews) >= len(sides) - 3  # from the fourth scale on, one each at least
    cells = page.page.locator(".varsr-strip").first.locator(".varsr-scale")
    assert cells.all_inner_texts() == [str(side) for side in sides]
    assert {cell.evaluate(SHARES) for cell in cells.all()} == {"100%"}
    page.shoot(f"{page.mode}_{name}_done")


def test_slider_shows_before_and_after(page: ComfyPage) -> None:
    page.load(workflow("varsr_upscale"))
    page.on_node("VARSR_Upscale", SMALL)
    page.run()
    slider = page.page.locator(".varsr-slider").first
    assert slider.is_visible()
    pictures = slider.locator("img").all()
    assert [p.evaluate("p => p.decode().then(() => p.naturalWidth)") for p in pictures] == [128] * 2
    handle = slider.locator("input")
    handle.evaluate("h => { h.value = 20; h.dispatchEvent(new Event('input')) }")
    stage = slider.locator(".varsr-stage")
    assert stage.evaluate("s => s.style.getPropertyValue('--varsr-border')") == "20%"


def test_note_about_an_empty_mask_comes_and_goes(page: ComfyPage, server: ComfyServer) -> None:
    opaque = Image.open(KITTEN).convert("RGBA").resize((48, 40))
    server.upload(opaque, "opaque_kitten.png")
    page.load(workflow("varsr_upscale"))
    page.on_node("VARSR_Upscale", SMALL)
    choose = "node.widgets.find(w => w.name === 'image').value = argument"
    page.on_node("LoadImage", choose, "opaque_kitten.png")
    wire = "app.graph._nodes.find(n => n.type === 'LoadImage').connect(1, node, argument)"
    page.on_node("VARSR_Upscale", wire, "mask")
    note = page.page.locator(".varsr-note").first
    page.run()
    assert "nothing was restored" in note.inner_text()
    assert note.is_visible()
    decoded = "pictures => Promise.all(pictures.map(picture => picture.decode()))"
    page.page.locator(".varsr-picture").evaluate_all(decoded)
    page.shoot(f"{page.mode}_nothing_selected")
    page.load(page.saved())
    note.wait_for()
    unplug = "node.disconnectInput(node.inputs.findIndex(i => i.name === 'mask'))"
    page.on_node("VARSR_Upscale", unplug)
    page.run()
    assert not note.is_visible()


def test_placeholder_as_a_mask_is_an_error_with_advice(page: ComfyPage) -> None:
    page.load(workflow("varsr_upscale"))
    wire = "app.graph._nodes.find(n => n.type === 'LoadImage').connect(1, node, 'mask')"
    page.on_node("VARSR_Upscale", wire)
    kind, error = page.run()[-1]
    assert kind == "execution_error"
    assert error["exception_type"] == "varsr_core.errors.InputError"
    page.page.locator('[data-testid="error-overlay"]').wait_for()
    page.page.get_by_role("button", name="View details").click()
    page.page.get_by_text("disconnect it").first.wait_for()
    page.shoot(f"{page.mode}_placeholder")


def test_slider_hides_when_its_pictures_are_gone(page: ComfyPage) -> None:
    saved = workflow("varsr_upscale")
    node = next(node for node in saved["nodes"] if node["type"] == "VARSR_Upscale")
    gone = {"filename": "gone.webp", "subfolder": "varsr", "type": "temp"}
    node["properties"]["varsr_comparison"] = [gone, gone]
    page.load(saved)
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('.varsr-slider')].every(s => s.hidden)"
    )


def test_click_on_a_scale_says_where_to_go_on_and_survives_saving(page: ComfyPage) -> None:
    page.load(workflow("varsr_stages"))
    value = "return node.widgets.find(w => w.name === 'first_scale').value"
    page.on_node("VARSR_Sample", "node.varsrStrip.cells[3].click()")
    assert page.on_node("VARSR_Sample", value) == 3
    assert (
        page.prompt()[str(page.on_node("VARSR_Sample", "return node.id"))]["inputs"]["first_scale"]
        == 3
    )
    kept = "return node.varsrStrip.cells.map(b => b.className)"
    marked = page.on_node("VARSR_Sample", kept)
    assert [("varsr-kept" in name, "varsr-first" in name) for name in marked][:5] == [
        *[(True, False)] * 3,
        (False, True),
        (False, False),
    ]
    page.load(page.saved())
    assert page.on_node("VARSR_Sample", kept) == marked
    copied = page.page.evaluate(
        """() => {
            const node = app.graph._nodes.find(n => n.type === "VARSR_Sample");
            app.canvas.selectNode(node);
            app.canvas.copyToClipboard();
            app.canvas.pasteFromClipboard();
            const found = app.graph._nodes.filter(n => n.type === "VARSR_Sample");
            return found.map(n => n.widgets.find(w => w.name === "first_scale").value);
        }"""
    )
    assert copied == [3, 3]
    again = "node.varsrStrip.cells[3].click(); " + value
    assert page.on_node("VARSR_Sample", again) == 0


def test_strip_fills_inside_a_subgraph(page: ComfyPage) -> None:
    page.load(workflow("varsr_upscale"))
    page.page.evaluate(
        """seed => {
            const node = app.graph._nodes.find(n => n.type === "VARSR_Upscale");
            node.widgets.find(w => w.name === "scale").value = 1;
            node.widgets.find(w => w.name === "seed").value = seed;  // not in the cache yet
            app.graph.convertToSubgraph(new Set([node]));
        }""",
        next(SEEDS),
    )
    told = page.run()
    assert told[-1][0] == "execution_success", told[-1]
    shares = page.page.evaluate(
        """() => {
            const outer = app.graph._nodes.find(n => n.subgraph);
            const inner = outer.subgraph._nodes.find(n => n.type === "VARSR_Upscale");
            return [...inner.varsrStrip.shares];
        }"""
    )
    assert shares
    assert set(shares) == {1}


def test_help_opens(page: ComfyPage) -> None:
    page.load(workflow("varsr_upscale"))
    page.page.evaluate(
        "() => app.canvas.selectNode(app.graph._nodes.find(n => n.type === 'VARSR_Upscale'))"
    )
    page.page.locator('[data-testid="info-button"]').click()
    page.page.get_by_role("heading", name="VARSR Upscale").first.wait_for()
    example = page.page.locator("img[src*='images/VARSR_Upscale.webp']").first
    assert example.evaluate("p => p.decode().then(() => p.naturalWidth)") > 500
    example.scroll_into_view_if_needed()
    page.shoot(f"{page.mode}_help")


def test_saved_picture_dropped_on_the_page_restores_the_graph(
    page: ComfyPage, server: ComfyServer
) -> None:
    page.load(workflow("varsr_upscale"))
    page.on_node("VARSR_Upscale", SMALL)
    page.on_node("VARSR_Upscale", "node.widgets.find(w => w.name === 'guidance').value = 2.5")
    wanted = page.prompt()
    told = page.run()
    image = next(d for k, d in told if k == "executed" and "images" in d["output"])
    content = io.BytesIO()
    picture = server.view(image["output"]["images"][0])
    picture.save(content, "PNG", pnginfo=_texts(picture))
    page.load(workflow("varsr_stages"))
    page.page.evaluate(
        "bytes => app.handleFile(new File([new Uint8Array(bytes)], 'x.png', {type: 'image/png'}))",
        list(content.getvalue()),
    )
    page.page.wait_for_timeout(500)
    assert page.prompt() == wanted


def _texts(picture: Image.Image):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in picture.info.items():
        if isinstance(value, str):
            info.add_text(key, value)
    return info


def test_workflows_run_without_our_scripts(browser: Browser, server: ComfyServer) -> None:
    server.upload(Image.open(KITTEN), KITTEN.name)
    with opened(browser, server, vue=False, without="/extensions/ComfyUI-VARSR/js/") as page:
        page.load(workflow("varsr_upscale"))
        known = api_graph("varsr_upscale")
        assert as_in(known, page.prompt()) == known
        page.on_node("VARSR_Upscale", SMALL)
        assert page.run()[-1][0] == "execution_success"
        assert page.page.locator(".varsr-strip").count() == 0
