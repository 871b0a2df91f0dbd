"""Work on tiles that is soon done and tells what was asked of it, for the scheduler."""

from collections import Counter
from functools import cache

import torch

from helpers.told import task_of
from varsr_core.runtime.execution import Execution, Session
from varsr_core.runtime.progress import Stage
from varsr_core.tiling.consistency import Overlaps
from varsr_core.tiling.grid import TileGrid
from varsr_core.tiling.plan import plan_of
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

    starting = None
    wider = None

    def task(self, k):
        return task_of(1, Stage("scale", k + 1, self.steps))

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


def run(work, grid, mode, *, images=1, at_once=1, wanted=None, frame=None, **services):
    count = images * len(grid) if wanted is None else len(wanted)
    execution = Execution(device=DEVICE, prepare=lambda: at_once, **services)
    session = Session(execution, plan_of(work, count))
    return TileLoop(work, [grid] * images, mode, session, wanted, frame=frame).run()


def expected(grid, mode, *, images=1, wanted=None, steps=STEPS, settled=0, taken=None):
    """What the modes promise, tile by tile and without blocks.

    taken: (latent, number, step) -> with what is taken over of the frame before
    """
    taken = taken or (lambda latent, *_: latent)
    around, tiles = Overlaps(grid), images * len(grid)
    wanted = list(range(tiles)) if wanted is None else wanted
    latents = torch.zeros(steps, tiles, CHANNELS, 4, 4)
    if mode == "lock-step":
        for k in range(steps):
            for number in wanted:
                before = latents[k - 1, number] if k else torch.zeros(CHANNELS, 4, 4)
                latents[k, number] = taken(made(before, number, k), number, k)
            if k >= settled:
                latents[k, wanted] = around.blend(latents[k], wanted)
        return latents
    finished = set()
    for number in in_order(grid, images, wanted):
        latent, first = torch.zeros(CHANNELS, 4, 4), number // len(grid) * len(grid)
        for k in range(steps):
            latent = taken(made(latent, number, k), number, k)
            if mode == "phased" and k >= settled:
                index = number - first
                neighbours = {
                    other: latents[k, first + other]
                    for other in around.neighbours(index)
                    if first + other in finished
                }
                latent = take_over(around, latent, index, neighbours)
            latents[k, number] = latent
        finished.add(number)
    return latents


def take_over(overlaps, latent, index, finished):
    """A tile (C, S, S) with what it takes over from finished neighbours."""
    given = overlaps.given(index, finished)
    return latent if given is None else given.over(latent)


def in_order(grid, images, wanted):
    """Wanted tiles, one at a time, in an order that the phases allow."""
    for phase in Overlaps(grid).phases:
        for index in phase:
            for image in range(images):
                if (number := image * len(grid) + index) in wanted:
                    yield number


def assert_equal_lists(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
