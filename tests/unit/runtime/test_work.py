"""Modules are followed while work is done, and only then."""

import threading

import pytest
import torch
from torch import nn

from helpers.told import task_of
from varsr_core.runtime import work
from varsr_core.runtime.execution import Execution, Session
from varsr_core.runtime.progress import ENCODING, Stage
from varsr_core.runtime.work import Calls, Task, followed, on_pixels


@pytest.fixture
def layers():
    return [nn.Identity() for _ in range(3)]


def test_each_call_is_told_of_when_it_has_ended(layers):
    parts, told = [Calls(layer, 10 * i) for i, layer in enumerate(layers)], []
    x = torch.ones(2)
    with followed(parts, told.append):
        for number in (0, 2, 2, 1):
            assert layers[number](x) is x
    assert told == [parts[0], parts[2], parts[2], parts[1]]


def test_nothing_is_told_of_afterwards_whatever_happened(layers):
    told = []
    for error in (None, ValueError):
        try:
            with followed([Calls(layers[0], 1)], told.append):
                layers[0](torch.ones(1))
                if error:
                    raise error
        except ValueError:
            pass
        layers[0](torch.ones(1))
    assert len(told) == 2
    assert not layers[0]._forward_hooks


def test_what_it_raises_ends_the_work(layers):
    done = []

    def cancel(part):
        raise InterruptedError

    def work():
        with followed([Calls(layers[1], 1)], cancel):
            for number, layer in enumerate(layers):
                layer(torch.ones(1))
                done.append(number)

    with pytest.raises(InterruptedError):
        work()
    assert done == [0]
    assert not layers[1]._forward_hooks


def test_another_thread_with_the_same_model_is_not_heard(layers):
    told, other = [], []
    parts = [Calls(layers[0], 1)]

    def elsewhere():
        with followed(parts, other.append):
            for _ in range(5):
                layers[0](torch.ones(1))

    with followed(parts, told.append):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        layers[0](torch.ones(1))
    assert (len(told), len(other)) == (1, 5)


def test_few_tokens_cost_what_kernels_cost_to_start():
    assert Calls(None, 5, launches=0).units("cpu") == 5
    assert Calls(None, 5, launches=3).units("cpu") == 5 + 3 * work.LAUNCH
    assert Calls(None, 5, launches=3).units("cuda") == 3 * work.LAUNCH_ON_GPU
    assert Calls(None, 10**12, launches=3).units("cuda") == 10**12
    assert on_pixels(10**6).units("cuda") > on_pixels(10**6).units("cpu") > 0
    assert Task(ENCODING).units("cpu") == 1, "no work is without an end"


def test_parts_share_what_their_task_counts_for(layers):
    seen = []
    task = Task(Stage("scale", 1, 2), [Calls(layers[0], 10, count=2), Calls(layers[1], 20)])
    execution = Execution(on_progress=lambda progress: seen.append(progress.done))
    session = Session(execution, [(task, 3), (task_of(50), 1)])
    with session.doing(task, 3):
        for number in (0, 1, 0, 0, 0):  # more often than was announced
            layers[number](torch.ones(1))
    with session.doing(task, units=50):
        layers[1](torch.ones(1))
    assert seen == [0, 30, 90, 119, 119, 119, 120, 120, 145, 170]
