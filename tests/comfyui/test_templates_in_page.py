"""The shipped workflows and the blueprint in the page of a fresh ComfyUI, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from helpers.comfyui.page import ComfyPage, opened
from helpers.comfyui.server import ComfyServer
from helpers.comfyui.workflows import BLUEPRINTS, BUILT_IN, FILES, SHIPPED, as_in, by_kind

BLUEPRINT = BLUEPRINTS / "VARSR Upscale 4x.json"
FIRST = "1 Upscale a picture"
MISSING = """() => {
    const all = (graph) => graph._nodes.flatMap((n) => n.subgraph ? [n, ...all(n.subgraph)] : [n]);
    const known = (n) => n.subgraph || LiteGraph.registered_node_types[n.type];
    return all(app.graph).filter((n) => !known(n)).map((n) => n.type);
}"""
# So little of the picture that every template is quickly done; the box takes it on.
QUICK = """() => {
    const set = (node, name, value) => {
        const widget = node.widgets?.find((w) => w.name.endsWith(name));
        if (widget) widget.value = value;
    };
    for (const node of app.graph._nodes) {
        if (node.subgraph) ["width", "height"].forEach((name) => set(node, name, 40));
        if (node.type.startsWith("VARSR_Upscale")) set(node, "scale", 1);
    }
}"""
BOX = "() => app.graph._nodes.find((node) => node.subgraph)"
TITLE_OF_BOX = """() => {
    const node = app.graph._nodes.find((node) => node.subgraph);
    const { scale, offset } = app.canvas.ds;
    const { x, y } = app.canvas.canvas.getBoundingClientRect();
    const [left, top] = [node.pos[0] + 120, node.pos[1] - 15];
    return [x + (left + offset[0]) * scale, y + (top + offset[1]) * scale];
}"""
WIRE_UP = """() => {
    const [picture, save] = ["LoadImage", "SaveImage"].map(kind => LiteGraph.createNode(kind));
    [picture, save].forEach(node => app.graph.add(node));
    picture.pos = [-400, 0];
    save.pos = [400, 0];
    picture.connect(0, app.graph._nodes[0], 0);
    app.graph._nodes[0].connect(0, save, 0);
}"""


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes 2.0"])
def page(
    request: pytest.FixtureRequest, browser: Browser, fresh: ComfyServer
) -> Iterator[ComfyPage]:
    """Errors count at the end, whatever test they happened in."""
    with opened(browser, fresh, vue=request.param) as page:
        page.mode = f"{fresh.host.parent.name}_{'vue' if request.param else 'classic'}"
        yield page
        assert page.errors == []
        assert page.failed == []


def test_list_of_templates_shows_their_names_and_pictures(page: ComfyPage) -> None:
    page.page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.page.get_by_text("ComfyUI-VARSR").first.click()
    for name in SHIPPED.names:  # pictures are fetched as they come into view
        page.page.get_by_text(name, exact=True).first.scroll_into_view_if_needed()
        picture = page.page.get_by_alt_text(name, exact=True)
        picture.wait_for()
        assert picture.evaluate("p => p.decode().then(() => p.naturalWidth)") == 512
    page.page.get_by_text(FIRST, exact=True).first.scroll_into_view_if_needed()
    page.page.wait_for_timeout(500)
    page.shoot(f"{page.mode}_list_of_templates")
    page.page.get_by_text(FIRST, exact=True).first.click()
    page.page.wait_for_function("() => app.graph._nodes.some((n) => n.type === 'VARSR_Upscale')")
    page.until("() => app.extensionManager.workflow.activeWorkflow.filename", FIRST)


@pytest.mark.parametrize("name", SHIPPED.names)
def test_template_loads_whole_and_queues_its_api_graph(page: ComfyPage, name: str) -> None:
    page.load(SHIPPED.editor(name))
    assert page.page.evaluate(MISSING) == []
    assert as_in(SHIPPED.api(name), page.prompt()) == SHIPPED.api(name)
    page.page.wait_for_timeout(700)
    page.shoot(f"{page.mode}_{name}")
    if name in BUILT_IN:
        assert not page.page.get_by_role("button", name="View details").is_visible()


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_template_runs_from_the_page(page: ComfyPage, name: str) -> None:
    page.load(SHIPPED.editor(name))
    page.page.evaluate(QUICK)
    told = page.run(timeout=600)
    assert told[-1][0] == "execution_success", told[-1]
    page.shoot(f"{page.mode}_{name}_done")


@pytest.mark.parametrize("name", FILES)
def test_template_that_lacks_a_file_says_what_to_do(page: ComfyPage, name: str) -> None:
    page.load(SHIPPED.editor(name))
    if page.server.host.match("*/0.3.75/*") and name.startswith("9"):
        ((_, _, file),) = FILES[name]  # whose loader of upscale models checks when it runs
        kind, error = page.run()[-1]
        assert kind == "execution_error"
        assert file in error["exception_message"]
        return
    page.page.evaluate("() => app.queuePrompt(0)")
    page.page.wait_for_function("() => app.lastNodeErrors")
    errors = page.page.evaluate("() => app.lastNodeErrors")
    said = [error["details"] for node in errors.values() for error in node["errors"]]
    assert len(said) == len(FILES[name])
    page.page.get_by_role("button", name="View details").click()
    for kind, _, file in FILES[name]:
        page.page.get_by_text(file, exact=True).first.wait_for()
        if kind.startswith(("VARSR", "NSARM")):
            (sentence,) = (one for one in said if f"'{file}'" in one)
            assert "there is no file" in sentence
    page.shoot(f"{page.mode}_{name}_lacks")


def test_corner_is_bypassed_by_its_key(page: ComfyPage) -> None:
    page.load(SHIPPED.editor(FIRST))
    page.page.wait_for_timeout(1000)
    page.page.mouse.click(*page.page.evaluate(TITLE_OF_BOX))
    page.page.keyboard.press("Control+b")
    page.page.wait_for_function(f"() => ({BOX})().mode === 4")
    graph = page.prompt()
    assert sorted(node["class_type"] for node in graph.values()) == [
        "LoadImage",
        "SaveImage",
        "VARSR_LoadModel",
        "VARSR_Upscale",
    ]
    assert by_kind(graph)["VARSR_Upscale"]["image"] == ["LoadImage", 0]


@pytest.mark.parametrize("typed", ["upscale", BLUEPRINT.stem])
def test_blueprint_is_found(page: ComfyPage, typed: str) -> None:
    page.page.evaluate("() => app.graph.clear()")
    page.page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.page.locator("input:focus").wait_for()
    page.page.keyboard.type(typed)
    page.page.get_by_text(BLUEPRINT.stem, exact=True).first.wait_for()
    page.shoot(f"{page.mode}_search_{typed}")
    page.page.keyboard.press("Escape")


def test_blueprint_comes_from_the_library_and_queues_what_the_nodes_would(page: ComfyPage) -> None:
    entries = page.page.evaluate("async () => (await app.api.fetchApi('/global_subgraphs')).json()")
    number = next(n for n, entry in entries.items() if entry["name"] == BLUEPRINT.stem)
    assert entries[number]["info"]["node_pack"] == "custom_nodes.ComfyUI-VARSR"
    page.page.evaluate("() => app.graph.clear()")
    page.page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.page.locator("input:focus").wait_for()
    page.page.keyboard.type(BLUEPRINT.stem)
    page.page.wait_for_timeout(1000)
    page.page.keyboard.press("Enter")
    page.page.wait_for_timeout(500)
    page.page.mouse.click(800, 500)  # Nodes 2.0 lets one choose the place
    page.page.wait_for_function("() => app.graph._nodes.length === 1")
    page.page.evaluate(WIRE_UP)
    graph = by_kind(page.prompt())
    plain = by_kind(SHIPPED.api(FIRST))
    plain["VARSR_Upscale"]["image"] = ["LoadImage", 0]
    del plain["ImageCrop"]
    assert {kind: graph[kind] for kind in plain} == plain
    assert set(graph) == set(plain)
    shown = page.page.evaluate("() => app.graph._nodes[0].widgets.map(w => w.name)")
    assert shown == ["checkpoint", "scale", "seed", "guidance"]
    page.page.evaluate(
        "() => { app.graph._nodes[0].widgets.find(w => w.name === 'scale').value = 2 }"
    )
    assert by_kind(page.prompt())["VARSR_Upscale"]["scale"] == 2
    page.shoot(f"{page.mode}_blueprint")


def test_blueprint_has_its_name_and_its_nodes() -> None:
    (subgraph,) = json.loads(BLUEPRINT.read_text())["definitions"]["subgraphs"]
    assert subgraph["name"] == BLUEPRINT.stem
    assert [node["type"] for node in subgraph["nodes"]] == ["VARSR_LoadModel", "VARSR_Upscale"]
