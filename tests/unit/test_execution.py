import pytest
import torch

from varsr_core.execution import Execution, is_out_of_memory, run_in_blocks


class CancelledError(Exception):
    pass


class Work:
    """Returns the numbers of its tiles; out of memory beyond `capacity` tiles at once."""

    def __init__(self, capacity=1000, steps=3):
        self.capacity = capacity
        self.steps = steps
        self.tried = []

    def __call__(self, part, report):
        size = part.stop - part.start
        self.tried.append(size)
        if size > self.capacity:
            raise torch.OutOfMemoryError("too many")
        for step in range(self.steps):
            report(step + 1, f"step {step}", torch.full((size,), part.start))
        return list(range(part.start, part.stop))


def run(work, tiles, at_once, **services):
    execution = Execution(prepare=lambda: at_once, **services)
    return run_in_blocks(tiles, work.steps, work, execution)


def flat(results):
    return [tile for result in results for tile in result]


@pytest.mark.parametrize("tiles", [1, 2, 7, 12])
@pytest.mark.parametrize("at_once", [-1, 0, 1, 3, 5, 100])
def test_results_come_in_the_order_of_the_tiles(tiles, at_once):
    assert flat(run(Work(), tiles, at_once)) == list(range(tiles))


def test_blocks_have_the_size_that_prepare_says():
    work = Work()
    run(work, 7, 3)
    assert work.tried == [3, 3, 1]


def test_a_block_that_runs_out_of_memory_is_halved_until_it_fits():
    work = Work(capacity=2)
    assert flat(run(work, 10, 8)) == list(range(10))
    assert work.tried == [8, 4, 2, 2, 2, 2, 2]


def test_a_short_block_that_runs_out_of_memory_is_halved_by_its_own_size():
    work = Work(capacity=1)
    assert flat(run(work, 3, 100)) == [0, 1, 2]
    assert work.tried == [3, 1, 1, 1]


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

    def work(part, report):
        held = Tensors()
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError(f"with {held}")
        return [part.start]

    execution = Execution(prepare=lambda: 2, free_memory=lambda: alive.append(Tensors.alive))
    run_in_blocks(2, 1, work, execution)
    assert alive == [0]


def test_a_single_tile_that_runs_out_of_memory_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        run(Work(capacity=0), 4, 4)


def test_other_errors_are_raised_at_once():
    freed = []

    def work(part, report):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    execution = Execution(prepare=lambda: 8, free_memory=lambda: freed.append(1))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run_in_blocks(8, 1, work, execution)
    assert not freed


def test_the_caller_may_tell_what_out_of_memory_is():
    def work(part, report):
        if part.stop - part.start > 1:
            raise KeyError("the host's own kind")
        return [part.start]

    execution = Execution(
        prepare=lambda: 4, is_out_of_memory=lambda error: isinstance(error, KeyError)
    )
    assert flat(run_in_blocks(3, 1, work, execution)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(("tiles", "at_once"), [(1, 1), (7, 1), (7, 3), (8, 8)])
def test_progress_rises_to_its_total(tiles, at_once):
    seen = []
    run(Work(), tiles, at_once, on_progress=seen.append)
    done = [progress.done for progress in seen]
    assert done == sorted(set(done))
    assert {progress.total for progress in seen} == {tiles * 3}
    assert done[-1] == tiles * 3
    assert done[0] > 0


def test_progress_ends_at_its_total_after_running_out_of_memory():
    seen = []
    run(Work(capacity=2), 7, 7, on_progress=seen.append)
    done = [progress.done for progress in seen]
    assert done == sorted(set(done))
    assert done[-1] == seen[-1].total == 21


def test_progress_tells_stage_and_latent():
    seen = []
    run(Work(), 2, 1, on_progress=seen.append)
    assert [progress.stage for progress in seen[:3]] == ["step 0", "step 1", "step 2"]
    assert seen[3].latent.tolist() == [1]


def test_cancelling_stops_the_work_and_reaches_the_caller():
    work = Work()

    def cancel(progress):
        if progress.done == 5:
            raise CancelledError

    with pytest.raises(CancelledError):
        run(work, 10, 1, on_progress=cancel)
    assert work.tried == [1, 1]
