"""Identity of weights: a short text, which holds only for weights that are alike."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from .lazy_tensor import StateDict

SAMPLES = 64  # values of a tensor that enter, and up to twice as many
# Two files of one model differ by what casts to bf16 and fp16 round off: 0.8 % and 6e-8.
RELATIVE, ABSOLUTE = 0.01, 1e-7


class Fingerprint(str):
    """As files and journals keep it: a text. In memory, two are equal only if the weights are, too.

    The metadata of a file may tell the fingerprint of weights before they were cast, which cannot
    be told from those that it holds. So each keeps what its own weights are like: some values of
    every tensor. Files of one dtype are compared by all of their bytes.

    samples:  some values of each tensor, as the file has them; without them only the text counts
    contents: hash of the file's tensors, or empty for a release
    checked:  whether the file is known to be as it was written, or the text was found from it
    """

    samples: dict[str, Tensor]
    contents: str
    checked: bool

    def __new__(
        cls,
        text: str,
        samples: dict[str, Tensor] | None = None,
        contents: str = "",
        checked: bool = True,
    ) -> Fingerprint:
        made = super().__new__(cls, text)
        made.samples, made.contents, made.checked = samples or {}, contents, checked
        return made

    def __eq__(self, other: object) -> bool:
        if not str.__eq__(self, other):
            return False
        return not isinstance(other, Fingerprint) or self._is_alike(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    @property
    def layout(self) -> str:
        """Hash of names and dtypes, in which conversions of one model may differ."""
        dtypes = sorted((name, str(sample.dtype)) for name, sample in self.samples.items())
        return hashlib.blake2b(repr(dtypes).encode(), digest_size=16).hexdigest()

    def _is_alike(self, other: Fingerprint) -> bool:
        unchecked = not (self.checked and other.checked)
        if unchecked and self.contents and other.contents and self.layout == other.layout:
            return self.contents == other.contents
        common = self.samples.keys() & other.samples.keys()  # fp8 has other tensors for matrices
        return all(_are_close(self.samples[name], other.samples[name]) for name in common)


def fingerprint(tensors: StateDict) -> Fingerprint:
    """Identity of weights: names, shapes and some values of every tensor, as hex."""
    digest, samples = hashlib.blake2b(digest_size=16), sampled(tensors)
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(samples[name].double().numpy().tobytes())
    return Fingerprint(digest.hexdigest(), samples)


def sampled(tensors: StateDict) -> dict[str, Tensor]:
    """Some values of every tensor, (n,) each."""
    flat = ((name, tensor.detach().flatten()) for name, tensor in tensors.items())
    return {name: values[:: max(1, values.numel() // SAMPLES)].clone() for name, values in flat}


def _are_close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return torch.allclose(one.double(), other.double(), rtol=RELATIVE, atol=ABSOLUTE)
