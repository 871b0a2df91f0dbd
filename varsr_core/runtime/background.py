"""Work in a thread of its own, so that who waits for it can stop waiting at any time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import TypeVar

TICK_S = 0.2
WAITING = 64  # items that may lie ready

T = TypeVar("T")


class BackgroundError(Exception):
    """The work ended with an error, so that no error of the waiting is taken for one."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def in_background(
    work: Callable[[], Iterable[T]], on_wait: Callable[[], None]
) -> Generator[T, None, None]:
    """The items of an iterable that is made and gone through in another thread.

    on_wait: called before each item and several times a second while there is none; what it raises
             ends the iteration at once. The thread ends after the item that it waits for
    Raises BackgroundError for an error of the work.
    """
    ready: Queue[tuple[T, ...] | Exception | None] = Queue(WAITING)
    stopped = Event()

    def hand_over(item: tuple[T, ...] | Exception | None) -> None:
        while not stopped.is_set():
            with suppress(Full):
                ready.put(item, timeout=TICK_S)
                return

    def run() -> None:
        try:
            for item in work():
                hand_over((item,))
                if stopped.is_set():
                    return
            hand_over(None)
        except Exception as error:
            hand_over(error)

    Thread(target=run, daemon=True).start()
    try:
        while True:
            on_wait()
            try:
                item = ready.get(timeout=TICK_S)
            except Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise BackgroundError(item) from item
            yield item[0]
    finally:
        stopped.set()


def ahead(work: Callable[[], T]) -> Callable[[], T]:
    """Begins work in another thread; the call of what is returned waits for its result."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future.result


def wait_for(work: Callable[[], T], on_wait: Callable[[], None]) -> T:
    """What a function returns that is called in another thread; raises what it raises.

    on_wait: called several times a second; what it raises ends the waiting, and the thread ends
             with its work
    """
    try:
        (result,) = in_background(lambda: [work()], on_wait)
        return result
    except BackgroundError as raised:
        failure = raised.error
    raise failure
