import numpy as np
import pytest
import torch
from PIL import Image

from helpers import models
from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.images.alpha import enlarge_alpha
from varsr_core.images.check import check_pixels
from varsr_core.images.output_size import OutputSize
from varsr_core.images.resize import resize
from varsr_core.images.seen import seen_colors
from varsr_core.tiling.canvas import Canvas
from varsr_core.tiling.consistency import TILING_MODES, Tiling

TILE, ALIGN = 64, 16
TILING = Tiling()


def canvas_of(image, scale=1.0, tiling=TILING, size=None):
    return Canvas.of(image, size or OutputSize("scale", scale), TILE, ALIGN, tiling)


def split(image, scale=1.0):
    canvas = canvas_of(image, scale)
    return canvas.grid.split(canvas.enlarge(image)), canvas


def joined(canvas, tiles):
    return canvas.with_alpha(canvas.crop(canvas.grid.merge(tiles)))


def blank(*shape):
    return torch.full(shape, 0.5)


RESIZES = [
    ((64, 48), (128, 96)),
    ((64, 48), (230, 101)),
    ((97, 64), (41, 23)),
    ((40, 40), (40, 90)),
    ((40, 90), (120, 30)),
    ((40, 90), (1, 2)),
    ((3, 1), (7, 9)),
    ((1, 1), (64, 50)),
]


def pillow_resize(channel, height, width):
    image = Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image)


@each(("before", "after"), RESIZES)
def test_resize_equals_bicubic_of_pillow_in_floating_point(before, after):
    image = models.picture(*before)
    expected = [np.clip(pillow_resize(channel, *after), 0, 1) for channel in image[0].numpy()]
    np.testing.assert_allclose(resize(image, *after)[0], expected, atol=1e-5)


@each(("before", "after"), RESIZES)
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


@each(
    "size",
    [
        (64, 64),
        (64, 65),
        (128, 96),
        (100, 100),
        (63, 200),
        (257, 129),
        (8, 8),
        (20, 150),
        (500, 9),
        (1, 1),
        (1, 200),
        (70, 1),
    ],
)
@each("channels", [1, 3, 4])
def test_joining_split_tiles_gives_the_picture_back(size, channels):
    image = models.picture(*size, channels=channels, images=2)
    tiles, canvas = split(image)
    assert tiles.shape[1:] == (3, TILE, TILE)
    expected = torch.cat((seen_colors(image).expand(-1, 3, -1, -1), image[:, 3:]), dim=1)
    torch.testing.assert_close(joined(canvas, tiles), expected, atol=1e-6, rtol=0)


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


@each("size", [(1, 1), (1, 30), (30, 1)])
def test_a_side_of_one_pixel_is_repeated(size):
    image = models.picture(*size)
    tiles, _ = split(image)
    width = [(0, 0), (0, 0), (0, TILE - size[0]), (0, TILE - size[1])]
    expected = np.pad(image.numpy(), width, mode="reflect")
    np.testing.assert_allclose(tiles, expected, atol=1e-6)


def test_picture_larger_than_a_tile_is_padded_to_whole_tokens():
    _, canvas = split(models.picture(100, 70))
    assert (canvas.grid.height, canvas.grid.width) == (112, 80)
    assert (canvas.height, canvas.width) == (100, 70)


@each(
    ("mode", "value", "expected"),
    [
        ("scale", 2.5, (75, 103)),
        ("longer side", 82, (60, 82)),
        ("shorter side", 100, (100, 137)),
        ("megapixels", 0.00492, (60, 82)),
    ],
)
def test_output_has_the_size_that_is_asked_for(mode, value, expected):
    canvas = canvas_of(models.picture(30, 41), size=OutputSize(mode, value))
    assert (canvas.height, canvas.width) == expected


@each(("overlap", "columns"), [(0.0, 2), (0.25, 3), (0.5, 3), (0.3, 4)])
def test_overlap_is_a_share_of_a_tile_in_whole_tokens(overlap, columns):
    """A share of 0.3 is 19 pixels of 64, hence two tokens."""
    width = 160 if overlap == 0.3 else 128
    canvas = canvas_of(models.picture(64, width), tiling=Tiling(overlap=overlap))
    assert len(canvas.grid.columns) == columns
    starts = canvas.grid.columns
    least = min(a + TILE - b for a, b in zip(starts, starts[1:], strict=False))
    assert least >= TILE * overlap


@pytest.mark.parametrize("mode", TILING_MODES)
def test_tiles_that_ran_apart_do_not_agree(mode):
    canvas = canvas_of(models.picture(64, 64), tiling=Tiling(mode))
    assert canvas.mode == mode
    assert canvas.blended == (mode != "independent")


