import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from helpers.each import each
from varsr_core.tiling.grid import TileGrid

# height, width, tile, overlap, align
GRIDS = [
    (64, 64, 64, 16, 16),
    (64, 80, 64, 16, 16),
    (112, 80, 64, 16, 16),
    (128, 96, 64, 16, 16),
    (512, 256, 64, 16, 16),
    (304, 1008, 64, 16, 16),
    (1024, 1536, 512, 128, 16),
    (528, 2000, 512, 128, 16),
    (100, 37, 10, 0, 1),
    (100, 37, 10, 3, 1),
    (101, 53, 10, 5, 1),
    (96, 72, 24, 7, 4),
    (96, 72, 24, 12, 8),
    (11, 30, 10, 2, 1),
]


def grid_of(case):
    height, width, tile, overlap, align = case
    return TileGrid(height, width, tile=tile, overlap=overlap, align=align)


@some.composite
def grids(draw):
    align = draw(some.integers(1, 8))
    tile = align * draw(some.integers(1, 8))
    overlap = draw(some.integers(0, tile // 2 if tile > align else 0))
    height, width = (tile + align * draw(some.integers(0, 16)) for _ in range(2))
    return TileGrid(height, width, tile=tile, overlap=overlap, align=align)


many = settings(max_examples=500, deadline=None, derandomize=True, database=None)


def random_canvas(grid, images, channels=2):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(images, channels, grid.height, grid.width, generator=generator)


in_every_grid = each("grid", [grid_of(case) for case in GRIDS])


def gaps(starts):
    return [b - a for a, b in zip(starts, starts[1:], strict=False)]


@each("images", [1, 2])
@in_every_grid
def test_merge_of_split_is_identity(grid, images):
    canvas = random_canvas(grid, images, channels=3)
    torch.testing.assert_close(grid.merge(grid.split(canvas)), canvas, atol=1e-6, rtol=0)


@many
@given(grids(), some.integers(1, 3))
def test_merge_of_split_is_identity_for_any_grid(grid, images):
    canvas = random_canvas(grid, images)
    torch.testing.assert_close(grid.merge(grid.split(canvas)), canvas, atol=1e-6, rtol=0)


@settings(many, max_examples=200)
@given(grids(), some.integers(1, 3), some.randoms(use_true_random=False))
def test_tiles_added_a_few_at_a_time_in_any_order_equal_the_merged_ones(grid, images, random):
    generator = torch.Generator().manual_seed(0)
    tiles = torch.rand(images * len(grid), 2, grid.tile, grid.tile, generator=generator)
    numbers = random.sample(range(len(tiles)), len(tiles))
    canvas = torch.zeros(images, 2, grid.height, grid.width)
    while numbers:
        part = [numbers.pop() for _ in range(min(len(numbers), random.randint(1, 5)))]
        grid.add(canvas, part, tiles[part])
    torch.testing.assert_close(canvas, grid.merge(tiles), atol=1e-6, rtol=0)


def test_adding_needs_a_number_for_every_tile():
    grid = TileGrid(16, 28, tile=16, overlap=4)
    with pytest.raises(ValueError, match="longer"):
        grid.add(torch.zeros(1, 1, 16, 28), [0], torch.zeros(2, 1, 16, 16))


def test_added_tile_reaches_its_own_picture_and_area_only():
    grid = TileGrid(24, 32, tile=16, overlap=8)
    canvas = torch.zeros(3, 1, 24, 32)
    grid.add(canvas, [len(grid) + 1], torch.ones(1, 1, 16, 16))
    inside = torch.zeros_like(canvas, dtype=torch.bool)
    inside[(1, ..., *grid.area(1))] = True
    assert (canvas[inside] > 0).all()
    assert (canvas[~inside] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_canvas_keeps_its_dtype_whatever_that_of_the_tiles(dtype):
    grid = TileGrid(24, 32, tile=16, overlap=8)
    canvas = torch.zeros(1, 1, 24, 32, dtype=dtype)
    grid.add(canvas, range(len(grid)), torch.ones(len(grid), 1, 16, 16))
    assert canvas.dtype == dtype
    torch.testing.assert_close(canvas, torch.ones_like(canvas), atol=1e-2, rtol=0)


@in_every_grid
def test_crop_cuts_the_tiles_of_these_numbers_in_this_order(grid):
    canvas = random_canvas(grid, 3)
    tiles = grid.split(canvas)
    numbers = [len(tiles) - 1, 0, len(grid), len(grid) - 1, 0]
    assert torch.equal(grid.crop(canvas, numbers), tiles[numbers])


@many
@given(grids())
def test_tiles_lie_as_near_to_evenly_spaced_as_tokens_allow(grid):
    for starts, length in ((grid.rows, grid.height), (grid.columns, grid.width)):
        assert all(gap <= grid.tile - grid.overlap for gap in gaps(starts))
        for i, start in enumerate(starts):
            even = (length - grid.tile) * i / max(len(starts) - 1, 1)
            assert abs(start - even) <= grid.align / 2


@many
@given(grids())
def test_areas_cover_the_canvas_and_have_the_size_of_a_tile(grid):
    covered = torch.zeros(grid.height, grid.width, dtype=torch.bool)
    for index, (top, left) in enumerate(grid.positions):
        rows, columns = grid.area(index)
        assert (rows.start, columns.start) == (top, left)
        assert covered[rows, columns].shape == (grid.tile, grid.tile)
        covered[rows, columns] = True
    assert covered.all()


@many
@given(grids())
def test_cells_are_the_same_tiles_where_a_token_is_one(grid):
    unit = grid.align
    if -(-grid.overlap // unit) > grid.tile // unit // 2:
        return  # see test_every_aligned_grid_has_cells
    cells = grid.cells()
    assert (cells.height, cells.width) == (grid.height // unit, grid.width // unit)
    assert (cells.tile, cells.align) == (grid.tile // unit, 1)
    assert [(top * unit, left * unit) for top, left in cells.positions] == grid.positions


@each("case", [(96, 72, 24, 12, 8), (96, 96, 48, 24, 16)])
def test_every_aligned_grid_has_cells(case):
    grid = grid_of(case)
    unit = grid.align
    assert [(y * unit, x * unit) for y, x in grid.cells().positions] == grid.positions


@in_every_grid
def test_neighbours_overlap_by_at_least_what_was_asked(grid):
    for starts in (grid.rows, grid.columns):
        assert all(gap <= grid.tile - grid.overlap for gap in gaps(starts))


@in_every_grid
def test_tiles_start_at_multiples_of_a_token(grid):
    assert all(start % grid.align == 0 for start in (*grid.rows, *grid.columns))


@in_every_grid
def test_tiles_reach_both_borders_and_never_beyond(grid):
    for starts, length in ((grid.rows, grid.height), (grid.columns, grid.width)):
        assert starts[0] == 0
        assert starts[-1] == length - grid.tile
        assert list(starts) == sorted(set(starts))


@in_every_grid
def test_no_tile_is_superfluous(grid):
    """Aligned tiles that overlap as little as allowed would need as many."""
    for starts, length in ((grid.rows, grid.height), (grid.columns, grid.width)):
        step = (grid.tile - grid.overlap) // grid.align * grid.align
        needed = 1
        while (needed - 1) * step + grid.tile < length:
            needed += 1
        assert len(starts) == needed


@in_every_grid
def test_tiles_are_evenly_spaced(grid):
    for starts in (grid.rows, grid.columns):
        if len(starts) > 1:
            assert max(gaps(starts)) - min(gaps(starts)) <= grid.align


@in_every_grid
def test_split_cuts_what_its_positions_say(grid):
    canvas = torch.arange(float(grid.height * grid.width)).view(1, 1, grid.height, grid.width)
    tiles = grid.split(canvas)
    assert len(tiles) == len(grid) == len(grid.positions)
    for tile, (top, left) in zip(tiles, grid.positions, strict=True):
        assert tile[0, 0, 0] == canvas[0, 0, top, left]
        assert tile.shape == (1, grid.tile, grid.tile)


def share_of_each_tile(grid):
    """Weight of every tile at every pixel: (tiles, height, width)."""
    count = len(grid)
    one_hot = torch.eye(count).view(count, count, 1, 1)  # a channel for each tile
    return grid.merge(one_hot.expand(-1, -1, grid.tile, grid.tile).double())[0]


@each("case", [g for g in GRIDS if g[0] * g[1] < 10_000])
def test_weights_are_positive_shares_that_sum_to_1(case):
    grid = grid_of(case)
    shares = share_of_each_tile(grid)
    torch.testing.assert_close(shares.sum(dim=0), torch.ones_like(shares[0]))
    for share, (top, left) in zip(shares, grid.positions, strict=True):
        inside = torch.zeros_like(share, dtype=torch.bool)
        inside[top : top + grid.tile, left : left + grid.tile] = True
        assert (share[inside] > 0).all()
        assert (share[~inside] == 0).all()


@each("case", [(128, 112, 64, 16, 16), (28, 46, 10, 4, 1), (19, 10, 10, 1, 1)])
def test_weights_are_symmetric(case):
    """Turned by half a turn, the first tile weighs as the last did: no window is off-centre."""
    shares = share_of_each_tile(grid_of(case))
    torch.testing.assert_close(shares.flip(0, 1, 2), shares)


def test_tile_alone_keeps_its_middle_whole_and_fades_over_the_overlap_only():
    shares = share_of_each_tile(TileGrid(10, 28, tile=10, overlap=1))
    middle = shares[1, 0]
    assert (middle[10:18] == 1).all()
    assert middle[9] == middle[18] == 0.5


def test_weights_fall_as_a_raised_cosine_over_an_overlap():
    left = share_of_each_tile(TileGrid(32, 48, tile=32, overlap=16))[0, 0]
    middles = (torch.arange(16, dtype=torch.float64) + 0.5) / 16
    assert (left[:16] == 1).all()
    assert (left[32:] == 0).all()
    torch.testing.assert_close(left[16:32], (1 + torch.cos(torch.pi * middles)) / 2)


@pytest.mark.parametrize(
    ("height", "width", "overlap", "align", "message"),
    [
        (32, 64, 8, 1, "64x32 is smaller than a tile of 64"),
        (64, 63, 8, 1, "63x64 is smaller"),
        (64, 64, 33, 1, "overlap 33"),
        (64, 64, -1, 1, "overlap -1"),
        (72, 64, 8, 16, "64x72 or 64 is no multiple of 16"),
    ],
)
def test_impossible_grids_are_refused(height, width, overlap, align, message):
    with pytest.raises(ValueError, match=message):
        TileGrid(height, width, tile=64, overlap=overlap, align=align)
