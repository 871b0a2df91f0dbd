"""tools/metrics/folders.py: which picture belongs to which."""

from pathlib import Path

import pytest
from PIL import Image

from helpers import batch_files as files
from tools.metrics.folders import matched, opened, pictures, size_of
from varsr_core.errors import InputError

WHERE = Path("folder")


@pytest.mark.parametrize(
    ("names", "others", "expected"),
    [
        (["a", "in/b"], ["in/b", "a", "c"], {"a": "a", "in/b": "in/b"}),
        (["0801", "0802"], ["0801x4", "0802x4"], {"0801": "0801x4", "0802": "0802x4"}),
        (["0801x4", "0802x4"], ["0801", "0802"], {"0801x4": "0801", "0802x4": "0802"}),
        (["a", "b"], ["a", "b_out"], {"a": "a", "b": "b_out"}),
        (["cat", "catx"], ["cat_out", "catx_out"], {"cat": "cat_out", "catx": "catx_out"}),
        (["a1", "a10"], ["a1_x", "a10_x", "a100_x"], {"a1": "a1_x", "a10": "a10_x"}),
    ],
)
def test_partners_have_the_same_stem_or_one_ending(names, others, expected):
    assert matched(names, others, WHERE) == expected


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (["a", "b"], ["a_x", "b_y"]),  # two endings
        (["a", "b"], ["a"]),
        (["a_x", "a"], ["a"]),  # both would have one partner
        (["a"], ["in/a"]),
    ],
)
def test_names_without_a_partner_are_refused(names, others):
    with pytest.raises(InputError, match=r"there is no .* in folder, which holds"):
        matched(names, others, WHERE)


def test_many_missing_names_are_counted():
    with pytest.raises(InputError, match="there is no 0, 1, 2 and 7 more in"):
        matched(list(map(str, range(10))), ["a"], WHERE)


def test_pictures_are_found_below_a_folder_and_nothing_else(tmp_path):
    for name in ("a.PNG", "in/b.jpg", ".hidden.png"):
        files.save(tmp_path / name, files.pixels(8, 6))
    (tmp_path / "notes.txt").write_text("no picture")
    assert list(pictures(tmp_path)) == ["a", "in/b"]
    with pytest.raises(InputError, match="holds no pictures"):
        pictures(files.save(tmp_path / "empty/.b.png", files.pixels(8, 6)).parent)


def test_a_picture_is_measured_upright(tmp_path):
    image, exif = Image.new("RGB", (8, 6)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert size_of(tmp_path / "a.jpg") == (6, 8)
    assert opened(tmp_path / "a.jpg").mode == "RGB"
