"""Step 7: the largest output of each layer, against the largest number of fp16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tools.gpu.chip import GUIDANCE, Chip
from tools.gpu.networks import ENLARGED, Tiles, built, known, photographs, released
from tools.gpu.notes import Notes
from varsr_core import upscale
from varsr_core.family import Checkpoint
from varsr_core.runtime.execution import Execution
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

LARGEST = torch.finfo(torch.float16).max
PRECISIONS = ("bf16", "fp16")
SHOWN = 6


def run(chip: Chip, notes: Notes, own: Path | None = None) -> None:
    with torch.inference_mode():
        for name in PRECISIONS:
            for model, read in known(chip, own).items():
                notes.attempt(f"{model}, {name}", partial(_photographs, chip, read, name))
            notes.attempt(f"full size, {name}", partial(_random, chip, name))


def _photographs(chip: Chip, model: Checkpoint, precision: str) -> dict[str, object]:
    network = built(model, precision, chip.device)
    guidance = SampleSettings(guidance=GUIDANCE), RefineSettings(guidance=GUIDANCE)
    restorer = VARSRRestorer(network, *guidance)
    pictures = torch.cat([picture[..., :64, :64] for picture in photographs(chip)])
    execution = Execution(chip.device, prepare=lambda: chip.amount.batches[-1])
    return _largest(network, lambda: upscale(pictures, ENLARGED, restorer, execution=execution))


def _random(chip: Chip, name: str) -> dict[str, object]:
    network = released(chip, name)
    return _largest(network, Tiles(chip, network, 1))


def _largest(network: nn.Module, work: Callable[[], object]) -> dict[str, object]:
    with watched(network) as seen:
        try:
            work()
            ended = "well"
        except Exception as error:  # overflow is refused by name, and what led to it is wanted
            ended = f"{type(error).__name__}: {error}"
    layers = {name: (value.item(), dtype) for name, (value, dtype) in seen.items()}
    order = sorted(layers, key=lambda name: -_known(layers[name][0]))
    return {
        "ended": ended,
        "of fp16's largest": _known(layers[order[0]][0]) / LARGEST,
        "largest": {name: layers[name][0] for name in order[:SHOWN]},
        "not finite": [name for name in order if _known(layers[name][0]) == float("inf")][:SHOWN],
        "layers": {name: f"{value:.4g} {dtype}" for name, (value, dtype) in layers.items()},
    }


def _known(value: float) -> float:
    """NaN counts as infinite."""
    return float("inf") if value != value else value  # noqa: PLR0124


@contextmanager
def watched(network: nn.Module) -> Iterator[dict[str, tuple[Tensor, str]]]:
    """While it lasts, the largest output of each layer so far, which waits on the device."""
    seen: dict[str, tuple[Tensor, str]] = {}

    def watch(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
            value = output.abs().amax().float()
            if name in seen:
                value = torch.maximum(seen[name][0], value)  # NaN stays
            seen[name] = value, str(output.dtype).removeprefix("torch.")

    hooks = [
        module.register_forward_hook(lambda _, given, output, name=name: watch(name, output))
        for name, module in network.named_modules()
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
