"""Recordings of work, with a recorder for the CPU that keeps addresses as a CUDA graph does."""

import copy
import gc
import logging
import weakref

import pytest
import torch
from torch import nn

from helpers import models
from helpers.tapes import Tapes, taping
from varsr_core.runtime import cuda_graphs as recorded
from varsr_core.runtime.compile import Compiler
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.runtime.execution import Execution
from varsr_core.varsr import acceleration
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.sampling import SampleSettings
from varsr_core.varsr.stages import encode_prefix, sample_tokens


@pytest.fixture
def recorder():
    return taping()


@pytest.fixture
def model():
    return copy.deepcopy(models.micro_model())  # not shared: its weights change and move


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def run(model, cache, scale, seed=0):
    """One scale behind what the cache holds; the cache is as before."""
    side = model.config.schedule.sides[scale]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, side * side, 32, generator=generator)
    before = cache.length
    modulation = model.transformer.modulation(torch.tensor([0, 1]))
    hidden = model.transformer(x, modulation, cache, scale, keep=side * side)
    cache.length = before
    return hidden, cache.storage[..., : before + side * side, :].clone()


def filled(model, seed=1):
    cache = model.transformer.new_cache(2, torch.device("cpu"))
    cache.storage.normal_(generator=torch.Generator().manual_seed(seed))
    cache.length = 17
    return cache


def same(found, expected):
    return all(map(torch.equal, found, expected))


def test_work_is_recorded_when_it_comes_by_again_and_gives_the_same_bits(model, recorder):
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    counts = []
    for seed in range(4):
        expected = run(model, filled(model), 2, seed)
        assert same(run(fast, cache, 2, seed), expected)
        counts.append(recorder.recordings)
    assert counts == [0, 1, 1, 1]


def test_every_scale_and_length_has_a_recording_of_its_own(model, recorder):
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    for length, scale in [(17, 1), (17, 2), (21, 1), (17, 1), (17, 2), (21, 1), (17, 2), (21, 1)]:
        plain = filled(model)
        plain.storage.copy_(cache.storage)
        cache.length = plain.length = length
        assert same(run(fast, cache, scale), run(model, plain, scale))
    assert recorder.recordings == 3


def test_work_on_other_memory_is_not_recorded(model, recorder):
    """As of a second run beside the first, which has the workspace."""
    fast = accelerated(model, recorder=recorder)
    first, second = filled(fast), filled(fast, 5)
    for _ in range(3):
        assert same(run(fast, first, 2), run(model, filled(model), 2))
        assert same(run(fast, second, 2), run(model, filled(model, 5), 2))
    assert recorder.recordings == 1


def test_recordings_are_found_again_by_the_next_run(model, recorder):
    fast = accelerated(model, recorder=recorder)
    places = set()
    for seed in range(4):
        cache = filled(fast, seed)
        places.add(cache.storage.data_ptr())
        assert same(run(fast, cache, 2, seed), run(model, filled(model, seed), 2, seed))
        del cache
    assert (len(places), recorder.recordings, Tapes.recordings) == (1, 1, 1)


def test_memory_is_in_use_until_all_parts_of_a_cache_are_gone(model, recorder):
    fast = accelerated(model, recorder=recorder)
    whole = filled(fast)
    place, part = whole.storage.data_ptr(), whole.first(1)
    del whole
    assert filled(fast).storage.data_ptr() != place
    elsewhere = part.select(torch.tensor([0]))
    del part
    assert filled(fast).storage.data_ptr() == place
    assert elsewhere.storage.data_ptr() != place


def test_fewer_tiles_use_a_part_of_the_memory_and_more_begin_anew(model, recorder):
    fast, cpu = accelerated(model, recorder=recorder), torch.device("cpu")
    cache = filled(fast)
    place, kept = cache.storage.data_ptr(), cache.nbytes
    for _ in range(2):
        run(fast, cache, 2)
    del cache
    assert fast.transformer.new_cache(1, cpu).storage.data_ptr() == place
    assert recorder.recordings == 1
    assert recorder.kept_bytes(cpu) > kept
    more = fast.transformer.new_cache(4, cpu)
    assert recorder.recordings == 0
    assert recorder.kept_bytes(cpu) == more.nbytes == 2 * kept


