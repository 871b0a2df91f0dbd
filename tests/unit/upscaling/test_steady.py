"""Frames of a film that agree in time: what is still flickers less, what changes does not."""

from dataclasses import dataclass, field, replace

import pytest
import torch

from helpers import models
from helpers.upscaling import at_once
from varsr_core.errors import InputError
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.tiling.steady import Clip
from varsr_core.upscaling import UpscaleSettings, upscale, upscale_each
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

STEADY = UpscaleSettings(steady=1.0, color_fix="none")
PLAIN = replace(STEADY, steady=0.0)
SIDE, SCALE = 40, 2.0  # more than one tile


@dataclass(frozen=True)
class SpyRestorer(VARSRRestorer):
    """Notes how many tiles it starts at once."""

    started: list = field(default_factory=list)

    def start(self, lq, seeds):
        self.started.append(len(lq))
        return super().start(lq, seeds)


@pytest.fixture(scope="module")
def restorer():
    return SpyRestorer(models.micro_model(), SampleSettings(), RefineSettings(steps=2))


def film(frames, seed=0, sigma=6 / 255):
    """A still film with noise of its own in every frame."""
    coarse = models.picture(10, 10, seed=seed)
    scene = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0.1, 0.9)
    generator = torch.Generator().manual_seed(seed)
    return (scene + sigma * torch.randn(frames, *scene.shape[1:], generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("mode", TILING_MODES)
def test_what_is_still_flickers_less(restorer, mode):
    frames, tiling = film(6), Tiling(mode)
    plain = upscale(frames, SCALE, restorer, settings=replace(PLAIN, tiling=tiling))
    steady = upscale(frames, SCALE, restorer, settings=replace(STEADY, tiling=tiling))
    assert torch.equal(steady[0], plain[0])
    assert steady[2:].std(dim=0).mean() < 0.7 * plain[2:].std(dim=0).mean()


def test_frames_without_noise_stay_what_they_are(restorer):
    frames = film(1).repeat(3, 1, 1, 1)
    steady = upscale(frames, SCALE, restorer, settings=STEADY)
    assert torch.equal(steady[0], upscale(frames[:1], SCALE, restorer, settings=PLAIN)[0])
    torch.testing.assert_close(steady[1:], steady[:1].expand(2, -1, -1, -1), atol=1e-4, rtol=0)


def test_a_cut_has_the_bits_of_a_film_that_starts_there(restorer):
    one, other = film(3, seed=1), film(3, seed=2)
    found = upscale(torch.cat((one, other)), SCALE, restorer, settings=STEADY)
    assert torch.equal(found[3:], upscale(other, SCALE, restorer, settings=STEADY))
    assert torch.equal(found[:3], upscale(one, SCALE, restorer, settings=STEADY))


def test_a_film_that_comes_in_parts_has_the_bits_of_the_whole(restorer):
    frames, clip = film(5), Clip()
    parts = [
        upscale(part, SCALE, restorer, settings=STEADY, clip=clip)
        for part in frames.split((1, 3, 1))
    ]
    assert torch.equal(torch.cat(parts), upscale(frames, SCALE, restorer, settings=STEADY))


def test_a_clip_is_not_looked_at_where_frames_are_by_themselves(restorer):
    frames, clip = film(2), Clip()
    found = upscale(frames, SCALE, restorer, settings=PLAIN, clip=clip)
    assert torch.equal(found, upscale(frames, SCALE, restorer, settings=PLAIN))
    assert vars(clip) == vars(Clip())


def test_pictures_of_several_sizes_are_no_film(restorer):
    frames = list(film(2))
    (one, other) = upscale_each(frames, SCALE, restorer, settings=STEADY)
    expected = upscale(torch.stack(frames), SCALE, restorer, settings=PLAIN)
    assert torch.equal(torch.stack((one, other)), expected)


def test_frames_run_one_by_one_and_the_tiles_of_each_together(restorer):
    restorer.started.clear()
    settings = replace(STEADY, tiling=Tiling("independent"))
    upscale(film(3), SCALE, restorer, settings=settings, execution=at_once(100))
    tiles = restorer.started[0]
    assert restorer.started == [tiles] * 3
    assert tiles > 1


def test_what_a_mask_leaves_out_of_one_frame_is_restored_in_the_next(restorer):
    masks = torch.ones(2, 1, SIDE, SIDE)
    masks[0, :, :, : SIDE // 2 + 8] = 0
    masked = upscale(film(2), SCALE, restorer, settings=STEADY, mask=masks)
    whole = upscale(film(2), SCALE, restorer, settings=STEADY)
    away = (masked - whole).abs().mean(dim=(1, 2))
    assert away[1, :8].mean() < 0.75 * away[0, :8].mean()


def test_strengths_beyond_1_are_refused():
    with pytest.raises(InputError, match=r"steady is 1\.5"):
        UpscaleSettings(steady=1.5)
