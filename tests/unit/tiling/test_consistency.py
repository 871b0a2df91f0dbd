"""In which order tiles run, and what they share where they overlap."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from helpers.each import each
from helpers.fake_work import take_over
from varsr_core.errors import InputError
from varsr_core.tiling.consistency import TILING_MODES, Overlaps, Tiling
from varsr_core.tiling.grid import TileGrid

many = settings(max_examples=120, deadline=None, derandomize=True, database=None)

ROW = TileGrid(32, 48, tile=32, overlap=16)  # two tiles that share 16 columns
FOUR = TileGrid(28, 28, tile=16, overlap=4)  # four tiles that share 4 rows, 4 columns
NINE = TileGrid(40, 40, tile=16, overlap=4)
CROWDED = TileGrid(16, 13, tile=10, overlap=5)  # every second row of tiles overlaps, too


@some.composite
def grids(draw):
    tile = draw(some.integers(2, 12))
    overlap = draw(some.integers(0, tile // 2))
    height, width = (tile + draw(some.integers(0, 20)) for _ in range(2))
    return TileGrid(height, width, tile=tile, overlap=overlap)


def random_tiles(grid, images=1, channels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(images * len(grid), channels, grid.tile, grid.tile, generator=generator)


def level_tiles(grid, *values):
    """Tiles of one value each."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, grid.tile, grid.tile)


def share_cells(grid, index, other):
    (top, left), (y, x) = grid.positions[index], grid.positions[other]
    rows = set(range(top, top + grid.tile)) & set(range(y, y + grid.tile))
    return bool(rows) and bool(set(range(left, left + grid.tile)) & set(range(x, x + grid.tile)))


def times_covered(grid, wanted=None):
    """How many tiles lie over each cell of each tile: (tiles, 1, S, S)."""
    covered = torch.zeros(1, 1, grid.height, grid.width)
    for index in range(len(grid)) if wanted is None else wanted:
        covered[(..., *grid.area(index))] += 1
    return grid.split(covered)


# Phases


@many
@given(grids())
def test_tiles_of_a_phase_do_not_overlap_and_every_tile_has_one_phase(grid):
    phases = Overlaps(grid).phases
    assert sorted(itertools.chain(*phases)) == list(range(len(grid)))
    for phase in phases:
        assert not any(share_cells(grid, *pair) for pair in itertools.combinations(phase, 2))


def test_crowded_rows_need_more_than_every_second_tile():
    assert [b - a for a, b in itertools.pairwise(CROWDED.rows)] == [3, 3]
    assert len(Overlaps(CROWDED).phases) == 3 * 2


@each(
    ("grid", "phases"),
    [
        (TileGrid(16, 16, tile=16, overlap=4), [[0]]),
        (ROW, [[0], [1]]),
        (TileGrid(20, 40, tile=10, overlap=0), [list(range(8))]),
        (NINE, [[0, 2, 6, 8], [1, 7], [3, 5], [4]]),
    ],
)
def test_tiles_run_in_as_few_phases_as_they_can(grid, phases):
    assert Overlaps(grid).phases == phases


@many
@given(grids())
def test_overlapping_tiles_are_all_others_that_share_cells(grid):
    overlaps = Overlaps(grid)
    for index in range(len(grid)):
        expected = [i for i in range(len(grid)) if i != index and share_cells(grid, index, i)]
        assert overlaps.neighbours(index) == expected


# Taking over


