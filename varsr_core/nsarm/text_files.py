"""Features of prompts in files, so that no text encoder is needed to use them again."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import CheckpointError, InputError
from ..files.soundness import check_plain
from ..files.tensors import read_tensors, write_safetensors
from .results import TextFeatures
from .text import UNCONDITIONAL

TENSOR, PROMPT = "text_features", "prompt"


def load_text(path: Path) -> TextFeatures:
    """Reads what `save_text` wrote. Raises CheckpointError."""
    groups, metadata = read_tensors(path)
    for tensors in groups:
        if TENSOR in tensors:
            check_plain({f"{TENSOR} of {path.name}": tensors[TENSOR]})
            features = tensors[TENSOR].float()
            check_features(features, path.name)
            return TextFeatures(features, metadata.get(PROMPT, ""))
    raise CheckpointError(
        f"{path.name} holds no {TENSOR!r}; NSARM Encode Text writes such files with save_as"
    )


def save_text(text: TextFeatures, path: Path) -> None:
    """Writes features as float32, with the prompt as metadata. Raises CheckpointError."""
    check_features(text.features, "text")
    write_safetensors(
        path,
        {TENSOR: text.features.float().cpu()},
        {PROMPT: text.prompt},
        cast=lambda name, tensor: tensor.dtype,
    )


def check_features(features: torch.Tensor, name: str, width: int | None = None) -> None:
    """Refuses what is no (1 to 512, width) of finite numbers. Raises InputError."""
    shape = tuple(features.shape)
    if len(shape) != 2 or not 0 < shape[0] <= UNCONDITIONAL or width not in (None, shape[1]):
        raise InputError(
            f"{name} has features of shape {shape}; (tokens, {width or 'width'}) with 1 to "
            f"{UNCONDITIONAL} tokens are expected. Encode the prompt with flan-t5-xl"
        )
    if not features.isfinite().all():
        raise InputError(f"{name} has NaN or infinite features; run the text encoder in fp32")
