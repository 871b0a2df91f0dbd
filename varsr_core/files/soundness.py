"""Whether a file can be read, and whether what it holds are numbers to compute with."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .lazy_tensor import LazyTensor, StateDict

# Whose extremes torch finds in one pass without a copy; others, as fp8, are widened in pieces.
DIRECT = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
PIECE = 2**22  # values
MAX_HASHING = 8  # tensors hashed at once; a large file would else take longer than from the disk
ENOUGH = 256  # learned values are never all round by chance
# Bytes of a tensor that repeats a few values: masks of training are stored so, and are far smaller.
MOST_REPEATED = 2**30


def check_file(path: Path) -> None:
    """Refuses what cannot be read, or would never end. Raises CheckpointError."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
            return
    except PermissionError as error:
        raise CheckpointError(
            f"{path} may not be read by the user this runs as ({error.strerror}); give it, and the "
            "folders it lies in, the permission to be read"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"there is no file {path}; put it there, or choose another") from None
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a zero byte in it
        raise CheckpointError(
            f"{str(path)!r} cannot be opened ({error}); choose another file"
        ) from None
    what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise CheckpointError(f"{path} is {what}, there is no file of that name; choose a file")


def is_there(path: Path) -> bool:
    """Whether a file lies there; one that may not be looked at is for check_file() to tell."""
    try:
        return path.is_file()
    except OSError:
        return False


def check_plain(tensors: StateDict) -> None:
    """Refuses tensors that are not simply numbers in memory. Raises CheckpointError."""
    for name, tensor in tensors.items():
        kind = "" if isinstance(tensor, LazyTensor) else _kind(tensor)
        if kind:
            raise CheckpointError(
                f"{name} is {kind}; plain tensors are expected, as checkpoints of the authors have"
            )


def _kind(tensor: Tensor) -> str:
    """What a tensor is that is not simply numbers, each in its own place; else empty."""
    if tensor.is_meta:
        return "a meta tensor, which has no values"
    if tensor.is_quantized:
        return f"a quantized tensor ({tensor.dtype})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"a sparse or nested tensor ({tensor.layout})"
    if tensor.is_complex():
        return f"a complex tensor ({tensor.dtype})"
    # A few bytes may stand for a tensor of any size, which work on it would then fill.
    size = tensor.numel() * tensor.itemsize
    if size > max(MOST_REPEATED, tensor.untyped_storage().nbytes()):
        return f"a tensor of shape {tuple(tensor.shape)} with fewer values than that"
    return ""


def check_finite(tensors: StateDict, remedy: str) -> None:
    """Refuses NaN and infinity, whose first tensor the error names. Raises CheckpointError."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if not all(is_finite(piece) for piece in _pieces(tensor.detach())):
            raise CheckpointError(f"{name} has NaN or infinite values; {remedy}")


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    if tensor.dtype in DIRECT:
        yield tensor
    else:
        yield from (piece.float() for piece in tensor.flatten().split(PIECE))


def is_finite(values: Tensor) -> bool:
    """Whether floating-point values have no NaN and no infinity among them."""
    # NaN becomes both extremes. One pass, at a tenth of the time of isfinite().
    if values.numel() == 0:
        return True
    low, high = values.aminmax()
    return bool(low.isfinite() & high.isfinite())


class Contents:
    """Hash of the very bytes of a file's tensors, which its metadata may carry.

    `fingerprint` in the metadata is of the weights before they were cast, so it cannot be told
    from the file; this one can, and holds the other.
    """

    KEY = "contents"
    LENGTH = 64  # hex digits

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.start = metadata.get("fingerprint", "")
        self.parts: dict[str, str] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        """One tensor as the file has it, in any order."""
        digest = hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(raw_bytes(tensor))
        self.parts[name] = digest.hexdigest()

    def hexdigest(self) -> str:
        digest = hashlib.sha256(self.start.encode())
        for name, part in sorted(self.parts.items()):
            digest.update(f" {name} {part}".encode())
        return digest.hexdigest()


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, without a copy where it is contiguous."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def contents_of(tensors: StateDict, metadata: Mapping[str, str]) -> str:
    """The hash that a file of these tensors carries."""
    found = Contents(metadata)
    with ThreadPoolExecutor(min(MAX_HASHING, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda name: found.add(name, tensors[name].detach()), tensors))
    return found.hexdigest()


def check_contents(tensors: StateDict, metadata: Mapping[str, str]) -> None:
    """Refuses tensors that are others than those the metadata was written for."""
    if Contents.KEY not in metadata:
        return  # written before files carried it
    if contents_of(tensors, metadata) != metadata[Contents.KEY]:
        raise CheckpointError(
            "its weights are not those that it was written with: the file was damaged, or another "
            "program changed them and kept the description. Copy or convert it again"
        )


def is_rounded(tensors: StateDict) -> bool:
    """Whether weights may have been cast to a narrower dtype since they were learned."""
    learned = [tensor.detach() for tensor in tensors.values() if tensor.is_floating_point()]
    return any(
        values.dtype not in (torch.float32, torch.float64)
        or any(_fits(values, dtype) for dtype in (torch.bfloat16, torch.float16))
        for values in learned
    )


def _fits(values: Tensor, dtype: torch.dtype) -> bool:
    """Whether nothing is lost in another dtype, though there is enough that could be."""
    if values.numel() < ENOUGH or values.min() == values.max():
        return False
    return torch.equal(values, values.to(dtype).to(values.dtype))
