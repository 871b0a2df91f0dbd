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
        while time.monotonic() < deadline:
            told = self.page.evaluate("() => window.seen")
            kinds = {kind for kind, _ in told}
            if kinds & {"execution_success", "execution_error"}:
                self.page.wait_for_timeout(500)
                return [(kind, detail) for kind, detail in told]
            self.page.wait_for_timeout(100)
        raise TimeoutError(f"nothing ended within {timeout:.0f} s; the page saw {told}")

    def on_node(self, kind: str, code: str, argument: object = None) -> Any:
        """Runs `code`, with `node` the graph's first node of a kind and `argument`."""
        script = (
            "([kind, argument]) => { const node = app.graph._nodes.find(n => n.type === kind); "
            f"return (() => {{ {code} }})() }}"
        )
        return self.page.evaluate(script, [kind, argument])

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


@contextmanager
def launched(executable: str) -> Iterator[Browser]:
    """One browser; Playwright allows one at a time in a thread."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=executable, args=list(QUIET))


@contextmanager
def opened(
    browser: Browser, server: ComfyServer, *, vue: bool, without: str | None = None
) -> Iterator[ComfyPage]:
    """A page that reaches nothing but its own server.

    vue:     Nodes 2.0 in place of the classic canvas
    without: part of addresses that are not answered
    """

    def route(route: Route) -> None:
        address = route.request.url
        local = address.startswith((server.url, "data:", "blob:"))
        if local and not (without and without in address):
            route.continue_()
        else:
            route.abort()

    with browser.new_context(viewport={"width": 1600, "height": 1000}) as context:
        context.route("**/*", route)
        page = ComfyPage(context.new_page(), server)
        page.open(vue=vue)
        yield page
