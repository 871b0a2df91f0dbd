"""Guidance that stops before the last scales: what is left out, and that nothing else changes."""

import pytest
import torch

from helpers import models
from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.nn.schedule import ScaleSchedule
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings, next_hidden, start_sampling
from varsr_core.varsr.stages import encode_prefix, refine_tokens, sample_tokens
from varsr_core.varsr.transformer import Transformer

ONE_BY_ONE = Execution()
SCHEDULE = ScaleSchedule((1, 2, 3, 4))


@pytest.fixture
def model():
    return models.micro_model()


@pytest.fixture
def image():
    """Several tiles."""
    return models.picture(40, 50)


@pytest.fixture
def rows(monkeypatch):
    """Rows that each run of the transformer is given, and that its cache holds by then."""
    seen, whole = [], Transformer.forward

    def record(self, x, classes, cache, scale, **options):
        seen.append((len(x), cache.storage.shape[2]))
        return whole(self, x, classes, cache, scale, **options)

    monkeypatch.setattr(Transformer, "forward", record)
    return seen


def sample(model, image, execution=ONE_BY_ONE, mode="phased", **choices):
    prefix = encode_prefix(model, image, 2.0, ONE_BY_ONE, Tiling(mode))
    return sample_tokens(model, prefix, SampleSettings(**choices), 5, execution)


def test_strength_is_that_of_the_schedule_until_it_is_none():
    settings = SampleSettings(guidance=6.0, unguided_scales=2)
    assert [settings.strength(SCHEDULE, k) for k in range(4)] == [0.0, 2.0, 0.0, 0.0]
    assert [SampleSettings(guidance=6.0).strength(SCHEDULE, k) for k in range(4)] == [
        0.0,
        2.0,
        4.0,
        6.0,
    ]


@each(
    ("unguided", "schedule", "expected"),
    [
        (0, "linear", 4),
        (1, "linear", 3),
        (2, "quadratic", 2),
        (9, "linear", 0),
        # Scale 0 has strength 0 unless guidance is constant: then nothing is left to guide.
        (3, "linear", 0),
        (3, "constant", 1),
    ],
)
def test_negative_rows_run_as_long_as_they_have_a_say(unguided, schedule, expected):
    settings = SampleSettings(6.0, schedule, unguided_scales=unguided)
    assert settings.guided_scales(SCHEDULE) == expected


def test_negative_rows_are_neither_run_nor_cached_from_there_on(model, rows):
    sample(model, models.picture(30, 24, images=2), Execution(prepare=lambda: 2), unguided_scales=2)
    assert rows == [(4, 4), (4, 4), (2, 2), (2, 2)]


def test_a_run_without_guidance_at_any_scale_never_has_negative_rows(model, rows, image):
    found = sample(model, image, unguided_scales=4)
    assert set(rows) == {(1, 1)}
    expected = sample(model, image, guidance=0.0)
    assert all(map(torch.equal, found.token_ids, expected.token_ids))
    assert torch.equal(found.hidden, expected.hidden)


def test_scale_0_of_the_papers_schedule_computes_no_logits_of_negative_rows(model, monkeypatch):
    seen, whole = [], Transformer.logits

    def record(self, hidden, classes):
        seen.append(len(hidden))
        return whole(self, hidden, classes)

    monkeypatch.setattr(Transformer, "logits", record)
    sample(model, models.picture(30, 24))
    assert seen == [1, 2, 2, 2]


def test_greedy_sampling_neither_sorts_nor_ranks(model, monkeypatch):
    def forbidden(*args, **options):
        raise AssertionError("logits were ordered")

    for name in ("sort", "topk", "softmax", "cumsum"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    sample(model, models.picture(30, 24))
    with pytest.raises(AssertionError, match="ordered"):
        sample(model, models.picture(30, 24), top_k=2)


def test_scales_before_are_as_ever_and_later_ones_are_the_positive_rows(model):
    prefix = encode_prefix(model, models.picture(30, 24), 2.0, ONE_BY_ONE).tokens
    generator = torch.Generator().manual_seed(0)
    hidden = {}
    for unguided in (0, 2):
        state = start_sampling(
            model, prefix, SampleSettings(unguided_scales=unguided), models.own_seeds(1)
        )
        generator.manual_seed(0)
        with torch.inference_mode():
            for scale, side in enumerate(SCHEDULE.sides):
                found = next_hidden(model, state, scale, keep=side * side)
                hidden[unguided, scale] = found
                state.latents.append(torch.randn(1, 32, 4, 4, generator=generator))
    for scale in (0, 1):
        assert torch.equal(hidden[2, scale], hidden[0, scale])
    for scale in (2, 3):
        assert hidden[2, scale].shape[0] == 1
        torch.testing.assert_close(hidden[2, scale], hidden[0, scale][:1], atol=1e-4, rtol=0)


def test_first_tokens_are_those_of_full_guidance_and_the_last_ones_are_not(model, image):
    full, part = (sample(model, image, mode="independent", unguided_scales=n) for n in (0, 1))
    for scale in range(3):
        assert torch.equal(part.token_ids[scale], full.token_ids[scale])
    assert not torch.equal(part.token_ids[3], full.token_ids[3])


@pytest.mark.parametrize("mode", TILING_MODES)
def test_tiles_of_a_picture_run_as_many_rows_in_every_mode(model, image, mode):
    sampling = SampleSettings(unguided_scales=2)
    made = []

    class Watched(VARSRRestorer):
        def step(self, state, k):
            super().step(state, k)
            made.append((k, state.tiles, len(state.classes)))

    upscale(image, 2.0, Watched(model, sampling), settings=UpscaleSettings(Tiling(mode)))
    rows_a_tile = {k: rows // tiles for k, tiles, rows in made}
    assert rows_a_tile == {0: 2, 1: 2, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize("mode", TILING_MODES)
@pytest.mark.parametrize("failing", [2, 3, 4])
def test_running_out_of_memory_leaves_the_tokens_as_they_are(model, mode, failing, monkeypatch):
    image = models.picture(40, 50, images=2)  # two tiles to a phase
    choices = {"mode": mode, "unguided_scales": 2, "top_k": 20}
    expected = sample(model, image, **choices)
    whole, calls = Transformer.forward, []

    def once(self, x, *args, **options):
        calls.append(len(x))
        if len(calls) == failing:
            raise torch.OutOfMemoryError("once")
        return whole(self, x, *args, **options)

    monkeypatch.setattr(Transformer, "forward", once)
    found = sample(model, image, Execution(prepare=lambda: 4), **choices)
    assert max(calls) >= 4 > min(calls)  # guided together, unguided apart
    pairs = zip(found.token_ids, expected.token_ids, strict=True)
    assert sum((a != b).sum().item() for a, b in pairs) <= 1  # rounding may flip a token


def test_refiner_is_not_guided_where_the_last_scale_was_not(model, image):
    """upscale() does so by itself; the stage wants to be told, as with guidance 0."""
    sampling = SampleSettings(unguided_scales=1)
    given = [RefineSettings(), RefineSettings(guidance=0.0)]
    found = [upscale(image, 2.0, VARSRRestorer(model, sampling, refining)) for refining in given]
    assert torch.equal(*found)
    tokens = sample(model, image, unguided_scales=1)
    assert tokens.hidden.shape[1] == 1
    with pytest.raises(InputError, match="sampled without"):
        refine_tokens(model, tokens, RefineSettings(), 0, ONE_BY_ONE)


def test_a_negative_number_of_scales_is_refused():
    with pytest.raises(InputError, match="unguided_scales is -1"):
        SampleSettings(unguided_scales=-1)
