"""The one kernel, against itself written out in float64."""

import torch
import torch.nn.functional as F

from helpers import models
from helpers.each import each
from helpers.kernels import cubic_weights
from varsr_core.images.resize import bicubic

ONE_COLUMN = [
    ((48, 64), (48, 1)),
    ((48, 64), (100, 1)),
    ((48, 64), (7, 1)),
    ((48, 64), (1, 1)),
    ((1, 64), (30, 1)),
    ((48, 1), (100, 1)),
    ((48, 1), (13, 1)),
    ((48, 2), (9, 1)),
    ((1, 1), (5, 1)),
]
OTHERS = [
    ((48, 64), (1, 64)),
    ((48, 64), (1, 2)),
    ((48, 64), (20, 2)),
    ((48, 64), (96, 128)),
    ((48, 64), (13, 101)),
    ((48, 1), (96, 3)),
    ((1, 64), (1, 200)),
    ((1, 1), (9, 9)),
]


def written_out(image, height, width):
    rows, columns = cubic_weights(image.shape[2], height), cubic_weights(image.shape[3], width)
    return rows @ image.double() @ columns.T


@each(("before", "after"), ONE_COLUMN + OTHERS)
def test_resampling_is_the_kernel_written_out(before, after):
    image = models.picture(*before, images=2)
    found = bicubic(image, *after)
    assert found.shape == (2, 3, *after)
    assert found.dtype == torch.float32
    assert (found - written_out(image, *after)).abs().max() < 2e-6


@each(("before", "after"), OTHERS)
def test_all_but_single_columns_are_resized_as_torch_does(before, after):
    image = models.picture(*before)
    expected = F.interpolate(image, after, mode="bicubic", align_corners=False, antialias=True)
    assert torch.equal(bicubic(image, *after), expected)


@each(("before", "after"), [((48, 64), (30, 1)), ((1, 64), (30, 1))])
def test_a_column_is_a_row_turned(before, after):
    image = models.picture(*before)
    turned = bicubic(image.transpose(2, 3), after[1], after[0]).transpose(2, 3)
    torch.testing.assert_close(bicubic(image, *after), turned, atol=1e-6, rtol=0)


def test_overshoot_is_kept():
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    found = bicubic(edge, 16, 16)
    assert found.min() < -0.01
    assert found.max() > 1.01


@each("width", [1, 5])
def test_picture_is_left_alone(width):
    image = models.picture(9, 7)
    before = image.clone()
    bicubic(image, 4, width)
    assert torch.equal(image, before)
