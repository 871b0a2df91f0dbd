"""Tiles through their steps: which run together, in which order, what they share."""

import pytest
import torch

from helpers.each import each
from helpers.fake_work import (
    CHANNELS,
    CROWDED,
    DEVICE,
    MODES,
    NINE,
    ONE,
    STEPS,
    FakeWork,
    assert_equal_lists,
    expected,
    made,
    run,
)
from varsr_core.runtime.execution import Execution, Session
from varsr_core.tiling.consistency import Overlaps
from varsr_core.tiling.plan import plan_of
from varsr_core.tiling.scheduler import TileLoop

# The modes


@pytest.mark.parametrize("mode", MODES)
@each("grid", [ONE, NINE, CROWDED])
@each("images", [1, 2])
@each("at_once", [1, 2, 7, 100])
def test_latents_are_what_the_mode_promises_however_many_tiles_run_at_once(
    mode, grid, images, at_once
):
    work = FakeWork()
    latents = run(work, grid, mode, images=images, at_once=at_once)
    promised = expected(grid, mode, images=images)
    torch.testing.assert_close(torch.stack(latents), promised, atol=1e-6, rtol=0)
    assert_equal_lists(latents, run(FakeWork(), grid, mode, images=images))
    assert max(len(numbers) for _, numbers, _ in work.blocks) <= at_once


@pytest.mark.parametrize("mode", MODES)
def test_every_step_goes_on_from_what_the_one_before_made(mode):
    work = FakeWork()
    latents = run(work, NINE, mode, at_once=2)
    for (number, k), latent in work.began_with.items():
        assert torch.equal(latent, latents[k - 1][number] if k else torch.zeros_like(latent))


@pytest.mark.parametrize("mode", MODES)
@each("at_once", [1, 4, 100])
def test_every_tile_takes_every_step_once(mode, at_once):
    work = FakeWork()
    run(work, NINE, mode, images=2, at_once=at_once)
    assert work.times("start") == {(n, 0): 1 for n in range(18)}
    assert work.times("step") == {(n, k): 1 for n in range(18) for k in range(STEPS)}
    assert work.times("finish") == {(n, STEPS): 1 for n in range(18)}


def test_independent_tiles_share_nothing():
    latents = run(FakeWork(), NINE, "independent", at_once=4)
    for number in range(9):
        latent = torch.zeros(CHANNELS, 4, 4)
        for k in range(STEPS):
            latent = made(latent, number, k)
            assert torch.equal(latents[k][number], latent)


@each("at_once", [1, 2, 100])
@each("settled", [0, 1])
def test_later_tiles_take_over_from_finished_neighbours_after_the_same_step(
    monkeypatch, at_once, settled
):
    taken, given = [], Overlaps.given

    def spy(self, index, finished):
        taken.append((index, {other: tile.clone() for other, tile in finished.items()}))
        return given(self, index, finished)

    monkeypatch.setattr(Overlaps, "given", spy)
    work = FakeWork(settled=settled)
    latents = torch.stack(run(work, NINE, "phased", images=2, at_once=at_once))[settled:]
    around = Overlaps(NINE)
    phase_of = {index: p for p, phase in enumerate(around.phases) for index in phase}
    order = [number for stage, numbers, _ in work.blocks if stage == "start" for number in numbers]
    for number, (index, finished) in zip(order, taken, strict=True):  # asked once for all steps
        assert index == number % 9
        earlier = {i for i in around.neighbours(index) if phase_of[i] < phase_of[index]}
        assert finished.keys() == earlier
        for other, tile in finished.items():
            assert torch.equal(tile, latents[:, number - index + other])


def test_tiles_of_a_phase_run_together_whatever_their_picture():
    work = FakeWork()
    run(work, NINE, "phased", images=2, at_once=100)
    started = [numbers for stage, numbers, _ in work.blocks if stage == "start"]
    both = [sorted(p + [i + 9 for i in p]) for p in Overlaps(NINE).phases]
    assert started == both


@each("at_once", [1, 4, 100])
def test_tiles_in_lock_step_agree_after_every_step(at_once):
    latents = run(FakeWork(), NINE, "lock-step", images=2, at_once=at_once)
    for made_by_step in latents:
        for tiles in made_by_step.split(9):
            canvas = torch.zeros(CHANNELS, 10, 10)
            for index, tile in enumerate(tiles):
                canvas[(..., *NINE.area(index))] = tile
            assert torch.equal(NINE.split(canvas[None]), tiles)


def test_tiles_in_lock_step_all_take_a_step_before_any_takes_the_next():
    work = FakeWork()
    run(work, NINE, "lock-step", at_once=4)
    steps = [k for stage, _, k in work.blocks if stage == "step"]
    assert steps == sorted(steps)


