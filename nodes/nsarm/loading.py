"""Load NSARM Model: finds, reads and remembers NSARM files."""

from __future__ import annotations

import comfy.model_patcher
from comfy_api.latest import io

from ...varsr_core.errors import CheckpointError
from ...varsr_core.nsarm.config import FORCED
from ...varsr_core.nsarm.family import AUTOENCODER_FILE, TRANSFORMER_FILE, model_files
from ...varsr_core.nsarm.memory import sampling_bytes
from ...varsr_core.nsarm.restorer import Part
from ...varsr_core.nsarm.transformer import AttentionFn
from ...varsr_core.runtime.dtypes import DTYPE_CHOICES
from .. import host
from ..attention import pick_attention
from ..sockets import checked
from .model import LoadedNSARM
from .sockets import NSARMModel

FOLDER = "nsarm"  # of models


def load(checkpoint: str, dtype: str) -> LoadedNSARM:
    """A model ready for ComfyUI's memory management. Raises CheckpointError with the remedy."""
    path = host.model_path(checkpoint, FOLDER)
    if path is None:
        raise CheckpointError(f"checkpoint: {missing(checkpoint)}")
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


def missing(checkpoint: str) -> str:
    return f"there is no file {checkpoint!r} in the list of models; {where_to_get()}"


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
                    tooltip="Precision of the arithmetic: auto takes bf16, as the authors did, "
                    "where the device computes it fast; fp32 needs twice the memory; fp8 files "
                    "stay fp8.",
                ),
            ],
            outputs=[
                NSARMModel.Output(display_name="model", tooltip="For every other NSARM node.")
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None) -> bool | str:
        """Before the run, as in Load VARSR Model."""
        found = checkpoint is None or host.model_path(checkpoint, FOLDER) is not None
        return found or missing(checkpoint)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, dtype: str) -> str:
        return f"{version_on_disk(checkpoint)} {dtype}"

    @classmethod
    @checked
    def execute(cls, checkpoint: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load(checkpoint, dtype))