def fading_over(overlap):
    """From 1 to 0, as a raised cosine, over a quarter of an overlap; two cells of four."""
    fade = 2 if overlap == 4 else -(-overlap // 4)
    middles = (torch.arange(fade, dtype=torch.float64) + 0.5) / max(fade, 1)
    return (1 + torch.cos(middles * torch.pi)) / 2


def authority(grid, other):
    """How far a finished tile is taken as given, at every cell of the canvas, cell by cell."""
    canvas = torch.zeros(grid.height, grid.width, dtype=torch.float64)
    sides = []
    for starts, number in zip(
        (grid.rows, grid.columns), divmod(other, len(grid.columns)), strict=True
    ):
        side = torch.ones(grid.tile, dtype=torch.float64)
        if number > 0:
            fade = fading_over(grid.tile - starts[number] + starts[number - 1])
            side[: len(fade)] *= fade.flip(0)
        if number + 1 < len(starts):
            fade = fading_over(grid.tile - starts[number + 1] + starts[number])
            side[grid.tile - len(fade) :] *= fade
        sides.append(side)
    canvas[grid.area(other)] = sides[0][:, None] * sides[1]
    return canvas


def taken_over(grid, latent, index, finished):
    """What taking over promises: neighbours by their authority, the tile has what they leave."""
    given, weights = torch.zeros(2, grid.height, grid.width, dtype=torch.float64)
    free = torch.ones(grid.height, grid.width, dtype=torch.float64)
    for other, tile in finished.items():
        weight = authority(grid, other)
        given[grid.area(other)] += weight[grid.area(other)] * tile[0]
        weights += weight
        free *= 1 - weight
    given, free = (given / weights.clamp(min=1e-300))[grid.area(index)], free[grid.area(index)]
    return (given * (1 - free) + latent[0] * free)[None].float()


def test_tile_without_finished_neighbours_stays_as_it_is():
    latent = random_tiles(FOUR)[0]
    assert torch.equal(take_over(Overlaps(FOUR), latent, 0, {}), latent)


@each(("index", "other"), [(1, 0), (0, 1)])
def test_neighbour_is_given_deep_in_the_overlap_and_ends_in_a_smooth_ramp(index, other):
    own, theirs = torch.full((1, 32, 32), 5.0), torch.full((1, 32, 32), 7.0)
    found = take_over(Overlaps(ROW), own, index, {other: theirs})
    if index == 0:
        found = found.flip(2)
    # The neighbour ends at column 16 of the tile, and fades over a quarter of the 16 they share.
    assert (found[..., :12] == 7).all()
    assert (found[..., 16:] == 5).all()
    ramp = 6 + torch.cos((torch.arange(4) + 0.5) / 4 * torch.pi)
    torch.testing.assert_close(found[0, :, 12:16], ramp.expand(32, 4))
    assert (found.diff(dim=2) <= 0).all()


def test_finished_neighbour_is_copied_from_where_it_lies():
    own, theirs = random_tiles(ROW, channels=3)
    found = take_over(Overlaps(ROW), own, 1, {0: theirs})
    assert torch.equal(found[..., :12], theirs[..., 16:28])
    assert torch.equal(found[..., 16:], own[..., 16:])


def test_neighbour_does_not_fade_at_the_border_of_the_canvas():
    found = take_over(Overlaps(FOUR), torch.zeros(1, 16, 16), 1, {0: torch.ones(1, 16, 16)})
    assert (found[0, :12, :2] == 1).all()
    assert (found[0, 15, :2] < 1).all()  # the tiles below go on from there


@each("grid", [FOUR, NINE, CROWDED])
@each("count", [1, 2, 3, 8])
def test_neighbours_count_by_their_weight_and_the_tile_has_the_rest(grid, count):
    tiles = random_tiles(grid, channels=1)
    overlaps = Overlaps(grid)
    for index in range(len(grid)):
        finished = {other: tiles[other] for other in overlaps.neighbours(index)[:count]}
        found = take_over(overlaps, tiles[index], index, finished)
        expected = taken_over(grid, tiles[index], index, finished)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@many
@given(grids(), some.data())
def test_equal_latents_stay_equal_whoever_is_finished(grid, data):
    generator = torch.Generator().manual_seed(0)
    tiles = grid.split(torch.rand(1, 2, grid.height, grid.width, generator=generator))
    overlaps = Overlaps(grid)
    index = data.draw(some.integers(0, len(grid) - 1))
    finished = {i: tiles[i] for i in overlaps.neighbours(index) if data.draw(some.booleans())}
    found = take_over(overlaps, tiles[index], index, finished)
    torch.testing.assert_close(found, tiles[index], atol=1e-6, rtol=0)


@many
@given(grids(), some.randoms(use_true_random=False))
def test_order_of_the_finished_neighbours_does_not_matter(grid, random):
    tiles, overlaps = random_tiles(grid), Overlaps(grid)
    index = random.randrange(len(grid))
    neighbours = overlaps.neighbours(index)
    expected = take_over(overlaps, tiles[index], index, {i: tiles[i] for i in neighbours})
    random.shuffle(neighbours)
    found = take_over(overlaps, tiles[index], index, {i: tiles[i] for i in neighbours})
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@many
@given(grids())
def test_result_lies_between_the_tile_and_its_neighbours(grid):
    tiles, overlaps = random_tiles(grid), Overlaps(grid)
    index = len(grid) // 2
    finished = {i: tiles[i] for i in overlaps.neighbours(index)}
    found = take_over(overlaps, tiles[index], index, finished)
    low, high = (torch.full((1, 2, grid.height, grid.width), bound) for bound in (2.0, -1.0))
    for i in (index, *finished):
        area = (0, ..., *grid.area(i))
        low[area], high[area] = low[area].minimum(tiles[i]), high[area].maximum(tiles[i])
    assert (found >= grid.crop(low, [index])[0] - 1e-6).all()
    assert (found <= grid.crop(high, [index])[0] + 1e-6).all()


def test_taking_over_leaves_its_inputs_alone():
    tiles = random_tiles(NINE)
    before = tiles.clone()
    overlaps = Overlaps(NINE)
    take_over(overlaps, tiles[4], 4, {i: tiles[i] for i in overlaps.neighbours(4)})
    assert torch.equal(tiles, before)


# Blending


def everything(grid, images=1):
    return list(range(images * len(grid)))


@many
@given(grids(), some.integers(1, 2))
def test_blended_tiles_are_equal_where_they_overlap_and_unchanged_elsewhere(grid, images):
    tiles = random_tiles(grid, images)
    blended = Overlaps(grid).blend(tiles, everything(grid, images))
    assert blended.shape == tiles.shape
    for image in range(images):
        part = slice(image * len(grid), (image + 1) * len(grid))
        canvas = torch.full((2, grid.height, grid.width), torch.nan)
        for index, tile in enumerate(blended[part]):
            canvas[(..., *grid.area(index))] = tile
        assert torch.equal(grid.split(canvas[None]), blended[part])
        alone = (times_covered(grid) == 1).expand_as(blended[part])
        assert torch.equal(blended[part][alone], tiles[part][alone])


@many
@given(grids())
def test_tiles_that_are_equal_already_stay_as_they_are(grid):
    """The weights sum to one wherever a tile is."""
    generator = torch.Generator().manual_seed(0)
    tiles = grid.split(torch.rand(1, 2, grid.height, grid.width, generator=generator))
    blended = Overlaps(grid).blend(tiles, everything(grid))
    torch.testing.assert_close(blended, tiles, atol=1e-6, rtol=0)


@many
@given(grids(), some.data())
def test_tiles_that_are_not_wanted_have_no_say(grid, data):
    wanted = data.draw(some.lists(some.sampled_from(everything(grid)), unique=True, min_size=1))
    tiles = random_tiles(grid)
    unwanted = sorted(set(everything(grid)) - set(wanted))
    tiles[unwanted] = torch.nan
    blended = Overlaps(grid).blend(tiles, wanted)
    assert blended.shape == (len(wanted), 2, grid.tile, grid.tile)
    assert torch.isfinite(blended).all()
    alone = (times_covered(grid, wanted)[wanted] == 1).expand_as(blended)
    torch.testing.assert_close(blended[alone], tiles[wanted][alone], atol=1e-6, rtol=0)


def test_blended_tiles_come_in_the_order_they_were_wanted_in():
    tiles = random_tiles(NINE)
    overlaps = Overlaps(NINE)
    blended = overlaps.blend(tiles, [0, 1, 4])
    torch.testing.assert_close(overlaps.blend(tiles, [4, 0, 1]), blended[[2, 0, 1]])


def test_tiles_blend_with_those_of_their_own_picture_only():
    both = random_tiles(NINE, images=2)
    overlaps = Overlaps(NINE)
    blended = overlaps.blend(both, everything(NINE, 2))
    assert torch.equal(blended[:9], overlaps.blend(both[:9], everything(NINE)))
    assert torch.equal(blended[9:], overlaps.blend(both[9:], everything(NINE)))


@each(("overlap", "quiet", "fade"), [(16, 6, 4), (7, 2, 3), (1, 0, 1)])
def test_one_tile_hands_over_to_the_next_in_the_middle_of_their_overlap(overlap, quiet, fade):
    grid = TileGrid(32, 64 - overlap, tile=32, overlap=overlap)
    blended = Overlaps(grid).blend(level_tiles(grid, 0.0, 1.0), [0, 1])
    row = torch.cat((blended[0, 0, 0], blended[1, 0, 0, overlap:]))
    rise = (1 - torch.cos((torch.arange(fade) + 0.5) / fade * torch.pi)) / 2
    alone = 32 - overlap + quiet
    expected = torch.cat((torch.zeros(alone), rise, torch.ones(alone)))
    torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


@many
@given(grids())
def test_blended_tiles_are_mirrored_when_the_tiles_are(grid):
    """No tile counts more for coming first."""
    tiles, overlaps = random_tiles(grid), Overlaps(grid)
    height, width = grid.height - grid.tile, grid.width - grid.tile
    if [(height - y, width - x) for y, x in reversed(grid.positions)] != grid.positions:
        return  # tiles do not lie symmetrically themselves
    blended = overlaps.blend(tiles, everything(grid))
    mirrored = overlaps.blend(tiles.flip(0, 2, 3), everything(grid)).flip(0, 2, 3)
    torch.testing.assert_close(mirrored, blended, atol=1e-6, rtol=0)


def test_blending_leaves_its_input_alone():
    tiles = random_tiles(NINE)
    before = tiles.clone()
    Overlaps(NINE).blend(tiles, everything(NINE))
    assert torch.equal(tiles, before)


# Settings


@pytest.mark.parametrize("mode", TILING_MODES)
@each("overlap", [0, 0.25, 0.5])
def test_every_mode_and_overlap_up_to_a_half_is_accepted(mode, overlap):
    assert Tiling(mode, overlap) == Tiling(mode=mode, overlap=overlap)


def test_unknown_mode_is_refused_by_name():
    with pytest.raises(InputError, match="'spiral' is none of phased, lock-step, independent"):
        Tiling(mode="spiral")


@each("overlap", [-0.01, 0.51, float("nan"), float("inf")])
def test_impossible_overlap_is_refused(overlap):
    with pytest.raises(InputError, match=f"overlap is {overlap}; a share of 0 to 0.5"):
        Tiling(overlap=overlap)