def test_result_is_not_written_to_by_a_later_replay(model, recorder):
    fast = accelerated(model, recorder=recorder)
    cache, held = filled(fast), []
    for seed in range(4):
        hidden, _ = run(fast, cache, 2, seed)
        held.append((hidden, hidden.clone()))
    assert all(torch.equal(hidden, before) for hidden, before in held)


def test_weights_that_change_in_place_are_read_anew(model, recorder):
    """As ComfyUI patches them, e.g. for a LoRA."""
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    for _ in range(3):
        before = run(fast, cache, 2)
    weight = model.transformer.blocks[0].fc1.weight
    kept = weight.clone()
    weight.mul_(1.5)
    found, expected = run(fast, cache, 2), run(model, filled(model), 2)
    weight.copy_(kept)
    assert same(found, expected)
    assert not same(found, before)
    assert Tapes.recordings == 1


def test_weights_that_lie_elsewhere_are_not_taken_for_the_recorded_ones(model, recorder):
    """As when a patched one is put there, and the old one kept for later."""
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    for scale in (1, 2, 1, 2):
        run(fast, cache, scale)
    assert recorder.recordings == 2
    layer = model.transformer.blocks[0].fc1
    kept = layer.weight
    layer.weight = nn.Parameter(kept * 1.5, requires_grad=False)
    expected = run(model, filled(model), 2)
    for recordings in (2, 3, 3):
        assert same(run(fast, cache, 2), expected)
        assert recorder.recordings == recordings
    layer.weight = kept
    assert same(run(fast, cache, 2), run(model, filled(model), 2))


@pytest.mark.parametrize(
    "unload",
    [
        lambda model: model.to(torch.float64),
        lambda model: model.transformer.blocks[1].projection.to(torch.float64),
        lambda model: model.transformer.blocks[0].qkv.bias.set_(torch.zeros(96)),
    ],
)
def test_all_is_given_up_as_soon_as_a_weight_is_freed(model, recorder, unload):
    """As when a host unloads a model, or a part of it, and tells nobody."""
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    for _ in range(2):
        run(fast, cache, 2)
    memory = weakref.ref(cache.storage.untyped_storage())
    del cache
    assert recorder.kept_bytes(torch.device("cpu")) > 0
    unload(model)
    assert recorder.recordings == 0
    assert recorder.kept_bytes(torch.device("cpu")) == 0
    assert memory() is None


def test_memory_goes_with_the_recorder(model):
    fast = accelerated(model, recorder=taping())
    cache = filled(fast)
    memory = weakref.ref(cache.storage.untyped_storage())
    for _ in range(2):
        run(fast, cache, 2)
    gc.disable()
    try:
        del fast, cache
        assert memory() is None
    finally:
        gc.enable()


def test_every_mode_can_replay_what_another_has_recorded(model, recorder):
    fast = accelerated(model, recorder=recorder)
    for mode in (torch.inference_mode(), torch.inference_mode(False), torch.inference_mode()):
        with mode, torch.no_grad():
            for _ in range(2):
                hidden, _ = run(fast, filled(fast), 2)
                hidden += 1
    assert recorder.recordings == 1


def test_forgotten_recordings_are_made_again(model, recorder):
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    for _ in range(2):
        run(fast, cache, 2)
    recorder.forget()
    assert recorder.recordings == 0
    for _ in range(2):
        assert same(run(fast, cache, 2), run(model, filled(model), 2))  # of no use any more
    assert recorder.recordings == 0
    for _ in range(2):
        assert same(run(fast, filled(fast), 2), run(model, filled(model), 2))
    assert (recorder.recordings, Tapes.recordings, Tapes.made) == (1, 2, 2)


def test_only_so_many_recordings_are_kept(model, recorder, monkeypatch):
    monkeypatch.setattr(recorded, "GRAPHS", 2)
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    for scale in (1, 1, 2, 2, 3, 3, 1, 1):
        assert same(run(fast, cache, scale), run(model, filled(model), scale))
    assert recorder.recordings == 2
    assert Tapes.recordings == 4


