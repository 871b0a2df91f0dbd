"""How many tiles at once, what if memory is short, and what the caller hears of it."""

import math

import pytest
import torch

from helpers.each import each
from helpers.told import assert_rises_to_its_total, task_of
from varsr_core.runtime.execution import Execution, Session, is_out_of_memory
from varsr_core.runtime.progress import Stage
from varsr_core.runtime.work import Calls, Task


class CancelledError(Exception):
    pass


class Work:
    """Notes the tiles of every try; out of memory beyond `capacity` tiles at once.

    fail_at: numbers of the tries that run out of memory with more than one tile
    """

    def __init__(self, capacity=1000, fail_at=()):
        self.capacity, self.fail_at = capacity, fail_at
        self.tried = []
        self.done = []

    def __call__(self, part):
        size = part.stop - part.start
        self.tried.append(size)
        if size > self.capacity or (size > 1 and len(self.tried) in self.fail_at):
            raise torch.OutOfMemoryError("too many")
        self.done += range(part.start, part.stop)


ONE = task_of(1)


def session_of(at_once=1, *plan, **services):
    return Session(Execution(prepare=lambda: at_once, **services), plan)


def run(work, tiles, at_once, **services):
    session = session_of(at_once, (ONE, tiles), **services)
    session.run(tiles, ONE, work)
    return session


def out_of_memory():
    raise torch.OutOfMemoryError("at the very first byte")


@each(("said", "size"), [(-3, 1), (0, 1), (1, 1), (5, 5)])
def test_session_works_on_as_many_tiles_as_prepare_says_and_on_one_at_least(said, size):
    assert session_of(said).size == size


def test_model_is_prepared_once():
    calls = []
    session = Session(Execution(prepare=lambda: calls.append(1) or 2))
    session.run(7, ONE, Work())
    assert calls == [1]


def test_session_has_the_device_of_the_caller():
    assert session_of(device=torch.device("meta")).device == torch.device("meta")


@each("tiles", [0, 1, 2, 7, 12])
@each("at_once", [-1, 0, 1, 3, 5, 100])
def test_every_tile_is_done_once_and_in_order(tiles, at_once):
    work = Work()
    run(work, tiles, at_once)
    assert work.done == list(range(tiles))


def test_blocks_have_the_size_that_prepare_says():
    work = Work()
    run(work, 7, 3)
    assert work.tried == [3, 3, 1]


def test_a_block_that_runs_out_of_memory_is_halved_until_it_fits():
    work = Work(capacity=2)
    session = run(work, 10, 8)
    assert work.done == list(range(10))
    assert work.tried == [8, 4, 2, 2, 2, 2, 2]
    assert session.size == 2


def test_a_short_block_that_runs_out_of_memory_is_halved_by_its_own_size():
    work = Work(capacity=1)
    run(work, 3, 100)
    assert work.done == [0, 1, 2]
    assert work.tried == [3, 1, 1, 1]


@each("fail_at", [{1}, {2}, {3}, {1, 2}, {2, 3}, {1, 3, 4}])
def test_work_goes_on_where_memory_ran_out(fail_at):
    work = Work(fail_at=fail_at)
    run(work, 13, 4)
    assert work.done == list(range(13))


def test_size_found_by_running_out_of_memory_holds_for_the_next_run():
    session, work = run(Work(capacity=2), 4, 4), Work()
    session.run(4, ONE, work)
    assert work.tried == [2, 2]


@each(("at_once", "tiles"), [(8, 8), (8, 5), (4, 2), (5, 5)])
def test_attempt_that_runs_out_of_memory_halves_the_size_by_the_tiles_it_had(at_once, tiles):
    session = session_of(at_once)
    assert session.attempt(tiles, out_of_memory) is False
    assert session.size == tiles // 2


@each(("at_once", "tiles"), [(1, 4), (2, 8)])
def test_running_out_of_memory_never_makes_the_size_grow(at_once, tiles):
    """A canvas' norms are measured on four tiles at once, whatever the size."""
    session = session_of(at_once)
    session.attempt(tiles, out_of_memory)
    assert session.size <= at_once


def test_attempt_that_fits_leaves_the_size():
    session, did = session_of(4), []
    assert session.attempt(2, lambda: did.append(1)) is True
    assert session.size == 4
    assert did == [1]


