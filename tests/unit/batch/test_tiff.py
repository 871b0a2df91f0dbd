"""TIFF files are read with all their bits, or refused for the reason that is true."""

import numpy as np
import pytest
from PIL import Image

from helpers import batch_files as files
from helpers.each import each
from helpers.tiff_files import save_pages, save_tiff
from varsr_core.batch.pictures.reading import UPRIGHT_ARRAY, read_picture, read_size
from varsr_core.errors import InputError

REDUCED = {254: [1]}
LAYOUTS = [
    {}, {"rows": 7}, {"tile": (16, 16)}, {"tile": (16, 32)}, {"tile": (64, 48)},
    {"planar": True}, {"planar": True, "rows": 7}, {"planar": True, "tile": (32, 16)},
]  # fmt: skip


def deep(channels, seed=0, height=37, width=29):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 65536, (height, width, channels), np.uint16)


def read16(path):
    picture = read_picture(path)
    assert picture.deep
    return (picture.pixels[0].movedim(0, -1).double() * 65535).round().numpy()


@each("packed", [{}, {"deflate": True}, {"deflate": True, "predictor": True}])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_sixteen_bits_are_read_exactly_however_they_lie(tmp_path, packed, layout, order, big):
    for channels in (1, 3, 4):
        values = deep(channels)
        extra = (2,) if channels == 4 else ()
        path = tmp_path / "a.tif"
        save_tiff(path, values, **packed, **layout, order=order, big=big, extra=extra)
        np.testing.assert_array_equal(read16(path), values)


def test_eight_bits_of_tiles_and_of_bigtiff_are_read_exactly(tmp_path):
    values = files.pixels(37, 29)
    for layout in ({"tile": (16, 16)}, {"big": True}):
        found = read_picture(save_tiff(tmp_path / "a.tif", values, **layout)).pixels
        np.testing.assert_array_equal((found[0].movedim(0, -1) * 255).round().numpy(), values)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_pieces_that_another_program_packed_are_unpacked(tmp_path, compression):
    values = np.repeat(deep(1, height=60, width=40)[..., 0], 3, axis=1)
    options = {"compression": compression, "tiffinfo": {278: 7}}
    np.testing.assert_array_equal(
        read16(files.save(tmp_path / "a.tif", values, **options))[..., 0], values
    )


def test_a_fourth_sample_that_is_not_said_to_be_alpha_is_dropped_in_every_depth(tmp_path):
    for values in (deep(4), files.pixels(37, 29, channels=4)):
        found = read_picture(save_tiff(tmp_path / "a.tif", values, extra=(0,))).pixels
        top = np.iinfo(values.dtype).max
        np.testing.assert_array_equal(
            (found[0].movedim(0, -1).double() * top).round().numpy(), values[..., :3]
        )


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_premultiplied_colours_are_divided_by_their_alpha_in_every_depth(tmp_path, kind, channels):
    top = np.iinfo(kind).max
    alpha = np.linspace(0, top, 30).astype(kind)[None, :, None].repeat(4, axis=0)
    colors = (0.75 * alpha).astype(kind).repeat(channels - 1, axis=2)
    path = save_tiff(tmp_path / "a.tif", np.concatenate((colors, alpha), axis=2), extra=(1,))
    found = read_picture(path).pixels
    assert found.shape[1] == 4
    np.testing.assert_allclose(found[0, 3].numpy(), alpha[..., 0] / top, atol=1e-6)
    np.testing.assert_allclose(found[0, :3, :, 10:].numpy(), 0.75, atol=0.01)


def test_grey_with_alpha_of_sixteen_bits_is_read(tmp_path):
    for packed in ({}, {"deflate": True, "predictor": True}, {"tile": (16, 16)}):
        values = deep(2)
        path = save_tiff(tmp_path / "a.tif", values, extra=(2,), **packed)
        np.testing.assert_array_equal(read16(path), values[..., [0, 0, 0, 1]])
        assert read_size(path) == (37, 29)


def test_white_may_be_zero(tmp_path):
    values = deep(1)
    path = save_tiff(tmp_path / "a.tif", values, tags={262: [0]})
    np.testing.assert_array_equal(read16(path), 65535 - values.astype(int))


