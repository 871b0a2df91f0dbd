"""The embedded model's teacher, read from ncnn's files, and the pairs that it makes."""

import csv
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tools.nano import teacher_set
from tools.nano.teacher import BORDER, SCALE, Teacher, read_ncnn
from tools.nano.teacher_set import KEPT_ASIDE, MOST, pieces_of

WIDTH, GROWTH = 4, 2
RESIDUAL = 23 * 3 * 5  # convolutions of the blocks


def small_weights(seed=0, residual=0.0):
    """Of the teacher's layout, narrow; `residual` is the size of what the blocks add."""
    generator = torch.Generator().manual_seed(seed)
    dense = [(WIDTH + GROWTH * layer, GROWTH) for layer in range(4)] + [(WIDTH + GROWTH * 4, WIDTH)]
    shapes = [(3, WIDTH), *dense * (23 * 3), *[(WIDTH, WIDTH)] * 4, (WIDTH, 3)]
    sizes = [0.2, *[residual] * RESIDUAL, *[0.2] * 5]
    return [
        (
            size * torch.randn(wide, narrow, 3, 3, generator=generator),
            torch.full((wide,), 0.1 * size),
        )
        for size, (narrow, wide) in zip(sizes, shapes, strict=True)
    ]


def write_ncnn(path, weights, halves):
    """Every other convolution in half precision, where `halves` says so."""
    lines, raw = ["7767517", "2 2", "Input data 0 1 data"], b""
    for number, (weight, bias) in enumerate(weights):
        sizes = f"0={len(weight)} 1=3 6={weight.numel()}"
        lines.append(f"Convolution c{number} 1 1 {number} {number + 1} {sizes}")
        half = halves and number % 2
        values = weight.numpy().astype(np.float16 if half else np.float32).tobytes()
        raw += struct.pack("<I", 0x01306B47 if half else 0) + values + b"\0" * (-len(values) % 4)
        raw += bias.numpy().tobytes()
    path.with_suffix(".param").write_text("\n".join(lines) + "\nReLU r 1 1 9 10 0=0.2\n")
    path.with_suffix(".bin").write_bytes(raw)


@pytest.mark.parametrize("halves", [False, True])
def test_ncnn_files_are_read_as_they_were_written(tmp_path, halves):
    weights = small_weights(residual=0.1)
    write_ncnn(tmp_path / "m", weights, halves)
    found = list(read_ncnn(tmp_path / "m"))
    assert len(found) == len(weights)
    for number, (wanted, given) in enumerate(zip(weights, found, strict=True)):
        close = {"rtol": 1e-3, "atol": 1e-4} if halves and number % 2 else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(given[0], wanted[0], **close)
        assert torch.equal(given[1], wanted[1])


def test_file_with_bytes_left_over_is_refused(tmp_path):
    write_ncnn(tmp_path / "m", small_weights(), False)
    path = tmp_path / "m.bin"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match="bytes, of which"):
        list(read_ncnn(tmp_path / "m"))


def test_teacher_without_residuals_is_a_chain_of_convolutions():
    weights = small_weights()
    small = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(1))
    x = F.pad(small, [BORDER] * 4, mode="reflect")
    first, *ends = [weights[0], *weights[RESIDUAL + 1 :]]

    def convolved(x, layer):
        return F.conv2d(x, layer[0], layer[1], padding=1)

    x = convolved(x, first)
    x = x + convolved(x * 1.2**23, ends[0])  # each block adds a fifth of what it ends with
    for layer in ends[1:3]:
        x = F.leaky_relu(convolved(x.repeat_interleave(2, 2).repeat_interleave(2, 3), layer), 0.2)
    x = convolved(F.leaky_relu(convolved(x, ends[3]), 0.2), ends[4]).clamp(0, 1)
    cut = BORDER * SCALE
    wanted = x[:, :, cut:-cut, cut:-cut]
    assert wanted.std() > 0.01
    torch.testing.assert_close(Teacher(weights)(small), wanted, rtol=0, atol=1e-3)


