"""Tiles through their steps: which run together, in which order, what they share."""

from collections import Counter
from functools import cache

import pytest
import torch

from varsr_core.errors import InputError
from varsr_core.runtime.execution import Execution, Session
from varsr_core.tiling.consistency import Neighbourhood
from varsr_core.tiling.grid import TileGrid
from varsr_core.tiling.scheduler import TileLoop

CPU = torch.device("cpu")
DEVICE = torch.device("meta")  # only compared: the fake work's tensors stay where they are
CHANNELS, STEPS = 2, 4
TILE_BYTES = 1000
MODES = ["phased", "lock-step", "independent"]

ONE = TileGrid(4, 4, tile=4, overlap=1)
NINE = TileGrid(10, 10, tile=4, overlap=1)
CROWDED = TileGrid(7, 4, tile=4, overlap=2)  # each of the three tiles overlaps both others


class CancelledError(Exception):
    pass


@cache
def fresh(number, k):
    """What a step adds to a tile, of its own."""
    generator = torch.Generator().manual_seed(100 * number + k)
    return torch.randn(CHANNELS, 4, 4, generator=generator)


def made(latent, number, k):
    """One step of one tile: from the picture so far, which may come from neighbours, and its own"""
    return 0.5 * latent + fresh(number, k)


class FakeState:
    """Tiles whose latents of all steps are kept; `work` hears of all that is done to it."""

    def __init__(self, work, numbers, latents, device):
        self.work, self.numbers, self.latents, self.device = work, numbers, latents, device

    @property
    def latent(self):
        return self.latents[-1]

    @latent.setter
    def latent(self, latent):
        self.latents[-1] = latent

    @property
    def nbytes(self):
        return TILE_BYTES * len(self.numbers)

    def select(self, tiles):
        latents = [latent[tiles].clone() for latent in self.latents]
        return FakeState(self.work, self.numbers[tiles], latents, self.device)

    def to(self, device):
        if (self.device, device) == (CPU, DEVICE):
            self.work.maybe_fail("move", self.numbers, len(self.latents) - 1)
        self.work.where |= dict.fromkeys(self.numbers, device)
        return FakeState(self.work, self.numbers, list(self.latents), device)

    def rewind(self, k):
        self.work.rewound.append((self.numbers, k))
        del self.latents[k + 1 :]


class FakeWork:
    """Work that can run out of memory anywhere, and leaves rubbish behind when it does.

    fail: (stage, numbers, k, call) -> bool; stage is start, move (back to the device), step or
          finish, call counts from 1
    """

    def __init__(self, steps=STEPS, settled=0, fail=lambda *_: False, first=0):
        self.steps, self.settled, self.fail, self.first = steps, settled, fail, first
        self.calls = 0
        self.blocks = []  # (stage, numbers, k) of all that succeeded
        self.failed, self.rewound = [], []
        self.where = {}  # device of the state of every tile under way
        self.waiting = []  # at every step, the devices of all other tiles under way
        self.began_with = {}  # (number, k) -> latent before that step

    def describe(self, k):
        return f"step {k}"

    def start(self, numbers):
        assert numbers
        self.maybe_fail("start", numbers, 0)
        self.where |= dict.fromkeys(numbers, DEVICE)
        return FakeState(self, list(numbers), [torch.zeros(len(numbers), CHANNELS, 4, 4)], DEVICE)

    def step(self, state, numbers, k):
        assert state.numbers == list(numbers)
        assert len(state.latents) == k + 1  # all steps before were done, none is left over
        assert state.device == DEVICE
        self.waiting.append({self.where[number] for number in self.where.keys() - set(numbers)})
        before = state.latent
        state.latents.append(torch.full_like(before, torch.nan))
        self.maybe_fail("step", numbers, k)
        new = [made(b, self.first + n, k) for b, n in zip(before, numbers, strict=True)]
        state.latents[-1] = torch.stack(new)
        self.began_with |= {(n, k): b for n, b in zip(numbers, before, strict=True)}

    def finish(self, state, numbers):
        assert state.numbers == list(numbers)
        assert len(state.latents) == self.steps + 1
        self.maybe_fail("finish", numbers, self.steps)
        for number in numbers:
            del self.where[number]

    def maybe_fail(self, stage, numbers, k):
        self.calls += 1
        if len(numbers) > 1 and self.fail(stage, numbers, k, self.calls):
            self.failed.append((stage, list(numbers), k))
            raise MemoryError
        self.blocks.append((stage, list(numbers), k))

    def times(self, stage):
        """How often each tile took each step, or started, or finished."""
        return Counter(
            (number, k) for done, numbers, k in self.blocks if done == stage for number in numbers
        )


