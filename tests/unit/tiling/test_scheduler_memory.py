"""Tiles through their steps where memory is short, or someone cancels."""

import pytest
import torch

from helpers.each import each
from helpers.fake_work import (
    CPU,
    DEVICE,
    MODES,
    NINE,
    ONE,
    STEPS,
    TILE_BYTES,
    CancelledError,
    FakeState,
    FakeWork,
    assert_equal_lists,
    run,
)
from helpers.told import assert_rises_to_its_total
from varsr_core.errors import InputError

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
@each("at_once", [4, 100])
def test_running_out_of_memory_changes_nothing_and_repeats_no_step(mode, failure, at_once):
    work = FakeWork(fail=(FAILURES | IN_FINISH)[failure])
    latents = run(work, NINE, mode, images=2, at_once=at_once)
    assert work.failed
    assert_equal_lists(latents, run(FakeWork(), NINE, mode, images=2))
    assert work.times("start") == {(n, 0): 1 for n in range(18)}
    assert work.times("step") == {(n, k): 1 for n in range(18) for k in range(STEPS)}
    assert work.times("finish") == {(n, STEPS): 1 for n in range(18)}


@pytest.mark.parametrize("mode", MODES)
@each("failure", FAILURES)
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
@each("failure", [None, *FAILURES])
@each("at_once", [1, 4, 100])
def test_no_state_but_that_of_the_tiles_at_work_is_on_the_device(mode, failure, at_once):
    work = FakeWork(fail=FAILURES.get(failure, lambda *_: False))
    run(work, NINE, mode, images=2, at_once=at_once)
    assert set().union(*work.waiting) <= {CPU}
    assert not work.where  # all finished


@each("at_once", [1, 4, 8])
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


@each("at_once", [1, 2, 8])
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


@each("spare", [9 * TILE_BYTES, None])
def test_lock_step_runs_where_states_fit_or_nobody_knows(spare):
    latents = run(FakeWork(), NINE, "lock-step", at_once=2, spare_bytes=lambda: spare)
    assert_equal_lists(latents, run(FakeWork(), NINE, "lock-step"))


@each(
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


@each(("mode", "at_once"), [("lock-step", 9), ("phased", 2), ("independent", 2)])
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
@each("failure", [None, *FAILURES])
@each("at_once", [1, 4, 100])
def test_progress_rises_to_its_total_wherever_memory_runs_out(mode, failure, at_once):
    seen = []
    work = FakeWork(fail=FAILURES.get(failure, lambda *_: False))
    run(work, NINE, mode, images=2, at_once=at_once, on_progress=seen.append)
    assert_rises_to_its_total(seen)
    assert seen[-1].done == 18 * STEPS
    for k in range(STEPS):
        assert sum(progress.stepped for progress in seen if progress.step == k) == 18


@pytest.mark.parametrize("mode", MODES)
def test_progress_tells_the_step_that_begins_and_that_was_taken(mode):
    seen, work = [], FakeWork()
    run(work, NINE, mode, at_once=4, on_progress=seen.append)
    steps = [(len(numbers), k) for stage, numbers, k in work.blocks if stage == "step"]
    assert [progress.stage.scale - 1 for progress in seen] == [k for _, k in steps for _ in "be"]
    told = [(progress.step, progress.stepped) for progress in seen]
    assert told[::2] == [(None, 0)] * len(steps)
    assert told[1::2] == [(k, tiles) for tiles, k in steps]


@pytest.mark.parametrize("mode", MODES)
@each("cancel_at", [2, 4, 18, 36])
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
