"""What tiles made: where it is kept, and that it is numbers."""

import torch

from helpers.card import card, device
from helpers.each import each
from varsr_core.tiling import record as recording
from varsr_core.tiling.record import Record

CPU = torch.device("cpu")
TILES, STEPS = 18, 3


def record():
    return Record(TILES, STEPS)


def latents(steps, tiles):
    return torch.arange(steps * tiles * 2 * 16.0).view(steps, tiles, 2, 4, 4)


@each("place", ["cpu", "card"])
def test_what_was_added_is_found_by_step_and_tile(place):
    with card():
        where = device() if place == "card" else CPU
        found, values = record(), latents(STEPS, 2)
        assert found.add(0, [4, 11], values[:2].to(where)) == []
        assert found.add(2, [4, 11], values[2:].to(where)) == []
        assert found.made[1][11].device == where
        steps = [step.to(CPU) for step in found.taken()]
    for k, step in enumerate(steps):
        assert torch.equal(step[[4, 11]], values[k])
        assert len(step) == TILES
        assert (step[[n for n in range(TILES) if n not in (4, 11)]] == 0).all()


@each("place", ["cpu", "card"])
@each("bad", [torch.nan, torch.inf])
def test_tiles_that_are_no_numbers_are_told_with_the_step_that_showed_it(place, bad):
    with card() as asked:
        values = latents(2, 3)
        values[1, 2, 0, 3, 3] = bad
        values[:, 0] = bad
        values = values.to(device() if place == "card" else CPU)
        asked.waits.clear()
        assert record().add(1, [0, 4, 12], values) == [(0, 1), (12, 2)]
        assert sum(asked.waits.values()) == (place == "card")


def test_more_than_may_stay_on_a_card_is_kept_in_system_memory(monkeypatch):
    values = latents(1, 1)
    everything = values.nbytes * STEPS * TILES
    for room, where in ((everything, "card"), (everything - 1, "cpu")):
        monkeypatch.setattr(recording, "KEPT_THERE", room)
        with card():
            found = record()
            found.add(0, [4], values.to(device()))
            assert found.made[0][4].device.type == where
