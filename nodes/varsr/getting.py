"""Get VARSR Model: the released model, fetched and converted where it is missing."""

from __future__ import annotations

import time
from collections import deque

import comfy.model_management as mm
import comfy.utils
from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...varsr_core.download.release import ADDRESS, converted, released_model
from ...varsr_core.download.releases import K2N
from ...varsr_core.files.progress import FileProgress
from ...varsr_core.varsr.family import CONVERTED_FILE, FILES
from ...varsr_core.varsr.k2n.kind import read_k2n
from .. import host
from ..sockets import checked
from . import inputs
from .loading import FOLDER, opened
from .sockets import LoadedVARSR, VARSRModel

TEXT_PAUSE_S = 0.5
RATE_S = 20.0  # whose bytes tell how fast it goes

# Files that this process made: for ComfyUI's cache they are what was missing before, so that a
# second run finds the first one's model.
_made: set[str] = set()


def get(dtype: str, download: bool, keep_pickles: bool, k2n: bool = False) -> LoadedVARSR:
    """The model, made ready where there is none. Raises CheckpointError with the remedy.

    k2n: whether K2N is made ready beside it
    """
    folders, progress = host.model_folders(FOLDER), NodeBytes()
    was_missing = version_on_disk() == ""
    with released_model(
        folders, may_fetch=download, keep_pickles=keep_pickles, on_progress=progress
    ) as path:
        model = opened(path, dtype)
    if was_missing:
        _made.add(host.versions([path]))
    if k2n:
        with released_model(
            folders,
            may_fetch=download,
            keep_pickles=keep_pickles,
            on_progress=progress,
            release=K2N,
        ) as path:
            read_k2n(path)  # what is not as it was written is refused
    if progress.stage:
        progress.write(f"{path.name} is in {path.parent}")
    return model


def version_on_disk() -> str:
    """Changes when the file is replaced; empty where there is none or this process made it."""
    path = converted(host.model_folders(FOLDER))
    version = host.versions([path] if path else [])
    return "" if version in _made else version


class NodeBytes:
    """A FileProgressFn that moves the node's bar, tells below the node how far it is, and honours
    the cancel button.
    """

    def __init__(self) -> None:
        self.bar = comfy.utils.ProgressBar(1)
        self.context = get_executing_context()
        self.next_text, self.stage = 0.0, ""
        self.seen: deque[tuple[float, int]] = deque()  # time and bytes, of the last seconds

    def __call__(self, progress: FileProgress) -> None:
        mm.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        turns = progress.stage != self.stage or progress.done == progress.total
        if now >= self.next_text or turns:
            self.next_text = now + TEXT_PAUSE_S
            self.write(self._text(progress, now))
        self.bar.update_absolute(progress.done, progress.total or 1)

    def write(self, text: str) -> None:
        """Shows a text below the node."""
        if self.context is not None:
            server = PromptServer.instance
            server.send_progress_text(text, self.context.node_id, server.client_id)

    def _text(self, progress: FileProgress, now: float) -> str:
        if progress.stage != self.stage:
            self.stage = progress.stage
            self.seen.clear()
        if progress.total == 0:
            return progress.stage
        while len(self.seen) > 1 and self.seen[0][0] < now - RATE_S:
            self.seen.popleft()
        self.seen.append((now, progress.done))
        text = f"{progress.stage}: {progress.done / 1e9:.2f} of {progress.total / 1e9:.2f} GB"
        since, before = self.seen[0]
        if progress.done == before or now == since:  # a coarse clock
            return text
        rate = (progress.done - before) / (now - since)
        left = (progress.total - progress.done) / rate
        return f"{text}, {rate / 1e6:.0f} MB/s, {_duration(left)} left"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


class GetModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="VARSR_GetModel",
            display_name="Get VARSR Model",
            description="Loads the released VARSR model from models/varsr. Where it is missing and "
            f"download is on, it is fetched first: 15 GB from {ADDRESS}, converted to one file of "
            "1.7 GB.",
            search_aliases=["download", "released model", "pretrained", "huggingface",
                            "super resolution", "restore", "checkpoint"],
            inputs=[
                inputs.dtype(),
                io.Boolean.Input(
                    "download",
                    default=False,
                    tooltip=f"Whether {' and '.join(FILES)} (15 GB) may be fetched from "
                    f"{ADDRESS} where {CONVERTED_FILE} is missing. A run that was cancelled goes "
                    "on where it stopped. Off: nothing reaches for the network, and the run stops "
                    "with what to do.",
                ),
                host.advanced(
                    io.Boolean.Input(
                        "keep_pickles",
                        default=True,
                        tooltip=f"Off: {' and '.join(FILES)} are removed again if this node has "
                        f"fetched them, once {CONVERTED_FILE} has loaded; it is all that the nodes "
                        "need. Files that were there before always stay.",
                    )
                ),
                io.Boolean.Input(
                    "k2n",
                    optional=True,
                    default=False,
                    tooltip="Whether K2N is to be there too, which predicts the first scales: "
                    f"{' and '.join(K2N.files)} from {K2N.address}, converted to "
                    f"{K2N.converted_files[0]}; for Load K2N Model.",
                ),
            ],
            outputs=[
                VARSRModel.Output(display_name="model", tooltip="For every other VARSR node.")
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(
        cls, dtype: str, download: bool, keep_pickles: bool, k2n: bool = False
    ) -> str:
        version = f"{version_on_disk()} {dtype}"
        if not k2n:
            return version
        return f"{version} {converted(host.model_folders(FOLDER), K2N)}"

    @classmethod
    @checked
    def execute(
        cls, dtype: str, download: bool, keep_pickles: bool, k2n: bool = False
    ) -> io.NodeOutput:
        return io.NodeOutput(get(dtype, download, keep_pickles, k2n))
