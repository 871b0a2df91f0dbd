"""Finding, reading and remembering VARSR files for the Load node."""

from __future__ import annotations

from pathlib import Path

from ...varsr_core.checkpoint import load_checkpoint
from ...varsr_core.errors import CheckpointError
from ...varsr_core.varsr.family import FILES, NANO_FILE, REPOSITORY, VARSR_FAMILY, model_files
from ...varsr_core.varsr.memory import tile_bytes
from ...varsr_core.varsr.weights import build_model
from .. import host
from ..attention import pick_attention

NANO = "varsr_nano (built in)"


def load(checkpoint: str, dtype: str) -> host.LoadedModel:
    """A model ready for ComfyUI's memory management. Raises CheckpointError with the remedy."""
    path = _path(checkpoint)
    if not path.is_file():
        raise CheckpointError(f"checkpoint: there is no file {path}; {where_to_get()}")
    read = load_checkpoint(model_files(path), VARSR_FAMILY)
    network = build_model(
        read.tensors,
        dtype=host.pick_dtype(dtype),
        attention=pick_attention(),
        operations=host.operations(),
        fingerprint=read.fingerprint,
    )
    return host.manage(network, tile_bytes(network), network.config.schedule.sides)


def version_on_disk(checkpoint: str) -> str:
    """Changes when a file is replaced, so that ComfyUI loads it again."""
    return host.versions(model_files(_path(checkpoint)))


def choices() -> list[str]:
    """What the Load node offers: the model that comes with the pack first."""
    return [NANO, *host.model_files()]


def where_to_get() -> str:
    folder = host.model_folder()
    return (
        f"put {' and '.join(FILES)} from https://huggingface.co/{REPOSITORY} into {folder}, or, "
        f"in the folder of this pack, run: python -m varsr_core.download {folder}"
    )


def _path(checkpoint: str) -> Path:
    return NANO_FILE if checkpoint == NANO else host.model_path(checkpoint)
