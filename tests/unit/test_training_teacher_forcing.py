"""One masked pass computes what the cached sampler computes scale by scale."""

import models
import pytest
import torch

from varsr_core.scales import ScaleSchedule
from varsr_core.training.teacher_forcing import (
    BlockCausalAttention,
    all_hidden,
    block_causal_mask,
)
from varsr_core.varsr.sample import SampleSettings, sample_scale, start_sampling
from varsr_core.varsr.weights import build_model, convert


@pytest.mark.parametrize("quality_class", [0, 1])
def test_masked_pass_equals_the_cached_steps(quality_class):
    weights = convert(models.reference_weights())
    stepwise = build_model(weights)
    schedule = stepwise.config.schedule
    whole = build_model(weights, attention=BlockCausalAttention(schedule))
    tile = stepwise.config.tile_size
    settings = SampleSettings(guidance=0.0, quality_class=quality_class)
    with torch.no_grad():
        prefix = stepwise.encode_prefix(models.picture(tile, tile, images=2))
        state = start_sampling(stepwise, prefix, settings, models.own_seeds(2))
        logits = []
        for scale in range(schedule.num_scales):
            sample_scale(stepwise, state, scale, settings)
            logits.append(stepwise.transformer.logits(state.hidden, state.classes))
        hidden = all_hidden(whole, prefix, state.latents[1:], state.classes)
        masked = whole.transformer.logits(hidden, state.classes)
    assert (masked - torch.cat(logits, dim=1)).abs().max() < 1e-4


def test_mask_lets_a_scale_see_itself_and_all_before():
    mask = block_causal_mask(ScaleSchedule((1, 2, 3)))
    prefix, levels = 9, [0] * 10 + [1] * 4 + [2] * 9
    assert mask.shape == (len(levels), len(levels))
    for row, level in enumerate(levels):
        assert mask[row].tolist() == [other <= level for other in levels]
    assert mask[:prefix, prefix].all(), "the prefix does not see the class token"