def test_alpha_is_enlarged_by_its_own_rule_and_joined_again():
    image = models.picture(30, 40, channels=4, images=2)
    tiles, canvas = split(image, 3.0)
    whole = joined(canvas, torch.zeros_like(tiles))
    assert whole.shape == (2, 4, 90, 120)
    expected = enlarge_alpha(image[:, 3:], 90, 120)
    assert torch.equal(whole[:, 3:], expected)
    assert not torch.allclose(expected, resize(image, 90, 120)[:, 3:], atol=0.01)
    assert (whole[:, :3] == 0).all()


def test_pictures_of_a_batch_get_their_own_alpha():
    images = models.picture(30, 40, channels=4, images=3)
    rgb = torch.zeros(3, 3, 60, 80)
    whole = canvas_of(images, 2.0).with_alpha(rgb)
    for index in range(3):
        part = slice(index, index + 1)
        assert torch.equal(canvas_of(images[part], 2.0).with_alpha(rgb[part]), whole[part])
    assert not torch.equal(whole[0], whole[1])


def test_a_picture_without_alpha_gets_none():
    rgb = torch.zeros(1, 3, 60, 80)
    assert canvas_of(models.picture(30, 40), 2.0).with_alpha(rgb) is rgb


def test_tiles_of_a_batch_lie_picture_by_picture():
    image = models.picture(64, 128, images=3)
    tiles, canvas = split(image)
    per_picture = len(canvas.grid)
    assert len(tiles) == canvas.tiles == 3 * per_picture
    for index in range(3):
        alone, _ = split(image[index : index + 1])
        assert torch.equal(tiles[index * per_picture : (index + 1) * per_picture], alone)


BAD_PICTURES = {
    "two channels": (blank(1, 2, 64, 64), "2 channels", "convert it to RGB"),
    "five channels": (blank(1, 5, 64, 64), "5 channels", "convert it to RGB"),
    "no channels": (blank(1, 0, 64, 64), "0 channels", "convert it to RGB"),
    "no pictures": (blank(0, 3, 64, 64), "0 picture", "at least one"),
    "no rows": (blank(1, 3, 0, 64), "64x0", "at least one pixel"),
    "no columns": (blank(1, 3, 64, 0), "0x64", "Check the node before"),
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
        check_pixels(image, "photo")
    message = str(refused.value)
    assert "photo" in message
    assert found in message
    assert remedy in message


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_no_canvas_is_made_of_what_is_no_picture(case):
    with pytest.raises(InputError, match="image"):
        canvas_of(BAD_PICTURES[case][0])


@each(
    "image",
    [
        blank(1, 1, 1, 1),
        blank(2, 4, 1, 4000),
        torch.linspace(-0.09, 1.09, 192).view(1, 3, 8, 8),  # what resampling may leave
        torch.zeros(1, 3, 8, 8),
    ],
)
def test_unusual_pictures_are_accepted(image):
    check_pixels(image)


def test_an_output_that_is_too_large_is_refused():
    with pytest.raises(InputError, match=r"scale 10000 gives .*limit"):
        canvas_of(blank(1, 3, 8, 8), 10000)


def holding(grid, row, column):
    """Tiles of a picture that hold one pixel of the padded canvas."""
    return [
        index
        for index, (top, left) in enumerate(grid.positions)
        if 0 <= row - top < TILE and 0 <= column - left < TILE
    ]


@each("pixel", [(0, 0), (50, 50), (70, 60), (169, 79), (0, 79), (169, 0)])
def test_a_mask_touches_the_tiles_that_hold_it(pixel):
    canvas = canvas_of(models.picture(170, 80))
    mask = torch.zeros(1, 1, 170, 80)
    mask[(0, 0, *pixel)] = 1e-6
    expected = holding(canvas.grid, *pixel)
    assert 1 <= len(expected) < len(canvas.grid)
    assert canvas.touched(mask, 1) == expected


def test_every_picture_has_its_own_mask_or_all_have_one():
    canvas = canvas_of(models.picture(100, 80, images=3))
    masks = torch.zeros(3, 1, 100, 80)
    masks[0, 0, 0, 0] = masks[2, 0, 99, 79] = 1
    tiles = len(canvas.grid)
    assert canvas.touched(masks, 3) == [0, 3 * tiles - 1]
    assert canvas.touched(masks[:1], 3) == [0, tiles, 2 * tiles]


def test_a_mask_of_nothing_touches_nothing_and_no_mask_all():
    canvas = canvas_of(models.picture(100, 80, images=2))
    assert canvas.touched(torch.zeros(1, 1, 100, 80), 2) == []
    assert canvas.touched(None, 2) == list(range(canvas.tiles))
