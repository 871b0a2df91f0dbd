"""Tiles that overflow in float16: made once more, beside the others, with the numbers promised."""

import copy

import pytest
import torch

from helpers.each import each
from helpers.fake_work import CROWDED, MODES, NINE, STEPS, FakeWork, expected, run
from varsr_core.errors import CheckpointError
from varsr_core.runtime.execution import is_out_of_memory
from varsr_core.tiling import overflow


class Overflowing(FakeWork):
    """Some tiles are NaN after some step; none are where that is done in a wider dtype."""

    def __init__(self, at, **options):
        super().__init__(**options)
        self.at, self.once_more = at, []  # number -> step that overflows

    @property
    def wider(self):
        if not self.at:
            return None
        other = copy.copy(self)
        other.at = {}
        return other

    def start(self, numbers):
        if not self.at:
            self.once_more.append(list(numbers))
        return super().start(numbers)

    def step(self, state, numbers, k):
        super().step(state, numbers, k)
        for row, number in enumerate(numbers):
            if self.at.get(number) == k:
                state.latents[-1][row] = torch.nan


@pytest.mark.parametrize("mode", MODES)
@each("grid", [NINE, CROWDED])
@each("at", [{1: 0}, {1: STEPS - 1}, {0: 2, 1: 2, 2: 1}, dict.fromkeys(range(18), 1)])
@each("at_once", [1, 2, 100])
def test_latents_are_what_the_mode_promises(mode, grid, at, at_once):
    at = {number: k for number, k in at.items() if number < 2 * len(grid)}
    work = Overflowing(at)
    latents = run(work, grid, mode, images=2, at_once=at_once)
    promised = expected(grid, mode, images=2)
    torch.testing.assert_close(torch.stack(latents), promised, atol=1e-6, rtol=0)
    again = [number for numbers in work.once_more for number in numbers]
    assert sorted(again) == sorted(at)
    assert not work.where, "all tiles were finished"


@pytest.mark.parametrize("mode", MODES)
@each("seed", range(20))
def test_latents_are_the_same_when_memory_runs_out_too(mode, seed):
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(4000, generator=generator).tolist()
    work = Overflowing({1: 2, 4: 1, 7: 2}, fail=lambda *told: chance[told[-1]] < 0.2)
    latents = run(work, NINE, mode, at_once=9, is_out_of_memory=is_out_of_memory)
    torch.testing.assert_close(torch.stack(latents), expected(NINE, mode), atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_bar_reaches_its_end_once_and_never_goes_back(mode):
    told = []
    work = Overflowing({0: 1, 4: STEPS - 1})
    run(work, NINE, mode, at_once=4, on_progress=told.append)
    done = [one.done for one in told]
    assert done == sorted(done)
    assert done[-1] == told[-1].total
    taken = [one.step for one in told for _ in range(one.stepped) if one.step is not None]
    assert {k: taken.count(k) for k in range(STEPS)} == dict.fromkeys(range(STEPS), 9)


@pytest.mark.parametrize("mode", MODES)
def test_said_once(mode, caplog):
    overflow._tell_once.cache_clear()
    for _ in range(2):
        run(Overflowing({0: 1, 4: 2}), NINE, mode)
    assert len(caplog.records) == 1
    assert "overflows in fp16" in caplog.text
    assert "once more in bf16" in caplog.text


@pytest.mark.parametrize("mode", MODES)
def test_tile_that_overflows_in_any_dtype_is_named(mode):
    work = FakeWork()
    work.step = lambda state, numbers, k: state.latents.append(state.latent * torch.nan)
    with pytest.raises(CheckpointError, match=r"^tile 1 of 9 has NaN .* 'scale"):
        run(work, NINE, mode, at_once=4)

    class Never(Overflowing):
        @property
        def wider(self):
            return self if self.at else None

    with pytest.raises(CheckpointError, match=r"^tile 5 of 9 has NaN .* 'scale"):
        run(Never({4: 1}), NINE, mode, at_once=4)


def test_unsound_tiles_are_found_in_any_of_some_tensors():
    first, second = torch.ones(4, 2), torch.ones(4, 3)
    assert overflow.unsound([first, second]) == []
    first[2, 1], second[0, 0] = torch.inf, torch.nan
    assert overflow.unsound([first, second]) == [0, 2]
