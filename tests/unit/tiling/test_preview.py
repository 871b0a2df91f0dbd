"""The small picture that shows how far the work is, and at the end what has been made."""

import pytest
import torch
import torch.nn.functional as F

from helpers import models
from helpers.each import each
from helpers.told import finished_steps
from varsr_core.images.output_size import OutputSize
from varsr_core.images.resize import resize
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.canvas import Canvas
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.tiling.preview import DENSITY, KEPT, MAX_SIDE, Preview, preview_size
from varsr_core.tiling.sketch import fit_sketch
from varsr_core.upscaling import UpscaleSettings, upscale, upscale_each
from varsr_core.varsr import stages
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

CELL = 8  # pixels of the latents below
TILE = 32
FINAL = TILE // CELL
MIXED = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0))).Q
every_mode = pytest.mark.parametrize("mode", TILING_MODES)


def encode(pictures):
    """A linear code of the 4 x 4 colours of a cell, mixed: no more and no less than a sketch."""
    small = F.avg_pool2d(pictures, CELL // DENSITY)
    cells = F.pixel_unshuffle(small, DENSITY)
    return torch.einsum("nchw,cd->ndhw", cells, MIXED) * 3 - 1


def canvas(image, scale=1.0, mode="phased"):
    return Canvas.of(image, OutputSize("scale", scale), TILE, CELL, Tiling(mode))


def preview_of(images, scale=1.0, masks=None):
    """Of pictures (C, h, w), and the latents of all their tiles."""
    canvases = [canvas(image[None], scale) for image in images]
    codes = [
        c.grid.cells().split(encode(c.enlarge(i[None])))
        for c, i in zip(canvases, images, strict=True)
    ]
    return Preview(canvases, images, masks), torch.cat(codes)


def difference(a, b):
    """Mean, in levels of 255."""
    return 255 * (a - b).abs().mean().item()


def halved(picture):
    return F.avg_pool2d(picture[None], 2)[0]


# The map from latents to colours


def test_latents_of_a_picture_show_its_colours():
    picture = models.picture(256, 256)
    small, latents = F.avg_pool2d(picture, 2), encode(picture)
    assert difference(fit_sketch(latents, small)(latents), small) < 6
    plain = small.mean(dim=(2, 3), keepdim=True)
    assert difference(plain.expand_as(small), small) > 50


def test_what_latents_do_not_hold_is_not_shown():
    """Of a picture's mean, and of noise, nothing can be told but the mean colour."""
    picture = models.picture(256, 256)
    latents = encode(picture).mean(dim=(2, 3), keepdim=True).expand(-1, -1, 32, 32)
    noise = torch.randn(1, 32, 128, 128, generator=torch.Generator().manual_seed(1))
    for code in (latents, noise):
        small = F.interpolate(picture, 4 * code.shape[-1], mode="area")
        shown = fit_sketch(code, small)(code)
        mean = small.mean(dim=(2, 3), keepdim=True)
        assert difference(shown, mean.expand_as(shown)) < 8


@each("latents", [torch.zeros(1, 4, 4, 4), torch.full((2, 4, 4, 4), 1e30), torch.ones(1, 1, 1, 1)])
def test_latents_that_say_nothing_give_a_picture_all_the_same(latents):
    pictures = torch.rand(len(latents), 3, *(4 * side for side in latents.shape[2:]))
    shown = fit_sketch(latents, pictures)(latents)
    assert shown.shape == pictures.shape
    assert ((shown >= 0) & (shown <= 1)).all()


def test_drawing_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    preview, latents = preview_of(models.picture(56, 88))
    preview.note(range(len(latents)), latents)
    preview.last()
    assert torch.equal(torch.get_rng_state(), before)


# Where it is drawn


def test_tiles_are_drawn_where_they_lie():
    picture = models.picture(120, 168)[0]
    preview, latents = preview_of([picture], scale=1.0)
    preview.note(range(len(latents)), latents)
    found = preview.last()
    assert found.shape == (3, 120, 168)
    assert difference(halved(found), halved(picture)) < 12
    preview, latents = preview_of([picture])
    preview.note(range(len(latents)), latents.flip(0))
    assert difference(halved(preview.last()), halved(picture)) > 24


def test_the_picture_itself_is_shown_until_a_tile_is_drawn():
    pictures = models.picture(32, 56, images=2)
    preview, latents = preview_of(pictures)
    tiles = len(latents) // 2
    preview.note([tiles - 1], torch.zeros_like(latents))
    found = preview.drawn(tiles - 1)
    left = 8  # of half the size, before the last tile begins
    assert difference(halved(found)[..., :left], halved(pictures[0])[..., :left]) < 6
    assert found[..., -8:].std(dim=(1, 2)).max() < 0.01, "nothing is known of it but its mean"
    preview.note([tiles], latents)
    shown, picture = halved(preview.drawn(tiles)), halved(pictures[1])
    assert difference(shown[..., -left:], picture[..., -left:]) < 6


def test_padding_is_not_shown():
    picture = models.picture(20, 44)[0]
    preview, latents = preview_of([picture])
    preview.note(range(len(latents)), latents)
    assert preview.last().shape == (3, 20, 44)


def test_pictures_whose_tiles_run_in_turns_keep_what_was_drawn():
    pictures = [models.picture(32, 56, seed=n)[0] for n in range(3)]
    preview, latents = preview_of(pictures)
    preview.note([0, 1], latents)
    expected = preview.drawn(0)
    preview.note([2, 4], latents)
    preview.drawn(2)
    preview.drawn(4)
    assert torch.equal(preview.drawn(1), expected)


def test_previews_of_many_pictures_are_not_all_kept():
    preview, latents = preview_of(models.picture(32, 32, images=100))
    for number in range(100):
        preview.note([number], latents)
        preview.drawn(number)
    assert len(preview.begun) == KEPT


@each(
    ("size", "shown"),
    [
        ((32, 32), (32, 32)),
        ((128, 100), (128, 100)),
        ((512, 300), (512, 300)),
        ((1024, 512), (512, 256)),
        ((1032, 1032), (MAX_SIDE, MAX_SIDE)),
        ((8192, 80), (MAX_SIDE, 5)),
        ((1, 3000), (1, MAX_SIDE)),
    ],
)
def test_previews_are_no_larger_than_the_picture(size, shown):
    assert preview_size(*size) == shown
    image = torch.zeros(3, *size)
    preview = Preview([canvas(image[None])], [image])
    assert preview.drawn(0).shape == (3, *shown)


def test_what_is_shown_does_not_change_afterwards():
    preview, latents = preview_of(models.picture(32, 56))
    preview.note([0], latents)
    found = preview.drawn(0)
    kept = found.clone()
    preview.note([0, 1], latents.flip(0))
    preview.last()
    assert torch.equal(found, kept)


@each("channels", [1, 4])
def test_grey_pictures_are_grey_and_alpha_is_left_out(channels):
    picture = models.picture(56, 56, channels=channels)[0]
    preview, latents = preview_of([picture])
    preview.note(range(len(latents)), latents)
    found = preview.last()
    assert found.shape == (3, 56, 56)
    if channels == 1:
        assert (found - found[:1]).abs().max() < 1e-4


def test_outside_a_mask_the_picture_stays():
    picture, mask = models.picture(32, 32)[0], torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    preview, latents = preview_of([picture], masks=[mask])
    preview.note([0], torch.zeros_like(latents))
    found, plain = preview.drawn(0), Preview([canvas(picture[None])], [picture]).drawn(0)
    assert torch.equal(found[..., 18:], plain[..., 18:])
    assert found[..., :14].std(dim=(1, 2)).max() < 0.01


# While pictures are made


class Watched:
    """An Execution that wants pictures, and what it was told: progress, and previews by number."""

    def __init__(self, at_once=1, draws=lambda progress: True):
        self.told, self.shown, self.draws = [], [], draws
        prepare = lambda: at_once  # noqa: E731
        self.execution = Execution(prepare=prepare, pictures=True, on_progress=self.look)

    def look(self, progress):
        self.told.append(progress)
        if progress.draw is not None and self.draws(progress):
            self.shown.append(progress.draw())


def restorer():
    return VARSRRestorer(models.micro_model(), SampleSettings(top_k=20), RefineSettings(steps=2))


@every_mode
@pytest.mark.parametrize("kind", ["color", "alpha", "grey", "masked", "large"])
def test_the_last_preview_is_the_result(mode, kind):
    image = {
        "alpha": models.picture(30, 40, channels=4),
        "grey": models.picture(30, 40, channels=1),
    }
    image = image.get(kind, models.picture(30, 40))
    mask = torch.zeros(1, 1, 30, 40) if kind == "masked" else None
    if mask is not None:
        mask[..., 8:20, 2:25] = 1
    watched, scale = Watched(), 14.0 if kind == "large" and mode == "phased" else 2.0
    settings = UpscaleSettings(Tiling(mode))
    how = {"settings": settings, "mask": mask}
    found = upscale(image, scale, restorer(), execution=watched.execution, **how)
    assert watched.told[-1].draw is not None
    expected = resize(found[:, :3], *preview_size(*found.shape[2:]))[0]
    assert torch.equal(watched.shown[-1], expected)
    assert {shown.shape for shown in watched.shown} == {expected.shape}
    assert torch.equal(found, upscale(image, scale, restorer(), **how)), "with previews or without"


@each("at_once", [1, 2, 100])
def test_of_several_pictures_the_last_one_is_shown_last(at_once):
    images = models.picture(30, 32, images=3)
    watched = Watched(at_once)
    found = upscale(images, 2.0, restorer(), execution=watched.execution)
    assert torch.equal(watched.shown[-1], found[-1])
    each_watched, sizes = Watched(at_once), [models.picture(20, 32)[0], models.picture(32, 24)[0]]
    found = upscale_each(sizes, 2.0, restorer(), execution=each_watched.execution)
    assert torch.equal(each_watched.shown[-1], found[-1])


@each("draws", [lambda p: False, lambda p: p.step == 1, lambda p: p.done == p.total])
def test_previews_that_nobody_looks_at_change_nothing(draws):
    image = models.picture(50, 40)
    watched = Watched(draws=draws)
    found = upscale(image, 2.0, restorer(), execution=watched.execution)
    assert torch.equal(found, upscale(image, 2.0, restorer()))


def test_a_picture_is_offered_after_every_step():
    watched, image = Watched(), models.picture(50, 40)
    upscale(image, 2.0, restorer(), execution=watched.execution)
    steps = finished_steps(watched.told)
    assert len(steps) == restorer().steps * 4
    assert all(progress.draw is not None for progress in steps)
    pairs = zip(watched.shown, watched.shown[1:], strict=False)
    assert all(not torch.equal(a, b) for a, b in pairs)


@every_mode
def test_the_last_preview_of_a_stage_is_what_it_has_made(mode):
    model, image = models.micro_model(), models.picture(50, 40)
    prefix = stages.encode_prefix(model, image, 2.0, Execution(), Tiling(mode))
    sampling, refining = Watched(), Watched()
    tokens = stages.sample_tokens(model, prefix, SampleSettings(), 0, sampling.execution)
    refined = stages.refine_tokens(model, tokens, RefineSettings(), 0, refining.execution)
    for watched, latents in ((sampling, tokens.latent), (refining, refined.latent)):
        expected = Preview([tokens.canvas], image)
        expected.note(range(len(latents)), latents)
        assert watched.told[-1].draw is not None
        torch.testing.assert_close(watched.shown[-1], expected.last(), atol=2 / 255, rtol=0)
    decoding, scales = Watched(), Watched()
    decoded = stages.decode_tokens(model, refined, decoding.execution)
    assert torch.equal(decoding.shown[-1], decoded[0])
    decoded = stages.decode_scales(model, refined, scales.execution)
    assert torch.equal(scales.shown[-1], decoded[-1])
