"""Pictures of few tiles through a tiny model, in one call and stage by stage."""

from functools import lru_cache

import pytest
import torch

from helpers import models
from varsr_core.images.alpha import enlarge_alpha
from varsr_core.images.reference import keep_of_image, match_image_colors
from varsr_core.images.resize import resize
from varsr_core.runtime.defaults import resolved
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_tokens,
    encode_prefix,
    refine_tokens,
    sample_tokens,
)

SEED = 11
SAMPLING = SampleSettings()
REFINING = RefineSettings(steps=2)
ONE_BY_ONE = Execution()
DEFAULTS = UpscaleSettings()
SCALES = 4


class CancelledError(Exception):
    pass


def restorer(sampling=SAMPLING, refining=REFINING, dtype=torch.float32):
    return VARSRRestorer(models.micro_model(dtype=dtype), sampling, refining)


def in_mode(mode, **settings):
    return UpscaleSettings(Tiling(mode), **settings)


def at_once(tiles, **services):
    return Execution(prepare=lambda: tiles, **services)


def staged(image, size, how, settings=DEFAULTS, execution=ONE_BY_ONE):
    model = how.model
    prefix = encode_prefix(model, image, size, execution, settings.tiling)
    tokens = sample_tokens(model, prefix, how.sampling, SEED, execution)
    tokens = refine_tokens(model, tokens, how.refining, SEED, execution)
    decoded = decode_tokens(model, tokens, execution)
    settings = resolved(settings, how.defaults)
    matched = match_image_colors(decoded, image, settings.color_fix, settings.color_strength)
    return keep_of_image(matched, image, settings.fidelity)


@lru_cache
def unbroken(case, mode, tiles=1, top_k=1):
    """What nothing interrupted, kept for several tests."""
    how = restorer(SampleSettings(top_k=top_k))
    return upscale(IMAGES[case], 2.0, how, settings=in_mode(mode), execution=at_once(tiles))


def plainly_enlarged(image, size):
    """The picture that a mask keeps, with its alpha."""
    rgb = resize(image[:, :3].expand(-1, 3, -1, -1), *size)
    return rgb if image.shape[1] < 4 else torch.cat((rgb, enlarge_alpha(image[:, 3:], *size)), 1)


def assert_equal_but_for_rounding(found, expected):
    """On the mean: in a few cells the guided refiner with random weights magnifies it."""
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 1e-4


IMAGES = {
    "one tile": models.picture(30, 32),
    "several tiles": models.picture(50, 40),
    "several pictures": models.picture(30, 50, images=2),
    "with alpha": models.picture(30, 50, channels=4),
    "grey": models.picture(50, 30, channels=1),
    "four pictures": models.picture(50, 30, images=4),
}
FOUR_TILES = IMAGES["several tiles"]
every_mode = pytest.mark.parametrize("mode", TILING_MODES)
