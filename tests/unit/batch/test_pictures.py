"""What is read from pictures of every kind, and what is written."""

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from helpers import batch_files as files
from varsr_core.batch.output_format import OutputFormat
from varsr_core.batch.pictures.reading import DecodedPicture, read_mask, read_picture
from varsr_core.batch.pictures.writing import check_writable, write_picture
from varsr_core.errors import InputError
from varsr_core.images.output_size import OutputSize

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ORIENTATION, MAKER, EXIF_WIDTH = 0x0112, 0x010F, 0xA002


def exif(orientation=1):
    made = Image.Exif()
    made[ORIENTATION], made[MAKER] = orientation, "A maker"
    made.get_ifd(0x8769)[EXIF_WIDTH] = 77
    return made


def decoded16(path):
    """(H, W, C) of a file of 16 bits, by FFmpeg."""
    codec = "png" if path.suffix == ".png" else "tiff"
    (frame,) = av.CodecContext.create(codec, "r").decode(av.Packet(path.read_bytes()))
    channels = len(frame.format.components)
    return frame.to_ndarray(format={3: "rgb48le", 4: "rgba64le"}[channels])


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_eight_bits_are_read_exactly(tmp_path, suffix, channels):
    values = files.pixels(channels=channels)
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    path = files.save(tmp_path / f"a.{suffix}", values, **options)
    found = read_picture(path).pixels
    if suffix == "webp" and channels == 1:
        values = np.repeat(values, 3, axis=2)
    wanted = values.astype(np.float32) / 255
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].movedim(0, -1).numpy(), wanted, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(found[0, :3].movedim(0, -1).numpy(), wanted[..., :3])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_of_a_png_are_read_exactly(tmp_path, channels):
    values = np.random.default_rng(channels).integers(0, 65536, (9, 7, channels), np.uint16)
    picture = read_picture(files.save_png16(tmp_path / "deep.png", values))
    assert picture.deep
    found = (picture.pixels[0].movedim(0, -1).double() * 65535).round().numpy()
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_sixteen_bits_of_a_tiff_are_read_exactly(tmp_path, compression):
    values = np.random.default_rng(0).integers(0, 65536, (9, 7), np.uint16)
    path = files.save(tmp_path / "deep.tif", values, compression=compression)
    picture = read_picture(path)
    assert picture.deep
    found = (picture.pixels[0, 0].double() * 65535).round().numpy()
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("depth", ["8", "16"])
def test_what_is_written_is_what_is_read(tmp_path, suffix, channels, depth):
    highest, kind = (255, np.uint8) if depth == "8" else (65535, np.uint16)
    values = np.random.default_rng(channels).integers(0, highest + 1, (33, 21, channels), kind)
    path = tmp_path / f"a{suffix}"
    # A quarter above the number, which both rounding and cutting off take away.
    pixels = torch.from_numpy((values.clip(0, highest - 1) + 0.25) / highest).movedim(-1, 0)
    write_picture(pixels.float(), DecodedPicture(pixels), path, suffix, OutputFormat(depth=depth))
    picture = read_picture(path)
    assert picture.deep == (depth == "16")
    found = (picture.pixels[0].movedim(0, -1).double() * highest).round().numpy()
    np.testing.assert_array_equal(found, values.clip(0, highest - 1))
    other = decoded16(path) if depth == "16" else files.read(path)
    np.testing.assert_array_equal(other, values.clip(0, highest - 1))


