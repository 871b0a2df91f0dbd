"""What a file says beside its pixels goes with the result, as far as it is true of it."""

import struct

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from helpers import batch_files as files
from helpers.each import each
from helpers.tiff_files import save_tiff
from varsr_core.batch.output_format import OutputFormat
from varsr_core.batch.pictures.reading import read_picture
from varsr_core.batch.pictures.writing import write_picture

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:Rating="5"'
    b' tiff:Orientation="6" exif:PixelXDimension="10"><tiff:ImageWidth>10</tiff:ImageWidth>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)
TRUE_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmp:Rating="5">'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x50\x00\x05Alice"
TAKEN, TAKEN_AT = 0x9003, "2020:01:01 00:00:00"
DESCRIPTION, ORIENTATION = 270, 274
DEPTHS = {".png": ("8", "16"), ".tif": ("8", "16"), ".jpg": ("8",), ".webp": ("8",)}


def marker(number, content):
    return b"\xff" + bytes([number]) + struct.pack(">H", 2 + len(content)) + content


def photograph(path, **more):
    """A JPEG as cameras and those who rate pictures leave it."""
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
    extra = marker(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    extra += marker(0xED, b"Photoshop 3.0\0" + resource)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[TAKEN] = TAKEN_AT
    options = {"dpi": (300, 300), "comment": b"hello", "extra": extra, "exif": exif, **more}
    return files.save(path, files.pixels(), **options)


def restored(source, suffix, depth="8"):
    """The file of a result."""
    picture = read_picture(source)
    path = source.with_name(f"result{suffix}")
    write_picture(picture.pixels[0], picture, path, suffix, OutputFormat(depth=depth))
    return path


def every_result(source):
    for suffix, depths in DEPTHS.items():
        for depth in depths:
            yield restored(source, suffix, depth)


def dpi_of(path):
    """As Pillow reads it; that of WebP is in its EXIF."""
    with Image.open(path) as image:
        exif = image.getexif()
        return image.info.get("dpi") or (exif[282], exif[283])


def xmp_of(path):
    with Image.open(path) as image:
        image.load()
        found = image.info.get("xmp", b"")
    return found.encode() if isinstance(found, str) else found


@pytest.mark.parametrize("suffix", DEPTHS)
def test_dpi_stays_what_it_was(tmp_path, suffix):
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 300.0, 150.0, 2
    options = {"exif": exif} if suffix == ".webp" else {"dpi": (300, 150)}
    source = files.save(tmp_path / f"in{suffix}", files.pixels(), **options)
    for path in every_result(source):
        np.testing.assert_allclose(np.array(dpi_of(path), float), (300, 150), atol=0.02)


def test_dpi_of_a_turned_picture_is_turned_and_centimetres_are_counted_in_inches(tmp_path):
    tags = {282: [40], 283: [80], 296: [3], ORIENTATION: [6]}
    path = tmp_path / "a.tif"
    # Of these two ways to read a TIFF each has its own eyes for the tags.
    for values in (files.pixels(), files.pixels().astype(np.uint16)):
        found = read_picture(save_tiff(path, values, tags=tags)).dpi
        np.testing.assert_allclose(found, (80 * 2.54, 40 * 2.54))


@each("unit", [1, 7])
def test_a_resolution_without_a_unit_is_none(tmp_path, unit):
    tags = {282: [3], 283: [3], 296: [unit]}
    path = save_tiff(tmp_path / "a.tif", files.pixels(), tags=tags)
    assert read_picture(path).dpi is None
    for result in every_result(path):
        assert read_picture(result).dpi in (None, (72, 72))  # a JPEG with EXIF counts as 72


def test_xmp_is_kept_in_every_format_without_what_is_no_longer_true(tmp_path):
    for path in every_result(photograph(tmp_path / "in.jpg")):
        assert xmp_of(path) == TRUE_XMP
        # And from each of them into each.
        for again in every_result(path.rename(tmp_path / f"again{path.suffix}")):
            assert xmp_of(again) == TRUE_XMP


def test_iptc_is_kept_where_there_is_a_place_for_it(tmp_path):
    source = photograph(tmp_path / "in.jpg")
    for suffix in (".jpg", ".tif"):
        path = restored(source, suffix)
        assert read_picture(path).iptc == IPTC
        assert read_picture(restored(path.rename(tmp_path / f"b{suffix}"), ".jpg")).iptc == IPTC
    with Image.open(restored(source, ".jpg")) as image:
        assert image.info["photoshop"] == {0x0404: IPTC}


def test_iptc_that_a_tiff_holds_as_numbers_is_the_same_bytes(tmp_path):
    content = IPTC + bytes(-len(IPTC) % 4)
    for order in "<>":
        numbers = struct.unpack(f"{order}{len(content) // 4}I", content)
        path = save_tiff(tmp_path / "a.tif", files.pixels(), order=order, tags={33723: numbers})
        assert read_picture(path).iptc == content


def test_the_day_a_photograph_was_taken_is_kept_in_every_format(tmp_path):
    for path in every_result(photograph(tmp_path / "in.jpg")):
        with Image.open(path) as image:
            assert image.getexif().get_ifd(0x8769)[TAKEN] == TAKEN_AT


def test_texts_of_exif_keep_their_bytes(tmp_path):
    exif = Image.Exif()
    exif[315] = "Käthe".encode()
    for path in every_result(files.save(tmp_path / "in.jpg", files.pixels(), exif=exif)):
        with Image.open(path) as image:
            assert image.getexif()[315].encode("latin-1").decode() == "Käthe"


def test_comment_is_kept_in_every_format(tmp_path):
    source = photograph(tmp_path / "in.jpg", comment="grüß".encode())
    with Image.open(restored(source, ".jpg")) as image:
        assert image.info["comment"].decode() == "grüß"
    for depth in DEPTHS[".png"]:
        with Image.open(restored(source, ".png", depth)) as image:
            assert image.text["Comment"] == "grüß"
    for suffix in (".tif", ".webp"):
        with Image.open(restored(source, suffix)) as image:
            assert image.getexif()[DESCRIPTION].encode("latin-1").decode() == "grüß"


def test_texts_of_a_png_are_kept_chunk_by_chunk(tmp_path):
    said = PngInfo()
    said.add_text("workflow", '{"nodes": []}')
    said.add_text("prompt", '{"1": {}}', zip=True)
    said.add_itxt("parameters", "eine Käsekatze", "de", "x")
    said.add_text("twice", "one")
    said.add_text("twice", "two")
    said.add_text("after", "the pixels")
    source = files.save(tmp_path / "in.png", files.pixels(), pnginfo=said)
    wanted = read_picture(source).texts
    assert [kind for kind, _ in wanted] == [b"tEXt", b"zTXt", b"iTXt", b"tEXt", b"tEXt", b"tEXt"]
    for depth in ("8", "16"):
        path = restored(source, ".png", depth)
        assert read_picture(path).texts == wanted
        with Image.open(path) as image:
            assert image.text["prompt"] == '{"1": {}}'
            assert image.text["parameters"] == "eine Käsekatze"


def test_an_orientation_that_was_applied_is_in_no_text_either(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    said = PngInfo()
    said.add_text("Raw profile type exif", "\nexif\n8\n" + exif.tobytes().hex())
    said.add_itxt("XML:com.adobe.xmp", XMP.decode())
    source = files.save(tmp_path / "in.png", files.pixels(), pnginfo=said)
    for depth in ("8", "16"):
        path = restored(source, ".png", depth)
        with Image.open(path) as image:
            assert image.getexif().get(ORIENTATION, 1) == 1
            assert set(image.text) == {"XML:com.adobe.xmp"}
        assert xmp_of(path) == TRUE_XMP


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ('{"shape": [12, 10, 3]}', False),
        ('{"axes": "YXS", "shape": [12, 10, 3]}', False),
        ("shape=(12, 10, 3)", False),
        ("ImageJ=1.53t\nimages=3\nchannels=3\n", False),
        ('<?xml version="1.0"?><OME><Pixels SizeX="10"/></OME>', False),
        ("The shape of a leaf", True),
        ('{"title": "a leaf"}', True),
    ],
)
def test_a_description_of_the_samples_goes_and_any_other_stays(tmp_path, text, stays):
    source = files.save(tmp_path / "in.tif", files.pixels(), tiffinfo={DESCRIPTION: text})
    for path in every_result(source):
        with Image.open(path) as image:
            assert image.getexif().get(DESCRIPTION) == (text if stays else None)


