"""The page of a running ComfyUI in a real browser, with what tests do there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, Request, Response, Route, sync_playwright

from helpers.comfyui.server import ComfyServer
from helpers.paths import ROOT

SCREENSHOTS = ROOT / "output" / "screenshots"
OWN_FILES = "/extensions/ComfyUI-VARSR/"
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SEEN = """() => {
    window.seen = [];
    for (const kind of ["varsr.progress", "executed", "execution_error", "execution_success"]) {
        app.api.addEventListener(kind, (event) => window.seen.push([kind, event.detail]));
    }
    app.api.addEventListener("b_preview_with_metadata", (event) => {
        window.seen.push(["preview", { node: event.detail.displayNodeId }]);
    });
}"""
ENDED = """() => window.seen.some(
    ([kind]) => kind === "execution_success" || kind === "execution_error")"""
SETTLED_MS = 600  # the page has drawn what it loaded, and our scripts have followed it
# Saved and loaded once, so that Undo comes back to just this: the page itself changes a graph that
# comes from the API, whose nodes lack widgets_values and have no place yet.
BUILD = """async (graph) => {
    document.querySelectorAll("dialog[open]").forEach((one) => one.close()); // of a failed test
    app.canvas.setGraph(app.rootGraph ?? app.graph); // out of any subgraph
    await app.loadApiJson(graph, "test");
    const widgets = app.graph._nodes.flatMap((node) => node.widgets ?? []);
    widgets.filter((w) => w.name === "control_after_generate").forEach((w) => (w.value = "fixed"));
    const saved = app.graph.serialize();
    saved.nodes.forEach((node, place) => {
        node.widgets_values ??= [];
        node.pos = [400 * place, 0];
    });
    await app.loadGraphData({ ...saved, id: crypto.randomUUID() });
}"""
# Keys are looked at in the frame after them, and Undo loads a whole graph.
FOLLOWED = """async () => {
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    const open = () => app.extensionManager.workflow.activeWorkflow;
    while (open()?.changeTracker?._restoringState) await new Promise(requestAnimationFrame);
}"""
GROWN = """() => app.graph._nodes.every(
    node => node.type !== "SaveImage" || (node.imgs?.length && node.size[1] > 200))"""
TAKE_IN = """() => {
    const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;
    (tracker.captureCanvasState ?? tracker.checkState).call(tracker);
}"""
TABS = "() => app.extensionManager.workflow.openWorkflows.map(one => one.path)"
LOOK_AT = """kind => {
    const node = app.graph._nodes.find(n => n.type === kind);
    const ds = app.canvas.ds;
    ds.scale = Math.min(1, 700 / (node.size[1] + 40));
    ds.offset[0] = 400 / ds.scale - node.pos[0];
    ds.offset[1] = 170 / ds.scale - node.pos[1];
    app.canvas.setDirty(true, true);
}"""

# Ratio of contrast (WCAG 2) of every text below a selector, on what it is drawn on: all colours of
# a gradient, or the nearest plain ground. Grounds that let something through are not decided.
CONTRASTS = """selector => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => {
        const [r, g, b] = parts(colour).map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const grounds = (element) => {
        for (; element; element = element.parentElement) {
            const { backgroundColor, backgroundImage, opacity } = getComputedStyle(element);
            if (opacity !== "1") throw new Error(`${element.className} lets something through`);
            const found = backgroundImage.match(/rgba?\\([^)]*\\)/g) ?? [backgroundColor];
            const opacities = found.map((colour) => parts(colour)[3] ?? 1);
            if (opacities.every((one) => one === 1)) return found;
            if (opacities.some((one) => one > 0)) throw new Error(`${element.className}: ${found}`);
        }
    };
    const ratios = {};
    const seen = (e) => e.checkVisibility() && [...e.childNodes].some(
        (child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
    const all = [...document.querySelectorAll(`${selector}, ${selector} *`)].filter(seen);
    all.forEach((element, place) => {
        const { color } = getComputedStyle(element);
        for (const ground of grounds(element)) {
            const [dark, light] = [luminance(color), luminance(ground)].sort((a, b) => a - b);
            ratios[`${place} ${element.className} ${element.textContent} on ${ground}`] =
                (light + 0.05) / (dark + 0.05);
        }
    });
    return ratios;
}"""


class ComfyPage:
    """An open page. Every error in it is kept, and every request for our files that failed."""

    def __init__(self, page: Page, server: ComfyServer) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        self.failed: list[str] = []
        page.on("pageerror", self._note_error)
        page.on("response", self._note_response)
        page.on("requestfailed", self._note_failure)

    def open(self, *, vue: bool) -> None:
        self.page.goto(self.server.url)
        self.page.wait_for_function(
            "() => window.app?.graph && window.LiteGraph?.registered_node_types?.VARSR_Upscale"
        )
        self.page.evaluate(
            "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue
        )
        self.page.evaluate(SEEN)

    def load(self, workflow: Mapping[str, Any]) -> None:
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_timeout(300)

    def build(self, graph: Mapping[str, Any]) -> None:
        """Loads a graph in the API's format; its nodes get numbers, as those of the page have."""
        numbers = {name: str(place) for place, name in enumerate(graph, 1)}
        numbered = {numbers[name]: _numbered(node, numbers) for name, node in graph.items()}
        self.page.evaluate(BUILD, numbered)
        self.page.wait_for_timeout(SETTLED_MS)

    def look_at(self, kind: str) -> None:
        """Brings the first node of a kind into view, with nothing of the page over it."""
        self.page.evaluate(LOOK_AT, kind)
        self.page.wait_for_timeout(SETTLED_MS)

    def press(self, keys: str) -> None:
        self.page.keyboard.press(keys)
        self.page.evaluate(FOLLOWED)
        self.page.wait_for_timeout(SETTLED_MS)

    def until(self, script: str, expected: object, timeout: float = 10) -> None:
        """Waits for what a script gives: a busy machine draws late."""
        deadline = time.monotonic() + timeout
        while (found := self.page.evaluate(script)) != expected and time.monotonic() < deadline:
            self.page.wait_for_timeout(100)
        assert found == expected

    def take_in(self) -> None:
        """Waits for the pictures on Save Image, which grows for them, and makes that a step of its
        own. Undo would take it back with the step after it; the node grows again, and the page
        holds that for a change, after which there is no Redo."""
        self.until(GROWN, True)
        self.page.evaluate(TAKE_IN)

    def tab(self) -> str:
        """The workflow that is open now."""
        return self.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.path")

    def turn_to(self, tab: str) -> None:
        """Goes through the tabs until this one is open."""
        command = "() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')"
        for _ in range(len(self.page.evaluate(TABS))):
            if self.tab() == tab:
                return
            self.page.evaluate(command)
            self.page.wait_for_timeout(2 * SETTLED_MS)
        assert self.tab() == tab

    def saved(self) -> dict[str, Any]:
        return self.page.evaluate("() => app.graph.serialize()")

    def prompt(self) -> dict[str, dict[str, Any]]:
        """The graph as it would be queued; titles and the like left out."""
        graph = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        wanted = ("class_type", "inputs")
        return {number: {key: node[key] for key in wanted} for number, node in graph.items()}

    def run(self, timeout: float = 120) -> list[tuple[str, dict[str, Any]]]:
        """Presses Run and waits; returns what the page was told, in order."""
        self.page.evaluate("() => { window.seen.length = 0; return app.queuePrompt(0) }")
        deadline = time.monotonic() + timeout
        while not self.page.evaluate(ENDED) and time.monotonic() < deadline:
            self.page.wait_for_timeout(200)
        ended = self.page.evaluate(ENDED)
        self.page.wait_for_timeout(500)
        told = self.page.evaluate("() => window.seen")
        if not ended:
            raise TimeoutError(f"nothing ended within {timeout:.0f} s; the page saw {told}")
        return [(kind, detail) for kind, detail in told]

    def on_node(self, kind: str, code: str, argument: object = None) -> Any:
        """Runs `code`, with `node` the graph's first node of a kind and `argument`."""
        script = (
            "([kind, argument]) => { const node = app.graph._nodes.find(n => n.type === kind); "
            f"return (() => {{ {code} }})() }}"
        )
        return self.page.evaluate(script, [kind, argument])

    def contrasts(self, selector: str) -> dict[str, float]:
        """Of every text that is seen below a selector, with what it stands on."""
        return self.page.evaluate(CONTRASTS, selector)

    def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def _note_error(self, error: Exception) -> None:
        # What the page asks of other servers is cut off here; it then says so.
        if "Failed to fetch" not in str(error):
            self.errors.append(str(error))

    def _note_response(self, response: Response) -> None:
        if response.status >= 400 and self._is_ours(response.url):
            self.failed.append(f"{response.status} {response.url}")

    @staticmethod
    def _is_ours(address: str) -> bool:
        """Whether a file of the pack; help is asked for in the page's language first."""
        return OWN_FILES in address and not address.endswith("/en.md")

    def _note_failure(self, request: Request) -> None:
        if self._is_ours(request.url):
            self.failed.append(f"{request.failure} {request.url}")


def _numbered(node: Mapping[str, Any], numbers: Mapping[str, str]) -> dict[str, Any]:
    inputs = {
        name: [numbers[value[0]], value[1]] if isinstance(value, list) else value
        for name, value in node["inputs"].items()
    }
    return {"class_type": node["class_type"], "inputs": inputs}


@contextmanager
def launched(executable: str) -> Iterator[Browser]:
    """One browser; Playwright allows one at a time in a thread."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=executable, args=list(QUIET))


@contextmanager
def opened(
    browser: Browser,
    server: ComfyServer,
    *,
    vue: bool,
    without: str | None = None,
    language: str = "en",
) -> Iterator[ComfyPage]:
    """A page that reaches nothing but its own server.

    vue:     Nodes 2.0 in place of the classic canvas
    without: part of addresses that are not answered
    language: of the browser, which the page takes over
    """

    def route(route: Route) -> None:
        address = route.request.url
        local = address.startswith((server.url, "data:", "blob:"))
        if local and not (without and without in address):
            route.continue_()
        else:
            route.abort()

    with browser.new_context(viewport={"width": 1600, "height": 1000}, locale=language) as context:
        context.route("**/*", route)
        page = ComfyPage(context.new_page(), server)
        page.open(vue=vue)
        yield page