def run(work, grid, mode, *, images=1, at_once=1, wanted=None, **services):
    count = images * len(grid) if wanted is None else len(wanted)
    execution = Execution(device=DEVICE, prepare=lambda: at_once, **services)
    session = Session(execution, count * work.steps)
    return TileLoop(work, [grid] * images, mode, session, wanted).run()


def expected(grid, mode, *, images=1, wanted=None, steps=STEPS, settled=0):
    """What the modes promise, tile by tile and without blocks."""
    around, tiles = Neighbourhood(grid), images * len(grid)
    wanted = list(range(tiles)) if wanted is None else wanted
    latents = torch.zeros(steps, tiles, CHANNELS, 4, 4)
    if mode == "lock-step":
        for k in range(steps):
            for number in wanted:
                before = latents[k - 1, number] if k else torch.zeros(CHANNELS, 4, 4)
                latents[k, number] = made(before, number, k)
            if k >= settled:
                latents[k, wanted] = around.meet(latents[k], wanted)
        return latents
    finished = set()
    for number in in_order(grid, images, wanted):
        latent, first = torch.zeros(CHANNELS, 4, 4), number // len(grid) * len(grid)
        for k in range(steps):
            latent = made(latent, number, k)
            if mode == "phased" and k >= settled:
                index = number - first
                neighbours = {
                    other: latents[k, first + other]
                    for other in around.overlapping(index)
                    if first + other in finished
                }
                latent = around.take_over(latent, index, neighbours)
            latents[k, number] = latent
        finished.add(number)
    return latents


def in_order(grid, images, wanted):
    """Wanted tiles, one at a time, in an order that the phases allow."""
    for phase in Neighbourhood(grid).phases:
        for index in phase:
            for image in range(images):
                if (number := image * len(grid) + index) in wanted:
                    yield number


