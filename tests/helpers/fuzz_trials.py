"""Trials for children of the fuzzer; here, because a child has to import them."""

import os
import time

from tools.fuzzing.common import Outcome, watched


def dies_at_first(seed, number, folder):
    if number == 0:
        os._exit(3)
    return Outcome(number, "fine", f"{folder.name}, {sorted(folder.iterdir())}")


def works_too_long(seed, number, folder):
    with watched(0):
        while True:
            pass


def waits(seed, number, folder):
    time.sleep(3600)


def tells_its_memory(seed, number, folder):
    with watched(60) as spent:
        pass
    return Outcome(number, "fine", str(spent.bytes))


def breaks(seed, number, folder):
    raise ZeroDivisionError
