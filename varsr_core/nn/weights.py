"""What every family does with weights: names of a release to ours, dtypes, strict building."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files.lazy_tensor import LazyTensor, StateDict
from ..files.soundness import check_finite
from .float8 import FLOAT8

NOTHING = re.compile(r"(?!)")  # matches no name
MAX_QUERY_SCALE = math.log(100.0)

RenameTable = Sequence[tuple[str, str]]
"""Pattern of a released name -> ours; the first that matches whole counts."""

Network = TypeVar("Network", bound=nn.Module)


def rename(name: str, table: RenameTable, prefix: str = "") -> str | None:
    """Our name of a released tensor, or None where the table has none."""
    for pattern, ours in table:
        match = re.fullmatch(pattern, name)
        if match:
            return prefix + match.expand(ours)
    return None


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def convert_names(
    reference: StateDict,
    title: str,
    *,
    rename: Callable[[str], str | None],
    left_out: Callable[[str], bool],
    fold: Callable[[StateDict], StateDict],
) -> StateDict:
    """Released names -> ours. Renamed tensors are passed on as they are, mapped ones stay mapped.

    title:    of the family, for people
    rename:   our name of a tensor that is kept as it is, or None
    left_out: whether a tensor is dropped, or folded into others
    fold:     the tensors that are computed from those of a release
    Raises CheckpointError for a name that is not known, and for one that is missing.
    """
    converted: dict[str, Tensor | LazyTensor] = {}
    unknown = []
    for name, tensor in reference.items():
        if left_out(name):
            continue
        ours = rename(name)
        if ours is None:
            unknown.append(name)
        else:
            converted[ours] = tensor
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} tensors are unknown to {title}, e.g. "
            f"{', '.join(sorted(unknown)[:3])}; "
            "this is another model, or a newer release than this one knows"
        )
    try:
        return {**converted, **fold(reference)}
    except KeyError as error:
        raise CheckpointError(f"the {title} checkpoint lacks the tensor {error}") from None


def query_scale(logarithm: Tensor) -> Tensor:
    """The factor on the queries of each head, (H,) float32, as attention applies it."""
    return logarithm.flatten().float().clamp(max=MAX_QUERY_SCALE).exp()


def behind_zeros(values: Tensor) -> Tensor:
    """The bias of keys and values: keys have none."""
    return torch.cat((torch.zeros_like(values), values))


def rotary_order(width: int, heads: int) -> Tensor:
    """Rows of a released qkv matrix in the order in which apply_rope() pairs channels: (3 * D,).

    Pairs (0, 1), (2, 3), ... of a head become (0, n), (1, n + 1), ... with n half a head.
    """
    channels = torch.arange(width).view(heads, -1)
    paired = torch.cat((channels[:, 0::2], channels[:, 1::2]), dim=1).flatten()
    return torch.cat((paired, paired + width, torch.arange(2 * width, 3 * width)))


def autoencoder_dtype(dtype: torch.dtype, wide_dtype: torch.dtype) -> torch.dtype:
    """Of an autoencoder beside networks of `dtype`."""
    # float16 overflows in the decoders of such autoencoders and turns pictures black.
    return wide_dtype if dtype == torch.float16 else dtype


@dataclass(frozen=True)
class WeightRules:
    """How the weights of a family become a model.

    title:       of the family, for people
    float32:     names of small tensors whose arithmetic is float32 whatever the dtype of the model
    autoencoder: how the names of its autoencoder's tensors begin
    sizes:       tensors that are no weights: they tell what the shapes of weights do not
    float8:      names of matrices that stay in fp8, as the layers that have them expect
    """

    title: str
    float32: re.Pattern[str]
    autoencoder: tuple[str, ...]
    sizes: tuple[str, ...]
    float8: re.Pattern[str] = NOTHING

    def fix_dtype(self, name: str, tensor: Tensor | LazyTensor, dtype: torch.dtype) -> torch.dtype:
        """The dtype a tensor of ours has in a model or a file of `dtype`."""
        if not tensor.is_floating_point():  # sizes, in any of torch's kinds of whole numbers
            return torch.int32 if tensor.dtype == torch.int32 else torch.int64
        if tensor.dtype == FLOAT8 and self.float8.fullmatch(name):
            return FLOAT8
        if self.float32.fullmatch(name):
            return torch.float32
        return torch.bfloat16 if dtype == FLOAT8 else dtype

    def check_kinds(self, weights: StateDict) -> None:
        """Refuses weights without values, and such that are no floating-point numbers."""
        for name, tensor in weights.items():
            if tensor.numel() == 0:
                raise CheckpointError(f"{name} has shape {tuple(tensor.shape)}, without any values")
            if name not in self.sizes and not tensor.is_floating_point():
                raise CheckpointError(
                    f"{name} is of {tensor.dtype}; weights are floating-point numbers"
                )

    def check(self, make: Callable[[], nn.Module], weights: StateDict) -> None:
        """Refuses converted weights with a tensor too many, too few or of the wrong shape.

        make: a model of the sizes that the weights tell
        """
        check_fit(self.title, on_meta(make), self._learned(weights))

    def build(
        self,
        make: Callable[[], Network],
        weights: StateDict,
        dtype: torch.dtype,
        wide_dtype: torch.dtype,
    ) -> Network:
        """A model from converted weights, strictly: nothing missing, nothing left over.

        Tensors that have the right dtype already are used as they are, mapped ones without a copy.
        """
        model, coder = on_meta(make), autoencoder_dtype(dtype, wide_dtype)
        state = {
            name: tensor.to(
                self.fix_dtype(name, tensor, coder if name.startswith(self.autoencoder) else dtype)
            )
            for name, tensor in self._learned(weights).items()
        }
        # What is larger than float16 holds became infinite just now.
        check_finite(
            {name: tensor for name, tensor in state.items() if tensor.dtype == torch.float16},
            "they are too large for fp16. Choose bf16 or fp32",
        )
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def _learned(self, weights: StateDict) -> StateDict:
        return {name: tensor for name, tensor in weights.items() if name not in self.sizes}


def on_meta(make: Callable[[], Network]) -> Network:
    """A network without weights, on the meta device."""
    with torch.device("meta"):
        return make()


def check_fit(name: str, model: nn.Module, weights: StateDict) -> None:
    """Refuses weights with a tensor too many, too few or of the wrong shape.

    Not left to load_state_dict: layers of a host may take what they are given unchecked.

    name:  of the family, for people
    model: of the sizes that the weights tell; may lie on the meta device
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    faults += [
        f"{name} has shape {found[name]}, {expected[name]} is expected"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if faults:
        raise CheckpointError(
            f"{len(faults)} tensors do not fit the rest of the {name} model: "
            f"{'; '.join(sorted(faults)[:3])}. Download or convert the files again"
        )
