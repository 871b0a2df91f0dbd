"""The small picture that shows how far the work is."""

import pytest
import torch
import torch.nn.functional as F

from helpers import models
from helpers.each import each
from varsr_core.images.output_size import OutputSize
from varsr_core.nn.linear_preview import FITTED_SIDE, fit_preview
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.canvas import Canvas
from varsr_core.tiling.consistency import Tiling
from varsr_core.tiling.preview import DENSITY, KEPT, MAX_SIDE, Preview
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr import stages
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

CELL = 8  # pixels of the encoder below
TILE = 32
CPU = torch.device("cpu")
ORTHOGONAL = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0))).Q


def encode(pictures):
    """A linear code of the 4 x 4 colours of a cell, mixed: no more and no less than a preview."""
    small = F.avg_pool2d(pictures, CELL // DENSITY)
    cells = F.pixel_unshuffle(small, DENSITY)
    return torch.einsum("nchw,cd->ndhw", cells, ORTHOGONAL) * 3 - 1


def plain(latent):
    """A PreviewFn that shows the first three channels as they are."""
    return F.interpolate(latent[:, :3], scale_factor=DENSITY, mode="nearest")


def canvas(height, width, images=1, scale=1.0):
    image = torch.zeros(images, 3, height, width)
    return Canvas.of(image, OutputSize("scale", scale), TILE, CELL, Tiling())


def latents(count, value):
    return torch.full((count, 3, TILE // CELL, TILE // CELL), float(value))


def test_linear_code_is_undone():
    preview = fit_preview(encode, CPU)
    picture = models.picture(64, 96)
    found = preview(encode(picture))
    assert found.shape == (1, 3, 32, 48)
    torch.testing.assert_close(found, F.avg_pool2d(picture, 2), atol=0.02, rtol=0)


def test_fitting_is_repeatable_and_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    first, second = fit_preview(encode, CPU), fit_preview(encode, CPU)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert torch.equal(torch.get_rng_state(), before)


def test_values_beyond_what_can_be_shown_are_clamped():
    preview = fit_preview(encode, CPU)
    found = preview(100 * torch.randn(2, 48, 4, 4, generator=torch.Generator().manual_seed(1)))
    assert (found.min(), found.max()) == (0, 1)


def test_tiles_are_painted_where_they_lie():
    whole = canvas(56, 88)
    preview, grid = Preview([whole], plain), whole.grid.cells()
    value = torch.zeros(1, 3, 56 // CELL, 88 // CELL)
    for number, (rows, columns) in enumerate(map(grid.area, range(len(grid)))):
        value[:, :, rows, columns] = number / 10
        found = preview.painted([number], latents(1, number / 10))
        painted = found[:, rows.start * DENSITY, columns.start * DENSITY]
        assert painted.tolist() == pytest.approx([number / 10] * 3)
    assert torch.equal(found, plain(value)[0])


def test_padding_is_not_shown():
    found = Preview([canvas(20, 44)], plain).painted([0], latents(1, 0.5))
    assert found.shape == (3, 10, 22)


def test_background_is_shown_until_a_tile_is_painted():
    whole = canvas(32, 56, images=2)
    backgrounds = torch.rand(2, 3, 32, 56, generator=torch.Generator().manual_seed(2))
    preview = Preview([whole] * 2, plain, backgrounds)
    last = len(whole.grid) - 1
    found = preview.painted([last], latents(1, 0))
    small = F.avg_pool2d(backgrounds, CELL // DENSITY)
    left = whole.grid.cells().area(last)[1].start * DENSITY
    torch.testing.assert_close(found[:, :, :left], small[0, :, :, :left])
    assert (found[:, :, left:] == 0).all()
    found = preview.painted([last + 1], latents(1, 1))
    assert (found[:, :, :16] == 1).all()
    torch.testing.assert_close(found[:, :, 16:], small[1, :, :, 16:])


def test_pictures_whose_tiles_run_in_turns_keep_what_was_painted():
    wide, small = canvas(32, 56), canvas(32, 32)
    preview = Preview([wide, small, wide], plain)
    tiles = len(wide.grid)
    assert tiles == 2
    expected = preview.painted([0, 1], latents(2, 0.25))
    for number in range(3, 3 + tiles):
        preview.painted([number, 2], latents(2, 0.75))
    assert (preview.painted([2], latents(1, 1.0)) == 1).all()
    assert torch.equal(preview.painted([0], latents(1, 0.25)), expected)
    assert (preview.painted([4], latents(1, 0.75)) == 0.75).all()


def test_previews_of_many_pictures_are_not_all_kept():
    one = canvas(32, 32)
    preview = Preview([one] * 100, plain)
    for number in range(100):
        preview.painted([number], latents(1, 0.5))
    assert len(preview.begun) == KEPT


def test_tiles_of_a_block_that_belong_to_the_next_picture_wait_for_it():
    whole = canvas(32, 32, images=2)
    both = torch.cat((latents(1, 0.25), latents(1, 0.75)))
    assert (Preview([whole] * 2, plain).painted([0, 1], both) == 0.25).all()


@each(
    ("size", "shown"),
    [((1024, 512), (512, 256)), ((1032, 1032), (258, 258)), ((8192, 80), (MAX_SIDE, 5))],
)
def test_large_canvases_have_small_previews(size, shown):
    preview = Preview([canvas(*size)], plain)
    found = preview.painted([0], latents(1, 0))
    assert found.shape == (3, *shown)


def test_what_is_shown_does_not_change_afterwards():
    preview = Preview([canvas(32, 56)], plain)
    found = preview.painted([0], latents(1, 0.25))
    kept = found.clone()
    preview.painted([0], latents(1, 0.75))
    assert torch.equal(found, kept)


@pytest.fixture
def watched():
    """An Execution that wants pictures, and what it was told."""
    seen = []
    return Execution(pictures=True, on_progress=seen.append), seen


def test_upscaling_shows_a_picture_after_every_step_and_the_same_result(watched):
    execution, seen = watched
    model, image = models.micro_model(), models.picture(50, 40)
    restorer = VARSRRestorer(model, SampleSettings(guidance=2.0), RefineSettings(steps=2))
    settings = UpscaleSettings(color_fix="none")
    found = upscale(image, 2.0, restorer, settings=settings, execution=execution)
    assert torch.equal(found, upscale(image, 2.0, restorer, settings=settings))
    steps = [progress for progress in seen if progress.step is not None]
    assert len(steps) == restorer.steps * 4
    assert {progress.picture.shape for progress in steps} == {(3, 25, 20)}
    pairs = zip(steps, steps[1:], strict=False)
    assert all(not torch.equal(a.picture, b.picture) for a, b in pairs)
    assert {progress.picture for progress in seen if progress.step is None} == {None}


def test_stages_show_pictures_too(watched):
    execution, seen = watched
    model = models.micro_model()
    prefix = stages.encode_prefix(model, models.picture(50, 40), 2.0, Execution())
    tokens = stages.sample_tokens(model, prefix, SampleSettings(), 0, execution)
    stages.refine_tokens(model, tokens, RefineSettings(), 0, execution)
    assert len(seen) == 5 * 4
    assert {progress.picture.shape for progress in seen} == {(3, 25, 20)}


def test_preview_is_fitted_once_a_model(watched, monkeypatch):
    execution, _ = watched
    model, calls = models.micro_model(seed=7), []
    original = model.encode_latent
    monkeypatch.setattr(model, "encode_latent", lambda x: calls.append(x.shape) or original(x))
    for _ in range(2):
        upscale(models.picture(16, 16), 4.0, VARSRRestorer(model), execution=execution)
    assert [tuple(shape[1:]) for shape in calls] == [(3, FITTED_SIDE, FITTED_SIDE)]