def test_what_is_too_long_for_a_jpeg_is_left_out_of_it(tmp_path):
    said = PngInfo()
    said.add_itxt("XML:com.adobe.xmp", TRUE_XMP.decode() + " " * 70_000)
    exif = Image.Exif()
    exif[DESCRIPTION] = "long" * 20_000
    source = files.save(tmp_path / "in.png", files.pixels(), pnginfo=said, exif=exif)
    assert read_picture(restored(source, ".jpg")).pixels.shape == (1, 3, 12, 10)
    assert xmp_of(restored(source, ".webp")).rstrip() == TRUE_XMP


def test_what_a_jpeg_has_no_room_for_is_told(tmp_path, micro_file, capsys):
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", "<x>" + 70_000 * "a" + "</x>")
    texts.add_text("Comment", 70_000 * "b")
    files.save(tmp_path / "in/long.png", files.pixels(), pnginfo=texts)
    files.save(tmp_path / "in/short.png", files.pixels())
    for form, told in (("jpeg", ["comment", "XMP"]), ("png", [])):
        options = ("--model", micro_file, *files.QUICK, "--json", "--format", form)
        assert files.command(tmp_path / "in", tmp_path / form, *options) == 0
        events = files.events(capsys.readouterr().out, "file")
        notes = {event["source"].rsplit("/", 1)[1]: event["notes"] for event in events}
        assert notes["short.png"] == []
        assert [note.split()[0] for note in notes["long.png"]] == told


def test_results_of_pictures_that_say_nothing_say_nothing(tmp_path):
    for path in every_result(files.save(tmp_path / "in.png", files.pixels())):
        found = read_picture(path)
        assert (found.icc, found.exif, found.xmp, found.iptc, found.comment) == (b"",) * 4 + ("",)
        assert found.dpi is None
        assert found.texts == ()
