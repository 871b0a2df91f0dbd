import math

import models
import numpy as np
import pytest
import torch
from PIL import Image

from varsr_core.canvas import MAX_OUTPUT_PIXELS, check_image, output_size, resize, split_image
from varsr_core.errors import InputError

TILE, OVERLAP, ALIGN = 64, 16, 16


def split(image, scale=1.0):
    return split_image(image, scale, TILE, overlap=OVERLAP, align=ALIGN)


def blank(*shape):
    return torch.full(shape, 0.5)


RESIZES = [
    ((64, 48), (128, 96)),
    ((64, 48), (230, 101)),
    ((97, 64), (41, 23)),
    ((40, 40), (40, 90)),
    ((40, 90), (120, 30)),
]


def pillow_resize(channel, height, width):
    image = Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image)


@pytest.mark.parametrize(("before", "after"), RESIZES)
def test_resize_equals_bicubic_of_pillow_in_floating_point(before, after):
    image = models.picture(*before)
    expected = [np.clip(pillow_resize(channel, *after), 0, 1) for channel in image[0].numpy()]
    np.testing.assert_allclose(resize(image, *after)[0], expected, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), RESIZES)
def test_resize_equals_bicubic_of_pillow_in_8_bits_but_for_rounding(before, after):
    levels = (models.picture(*before)[0] * 255).round()
    pixels = levels.to(torch.uint8).numpy()
    expected = np.stack([pillow_resize(channel, *after) for channel in pixels]).astype(int)
    found = (resize(levels[None] / 255, *after)[0] * 255).round().int().numpy()
    assert np.abs(found - expected).max() <= 1


def test_resize_to_the_same_size_returns_the_picture():
    image = models.picture(33, 47)
    torch.testing.assert_close(resize(image, 33, 47), image, atol=1e-6, rtol=0)


def test_resize_does_not_overshoot_the_range():
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 1
    found = resize(edge, 64, 64)
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize(
    "size",
    [(64, 64), (64, 65), (128, 96), (100, 100), (63, 200), (257, 129), (8, 8), (20, 150), (500, 9)],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_joining_split_tiles_gives_the_picture_back(size, channels):
    image = models.picture(*size, channels=channels, images=2)
    tiles, canvas = split(image)
    assert tiles.shape[1:] == (3, TILE, TILE)
    expected = image.expand(-1, 3, -1, -1) if channels == 1 else image
    torch.testing.assert_close(canvas.join(tiles), expected, atol=1e-6, rtol=0)


def test_picture_smaller_than_a_tile_is_reflected_never_stretched():
    image = models.picture(40, 50)
    tiles, _ = split(image)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 24), (0, 14)), mode="reflect")
    np.testing.assert_allclose(tiles, expected, atol=1e-6)


def test_picture_much_smaller_than_a_tile_is_reflected_again_and_again():
    image = models.picture(8, 9)
    tiles, _ = split(image)
    expected = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 56), (0, 55)), mode="reflect")
    np.testing.assert_allclose(tiles, expected, atol=1e-6)


def test_picture_larger_than_a_tile_is_padded_to_whole_tokens():
    _, canvas = split(models.picture(100, 70))
    assert (canvas.grid.height, canvas.grid.width) == (112, 80)
    assert (canvas.height, canvas.width) == (100, 70)


def test_output_has_the_size_of_the_input_times_the_scale():
    image = models.picture(30, 41)
    tiles, canvas = split(image, 2.5)
    assert canvas.join(tiles).shape == (1, 3, 75, 102)


def test_alpha_is_enlarged_apart_and_joined_again():
    image = models.picture(30, 40, channels=4)
    tiles, canvas = split(image, 3.0)
    joined = canvas.join(torch.zeros_like(tiles))
    assert joined.shape == (1, 4, 90, 120)
    torch.testing.assert_close(joined[:, 3:], resize(image, 90, 120)[:, 3:])
    assert (joined[:, :3] == 0).all()


