"""Load VARSR Model: finds, reads and remembers VARSR files."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ...varsr_core.errors import CheckpointError
from ...varsr_core.varsr.family import FILES, NANO_FILE, REPOSITORY, model_files
from ...varsr_core.varsr.memory import tile_bytes
from .. import host
from ..attention import pick_attention
from ..sockets import checked
from . import inputs
from .sockets import LoadedVARSR, VARSRModel

FOLDER = "varsr"  # of models
NANO = "varsr_nano (built in)"


def load(checkpoint: str, dtype: str) -> LoadedVARSR:
    """A model ready for ComfyUI's memory management. Raises CheckpointError with the remedy."""
    path = _path(checkpoint)
    if path is None:
        raise CheckpointError(f"checkpoint: {missing(checkpoint)}")
    return opened(path, dtype)


def opened(path: Path, dtype: str) -> LoadedVARSR:
    """The same, of a file. Raises CheckpointError."""
    network = host.load_network(path, "varsr", dtype, attention=pick_attention())
    sides = network.config.schedule.sides
    return LoadedVARSR(network, host.managed(network), tile_bytes(network), sides)


def version_on_disk(checkpoint: str) -> str:
    """Changes when a file is replaced, so that ComfyUI loads it again."""
    return host.versions(host.files_of(_path(checkpoint), model_files))


def choices() -> list[str]:
    """What the Load node offers: the model that comes with the pack first."""
    return [NANO, *host.model_files(FOLDER)]


def missing(checkpoint: str) -> str:
    return f"there is no file {checkpoint!r} in the list of models; {where_to_get()}"


def where_to_get() -> str:
    folder = host.model_folder(FOLDER)
    return (
        f"use the Get VARSR Model node, or put {' and '.join(FILES)} from "
        f"https://huggingface.co/{REPOSITORY} into {folder}, or, in the folder of this pack, run: "
        f"python -m varsr_core.download {folder} --convert"
    )


def _path(checkpoint: str) -> Path | None:
    return NANO_FILE if checkpoint == NANO else host.model_path(checkpoint, FOLDER)


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="VARSR_LoadModel",
            display_name="Load VARSR Model",
            description="Loads the small model that comes with this pack, or a VARSR model from "
            "models/varsr: one converted file, or VARSR.pth with VQVAE.pth beside it.",
            search_aliases=["super resolution", "restore", "checkpoint", "next scale", "var"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=choices(),
                    tooltip="varsr_nano comes with this pack and is small; the others are files "
                    "of models/varsr. A converted .safetensors loads fastest; for VARSR.pth, "
                    "VQVAE.pth is taken from the same folder.",
                ),
                inputs.dtype(),
            ],
            outputs=[
                VARSRModel.Output(display_name="model", tooltip="For every other VARSR node.")
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None) -> bool | str:
        """Before the run; the host's own look at the list says less, and older ones have none.

        None is what a wire brings, which is known only when it runs.
        """
        return checkpoint is None or _path(checkpoint) is not None or missing(checkpoint)

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str, dtype: str) -> str:
        return f"{version_on_disk(checkpoint)} {dtype}"

    @classmethod
    @checked
    def execute(cls, checkpoint: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load(checkpoint, dtype))