@pytest.mark.parametrize("mode", MODES)
def test_pictures_do_not_mix(mode):
    both = run(FakeWork(), NINE, mode, images=2, at_once=7)
    for image in (0, 1):
        alone = run(FakeWork(first=9 * image), NINE, mode)
        assert_equal_lists([latent[9 * image : 9 * image + 9] for latent in both], alone)


MIXED = [NINE, ONE, CROWDED, NINE, ONE]
FIRSTS = [0, 9, 10, 13, 22]


def run_mixed(work, mode, *, at_once=1, wanted=None):
    session = Session(Execution(device=DEVICE, prepare=lambda: at_once), plan_of(work, 23))
    return TileLoop(work, MIXED, mode, session, wanted).run()


@pytest.mark.parametrize("mode", MODES)
@each("at_once", [1, 2, 7, 100])
def test_pictures_of_different_sizes_do_not_mix(mode, at_once):
    together = run_mixed(FakeWork(), mode, at_once=at_once)
    for grid, first in zip(MIXED, FIRSTS, strict=True):
        alone = run(FakeWork(first=first), grid, mode)
        assert_equal_lists([latent[first : first + len(grid)] for latent in together], alone)


@pytest.mark.parametrize("mode", MODES)
def test_unwanted_tiles_of_pictures_of_different_sizes_are_left_alone(mode):
    wanted = [0, 1, 4, 10, 12, 22]
    work = FakeWork()
    together = run_mixed(work, mode, at_once=3, wanted=wanted)
    assert {number for number, _ in work.times("step")} == set(wanted)
    for grid, first in zip(MIXED, FIRSTS, strict=True):
        own = [number - first for number in wanted if 0 <= number - first < len(grid)]
        if own:
            alone = run(FakeWork(first=first), grid, mode, wanted=own)
            assert_equal_lists([latent[first : first + len(grid)] for latent in together], alone)


def test_each_phase_runs_together_in_pictures_of_different_sizes():
    work = FakeWork()
    run_mixed(work, "phased", at_once=100)
    started = [numbers for stage, numbers, _ in work.blocks if stage == "start"]
    phases = [Overlaps(grid).phases for grid in MIXED]
    expected = [
        [
            first + i
            for own, first in zip(phases, FIRSTS, strict=True)
            if p < len(own)
            for i in own[p]
        ]
        for p in range(4)
    ]
    assert started == expected
    assert [len(numbers) for numbers in started] == [4 + 1 + 1 + 4 + 1, 2 + 1 + 2, 2 + 1 + 2, 1 + 1]


@pytest.mark.parametrize("mode", MODES)
def test_running_out_of_memory_among_pictures_of_different_sizes_changes_nothing(mode):
    calm = run_mixed(FakeWork(), mode)
    for call in range(1, 12):
        work = FakeWork(fail=lambda *now, call=call: now[-1] in (call, call + 2))
        assert_equal_lists(run_mixed(work, mode, at_once=11), calm)
        assert work.failed


@pytest.mark.parametrize("mode", ["phased", "lock-step"])
@each("at_once", [1, 3, 100])
def test_settled_steps_are_taken_as_given_and_later_ones_shared(mode, at_once):
    latents = run(FakeWork(settled=2), NINE, mode, at_once=at_once)
    apart = run(FakeWork(), NINE, "independent")
    assert_equal_lists(latents[:2], apart[:2])
    assert not torch.equal(latents[2], apart[2])
    promised = expected(NINE, mode, settled=2)
    torch.testing.assert_close(torch.stack(latents), promised, atol=1e-6, rtol=0)


# Some of the tiles


@pytest.mark.parametrize("mode", MODES)
@each("at_once", [1, 2, 100])
def test_unwanted_tiles_are_left_alone_and_are_nobodys_neighbours(mode, at_once):
    wanted = [0, 1, 3, 4, 8, 10, 11, 13, 16, 12, 9]
    work = FakeWork()
    latents = run(work, NINE, mode, images=2, at_once=at_once, wanted=wanted)
    assert {number for number, _ in work.times("step")} == set(wanted)
    unwanted = sorted(set(range(18)) - set(wanted))
    assert all((latent[unwanted] == 0).all() for latent in latents)
    promised = expected(NINE, mode, images=2, wanted=wanted)
    torch.testing.assert_close(torch.stack(latents), promised, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "mode",
    [
        "phased",
        "lock-step",
        "independent",
    ],
)
@each("wanted", [[4], [0, 8], [1, 7]])
def test_phases_without_wanted_tiles_are_passed_over(mode, wanted):
    latents = run(FakeWork(), NINE, mode, wanted=wanted, at_once=2)
    promised = expected(NINE, mode, wanted=wanted)
    torch.testing.assert_close(torch.stack(latents), promised, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_runs_where_no_tile_is_wanted(mode):
    work = FakeWork()
    run(work, NINE, mode, wanted=[])
    assert work.calls == 0
