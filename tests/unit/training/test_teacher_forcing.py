"""One pass computes what the cached sampler computes scale by scale."""

import torch

from helpers import models
from helpers.each import each
from varsr_core.nn.schedule import ScaleSchedule
from varsr_core.training.steps.teacher_forcing import AllScales, all_hidden
from varsr_core.varsr.sampling import SampleSettings, sample_scale, start_sampling
from varsr_core.varsr.weights import build_model, convert


@each("quality_class", [0, 1])
def test_one_pass_equals_the_cached_steps(quality_class):
    model = build_model(convert(models.reference_weights()))
    schedule, tile = model.config.schedule, model.config.tile_size
    settings = SampleSettings(guidance=0.0, quality_class=quality_class)
    with torch.no_grad():
        prefix = model.encode_prefix(models.picture(tile, tile, images=2))
        state = start_sampling(model, prefix, settings, models.own_seeds(2))
        logits = []
        for scale in range(schedule.num_scales):
            sample_scale(model, state, scale, settings)
            logits.append(model.transformer.logits(state.hidden, state.classes))
        hidden = all_hidden(model, prefix, state.latents[1:], state.classes)
        found = model.transformer.logits(hidden, state.classes)
    assert (found - torch.cat(logits, dim=1)).abs().max() < 1e-4


def test_a_scale_sees_itself_and_all_before():
    prefix, levels = 9, [0] * 10 + [1] * 4 + [2] * 9
    alike = torch.zeros(1, 1, len(levels), 4)
    tokens = torch.eye(len(levels))[None, None]  # what a row sees, it sees equally much of
    seen = AllScales(ScaleSchedule((1, 2, 3)))(0, alike, alike, tokens)[0, 0] > 0
    for row, level in enumerate(levels):
        assert seen[row].tolist() == [other <= level for other in levels]
    assert seen[:prefix, prefix].all(), "the prefix does not see the class token"
