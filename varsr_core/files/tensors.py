"""Reading and writing files of tensors, without running what is in them."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from .atomic import whole_file
from .lazy_tensor import LazyTensor, StateDict

logger = logging.getLogger(__name__)

ALIGNMENT = 64  # bytes, of the first tensor in a file
PICKLES = (".pth", ".pt", ".ckpt")

SAFETENSORS_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
}


def with_partner(path: Path, partner: str) -> list[Path]:
    """The files of a model: a pickle of a release takes the other one if that lies beside it.

    partner: name of the other file
    """
    beside = path.with_name(partner)
    if path.suffix in PICKLES and path.name != partner and beside.is_file():
        return [path, beside]
    return [path]


def read_tensors(path: Path) -> tuple[list[dict[str, Tensor]], dict[str, str]]:
    """Every group of named tensors in a file, mapped into memory, and the file's metadata.

    A safetensors file holds one group; a pickle may nest several (weights, optimiser state).
    Raises CheckpointError for what is missing, truncated, or refused.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; put it there, or choose another")
    if path.suffix in (".safetensors", ".sft"):
        return _read_safetensors(path)
    return list(_groups(_read_pickle(path))), {}


def _read_safetensors(path: Path) -> tuple[list[dict[str, Tensor]], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return [tensors], file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path.name} ({path.stat().st_size:,} bytes) is truncated or no safetensors file "
            f"({error}); copy or convert it again"
        ) from error


def _read_pickle(path: Path) -> Any:
    """Only tensors and plain containers are unpickled; anything else is refused by torch."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap can only be used" not in str(error):
            raise _unreadable(path, error) from error
    except Exception as error:
        raise _unreadable(path, error) from error
    logger.warning("%s is of the old kind that cannot be mapped; reading it whole", path.name)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    text = str(error)
    refused = re.search(r"(?:GLOBAL|Unsupported class)\s+(\S+)", text)
    if refused:
        return CheckpointError(
            f"{path.name} asks to run {refused[1]!r} while it is read, and was refused: it holds "
            "more than tensors. Only take checkpoints from their authors; nothing was executed"
        )
    # Before this, torch's text advises to read the file unprotected.
    operand = re.search(r"Unsupported operand \d+", text)
    reason = operand[0] if operand else (text.splitlines() or [type(error).__name__])[0]
    return CheckpointError(
        f"{path.name} ({path.stat().st_size:,} bytes) is truncated or no checkpoint "
        f"({reason}); download it again"
    )


def _groups(value: Any) -> Iterator[dict[str, Tensor]]:
    """Dictionaries of named tensors, wherever they are nested."""
    if not isinstance(value, Mapping):
        return
    tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield tensors
    for nested in value.values():
        yield from _groups(nested)


def write_safetensors(
    path: Path,
    tensors: StateDict,
    metadata: Mapping[str, str],
    *,
    cast: Callable[[str, Tensor | LazyTensor], torch.dtype],
    on_written: Callable[[int], object] = lambda size: None,
) -> None:
    """Writes a file whole or not at all, one tensor in memory at a time.

    The library's own writer needs all tensors cast beforehand; here a mapped 13.7 GB checkpoint is
    cast while it is written.

    cast:       dtype of a tensor in the file, from its name and itself
    on_written: called with the bytes of each tensor written
    Raises CheckpointError when the disk is full; the temporary file is removed on every error.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    # Large first: then those that matter lie at multiples of 64 bytes, which kernels like. And
    # always in the same order: the same model gives the same bytes.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].numel(), item[0]))
    end = 0
    for name, tensor in ordered:
        dtype = cast(name, tensor)
        begin, end = end, end + tensor.numel() * dtype.itemsize
        header[name] = {
            "dtype": SAFETENSORS_DTYPES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(len(encoded) + 8) % ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_space(path, end + len(encoded) + 8)
    try:
        with (
            whole_file(path, path.with_name(path.name + ".part")) as part,
            part.open("wb") as file,
        ):
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for name, tensor in ordered:
                data = tensor.detach().to("cpu", cast(name, tensor)).contiguous()
                file.write(data.reshape(-1).view(torch.uint8).numpy().data)
                on_written(data.nbytes)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written ({error.strerror})") from error


def check_space(path: Path, size: int) -> None:
    """Raises CheckpointError when `size` bytes do not fit on the disk of `path`."""
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise CheckpointError(
            f"{path} needs {size / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free; "
            "make room, or write to another disk"
        )
