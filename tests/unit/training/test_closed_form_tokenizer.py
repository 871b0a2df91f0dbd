"""A new tokenizer whose first weights are solved for: what it can do before its first step."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.paths import KITTEN
from helpers.training import SIZES, decibels
from varsr_core.training.closed_form.tokenizer import linear_start, tokenizer_fits
from varsr_core.training.stages.tokenizer import TokenizerSettings
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.config import TokenizerConfig

DEVIATION = TokenizerSettings.deviation


# With room for all: 4 pixels a token; 2 pixels; just wide enough; as narrow at its ends as can be,
# with an odd number of channels in a group; blocks and attention, which begin closed.
FITTING = {
    "4 pixels": {"widths": (16, 48, 64), "latent_channels": 16, "norm_groups": 4},
    "2 pixels": {"widths": (16, 48), "latent_channels": 8, "norm_groups": 4},
    "full": {"widths": (12, 16, 26), "latent_channels": 12, "norm_groups": 1},
    "odd groups": {"widths": (15, 48, 36), "latent_channels": 12, "norm_groups": 3},
    "deep": {
        "widths": (16, 48, 64),
        "latent_channels": 16,
        "norm_groups": 4,
        "encoder_blocks": 2,
        "decoder_blocks": 3,
        "attention_levels": (2,),
    },
}
NOT_FITTING = {
    "one level": {"widths": (64,), "latent_channels": 3, "norm_groups": 4},
    "no norm to speak of": {"widths": (32, 64, 96), "latent_channels": 16, "norm_groups": 32},
    "groups of pairs": {"widths": (16, 48, 64), "latent_channels": 16, "norm_groups": 8},
    "equal at the fine end": {"widths": (48, 48, 64), "latent_channels": 16, "norm_groups": 4},
    "equal at the coarse end": {"widths": (16, 64, 64), "latent_channels": 16, "norm_groups": 4},
    "more latent than room": {"widths": (16, 48, 36), "latent_channels": 17, "norm_groups": 4},
    "more latent than width": {"widths": (16, 24, 128), "latent_channels": 25, "norm_groups": 4},
    "too narrow to unfold": {"widths": (8, 48, 64), "latent_channels": 16, "norm_groups": 1},
    "too narrow to fold": {"widths": (16, 48, 8), "latent_channels": 3, "norm_groups": 1},
    "odd groups too narrow": {"widths": (10, 16), "latent_channels": 6, "norm_groups": 2},
    "odd groups of the latent": {"widths": (16, 36), "latent_channels": 14, "norm_groups": 4},
}


def sizes(widths, **tokenizer):
    """The test model's, with another tokenizer."""
    levels = len(widths)
    prefix = [16] * (levels - 1) + [32]
    return {
        **SIZES,
        "tokenizer": {**SIZES["tokenizer"], "widths": widths, **tokenizer},
        "transformer": {**SIZES["transformer"], "prefix_widths": prefix},
    }


def model_of(case="4 pixels", seed=0):
    return new_model(config_from_json(sizes(**FITTING[case])), seed)


def crops(model):
    """Of the left half of the photograph, to solve from, and of the other."""
    pixels = torch.from_numpy(np.array(Image.open(KITTEN).convert("RGB")))
    photograph = pixels.permute(2, 0, 1).float() / 255
    side = model.config.tile_size
    parts = photograph.unfold(1, side, side).unfold(2, side, side)  # 3, rows, columns, side, side
    left, right = parts.permute(1, 2, 0, 3, 4).chunk(2, dim=1)
    return left.flatten(0, 1), right.flatten(0, 1)


@pytest.mark.parametrize("case", FITTING)
def test_pictures_not_seen_are_reconstructed_at_once(case):
    model = model_of(case)
    seen, held_out = crops(model)
    assert decibels(model, held_out) < 15
    assert tokenizer_fits(model.config.tokenizer)
    linear_start(model, seen, DEVIATION)
    assert decibels(model, held_out) > 26
    assert decibels(model, held_out) > decibels(model, seen) - 1


@pytest.mark.parametrize("case", FITTING)
def test_latent_has_the_deviation_that_training_holds_it_to(case):
    model = model_of(case)
    seen, held_out = crops(model)
    linear_start(model, seen, DEVIATION)
    for pictures in (seen, held_out):
        with torch.no_grad():
            found = model.encode_latent(pictures).square().mean().sqrt()
        assert found == pytest.approx(TokenizerSettings().deviation, abs=0.05)


def test_brightness_and_contrast_come_through_the_norms():
    model = model_of()
    linear_start(model, crops(model)[0], DEVIATION)
    side = model.config.tile_size
    with torch.no_grad():
        for level in (0.1, 0.5, 0.9):
            flat = torch.full((1, 3, side, side), level)
            found = model.decode(model.encode_latent(flat))
            assert found.mean().item() == pytest.approx(level, abs=0.1)
        faint = 0.5 + 0.1 * (crops(model)[1] - 0.5)
        found = model.decode(model.encode_latent(faint))
    assert found.std().item() == pytest.approx(faint.std().item(), rel=0.1)


@pytest.mark.parametrize("case", NOT_FITTING)
def test_sizes_without_room_do_not_fit(case):
    tokenizer = {**SIZES["tokenizer"], **NOT_FITTING[case]}
    assert not tokenizer_fits(TokenizerConfig(**tokenizer))


def test_result_depends_on_the_model_and_the_pictures_alone():
    before = torch.get_rng_state()
    found = []
    for _ in range(2):
        model = model_of()
        linear_start(model, crops(model)[0], DEVIATION)
        found.append(model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_way_through_the_tokenizer_is_set():
    model, drawn = model_of(), model_of().state_dict()
    linear_start(model, crops(model)[0], DEVIATION)
    parts = ("encoder.", "decoder.", "pre_quantizer.", "post_quantizer.", "quantizer.phi.")
    changed = {name for name, t in model.state_dict().items() if not torch.equal(t, drawn[name])}
    assert changed
    assert all(name.startswith(parts) for name in changed)
    assert not any("conv1" in name for name in changed), "branches stay as drawn but for their ends"


def test_what_is_set_can_be_trained_further():
    """Closed branches must open: every weight behind them gets a gradient."""
    model = model_of()
    linear_start(model, crops(model)[0], DEVIATION)
    pictures = crops(model)[1]
    loss = (model.decode_unclamped(model.encode_latent(pictures)) - pictures).abs().mean()
    loss.backward()
    ends = [
        name
        for name, parameter in model.named_parameters()
        if name.startswith(("encoder.", "decoder."))
        and name.endswith(("conv2.weight", "projection.weight", "shortcut.weight"))
        and not parameter.grad.any()
    ]
    assert not ends
