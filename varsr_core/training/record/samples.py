"""Pictures on the way: what the model makes of a batch, beside what it got and should make."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...tiling.noise import TileSeed
from ...tiling.restorer import restore
from ...varsr.model import VARSR
from ...varsr.restorer import VARSRRestorer
from ...varsr.sampling import RefineSettings, SampleSettings
from ...varsr.weights import build_model
from ..starting.modulation import folded_weights

MAX_SAMPLES = 4


@torch.no_grad()
def save_samples(model: VARSR, lq: Tensor, target: Tensor, path: Path) -> None:
    """Writes one row a picture: low quality, unrefined, refined, target; without guidance."""
    device = next(model.parameters()).device
    lq, target = lq[:MAX_SAMPLES].to(device), target[:MAX_SAMPLES].to(device)
    seeds = [TileSeed(number, number) for number in range(len(lq))]
    with torch.autocast(device.type, enabled=False):
        unrefined, refined = (
            restore(VARSRRestorer(model, SampleSettings(guidance=0), refining), lq, seeds)
            for refining in (RefineSettings(strength=0), RefineSettings(guidance=0))
        )
    columns = torch.cat((lq, unrefined, refined, target), dim=3)
    sheet = columns.permute(0, 2, 3, 1).flatten(0, 1)
    Image.fromarray(sheet.mul(255).round().byte().cpu().numpy()).save(path)


def lone_model(model: VARSR) -> VARSR:
    """A copy with weights of its own, for one process to run while several share the other out."""
    return build_model({name: tensor.clone() for name, tensor in folded_weights(model).items()})
