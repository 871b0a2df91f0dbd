"""The known families, and their checkpoint files: loaded, told apart, saved, identified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError
from .family import (
    FORMAT_VERSION,
    Checkpoint,
    Family,
    ModelKind,
    assembled,
    look_into,
    unknown,
)
from .files.atomic import unfinished_file
from .files.fingerprint import fingerprint  # noqa: F401 (others take it from here)
from .files.lazy_tensor import StateDict
from .files.tensors import check_space, write_safetensors
from .nsarm.family import NSARM_FAMILY
from .runtime.device import pick_device, pick_dtype, wide_dtype
from .tiling.restorer import Restorer
from .varsr.family import VARSR_FAMILY
from .varsr.k2n.kind import K2N_KIND

# Every family there is, by name; the first has the model that comes with the pack.
FAMILIES = {family.name: family for family in (VARSR_FAMILY, NSARM_FAMILY)}
DEFAULT_FAMILY = next(iter(FAMILIES))

# Networks that help a family's, and restore nothing by themselves.
ADDITIONS: tuple[ModelKind, ...] = (K2N_KIND,)

FOREIGN = (  # start of a tensor name that gives a file away -> what it is, and where it belongs
    ("model.diffusion_model.", "a Stable Diffusion checkpoint; use the Load Checkpoint node"),
    ("first_stage_model.", "the VAE of Stable Diffusion; use the Load VAE node"),
    ("model.1.sub.0.", "an ESRGAN upscaler; use the Load Upscale Model node"),
    ("conv_body.", "an ESRGAN upscaler; use the Load Upscale Model node"),
)


def load_model(
    path: str | Path | None = None,
    *,
    family: str | None = None,
    device: str | torch.device | None = "auto",
    dtype: str | torch.dtype = "auto",
    choices: Any = None,
    **options: Any,
) -> Restorer[Any]:
    """From a file to what `upscale()` takes.

    path:    a converted file, or the transformer of a release with its other file beside it; None
             for the small model that comes with the pack
    family:  the only one that is accepted, e.g. "varsr"; any, if None
    device:  "auto" takes the first GPU there is; None leaves the weights where they are
    dtype:   of the matrix products: a torch.dtype, "auto", "fp32", "bf16" or "fp16"
    choices: the family's own, e.g. VARSRChoices; None for its defaults
    options: of the family's `build`: wide_dtype, attention, operations
    Raises CheckpointError for what is no model, InputError for a device that is not there.
    """
    return build_restorer(
        read_model(path, family), device=device, dtype=dtype, choices=choices, **options
    )


def build_restorer(
    read: Checkpoint[Family],
    *,
    device: str | torch.device | None,
    dtype: str | torch.dtype,
    choices: Any = None,
    **options: Any,
) -> Restorer[Any]:
    """What `load_model()` does with the weights of a file; arguments as there."""
    place = None if device is None else pick_device(str(device))
    runs_on = place or torch.device("cpu")
    if isinstance(dtype, str):
        dtype = pick_dtype(dtype, runs_on, read.family.dtypes)
    network = read.build(dtype=dtype, **{"wide_dtype": wide_dtype(runs_on), **options})
    return read.family.restorer(network if place is None else network.to(place), choices)


def read_model(path: str | Path | None = None, family: str | None = None) -> Checkpoint[Family]:
    """The weights that a file names, mapped into memory; arguments as in `load_model()`."""
    wanted = None if family is None else FAMILIES[family]
    if path is None:
        path = (wanted or FAMILIES[DEFAULT_FAMILY]).default
    if path is None:
        raise CheckpointError(f"no model of {family} comes with the pack; name a file")
    path = Path(path)
    files = [family.files(path) for family in ([wanted] if wanted else FAMILIES.values())]
    if any(found != files[0] for found in files):  # else the file need not be read to tell
        files = [_recognise(path)[1].files(path)]
    return with_restorer(load_checkpoint(files[0], wanted))


def load_checkpoint(paths: Sequence[Path], wanted: ModelKind | None = None) -> Checkpoint:
    """One converted file, or the files of a release in any order. Raises CheckpointError.

    wanted: the only family, or addition, that is accepted; any, if None
    """
    found: dict[str, tuple[StateDict, Path]] = {}
    files = [_recognise(path) for path in paths]
    _check_family([(path, family) for path, family, _, _ in files], wanted)
    # Files with one part first: a release's transformer file may carry a stale tokenizer.
    for path, _, parts, _ in sorted(files, key=lambda file: len(file[2])):
        for part, tensors in parts.items():
            if part in found and len(parts) == 1:
                raise CheckpointError(
                    f"{path.name} and {found[part][1].name} are both a {part}; give one of each"
                )
            found.setdefault(part, (tensors, path))
    family = files[0][1]
    metadata = next((data for _, _, parts, data in files if family.complete in parts), {})
    names = " and ".join(path.name for path in paths)
    found_parts = {part: tensors for part, (tensors, _) in found.items()}
    return assembled(family, found_parts, metadata, names)


def with_restorer(read: Checkpoint) -> Checkpoint[Family]:
    """The same, of a family. Raises CheckpointError for networks that only help one."""
    if not isinstance(read.family, Family):
        raise CheckpointError(
            f"{read.files} is a file of {read.family.title}, which only helps another model; use "
            f"the {read.family.loader} node, or --{read.family.name} of the command"
        )
    return read


def _check_family(files: Sequence[tuple[Path, ModelKind]], wanted: ModelKind | None) -> None:
    for path, family in files:
        if wanted not in (None, family):
            raise CheckpointError(
                f"{path.name} is a checkpoint of {family.title}, not of {wanted.title}; use the "
                f"{family.loader} node"
            )
        if family is not files[0][1]:
            raise CheckpointError(
                f"{files[0][0].name} is a checkpoint of {files[0][1].title} and {path.name} one of "
                f"{family.title}; give the files of one model"
            )


def _recognise(path: Path) -> tuple[Path, ModelKind, dict[str, StateDict], dict[str, str]]:
    """The kind of a file, and the parts of a model it holds."""
    kind, parts, metadata, names = look_into(path, (*ADDITIONS, *FAMILIES.values()))
    if kind is not None:
        return path, kind, parts, metadata
    for start, description in FOREIGN:
        if any(name.startswith(start) for name in names):
            raise CheckpointError(f"{path.name} is {description}")
    raise unknown(path, FAMILIES.values(), names)


def save_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    dtype: torch.dtype,
    *,
    metadata: Mapping[str, str],
    on_written: Callable[[int], object] = lambda size: None,
) -> None:
    """Writes a model as one safetensors file that loads on its own. Raises CheckpointError."""
    write_safetensors(
        path,
        checkpoint.family.pack(checkpoint.tensors, dtype),
        {
            **metadata,
            "family": checkpoint.family.name,
            "format_version": FORMAT_VERSION,
            "fingerprint": checkpoint.fingerprint,
        },
        cast=lambda name, tensor: checkpoint.family.fix_dtype(name, tensor, dtype),
        on_written=on_written,
    )


def saved_size(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Bytes of the tensors of `save_checkpoint`."""
    return sum(
        tensor.numel() * checkpoint.family.fix_dtype(name, tensor, dtype).itemsize
        for name, tensor in checkpoint.family.pack(checkpoint.tensors, dtype).items()
    )


def check_output(path: Path, size: int) -> None:
    """Refuses a place that cannot be written, before the work. Raises CheckpointError."""
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path} does not end in .safetensors")
    if not path.parent.is_dir():
        raise CheckpointError(f"there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; choose another name")
    try:
        with unfinished_file(path.parent) as part:
            part.touch()
    except OSError as error:
        raise CheckpointError(
            f"the folder {path.parent} cannot be written ({error.strerror}); give it the "
            "permission, or choose another"
        ) from None
    check_space(path, size)