@each("at_once", [1, 4])
def test_single_tile_that_runs_out_of_memory_is_an_error_that_says_what_to_do(at_once):
    freed = []
    session = session_of(at_once, free_memory=lambda: freed.append(1))
    with pytest.raises(torch.OutOfMemoryError) as caught:
        session.attempt(1, out_of_memory)
    message = str(caught.value)
    assert "a single tile" in message
    assert "unload other models" in message
    assert "lower precision" in message
    assert "at the very first byte" in message
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert not freed


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError, RuntimeError])
def test_single_tile_raises_the_same_kind_whatever_the_backend_raised(kind):
    def work(part):
        raise kind("out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="single tile"):
        run(work, 4, 4)


def test_work_that_cannot_be_divided_is_done_once_and_gives_its_result():
    calls = []
    session = session_of(4)
    assert session.single(lambda: calls.append(1) or "features") == "features"
    assert calls == [1]
    assert session.size == 4


def test_work_that_cannot_be_divided_and_does_not_fit_is_an_error_that_says_what_to_do():
    with pytest.raises(torch.OutOfMemoryError, match="unload other models"):
        session_of(4).single(out_of_memory)


def test_memory_is_freed_before_every_smaller_try():
    work, freed = Work(capacity=2), []
    run(work, 8, 8, free_memory=lambda: freed.append(list(work.tried)))
    assert freed == [[8], [8, 4]]


def test_memory_is_freed_after_the_error_has_let_go_of_it():
    class Tensors:
        alive = 0

        def __init__(self):
            Tensors.alive += 1

        def __del__(self):
            Tensors.alive -= 1

    alive = []

    def work(part):
        held = Tensors()
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError(f"with {held}")

    run(work, 2, 2, free_memory=lambda: alive.append(Tensors.alive))
    assert alive == [0]


@each("tiles", [1, 8])
def test_other_errors_are_raised_at_once(tiles):
    freed, tried = [], []

    def work(part):
        tried.append(part)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        run(work, tiles, 8, free_memory=lambda: freed.append(1))
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    assert not freed
    assert len(tried) == 1


def test_the_caller_may_tell_what_out_of_memory_is():
    tried = []

    def work(part):
        tried.append(part.stop - part.start)
        if tried[-1] > 1:
            raise KeyError("the host's own kind")

    run(work, 3, 4, is_out_of_memory=lambda error: isinstance(error, KeyError))
    assert tried == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("HIPBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("miopenStatusAllocFailed"), True),
        (RuntimeError("hipErrorOutOfMemory"), True),
        (RuntimeError("UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(("kind", "expected"), [(RuntimeError, True), (KeyboardInterrupt, False)])
def test_what_a_shortage_led_to_counts_as_one_unless_somebody_cancels(kind, expected):
    """A recording that runs out of memory ends with an error of its own."""
    error = kind("capture failed")
    error.__context__ = torch.OutOfMemoryError("full")
    assert is_out_of_memory(error) is expected


@each("fail_at", [set(), {1}, {2}, {1, 2}, {2, 4}])
@each(("tiles", "at_once"), [(1, 4), (7, 1), (7, 3), (8, 8)])
def test_progress_rises_to_its_total_wherever_memory_runs_out(tiles, at_once, fail_at):
    seen = []
    run(Work(fail_at=fail_at), tiles, at_once, on_progress=seen.append)
    assert_rises_to_its_total(seen)
    assert seen[-1].done == tiles


def test_progress_counts_over_all_runs_of_a_session():
    seen = []
    large = task_of(4)
    session = session_of(2, (ONE, 3), (large, 1), (ONE, 2), on_progress=seen.append)
    session.run(3, ONE, Work())
    with session.doing(large):
        assert session.done == 3
    session.run(2, ONE, Work(capacity=1))
    assert [progress.done for progress in seen] == [0, 2, 2, 3, 3, 7, 7, 7, 8, 8, 9]
    assert session.done == session.total == 9


def test_progress_tells_what_begins_and_what_has_ended():
    seen, scale = [], task_of(1, Stage("scale", 5, 7))
    session = session_of(1, (ONE, 2), (scale, 3), on_progress=seen.append)
    session.run(2, ONE, Work())
    with session.doing(scale, 3, step=4, draw=lambda: "picture"):
        pass
    assert [str(progress.stage) for progress in seen] == ["decoding"] * 4 + ["scale 5 of 7"] * 2
    assert [progress.step for progress in seen] == [None] * 5 + [4]
    assert [progress.stepped for progress in seen] == [0] * 5 + [3]
    assert [progress.draw and progress.draw() for progress in seen] == [None] * 5 + ["picture"]


def test_all_of_a_run_may_count_for_something_else():
    """Where it takes the place of work that was announced."""
    seen = []
    session = session_of(2, (task_of(7), 1), on_progress=seen.append)
    session.run(5, task_of(100), Work(), units=7)
    assert [progress.done for progress in seen] == [0, 2, 2, 5, 5, 7]


def test_failed_work_does_not_count_and_the_bar_does_not_go_back():
    seen, layer = [], torch.nn.Identity()
    task = Task(Stage("refining"), [Calls(layer, 10, count=2)])
    session = session_of(4, (task, 4), on_progress=seen.append)

    def short():
        with session.doing(task, 4):
            layer(torch.zeros(1))
            raise torch.OutOfMemoryError

    assert not session.attempt(4, short)
    assert session.done == 0
    for _ in range(2):
        with session.doing(task, 2):
            layer(torch.zeros(1))
            layer(torch.zeros(1))
    assert [progress.done for progress in seen] == [0, 40, 40, 40, 40, 40, 40, 60, 79, 80]


def test_failed_attempt_makes_no_progress():
    session = session_of(4, (ONE, 4))
    session.attempt(4, out_of_memory)
    assert session.done == 0


def test_cancelling_stops_the_work_and_reaches_the_caller():
    work = Work()

    def cancel(progress):
        if progress.done == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(work, 10, 1, on_progress=cancel)
    assert work.tried == [1, 1]


def test_defaults_work_one_by_one_in_silence_on_the_cpu():
    session, work = Session(Execution(), [(ONE, 2)]), Work()
    session.run(2, ONE, work)
    assert (session.device, session.size) == (torch.device("cpu"), 1)
    assert work.tried == [1, 1]
    assert Execution().spare_bytes() is None


def test_any_size_is_halved_to_one_in_as_many_tries_as_its_logarithm():
    work = Work(capacity=1)
    run(work, 100, 100)
    assert len(work.tried) == 100 + math.floor(math.log2(100))
