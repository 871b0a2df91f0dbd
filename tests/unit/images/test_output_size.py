import math
import random
from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest

from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.images.output_size import MAX_OUTPUT_PIXELS, SIZE_MODES, OutputSize, as_output_size

SHAPES = [(64, 48), (97, 31), (1, 1000), (1000, 1), (1, 1), (7, 7), (1080, 1920), (333, 334)]


def factors_of(before, after):
    """Half-open interval of the factors that round `before` to `after`, half up, at least 1."""
    low = Fraction(2 * after - 1, 2 * before) if after > 1 else Fraction(0)
    return low, Fraction(2 * after + 1, 2 * before)


def is_one_factor(before, after):
    (low_a, high_a), (low_b, high_b) = map(factors_of, before, after)
    return max(low_a, low_b) < min(high_a, high_b)


def sizes_up_to(height, width, factor):
    """Every size that some factor up to `factor` gives: both sides change at known factors."""
    changes = [
        Fraction(2 * length - 1, 2 * side)
        for side in (height, width)
        for length in range(2, math.ceil(side * factor) + 2)
    ]
    half = Fraction(1, 2)
    for change in [Fraction(0), *changes]:
        yield tuple(max(1, math.floor(side * change + half)) for side in (height, width))


@each(
    ("size", "scale", "expected"),
    [
        ((64, 48), 4, (256, 192)),
        ((64, 48), 1, (64, 48)),
        ((100, 50), 0.25, (25, 13)),  # 12.5: half up, where round() gives 12
        ((50, 10), 0.05, (3, 1)),  # 2.5 and 0.5
        ((5, 5), 2.3, (12, 12)),  # 11.5 exactly, though 2.3 is no binary fraction
        ((5, 15), 0.7, (4, 11)),  # 3.5 and 10.5
        ((33, 47), 1.1, (36, 52)),  # 36.3 and 51.7
        ((1, 1000), 0.01, (1, 10)),
        ((3, 3), 0.001, (1, 1)),
    ],
)
def test_scale_multiplies_both_sides_and_rounds_half_up(size, scale, expected):
    assert OutputSize("scale", scale).of(*size) == expected


@each(
    ("mode", "value", "size", "expected"),
    [
        ("longer side", 1000, (1080, 1920), (563, 1000)),  # 562.5
        ("longer side", 1000, (1920, 1080), (1000, 563)),
        ("shorter side", 1000, (1080, 1920), (1000, 1778)),  # 1777.8
        ("shorter side", 1000, (1920, 1080), (1778, 1000)),
        ("longer side", 512, (512, 100), (512, 100)),
        ("longer side", 99.5, (40, 20), (100, 50)),
        ("longer side", 99.4, (40, 20), (99, 50)),  # 49.5
        ("longer side", 99.6, (40, 5), (100, 13)),  # an eighth of 100, not of 99.6
        ("longer side", 10, (1, 1000), (1, 10)),
        ("shorter side", 3, (1, 1000), (3, 3000)),
        ("longer side", 0.2, (40, 20), (1, 1)),
        ("megapixels", 1, (500, 500), (1000, 1000)),  # a million, not 1024 x 1024
        ("megapixels", 1, (4000, 4000), (1000, 1000)),
        ("megapixels", 2, (1000, 500), (2000, 1000)),
        ("megapixels", 1e-5, (1, 1000), (1, 10)),  # ten pixels
        ("megapixels", 1e-9, (64, 48), (1, 1)),
        ("megapixels", 0.002, (1, 1000), (1, 1500)),  # the next size is 2 x 1500
    ],
)
def test_sizes_by_side_and_by_megapixels(mode, value, size, expected):
    assert OutputSize(mode, value).of(*size) == expected


@pytest.mark.parametrize("mode", SIZE_MODES)
def test_both_sides_are_multiplied_by_one_factor(mode):
    draw = random.Random(0)
    values = {"scale": (0.05, 8), "megapixels": (1e-4, 20)}.get(mode, (1, 4000))
    for _ in range(200):
        size = draw.randint(1, 700), draw.randint(1, 700)
        output = OutputSize(mode, draw.uniform(*values))
        try:
            found = output.of(*size)
        except InputError as error:
            assert "limit" in str(error)  # noqa: PT017
            continue
        assert min(found) >= 1
        assert is_one_factor(size, found), (output, size, found)


