"""A canvas decoded piece by piece is the canvas decoded at once."""

import pytest
import torch

from helpers import models
from helpers.decoding import (
    MEASURE,
    PIXELS,
    SHAPES,
    SIDE,
    SIZES,
    Short,
    Wrapped,
    assert_same,
    decoded,
    decoded_at_once,
    noise,
    small_decoder,
)
from helpers.each import each
from helpers.told import assert_rises_to_its_total
from varsr_core.tiling import decode as tiled_decode
from varsr_core.tiling.decode import MEASURED_PIECES, Decoding
from varsr_core.tiling.grid import TileGrid
from varsr_core.tiling.group_norm import NormStatistics
from varsr_core.varsr.decoding import VARSRDecoder

pytestmark = pytest.mark.usefixtures("no_gradients", "few_measured", "in_pieces")


# Against the canvas at once


@each(
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
    plan = whole.plan(len(whole.tiles))
    found = decoded(latent, decoder, plan=plan, on_progress=told.append)
    assert seen == [size[0] * size[1]]
    assert_same(found, decoded_at_once(latent, small_decoder()))
    assert_rises_to_its_total(told)


@each("size", [(8, 8), (4, 16), (5, 7)])
def test_released_layout_decoded_in_pieces_equals_the_canvas_decoded_at_once(size):
    decoder, latent = VARSRDecoder(models.micro_model()), noise(32, *size)
    assert_same(decoded(latent, decoder), decoded_at_once(latent, decoder))


def test_released_layout_has_enough_context_for_several_pieces(monkeypatch):
    """Its five levels of three blocks see 7 features around a piece of 28, the outermost faintly"""
    monkeypatch.setattr(tiled_decode, "MEASURED_PIECES", 15)
    decoder, latent = VARSRDecoder(models.micro_model()), noise(32, 30, 8)
    assert (decoder.context, decoder.features, decoder.pixels) == (7, 1, 16)
    assert len(tiled_decode._Steps(decoder, 30, 8).pieces) == 2
    expected = decoded_at_once(latent, decoder)
    assert_same(decoded(latent, decoder), expected)
    narrow = decoded(latent, Wrapped(decoder, context=3))
    assert (narrow - expected).abs().max() > 1e-4


@each(("attention_levels", "blocks"), SHAPES)
def test_one_feature_less_of_context_would_be_too_little(attention_levels, blocks):
    decoder, latent = small_decoder(attention_levels, blocks), noise(8, 16, 31)
    narrow = decoded(latent, Wrapped(decoder, context=decoder.context - 1))
    assert (narrow - decoded_at_once(latent, decoder)).abs().max() > 5e-3


@each(
    ("attention_levels", "context", "features"),
    [((), 3, 1), ((2,), 3, 1), ((1, 2), 2, 2), ((0,), 1, 4)],
)
def test_fine_part_begins_behind_the_last_attention(attention_levels, context, features):
    decoder = small_decoder(attention_levels)
    assert (decoder.cells, decoder.pixels) == (SIDE, PIXELS)
    assert (decoder.context, decoder.features) == (context, features)
    assert decoder.coarse(noise(1, 8, 17, 16)).shape[2:] == (17 * features, 16 * features)


@each("at_once", [1, 3, 100])
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


@each("size", [(33, 33), (48, 60)])
def test_statistics_of_samples_err_by_0_09_at_most_and_0_014_in_the_mean(size):
    """Of a deviation of 0.17, with random weights on noise.

    The trained nano model errs by 0.043 at most and 0.003 in the mean on photographs of 512 pixels.
    """
    decoder, latent = small_decoder(), noise(8, *size, seed=1)
    error = (decoded(latent, decoder) - decoded_at_once(latent, decoder)).abs()
    assert 1e-4 < error.max() < 0.1
    assert error.mean() < 0.016


@each("dim", [1, 2])
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


@each(
    ("size", "most"),
    [
        ((32, 32), SIDE**2),  # neither the whole canvas nor two pieces fit
        ((31, 33), 2 * SIDE**2),  # two pieces do
        ((33, 40), SIDE**2),  # nor the samples together
        ((33, 40), 4 * SIDE**2),  # the samples do, eight pieces do not
    ],
)
@each("at_once", [1, 8])
def test_running_out_of_memory_gives_the_same_picture(size, most, at_once):
    decoder, latent = small_decoder(), noise(8, *size)
    short = Short(decoder, most=most, tried=[])
    found = decoded(latent, short, at_once)
    assert max(short.tried) > most or (at_once, most) == (1, 4 * SIDE**2)
    assert_same(found, decoded(latent, decoder))


@each("attention_levels", [(), (1, 2), (0,)])
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