def test_what_keeps_a_gpu_busy_is_not_recorded(model, recorder, monkeypatch):
    """And no memory is kept for it, nor beside it."""
    monkeypatch.setattr(acceleration, "RECORDED_TOKENS", 2 * model.config.prefix_tokens)
    fast, cpu = accelerated(model, recorder=recorder), torch.device("cpu")
    for _ in range(2):
        run(fast, filled(fast), 2)
    assert recorder.recordings == 1
    large = fast.transformer.new_cache(3, cpu)
    assert recorder.recordings == recorder.kept_bytes(cpu) == 0
    large.storage.zero_()
    x, modulation = torch.zeros(3, 9, 32), fast.transformer.modulation(torch.tensor([0, 0, 0]))
    for _ in range(3):
        fast.transformer(x, modulation, large, 2, keep=9)
        large.rewind(0)
    assert recorder.recordings == 0


def test_on_another_device_work_runs_as_written(model):
    recorder = Recorder()  # for CUDA
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    for _ in range(3):
        assert same(run(fast, cache, 2), run(model, filled(model), 2))
    assert recorder.recordings == 0


def test_where_recording_fails_work_runs_as_written_and_one_warning_says_so(model, caplog):
    def fail(work):
        raise RuntimeError("operation not permitted")

    recorder = Recorder(lambda: fail, device="cpu")
    fast = accelerated(model, recorder=recorder)
    cache = filled(fast)
    with caplog.at_level(logging.WARNING):
        for scale in (1, 2, 1, 2, 1, 2):
            assert same(run(fast, cache, scale), run(model, filled(model), scale))
    assert len(caplog.records) == 1
    assert "operation not permitted" in caplog.text


class CancelledError(Exception):
    """As hosts raise it."""


def full(work):
    raise torch.OutOfMemoryError("full")


def full_and_then_broken(work):
    """As torch ends a capture in which memory ran out."""
    try:
        full(work)
    finally:
        raise RuntimeError("full: the capture was invalidated")


def cancelled(work):
    raise CancelledError("full stop")


def test_cancel_is_left_to_the_caller(model):
    recorder = Recorder(lambda: cancelled, device="cpu")
    fast = accelerated(model, recorder=recorder)
    run(fast, filled(fast), 2)
    with pytest.raises(CancelledError):
        run(fast, filled(fast), 2)
    assert not recorder.broken
    assert same(run(fast, filled(fast), 2), run(model, filled(model), 2))  # the first time again


@pytest.mark.parametrize("fail", [full, full_and_then_broken])
def test_where_memory_runs_out_work_runs_as_written_without_what_was_kept(model, fail):
    recorder = Recorder(lambda: fail, device="cpu")
    fast = accelerated(model, recorder=recorder)
    for _ in range(4):
        assert same(run(fast, filled(fast), 2), run(model, filled(model), 2))
    assert not recorder.broken
    assert recorder.kept_bytes(torch.device("cpu")) == 0


def test_whole_runs_give_the_bits_of_the_plain_model(model, recorder):
    fast = accelerated(model, recorder=recorder, compiler=Compiler(lambda plain, **_: plain))
    prefix = encode_prefix(model, models.picture(40, 50), 2.0, Execution())
    for settings in (SampleSettings(), SampleSettings(unguided_scales=2)):
        expected = sample_tokens(model, prefix, settings, 0, Execution())
        for _ in range(2):
            found = sample_tokens(fast, prefix, settings, 0, Execution())
            assert all(map(torch.equal, found.token_ids, expected.token_ids))
            assert torch.equal(found.hidden, expected.hidden)


def test_the_plain_model_is_left_as_it_was(model, recorder):
    names, blocks = list(model.state_dict()), list(model.transformer.blocks)
    ran = []
    fast = accelerated(
        model, recorder=recorder, compiler=Compiler(lambda plain, **_: ran.append or plain)
    )
    assert list(fast.state_dict()) == names
    theirs = dict(fast.named_parameters())
    assert all(theirs[name] is p for name, p in model.named_parameters())
    assert list(model.transformer.blocks) == blocks
    assert fast.transformer.run_blocks is not model.transformer.run_blocks
    assert fast.fingerprint == model.fingerprint
