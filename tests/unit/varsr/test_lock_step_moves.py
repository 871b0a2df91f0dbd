"""Tiles in lock-step on a pretended card: what is moved while they wait, and where it returns."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import models
from helpers.card import OnCard, card, device
from helpers.each import each
from helpers.tapes import Tapes, taping
from varsr_core.nn.kv_cache import KVCache
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.memory import cache_bytes
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

CPU = torch.device("cpu")
PARTS = 4 + 2  # scales, prefix encoder, refiner
TILES = 6


def restore(model, guidance, seed=0):
    """Six tiles, two at once."""
    return upscale(
        models.picture(28, 40),
        4.0,
        VARSRRestorer(model, SampleSettings(guidance), RefineSettings(guidance, 2)),
        seed=seed,
        settings=UpscaleSettings(tiling=Tiling("lock-step"), color_fix="none"),
        execution=Execution(device(), prepare=lambda: 2),
    )


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of single operations, which a tape sees."""
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


@pytest.fixture
def on_card(monkeypatch):
    """A model there."""
    monkeypatch.setattr(OnCard, "data_ptr", lambda self: self.inside.data_ptr(), raising=False)
    with card():
        model = models.build_model(models.converted_weights(), attention=plain_attention)
        yield model.to(device())


@each("guidance", [0.0, 6.0])
def test_caches_in_lock_step_come_back_to_the_place_that_was_recorded(on_card, guidance):
    """One block of tiles after the other, while the rest wait in system memory."""
    recorder, counts = taping("card"), []
    fast = accelerated(on_card, recorder=recorder)
    for seed in range(3):
        assert torch.equal(restore(fast, guidance, seed), restore(on_card, guidance, seed))
        counts.append((recorder.recordings, Tapes.recordings))
    assert counts[0] == counts[1] == counts[2]
    assert counts[0][0] >= PARTS


class Crossing(TorchDispatchMode):
    """Bytes of caches, layer by layer of five dimensions, that go to the card and come from it."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name == "aten::copy_":
            to, source = args[:2]
            if isinstance(to, OnCard) != isinstance(source, OnCard) and source.dim() == 5:
                self.bytes += source.nbytes
        return func(*args, **(kwargs or {}))


def test_lock_step_moves_what_caches_hold_and_nothing_behind_the_last_scale(on_card):
    config = on_card.config
    prefix, counts = config.prefix_tokens, [side**2 for side in config.schedule.sides]
    with Crossing() as crossed:
        restore(on_card, 6.0)
    held = [prefix + sum(counts[: k + 1]) for k in range(len(counts) - 1)]
    whole = prefix + sum(counts)
    token = cache_bytes(on_card) // whole
    assert crossed.bytes == 2 * TILES * token * sum(held)
    assert crossed.bytes < 0.7 * 2 * TILES * token * whole * len(counts)


def test_released_schedule_moves_a_third_of_its_whole_caches():
    """Away and back, behind each scale: 36 % of 2 x 10 times all tokens, as it was."""
    counts = [side**2 for side in (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)]
    whole = 1024 + sum(counts)
    with card(), Crossing() as crossed:
        cache = KVCache(1, 1, 1, whole, 2, dtype=torch.bfloat16, device=device())
        cache.advance(1024)
        for count in counts[:-1]:
            cache.advance(count)
            cache = cache.to(CPU).to(device())
    token = 2 * 2 * 2
    assert crossed.bytes == 2 * 11651 * token
    assert 0.35 < crossed.bytes / (20 * whole * token) < 0.36