def test_eight_bits_are_cut_off_as_comfyui_does(tmp_path):
    values = torch.linspace(0, 1, 999).expand(3, 2, -1)
    write_picture(values, DecodedPicture(values), tmp_path / "a.png", ".png", OutputFormat())
    wanted = np.clip(255.0 * values.numpy(), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(files.read(tmp_path / "a.png"), wanted.transpose(1, 2, 0))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(tmp_path, orientation):
    path = files.save(tmp_path / "a.png", files.pixels(5, 8), exif=exif(orientation))
    picture = read_picture(path)
    with Image.open(path) as image:
        wanted = np.array(ImageOps.exif_transpose(image))
    found = (picture.pixels[0].movedim(0, -1) * 255).round().byte().numpy()
    np.testing.assert_array_equal(found, wanted)
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[MAKER] == "A maker"
    assert ORIENTATION not in kept
    assert EXIF_WIDTH not in kept.get_ifd(0x8769)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_sixteen_bits_too(tmp_path, orientation):
    values = files.pixels(5, 8)
    source = DecodedPicture(torch.zeros(1), exif=exif(orientation).tobytes())
    deep = torch.from_numpy(values).movedim(-1, 0) / 255
    write_picture(deep, source, tmp_path / "a.png", ".png", OutputFormat(depth="16"))
    shallow = files.save(tmp_path / "b.png", values, exif=exif(orientation))
    found = read_picture(tmp_path / "a.png")
    assert found.deep
    torch.testing.assert_close(found.pixels, read_picture(shallow).pixels, rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("depth", ["8", "16"])
def test_profile_and_maker_are_kept(tmp_path, suffix, depth):
    source = read_picture(
        files.save(tmp_path / "in.png", files.pixels(), icc_profile=PROFILE, exif=exif(3))
    )
    path = tmp_path / f"out{suffix}"
    write_picture(source.pixels[0], source, path, suffix, OutputFormat(depth=depth))
    with Image.open(path) as image:
        assert image.info["icc_profile"] == PROFILE
        assert image.getexif()[MAKER] == "A maker"
        assert image.getexif().get(ORIENTATION, 1) == 1
    assert read_picture(path).icc == PROFILE


def test_profile_of_a_grey_picture_is_not_given_to_colours(tmp_path):
    grey = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    path = files.save(tmp_path / "a.png", files.pixels(channels=1), icc_profile=grey)
    assert read_picture(path).icc == b""


def test_palette_with_transparency_is_read_with_it(tmp_path):
    image = Image.fromarray(files.pixels()).quantize(8)
    image.save(tmp_path / "a.png", transparency=0)
    assert read_picture(tmp_path / "a.png").pixels.shape[1] == 4


def test_mask_is_how_bright_a_picture_is(tmp_path):
    path = files.save(tmp_path / "a.png", np.full((4, 6, 3), 255, np.uint8))
    assert torch.equal(read_mask(path), torch.ones(1, 1, 4, 6))


def make_zero(path):
    path.write_bytes(b"")


def make_text(path):
    path.write_text("Not a picture.")


def make_truncated(path):
    whole = files.save(path, files.pixels(40, 40)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def make_truncated_deep(path):
    values = np.random.default_rng(0).integers(0, 65536, (40, 40, 3), np.uint16)
    whole = files.save_png16(path, values).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def make_two_pages(path):
    one = Image.fromarray(files.pixels())
    one.save(path, format="TIFF", save_all=True, append_images=[one])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_zero, "0 bytes"),
        (make_text, "begins with b'Not a picture.'"),
        (make_truncated, "truncated"),
        (make_truncated_deep, "truncated"),
        (files.save_bomb, "decompression bomb"),
        (make_two_pages, "holds 2 pictures"),
    ],
)
def test_broken_files_are_told_plainly(tmp_path, make, said):
    make(tmp_path / "a.png")
    with pytest.raises(InputError, match=said):
        read_picture(tmp_path / "a.png")


def test_truncated_jpeg_is_told(tmp_path):
    path = files.save(tmp_path / "a.jpg", files.pixels(200, 200))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="truncated"):
        read_picture(path)


def test_output_that_is_too_large_is_told_before_the_picture_is_decoded(tmp_path):
    path = files.save(tmp_path / "a.png", files.pixels(40, 40))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="the limit is"):
        read_picture(path, OutputSize("scale", 1000.0))


def test_jpeg_refuses_transparency_and_webp_large_sides():
    with pytest.raises(InputError, match="transparency"):
        check_writable(OutputFormat(), ".jpg", 4, (10, 10))
    with pytest.raises(InputError, match="16383"):
        check_writable(OutputFormat(), ".webp", 3, (10, 16384))
    check_writable(OutputFormat(), ".webp", 4, (10, 16383))


def test_lossless_webp_keeps_every_number(tmp_path):
    values = files.pixels(channels=4)
    pixels = ((torch.from_numpy(values) + 0.25) / 255).clamp(max=1).movedim(-1, 0)
    write_picture(
        pixels, DecodedPicture(pixels), tmp_path / "a.webp", ".webp", OutputFormat(quality=100)
    )
    np.testing.assert_array_equal(files.read(tmp_path / "a.webp"), values)


@pytest.mark.parametrize(
    "choices",
    [{"picture": "gif"}, {"depth": "12"}, {"quality": 0}, {"crf": 52},
     {"picture": "jpeg", "depth": "16"}],
)  # fmt: skip
def test_format_refuses_what_it_cannot_do(choices):
    with pytest.raises(InputError):
        OutputFormat(**choices)
