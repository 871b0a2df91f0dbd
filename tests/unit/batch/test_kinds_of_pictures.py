"""Pictures of kinds that once went wrong, through the command."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from helpers import batch_files as files
from helpers.tiff_files import save_pages, save_tiff

VALUES = files.pixels(48, 64, seed=3)
DEEP = VALUES.astype(np.uint16) * 257
ALPHA = np.zeros((48, 64, 1), np.uint8)
ALPHA[8:40, 12:50] = 255
FLOAT = (VALUES / 255).astype(np.float32)
RATED = '<x:xmpmeta><rdf:Description xmp:Rating="5"/></x:xmpmeta>'


def with_hidden(path, colors):
    """A palette whose entry 0 is transparent, and has these colours."""
    image = Image.fromarray(np.where(ALPHA > 0, VALUES, 90)).quantize(63)
    indices = np.where(ALPHA[..., 0] > 0, np.array(image) + 1, 0).astype(np.uint8)
    made = Image.fromarray(indices)
    made.putpalette(list(colors) + image.getpalette()[: 63 * 3])
    made.save(path, transparency=0)


@pytest.fixture(scope="module")
def results(tmp_path_factory, micro_file):
    """done: results by stem, (H, W, C) in [0, 1]; said: errors; folder: of the results."""
    place = tmp_path_factory.mktemp("kinds")
    given, out = place / "in", place / "out"
    given.mkdir()
    save_tiff(given / "tiles.tif", DEEP, tile=(32, 32))
    save_tiff(given / "grey_tiles.tif", DEEP[..., :1].copy(), tile=(32, 32), deflate=True)
    selection = np.concatenate((DEEP, np.zeros_like(DEEP[..., :1])), axis=2)
    save_tiff(given / "selection.tif", selection, extra=(0,))
    save_tiff(given / "bigtiff.tif", DEEP, big=True)
    grey_alpha = np.concatenate((DEEP[..., :1], np.full_like(DEEP[..., :1], 65535)), axis=2)
    save_tiff(given / "grey_alpha.tif", grey_alpha, extra=(2,))
    save_tiff(given / "float.tif", FLOAT, tags={339: [3, 3, 3]})
    save_pages(given / "thumbnail.tif", (VALUES, {}), (VALUES[::8, ::8].copy(), {254: [1]}))
    with_hidden(given / "green.png", (0, 255, 0))
    with_hidden(given / "natural.png", VALUES[8, 12])
    files.save(given / "grey.png", VALUES[..., :1])
    files.save(given / "scan.tif", VALUES, dpi=(300, 300))
    said = PngInfo()
    said.add_text("workflow", '{"nodes": []}')
    said.add_itxt("XML:com.adobe.xmp", RATED)
    files.save(given / "comfy.png", VALUES, pnginfo=said)
    code = files.command(given, out, "--model", micro_file, *files.QUICK, "--scale", "1")
    assert code == 1  # of what is refused
    done = {}
    for path in out.glob("*.*"):
        if path.name.startswith("."):
            continue
        with Image.open(path) as image:
            done[path.stem] = np.array(image) / 255
    return SimpleNamespace(done=done, folder=out, given=given)


@pytest.mark.parametrize("name", ["tiles", "selection", "bigtiff", "thumbnail"])
def test_colours_are_those_of_the_input(results, name):
    found = results.done[name]
    assert found.shape == (48, 64, 3)
    np.testing.assert_allclose(found.mean((0, 1)), VALUES.mean((0, 1)) / 255, atol=0.02)


def test_all_of_them_but_the_one_of_floats_have_results(results):
    assert set(results.done) == {path.stem for path in results.given.iterdir()} - {"float"}


@pytest.mark.parametrize("name", ["grey", "grey_tiles", "grey_alpha"])
def test_grey_is_grey(results, name):
    found = results.done[name]
    assert np.ptp(found[..., :3], axis=2).max() == 0
    assert abs(found[..., 0].mean() - VALUES[..., 0].mean() / 255) < 0.02


def test_hidden_green_is_nowhere_to_be_seen(results):
    green, natural = results.done["green"], results.done["natural"]
    np.testing.assert_array_equal(green[..., 3], ALPHA[..., 0] / 255)
    seen = ALPHA[..., 0] > 0
    assert np.abs(green - natural)[seen].max() <= 3 / 255


def test_what_was_said_is_said(results):
    with Image.open(results.folder / "scan.tif") as image:
        assert image.info["dpi"] == (300, 300)
    with Image.open(results.folder / "comfy.png") as image:
        assert image.text == {"workflow": '{"nodes": []}', "XML:com.adobe.xmp": RATED}
