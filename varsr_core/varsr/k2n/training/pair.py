"""K2N and the tokenizer that it is trained for: made, started, saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ....checkpoint import load_checkpoint
from ....errors import InputError
from ....family import Checkpoint
from ....files.fingerprint import fingerprint
from ....nn.map_network import MapConfig
from ....training.config import RECIPES, TrainingConfig, from_plain, read_config
from ....training.map_networks import init_layers
from ....training.starting.new_model import config_from_json
from ....training.starting.sources import Sources
from ...config import NORM_GROUPS, VARSRConfig
from ...family import VARSR_FAMILY, model_files
from ...kinds import check_restores
from ...model import VARSR, to_network
from ...weights import build_model as build_varsr
from ..coarse import check_fit
from ..config import REDUCTION, SIDES, EncoderConfig, K2NConfig
from ..kind import K2N_KIND, codebook_digest, read_k2n
from ..model import K2N
from ..weights import build_model

RESIDUAL_SCALE = 0.1  # of input and features, before the first step (public configuration)


@dataclass(frozen=True)
class K2NSizes:
    """Of a new network, one value a branch; defaults are the released ones.

    extractor: channels of the convolutions that all branches share
    """

    sides: tuple[int, ...] = SIDES
    widths: tuple[int, ...] = (384, 448, 768, 864, 1728)
    layers: tuple[int, ...] = (4, 6, 7, 8, 9)
    heads: tuple[int, ...] = (8, 8, 8, 8, 16)
    extractor: tuple[int, ...] = (128, 256)


class FrozenTokenizer(nn.Module):
    """The half of VARSR's tokenizer that turns pictures into tokens."""

    def __init__(self, model: VARSR) -> None:
        super().__init__()
        self.config = model.config
        self.encoder, self.pre_quantizer = model.encoder, model.pre_quantizer
        self.quantizer = model.quantizer

    def encode_latent(self, image: Tensor) -> Tensor:
        """As of VARSR."""
        return self.pre_quantizer(self.encoder(to_network(image, torch.float32))).float()

    @torch.no_grad()
    def first_ids(self, image: Tensor, scales: int) -> list[Tensor]:
        """(N, 3, tile, tile) in [0, 1] -> ids (N, side * side) of the first scales."""
        rest, ids = self.encode_latent(image), []
        for scale in range(scales):
            ids.append(self.quantizer.nearest(self.quantizer.downsample(rest, scale)))
            rest = rest - self.quantizer.residual(ids[-1], scale)
        return ids


class TrainedPair(nn.Module):
    """
    network:   what learns
    tokenizer: what tells it the targets, and stays as it is
    """

    def __init__(self, network: K2N, tokenizer: FrozenTokenizer) -> None:
        super().__init__()
        self.network, self.tokenizer = network, tokenizer

    @property
    def tile_size(self) -> int:
        """Side of the pictures whose first maps the network predicts, in pixels."""
        return self.network.lq_size * REDUCTION


def started(config: TrainingConfig, sources: Sources) -> TrainedPair:
    """A new network of the configured sizes, or that of a file, beside the tokenizer of a VARSR.

    Raises InputError where the two do not fit, or none is named.
    """
    if sources.base is None:
        raise InputError(
            "K2N is trained for one VARSR model, whose tokenizer tells it what to predict; name "
            "that model's file with --base"
        )
    tokenizer = _tokenizer(sources.base)
    codebook = tokenizer.quantizer.codebook.weight
    if sources.start is None:
        network = _configured(config, tokenizer)
    else:
        tensors = read_k2n(sources.start).tensors
        network = build_model({name: t.detach().clone() for name, t in tensors.items()})
    check_fit(network.config, tokenizer.config, codebook)
    return TrainedPair(network, tokenizer)


def released_sizes(config: TrainingConfig) -> TrainedPair:
    """The configured network beside a tokenizer like the released one; weights are no good.

    Raises InputError where the two do not fit.
    """
    released = config_from_json(read_config(RECIPES / "varsr.json").sizes)
    tokenizer = FrozenTokenizer(VARSR(released))
    network = _configured(config, tokenizer)
    check_fit(network.config, released, tokenizer.quantizer.codebook.weight)
    return TrainedPair(network, tokenizer)


def _configured(config: TrainingConfig, tokenizer: FrozenTokenizer) -> K2N:
    return new_network(from_plain(K2NSizes, config.sizes, "sizes"), tokenizer, config.seed)


def _tokenizer(base: Path) -> FrozenTokenizer:
    model = build_varsr(load_checkpoint(model_files(base), VARSR_FAMILY).tensors)
    check_restores(model)
    if model.config.tokenizer.norm_groups != NORM_GROUPS:
        raise InputError(
            f"the tokenizer of {base.name} has group norms of {model.config.tokenizer.norm_groups} "
            f"groups; files of K2N know {NORM_GROUPS} alone, those of the released VARSR"
        )
    return FrozenTokenizer(model)


def new_network(sizes: K2NSizes, tokenizer: FrozenTokenizer, seed: int) -> K2N:
    """On the CPU: the encoder begins as the tokenizer's, all else is drawn.

    The global random state is left as it was.
    Raises InputError for impossible sizes.
    """
    config = _config(sizes, tokenizer.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = K2N(config)
        init_layers(network)
    for scale in (network.input_scale, network.feature_scale):
        nn.init.constant_(scale.weight, RESIDUAL_SCALE)
    network.encoder.load_state_dict(tokenizer.encoder.state_dict())
    network.pre_quantizer.load_state_dict(tokenizer.pre_quantizer.state_dict())
    return network


def _config(sizes: K2NSizes, varsr: VARSRConfig) -> K2NConfig:
    coder = varsr.tokenizer
    encoder = EncoderConfig(
        widths=coder.widths,
        encoder_blocks=coder.encoder_blocks,
        attention_levels=coder.attention_levels,
        latent_channels=coder.latent_channels,
    )
    side = varsr.schedule.final_side
    try:
        maps = MapConfig(side, sizes.extractor, sizes.widths, sizes.layers, sizes.heads)
        return K2NConfig(encoder, maps, sizes.sides)
    except ValueError as error:
        raise InputError(f"sizes: {error}") from error


def checkpoint(pair: TrainedPair) -> Checkpoint:
    """The network as a file, with the note of the codebook that its maps are made of."""
    network = pair.network
    tensors = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    tensors["sides"] = torch.tensor(network.config.sides)
    tensors["heads"] = torch.tensor(network.config.maps.heads)
    tensors["codebook"] = codebook_digest(pair.tokenizer.quantizer.codebook.weight)
    return Checkpoint(K2N_KIND, tensors, fingerprint(tensors), {})
