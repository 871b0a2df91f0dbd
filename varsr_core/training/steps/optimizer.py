"""Which weights learn at which rate, and which ones decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ...varsr.refiner import Refiner

DECAY = ("matrices", "public")
SPARED_NAMES = ("scale_embedding",)
SPARED_KINDS = (Refiner, nn.LayerNorm, nn.GroupNorm)


def parameter_groups(
    parts: Sequence[nn.Module], factors: Sequence[float], weight_decay: float, decay: str
) -> list[dict[str, Any]]:
    """Groups for an optimiser: parts of the same rate together, first what decays.

    factors: of the learning rate, one for each part; a group's is its `factor`
    decay:   "matrices": all of two dimensions and more decay, as is usual; "public": of those
             neither the refiner's nor the scale embedding, as in VARSR's public code
    """
    spared = _spared(parts) if decay == "public" else set()

    def decays(parameter: Tensor) -> bool:
        return parameter.ndim >= 2 and id(parameter) not in spared

    groups = []
    for factor in dict.fromkeys(factors):
        chosen = [part for part, own in zip(parts, factors, strict=True) if own == factor]
        parameters = [p for part in chosen for p in part.parameters()]
        for wanted, rate in ((True, weight_decay), (False, 0.0)):
            kept = [p for p in parameters if decays(p) == wanted]
            groups.append({"params": kept, "weight_decay": rate, "factor": factor})
    return groups


def _spared(parts: Sequence[nn.Module]) -> set[int]:
    """Ids of parameters that do not decay whatever their shape."""
    return {
        id(parameter)
        for part in parts
        for name, module in part.named_modules()
        if isinstance(module, SPARED_KINDS) or name.rpartition(".")[2] in SPARED_NAMES
        for parameter in module.parameters()
    }
