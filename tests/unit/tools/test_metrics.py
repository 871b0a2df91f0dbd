"""tools/metrics: our own measures give the numbers of the packages and scripts they follow.

Recorded from iqa_torch 1.2.1 (NIQE, as it is and with Pillow's half size), piq
0.8.0 (SSIM) and the script that measured the model cards (GRID, noise left).
"""

import numpy as np
import pytest
from PIL import Image

from helpers.paths import DATA
from tools.metrics import artefacts, fidelity, niqe
from tools.metrics.case import Case, Unmeasurable, luma

MOSAIC = ("kitten", "osprey", "colosseum", "circuits")
BICUBIC = Image.Resampling.BICUBIC
FLIP = Image.Transpose.FLIP_LEFT_RIGHT


def mosaic():
    """Four photographs as one of 256x256 pixels."""
    whole = Image.new("RGB", (256, 256))
    for number, name in enumerate(MOSAIC):
        with Image.open(DATA / f"{name}.png") as image:
            whole.paste(image, (number % 2 * 128, number // 2 * 128))
    return whole


def large():
    return mosaic().resize((512, 512), BICUBIC)


def partly_flat():
    """With two blocks that have no detail at all, and one that is flat in part."""
    picture = large()
    picture.paste((90, 120, 200), (0, 0, 192, 96))
    return picture


@pytest.mark.parametrize(
    ("make", "pillow", "matlab"),
    [
        (mosaic, 2.718020253, 2.726181746),
        (large, 4.530769506, 4.531966209),
        (partly_flat, 4.453312232, 4.451704025),
    ],
)
def test_niqe_is_that_of_the_packages(make, pillow, matlab):
    assert niqe.niqe(Case(make())) == pytest.approx(pillow, abs=1e-3)
    assert niqe.niqe_matlab(Case(make())) == pytest.approx(matlab, abs=1e-3)


@pytest.mark.parametrize("size", [(95, 400), (191, 191), (96, 100)])
def test_niqe_says_when_there_are_not_two_blocks(size):
    with pytest.raises(Unmeasurable, match=f"{size[0]}x{size[1]} has not two"):
        niqe.niqe(Case(large().resize(size)))


def test_niqe_says_when_nothing_has_detail():
    with pytest.raises(Unmeasurable, match="with detail"):
        niqe.niqe(Case(Image.new("RGB", (300, 300), (10, 60, 90))))


@pytest.mark.parametrize(
    ("make", "expected"), [(mosaic, 1.08977799), (large, 1.739911244), (partly_flat, 1.852062062)]
)
def test_grid_is_that_of_the_model_cards(make, expected):
    assert artefacts.grid(Case(make())) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("width", "height"), [(512, 512), (250, 391)])
def test_grid_sees_a_lattice_of_eight_pixels_of_any_picture(width, height):
    plain = np.asarray(large().resize((width, height)), float)
    rows, columns = np.mgrid[:height, :width]

    def marked(period):
        lattice = 12.0 * ((rows % period == 0) | (columns % period == 0))
        return artefacts.grid(Case(picture_of(plain + lattice[..., None])))

    alone = artefacts.grid(Case(picture_of(plain)))
    assert marked(8) > alone + 5
    assert abs(marked(7) - alone) < 1.5


def picture_of(values):
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def test_grid_says_what_is_too_small():
    with pytest.raises(Unmeasurable, match="96 pixels"):
        artefacts.grid(Case(large().resize((200, 90))))


def test_the_noisy_grey_is_always_the_same():
    values = np.asarray(artefacts.noisy_grey())
    assert values.shape == (64, 64, 3)
    assert values[0, :6, 1].tolist() == [138, 130, 133, 141, 139, 122]
    assert values.sum() == 1564698
    assert (values == values[..., :1]).all()


def test_noise_left_is_the_deviation_inside_the_result():
    grey = artefacts.noisy_grey()
    assert artefacts.noise_left(grey.resize((256, 256), BICUBIC)) == pytest.approx(4.811253169)
    inside = np.asarray(grey, float)[8:-8, 8:-8, 0].std()
    nearest = grey.resize((128, 128), Image.Resampling.NEAREST)
    assert artefacts.noise_left(nearest) == pytest.approx(inside)


@pytest.mark.parametrize(
    ("make", "other", "psnr", "ssim"),
    [
        (mosaic, lambda: mosaic().transpose(FLIP), 14.149764337, 0.0997536598),
        (large, lambda: large().transpose(FLIP), 14.280593011, 0.2103956035),
        (partly_flat, lambda: mosaic().resize((512, 512)), 26.338411059, 0.9610590385),
    ],
)
def test_psnr_and_ssim_are_those_of_the_packages(make, other, psnr, ssim):
    case = Case(make(), other())
    assert fidelity.psnr_y(case) == pytest.approx(psnr, abs=1e-6)
    assert fidelity.ssim_y(case) == pytest.approx(ssim, abs=1e-6)


def test_the_border_is_left_out_and_can_be_chosen():
    picture, spoilt = large(), large()
    spoilt.paste((0, 0, 0), (0, 0, 512, 3))
    exact = 10 * np.log10(255**2 / 1e-10)
    assert fidelity.psnr_y(Case(spoilt, picture)) == pytest.approx(exact)
    assert fidelity.ssim_y(Case(spoilt, picture)) == pytest.approx(1)
    difference = float((luma(spoilt) - luma(picture)).square().mean())
    whole = fidelity.psnr_y(Case(spoilt, picture, border=0))
    assert whole == pytest.approx(10 * np.log10(255**2 / difference))
    assert fidelity.psnr_y(Case(spoilt, picture, border=2)) < 50


def test_a_border_that_leaves_nothing_is_said():
    picture = mosaic().resize((40, 8))
    with pytest.raises(Unmeasurable, match="leaves nothing of 40x8"):
        fidelity.psnr_y(Case(picture, picture))
    with pytest.raises(Unmeasurable, match="SSIM looks at 11 pixels"):
        fidelity.ssim_y(Case(picture, picture, border=0))