def test_tiles_of_a_batch_lie_picture_by_picture():
    image = models.picture(64, 128, images=3)
    tiles, canvas = split(image)
    per_picture = len(canvas.grid)
    assert len(tiles) == 3 * per_picture
    for index in range(3):
        alone, _ = split(image[index : index + 1])
        assert torch.equal(tiles[index * per_picture : (index + 1) * per_picture], alone)


BAD_PICTURES = {
    "two channels": (blank(1, 2, 64, 64), "2 channels", "convert it to RGB"),
    "five channels": (blank(1, 5, 64, 64), "5 channels", "convert it to RGB"),
    "no channels": (blank(1, 0, 64, 64), "0 channels", "convert it to RGB"),
    "no pictures": (blank(0, 3, 64, 64), "0 picture", "at least one"),
    "no rows": (blank(1, 3, 0, 64), "64x0", "Crop or pad"),
    "no columns": (blank(1, 3, 64, 0), "0x64", "Crop or pad"),
    "one pixel": (blank(1, 3, 1, 1), "1x1", "Crop or pad"),
    "one row": (blank(1, 3, 1, 4000), "4000x1", "8 pixels or more"),
    "one column": (blank(1, 3, 4000, 1), "1x4000", "8 pixels or more"),
    "a side of 7": (blank(1, 3, 7, 64), "64x7", "Crop or pad"),
    "NaN": (blank(1, 3, 16, 16).index_fill(3, torch.tensor([3]), torch.nan), "NaN", "float32"),
    "one NaN": (
        blank(1, 3, 16, 16).index_put((torch.tensor(0),) * 4, torch.tensor(torch.nan)),
        "NaN",
        "mend it",
    ),
    "infinite": (
        blank(1, 3, 16, 16).index_fill(3, torch.tensor([3]), torch.inf),
        "infinite",
        "mend",
    ),
    "minus infinite": (
        blank(1, 3, 16, 16).index_fill(3, torch.tensor([3]), -torch.inf),
        "infinite",
        "mend it",
    ),
    "0 to 255": (blank(1, 3, 16, 16) * 510, "from 255 to 255", "Rescale"),
    "-1 to 1": (models.picture(16, 16) * 2 - 1, "values from -", "Rescale"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_what_is_no_picture_is_refused_with_input_and_remedy(case):
    image, found, remedy = BAD_PICTURES[case]
    with pytest.raises(InputError) as refused:
        check_image(image, "photo")
    message = str(refused.value)
    assert "photo" in message
    assert found in message
    assert remedy in message


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_splitting_refuses_what_is_no_picture(case):
    with pytest.raises(InputError, match="image"):
        split(BAD_PICTURES[case][0])


@pytest.mark.parametrize(
    "image",
    [
        blank(1, 1, 8, 8),
        blank(2, 4, 8, 4000),
        torch.linspace(-0.09, 1.09, 192).view(1, 3, 8, 8),  # what resampling may leave
        torch.zeros(1, 3, 8, 8),
    ],
)
def test_unusual_pictures_are_accepted(image):
    check_image(image)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((30, 41), 2.5, (75, 102)), ((8, 8), 0.25, (2, 2)), ((9, 9), 1.0, (9, 9))],
)
def test_output_size_is_rounded(size, scale, expected):
    assert output_size(*size, scale) == expected


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_scale_that_is_not_above_0_is_refused(scale):
    with pytest.raises(InputError, match=r"scale is .*finite number above 0"):
        output_size(64, 64, scale)


def test_output_at_the_limit_is_accepted_and_beyond_it_refused():
    assert math.prod(output_size(4096, 4096, 4.0)) == MAX_OUTPUT_PIXELS
    with pytest.raises(InputError, match=r"scale 4 gives 16384x16388 .* Use a smaller scale"):
        output_size(4097, 4096, 4.0)


def test_scale_that_leaves_no_pixels_is_refused():
    with pytest.raises(InputError, match=r"scale 0\.01 leaves 1x0 pixels. Use a larger scale"):
        output_size(8, 100, 0.01)
