"""Weights that are finite, and whose products are not: an error that names the tile, no picture."""

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.nsarm_goldens import SIDES, reference, trace
from helpers.upscaling import ONE_BY_ONE, in_mode
from varsr_core.errors import CheckpointError
from varsr_core.nsarm import model as nsarm
from varsr_core.nsarm import sampling as nsarm_sampling
from varsr_core.nsarm import weights as nsarm_weights
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.tiling.overflow import nan_where_overflowed
from varsr_core.upscaling import upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import decode_tokens, encode_prefix, encode_tokens, sample_tokens
from varsr_core.varsr.weights import build_model

NAMED = r"^tile 1 of \d+ has NaN or infinite values after '.+': .* Load it in fp32, or in bf16"


def varsr(name, factor=1e38):
    weights = models.converted_weights()
    return build_model({**weights, name: weights[name] * factor})


VARSR_LAYERS = [
    "prefix_encoder.conv_out.weight",
    "transformer.blocks.0.fc2.weight",
    "transformer.head.weight",
    "word_embed.weight",
    "refiner.final.weight",
    "decoder.conv_in.weight",
    "decoder.up.0.blocks.0.conv2.weight",
]


@pytest.mark.parametrize("top_k", [1, 0, 5])
@each("name", VARSR_LAYERS)
def test_varsr_whose_layer_overflows_makes_no_picture(name, top_k):
    restorer = VARSRRestorer(varsr(name), SampleSettings(guidance=1.0, top_k=top_k, top_p=0.9))
    with pytest.raises(CheckpointError, match=NAMED):
        upscale(models.picture(24, 24), 2.0, restorer)


@each("mode", ["phased", "lock-step", "independent"])
def test_tile_is_named_in_every_mode_and_without_the_refiner(mode):
    model = varsr("transformer.blocks.1.fc1.weight")
    restorer = VARSRRestorer(model, SampleSettings(), RefineSettings(strength=0))
    with pytest.raises(CheckpointError, match=NAMED):
        upscale(models.picture(60, 80), 2.0, restorer, settings=in_mode(mode))


def test_staged_varsr_names_the_tile():
    picture = models.picture(24, 24)
    model = varsr("transformer.head.weight")
    prefix = encode_prefix(model, picture, 2.0, ONE_BY_ONE)
    with pytest.raises(CheckpointError, match=NAMED):
        sample_tokens(model, prefix, SampleSettings(), 0, ONE_BY_ONE)
    with pytest.raises(CheckpointError, match=NAMED):
        encode_tokens(varsr("encoder.conv_in.weight"), picture, 2.0, ONE_BY_ONE)
    model = varsr("decoder.conv_in.weight")
    tokens = encode_tokens(model, picture, 2.0, ONE_BY_ONE)
    with pytest.raises(CheckpointError, match=NAMED):
        decode_tokens(model, tokens, ONE_BY_ONE)


NSARM_LAYERS = [
    "vae.encoder.conv_in.weight",
    "maps.extractor.0.conv.weight",
    "maps.branches.2.narrow.weight",
    "transformer.word_embed.weight",
    "transformer.blocks.0.fc2.weight",
    "transformer.head.weight",
    "vae.decoder.conv_in.weight",
    "vae.decoder.up.0.blocks.0.conv2.weight",
]


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@each("name", NSARM_LAYERS)
def test_nsarm_whose_layer_overflows_makes_no_picture(name, temperature):
    weights = nsarm_weights.convert(reference())
    odd = {**weights, name: weights[name].detach() * 1e38}
    model = nsarm.build_model(odd, sides=SIDES)
    settings = nsarm_sampling.SampleSettings(temperature=temperature)
    with pytest.raises(CheckpointError, match=NAMED):
        upscale(
            models.picture(64, 64), 2.0, NSARMRestorer(model, settings, trace()["in.text_features"])
        )


def test_latents_of_sound_tiles_are_left_alone():
    latent = torch.randn(3, 2, 4, 4)
    logits = torch.randn(3, 5, 7)
    assert torch.equal(nan_where_overflowed(latent, logits), latent)
    for value in (torch.nan, torch.inf, -torch.inf):
        logits[1, 2, 3] = value
        marked = nan_where_overflowed(latent, logits)
        assert marked[1].isnan().all()
        assert torch.equal(marked[::2], latent[::2])
