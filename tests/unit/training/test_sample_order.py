"""The order of samples of many pictures, which no process needs to walk through."""

from collections import Counter

import pytest

from helpers.each import each
from varsr_core.training.data.order import ShuffledFiles, ShuffledShards, interleave

COUNTS = [7, 1, 12, 30, 5, 25, 20]
TOTAL = sum(COUNTS)


def epoch_of(order, seed=0, epoch=0):
    return [order(seed, epoch, place) for place in range(TOTAL)]


@each("sizes", [[5], [90, 10], [10, 90], [3, 3, 3], [97, 1, 2], [0, 4]])
def test_a_mixture_has_every_sample_once_and_spreads_each_source(sizes):
    found = [interleave(sizes, place) for place in range(sum(sizes))]
    for which, size in enumerate(sizes):
        places = [place for place, one in enumerate(found) if one[0] == which]
        assert [found[place][1] for place in places] == list(range(size)), "each in its order"
        gaps = [after - before for before, after in zip(places, places[1:], strict=False)]
        even = sum(sizes) / max(size, 1)
        assert all(even / 2 - 1 < gap < 2 * even + 1 for gap in gaps)


@each("window", [1, 4, 33, 1000])
def test_every_sample_comes_once_an_epoch(window):
    order = ShuffledShards(COUNTS, window, "a")
    everything = [(shard, row) for shard, count in enumerate(COUNTS) for row in range(count)]
    for epoch in range(3):
        assert sorted(epoch_of(order, epoch=epoch)) == everything


def test_the_order_depends_on_seed_epoch_and_name_alone():
    def orders():
        for name in ("a", "b"):
            for seed in (0, 1):
                for epoch in (0, 1):
                    yield tuple(epoch_of(ShuffledShards(COUNTS, 16, name), seed, epoch))

    first, again = list(orders()), list(orders())
    assert first == again
    assert len(set(first)) == 8


def test_any_place_is_found_without_those_before():
    order = ShuffledShards(COUNTS, 16, "a")
    whole = [epoch_of(order, 3, epoch) for epoch in range(2)]
    for epoch, place in ((1, 70), (0, 3), (1, 99), (0, 50), (0, 0)):
        assert ShuffledShards(COUNTS, 16, "a")(3, epoch, place) == whole[epoch][place]
        assert order(3, epoch, place) == whole[epoch][place]


def test_samples_leave_their_window_never_and_their_place_mostly():
    """Shards come one after the other, so that the disk reads ahead; what is in one is mixed."""
    window = 25
    places = epoch_of(ShuffledShards([TOTAL], window, "a"))
    moved = 0
    for start in range(0, TOTAL, window):
        rows = [row for _, row in places[start : start + window]]
        assert sorted(rows) == list(range(start, start + window))
        moved += sum(row != start + i for i, row in enumerate(rows))
    assert moved > 0.8 * TOTAL


def test_shards_come_in_random_order():
    firsts = Counter(
        epoch_of(ShuffledShards([10] * 10, 1, "a"), epoch=epoch)[0][0] for epoch in range(60)
    )
    assert len(firsts) > 7


@pytest.mark.parametrize("count", [1, 50])
def test_files_come_once_an_epoch_in_another_order_each(count):
    order = ShuffledFiles(count, "a")
    found = [tuple(order(0, epoch, place) for place in range(count)) for epoch in range(2)]
    assert all(sorted(one) == list(range(count)) for one in found)
    assert count == 1 or found[0] != found[1]
