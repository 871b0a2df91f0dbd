"""A model before its first step: sizes from a configuration, weights that train well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...nn.schedule import ScaleSchedule
from ...varsr.config import RefinerConfig, TokenizerConfig, TransformerConfig, VARSRConfig
from ...varsr.model import VARSR
from ...varsr.transformer import ClassModulation

TOKEN_DEVIATION = 0.02  # of embeddings, as in the transformers this one descends from
QUERY_SCALE = 4.0
DENSE_SHARE = 0.1  # of the usual weights


def config_from_json(sizes: Mapping[str, Any]) -> VARSRConfig:
    """A VARSRConfig from nested plain values, as JSON holds them."""

    def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}

    return VARSRConfig(
        tokenizer=TokenizerConfig(**tuples(sizes["tokenizer"])),
        transformer=TransformerConfig(**tuples(sizes["transformer"])),
        refiner=RefinerConfig(**sizes["refiner"]),
        schedule=ScaleSchedule(tuple(sizes["schedule"])),
    )


def new_model(config: VARSRConfig, seed: int) -> VARSR:
    """A model in float32 on the CPU, for training; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VARSR(config)
        _init_transformer(model)
        _init_refiner(model)
        _init_deep_prefix(model)
        # Codes start small and far from each other, as residuals of a unit-sized latent are.
        nn.init.normal_(model.quantizer.codebook.weight, std=0.5)
    return model


def _init_transformer(model: VARSR) -> None:
    """Residual branches start open but small, so that depth does not blow the stream up."""
    transformer = model.transformer
    for table in (
        transformer.class_embedding,
        transformer.position_embedding,
        transformer.scale_embedding,
    ):
        nn.init.normal_(table.weight, std=TOKEN_DEVIATION)
    branch = TOKEN_DEVIATION / math.sqrt(2 * len(transformer.blocks))
    for block in transformer.blocks:
        width = block.qkv.in_features
        _init_modulation(block.modulation, opened=2 * width)  # gamma1, gamma2
        nn.init.constant_(block.query_scale.weight, QUERY_SCALE)
        for layer, deviation in (
            (block.qkv, TOKEN_DEVIATION),
            (block.fc1, TOKEN_DEVIATION),
            (block.projection, branch),
            (block.fc2, branch),
        ):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
    _init_modulation(transformer.head_modulation)
    nn.init.normal_(transformer.head.weight, std=TOKEN_DEVIATION)
    nn.init.zeros_(transformer.head.bias)


def _init_modulation(modulation: nn.Embedding | ClassModulation, opened: int = 0) -> None:
    """The same for every class, in a table as in a layer; the first `opened` values are 1."""
    layer = isinstance(modulation, ClassModulation)
    nn.init.zeros_(modulation.linear.weight if layer else modulation.weight)
    if layer:
        nn.init.zeros_(modulation.linear.bias)
    values = modulation.linear.bias.data if layer else modulation.weight.data
    values[..., :opened] = 1.0


def _init_deep_prefix(model: VARSR) -> None:
    """It starts by saying nothing; its blocks start small, as in ESRGAN."""
    if model.config.transformer.class_to_image or model.prefix_encoder.deep is None:
        return
    deep = model.prefix_encoder.deep
    for layer in deep.blocks.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(DENSE_SHARE)
    nn.init.zeros_(deep.conv_out.weight)
    nn.init.zeros_(deep.conv_out.bias)


def _init_refiner(model: VARSR) -> None:
    """Every block starts as the identity and the prediction at zero, as in DiT."""
    refiner = model.refiner
    for layer in (*(block.modulation for block in refiner.blocks), refiner.final_modulation):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(refiner.final.weight)
    nn.init.zeros_(refiner.final.bias)
