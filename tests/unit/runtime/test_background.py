"""Waiting for work in another thread: it can be stopped, and errors are told apart."""

import threading
import time

import pytest

from varsr_core.runtime import background
from varsr_core.runtime.background import BackgroundError, ahead, in_background, wait_for


class StopError(Exception):
    """As the cancel button raises one."""


def nothing():
    pass


def test_items_come_in_order_from_another_thread():
    found = list(in_background(lambda: ((n, threading.get_ident()) for n in range(500)), nothing))
    assert [number for number, _ in found] == list(range(500))
    assert {thread for _, thread in found} != {threading.get_ident()}


def test_work_begun_ahead_goes_on_meanwhile_and_tells_its_result_or_its_error_again_and_again():
    begun, asked = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert asked.wait(60)
        return threading.get_ident()

    result = ahead(work)
    assert begun.wait(60)  # before anyone asks for it
    asked.set()
    assert result() == result() != threading.get_ident()

    def fail():
        raise StopError("work")

    failed = ahead(fail)
    for _ in range(2):
        with pytest.raises(StopError, match="work"):
            failed()


def test_error_of_the_work_is_told_apart_from_that_of_waiting():
    def work():
        yield 1
        raise StopError("work")

    items = in_background(work, nothing)
    assert next(items) == 1
    with pytest.raises(BackgroundError, match="work") as raised:
        next(items)
    assert isinstance(raised.value.error, StopError)


def test_waiting_ends_at_once_and_the_thread_with_its_next_item():
    goes_on, ended = threading.Event(), threading.Event()

    def work():
        try:
            goes_on.wait(10)
            yield 1
            yield 2
        finally:
            ended.set()

    def stop():
        if time.monotonic() > began + 0.3:
            raise StopError

    began = time.monotonic()
    with pytest.raises(StopError):
        next(in_background(work, stop))
    assert time.monotonic() - began < 2
    assert not ended.is_set()
    goes_on.set()
    assert ended.wait(5)


def test_work_does_not_run_far_ahead():
    made = []
    items = in_background(lambda: (made.append(n) or n for n in range(10_000)), nothing)
    next(items)
    time.sleep(0.3)
    assert len(made) <= background.WAITING + 2
    items.close()


def test_result_and_error_of_a_call_are_its_own():
    assert wait_for(lambda: 7, nothing) == 7

    def fail():
        raise KeyError("a") from ValueError("b")

    with pytest.raises(KeyError) as raised:
        wait_for(fail, nothing)
    assert isinstance(raised.value.__cause__, ValueError)
    with pytest.raises(StopError):
        wait_for(lambda: time.sleep(1), lambda: (_ for _ in ()).throw(StopError))
