"""The pool of Ray Data: workers on every GPU of a machine or a cluster.

Ray starts the workers, hands out the tasks, holds them back while all are busy, and starts another
worker where one died. One row is a group of tasks; a worker is an actor that loads the model once.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Any

import numpy as np

from ..errors import InputError
from ..family import Checkpoint, Family
from ..runtime.threads import use_threads
from .cli import LOCAL
from .grouping import grouped
from .jobs import Picture, Segment, Task
from .optional import import_ray
from .options import Options
from .outcome import Outcome
from .report import WatchFn
from .worker import Worker

TRIES = 3  # of a group whose worker dies, before its tasks are done one by one
NOT_UTF8 = "\0"  # begins text that was written out; no name holds it
WAITING = 2  # groups that lie ready at each worker
# Threads of Ray Data in this process that use Ray unasked, by how their names begin.
USERS = ("StreamingExecutor", "ray-data-metadata", "iter_threaded")
LONGEST_END = 30.0  # seconds for these to end; they take one or two

KINDS: dict[str, type[Task]] = {"picture": Picture, "segment": Segment}

Columns = dict[str, np.ndarray]


class RayPool:
    """A pool for `run_batch`.

    address: of a cluster; LOCAL starts one on this machine and ends it afterwards
    workers: how many; 0 for one per GPU, or per --threads CPUs where there is none
    """

    def __init__(self, address: str, workers: int = 0) -> None:
        self.ray = import_ray()
        self.address, self.workers = address, workers

    def __call__(
        self,
        options: Options,
        tasks: Sequence[Task],
        watch: WatchFn,
        read: list[Checkpoint[Family]],
    ) -> Iterator[Outcome]:
        read.clear()  # each worker reads its own
        if ":" in options.device:
            raise InputError(
                f"device {options.device!r} cannot be chosen with --ray, which hands out the GPUs; "
                "choose --device auto"
            )
        with redirect_stdout(sys.stderr):  # Ray prints; what programs read must not hold that
            yield from self._do(options, tasks)

    def _do(self, options: Options, tasks: Sequence[Task]) -> Iterator[Outcome]:
        try:
            self._connect()
            left = {task.name: task for task in tasks}
            resources, workers = self._resources(options)
            groups = grouped(tasks, options, workers, "num_gpus" in resources)
            # Tasks that were lost with their worker are given out again, one by one, until a pass
            # finishes none of them.
            while left:
                before, one_by_one = len(left), max(map(len, groups)) == 1
                for outcome in self._pass(options, groups, resources, workers):
                    if left.pop(outcome.name, None) is not None:
                        yield outcome
                if one_by_one and len(left) == before:
                    break
                groups = [[task] for task in left.values()]
            for name in left:
                yield Outcome(name, error=f"the worker died {TRIES} times at it; see Ray's logs")
        finally:
            wait_for_threads()
            self.ray.shutdown()

    def _connect(self) -> None:
        where = {"include_dashboard": False} if self.address == LOCAL else {}
        try:
            self.ray.init(
                address=self.address,
                logging_level=logging.WARNING,
                log_to_driver=False,
                **where,
            )
        except Exception as error:  # a start that takes too long raises no class of its own
            if self.address == LOCAL:
                text = f"Ray did not start on this machine ({error}); try again, or without --ray"
            else:
                text = f"no Ray cluster at {self.address!r} ({error})"
            raise InputError(text) from None

    def _pass(
        self, options: Options, groups: list[list[Task]], resources: dict[str, float], workers: int
    ) -> Iterator[Outcome]:
        data = self.ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # lost tasks are missing from the outcomes
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        rows = [{"tasks": packed(group)} for group in groups]
        with warnings.catch_warnings():
            # Ray says that it will take these two in another way from 2.64 on, not in which.
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            restored = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                RayWorker,
                fn_constructor_args=(options,),
                batch_size=1,
                compute=data.ActorPoolStrategy(
                    min_size=1,
                    max_size=workers,
                    initial_size=workers,
                    max_tasks_in_flight_per_actor=WAITING,
                ),
                max_restarts=-1,
                max_task_retries=TRIES - 1,
                **resources,
            )
        try:
            for row in restored.iter_rows():
                yield Outcome(**{name: _off_wire(value) for name, value in row.items()})
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"Ray's workers cannot start or work: {reason}. Every machine of the cluster needs "
                "this pack, the model, the inputs and the output folder under the same paths"
            ) from error

    def _resources(self, options: Options) -> tuple[dict[str, float], int]:
        """What one worker takes of the cluster, and how many workers there are."""
        cluster = self.ray.cluster_resources()
        gpus = int(cluster.get("GPU", 0))
        if gpus and options.device in ("auto", "cuda"):
            return {"num_gpus": 1, "num_cpus": options.threads or 1}, self.workers or gpus
        each = options.threads or 1
        fitting = max(1, int(cluster.get("CPU", 1)) // each)
        return {"num_cpus": each}, self.workers or fitting


class RayWorker:
    """A worker as Ray Data calls it."""

    def __init__(self, options: Options) -> None:
        use_threads(options.threads)
        self.worker = Worker(options)

    def __call__(self, rows: Columns) -> dict[str, list[Any]]:
        """Groups of tasks in, columns of outcomes out."""
        tasks = [task for group in rows["tasks"] for task in unpacked(str(group))]
        outcomes = [asdict(outcome) for outcome in self.worker.do(tasks)]
        return {name: [_on_wire(outcome[name]) for outcome in outcomes] for name in outcomes[0]}


def wait_for_threads() -> None:
    """Until those of Ray have ended: one that finds Ray gone ends this process, with code 1."""
    deadline = time.monotonic() + LONGEST_END
    for thread in threading.enumerate():
        if thread.name.startswith(USERS):
            thread.join(max(0.0, deadline - time.monotonic()))


def packed(tasks: Sequence[Task]) -> str:
    """For the way to a worker."""
    names = {kind: name for name, kind in KINDS.items()}
    return json.dumps([[names[type(task)], asdict(task)] for task in tasks])


def _on_wire(value: Any) -> Any:
    """Columns of text are UTF-8, and names of files need not be."""
    if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
        return NOT_UTF8 + json.dumps(value)
    return value


def _off_wire(value: Any) -> Any:
    marked = isinstance(value, str) and value.startswith(NOT_UTF8)
    return json.loads(value.removeprefix(NOT_UTF8)) if marked else value


def unpacked(text: str) -> list[Task]:
    return [KINDS[name](**values) for name, values in json.loads(text)]
