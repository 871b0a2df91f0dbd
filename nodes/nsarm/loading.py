"""Load NSARM Model: finds, reads and remembers NSARM files, and brings their parts in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import comfy.model_patcher
from comfy_api.latest import io
from torch import Tensor

from ...varsr_core.errors import CheckpointError
from ...varsr_core.nsarm.config import FORCED
from ...varsr_core.nsarm.family import AUTOENCODER_FILE, TRANSFORMER_FILE, model_files
from ...varsr_core.nsarm.memory import decoding_bytes, encoding_bytes, sampling_bytes
from ...varsr_core.nsarm.restorer import NSARMRestorer, Part
from ...varsr_core.nsarm.results import TextFeatures
from ...varsr_core.nsarm.sampling import SampleSettings
from ...varsr_core.nsarm.transformer import AttentionFn
from ...varsr_core.runtime.dtypes import DTYPE_CHOICES
from .. import host
from ..attention import pick_attention
from .sockets import NSARMModel

FOLDER = "nsarm"  # of models


@dataclass(frozen=True, kw_only=True)
class LoadedNSARM(host.LoadedModel):
    """An NSARM model whose parts ComfyUI manages one by one; `patcher` has the transformer.

    parts: so that autoencoder and map network make room while the transformer works
    """

    parts: dict[Part, comfy.model_patcher.ModelPatcher]

    def working(self, part: Part, tile_bytes: int) -> LoadedNSARM:
        """The same for a stage in which only this part works."""
        return replace(self, patcher=self.parts[part], tile_bytes=tile_bytes)

    def encoding(self) -> LoadedNSARM:
        return self.working("autoencoder", encoding_bytes(self.network))

    def sampling(self, settings: SampleSettings, text: TextFeatures | None) -> LoadedNSARM:
        texts = 1 if text is None or settings.guidance == 1 else 2
        return self.working("transformer", sampling_bytes(self.network, texts))

    def decoding(self) -> LoadedNSARM:
        return self.working("autoencoder", decoding_bytes(self.network))

    def restorer(
        self, settings: SampleSettings | None = None, text: TextFeatures | None = None
    ) -> NSARMRestorer:
        """What works with this model, each part brought to its device before, with room for it.

        Where that is short, ComfyUI offloads the parts that wait.
        """
        settings = settings or SampleSettings()
        needed: dict[Part, int] = {
            "autoencoder": decoding_bytes(self.network),  # which is more than encoding takes
            "map network": encoding_bytes(self.network),
            "transformer": self.sampling(settings, text).tile_bytes,
        }
        present: list[Part] = []

        def bring(part: Part) -> None:
            if present != [part]:
                host.bring(self.parts[part], needed[part])
                present[:] = [part]

        features: Tensor | None = text.features if text else None
        return NSARMRestorer(self.network, settings, features, bring)


def load(checkpoint: str, dtype: str) -> LoadedNSARM:
    """A model ready for ComfyUI's memory management. Raises CheckpointError with the remedy."""
    path = host.model_path(checkpoint, FOLDER)
    if path is None:
        raise CheckpointError(
            f"checkpoint: there is no file {checkpoint!r} in the list of models; {where_to_get()}"
        )
    network = host.load_model(path, "nsarm", dtype, attention=_attention()).model
    parts: dict[Part, comfy.model_patcher.ModelPatcher] = {
        "autoencoder": host.managed(network.vae),
        "map network": host.managed(network.maps),
        "transformer": host.managed(network.transformer),
    }
    # The node's strip has one box for the scales that come together.
    sides = network.config.schedule.sides[FORCED - 1 :]
    of_tile = sampling_bytes(network, 1)
    return LoadedNSARM(network, parts["transformer"], of_tile, sides, parts=parts)


def _attention() -> AttentionFn:
    plain = pick_attention()  # its softmax scale is 1, as in self-attention; at text it is not
    return lambda q, k, v, scale: plain(q if scale == 1 else q * scale, k, v)


def version_on_disk(checkpoint: str) -> str:
    """Changes when a file is replaced, so that ComfyUI loads it again."""
    return host.versions(host.files_of(host.model_path(checkpoint, FOLDER), model_files))


def choices() -> list[str]:
    return host.model_files(FOLDER)


def where_to_get() -> str:
    return (
        f"put {TRANSFORMER_FILE} (its pieces joined) and {AUTOENCODER_FILE}, or a converted file, "
        f"into {host.model_folder(FOLDER)}"
    )


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="NSARM_LoadModel",
            display_name="Load NSARM Model",
            description="Loads an NSARM model of 8.8 billion weights from models/nsarm: one "
            "converted file, or NSARM.pth with its autoencoder beside it.",
            search_aliases=["super resolution", "restore", "checkpoint", "next scale", "infinity"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=choices(),
                    tooltip="A file of models/nsarm. Converted to bf16 or fp8 it loads fastest; "
                    "for NSARM.pth the autoencoder is taken from the same folder.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPE_CHOICES),
                    default="auto",
                    tooltip="Precision of the arithmetic: auto takes what the device computes "
                    "fast, fp32 is exact and needs twice the memory; fp8 files stay fp8.",
                ),
            ],
            outputs=[
                NSARMModel.Output(display_name="model", tooltip="For every other NSARM node.")
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, dtype: str) -> str:
        return f"{version_on_disk(checkpoint)} {dtype}"

    @classmethod
    def execute(cls, checkpoint: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load(checkpoint, dtype))
