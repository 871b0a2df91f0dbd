import pytest
import torch

from varsr_core.tiling import TileGrid

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


@pytest.fixture(params=GRIDS, ids=str)
def grid(request):
    return grid_of(request.param)


def gaps(starts):
    return [b - a for a, b in zip(starts, starts[1:], strict=False)]


@pytest.mark.parametrize("images", [1, 2])
def test_merge_of_split_is_identity(grid, images):
    generator = torch.Generator().manual_seed(0)
    canvas = torch.rand(images, 3, grid.height, grid.width, generator=generator)
    torch.testing.assert_close(grid.merge(grid.split(canvas)), canvas, atol=1e-6, rtol=0)


def test_neighbours_overlap_by_at_least_what_was_asked(grid):
    for starts in (grid.rows, grid.columns):
        assert all(gap <= grid.tile - grid.overlap for gap in gaps(starts))


def test_tiles_start_at_multiples_of_a_token(grid):
    assert all(start % grid.align == 0 for start in (*grid.rows, *grid.columns))


def test_tiles_reach_both_borders_and_never_beyond(grid):
    for starts, length in ((grid.rows, grid.height), (grid.columns, grid.width)):
        assert starts[0] == 0
        assert starts[-1] == length - grid.tile
        assert list(starts) == sorted(set(starts))


def test_no_tile_is_superfluous(grid):
    """Aligned tiles that overlap as little as allowed would need as many."""
    for starts, length in ((grid.rows, grid.height), (grid.columns, grid.width)):
        step = (grid.tile - grid.overlap) // grid.align * grid.align
        needed = 1
        while (needed - 1) * step + grid.tile < length:
            needed += 1
        assert len(starts) == needed


def test_tiles_are_evenly_spaced(grid):
    for starts in (grid.rows, grid.columns):
        if len(starts) > 1:
            assert max(gaps(starts)) - min(gaps(starts)) <= grid.align


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
    one_hot = torch.eye(count).view(count * count, 1, 1, 1)
    tiles = one_hot.expand(-1, -1, grid.tile, grid.tile).double()
    return grid.merge(tiles)[:, 0]


@pytest.mark.parametrize("case", [g for g in GRIDS if g[0] * g[1] < 10_000], ids=str)
def test_weights_are_positive_shares_that_sum_to_1(case):
    grid = grid_of(case)
    shares = share_of_each_tile(grid)
    torch.testing.assert_close(shares.sum(dim=0), torch.ones_like(shares[0]))
    for share, (top, left) in zip(shares, grid.positions, strict=True):
        inside = torch.zeros_like(share, dtype=torch.bool)
        inside[top : top + grid.tile, left : left + grid.tile] = True
        assert (share[inside] > 0).all()
        assert (share[~inside] == 0).all()


@pytest.mark.parametrize("case", [(128, 112, 64, 16, 16), (28, 46, 10, 4, 1), (19, 10, 10, 1, 1)])
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
        (72, 64, 8, 16, "64x72 is no multiple of 16"),
    ],
)
def test_impossible_grids_are_refused(height, width, overlap, align, message):
    with pytest.raises(ValueError, match=message):
        TileGrid(height, width, tile=64, overlap=overlap, align=align)
