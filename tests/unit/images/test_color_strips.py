"""Colours are matched strip by strip: the same result, in little memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.paths import ROOT
from varsr_core.images import color_fix
from varsr_core.images.cielab import to_lightness
from varsr_core.images.color_fix import COLOR_MODES, HALO, match_colors, measure, strips

WIDTH = 61
STATUS = Path("/proc/self/status")
MEMORY_LIMIT = 256 * 2**20
# In float32 CIELAB keeps a dark channel beside a bright one to 1e-5, as its round trip does.
TOLERANCE = {"adain": 1e-6, "wavelet": 1e-6, "lab": 1e-5, "none": 0}
# Inputs that take no memory; what is left is the result and what the work takes.
PEAK = """
import sys, torch
from pathlib import Path
from varsr_core.images.color_fix import match_colors

def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

torch.set_num_threads(1)
mode, height, width = sys.argv[1], 2048, 8192
image = torch.rand(1, 3, 1, width).expand(-1, -1, height, -1)
reference = torch.rand(1, 3, height, 1).expand(-1, -1, -1, width)
match_colors(image[..., :64, :64], reference[..., :64, :64], mode)
before = status("VmRSS")
result = match_colors(image, reference, mode)
print(status("VmHWM") - before - result.nbytes)
"""


def rows_of(height, width=WIDTH):
    return [range(height)[strip.rows] for strip in strips(height, width)]


@each("pixels", [1, 3 * WIDTH, 16 * WIDTH + 5])
@each("height", [96, 51, HALO - 10, 1])
@pytest.mark.parametrize("mode", COLOR_MODES)
def test_strips_give_the_picture_that_the_whole_gives(mode, height, pixels, monkeypatch):
    image = models.picture(height, WIDTH, images=2, seed=1)
    reference = models.picture(height, WIDTH, images=2, seed=2)
    whole = match_colors(image, reference, mode)
    assert len(rows_of(height)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(color_fix, "STRIP_PIXELS", pixels)
        assert len(rows_of(height)) > 1 or height <= max(1, pixels // WIDTH)
        found = match_colors(image, reference, mode)
    torch.testing.assert_close(found, whole, atol=TOLERANCE[mode], rtol=0)


@pytest.mark.parametrize("mode", COLOR_MODES)
def test_strips_of_many_pictures_follow_one_reference(mode, monkeypatch):
    image, reference = models.picture(51, WIDTH, images=3), models.picture(51, WIDTH, seed=2)
    expected = [match_colors(one, reference, mode) for one in image.split(1)]
    monkeypatch.setattr(color_fix, "STRIP_PIXELS", 7 * WIDTH)
    found = match_colors(image, reference, mode)
    torch.testing.assert_close(found, torch.cat(expected), atol=TOLERANCE[mode], rtol=0)


@each(("height", "pixels"), [(1, 1), (50, 7 * WIDTH), (51, 17 * WIDTH + 60)])
def test_strips_hold_each_row_once_and_no_more_than_allowed(height, pixels, monkeypatch):
    monkeypatch.setattr(color_fix, "STRIP_PIXELS", pixels)
    found = rows_of(height)
    assert [row for rows in found for row in rows] == list(range(height))
    assert all(len(rows) == pixels // WIDTH for rows in found[:-1])
    assert len(found[-1]) <= max(1, pixels // WIDTH)


def test_strips_reach_a_halo_further_but_not_out_of_the_picture(monkeypatch):
    monkeypatch.setattr(color_fix, "STRIP_PIXELS", 10 * WIDTH)
    for strip in strips(95, WIDTH):
        around = range(95)[strip.around]
        assert around[strip.inner] == range(95)[strip.rows]
        assert around.start == max(0, strip.rows.start - 31)
        assert around.stop == min(95, strip.rows.stop + 31)


def test_small_pictures_are_one_strip():
    assert rows_of(1024, 1024) == [range(1024)]


@each("slope", [0.0, 0.5])
@pytest.mark.parametrize("mode", ["adain", "lab"])
def test_moments_of_strips_keep_the_digits_of_a_small_variance(mode, slope, monkeypatch):
    ramp = torch.linspace(0, slope, 203)[:, None]
    picture = 0.45 + ramp + 0.01 * models.picture(203, WIDTH, seed=4)
    monkeypatch.setattr(color_fix, "STRIP_PIXELS", 7 * WIDTH)
    found = measure(picture, mode)
    values = (to_lightness(picture) / 100 if mode == "lab" else picture).double().numpy()
    deviation = np.sqrt(values.var((2, 3), ddof=1) + 1e-5)
    np.testing.assert_allclose(found.mean[..., 0, 0], values.mean((2, 3)), rtol=1e-7)
    np.testing.assert_allclose(found.deviation[..., 0, 0], deviation, rtol=1e-6)


def test_picture_of_one_pixel_has_moments():
    found = match_colors(torch.full((1, 3, 1, 1), 0.25), torch.full((1, 3, 1, 1), 0.75), "adain")
    torch.testing.assert_close(found, torch.full((1, 3, 1, 1), 0.75))


@pytest.mark.skipif(not STATUS.exists(), reason="peak memory is read from Linux' /proc")
@pytest.mark.parametrize("mode", ["adain", "wavelet", "lab"])
def test_large_pictures_take_memory_for_strips_only(mode):
    command = [sys.executable, "-c", PEAK, mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MEMORY_LIMIT
