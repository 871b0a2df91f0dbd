"""Recordings of work, with a recorder for the CPU that keeps addresses as a CUDA graph does."""

import logging

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from helpers import models
from varsr_core.runtime import cuda_graphs as recorded
from varsr_core.runtime.compile import Compiler
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.runtime.execution import Execution
from varsr_core.varsr import acceleration
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.sampling import SampleSettings
from varsr_core.varsr.stages import encode_prefix, sample_tokens


class Tape(TorchDispatchMode):
    """All operations of some work, to be done again on the same memory."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, made))
        return made

    def replay(self):
        for function, args, kwargs, made in self.calls:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Tapes:
    """How a Recorder records here; made: how often this was begun anew."""

    made = recordings = 0

    def __init__(self):
        Tapes.made += 1

    def __call__(self, work):
        with Tape() as tape:
            output = work()
        output.fill_(torch.nan)  # as with a graph, nothing has run yet
        Tapes.recordings += 1
        return tape.replay, output


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(Tapes, "made", 0)
    monkeypatch.setattr(Tapes, "recordings", 0)
    return Recorder(Tapes, device="cpu")


@pytest.fixture
def model():
    return models.micro_model(seed=7)  # not shared with tests that count on its weights


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
    hidden = model.transformer(x, torch.tensor([0, 1]), cache, scale, keep=side * side)
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
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    counts = []
    for seed in range(4):
        expected = run(model, filled(model), 2, seed)
        assert same(run(fast, cache, 2, seed), expected)
        counts.append(recorder.recordings)
    assert counts == [0, 1, 1, 1]


def test_every_scale_and_length_has_a_recording_of_its_own(model, recorder):
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    for length, scale in [(17, 1), (17, 2), (21, 1), (17, 1), (17, 2), (21, 1), (17, 2), (21, 1)]:
        plain = filled(model)
        plain.storage.copy_(cache.storage)
        cache.length = plain.length = length
        assert same(run(fast, cache, scale), run(model, plain, scale))
    assert recorder.recordings == 3


def test_another_cache_is_not_taken_for_the_recorded_one(model, recorder):
    fast, first, second = accelerated(model, recorder=recorder), filled(model), filled(model, 5)
    for _ in range(3):
        assert same(run(fast, first, 2), run(model, filled(model), 2))
        assert same(run(fast, second, 2), run(model, filled(model, 5), 2))
    assert recorder.recordings == 2


def test_weights_that_change_in_place_are_read_anew(model, recorder):
    """As ComfyUI patches them, e.g. for a LoRA."""
    fast, cache = accelerated(model, recorder=recorder), filled(model)
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


def test_weights_that_lie_elsewhere_end_all_recordings(model, recorder):
    """As when ComfyUI has unloaded a model and loads it again, or puts a patched weight there."""
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    for scale in (1, 2, 1, 2):
        run(fast, cache, scale)
    assert recorder.recordings == 2
    layer = model.transformer.blocks[0].fc1
    kept = layer.weight
    layer.weight = nn.Parameter(kept * 1.5, requires_grad=False)
    expected = run(model, filled(model), 2)
    for recordings in (0, 1, 1):
        assert same(run(fast, cache, 2), expected)
        assert recorder.recordings == recordings
    layer.weight = kept
    assert same(run(fast, cache, 2), run(model, filled(model), 2))


def test_forgotten_recordings_are_made_again(model, recorder):
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    for _ in range(2):
        run(fast, cache, 2)
    recorder.forget()
    assert recorder.recordings == 0
    for _ in range(2):
        assert same(run(fast, cache, 2), run(model, filled(model), 2))
    assert (recorder.recordings, Tapes.recordings, Tapes.made) == (1, 2, 4)


def test_only_so_many_recordings_are_kept(model, recorder, monkeypatch):
    monkeypatch.setattr(recorded, "GRAPHS", 2)
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    for scale in (1, 1, 2, 2, 3, 3, 1, 1):
        assert same(run(fast, cache, scale), run(model, filled(model), scale))
    assert recorder.recordings == 2
    assert Tapes.recordings == 4


def test_what_keeps_a_gpu_busy_is_not_recorded(model, recorder, monkeypatch):
    monkeypatch.setattr(acceleration, "RECORDED_TOKENS", 10)
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    for scale in (1, 2, 1, 2, 1, 2):  # of 8 and 18 tokens
        run(fast, cache, scale)
    assert recorder.recordings == 1


def test_on_another_device_work_runs_as_written(model):
    recorder = Recorder()  # for CUDA
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    for _ in range(3):
        assert same(run(fast, cache, 2), run(model, filled(model), 2))
    assert recorder.recordings == 0


def test_where_recording_fails_work_runs_as_written_and_one_warning_says_so(model, caplog):
    def fail(work):
        raise RuntimeError("operation not permitted")

    recorder = Recorder(lambda: fail, device="cpu")
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    with caplog.at_level(logging.WARNING):
        for scale in (1, 2, 1, 2, 1, 2):
            assert same(run(fast, cache, scale), run(model, filled(model), scale))
    assert len(caplog.records) == 1
    assert "operation not permitted" in caplog.text


def test_running_out_of_memory_while_recording_is_left_to_the_caller(model):
    calls = []

    def fail(work):
        calls.append(1)
        raise torch.OutOfMemoryError("full")

    recorder = Recorder(lambda: fail, device="cpu")
    fast, cache = accelerated(model, recorder=recorder), filled(model)
    run(fast, cache, 2)
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        run(fast, cache, 2)
    assert not recorder.broken
    assert same(run(fast, cache, 2), run(model, filled(model), 2))  # the first time again


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
