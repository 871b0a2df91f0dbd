"""A canvas decoded piece by piece is the canvas decoded at once."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as some

from helpers import models
from varsr_core.runtime.execution import Execution, Session
from varsr_core.tiling import decode as tiled_decode
from varsr_core.tiling.consistency import Neighbourhood
from varsr_core.tiling.decode import MEASURED_PIECES, Decoding, composite, decode_canvas
from varsr_core.tiling.grid import TileGrid
from varsr_core.tiling.group_norm import NormStatistics, own_norm
from varsr_core.training.new_model import config_from_json, new_model
from varsr_core.varsr.decoding import VARSRDecoder
from varsr_core.varsr.vqvae import SpatialAttention

many = settings(max_examples=120, deadline=None, derandomize=True, database=None)

SIDE = 16  # cells of a tile of the small models
PIXELS = 4  # of a cell
# Attention levels and decoder blocks: the split between coarse and fine lies with the former.
SHAPES = [((), 1), ((2,), 1), ((2,), 2), ((1, 2), 1), ((0,), 1)]
# Canvases of no more than 2x2 tiles, whose norms are measured whole.
SIZES = [(16, 17), (32, 32), (31, 33), (17, 60), (64, 16)]


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@cache
def small_decoder(attention_levels=(2,), blocks=1):
    tokenizer = {
        "widths": [32, 64, 96],
        "encoder_blocks": 1,
        "decoder_blocks": blocks,
        "attention_levels": list(attention_levels),
        "latent_channels": 8,
        "codebook_size": 16,
        "phi_count": 2,
        "norm_groups": 8,
    }
    transformer = {
        "width": 16,
        "depth": 1,
        "heads": 2,
        "mlp_width": 16,
        "prefix_widths": [8, 8, 8],
        "num_classes": 2,
    }
    sizes = {
        "tokenizer": tokenizer,
        "transformer": transformer,
        "refiner": {"width": 16, "depth": 1, "frequencies": 8},
        "schedule": [1, 2, 4, 8, SIDE],
    }
    return VARSRDecoder(new_model(config_from_json(sizes), seed=0))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def session_of(at_once=1, **services):
    return Session(Execution(prepare=lambda: at_once, **services), 0)


def decoded(latent, decoder, at_once=2, **services):
    """(C, H, W) -> (3, H * pixels, W * pixels), piece by piece."""
    height, width = latent.shape[1:]
    rgb = torch.full((3, height * decoder.pixels, width * decoder.pixels), torch.nan)
    decode_canvas(latent, decoder, session_of(at_once, **services), rgb)
    return rgb


def decoded_at_once(latent, decoder):
    return decoder.fine(decoder.coarse(latent[None]), own_norm)[0]


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


class Wrapped:
    """A decoder with something of its own."""

    def __init__(self, decoder, **own):
        self.decoder = decoder
        self.__dict__ |= own

    def __getattr__(self, name):
        return getattr(self.decoder, name)


class Short(Wrapped):
    """A decoder that runs out of memory beyond `most` features at once in its fine part."""

    def fine(self, features, norm):
        self.tried.append(features[:, 0].numel())
        if self.tried[-1] > self.most:
            raise MemoryError
        return self.decoder.fine(features, norm)


@pytest.fixture(autouse=True)
def few_measured(monkeypatch):
    """As for tiles of 512 pixels; small ones would all be measured here."""
    monkeypatch.setattr(tiled_decode, "MEASURED_PIXELS", 0)


MEASURE = tiled_decode._measure


@pytest.fixture(autouse=True)
def in_pieces(monkeypatch):
    """Also where the whole picture comes with the statistics, as of every small canvas."""
    monkeypatch.setattr(tiled_decode, "_measure", lambda *given: (MEASURE(*given)[0], None))


# Against the canvas at once


@pytest.mark.parametrize(
    ("attention_levels", "blocks", "size"),
    [*(((2,), 1, size) for size in SIZES), *((*shape, (20, 31)) for shape in SHAPES)],
)
def test_canvas_decoded_in_pieces_equals_the_canvas_decoded_at_once(attention_levels, blocks, size):
    decoder, latent = small_decoder(attention_levels, blocks), noise(8, *size)
    assert_same(decoded(latent, decoder), decoded_at_once(latent, decoder))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_canvas_that_is_measured_whole_is_decoded_only_once(size, monkeypatch):
    """The fine part runs once, on as many features as the canvas has."""
    monkeypatch.setattr(tiled_decode, "_measure", MEASURE)
    seen, latent = [], noise(8, *size)
    decoder = Short(small_decoder(), most=10**9, tried=seen)
    whole = Decoding(decoder, [TileGrid(size[0] * PIXELS, size[1] * PIXELS, 64, 16, PIXELS)], True)
    told = []
    found = decoded(latent, decoder, on_progress=told.append)
    assert seen == [size[0] * size[1]]
    assert_same(found, decoded_at_once(latent, small_decoder()))
    assert told[-1].done == whole.pieces


@pytest.mark.parametrize("size", [(8, 8), (4, 16), (5, 7)], ids=str)
def test_released_layout_decoded_in_pieces_equals_the_canvas_decoded_at_once(size):
    decoder, latent = VARSRDecoder(models.micro_model()), noise(32, *size)
    assert_same(decoded(latent, decoder), decoded_at_once(latent, decoder))


def test_released_layout_has_enough_context_for_several_pieces(monkeypatch):
    """Its five levels of three blocks see 7 features around a piece of 28, the outermost faintly"""
    monkeypatch.setattr(tiled_decode, "MEASURED_PIECES", 15)
    decoder, latent = VARSRDecoder(models.micro_model()), noise(32, 30, 8)
    assert (decoder.context, decoder.features, decoder.pixels) == (7, 1, 16)
    assert Decoding(decoder, [TileGrid(480, 128, 64, 16, 16)], agreed=True).pieces == 2
    expected = decoded_at_once(latent, decoder)
    assert_same(decoded(latent, decoder), expected)
    narrow = decoded(latent, Wrapped(decoder, context=3))
    assert (narrow - expected).abs().max() > 1e-4


@pytest.mark.parametrize(("attention_levels", "blocks"), SHAPES)
def test_one_feature_less_of_context_would_be_too_little(attention_levels, blocks):
    decoder, latent = small_decoder(attention_levels, blocks), noise(8, 16, 31)
    narrow = decoded(latent, Wrapped(decoder, context=decoder.context - 1))
    assert (narrow - decoded_at_once(latent, decoder)).abs().max() > 5e-3


@pytest.mark.parametrize(
    ("attention_levels", "context", "features"),
    [((), 3, 1), ((2,), 3, 1), ((1, 2), 2, 2), ((0,), 1, 4)],
)
def test_fine_part_begins_behind_the_last_attention(attention_levels, context, features):
    decoder = small_decoder(attention_levels)
    assert (decoder.cells, decoder.pixels) == (SIDE, PIXELS)
    assert (decoder.context, decoder.features) == (context, features)
    assert decoder.coarse(noise(1, 8, 17, 16)).shape[2:] == (17 * features, 16 * features)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_picture_does_not_depend_on_how_many_pieces_run_at_once(at_once):
    decoder, latent = small_decoder(), noise(8, 31, 33)
    assert_same(decoded(latent, decoder, at_once), decoded(latent, decoder, 2))


def test_pieces_in_half_precision_show_no_seams():
    model = small_decoder.__wrapped__().model
    model.decoder.bfloat16(), model.post_quantizer.bfloat16()
    model.tokenizer_dtype = torch.bfloat16
    decoder, latent = VARSRDecoder(model), noise(8, 31, 33)
    error = (decoded(latent, decoder) - decoded_at_once(latent, decoder)).abs()
    # Of a deviation of 0.17; bf16 itself is 0.03 from float32 at most, 0.004 in the mean.
    assert error.max() < 0.03
    assert error.mean() < 0.004


# Beyond the area whose norms are measured whole


@pytest.mark.parametrize("size", [(33, 33), (48, 60)], ids=str)
def test_statistics_of_samples_err_by_0_09_at_most_and_0_014_in_the_mean(size):
    """Of a deviation of 0.17, with random weights on noise.

    The trained nano model errs by 0.043 at most and 0.003 in the mean on photographs of 512 pixels.
    """
    decoder, latent = small_decoder(), noise(8, *size, seed=1)
    error = (decoded(latent, decoder) - decoded_at_once(latent, decoder)).abs()
    assert 1e-4 < error.max() < 0.1
    assert error.mean() < 0.016


@pytest.mark.parametrize("dim", [1, 2])
def test_samples_lie_all_over_the_canvas(dim):
    """Two halves that differ are both measured."""
    decoder, latent = Short(small_decoder(), most=10**9, tried=[]), noise(8, 48, 48)
    latent.narrow(dim, 24, 24).add_(torch.linspace(-3, 3, 8).view(-1, 1, 1))
    error = (decoded(latent, decoder) - decoded_at_once(latent, decoder)).abs()
    assert decoder.tried[0] == MEASURED_PIECES * SIDE**2
    assert error.mean() < 0.02


def test_pieces_of_a_large_canvas_are_all_normed_by_the_same_samples(monkeypatch):
    """So there are no steps between them: they are that canvas, normed so at once."""
    found, measure = [], NormStatistics.measure

    def spy(run):
        found.append(measure(run))
        return found[-1]

    monkeypatch.setattr(NormStatistics, "measure", spy)
    decoder, latent = small_decoder(), noise(8, 33, 40)
    rgb = decoded(latent, decoder)
    assert len(found) == 1
    assert_same(rgb, decoder.fine(decoder.coarse(latent[None]), found[0].norm())[0])


# Memory runs out


@pytest.mark.parametrize(
    ("size", "most"),
    [
        ((32, 32), SIDE**2),  # neither the whole canvas nor two pieces fit
        ((31, 33), 2 * SIDE**2),  # two pieces do
        ((33, 40), SIDE**2),  # nor the samples together
        ((33, 40), 4 * SIDE**2),  # the samples do, eight pieces do not
    ],
)
@pytest.mark.parametrize("at_once", [1, 8])
def test_running_out_of_memory_gives_the_same_picture(size, most, at_once):
    decoder, latent = small_decoder(), noise(8, *size)
    short = Short(decoder, most=most, tried=[])
    found = decoded(latent, short, at_once)
    assert max(short.tried) > most or (at_once, most) == (1, 4 * SIDE**2)
    assert_same(found, decoded(latent, decoder))


@pytest.mark.parametrize("attention_levels", [(), (1, 2), (0,)])
def test_norms_measured_in_pieces_are_those_of_the_canvas(attention_levels):
    decoder, latent = small_decoder(attention_levels), noise(8, 20, 41)
    short = Short(decoder, most=(SIDE * decoder.features) ** 2, tried=[])
    assert_same(decoded(latent, short), decoded_at_once(latent, decoder))


def test_memory_is_freed_before_norms_are_measured_in_pieces():
    freed = []
    short = Short(small_decoder(), most=SIDE**2, tried=[])
    decoded(noise(8, 32, 32), short, 1, free_memory=lambda: freed.append(list(short.tried)))
    assert freed[0] == [32 * 32]


@pytest.mark.parametrize("part", ["coarse", "fine"])
def test_canvas_that_does_not_fit_is_an_error_that_says_what_to_do(part):
    def fail(*_):
        raise MemoryError

    with pytest.raises(torch.OutOfMemoryError, match="Close other programs"):
        decoded(noise(8, 32, 32), Wrapped(small_decoder(), **{part: fail}))


def test_other_errors_pass_through():
    def fail(*_):
        raise ValueError("shapes do not fit")

    with pytest.raises(ValueError, match="shapes do not fit"):
        decoded(noise(8, 32, 32), Wrapped(small_decoder(), fine=fail))


# Where pieces lie


class Blur:
    """A decoder whose fine part sees exactly `context` features around each."""

    def __init__(self, cells, features, enlargement, context):
        self.cells, self.features, self.context = cells, features, context
        self.pixels = features * enlargement
        self.enlargement = enlargement
        self.shapes = []

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
    pieces = tiled_decode._Pieces(decoder, height, width)
    canvas = torch.zeros(3, height * decoder.pixels, width * decoder.pixels)
    cuts = [pieces.cut(torch.zeros(1, 1, height * features, width * features), 0).shape[2:]]
    for number in range(len(pieces)):
        covered = torch.zeros_like(canvas)
        side = [2 * length for length in cuts[0]]
        pieces.paste(covered, number, torch.ones(3, *side))
        assert covered.any()
        canvas += covered
    assert (canvas == 1).all()


def test_piece_is_as_large_as_a_tile_unless_context_leaves_too_little_of_it():
    for cells, context, side in ((16, 3, 16), (4, 7, 28)):
        decoder = Blur(cells, 1, 1, context)
        decoded(noise(1, 60, 60), decoder)
        assert set(decoder.shapes[1:]) == {(side, side)}


# Tiles of pictures


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_tiles_that_agree_are_decoded_as_one_canvas(at_once):
    decoder, grid = small_decoder(), TileGrid(88, 112, tile=64, overlap=16, align=PIXELS)
    canvases = noise(2, 8, 22, 28)
    latents = grid.cells().split(canvases)
    rgb = torch.zeros(2, 3, 88, 112)
    decoding = Decoding(decoder, [grid] * 2, agreed=True)
    decoding.run(latents, range(len(latents)), session_of(at_once), rgb)
    for found, canvas in zip(rgb, canvases, strict=True):
        assert_same(found, decoded_at_once(canvas, decoder))


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_tiles_that_ran_apart_are_decoded_by_themselves_and_cross_faded(at_once):
    decoder, grid = small_decoder(), TileGrid(64, 112, tile=64, overlap=16, align=PIXELS)
    latents, rgb = noise(4, 8, SIDE, SIDE), torch.zeros(2, 3, 64, 112)
    decoding = Decoding(decoder, [grid] * 2, agreed=False)
    decoding.run(latents, range(4), session_of(at_once), rgb)
    tiles = torch.cat([decoder.model.decode(part) for part in latents.split(at_once)])
    assert torch.equal(rgb, grid.merge(tiles))


@pytest.mark.parametrize("agreed", [True, False])
def test_single_tile_has_the_bits_of_the_model(agreed):
    decoder, grid = small_decoder(), TileGrid(64, 64, tile=64, overlap=16, align=PIXELS)
    latents, rgb = noise(3, 8, SIDE, SIDE), torch.zeros(3, 3, 64, 64)
    Decoding(decoder, [grid] * 3, agreed).run(latents, range(3), session_of(3), rgb)
    assert torch.equal(rgb, decoder.model.decode(latents))


def test_tiles_that_are_not_wanted_stay_as_they_are():
    decoder, grid = small_decoder(), TileGrid(64, 112, tile=64, overlap=16, align=PIXELS)
    latents, rgb = noise(4, 8, SIDE, SIDE), torch.zeros(2, 3, 64, 112)
    latents[[0, 3]] = torch.nan
    Decoding(decoder, [grid] * 2, agreed=False).run(latents, [1, 2], session_of(2), rgb)
    expected = torch.zeros_like(rgb)
    grid.add(expected, [1, 2], decoder.model.decode(latents[[1, 2]]))
    assert torch.equal(rgb, expected)
    assert (rgb[0, ..., :48] == 0).all()


@pytest.mark.parametrize("agreed", [True, False])
@pytest.mark.parametrize("at_once", [1, 3])
def test_running_out_of_memory_decodes_the_same_tiles(agreed, at_once):
    decoder, grid = small_decoder(), TileGrid(88, 112, tile=64, overlap=16, align=PIXELS)
    latents = grid.cells().split(noise(1, 8, 22, 28))

    def decode(latent):
        if len(latent) > 1:
            raise torch.OutOfMemoryError
        return decoder.decode(latent)

    short = Short(decoder, most=SIDE**2, tried=[], decode=decode)
    found, expected = torch.zeros(2, 1, 3, 88, 112)
    Decoding(short, [grid], agreed).run(latents, range(4), session_of(at_once), found)
    Decoding(decoder, [grid], agreed).run(latents, range(4), session_of(1), expected)
    assert_same(found, expected)


@pytest.mark.parametrize("agreed", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (88, 112), (192, 320)], ids=str)
@pytest.mark.parametrize("most", [10**9, SIDE**2])
def test_progress_ends_at_the_pieces_that_were_announced(agreed, size, most):
    grid = TileGrid(*size, tile=64, overlap=16, align=PIXELS)
    short = Short(Blur(SIDE, 1, PIXELS, 2), most=most, tried=[])
    short.decode = lambda latent: short.fine(latent, own_norm)
    decoding, seen = Decoding(short, [grid] * 2, agreed), []
    session = session_of(4, on_progress=seen.append)
    latents, rgb = noise(2 * len(grid), 1, SIDE, SIDE), torch.zeros(2, 3, *size)
    decoding.run(latents, range(len(latents)), session, rgb)
    done = [progress.done for progress in seen]
    assert done == sorted(set(done))
    assert done[-1] == decoding.pieces
    assert {progress.stage for progress in seen} == {"decode"}


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


@pytest.mark.parametrize("seed", range(5))
def test_tiles_that_took_over_from_each_other_show_no_seams(seed):
    """Each tile of one value, 0 or 1: laid side by side they would step by 1."""
    grid = TileGrid(80, 80, tile=32, overlap=16)
    values = (noise(len(grid), seed=seed) > 0).float()
    tiles = values.view(-1, 1, 1, 1).expand(-1, 1, 32, 32).clone()
    assert steepest(composite(tiles, grid)) == 1
    around, finished = Neighbourhood(grid), {}
    for phase in around.phases:
        for index in phase:
            neighbours = {i: finished[i] for i in around.overlapping(index) if i in finished}
            tiles[index] = around.take_over(tiles[index], index, neighbours)
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
