"""Whole restores from recordings: found again in every later run, with the plain model's bits."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.tapes import Tapes, taping
from varsr_core.runtime import device as devices
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.runtime.execution import FREE_SHARE, Execution
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr import stages
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.memory import cache_bytes, tile_bytes
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

ONE, SIX = (16, 16), (28, 40)  # sides of pictures that are so many tiles at four times the size
CPU = torch.device("cpu")
PARTS = 4 + 2  # scales, prefix encoder, refiner


@pytest.fixture
def model():
    return copy.deepcopy(models.micro_model())  # not shared: its weights move


@pytest.fixture
def recorder():
    return taping()


def restore(model, size=ONE, *, mode="phased", guidance=6.0, seed=0, at_once=1, **others):
    place = next(model.parameters()).device
    return upscale(
        models.picture(*size),
        4.0,
        VARSRRestorer(model, SampleSettings(guidance), RefineSettings(guidance, 2)),
        seed=seed,
        settings=UpscaleSettings(tiling=Tiling(mode), color_fix="none"),
        execution=Execution(place, prepare=lambda: at_once, **others),
    )


@each("mode", TILING_MODES)
@each("guidance", [0.0, 6.0])
def test_later_runs_replay_what_the_first_ones_recorded(model, recorder, mode, guidance):
    fast, counts = accelerated(model, recorder=recorder), []
    for seed in range(4):
        chosen = {"mode": mode, "guidance": guidance, "seed": seed, "at_once": 2}
        assert torch.equal(restore(fast, SIX, **chosen), restore(model, SIX, **chosen))
        counts.append((recorder.recordings, Tapes.recordings))
    assert counts[1] == counts[2] == counts[3]
    assert counts[1][0] >= PARTS


def test_one_tile_is_recorded_from_the_prefix_to_the_refiner(model, recorder):
    fast = accelerated(model, recorder=recorder)
    for recordings in (0, PARTS, PARTS, PARTS):
        assert torch.equal(restore(fast), restore(model))
        assert recorder.recordings == recordings


def test_guidance_and_steps_of_the_refiner_have_recordings_of_their_own(model, recorder):
    fast, refining = accelerated(model, recorder=recorder), RefineSettings(6.0, 2)
    sampled = VARSRRestorer(model, SampleSettings(6.0))
    for settings in (refining, replace(refining, guidance=2.0), replace(refining, steps=3)) * 2:
        plain, recorded = (
            upscale(models.picture(*ONE), 4.0, replace(sampled, model=each, refining=settings))
            for each in (model, fast)
        )
        assert torch.equal(recorded, plain)
    assert recorder.recordings == PARTS + 2


def test_staged_runs_use_the_recordings_of_whole_ones(model, recorder):
    fast, picture, sampling = accelerated(model, recorder=recorder), models.picture(*SIX), 6.0
    for _ in range(2):
        restore(fast, SIX)
    recordings, execution = recorder.recordings, Execution()
    refining, results = RefineSettings(6.0, 2), []
    for each_model in (model, fast):
        prefix = stages.encode_prefix(each_model, picture, 4.0, execution)
        settings = SampleSettings(sampling)
        tokens = stages.sample_tokens(each_model, prefix, settings, 0, execution)
        results.append(stages.refine_tokens(each_model, tokens, refining, 0, execution).latent)
    assert torch.equal(*results)
    assert recorder.recordings == recordings


def test_unloading_frees_all_that_was_kept(model, recorder):
    fast = accelerated(model, recorder=recorder)
    for _ in range(2):
        restore(fast)
    assert recorder.kept_bytes(CPU) > cache_bytes(model)
    model.transformer.to(torch.float64)  # as one that is brought elsewhere
    assert recorder.kept_bytes(CPU) == recorder.recordings == 0


class Failing(Tapes):
    """Fails within one of its recordings."""

    error: BaseException | None = None
    at = 0

    def __call__(self, work):
        if self.error is not None and Tapes.recordings == self.at:
            raised, Failing.error = self.error, None
            super().__call__(work)
            raise raised
        return super().__call__(work)


class CancelledError(Exception):
    """As hosts raise it."""


@each("at", range(PARTS))
def test_cancel_within_a_recording_reaches_the_caller_and_the_next_run_is_whole(model, at):
    Tapes.recordings, Failing.at, Failing.error = 0, at, CancelledError()
    recorder = Recorder(Failing, device="cpu")
    fast = accelerated(model, recorder=recorder)
    restore(fast)
    with pytest.raises(CancelledError):
        restore(fast)
    for _ in range(3):
        assert torch.equal(restore(fast), restore(model))
    assert not recorder.broken
    assert recorder.recordings == PARTS


@each("at", range(PARTS))
@each("size", [ONE, SIX])
def test_run_goes_on_where_memory_ran_out_within_a_recording(model, at, size):
    Tapes.recordings, Failing.at, Failing.error = 0, at, torch.OutOfMemoryError()
    recorder = Recorder(Failing, device="cpu")
    fast = accelerated(model, recorder=recorder)
    for _ in range(4):
        found = restore(fast, size, at_once=2)
        assert torch.equal(found, restore(model, size, at_once=2))
    assert Failing.error is None
    assert not recorder.broken
    assert recorder.recordings >= PARTS


def test_what_is_kept_is_given_up_when_memory_runs_out_elsewhere(model, recorder, monkeypatch):
    fast, held = accelerated(model, recorder=recorder), []
    for _ in range(2):
        restore(fast)
    decode, failing = type(model).decode_unclamped, [torch.OutOfMemoryError()]

    def short(self, latent):
        if failing:
            held.append(recorder.kept_bytes(CPU))
            raise failing.pop()
        held.append(recorder.kept_bytes(CPU))
        return decode(self, latent)

    monkeypatch.setattr(type(model), "decode_unclamped", short)
    assert torch.equal(restore(fast), restore(model))
    assert held[0] > 0
    assert held[1] == 0


def test_single_tile_that_never_fits_is_an_error_as_before(model, recorder, monkeypatch):
    def short(self, latent):
        raise torch.OutOfMemoryError

    fast = accelerated(model, recorder=recorder)
    for _ in range(2):
        restore(fast)
    monkeypatch.setattr(type(model), "decode_unclamped", short)
    with pytest.raises(torch.OutOfMemoryError, match="single tile"):
        restore(fast)


@each("guidance", [0.0, 6.0])
def test_estimate_of_a_recorded_tile_counts_what_is_kept(model, recorder, guidance):
    fast = accelerated(model, recorder=recorder)
    for _ in range(2):
        restore(fast, guidance=guidance)
    assert cache_bytes(model) * (0.5 if guidance == 0 else 1) < recorder.kept_bytes(CPU)
    assert recorder.kept_bytes(CPU) < tile_bytes(fast)
    assert tile_bytes(fast) - tile_bytes(model) > 0


def test_what_is_kept_does_not_make_the_next_run_smaller(model, recorder, monkeypatch):
    fast = accelerated(model, recorder=recorder)
    card = 4 * tile_bytes(fast) / FREE_SHARE + 1
    monkeypatch.setattr(devices, "_memory", lambda _: (card - recorder.kept_bytes(CPU), card))
    execution = devices.execution_on(CPU, tile_bytes(fast), 0)
    assert execution.make_room(4) == 4
    for _ in range(2):
        restore(fast, SIX, at_once=2)
    assert recorder.kept_bytes(CPU) > 2 * cache_bytes(model)
    assert execution.make_room(4) == 4
