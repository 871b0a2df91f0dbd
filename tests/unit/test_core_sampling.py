"""Next-scale sampling on a tiny model: seeds, batches, guidance."""

import models
import pytest
import torch

from varsr_core import token_sampling
from varsr_core.execution import Execution
from varsr_core.varsr import sample as varsr_sample
from varsr_core.varsr.sample import (
    SampleSettings,
    next_hidden,
    scale_logits,
    start_sampling,
)
from varsr_core.varsr.stages import encode_prefix, sample_tokens
from varsr_core.varsr.state import Prefix

ONE_BY_ONE = Execution()
RANDOM = SampleSettings(top_k=20)


@pytest.fixture
def model():
    return models.micro_model()


@pytest.fixture
def prefix(model):
    """One tile."""
    return encode_prefix(model, models.picture(30, 24), 2.0, ONE_BY_ONE)


@pytest.fixture
def four(model):
    """Four pictures of one tile each."""
    return encode_prefix(model, models.picture(30, 24, images=4), 2.0, ONE_BY_ONE)


@pytest.fixture
def latents():
    """Four tiles, as if every scale had been sampled."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 32, 4, 4, generator=generator) for _ in range(4)]


def sample(model, prefix, settings=RANDOM, seed=0, execution=ONE_BY_ONE):
    return sample_tokens(model, prefix, settings, seed, execution)


def same_bits(first, second):
    return (
        all(map(torch.equal, first.token_ids, second.token_ids))
        and all(map(torch.equal, first.latents, second.latents))
        and torch.equal(first.hidden, second.hidden)
    )


@torch.inference_mode()
def run_fed(model, tokens, latents, settings):
    """The state after each scale, with given latents in place of sampled ones; guided logits."""
    state = start_sampling(model, tokens, settings, [0] * len(tokens))
    hidden, logits = [], []
    for scale, side in enumerate(model.config.schedule.sides):
        state.hidden = next_hidden(model, state, scale, keep=side * side)
        hidden.append(state.hidden)
        logits.append(scale_logits(model, state, scale, settings))
        state.latents.append(latents[scale])
    return state, hidden, logits


def one_image(prefix, index):
    return Prefix(prefix.tokens[index : index + 1], prefix.canvas, prefix.fingerprint)


def test_pyramid_has_one_map_and_one_latent_per_scale(model, prefix):
    tokens = sample(model, prefix)
    assert [ids.shape for ids in tokens.token_ids] == [(1, side * side) for side in (1, 2, 3, 4)]
    assert all(latent.shape == (1, 32, 4, 4) for latent in tokens.latents)
    assert tokens.num_scales == 4
    assert tokens.hidden.shape == (1, 2, 16, 32)


@pytest.mark.parametrize("top_k", [0, 1, 20])
def test_same_seed_gives_the_same_bits(model, prefix, top_k):
    settings = SampleSettings(top_k=top_k)
    assert same_bits(sample(model, prefix, settings, 3), sample(model, prefix, settings, 3))


@pytest.mark.parametrize("top_k", [0, 2, 20])
def test_another_seed_gives_other_tokens(model, prefix, top_k):
    settings = SampleSettings(top_k=top_k, guidance=1.0)
    first, second = (sample(model, prefix, settings, seed) for seed in (3, 4))
    assert not torch.equal(first.token_ids[-1], second.token_ids[-1])


def test_every_scale_and_tile_has_its_own_random_numbers(model, monkeypatch):
    drawn = []

    def record(logits, *, uniform, **settings):
        drawn.append(uniform)
        return token_sampling.draw_tokens(logits, uniform=uniform, **settings)

    monkeypatch.setattr(varsr_sample, "draw_tokens", record)
    prefix = encode_prefix(model, models.picture(32, 48), 2.0, ONE_BY_ONE)
    sample(model, prefix, execution=Execution(prepare=lambda: 2))
    assert [uniform.shape for uniform in drawn] == [(2, 1), (2, 4), (2, 9), (2, 16)]
    assert len({uniform[tile, 0].item() for uniform in drawn for tile in range(2)}) == 8


def test_greedy_tokens_do_not_depend_on_the_seed(model, prefix):
    assert same_bits(*(sample(model, prefix, SampleSettings(), seed) for seed in (3, 4)))


def test_greedy_tokens_are_the_best_ones_at_every_scale(model, prefix):
    tokens = sample(model, prefix, SampleSettings())
    _, _, logits = run_fed(model, prefix.tokens, tokens.latents, SampleSettings())
    for ids, expected in zip(tokens.token_ids, logits, strict=True):
        assert torch.equal(ids, expected.argmax(dim=-1))


def test_latents_are_the_sums_of_the_sampled_tokens(model, prefix):
    tokens = sample(model, prefix)
    total = torch.zeros(1, 32, 4, 4)
    for scale, ids in enumerate(tokens.token_ids):
        total = total + model.quantizer.residual(ids, scale)
        torch.testing.assert_close(tokens.latents[scale], total)


@pytest.mark.parametrize("settings", [SampleSettings(), RANDOM], ids=["greedy", "random"])
def test_pictures_of_a_batch_equal_pictures_alone_to_the_bit(model, four, settings):
    batch = sample(model, four, settings)
    for index in range(4):
        alone = sample(model, one_image(four, index), settings)
        assert same_bits(batch.tiles(slice(index, index + 1)), alone)


def test_pictures_of_a_batch_differ(model, four):
    ids = sample(model, four, SampleSettings()).token_ids[-1]
    assert len({tuple(row) for row in ids.tolist()}) == 4


@pytest.mark.parametrize("guidance", [0.0, 6.0])
def test_tiles_in_one_batch_equal_tiles_alone_but_for_rounding(model, four, latents, guidance):
    settings = SampleSettings(guidance=guidance)
    _, _, together = run_fed(model, four.tokens, latents, settings)
    for tile in range(4):
        part = slice(tile, tile + 1)
        fed = [latent[part] for latent in latents]
        _, _, alone = run_fed(model, four.tokens[part], fed, settings)
        for scale in range(4):
            torch.testing.assert_close(together[scale][part], alone[scale], atol=1e-4, rtol=0)


@pytest.mark.parametrize("settings", [SampleSettings(), RANDOM], ids=["greedy", "random"])
def test_tokens_do_not_depend_on_how_many_tiles_run_at_once(model, four, settings):
    """But for rounding, which may flip a token where two are equally good."""
    single = sample(model, four, settings)
    for at_once in (2, 3, 4):
        blocks = sample(model, four, settings, execution=Execution(prepare=lambda n=at_once: n))
        pairs = zip(single.token_ids, blocks.token_ids, strict=True)
        different = sum((a != b).sum().item() for a, b in pairs)
        assert different <= 1


def test_running_out_of_memory_leaves_the_tokens_as_they_are(model, four, monkeypatch):
    expected = sample(model, four)
    whole = model.transformer.forward

    def short_of_memory(x, *args, **kwargs):
        if len(x) > 2:
            raise torch.OutOfMemoryError("more than one guided tile")
        return whole(x, *args, **kwargs)

    monkeypatch.setattr(model.transformer, "forward", short_of_memory)
    assert same_bits(sample(model, four, execution=Execution(prepare=lambda: 4)), expected)


def test_guidance_of_0_computes_half_the_rows(model, four, latents):
    for guidance, rows in ((0.0, 4), (6.0, 8)):
        settings = SampleSettings(guidance=guidance)
        state, hidden, _ = run_fed(model, four.tokens, latents, settings)
        assert state.cache.storage.shape[2] == rows
        assert {len(h) for h in hidden} == {rows}


def test_guidance_of_0_gives_the_positive_branch(model, four, latents):
    _, guided, _ = run_fed(model, four.tokens, latents, SampleSettings())
    _, _, logits = run_fed(model, four.tokens, latents, SampleSettings(guidance=0))
    for scale in range(4):
        positive = guided[scale][:4]
        expected = model.transformer.logits(positive, torch.zeros(4, dtype=torch.long))
        torch.testing.assert_close(logits[scale], expected, atol=1e-4, rtol=0)


def test_guided_logits_move_away_from_the_low_quality_class(model, four, latents):
    state, hidden, logits = run_fed(model, four.tokens, latents, SampleSettings(guidance=6.0))
    for scale in range(4):
        positive, negative = model.transformer.logits(hidden[scale], state.classes).chunk(2)
        strength = 6.0 * scale / 3
        expected = positive + strength * (positive - negative)
        torch.testing.assert_close(logits[scale], expected, atol=1e-4, rtol=0)


def test_guidance_schedules_differ_on_the_way_and_agree_at_the_last_scale(model, four, latents):
    runs = [
        run_fed(model, four.tokens, latents, SampleSettings(guidance_schedule=schedule))[2]
        for schedule in ("linear", "constant", "quadratic")
    ]
    for scale in (1, 2):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            assert (runs[first][scale] - runs[second][scale]).abs().max() > 0.1
    assert torch.equal(runs[0][3], runs[1][3])
    assert torch.equal(runs[0][3], runs[2][3])


def test_guidance_changes_the_tokens(model, prefix):
    weak, strong = (sample(model, prefix, SampleSettings(guidance=g)) for g in (0.5, 8.0))
    assert not torch.equal(weak.token_ids[-1], strong.token_ids[-1])


def test_quality_class_changes_the_logits(model, four, latents):
    good, bad = (
        run_fed(model, four.tokens, latents, SampleSettings(guidance=0, quality_class=c))[2]
        for c in (0, 1)
    )
    assert (good[-1] - bad[-1]).abs().max() > 0.1


def test_every_scale_sees_the_one_before(model, four, latents):
    settings = SampleSettings()
    _, _, logits = run_fed(model, four.tokens, latents, settings)
    for changed in range(3):
        other = [latent + (scale == changed) for scale, latent in enumerate(latents)]
        _, _, found = run_fed(model, four.tokens, other, settings)
        assert [torch.equal(a, b) for a, b in zip(logits, found, strict=True)] == [
            scale <= changed for scale in range(4)
        ]


def test_every_scale_sees_the_prefix(model, four, latents):
    _, _, logits = run_fed(model, four.tokens, latents, SampleSettings())
    _, _, found = run_fed(model, four.tokens.flip(1), latents, SampleSettings())
    assert all((a - b).abs().max() > 0.1 for a, b in zip(logits, found, strict=True))
