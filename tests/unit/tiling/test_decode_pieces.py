"""Where the pieces of a canvas lie, and which tiles make up a canvas."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as some

from helpers.decoding import (
    MEASURE,
    PIXELS,
    SIDE,
    Short,
    assert_same,
    decoded,
    decoded_at_once,
    many,
    noise,
    session_of,
    small_decoder,
)
from helpers.each import each
from helpers.fake_work import take_over
from helpers.told import assert_rises_to_its_total
from varsr_core.nn.autoencoder import SpatialAttention
from varsr_core.runtime.progress import DECODING
from varsr_core.runtime.work import Calls
from varsr_core.tiling import decode as tiled_decode
from varsr_core.tiling.consistency import Overlaps
from varsr_core.tiling.decode import Decoding, composite
from varsr_core.tiling.grid import TileGrid
from varsr_core.tiling.group_norm import own_norm

pytestmark = pytest.mark.usefixtures("no_gradients", "few_measured", "in_pieces")


# Where pieces lie


class Blur:
    """A decoder whose fine part sees exactly `context` features around each."""

    def __init__(self, cells, features, enlargement, context):
        self.cells, self.features, self.context = cells, features, context
        self.pixels = features * enlargement
        self.enlargement = enlargement
        self.shapes = []

    def coarse_parts(self, height, width):
        return [Calls(None, height * width)]

    def fine_parts(self, height, width):
        return [Calls(None, 3 * height * width)]

    def coarse(self, latent):
        return F.interpolate(latent, scale_factor=self.features, mode="nearest")

    def fine(self, features, norm):
        self.shapes.append(features.shape[2:])
        side = 2 * self.context + 1
        kernel = torch.arange(1.0, side**2 + 1).view(1, 1, side, side) / side**4
        blurred = F.conv2d(features[:, :1].double(), kernel.double(), padding=self.context)
        large = F.interpolate(blurred, scale_factor=self.enlargement, mode="nearest")
        return large.float().expand(-1, 3, -1, -1)


@many
@given(
    cells=some.integers(1, 8),
    features=some.sampled_from([1, 2, 4]),
    enlargement=some.sampled_from([1, 2, 4]),
    context=some.integers(1, 5),
    more=some.tuples(some.integers(0, 30), some.integers(0, 30)),
    at_once=some.integers(1, 5),
)
def test_pieces_of_any_canvas_see_enough_of_it(
    cells, features, enlargement, context, more, at_once
):
    decoder = Blur(cells, features, enlargement, context)
    latent = noise(1, cells + more[0], cells + more[1])
    expected = decoded_at_once(latent, decoder)
    assert_same(decoded(latent, decoder, at_once), expected)


@many
@given(
    cells=some.integers(1, 8),
    features=some.sampled_from([1, 2]),
    context=some.integers(1, 5),
    more=some.tuples(some.integers(0, 30), some.integers(0, 30)),
)
def test_pieces_cover_each_pixel_once_and_have_one_size(cells, features, context, more):
    decoder = Blur(cells, features, 2, context)
    height, width = cells + more[0], cells + more[1]
    pieces = tiled_decode._Steps(decoder, height, width).pieces
    canvas = torch.zeros(3, height * decoder.pixels, width * decoder.pixels)
    cuts = [pieces.cut(torch.zeros(1, 1, height * features, width * features), 0).shape[2:]]
    for number in range(len(pieces)):
        covered = torch.zeros_like(canvas)
        side = [2 * length for length in cuts[0]]
        pieces.paste(covered, [number], torch.ones(1, 3, *side))
        assert covered.any()
        canvas += covered
    assert (canvas == 1).all()


def test_piece_is_as_large_as_a_tile_unless_context_leaves_too_little_of_it():
    for cells, context, side in ((16, 3, 16), (4, 7, 28)):
        decoder = Blur(cells, 1, 1, context)
        decoded(noise(1, 60, 60), decoder)
        assert set(decoder.shapes[1:]) == {(side, side)}


# Tiles of pictures


@each("at_once", [1, 3, 100])
def test_tiles_that_agree_are_decoded_as_one_canvas(at_once):
    decoder, grid = small_decoder(), TileGrid(88, 112, tile=64, overlap=16, align=PIXELS)
    canvases = noise(2, 8, 22, 28)
    latents = grid.cells().split(canvases)
    rgb = torch.zeros(2, 3, 88, 112)
    decoding = Decoding(decoder, [grid] * 2, blended=True)
    decoding.run(latents, range(len(latents)), session_of(at_once), rgb)
    for found, canvas in zip(rgb, canvases, strict=True):
        assert_same(found, decoded_at_once(canvas, decoder))


@each("at_once", [1, 2, 100])
def test_tiles_that_ran_apart_are_decoded_by_themselves_and_cross_faded(at_once):
    decoder, grid = small_decoder(), TileGrid(64, 112, tile=64, overlap=16, align=PIXELS)
    latents, rgb = noise(4, 8, SIDE, SIDE), torch.zeros(2, 3, 64, 112)
    decoding = Decoding(decoder, [grid] * 2, blended=False)
    decoding.run(latents, range(4), session_of(at_once), rgb)
    tiles = torch.cat([decoder.model.decode(part) for part in latents.split(at_once)])
    assert torch.equal(rgb, grid.merge(tiles))


@each("blended", [True, False])
def test_single_tile_has_the_bits_of_the_model(blended):
    decoder, grid = small_decoder(), TileGrid(64, 64, tile=64, overlap=16, align=PIXELS)
    latents, rgb = noise(3, 8, SIDE, SIDE), torch.zeros(3, 3, 64, 64)
    Decoding(decoder, [grid] * 3, blended).run(latents, range(3), session_of(3), rgb)
    assert torch.equal(rgb, decoder.model.decode(latents))


def test_tiles_that_are_not_wanted_stay_as_they_are():
    decoder, grid = small_decoder(), TileGrid(64, 112, tile=64, overlap=16, align=PIXELS)
    latents, rgb = noise(4, 8, SIDE, SIDE), torch.zeros(2, 3, 64, 112)
    latents[[0, 3]] = torch.nan
    Decoding(decoder, [grid] * 2, blended=False).run(latents, [1, 2], session_of(2), rgb)
    expected = torch.zeros_like(rgb)
    grid.add(expected, [1, 2], decoder.model.decode(latents[[1, 2]]))
    assert torch.equal(rgb, expected)
    assert (rgb[0, ..., :48] == 0).all()


@each("blended", [True, False])
@each("at_once", [1, 3])
def test_running_out_of_memory_decodes_the_same_tiles(blended, at_once):
    decoder, grid = small_decoder(), TileGrid(88, 112, tile=64, overlap=16, align=PIXELS)
    latents = grid.cells().split(noise(1, 8, 22, 28))

    def decode(latent):
        if len(latent) > 1:
            raise torch.OutOfMemoryError
        return decoder.decode(latent)

    short = Short(decoder, most=SIDE**2, tried=[], decode=decode)
    found, expected = torch.zeros(2, 1, 3, 88, 112)
    Decoding(short, [grid], blended).run(latents, range(4), session_of(at_once), found)
    Decoding(decoder, [grid], blended).run(latents, range(4), session_of(1), expected)
    assert_same(found, expected)


@each("blended", [True, False])
@each("size", [(64, 64), (88, 112), (192, 320)])
@each("most", [10**9, SIDE**2])
def test_progress_ends_at_the_work_that_was_announced(monkeypatch, blended, size, most):
    monkeypatch.setattr(tiled_decode, "_measure", MEASURE)
    grid = TileGrid(*size, tile=64, overlap=16, align=PIXELS)
    short = Short(Blur(SIDE, 1, PIXELS, 2), most=most, tried=[])
    short.decode = lambda latent: short.fine(latent, own_norm)
    decoding, seen = Decoding(short, [grid] * 2, blended), []
    latents, rgb = noise(2 * len(grid), 1, SIDE, SIDE), torch.zeros(2, 3, *size)
    session = session_of(4, decoding.plan(len(latents)), on_progress=seen.append)
    decoding.run(latents, range(len(latents)), session, rgb)
    assert_rises_to_its_total(seen)
    assert {progress.stage for progress in seen} == {DECODING}


# One canvas of tiles that agree


def test_later_tiles_lie_on_top_of_earlier_ones():
    grid = TileGrid(10, 10, tile=4, overlap=1)  # 3x3; phases 0 2 6 8, 1 7, 3 5, 4
    tiles = torch.arange(9.0).view(9, 1, 1, 1).expand(-1, 2, 4, 4)
    canvas = composite(tiles, grid)
    assert canvas.shape == (2, 10, 10)
    rows = [
        "0 0 0 1 1 1 1 2 2 2",
        "0 0 0 1 1 1 1 2 2 2",
        "0 0 0 1 1 1 1 2 2 2",
        "3 3 3 4 4 4 4 5 5 5",
        "3 3 3 4 4 4 4 5 5 5",
        "3 3 3 4 4 4 4 5 5 5",
        "3 3 3 4 4 4 4 5 5 5",
        "6 6 6 7 7 7 7 8 8 8",
        "6 6 6 7 7 7 7 8 8 8",
        "6 6 6 7 7 7 7 8 8 8",
    ]
    expected = torch.tensor([[float(value) for value in row.split()] for row in rows])
    assert torch.equal(canvas, expected.expand(2, 10, 10))


def test_tiles_cut_from_a_canvas_make_that_canvas():
    grid = TileGrid(23, 40, tile=16, overlap=7)
    canvas = noise(1, 3, 23, 40)
    assert torch.equal(composite(grid.split(canvas), grid), canvas[0])


@each("seed", range(5))
def test_tiles_that_took_over_from_each_other_show_no_seams(seed):
    """Each tile of one value, 0 or 1: laid side by side they would step by 1."""
    grid = TileGrid(80, 80, tile=32, overlap=16)
    values = (noise(len(grid), seed=seed) > 0).float()
    tiles = values.view(-1, 1, 1, 1).expand(-1, 1, 32, 32).clone()
    assert steepest(composite(tiles, grid)) == 1
    around, finished = Overlaps(grid), {}
    for phase in around.phases:
        for index in phase:
            neighbours = {i: finished[i] for i in around.neighbours(index) if i in finished}
            tiles[index] = take_over(around, tiles[index], index, neighbours)
        finished |= {index: tiles[index] for index in phase}
    assert steepest(composite(tiles, grid)) < 0.6  # a ramp over 4 cells, 0.38, and where two meet


def steepest(canvas):
    return max(canvas.diff(dim=dim).abs().max() for dim in (1, 2))


# Attention on a canvas


def test_attention_in_windows_is_attention_in_each_cross_faded():
    attention = SpatialAttention(16, groups=4)
    x, windows = 3 * noise(2, 16, 12, 20), TileGrid(12, 20, tile=8, overlap=2)
    seen = windows.merge(attention._look(windows.split(attention.qkv(attention.norm(x)))))
    found = attention(x, windows)
    assert_same(found, x + attention.projection(seen))
    assert (found - attention(x)).abs().max() > 1e-3


def test_attention_sees_as_much_of_a_canvas_as_of_a_tile(monkeypatch):
    seen, look = [], SpatialAttention._look

    def spy(self, qkv):
        seen.append(tuple(qkv.shape[2:]))
        return look(self, qkv)

    monkeypatch.setattr(SpatialAttention, "_look", spy)
    decoder = small_decoder((1, 2))
    decoder.coarse(noise(1, 8, 20, 41))
    assert set(seen) == {(SIDE, SIDE), (2 * SIDE, 2 * SIDE)}
    seen.clear()
    small_decoder(()).coarse(noise(1, 8, SIDE, 2 * SIDE))
    assert len(seen) == 3  # windows, since they overlap


def test_coarse_part_of_a_single_tile_is_that_of_the_model():
    decoder, latent = small_decoder((1, 2)), noise(1, 8, SIDE, SIDE)
    model = decoder.model
    assert_same(decoder.coarse(latent), model.decoder.coarse(model.post_quantizer(latent)))


@pytest.mark.parametrize("pieces", [5, 8])
def test_as_many_small_samples_are_measured_as_make_up_an_area_in_pixels(monkeypatch, pieces):
    monkeypatch.setattr(tiled_decode, "MEASURED_PIXELS", pieces * (SIDE * PIXELS) ** 2)
    short = Short(small_decoder(), most=10**9, tried=[])
    decoded(noise(8, 48, 48), short)
    assert short.tried[0] == pieces * SIDE**2


def test_small_tiles_are_measured_up_to_an_area_in_pixels(monkeypatch):
    monkeypatch.setattr(tiled_decode, "MEASURED_PIXELS", 9 * (SIDE * PIXELS) ** 2)
    decoder, latent = small_decoder(), noise(8, 48, 48)
    assert_same(decoded(latent, decoder), decoded_at_once(latent, decoder))
