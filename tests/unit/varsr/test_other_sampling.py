"""Guidance by a list, scaled spatial guidance, smooth tokens: what sampling can do beside."""

import pytest
import torch
from torch.nn import functional as F

from helpers import models
from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.nn.token_sampling import smooth_weights, truncated
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import Tiling
from varsr_core.tiling.noise import draw_exponential
from varsr_core.varsr import sampling
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import SampleSettings
from varsr_core.varsr.stages import encode_prefix, sample_tokens

ONE_BY_ONE = Execution()
SIDES = (1, 2, 3, 4)


@pytest.fixture
def model():
    return models.micro_model()


@pytest.fixture
def prefix(model):
    return encode_prefix(model, models.picture(40, 50), 2.0, ONE_BY_ONE, Tiling("phased"))


def sample(model, prefix, execution=ONE_BY_ONE, **choices):
    return sample_tokens(model, prefix, SampleSettings(**choices), 5, execution)


def equal(first, second):
    return (
        all(map(torch.equal, first.token_ids, second.token_ids))
        and all(map(torch.equal, first.latents, second.latents))
        and torch.equal(first.hidden, second.hidden)
    )


@each(
    ("listed", "named"),
    [
        ("0, 0.3333333333333333, 0.6666666666666666, 1", {}),
        ("1 x ...", {"guidance_schedule": "constant"}),
        ("0, 0.3333333333333333, 0 x ...", {"unguided_scales": 2}),
    ],
)
def test_a_list_gives_the_bits_of_the_rule_that_it_writes_out(model, prefix, listed, named):
    found = sample(model, prefix, guidance=4.0, guidance_per_scale=listed)
    assert equal(found, sample(model, prefix, guidance=4.0, **named))


def test_a_list_counts_in_place_of_the_schedule(model, prefix):
    chosen = {"guidance": 4.0, "guidance_per_scale": "0, 2, 0, 1"}
    found = sample(model, prefix, **chosen)
    assert equal(found, sample(model, prefix, **chosen, guidance_schedule="constant"))
    assert not equal(found, sample(model, prefix, guidance=4.0))


def test_a_list_for_another_number_of_scales_is_refused_before_any_work(model, monkeypatch):
    monkeypatch.setattr(sampling, "next_hidden", None)
    restorer = VARSRRestorer(model, SampleSettings(guidance_per_scale="0, 1"))
    with pytest.raises(InputError, match=r"^guidance_per_scale: it lists 2 scales; .+ has 4\."):
        restorer.task(0)


def logits_of(model, prefix, monkeypatch, execution=ONE_BY_ONE, **choices):
    """Guided logits of each scale, and those that tokens were drawn from, of a run of one tile."""
    guided, drawn = [], []
    plain, draw = sampling.scale_logits, sampling.draw_tokens

    def record(*args):
        guided.append(plain(*args))
        return guided[-1]

    def record_drawn(logits, **settings):
        drawn.append(logits)
        return draw(logits, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "scale_logits", record)
        patch.setattr(sampling, "draw_tokens", record_drawn)
        sample(model, prefix, execution, **choices)
    return guided, drawn


def test_spatial_guidance_moves_logits_away_from_those_of_the_scale_before(model, monkeypatch):
    prefix = encode_prefix(model, models.picture(16, 16), 2.0, ONE_BY_ONE)
    guided, drawn = logits_of(model, prefix, monkeypatch, ssg=0.7)
    assert torch.equal(drawn[0], guided[0])
    for scale in (1, 2, 3):
        maps = guided[scale - 1].transpose(1, 2).unflatten(2, (SIDES[scale - 1], -1))
        prior = F.interpolate(maps, (SIDES[scale],) * 2, mode="bilinear").flatten(2)
        expected = guided[scale] + 0.7 * (guided[scale] - prior.transpose(1, 2))
        torch.testing.assert_close(drawn[scale], expected)


def test_spatial_guidance_of_0_changes_no_bit_and_keeps_no_logits(model, prefix):
    found = sample(model, prefix, ssg=0.0)
    assert equal(found, sample(model, prefix))
    assert not equal(found, sample(model, prefix, ssg=1.0))


def test_it_keeps_the_logits_of_two_scales_at_most(model):
    prefix = encode_prefix(model, models.picture(16, 16), 2.0, ONE_BY_ONE)
    settings = SampleSettings(ssg=1.0)
    state = sampling.start_sampling(model, prefix.tokens, settings, models.own_seeds(1))
    for scale in range(4):
        sampling.sample_scale(model, state, scale, settings)
        assert sorted(state.priors) == [k for k in (scale - 1, scale) if k >= 0]


def test_a_scale_that_is_done_again_gives_the_same(model):
    prefix = encode_prefix(model, models.picture(16, 16), 2.0, ONE_BY_ONE)
    settings = SampleSettings(ssg=1.0, top_k=20, smooth=True)
    state = sampling.start_sampling(model, prefix.tokens, settings, models.own_seeds(1))
    for scale in range(4):
        sampling.sample_scale(model, state, scale, settings)
        first = state.latent
        state.rewind(scale)
        sampling.sample_scale(model, state, scale, settings)
        assert torch.equal(state.latent, first)


def test_smooth_weights_are_those_of_the_public_formula():
    logits = 3 * torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(1))
    drawn = draw_exponential((5, 40), [3, 4])
    assert (drawn > 0).all()
    for ratio, tau in [(0.0, 0.27), (0.5, 0.27 * 0.525), (1.0, 0.27 * 0.05)]:
        expected = ((logits.double() * (1 + ratio) - drawn.double().log()) / tau).softmax(-1)
        found = smooth_weights(logits, ratio, drawn)
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)


def test_tokens_that_are_left_out_do_not_count_in_a_mean():
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    kept = truncated(logits, top_k=5, top_p=1.0, temperature=1.0)
    weights = smooth_weights(kept, 0.5, draw_exponential((40,), [1, 2, 3]))
    assert ((weights > 0) <= torch.isfinite(kept)).all()
    assert weights.sum(dim=-1) == pytest.approx(torch.ones(3))


def test_smooth_runs_add_means_of_tokens_and_keep_the_ids_that_were_drawn(model, prefix):
    plain, smooth = (sample(model, prefix, top_k=20, smooth=on) for on in (False, True))
    assert torch.equal(plain.token_ids[0], smooth.token_ids[0])
    assert not torch.equal(plain.latents[0], smooth.latents[0])
    assert equal(smooth, sample(model, prefix, top_k=20, smooth=True))


@each("greedy", [{"top_k": 1}, {"top_k": 20, "temperature": 0.0}])
def test_greedy_runs_have_nothing_to_smooth(model, prefix, greedy):
    assert equal(sample(model, prefix, **greedy, smooth=True), sample(model, prefix, **greedy))


@each("choices", [{"ssg": 0.8}, {"top_k": 20, "smooth": True}])
def test_several_tiles_at_once_give_what_single_ones_give(model, prefix, choices):
    together = sample(model, prefix, Execution(prepare=lambda: 3), **choices)
    alone = sample(model, prefix, **choices)
    for found, expected in zip(together.latents, alone.latents, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
