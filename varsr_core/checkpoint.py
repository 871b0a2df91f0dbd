"""Checkpoint files of every family: told apart, converted, identified."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .errors import CheckpointError
from .family import Family, StateDict
from .files.tensors import check_space, read_tensors, write_safetensors
from .nsarm.family import NSARM_FAMILY
from .varsr.family import VARSR_FAMILY

FAMILIES = (VARSR_FAMILY, NSARM_FAMILY)

FORMAT_VERSION = "1"  # of our files; raised when an older pack could not read them

FOREIGN = (  # start of a tensor name that gives a file away -> what it is, and where it belongs
    ("model.diffusion_model.", "a Stable Diffusion checkpoint; use the Load Checkpoint node"),
    ("first_stage_model.", "the VAE of Stable Diffusion; use the Load VAE node"),
    ("model.1.sub.0.", "an ESRGAN upscaler; use the Load Upscale Model node"),
    ("conv_body.", "an ESRGAN upscaler; use the Load Upscale Model node"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A whole model under our names, in the dtype of its file.

    fingerprint: of the weights before any cast, so a model and its conversions count as one
    metadata:    of the file it came from, or empty
    """

    family: Family
    tensors: StateDict
    fingerprint: str
    metadata: Mapping[str, str]


def load_checkpoint(paths: Sequence[Path], wanted: Family | None = None) -> Checkpoint:
    """One converted file, or the files of a release in any order. Raises CheckpointError.

    wanted: the only family that is accepted; any, if None
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
    try:
        tensors = family.assemble({part: tensors for part, (tensors, _) in found.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{names}: {error}") from error
    identity = metadata.get("fingerprint") or fingerprint(tensors)
    return Checkpoint(family, tensors, identity, metadata)


def _check_family(files: Sequence[tuple[Path, Family]], wanted: Family | None) -> None:
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


def _recognise(path: Path) -> tuple[Path, Family, dict[str, StateDict], dict[str, str]]:
    """The family of a file, and the parts of a model it holds."""
    groups, metadata = read_tensors(path)
    version = metadata.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path.name} has format version {version}, this pack reads {FORMAT_VERSION}; "
            "update the pack, or convert the released files again"
        )
    for family in FAMILIES:
        parts: dict[str, StateDict] = {}
        for group in groups:
            for part, tensors in family.split(group).items():
                parts.setdefault(part, tensors)
        if parts:
            return path, family, parts, metadata
    names = [name for group in groups for name in group]
    for start, description in FOREIGN:
        if any(name.startswith(start) for name in names):
            raise CheckpointError(f"{path.name} is {description}")
    raise CheckpointError(
        f"{path.name} is no checkpoint of {' or '.join(f.title for f in FAMILIES)}: none of "
        f"its {len(names)} tensors tells a known model"
        + (f" (the first is {names[0]!r})" if names else "")
    )


def save_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    dtype: torch.dtype,
    *,
    metadata: Mapping[str, str],
    on_written: Callable[[int], None] = lambda size: None,
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
    check_space(path, size)


def fingerprint(tensors: StateDict, samples: int = 64) -> str:
    """Identity of weights: names, shapes and some values of every tensor, as hex."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        values: Tensor = tensors[name].detach().flatten()
        picked = values[:: max(1, values.numel() // samples)].double()
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(picked.numpy().tobytes())
    return digest.hexdigest()
