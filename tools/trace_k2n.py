"""What tools/trace.py writes of K2N: its maps and the ids that VARSR is given."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from varsr_core.errors import InputError
from varsr_core.varsr.k2n.coarse import Coarse, nearest
from varsr_core.varsr.k2n.config import REDUCTION
from varsr_core.varsr.k2n.kind import read_k2n
from varsr_core.varsr.k2n.weights import build_model
from varsr_core.varsr.model import VARSR


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--k2n", type=Path, help="K2NSR.pth, or converted")
    parser.add_argument("--lr", type=Path, help="the picture that K2N sees")
    parser.add_argument("--k2n-scales", type=int, default=3)


def given_numbers(arguments: Namespace, model: VARSR, tiles: int) -> dict[str, Tensor]:
    """lr_latent, features, map.k and idx.k of the scales that K2N gives; nothing without it."""
    if arguments.k2n is None:
        return {}
    if arguments.lr is None:
        raise SystemExit("--k2n needs --lr, the picture that it sees")
    lr, side = torch.from_numpy(np.load(arguments.lr)).float(), model.config.tile_size // REDUCTION
    if tuple(lr.shape) != (tiles, 3, side, side):
        raise SystemExit(
            f"--lr has shape {tuple(lr.shape)}; ({tiles}, 3, {side}, {side}) is expected"
        )
    read = read_k2n(arguments.k2n)
    try:
        coarse = Coarse(build_model(read.tensors), arguments.k2n_scales)
        coarse.check(model)
    except InputError as error:
        raise SystemExit(str(error)) from None
    return _numbers(coarse, model, lr)


@torch.inference_mode()
def _numbers(coarse: Coarse, model: VARSR, lr: Tensor) -> dict[str, Tensor]:
    network = coarse.network
    latent = network.pre_quantizer(network.encoder(lr))  # in [-1, 1] already
    grown, features = network.features(latent)
    numbers = {"lr_latent": latent, "features": features}
    for k, found in enumerate(network.predicted(grown, features, coarse.scales)):
        numbers |= {f"map.{k}": found, f"idx.{k}": nearest(model, found).int()}
    return numbers
