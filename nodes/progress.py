"""What a node shows while it works: its bar, a preview of the picture so far, the scales done."""

from __future__ import annotations

import time

import comfy.model_management as mm
import comfy.utils
from comfy.cli_args import LatentPreviewMethod, args
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer

from ..varsr_core.runtime.progress import DrawFn, Progress, ProgressFn, Stage

BAR = 1000  # steps of the bar, however much work there is
# Between two previews: short at first, so that a quick run shows something, then longer, because
# ComfyUI encodes each on a thread of its own.
PREVIEW_PAUSE_S = (0.03, 0.25)
PAUSE_GROWTH = 0.1  # of the time gone by
PREVIEW_FRACTION = 0.02  # of the time that goes by, at most, is spent on previews
EVENT = "varsr.progress"  # to web/js, which may be missing
EVENT_PAUSE_S = 0.1  # between two events, and between two that tell of another stage


def previews_wanted() -> bool:
    """ComfyUI's setting, which the page may change with every run."""
    return args.preview_method != LatentPreviewMethod.NoPreviews


def honouring_cancel(watch: ProgressFn) -> ProgressFn:
    """`watch`, and the cancel button."""

    def told(progress: Progress) -> None:
        watch(progress)
        mm.throw_exception_if_processing_interrupted()

    return told


class NodeProgress:
    """A ProgressFn that moves the node's bar and honours the cancel button.

    sides: of the model's token maps, for the strip that shows which of them are done
    """

    def __init__(self, sides: tuple[int, ...]) -> None:
        self.bar = comfy.utils.ProgressBar(BAR)
        self.context = get_executing_context()
        self.next_preview = self.next_event = self.next_change = 0.0
        self.began = time.monotonic()
        self.sides, self.shown = sides, -1
        self.stage: Stage | None = None
        self.tiles = [0] * len(sides)  # that have a scale

    def __call__(self, progress: Progress) -> None:
        mm.throw_exception_if_processing_interrupted()
        done = BAR * progress.done // progress.total
        preview = self._preview(progress.draw, done == BAR)
        if preview is not None or done > self.shown:
            self.bar.update_absolute(done, BAR, preview)
            self.shown = done
        if progress.step is not None and progress.step < len(self.tiles):
            self.tiles[progress.step] += progress.stepped
        self._tell(progress, done)

    def _preview(self, draw: DrawFn | None, last: bool) -> tuple[str, Image.Image, None] | None:
        """None where none is due; the last one always is, so that it is what the node has made."""
        began = time.monotonic()
        if draw is None or (began < self.next_preview and not last):
            return None
        pixels = draw().mul(255).round().byte().movedim(0, -1).numpy()
        now = time.monotonic()
        shortest, longest = PREVIEW_PAUSE_S
        pause = min(max(shortest, (now - self.began) * PAUSE_GROWTH), longest)
        self.next_preview = now + max(pause, (now - began) / PREVIEW_FRACTION)
        # The last one as it is: JPEG halves the resolution of colours, and noise in them is lost.
        return "PNG" if last else "JPEG", Image.fromarray(pixels), None  # of its own size

    def _tell(self, progress: Progress, done: int) -> None:
        """The strip of scales, and what is being done; the last word is always said."""
        now, stage = time.monotonic(), progress.stage
        # What began is told at once, since it may take long: the last event may just have been.
        changed = stage != self.stage and now >= self.next_change
        if self.context is None or not (changed or done == BAR or now >= self.next_event):
            return
        if changed:
            self.next_change = now + EVENT_PAUSE_S
        self.next_event, self.stage = now + EVENT_PAUSE_S, stage
        server = PromptServer.instance
        told = {
            "prompt_id": self.context.prompt_id,
            "node": self.context.node_id,
            "stage": stage.key,
            "scale": stage.scale,
            "scales": stage.scales,
            "done": done,
            "total": BAR,
            "sides": self.sides,
            "all_tiles": progress.tiles,
            "tiles": list(self.tiles),  # sent later, from another thread
        }
        server.send_sync(EVENT, told, server.client_id)
