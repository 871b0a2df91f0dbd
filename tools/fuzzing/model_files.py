"""Sound model files of both families, as bytes that are the same in every process."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools import random_checkpoint, random_nsarm
from varsr_core.checkpoint import load_checkpoint, save_checkpoint

Tensors = dict[str, Tensor]

FAMILIES = ("varsr", "nsarm")
FILES = {
    "varsr": ("VQVAE.pth", "VARSR.pth"),
    "nsarm": ("infinity_vae_d56_f8_14_patchify.pth", "NSARM.pth"),
}
WRAPPERS = {"varsr": ("vae_local", "var_wo_ddp"), "nsarm": ("vae", "gpt_fsdp")}
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL", torch.complex64: "C64",
}  # fmt: skip


@cache
def release(family: str) -> tuple[Tensors, Tensors]:
    """The small file of a release, and its transformer."""
    if family == "varsr":
        sizes = random_checkpoint.MICRO
        shapes = (
            random_checkpoint.tokenizer_shapes(sizes),
            random_checkpoint.transformer_shapes(sizes),
        )
        small, large = (
            random_checkpoint.random_weights(one, sizes, n) for n, one in enumerate(shapes)
        )
        return small, large
    sizes = random_nsarm.MICRO
    large = random_nsarm.random_weights(random_nsarm.transformer_shapes(sizes))
    large["schedule"] = torch.tensor(sizes.sides)
    return random_nsarm.random_weights(random_nsarm.vae_shapes(sizes), 1), large


@cache
def converted(family: str, dtype: torch.dtype = torch.float32) -> bytes:
    """The one file that the converter makes of a release."""
    with tempfile.TemporaryDirectory() as folder:
        for name, tensors in zip(FILES[family], release(family), strict=True):
            (Path(folder) / name).write_bytes(zip_bytes(tensors))
        read = load_checkpoint([Path(folder) / name for name in FILES[family]])
        made = Path(folder) / "made.safetensors"
        save_checkpoint(read, made, dtype, metadata={"sources": "{}"})
        return made.read_bytes()


def split_safetensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def tensors_of(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """Of a safetensors file, and its metadata."""
    header, body = split_safetensors(data)
    metadata = header.pop("__metadata__", {})
    named = {name: dtype for dtype, name in DTYPES.items()}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = torch.frombuffer(bytearray(body[begin:end]), dtype=named[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata


def join_safetensors(header: Any, body: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + body


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Without the library, which writes metadata in another order each time."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    body = bytearray()
    for name, tensor in tensors.items():
        data = raw(tensor)
        place = [len(body), len(body) + len(data)]
        header[name] = {
            "dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place,
        }  # fmt: skip
        body += data
    return join_safetensors(header, bytes(body))


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def zip_bytes(content: Any) -> bytes:
    """As torch.save() writes now."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def legacy_bytes(content: Any) -> bytes:
    """As torch.save() wrote before 1.6. Its own writer names and orders storages by where in
    memory they lie."""
    storages: dict[int, tuple[str, Any]] = {}

    def keep(one: Any) -> tuple[Any, ...] | None:
        if not isinstance(one, torch.storage.TypedStorage):
            return None
        untyped = one._untyped_storage
        name, _ = storages.setdefault(untyped._cdata, (f"{len(storages):06}", one))
        kind = getattr(torch, one._pickle_storage_type())
        return ("storage", kind, name, "cpu", one._size(), None)

    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    file = io.BytesIO()
    for one in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(one, file, protocol=2)
    pickler = pickle.Pickler(file, protocol=2)
    pickler.persistent_id = keep  # type: ignore[method-assign]
    pickler.dump(content)
    pickle.dump([name for name, _ in storages.values()], file, protocol=2)
    for _, one in storages.values():
        data = torch.empty(0, dtype=torch.uint8).set_(one._untyped_storage)
        file.write(struct.pack("<q", one._size()) + data.numpy().tobytes())
    return file.getvalue()


def pieces(data: bytes, count: int) -> list[bytes]:
    """As `split` cuts a file."""
    size = max(1, math.ceil(len(data) / count))
    return [data[start : start + size] for start in range(0, len(data), size)]
