"""How many threads a command uses, and how they wait."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Event, Thread

import torch

ELEMENTS = 32768  # of a tensor, for which torch takes one more thread


def use_threads(count: int = 0) -> None:
    """Sets how many threads torch uses; 0: its own choice, at most `usable_cpus()`.

    Threads that wait for each other then sleep at once. Where OpenMP lets them spin, as it does
    for milliseconds, each keeps a core from the one that it waits for: on a machine that others use
    too, a picture took four times as long. For a process of our own, not for that of a host.
    """
    chosen = count or min(torch.get_num_threads(), usable_cpus())
    if chosen > 1:
        _outnumber_cpus()
    torch.set_num_threads(chosen)


@cache
def _outnumber_cpus() -> None:
    """GNU's OpenMP spins a hundred times and no more where a process has more threads than CPUs
    (its manual, GOMP_SPINCOUNT). So this makes some that sleep until the process ends."""
    torch.set_num_threads((os.cpu_count() or 1) + 1)
    ready = Event()
    Thread(target=_keep_threads, args=(ready,), daemon=True).start()
    ready.wait()


def _keep_threads(ready: Event) -> None:
    try:
        torch.zeros(ELEMENTS * torch.get_num_threads()).add_(1)
    finally:  # whoever waits must not wait for ever
        ready.set()
    Event().wait()


def usable_cpus(root: Path = Path("/")) -> int:
    """How many CPUs this process may keep busy: by its affinity, and by the time that the control
    groups it is in (of a container, of a service) grant. Does not depend on the load.

    root: where /proc and /sys are
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # only on Linux
        count = os.cpu_count() or 1
    return max(1, min([count, *map(math.ceil, _granted(root))]))


def _granted(root: Path) -> list[float]:
    """CPUs that each control group above this process grants; of both versions of such groups."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    shares = []
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        inner = PurePosixPath(group.lstrip("/"))
        for folder in (inner, *inner.parents):
            shares += _share(mount / folder)
    return shares


def _share(folder: Path) -> list[float]:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return [int(quota) / int(period)] if int(quota) > 0 else []
    except (OSError, ValueError):  # none is set, or it says "max"
        return []
