"""Next-scale sampling on a tiny model: seeds, batches, guidance, states."""

from dataclasses import replace

import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.nn import token_sampling
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import Tiling
from varsr_core.tiling.noise import derive_seed
from varsr_core.varsr import sampling as varsr_sample
from varsr_core.varsr.sampling import (
    RefineSettings,
    SampleSettings,
    hidden_by_tile,
    keep_scale,
    next_hidden,
    refine_latent,
    refiner_noise,
    sample_scale,
    scale_logits,
    start_sampling,
)
from varsr_core.varsr.stages import encode_prefix, sample_tokens

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
    state = start_sampling(model, tokens, settings, models.own_seeds(len(tokens)))
    hidden, logits = [], []
    for scale, side in enumerate(model.config.schedule.sides):
        state.hidden = next_hidden(model, state, scale, keep=side * side)
        hidden.append(state.hidden)
        logits.append(scale_logits(model, state, scale, settings))
        state.latents.append(latents[scale])
    return state, hidden, logits


def one_image(prefix, index):
    part = slice(index, index + 1)
    return replace(prefix, tokens=prefix.tokens[part], canvas=replace(prefix.canvas, images=1))


def test_pyramid_has_one_map_and_one_latent_per_scale(model, prefix):
    tokens = sample(model, prefix)
    assert [ids.shape for ids in tokens.token_ids] == [(1, side * side) for side in (1, 2, 3, 4)]
    assert all(latent.shape == (1, 32, 4, 4) for latent in tokens.latents)
    assert tokens.num_scales == 4
    assert tokens.hidden.shape == (1, 2, 16, 32)


@each("top_k", [0, 1, 20])
def test_same_seed_gives_the_same_bits(model, prefix, top_k):
    settings = SampleSettings(top_k=top_k)
    assert same_bits(sample(model, prefix, settings, 3), sample(model, prefix, settings, 3))


@each("top_k", [0, 2, 20])
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
    prefix = encode_prefix(model, models.picture(32, 48), 2.0, ONE_BY_ONE, Tiling("independent"))
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


def test_drawn_numbers_never_change_between_versions(model):
    """Of scale 2 of tile 1, with the seed 5: seeds are kept in workflows."""
    prefix = encode_prefix(model, models.picture(32, 48), 2.0, ONE_BY_ONE, Tiling("independent"))
    found = sample(model, prefix, RANDOM, seed=5)
    seed = derive_seed(derive_seed(5, "tile", 1), "scale", 2)
    uniform = torch.rand(9, generator=torch.Generator().manual_seed(seed))[None]
    _, _, logits = run_fed(model, prefix.tokens, found.latents, RANDOM)
    ids = token_sampling.draw_tokens(
        logits[2][1:], top_k=20, top_p=1.0, temperature=1.0, uniform=uniform
    )
    assert torch.equal(found.token_ids[2][1:], ids)


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


# States, which a loop over tiles parts, moves and winds back


def start(model, prefix, settings=RANDOM):
    seeds = models.own_seeds(len(prefix.tokens))
    return start_sampling(model, prefix.tokens, settings, seeds)


@torch.inference_mode()
def go_on(model, state, first, stop=5, settings=RANDOM):
    """Steps first .. stop - 1, of which 4 is the refiner."""
    for k in range(first, stop):
        if k < 4:
            sample_scale(model, state, k, settings)
            continue
        refining = RefineSettings(steps=3, guidance=6.0 if state.guided else 0.0)
        residual = refine_latent(
            model,
            hidden_by_tile(model, state),
            state.token_ids[-1],
            refiner_noise(model, state.seeds, refining.steps),
            refining,
        )
        state.latents.append(state.latent + residual)
    return state


def same_states(first, second, steps=5):
    length = first.cache.length
    return (
        length == second.cache.length
        and torch.equal(first.cache.storage[..., :length, :], second.cache.storage[..., :length, :])
        and len(first.latents) == len(second.latents) == steps + 1
        and all(map(torch.equal, first.latents, second.latents))
        and len(first.token_ids) == len(second.token_ids)
        and all(map(torch.equal, first.token_ids, second.token_ids))
        and torch.equal(first.hidden, second.hidden)
    )


@pytest.fixture(
    params=[{"guidance": 6.0}, {"guidance": 0.0}, {"unguided_scales": 2}, {"ssg": 0.5}],
    ids=["guided", "unguided", "guided at first", "moved away"],
)
def settings(request):
    return SampleSettings(top_k=20, **request.param)


@each("at", [0, 1, 3, 4])
def test_a_selection_of_all_tiles_goes_on_to_the_bits_of_the_unbroken_run(
    model, four, settings, at
):
    unbroken = go_on(model, start(model, four, settings), 0, settings=settings)
    state = go_on(model, start(model, four, settings), 0, at, settings)
    copy = state.select(slice(None))
    go_on(model, state, at, settings=settings)  # leaves the copy alone
    assert same_states(go_on(model, copy, at, settings=settings), unbroken)


