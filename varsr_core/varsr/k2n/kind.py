"""Files of K2N: found, read by themselves or prepared for conversion, checked against a VARSR."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ...family import Checkpoint, ModelKind, assembled, look_into, unknown
from ...files.hashing import sha256
from ...files.lazy_tensor import StateDict
from ...files.soundness import is_there
from ...files.tensors import read_tensors
from ..config import PAPER
from .config import GUIDANCE, USUAL_SCALES, digest, digest_tensor, infer_config
from .weights import COMPLETE, assemble, build_model, first_scales, fix_dtype, split

REPOSITORY = "muzeerec/K2N"  # on Hugging Face
RELEASED_FILE = "K2NSR.pth"
RELEASED_BYTES = {RELEASED_FILE: 2.2e9}  # about; nobody here has seen it
CONVERTED_FILE = "k2n_fp16.safetensors"  # its first three branches, as we name it
CONVERTED_BYTES = 0.25e9  # about

TOKENIZER_FILE = "VQVAE.pth"
TOKENIZER_CODEBOOK = "quantize.embedding.weight"
CODEBOOK = "quantizer.codebook.weight"  # in our files of VARSR


def prepare(read: Checkpoint, path: Path, scales: int | None) -> Checkpoint:
    """The first scales alone, with a note of the codebook they were made for.

    path: of the file; what tells the codebook may lie beside it
    """
    there = infer_config(read.tensors).scales
    kept = first_scales(read.tensors, min(USUAL_SCALES, there) if scales is None else scales)
    return replace(read, tensors=kept | _notes(kept, path.parent))


def _notes(weights: StateDict, folder: Path) -> dict[str, Tensor]:
    """Of the codebook, where the released tokenizer, or what was made of it, is at hand."""
    wanted = digest(weights, "vae_sha256")
    if not wanted or "codebook" in weights:
        return {}
    for file in sorted(folder.glob("*.safetensors")):
        if (found := _of_converted(file, wanted.hex())) is not None:
            return {"codebook": found}
    tokenizer = folder / TOKENIZER_FILE
    if not is_there(tokenizer):
        return {}
    right = sha256(tokenizer, tokenizer.name, lambda size: None) == wanted.hex()
    for group in read_tensors(tokenizer)[0]:
        for name, tensor in group.items():
            if name.endswith(TOKENIZER_CODEBOOK):
                return {"codebook" if right else "other_codebook": codebook_digest(tensor)}
    return {}


def _of_converted(path: Path, wanted: str) -> Tensor | None:
    """The codebook in a converted VARSR that was made of the tokenizer with this sha256."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            sources = json.loads((file.metadata() or {}).get("sources", "{}"))
            if wanted in sources.values() and CODEBOOK in file.keys():  # noqa: SIM118
                return codebook_digest(file.get_tensor(CODEBOOK))
    except Exception:  # what is not such a file is none of our business, whatever the library says
        return None
    return None


def codebook_digest(codebook: Tensor) -> Tensor:
    """sha256 of its values, as (32,) numbers; every file of a VARSR keeps it in float32."""
    values = codebook.detach().float().cpu().contiguous()
    return digest_tensor(hashlib.sha256(values.numpy().tobytes()).digest())


def read_k2n(path: Path) -> Checkpoint:
    """A K2N file by itself, as released or converted. Raises CheckpointError."""
    kind, parts, metadata, names = look_into(path, (K2N_KIND,))
    if kind is None:
        raise unknown(path, (K2N_KIND,), names)
    return noted(assembled(K2N_KIND, parts, metadata, path.name), path)


def noted(read: Checkpoint, path: Path) -> Checkpoint:
    """With what is known of its codebook by now."""
    return replace(read, tensors={**read.tensors, **_notes(read.tensors, path.parent)})


def _training() -> Any:
    from .training.kind import TRAINED

    return TRAINED


K2N_KIND: ModelKind = ModelKind(
    name="k2n",
    title="K2N",
    files=lambda path: [path],
    complete=COMPLETE,
    split=split,
    assemble=assemble,
    fix_dtype=fix_dtype,
    build=build_model,
    defaults=replace(PAPER, guidance=GUIDANCE),
    prepare=prepare,
    dtypes=(torch.float16,),
    training={"k2n": _training},
)
