"""What a node shows while it works: its bar, a preview of the picture so far, the scales done."""

from __future__ import annotations

import time

import comfy.model_management as mm
import comfy.utils
from comfy.cli_args import LatentPreviewMethod, args
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import Tensor

from ..varsr_core.runtime.progress import Progress

PREVIEW_SIDE = 512
# Between two previews: short at first, so that a quick run shows something, then longer, because
# ComfyUI encodes each on a thread of its own.
PREVIEW_PAUSE_S = (0.03, 0.25)
PAUSE_GROWTH = 0.1  # of the time gone by
PREVIEW_FRACTION = 0.02  # of the time that goes by, at most, is spent on previews
EVENT = "varsr.progress"  # to web/js, which may be missing
EVENT_PAUSE_S = 0.1


def previews_wanted() -> bool:
    """ComfyUI's setting, which the page may change with every run."""
    return args.preview_method != LatentPreviewMethod.NoPreviews


class NodeProgress:
    """A ProgressFn that moves the node's bar and honours the cancel button.

    sides: of the model's token maps, for the strip that shows which of them are done
    """

    def __init__(self, sides: tuple[int, ...]) -> None:
        self.bar = comfy.utils.ProgressBar(1)
        self.context = get_executing_context()
        self.next_preview = self.next_event = 0.0
        self.began = time.monotonic()
        self.sides, self.done = sides, 0
        self.tiles = [0] * len(sides)  # that have a scale

    def __call__(self, progress: Progress) -> None:
        preview = None
        if progress.picture is not None and time.monotonic() >= self.next_preview:
            preview = self._preview(progress.picture)
        self.bar.update_absolute(progress.done, progress.total, preview)
        if progress.step is not None and progress.step < len(self.tiles):
            self.tiles[progress.step] += progress.done - self.done
        self.done = progress.done
        self._tell(progress)
        mm.throw_exception_if_processing_interrupted()

    def _preview(self, picture: Tensor) -> tuple[str, Image.Image, int]:
        began = time.monotonic()
        pixels = picture.mul(255).round().byte().movedim(0, -1).cpu().numpy()
        preview = ("JPEG", Image.fromarray(pixels), PREVIEW_SIDE)
        now = time.monotonic()
        shortest, longest = PREVIEW_PAUSE_S
        pause = min(max(shortest, (now - self.began) * PAUSE_GROWTH), longest)
        self.next_preview = now + max(pause, (now - began) / PREVIEW_FRACTION)
        return preview

    def _tell(self, progress: Progress) -> None:
        """The strip of scales; the last word is always said."""
        last = progress.done == progress.total
        if self.context is None or (not last and time.monotonic() < self.next_event):
            return
        self.next_event = time.monotonic() + EVENT_PAUSE_S
        server = PromptServer.instance
        told = {
            "prompt_id": self.context.prompt_id,
            "node": self.context.node_id,
            "stage": progress.stage,
            "done": progress.done,
            "total": progress.total,
            "sides": self.sides,
            "all_tiles": progress.tiles,
            "tiles": list(self.tiles),  # sent later, from another thread
        }
        server.send_sync(EVENT, told, server.client_id)
