"""Many pictures at once, as the frames of a clip: still ones stay still, and memory stays small."""

import gc
from dataclasses import dataclass, field

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.told import assert_rises_to_its_total
from varsr_core.images.alpha import enlarge_alpha
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.progress import ENCODING, FINISHING
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

FRAMES = 12
SAMPLING, REFINING = SampleSettings(top_k=20), RefineSettings(steps=2)
STEPS = 4 + 1
every_mode = pytest.mark.parametrize("mode", TILING_MODES)


class CancelledError(Exception):
    pass


@dataclass(frozen=True)
class SpyRestorer(VARSRRestorer):
    """Notes how many tiles it starts at once."""

    started: list = field(default_factory=list)

    def start(self, lq, seeds):
        self.started.append(len(lq))
        return super().start(lq, seeds)


@pytest.fixture
def restorer():
    return SpyRestorer(models.micro_model(), SAMPLING, REFINING)


def still(height=16, width=16, channels=3):
    return models.picture(height, width, channels=channels).expand(FRAMES, -1, -1, -1)


def moving(height=16, width=16):
    (scene,) = models.picture(height, width + FRAMES)
    return torch.stack([scene[..., n : n + width] for n in range(FRAMES)])


def assert_equal_but_for_rounding(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().mean() < 1e-4


def alive():
    """How many tensors Python holds, and the bytes of their memory, each piece counted once.

    Sparse ones and those of a pretended card, which other tests may have left, have no memory of
    their own to count.
    """
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    tensors = [one for one in tensors if one.layout == torch.strided and one.device.type == "cpu"]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return len(tensors), sum(storages.values())


def measured(clip, restorer, frames, at_once=1):
    """What is alive when some frames (from 1) have just been decoded, before the next begins."""
    found, decoded = {}, []

    def look(progress):
        if progress.stage == FINISHING and progress.done < progress.total:
            decoded.append(progress.done)  # as it begins and as it ends
            frame = 1 + len(decoded) // 2
            if len(decoded) % 2 and frame in frames:
                found[frame] = alive()

    execution = Execution(prepare=lambda: at_once, on_progress=look)
    gc.collect()
    gc.disable()  # what a cycle holds counts too
    try:
        upscale(clip, 2.0, restorer, execution=execution)
    finally:
        gc.enable()
    return [found[frame] for frame in frames]


@every_mode
def test_still_frames_stay_still(restorer, mode):
    """Of two tiles each."""
    found = upscale(still(16, 40), 2.0, restorer, settings=UpscaleSettings(Tiling(mode)))
    assert found.shape == (FRAMES, 3, 32, 80)
    assert all(torch.equal(frame, found[0]) for frame in found)


@each("tiles", [5, 100])
def test_still_frames_stay_still_when_several_run_at_once(restorer, tiles):
    found = upscale(still(), 2.0, restorer, execution=Execution(prepare=lambda: tiles))
    assert_equal_but_for_rounding(found, found[:1].expand_as(found))


def test_frames_do_not_depend_on_their_clip(restorer):
    clip = moving()
    found = upscale(clip, 2.0, restorer)
    for frame in (0, 5, FRAMES - 1):
        assert torch.equal(found[frame], upscale(clip[frame : frame + 1], 2.0, restorer)[0])
    assert not torch.equal(found[0], found[1])


@each("at_once", [1, 3])
def test_memory_does_not_grow_from_frame_to_frame(restorer, at_once):
    third, sixth, last = measured(moving(), restorer, (3, 6, FRAMES), at_once)
    assert third == sixth == last


def test_a_longer_clip_takes_nothing_more_than_its_output(restorer):
    short, long = moving(), moving().repeat(3, 1, 1, 1)
    (before, after) = (measured(clip, restorer, (2,))[0] for clip in (short, long))
    output = 2 * FRAMES * 3 * 32 * 32 * 4  # bytes; all of it is there from the first frame on
    assert after == (before[0], before[1] + output)


def test_output_is_there_before_the_first_frame(restorer):
    seen = []

    def look(progress):
        if not progress.done and progress.stage == ENCODING and not seen:
            shapes = [tuple(t.shape) for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
            seen.append(shapes.count((FRAMES, 4, 32, 32)))

    found = upscale(still(channels=4), 2.0, restorer, execution=Execution(on_progress=look))
    assert found.shape == (FRAMES, 4, 32, 32)
    assert seen == [1]


@each(("tiles", "blocks"), [(1, [1] * 12), (5, [5, 5, 2]), (6, [6, 6]), (100, [12])])
def test_frames_are_the_same_however_many_run_at_once(restorer, tiles, blocks):
    clip, seen = moving(), []
    expected = upscale(clip, 2.0, restorer)
    restorer.started.clear()
    execution = Execution(prepare=lambda: tiles, on_progress=seen.append)
    found = upscale(clip, 2.0, restorer, execution=execution)
    assert_equal_but_for_rounding(found, expected)
    assert restorer.started == blocks
    assert_rises_to_its_total(seen)
    assert sum(progress.stepped for progress in seen) == FRAMES * STEPS


@each(("tiles", "blocks"), [(1, [1] * 24), (5, [5, 5, 5, 5, 2, 2]), (24, [12, 12])])
def test_frames_of_several_tiles_run_as_many_at_once_as_fit(restorer, tiles, blocks):
    """Of two tiles, which run in two phases."""
    restorer.started.clear()
    clip = moving(16, 40)
    found = upscale(clip, 2.0, restorer, execution=Execution(prepare=lambda: tiles))
    assert restorer.started == blocks
    alone = upscale(clip[7:8], 2.0, restorer)
    assert_equal_but_for_rounding(found[7:8], alone)


def test_model_is_prepared_once_for_a_clip(restorer):
    calls = []
    upscale(moving(), 2.0, restorer, execution=Execution(prepare=lambda: calls.append(1) or 3))
    assert calls == [1]


def test_running_out_of_memory_in_the_middle_of_a_clip_leaves_it_as_it_is(restorer, monkeypatch):
    clip, calls, seen = moving(), [], []
    expected = upscale(clip, 2.0, restorer)
    whole = VARSRRestorer.step

    def short(self, state, k):
        calls.append(state.tiles)
        if len(calls) >= STEPS + 3 and state.tiles > 2:  # from scale 3 of the second four on
            raise torch.OutOfMemoryError
        whole(self, state, k)

    monkeypatch.setattr(VARSRRestorer, "step", short)
    execution = Execution(prepare=lambda: 4, on_progress=seen.append)
    found = upscale(clip, 2.0, restorer, execution=execution)
    assert set(calls[STEPS + 3 :]) == {2}
    assert_equal_but_for_rounding(found, expected)
    assert seen[-1].done == seen[-1].total


def test_cancelling_in_the_middle_of_a_clip_leaves_the_next_run_right(restorer):
    clip, steps = moving(), []

    def cancel(progress):
        steps.append(progress.stepped)
        if sum(steps) == 5 * STEPS + 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        upscale(clip, 2.0, restorer, execution=Execution(on_progress=cancel))
    assert len(restorer.started) == 6
    again = upscale(clip[:2], 2.0, restorer)
    assert torch.equal(again[1], upscale(clip[1:2], 2.0, restorer)[0])


def test_frames_have_their_own_alpha_and_masks(restorer):
    clip = torch.cat((moving(), moving()[:, :1].flip(0)), dim=1)
    masks = torch.zeros(FRAMES, 1, 16, 16)
    masks[3, ..., :8] = masks[7, :, 8:] = 1
    found = upscale(clip, 2.0, restorer, mask=masks)
    assert len(restorer.started) == 2
    assert torch.equal(found[:, 3:], enlarge_alpha(clip[:, 3:], 32, 32))
    for frame in (3, 6, 7):
        part = slice(frame, frame + 1)
        assert torch.equal(found[part], upscale(clip[part], 2.0, restorer, mask=masks[part]))
