import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from helpers.each import each
from helpers.kernels import cubic_weights
from helpers.paths import ROOT
from varsr_core.errors import InputError
from varsr_core.images.alpha import enlarge_alpha

SIDE = 48  # of the small pictures that are enlarged
FINE = 8  # samples along a side of a pixel of the truth
FACTORS = [1.5, 2, 2.5, 3, 4]
# From 19x14 pixels: enlarged, shrunk, both, one side kept, down to and up from almost nothing.
SIZES = [
    (38, 28),
    (76, 56),
    (57, 33),
    (20, 15),
    (7, 5),
    (50, 6),
    (3, 60),
    (19, 40),
    (1, 1),
    (1, 80),
]


def soft(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def bicubic(alpha, height, width):
    """By dense matrices: torch's own is wrong for results of one column."""
    resized = (
        cubic_weights(alpha.shape[2], height).float()
        @ alpha
        @ cubic_weights(alpha.shape[3], width).float().T
    )
    return resized.clamp(0, 1)


def covered(length, before):
    """(length, before): how much of each pixel before lies in each of `length` equal parts."""
    edges = torch.arange(length + 1, dtype=torch.float64) * before / length
    starts = torch.arange(before, dtype=torch.float64)
    right = torch.minimum(edges[1:, None], starts + 1)
    left = torch.maximum(edges[:-1, None], starts)
    return ((right - left).clamp(min=0) * length / before).float()


def averaged(image, height, width):
    """Exact mean over the area of each pixel, as dense matrices."""
    return covered(height, image.shape[2]) @ image @ covered(width, image.shape[3]).T


def neighbourhood(alpha, height, width):
    """Least and greatest source pixel less than two (wider) pixels away, one pixel at a time."""
    bounds = []
    for before, after in zip(alpha.shape[2:], (height, width), strict=True):
        reach = 2 * max(1, before / after)
        centres = [(i + 0.5) * before / after for i in range(after)]
        near = [
            [t for t in range(before) if abs(t + 0.5 - centre) < reach - 1e-9]
            if before != after
            else [i]
            for i, centre in enumerate(centres)
        ]
        bounds.append([slice(taps[0], taps[-1] + 1) for taps in near])
    rows, columns = bounds
    windows = [[alpha[:, :, row, column] for column in columns] for row in rows]
    low = torch.stack([torch.stack([w.amin((2, 3)) for w in row], -1) for row in windows], -2)
    high = torch.stack([torch.stack([w.amax((2, 3)) for w in row], -1) for row in windows], -2)
    return low, high


def draw_disc(pen, side):
    pen.ellipse([side * 0.13, side * 0.13, side * 0.87, side * 0.87], fill=255)


def draw_strokes(pen, side):
    """Like lettering: thin and thick strokes, bowls, sharp corners."""
    for k, (x, y) in enumerate([(0.06, 0.05), (0.54, 0.05), (0.06, 0.54), (0.54, 0.54)]):
        box = [side * x, side * y, side * (x + 0.4), side * (y + 0.4)]
        stroke = int(side * (0.03 + 0.02 * k))
        pen.arc(box, 40 * k, 40 * k + 270, fill=255, width=stroke)
        pen.line([box[0], box[3], box[2] - 0.1 * side, box[1]], fill=255, width=stroke)
        pen.rectangle([box[0], box[1], box[0] + stroke, box[3]], fill=255)


def truth_of(draw, factor):
    """(1, 1, side, side): exact coverage at the large size, but for 1 / FINE**2."""
    side = round(SIDE * factor)
    image = Image.new("L", (side * FINE,) * 2)
    draw(ImageDraw.Draw(image), side * FINE)
    samples = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return F.avg_pool2d(samples.view(1, 1, side * FINE, side * FINE) / 255, FINE)


def edge_width(disc, factor):
    """From 10 % to 90 %, in pixels of the small picture: the mean along 64 rays."""
    side, steps = disc.shape[-1], 400
    angle = torch.arange(64)[:, None] * 2 * math.pi / 64
    radius = side * 0.37 + torch.linspace(-4, 4, steps) * factor
    points = torch.stack((radius * angle.cos(), radius * angle.sin()), -1) * 2 / side
    values = F.grid_sample(disc, points[None], align_corners=False)[0, 0]
    return ((values < 0.9) & (values > 0.1)).float().mean().item() * 8


def error(found, expected):
    return (found - expected).abs().mean().item()


@each("size", SIZES)
@each("level", [0.0, 1.0, 0.3])
def test_flat_alpha_keeps_its_exact_value(size, level):
    found = enlarge_alpha(torch.full((2, 1, 19, 14), level), *size)
    torch.testing.assert_close(found, torch.full((2, 1, *size), level), atol=0, rtol=0)


@each("factor", FACTORS)
def test_flat_areas_beside_an_edge_keep_their_exact_value(factor):
    step = torch.zeros(1, 1, 12, 24)
    step[..., 12:] = 1
    found = enlarge_alpha(step, round(12 * factor), round(24 * factor))
    assert (found[..., : math.floor(10 * factor)] == 0).all()
    assert (found[..., math.ceil(14 * factor) :] == 1).all()


@each("size", SIZES)
def test_no_pixel_leaves_the_range_of_the_pixels_that_bicubic_looks_at(size):
    alpha = soft(2, 1, 19, 14)
    found = enlarge_alpha(alpha, *size)
    low, high = neighbourhood(alpha, *size)
    assert (found >= low).all()
    assert (found <= high).all()


@each("size", SIZES)
@each(("level", "expected"), [(-0.05, 0), (1.05, 1)])
def test_values_that_are_a_little_out_of_range_are_clamped(level, expected, size):
    found = enlarge_alpha(torch.full((1, 1, 19, 14), level), *size)
    assert (found == expected).all()


@each("factor", FACTORS)
@each("draw", [draw_disc, draw_strokes])
def test_shapes_come_nearer_to_the_truth_than_bicubic(draw, factor):
    truth = truth_of(draw, factor)
    size = truth.shape[2:]
    small = averaged(truth, SIDE, SIDE)
    assert error(enlarge_alpha(small, *size), truth) < 0.5 * error(bicubic(small, *size), truth)


@each(("factor", "widest"), [(2, 0.85), (3, 0.7), (4, 0.65)])
def test_edges_of_a_disc_are_steep(factor, widest):
    """Bicubic: 1.1 to 1.2 pixels. The truth: 0.3 to 0.6, by the larger picture's own pixels."""
    truth = truth_of(draw_disc, factor)
    found = enlarge_alpha(averaged(truth, SIDE, SIDE), *truth.shape[2:])
    assert edge_width(truth, factor) < edge_width(found, factor) < widest


def test_a_hard_step_is_spread_over_less_than_half_a_pixel():
    step = torch.zeros(1, 1, 8, 16)
    step[..., 8:] = 1
    line = enlarge_alpha(step, 8, 64)[0, 0, 4]
    assert ((line > 0.1) & (line < 0.9)).sum() < 2
    assert (line.diff() >= 0).all()


@each("factor", FACTORS)
def test_edges_that_are_soft_in_truth_do_not_get_steeper(factor):
    """A steep edge in place of a soft one would be as wrong as the reverse."""
    truth = truth_of(draw_disc, factor)
    near = torch.exp(-((torch.arange(-40, 41) / factor / 1.5) ** 2) / 2)
    line = (near / near.sum()).view(1, 1, 1, -1)
    padded = F.pad(truth, (40,) * 4, mode="replicate")
    truth = F.conv2d(F.conv2d(padded, line), line.mT)
    found = enlarge_alpha(averaged(truth, SIDE, SIDE), *truth.shape[2:])
    assert edge_width(found, factor) == pytest.approx(edge_width(truth, factor), rel=0.03)
    assert error(found, truth) < 1e-3


@each("factor", FACTORS)
@each("pixels", [10, 32, 100])
def test_a_linear_ramp_stays_one_away_from_the_borders(pixels, factor):
    width = round(pixels * factor)
    ramp = ((torch.arange(pixels) + 0.5) / pixels).expand(1, 1, 10, pixels)
    expected = (torch.arange(width) + 0.5) / width
    inner = slice(math.ceil(4 * factor), -math.ceil(4 * factor))
    found = enlarge_alpha(ramp, round(10 * factor), width)[..., inner]
    torch.testing.assert_close(found, expected[inner].expand_as(found), atol=1e-2, rtol=0)


@each("factor", [1.25, *FACTORS])
@pytest.mark.parametrize("kind", ["noise", "soft", "disc"])
def test_shrunk_again_it_is_nearer_to_the_source_than_bicubic(kind, factor):
    noise = soft(2, 1, SIDE, SIDE)
    small = {
        "noise": noise,
        "soft": bicubic(noise[..., :9, :9], SIDE, SIDE),
        "disc": averaged(truth_of(draw_disc, 3), SIDE, SIDE),
    }[kind]
    size = (round(SIDE * factor),) * 2
    found, plain = (f(small, *size) for f in (enlarge_alpha, bicubic))
    again, plain_again = (averaged(image, SIDE, SIDE) for image in (found, plain))
    assert error(again, small) < 0.5 * error(plain_again, small)


def test_sides_of_different_factors_do_not_disturb_each_other():
    """A picture that varies along one side only does so at any size of the other."""
    line = soft(1, 1, 1, 20)
    expected = enlarge_alpha(line, 1, 70)
    for height in (5, 13, 40):
        found = enlarge_alpha(line.expand(1, 1, 13, 20), height, 70)
        torch.testing.assert_close(found, expected.expand_as(found), atol=1e-4, rtol=0)


@each("size", [(5, 4), (10, 9), (19, 4), (5, 1), (1, 5), (1, 1)])
def test_shrinking_is_antialiased_bicubic(size):
    alpha = soft(2, 1, 19, 14)
    torch.testing.assert_close(enlarge_alpha(alpha, *size), bicubic(alpha, *size))


@each("size", SIZES)
def test_turning_the_picture_turns_the_result(size):
    alpha = soft(1, 1, 19, 14)
    found = enlarge_alpha(alpha, *size)
    close = {"atol": 1e-4, "rtol": 0}
    torch.testing.assert_close(enlarge_alpha(alpha.flip(2), *size), found.flip(2), **close)
    torch.testing.assert_close(enlarge_alpha(alpha.flip(3), *size), found.flip(3), **close)
    torch.testing.assert_close(enlarge_alpha(alpha.mT, *size[::-1]), found.mT, **close)


@each("size", [(1, 1), (4, 7), (64, 64)])
def test_a_single_pixel_fills_the_picture(size):
    found = enlarge_alpha(torch.full((1, 1, 1, 1), 0.7), *size)
    torch.testing.assert_close(found, torch.full((1, 1, *size), 0.7), atol=0, rtol=0)


def test_the_same_size_returns_alpha_unchanged():
    alpha = soft(2, 1, 19, 14) * 1.1
    copy = alpha.clone()
    assert enlarge_alpha(alpha, 19, 14) is alpha
    assert torch.equal(alpha, copy)


@each("size", SIZES)
def test_pictures_of_a_batch_do_not_mix_and_the_source_is_left_alone(size):
    alpha = soft(3, 1, 19, 14)
    copy = alpha.clone()
    found = enlarge_alpha(alpha, *size)
    assert found.shape == (3, 1, *size)
    for picture, alone in zip(found, alpha, strict=True):
        torch.testing.assert_close(enlarge_alpha(alone[None], *size)[0], picture)
    assert torch.equal(alpha, copy)


@each("size", [(19, 14), (38, 28), (7, 5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_result_is_float32(dtype, size):
    alpha = soft(1, 1, 19, 14).to(dtype)
    found = enlarge_alpha(alpha, *size)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, enlarge_alpha(alpha.float(), *size))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_result_is_on_the_device_of_the_source():
    alpha = soft(1, 1, 19, 14)
    found = enlarge_alpha(alpha.cuda(), 38, 28)
    assert found.is_cuda
    assert torch.equal(found.cpu(), enlarge_alpha(alpha, 38, 28))


@each("shape", [(8, 1), (1, 1, 8), (1, 3, 8, 8), (0, 1, 8, 8), (1, 1, 0, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"alpha has the shape .* is expected"):
        enlarge_alpha(torch.zeros(shape), 16, 16)


@each("size", [(0, 16), (16, 0), (-1, 16)])
def test_sizes_below_one_pixel_are_refused(size):
    with pytest.raises(InputError, match="sides of at least 1"):
        enlarge_alpha(soft(1, 1, 8, 8), *size)


MEASURE = """
import torch
from varsr_core.images import alpha

def kilobytes(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

torch.set_num_threads(1)
alpha.ROUNDS = 2  # what is kept in memory is the same in each
side = 4096
source = torch.zeros(1, 1, side // 4, side // 4)
alpha.enlarge_alpha(source[..., :8, :8], 32, 32)
before = kilobytes("VmRSS")
alpha.enlarge_alpha(source, side, side)
print((kilobytes("VmHWM") - before) * 1024 / (4 * side * side))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_it_takes_at_most_six_copies_of_the_output():
    command = [sys.executable, "-c", MEASURE]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1 < float(result.stdout) < 6
