"""Graphs of this pack's nodes, run in a ComfyUI for what they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tools.generate.template import NANO

if TYPE_CHECKING:
    from PIL.Image import Image

    from helpers.comfyui.run import Run
    from helpers.comfyui.server import ComfyServer

Link = list[Any]  # [name of a node, number of its output], as ComfyUI has it
PATIENCE = 1200  # seconds for one graph; machines may be busy


@dataclass
class Flow:
    """One graph, made node by node; what is shown comes back from `run`."""

    server: ComfyServer
    known: dict[str, dict]
    nodes: dict[str, dict] = field(default_factory=dict)

    def add(self, kind: str, **inputs: Any) -> Link:
        """A node with its defaults, but for `inputs`; its first output."""
        declared = self.known[kind]["input"]["required"]
        defaults = {name: d[1]["default"] for name, d in declared.items() if "default" in d[-1]}
        name = str(len(self.nodes) + 1)
        self.nodes[name] = {"class_type": kind, "inputs": {**defaults, **inputs}}
        return [name, 0]

    def model(self) -> Link:
        return self.add("VARSR_LoadModel", checkpoint=NANO, dtype="auto")

    def picture(self, picture: Image, name: str) -> Link:
        self.server.upload(picture, name)
        return self.add("LoadImage", image=name)

    def film(self, frames: Sequence[Image], name: str) -> Link:
        """A film of pictures of one size, as Load Video gives it."""
        import av

        with av.open(str(self.server.base / "input" / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=4, options={"qscale": "2"})
            stream.width, stream.height = frames[0].size
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_image(frame)))
            container.mux(stream.encode(None))
        return self.add("LoadVideo", file=name)

    def sampled(self, model: Link, image: Link, scale: float = 4.0, **settings: Any) -> Link:
        prefix = self.add("VARSR_EncodePrefix", model=model, image=image, scale=scale)
        return self.add("VARSR_Sample", model=model, prefix=prefix, **settings)

    def decoded(self, model: Link, tokens: Link) -> Link:
        return self.add("VARSR_Decode", model=model, tokens=tokens)

    def run(self, **shown: Link) -> dict[str, list[Image]]:
        """The pictures of each output that is to be shown."""
        for name, link in shown.items():
            inputs = {"images": link, "filename_prefix": "shown"}
            self.nodes[_saver(name)] = {"class_type": "SaveImage", "inputs": inputs}
        done = self.done()
        return {
            name: [self.server.view(one) for one in done.images(_saver(name))] for name in shown
        }

    def one_each(self, **shown: Link) -> dict[str, Image]:
        """As `run`, where each output is one picture."""
        return {name: pictures[0] for name, pictures in self.run(**shown).items()}

    def done(self) -> Run:
        done = self.server.run(self.nodes, timeout=PATIENCE, preview_method="latent2rgb")
        if not done.succeeded:
            raise SystemExit(f"the run failed: {done.error}\n{self.server.log[-3000:]}")
        return done


def _saver(name: str) -> str:
    """Of what is shown under a name; other nodes are called by numbers."""
    return f"show {name}"
