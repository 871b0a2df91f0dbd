"""A small decoder, and canvases decoded at once and in pieces."""

from functools import cache

import torch
from hypothesis import settings

from varsr_core.runtime.execution import Execution, Session
from varsr_core.tiling import decode as tiled_decode
from varsr_core.tiling.decode import decode_canvas
from varsr_core.tiling.group_norm import own_norm
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.decoding import VARSRDecoder

many = settings(max_examples=120, deadline=None, derandomize=True, database=None)

SIDE = 16  # cells of a tile of the small models
PIXELS = 4  # of a cell
# Attention levels and decoder blocks: the split between coarse and fine lies with the former.
SHAPES = [((), 1), ((2,), 1), ((2,), 2), ((1, 2), 1), ((0,), 1)]
# Canvases of no more than 2x2 tiles, whose norms are measured whole.
SIZES = [(16, 17), (32, 32), (31, 33), (17, 60), (64, 16)]


@cache
def small_decoder(attention_levels=(2,), blocks=1):
    tokenizer = {
        "widths": [32, 64, 96],
        "encoder_blocks": 1,
        "decoder_blocks": blocks,
        "attention_levels": list(attention_levels),
        "latent_channels": 8,
        "codebook_size": 16,
        "phi_count": 2,
        "norm_groups": 8,
    }
    transformer = {
        "width": 16,
        "depth": 1,
        "heads": 2,
        "mlp_width": 16,
        "prefix_widths": [8, 8, 8],
        "num_classes": 2,
    }
    sizes = {
        "tokenizer": tokenizer,
        "transformer": transformer,
        "refiner": {"width": 16, "depth": 1, "frequencies": 8},
        "schedule": [1, 2, 4, 8, SIDE],
    }
    return VARSRDecoder(new_model(config_from_json(sizes), seed=0))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def session_of(at_once=1, plan=(), **services):
    return Session(Execution(prepare=lambda: at_once, **services), plan)


def decoded(latent, decoder, at_once=2, plan=(), **services):
    """(C, H, W) -> (3, H * pixels, W * pixels), piece by piece."""
    height, width = latent.shape[1:]
    rgb = torch.full((3, height * decoder.pixels, width * decoder.pixels), torch.nan)
    decode_canvas(latent, decoder, session_of(at_once, plan, **services), rgb)
    return rgb


def decoded_at_once(latent, decoder):
    return decoder.fine(decoder.coarse(latent[None]), own_norm)[0]


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


class Wrapped:
    """A decoder with something of its own."""

    def __init__(self, decoder, **own):
        self.decoder = decoder
        self.__dict__ |= own

    def __getattr__(self, name):
        return getattr(self.decoder, name)


class Short(Wrapped):
    """A decoder that runs out of memory beyond `most` features at once in its fine part."""

    def fine(self, features, norm):
        self.tried.append(features[:, 0].numel())
        if self.tried[-1] > self.most:
            raise MemoryError
        return self.decoder.fine(features, norm)


MEASURE = tiled_decode._measure
