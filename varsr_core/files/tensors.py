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
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError
from .atomic import unfinished_file, whole_file
from .lazy_tensor import LazyTensor, StateDict
from .pickle_shape import is_endless
from .soundness import Contents, check_contents, check_file, check_finite, is_there, raw_bytes

logger = logging.getLogger(__name__)

ALIGNMENT = 64  # bytes, of the first tensor in a file
PICKLES = (".pth", ".pt", ".ckpt")
# Of what a pickle nests; a release has a few dozen dictionaries, an optimiser's state thousands.
MAX_CONTAINERS = 100_000
MAX_DEPTH = 32

SAFETENSORS_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
}


class Group(dict[str, Tensor]):
    """Named tensors of a pickle.

    key:   under which they are nested, or empty
    plain: what else the pickle holds beside tensors, at its top
    """

    key: str = ""
    plain: Mapping[str, Any] = {}


def with_partner(path: Path, partner: str) -> list[Path]:
    """The files of a model: a pickle of a release takes the other one if that lies beside it.

    partner: name of the other file
    """
    beside = path.with_name(partner)
    if path.suffix in PICKLES and path.name != partner and is_there(beside):
        return [path, beside]
    return [path]


def read_tensors(path: Path) -> tuple[list[dict[str, Tensor]], dict[str, str]]:
    """Every group of named tensors in a file, mapped into memory, and the file's metadata.

    A safetensors file holds one group; a pickle may nest several (weights, optimiser state).
    Raises CheckpointError for what is missing, unreadable, truncated, changed or refused.
    """
    check_file(path)
    if path.suffix in (".safetensors", ".sft"):
        return _read_safetensors(path)
    return list(_groups(_read_pickle(path), path.name)), {}


def _read_safetensors(path: Path) -> tuple[list[dict[str, Tensor]], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:  # the library's own, and what torch says of dtypes and sizes
        raise CheckpointError(
            f"{path.name} ({path.stat().st_size:,} bytes) is truncated or no safetensors file "
            f"({error}); copy or convert it again"
        ) from error
    try:
        check_contents(tensors, metadata)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    return [tensors], metadata


def _read_pickle(path: Path) -> Any:
    """Only tensors and plain containers are unpickled; anything else is refused by torch."""
    if is_endless(path):
        raise CheckpointError(
            f"{path.name} holds a few objects so often that there is no end to it; this is no "
            "checkpoint. Only take checkpoints from their authors"
        )
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


def _groups(value: Any, name: str) -> Iterator[dict[str, Tensor]]:
    """Dictionaries of named tensors, wherever they are nested, each once, outer ones first.

    A few bytes of a pickle can hold dictionaries that share others, or themselves, so that there
    is no end to their paths; a dictionary is looked at once. name: of the file
    """
    waiting, seen = [(value, 0, "")], set[int]()
    plain = value if isinstance(value, Mapping) else {}
    while waiting:
        value, depth, key = waiting.pop()
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        if depth > MAX_DEPTH or len(seen) > MAX_CONTAINERS:
            raise CheckpointError(
                f"{name} nests more than {MAX_CONTAINERS:,} dictionaries, or some more than "
                f"{MAX_DEPTH} deep; this is no checkpoint. Download it again"
            )
        named = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if named:
            group = Group(named)
            group.key, group.plain = key, plain
            yield group
        inside = [(nested, str(k)) for k, nested in value.items() if isinstance(nested, Mapping)]
        waiting.extend((nested, depth + 1, name) for nested, name in reversed(inside))


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
    Raises CheckpointError when the disk is full, and for what overflows when it is cast; the
    temporary file is removed on every error.
    """
    contents, unknown = Contents(metadata), "0" * Contents.LENGTH
    described = {**metadata, Contents.KEY: unknown}
    header: dict[str, Any] = {"__metadata__": dict(sorted(described.items()))}
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            unfinished_file(path.parent) as part,
            whole_file(path, part),
            part.open("wb") as file,
        ):
            check_space(path, end + len(encoded) + 8)
            file.write(len(encoded).to_bytes(8, "little") + encoded)
            for name, tensor in ordered:
                data = tensor.detach().to("cpu", cast(name, tensor)).contiguous()
                _check_cast(path, name, tensor, data)
                contents.add(name, data)
                file.write(raw_bytes(data))
                on_written(data.nbytes)
            file.seek(8 + encoded.index(f'"{Contents.KEY}": "{unknown}'.encode()))
            file.write(f'"{Contents.KEY}": "{contents.hexdigest()}'.encode())
    except OSError as error:
        raise CheckpointError(f"{path} could not be written ({error.strerror})") from error


def _check_cast(path: Path, name: str, tensor: Tensor | LazyTensor, data: Tensor) -> None:
    narrower = data.dtype.itemsize < tensor.dtype.itemsize
    remedy = "choose bf16 or fp32, which hold larger numbers" if narrower else "training has failed"
    try:
        check_finite({name: data}, remedy)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name} was not written: {error}") from None


def check_space(path: Path, size: float, what: str = "") -> None:
    """Raises CheckpointError when `size` bytes do not fit on the disk of `path`.

    what: needs them, for people, if not the file `path`
    """
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise CheckpointError(
            f"{what or path} needs {size / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free; "
            "make room, or write to another disk"
        )