def test_blocks_change_the_picture():
    small = torch.rand(1, 3, 12, 14)
    plain, moved = (Teacher(small_weights(residual=size))(small) for size in (0.0, 0.3))
    assert (plain - moved).abs().max() > 1e-3


@pytest.fixture
def crops(tmp_path):
    """Two pictures to learn from, two kept aside, five crops of each."""
    folder = tmp_path / "crops"
    folder.mkdir()
    names = ["a.jpg", "b.jpg", *sorted(KEPT_ASIDE)[:2]]
    random = np.random.default_rng(0)
    with (folder / "manifest.tsv").open("w") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(("file", "picture", "source", "licence"))
        for number in range(5 * len(names)):
            name = f"{number:04}.jpg"
            pixels = random.integers(0, 255, (80, 80, 3), np.uint8)
            Image.fromarray(pixels).resize((320, 320)).save(folder / name)
            table.writerow((name, names[number % len(names)], "here", "CC0"))
    return folder


def rows_of(crops):
    with (crops / "manifest.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_nothing_of_a_picture_kept_aside_is_learned_from(crops):
    rows = rows_of(crops)
    pieces = pieces_of(rows, crops, passes=3)
    pictures = {row["file"]: row["picture"] for row in rows}
    for split, kept in (("choose", True), ("train", False)):
        chosen = [piece for piece in pieces if piece.split == split]
        assert chosen
        assert all((pictures[piece.crop.name] in KEPT_ASIDE) == kept for piece in chosen)
    assert sum(piece.split == "choose" for piece in pieces) == 2 * MOST
    assert sum(piece.split == "train" for piece in pieces) == 3 * 10
    assert len({(piece.split, piece.name) for piece in pieces}) == len(pieces)


def test_set_is_made_once_and_goes_on_where_it_stopped(crops, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_set, "load_teacher", lambda: Teacher(small_weights(residual=0.05)))
    out = tmp_path / "out"
    pieces = pieces_of(rows_of(crops), crops, passes=1)[4:9]
    teacher_set.work(pieces, out, worker=0)
    files = sorted(path.relative_to(out) for path in out.rglob("*.png"))
    assert len(files) == 4 * len(pieces)
    for path in files:
        side = 320 if path.parts[0] == "choose" else 256
        wanted = side // SCALE if path.parts[1] == "low" else side
        assert Image.open(out / path).size == (wanted, wanted)
    before = {path: (out / path).read_bytes() for path in files}
    (out / files[-1]).unlink()
    monkeypatch.setattr(teacher_set, "degrade", counted := Counted(teacher_set.degrade))
    teacher_set.work(pieces, out, worker=0)
    assert counted.calls == 1, "only what was missing"
    assert {path: (out / path).read_bytes() for path in files} == before
    assert not list(out.rglob("*.part"))


def test_targets_have_the_photographs_shapes_and_the_teachers_detail():
    generator = torch.Generator().manual_seed(0)
    high, taught = torch.rand(2, 1, 3, 64, 64, generator=generator).mul(0.5).add(0.25)
    taught = taught * 0.8 + 0.1  # paler
    target = teacher_set.corrected(taught, high)

    def coarse(picture):
        return F.avg_pool2d(picture, 32)

    def fine(picture):
        return picture - F.interpolate(F.avg_pool2d(picture, 4), scale_factor=4)

    assert (coarse(taught) - coarse(high)).abs().mean() > 3 * (
        (coarse(target) - coarse(high)).abs().mean()
    )
    assert (fine(target) - fine(taught)).abs().mean() < 0.1 * fine(taught).abs().mean()


def test_licences_say_the_split(crops, tmp_path):
    teacher_set.write_licences(rows_of(crops), tmp_path / "out")
    with Path(tmp_path / "out/licences.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["split"] == "choose" for row in rows] == [
        row["picture"] in KEPT_ASIDE for row in rows
    ]
    assert {row["licence"] for row in rows} == {"CC0"}


class Counted:
    def __init__(self, original):
        self.original, self.calls = original, 0

    def __call__(self, *given):
        self.calls += 1
        return self.original(*given)