@pytest.mark.parametrize("mode", ["longer side", "shorter side"])
@each("size", SHAPES)
def test_the_named_side_is_met_exactly(mode, size):
    pick = max if mode == "longer side" else min
    for value in (1, 7, 100, 511):
        assert pick(OutputSize(mode, value).of(*size)) == value


def test_no_factor_comes_nearer_to_the_megapixels():
    draw = random.Random(0)
    cases = [
        ((draw.randint(1, 20), draw.randint(1, 20) * draw.choice([1, 20])), draw.randint(1, 3000))
        for _ in range(60)
    ]
    for size, pixels in [*cases, ((333, 334), 3_141_593), ((97, 31), 2_718_282)]:
        factor = Fraction(math.ceil(1000 * math.sqrt(pixels / math.prod(size))), 1000)
        far = sizes_up_to(*size, 2 * factor)
        best = min(abs(math.prod(each) - pixels) for each in far)
        found = OutputSize("megapixels", pixels / 1e6).of(*size)
        assert abs(math.prod(found) - pixels) == best, (size, pixels, found)


@each("size", SHAPES)
@pytest.mark.parametrize("mode", SIZE_MODES)
def test_sizes_grow_with_the_value(mode, size):
    values = [0.001, 0.1, 0.5, 1, 2, 3.7, 8]
    found = [OutputSize(mode, value).of(*size) for value in values]
    assert found == sorted(found)
    assert [width for _, width in found] == sorted(width for _, width in found)


@each(("mode", "value"), [("scale", 4.0), ("longer side", 16384)])
def test_the_largest_output_is_allowed(mode, value):
    assert math.prod(OutputSize(mode, value).of(4096, 4096)) == MAX_OUTPUT_PIXELS


@pytest.mark.parametrize(
    ("mode", "value", "size", "text"),
    [
        ("scale", 4.0, (4096, 4097), "scale 4 gives 16388x16384 = 268 million"),
        ("longer side", 16385, (8, 8), "longer side 16385 gives 16385x16385 = 268 million"),
        ("shorter side", 1000, (1, 1000), "shorter side 1000 gives 1000000x1000 = 1000 million"),
        ("megapixels", 300, (10, 30), "megapixels 300 gives 30000x10000 = 300 million"),
    ],
)
def test_an_output_beyond_the_limit_is_refused(mode, value, size, text):
    with pytest.raises(InputError, match=f"{text}.*limit is 268 million.*smaller {mode}"):
        OutputSize(mode, value).of(*size)


@pytest.mark.parametrize("mode", SIZE_MODES)
def test_absurd_values_are_refused_like_large_ones(mode):
    with pytest.raises(InputError, match="limit"):
        OutputSize(mode, 1e308).of(64, 48)


@each("value", [0, -1, -0.5, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", SIZE_MODES)
def test_values_that_are_not_above_0_and_finite_are_refused(mode, value):
    with pytest.raises(InputError, match=f"{mode} is {value}; a finite number above 0"):
        OutputSize(mode, value)


@pytest.mark.parametrize("mode", ["", "Scale", "width", None])
def test_unknown_modes_are_refused(mode):
    with pytest.raises(InputError, match="none of scale, longer side, shorter side, megapixels"):
        OutputSize(mode, 2)


@each("size", [(0, 8), (8, 0), (0, 0)])
@pytest.mark.parametrize("mode", SIZE_MODES)
def test_empty_pictures_are_refused(mode, size):
    with pytest.raises(InputError, match="at least one pixel"):
        OutputSize(mode, 2).of(*size)


def test_the_default_enlarges_four_times():
    assert OutputSize().of(10, 20) == (40, 80)


@each("scale", [2, 2.5])
def test_a_number_is_a_scale(scale):
    assert as_output_size(scale) == OutputSize("scale", scale)


def test_an_output_size_is_passed_through():
    size = OutputSize("longer side", 1000)
    assert as_output_size(size) is size


@each("scale", [0, -2.0, math.nan, math.inf])
def test_a_number_that_is_no_scale_is_refused(scale):
    with pytest.raises(InputError, match="scale is"):
        as_output_size(scale)


def test_an_output_size_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        OutputSize().value = 2