def assert_equal_lists(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


# The modes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", [ONE, NINE, CROWDED], ids=["one", "nine", "crowded"])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
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
@pytest.mark.parametrize("at_once", [1, 4, 100])
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


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_later_tiles_take_over_from_finished_neighbours_after_the_same_step(monkeypatch, at_once):
    taken, take_over = {}, Neighbourhood.take_over

    def spy(self, latent, index, finished):
        number, k = next(  # which tile after which step is told by the latent it made itself
            (n, k)
            for n in (index, index + len(NINE))
            for k in range(STEPS)
            if (n, k) in work.began_with and torch.equal(latent, made(work.began_with[n, k], n, k))
        )
        taken[number, k] = {other: tile.clone() for other, tile in finished.items()}
        return take_over(self, latent, index, finished)

    monkeypatch.setattr(Neighbourhood, "take_over", spy)
    work = FakeWork()
    latents = run(work, NINE, "phased", images=2, at_once=at_once)
    around = Neighbourhood(NINE)
    phase_of = {index: p for p, phase in enumerate(around.phases) for index in phase}
    assert taken.keys() == {(n, k) for n in range(18) for k in range(STEPS)}
    for (number, k), finished in taken.items():
        index, first = number % 9, number // 9 * 9
        earlier = {i for i in around.overlapping(index) if phase_of[i] < phase_of[index]}
        assert finished.keys() == earlier
        for other, tile in finished.items():
            assert torch.equal(tile, latents[k][first + other])


def test_tiles_of_a_phase_run_together_whatever_their_picture():
    work = FakeWork()
    run(work, NINE, "phased", images=2, at_once=100)
    started = [numbers for stage, numbers, _ in work.blocks if stage == "start"]
    both = [sorted(p + [i + 9 for i in p]) for p in Neighbourhood(NINE).phases]
    assert started == both


@pytest.mark.parametrize("at_once", [1, 4, 100])
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
    session = Session(Execution(device=DEVICE, prepare=lambda: at_once), 23 * work.steps)
    return TileLoop(work, MIXED, mode, session, wanted).run()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
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
    phases = [Neighbourhood(grid).phases for grid in MIXED]
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
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_settled_steps_are_taken_as_given_and_later_ones_shared(mode, at_once):
    latents = run(FakeWork(settled=2), NINE, mode, at_once=at_once)
    apart = run(FakeWork(), NINE, "independent")
    assert_equal_lists(latents[:2], apart[:2])
    assert not torch.equal(latents[2], apart[2])
    promised = expected(NINE, mode, settled=2)
    torch.testing.assert_close(torch.stack(latents), promised, atol=1e-6, rtol=0)


# Some of the tiles


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_once", [1, 2, 100])
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
@pytest.mark.parametrize("wanted", [[4], [0, 8], [1, 7]])
def test_phases_without_wanted_tiles_are_passed_over(mode, wanted):
    latents = run(FakeWork(), NINE, mode, wanted=wanted, at_once=2)
    promised = expected(NINE, mode, wanted=wanted)
    torch.testing.assert_close(torch.stack(latents), promised, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_runs_where_no_tile_is_wanted(mode):
    work = FakeWork()
    run(work, NINE, mode, wanted=[])
    assert work.calls == 0


# Memory runs out

FAILURES = {
    "at the start": lambda stage, numbers, k, call: stage == "start" and len(numbers) > 2,
    "at the first step": lambda stage, numbers, k, call: k == 0 and len(numbers) > 1,
    "at a later step": lambda stage, numbers, k, call: (stage, k) == ("step", 2),
    "at the last step": lambda stage, numbers, k, call: (stage, k) == ("step", STEPS - 1),
    "with more than two tiles": lambda stage, numbers, k, call: len(numbers) > 2,
    "ever earlier": lambda stage, numbers, k, call: stage == "step" and len(numbers) + k > 4,
    "at several calls": lambda stage, numbers, k, call: call in (2, 3, 9, 12),
    "on the way back": lambda stage, numbers, k, call: (
        stage == "move" or (k == 1 and len(numbers) > 3)
    ),
    "at the second block": lambda stage, numbers, k, call: stage == "step" and 4 in numbers,
}
IN_FINISH = {
    "in finish": lambda stage, numbers, k, call: stage == "finish",
    "in finish of many": lambda stage, numbers, k, call: stage == "finish" and len(numbers) > 2,
}
SHORTAGES = [(mode, fail) for mode in MODES for fail in FAILURES | IN_FINISH]


@pytest.mark.parametrize(("mode", "failure"), SHORTAGES)
@pytest.mark.parametrize("at_once", [4, 100])
def test_running_out_of_memory_changes_nothing_and_repeats_no_step(mode, failure, at_once):
    work = FakeWork(fail=(FAILURES | IN_FINISH)[failure])
    latents = run(work, NINE, mode, images=2, at_once=at_once)
    assert work.failed
    assert_equal_lists(latents, run(FakeWork(), NINE, mode, images=2))
    assert work.times("start") == {(n, 0): 1 for n in range(18)}
    assert work.times("step") == {(n, k): 1 for n in range(18) for k in range(STEPS)}
    assert work.times("finish") == {(n, STEPS): 1 for n in range(18)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("failure", FAILURES)
def test_state_is_rewound_to_the_step_that_failed(mode, failure):
    work = FakeWork(fail=FAILURES[failure])
    run(work, NINE, mode, images=2, at_once=7)
    # Where there was no state yet, there is nothing to rewind.
    assert work.rewound == [(numbers, k) for stage, numbers, k in work.failed if stage != "start"]


@pytest.mark.parametrize("mode", ["phased", "independent"])
def test_state_is_rewound_behind_the_last_step_when_finishing_failed(mode):
    work = FakeWork(fail=IN_FINISH["in finish"])
    run(work, NINE, mode, at_once=4)
    assert work.rewound
    assert {k for _, k in work.rewound} == {STEPS}


@pytest.mark.parametrize("mode", MODES)
def test_blocks_stay_small_once_memory_ran_out(mode):
    """What failed once is not tried again by the phases and steps that follow."""
    work = FakeWork(fail=lambda stage, numbers, k, call: len(numbers) > 2)
    run(work, NINE, mode, images=2, at_once=8)
    assert len(work.failed) == 2  # 8, then 4
    assert max(len(numbers) for _, numbers, _ in work.blocks) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stage", ["start", "step", "finish"])
def test_single_tile_without_memory_is_an_error_that_says_what_to_do(monkeypatch, mode, stage):
    work = FakeWork()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(work, stage, fail)
    with pytest.raises(torch.OutOfMemoryError, match="single tile"):
        run(work, ONE, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stage", ["start", "step", "finish"])
def test_other_errors_pass_through(monkeypatch, mode, stage):
    work = FakeWork()

    def fail(*_):
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(work, stage, fail)
    with pytest.raises(ValueError, match="shapes do not fit"):
        run(work, NINE, mode, at_once=4)
    assert not work.rewound


# States off the device


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("failure", [None, *FAILURES])
@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_no_state_but_that_of_the_tiles_at_work_is_on_the_device(mode, failure, at_once):
    work = FakeWork(fail=FAILURES.get(failure, lambda *_: False))
    run(work, NINE, mode, images=2, at_once=at_once)
    assert set().union(*work.waiting) <= {CPU}
    assert not work.where  # all finished


@pytest.mark.parametrize("at_once", [1, 4, 8])
def test_states_in_lock_step_wait_off_the_device(at_once):
    work = FakeWork()
    run(work, NINE, "lock-step", at_once=at_once)
    assert work.waiting[0] == set()
    assert set().union(*work.waiting) == {CPU}


def test_states_in_lock_step_stay_on_the_device_when_all_tiles_run_at_once(monkeypatch):
    devices, to = [], FakeState.to

    def spy(self, device):
        devices.append(device)
        return to(self, device)

    monkeypatch.setattr(FakeState, "to", spy)
    run(FakeWork(), NINE, "lock-step", at_once=9)
    assert set(devices) <= {DEVICE}
    run(FakeWork(), NINE, "lock-step", at_once=8)
    assert CPU in devices


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_lock_step_is_refused_before_its_first_step_where_states_do_not_fit(at_once):
    work = FakeWork()
    spare = 9 * TILE_BYTES - 1
    with pytest.raises(InputError) as caught:
        run(work, NINE, "lock-step", at_once=at_once, spare_bytes=lambda: spare)
    message = str(caught.value)
    assert "all 9 tiles" in message
    assert "Choose phased tiling, or a smaller output" in message
    assert not work.times("step")


def test_refusal_of_lock_step_tells_what_is_needed_and_what_is_free(monkeypatch):
    nbytes = property(lambda state: 2_000_000_000 * len(state.numbers))
    monkeypatch.setattr(FakeState, "nbytes", nbytes)
    with pytest.raises(InputError, match=r"18\.0 GB, and 4\.5 GB of system memory are free"):
        run(FakeWork(), NINE, "lock-step", at_once=2, spare_bytes=lambda: 4_500_000_000)


@pytest.mark.parametrize("spare", [9 * TILE_BYTES, None])
def test_lock_step_runs_where_states_fit_or_nobody_knows(spare):
    latents = run(FakeWork(), NINE, "lock-step", at_once=2, spare_bytes=lambda: spare)
    assert_equal_lists(latents, run(FakeWork(), NINE, "lock-step"))


@pytest.mark.parametrize(
    ("at_once", "spare", "fits"),
    [(2, 5 * TILE_BYTES, True), (2, 5 * TILE_BYTES - 1, False), (5, 0, True)],
)
def test_lock_step_needs_room_for_wanted_tiles_only(at_once, spare, fits):
    how = {"at_once": at_once, "wanted": [0, 2, 4, 6, 8], "spare_bytes": lambda: spare}
    if fits:
        run(FakeWork(), NINE, "lock-step", **how)
        return
    with pytest.raises(InputError, match="all 5 tiles"):
        run(FakeWork(), NINE, "lock-step", **how)


@pytest.mark.parametrize(("mode", "at_once"), [("lock-step", 9), ("phased", 2), ("independent", 2)])
def test_room_is_not_asked_for_where_no_state_is_parked(mode, at_once):
    run(FakeWork(), NINE, mode, at_once=at_once, spare_bytes=lambda: 0)


def test_lock_step_runs_where_states_just_fit_and_free_memory_is_measured_anew():
    """As ComfyUI's is: what is parked is free no more."""
    work = FakeWork()

    def spare():
        parked = sum(device == CPU for device in work.where.values())
        return (10 - parked) * TILE_BYTES

    run(work, NINE, "lock-step", at_once=2, spare_bytes=spare)


# Progress


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("failure", [None, *FAILURES])
@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_progress_rises_to_its_total_wherever_memory_runs_out(mode, failure, at_once):
    seen = []
    work = FakeWork(fail=FAILURES.get(failure, lambda *_: False))
    run(work, NINE, mode, images=2, at_once=at_once, on_progress=seen.append)
    done = [progress.done for progress in seen]
    assert done == sorted(set(done))
    assert done[-1] == 18 * STEPS
    assert {progress.total for progress in seen} == {18 * STEPS}


@pytest.mark.parametrize("mode", MODES)
def test_progress_tells_the_step_that_was_taken(mode):
    seen, work = [], FakeWork()
    run(work, NINE, mode, at_once=4, on_progress=seen.append)
    steps = [(numbers, k) for stage, numbers, k in work.blocks if stage == "step"]
    assert [progress.stage for progress in seen] == [f"step {k}" for _, k in steps]
    assert [progress.step for progress in seen] == [k for _, k in steps]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cancel_at", [2, 4, 18, 36])
def test_cancelling_stops_the_work_and_reaches_the_caller(mode, cancel_at):
    work = FakeWork()

    def cancel(progress):
        if progress.done >= cancel_at:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(work, NINE, mode, at_once=2, on_progress=cancel)
    assert cancel_at <= sum(work.times("step").values()) < cancel_at + 2
    assert not work.failed
    assert not work.rewound