@each("at", [0, 1, 3, 4])
@each("tiles", [slice(0, 2), slice(2, 4), slice(3, 4), slice(1, 3)])
def test_selected_tiles_go_on_as_among_the_others(model, four, settings, at, tiles):
    """But for rounding; from states whose tensors are the very rows of the whole."""
    unbroken = go_on(model, start(model, four, settings), 0, settings=settings)
    state = go_on(model, start(model, four, settings), 0, at, settings)
    part = state.select(tiles)
    assert part.tiles == tiles.stop - tiles.start
    assert part.guided == state.guided
    assert list(part.seeds) == list(state.seeds[tiles])
    go_on(model, part, at, settings=settings)
    assert len(part.token_ids) == 4
    for found, whole in zip(part.token_ids, unbroken.token_ids, strict=True):
        assert torch.equal(found, whole[tiles])
    for found, whole in zip(part.latents, unbroken.latents, strict=True):
        assert (found - whole[tiles]).abs().mean() < 1e-4


def test_a_selection_shares_no_memory(model, four, settings):
    state = go_on(model, start(model, four, settings), 0, 2, settings)
    part = state.select(slice(None))
    theirs = {t.data_ptr() for t in tensors_of(state)}
    assert not {t.data_ptr() for t in tensors_of(part)} & theirs
    assert len(tensors_of(part)) == len(tensors_of(state)) == 10 + len(state.priors)


def tensors_of(state):
    held = [state.prefix, state.classes, state.cache.storage, state.hidden, state.modulation]
    return [*held, *state.latents, *state.token_ids, *state.priors.values()]


@each("k", range(4))
@pytest.mark.parametrize("where", ["in the transformer", "behind it", "when all is done"])
def test_a_failed_scale_is_wound_back_and_done_again_to_the_bit(
    model, four, settings, k, where, monkeypatch
):
    unbroken = go_on(model, start(model, four, settings), 0, settings=settings)
    state = go_on(model, start(model, four, settings), 0, k, settings)

    def fail(*args):
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        if where == "in the transformer":  # when its first block has filled the cache
            patch.setattr(model.transformer.blocks[1], "forward", fail)
        elif where == "behind it":  # when the ids are there
            patch.setattr(model.quantizer, "residual", fail)
        if where == "when all is done":
            go_on(model, state, k, k + 1, settings)
        else:
            with pytest.raises(torch.OutOfMemoryError):
                go_on(model, state, k, k + 1, settings)
    state.rewind(k)
    assert len(state.token_ids) == len(state.latents) - 1 == k
    assert state.cache.length == (16 + sum((1, 4, 9)[:k]) if k else 0)
    assert same_states(go_on(model, state, k, settings=settings), unbroken)


def test_a_failed_refiner_is_wound_back_and_done_again_to_the_bit(model, four, settings):
    unbroken = go_on(model, start(model, four, settings), 0, settings=settings)
    state = go_on(model, start(model, four, settings), 0, settings=settings)
    state.rewind(4)
    assert len(state.latents) == 5
    assert len(state.token_ids) == 4
    assert same_states(go_on(model, state, 4, settings=settings), unbroken)


def test_a_kept_scale_can_be_wound_back_like_a_sampled_one(model, four):
    unbroken = go_on(model, start(model, four), 0)
    state = start(model, four)
    with torch.inference_mode():
        for scale in (0, 1, 1):
            state.rewind(scale)
            ids, latent = unbroken.token_ids[scale], unbroken.latents[scale + 1]
            keep_scale(model, state, scale, ids, latent)
    assert same_states(go_on(model, state, 2), unbroken)


def test_a_state_that_was_elsewhere_goes_on_to_the_bits_of_the_unbroken_run(model, four, settings):
    unbroken = go_on(model, start(model, four, settings), 0, settings=settings)
    state = go_on(model, start(model, four, settings), 0, 3, settings)
    meta = state.to(torch.device("meta"))
    assert {t.device.type for t in tensors_of(meta)} == {"meta"}
    assert len(tensors_of(meta)) == len(tensors_of(state))
    assert meta.seeds is state.seeds
    assert meta.cache.length == state.cache.length
    back = state.to(torch.device("cpu"))
    assert same_states(go_on(model, back, 3, settings=settings), unbroken)


def test_bytes_of_a_state_are_those_of_all_it_holds(model, four, settings):
    for steps in (0, 2, 4):
        state = go_on(model, start(model, four, settings), 0, steps, settings)
        held = [t for t in tensors_of(state) if t is not None and t is not state.classes]
        assert state.nbytes == sum(t.numel() * t.itemsize for t in held)


def test_bytes_of_a_state_grow_with_the_tiles(model, four):
    four, two = (go_on(model, start(model, four), 0, 2).select(slice(n)) for n in (4, 2))
    assert four.nbytes == 2 * two.nbytes