@each("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_orientation_is_applied_once(tmp_path, kind, orientation):
    values = deep(3).astype(kind)
    path = save_tiff(tmp_path / "a.tif", values, tile=(16, 16), tags={274: [orientation]})
    found = read_picture(path).pixels[0].movedim(0, -1).double() * np.iinfo(kind).max
    wanted = UPRIGHT_ARRAY.get(orientation, lambda upright: upright)(values)
    np.testing.assert_array_equal(found.round().numpy(), wanted)


@each("first", [False, True])
def test_a_reduced_copy_is_no_second_picture(tmp_path, first):
    page, copy = (files.pixels(48, 64), {}), (files.pixels(6, 8, seed=1), REDUCED)
    path = save_pages(tmp_path / "a.tif", *((copy, page) if first else (page, copy)))
    found = read_picture(path).pixels
    np.testing.assert_array_equal((found[0].movedim(0, -1) * 255).round().numpy(), page[0])
    assert read_size(path) == (48, 64)


@each("tags", [{}, {254: [2]}])
def test_two_pages_are_two_pictures(tmp_path, tags):
    path = save_pages(tmp_path / "a.tif", (files.pixels(), tags), (files.pixels(), tags))
    with pytest.raises(InputError, match="2 pictures"):
        read_picture(path)


def test_pages_that_lead_in_a_circle_end(tmp_path):
    path = save_pages(tmp_path / "a.tif", (files.pixels(), {}))
    whole = bytearray(path.read_bytes())
    start = int.from_bytes(whole[4:8], "little")
    following = start + 2 + 12 * whole[start]
    assert whole[following : following + 4] == bytes(4)
    whole[following : following + 4] = whole[4:8]
    path.write_bytes(whole)
    assert read_picture(path).pixels.shape == (1, 3, 12, 10)


def test_lab_of_eight_bits_has_its_colours_and_no_alpha(tmp_path):
    values = np.array([[[138, 81, 70], [136, 0, 0], [255, 0, 0]]], np.uint8)
    found = read_picture(save_tiff(tmp_path / "a.tif", values, tags={262: [8]})).pixels
    wanted = np.array([[255, 0, 0], [127, 127, 127], [255, 255, 255]]).T[:, None]
    assert found.shape == (1, 3, 1, 3)
    np.testing.assert_allclose((found[0] * 255).numpy(), wanted, atol=8)


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        (deep(3).astype(np.float32), {}, "floating"),
        (deep(1).astype(np.float16), {}, "floating"),
        (deep(1).astype(np.uint32), {}, "32 bits"),
        (deep(3), {"tags": {262: [8]}}, "CIELAB"),
        (deep(3), {"tags": {262: [6]}}, "YCbCr"),
        (deep(3), {"tags": {259: [50000]}, "tile": (16, 16)}, "50000"),
        (deep(3), {"tags": {339: [2, 2, 2]}}, "unsigned"),
        (deep(3), {"tags": {258: [16, 8, 8]}}, "16, 8, 8"),
        (deep(1), {"tags": {262: [2]}}, "1 channels"),
        (deep(3), {"deflate": True, "tags": {256: [2**20], 278: [37]}}, "damaged"),
        (files.pixels(channels=3), {"tags": {262: [9]}}, "this TIFF"),
    ],
)
def test_other_kinds_are_refused_for_the_reason_that_is_true(tmp_path, values, options, said):
    options = {"tags": {}, **options}
    if values.dtype.kind == "f":
        options["tags"] = {339: [3] * values.shape[2]}
    path = save_tiff(tmp_path / "a.tif", values, **options)
    with pytest.raises(InputError, match=said):
        read_picture(path)


@each("layout", LAYOUTS)
@pytest.mark.parametrize("deflate", [False, True])
def test_what_is_cut_off_or_spoilt_is_never_black(tmp_path, layout, deflate):
    whole = save_tiff(tmp_path / "a.tif", deep(3), deflate=deflate, **layout).read_bytes()
    start = int.from_bytes(whole[4:8], "little")
    # The tags first, then as much of the pixels as was copied.
    path = tmp_path / "cut.tif"
    path.write_bytes(whole[: start // 2] + whole[start:])
    with pytest.raises(InputError):
        read_picture(path)
    if deflate:
        path.write_bytes(whole[:8] + b"\xff" * (start - 8) + whole[start:])
        with pytest.raises(InputError):
            read_picture(path)


def test_pillow_reads_the_same_from_the_files_of_these_tests(tmp_path):
    """So that they are TIFFs, and not just what the reader takes them for."""
    for layout in LAYOUTS[:5]:
        values = deep(3)
        path = save_tiff(tmp_path / "a.tif", values, deflate=True, predictor=True, **layout)
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.array(image), values >> 8)
