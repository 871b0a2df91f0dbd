import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import models
from helpers.each import each
from varsr_core.training.data import degradation
from varsr_core.training.data.blur_kernels import BLUR_KINDS, BlurRecipe, pixel_grid
from varsr_core.training.data.degradation import (
    PUBLISHED,
    RESIZE_MODES,
    DegradationSettings,
    OrderRecipe,
    OrderSettings,
    add_noise,
    apply,
    blur,
    degrade,
    draw_recipe,
)
from varsr_core.training.data.jpeg import CHROMA_TABLE, LUMA_TABLE, jpeg, quantization_table

DRAWS = 3000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def recipes():
    generator = seeded(1)
    return [draw_recipe(PUBLISHED, generator) for _ in range(DRAWS)]


def psnr(a, b):
    return -10 * math.log10(max(((a - b) ** 2).mean().item(), 1e-12))


def assert_share(hits, share):
    """The share of true values is that of coin flips, within 4.5 deviations."""
    hits = list(hits)
    deviation = math.sqrt(share * (1 - share) / len(hits))
    assert sum(hits) / len(hits) == pytest.approx(share, abs=4.5 * deviation + 1e-9)


def assert_uniform(values, limits):
    """Within the limits, reaching near them, with mean and deviation of a uniform draw."""
    values, (low, high) = np.array(list(values)), limits
    width, error = high - low, 4.5 / math.sqrt(len(values))
    assert values.min() >= low
    assert values.max() <= high
    assert values.mean() == pytest.approx((low + high) / 2, abs=error * width / math.sqrt(12))
    assert values.std() == pytest.approx(width / math.sqrt(12), abs=error * width / 3)


def no_noise(**changes):
    plain = OrderRecipe(
        blur=None,
        factor=1.0,
        mode="area",
        gaussian=True,
        strength=0.0,
        grey=False,
        noise_seed=0,
        quality=100,
    )
    return replace(plain, **changes)


# Kernels


@pytest.mark.parametrize("kind", [*BLUR_KINDS, "sinc"])
@each("size", [7, 13, 21])
def test_kernels_sum_to_1_and_are_the_same_upside_down(kind, size):
    kernel = BlurRecipe(kind, size, 2.0, 0.7, 0.4, beta=1.7, cutoff=1.5).kernel()
    assert kernel.shape == (size, size)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


@each("angle", [0.0, 0.5, -2.0, 3.0])
@each(("sigma_x", "sigma_y"), [(2.5, 1.0), (0.8, 1.9), (1.5, 1.5)])
def test_moments_of_a_gaussian_are_its_rotated_deviations(sigma_x, sigma_y, angle):
    kernel = BlurRecipe("aniso", 21, sigma_x, sigma_y, angle).kernel().double()
    x, y = pixel_grid(21)
    found = torch.tensor(
        [
            [(kernel * x * x).sum(), (kernel * x * y).sum()],
            [(kernel * x * y).sum(), (kernel * y * y).sum()],
        ]
    )
    turn = torch.tensor(
        [
            [math.cos(angle), -math.sin(angle)],
            [math.sin(angle), math.cos(angle)],
        ]
    )
    expected = turn @ torch.diag(torch.tensor([sigma_x**2, sigma_y**2])) @ turn.T
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)


def test_kernels_of_shape_1_are_those_of_the_paper():
    x, y = pixel_grid(21)
    distance = (x**2 + y**2) / 1.5**2
    expected = torch.exp(-distance / 2)
    found = BlurRecipe("generalized_iso", 21, 1.5, 1.5, beta=1.0).kernel()
    torch.testing.assert_close(found, (expected / expected.sum()).float())
    expected = 1 / (1 + distance)
    found = BlurRecipe("plateau_iso", 21, 1.5, 1.5, beta=1.0).kernel()
    torch.testing.assert_close(found, (expected / expected.sum()).float())


@pytest.mark.parametrize("kind", ["generalized_iso", "plateau_iso"])
def test_a_larger_beta_makes_the_top_flatter_and_the_rim_steeper(kind):
    soft = BlurRecipe(kind, 21, 3.0, 3.0, beta=1.0).kernel()[10]
    steep = BlurRecipe(kind, 21, 3.0, 3.0, beta=3.0).kernel()[10]
    assert steep[12] / steep[10] > soft[12] / soft[10]
    assert steep[15] / steep[10] < soft[15] / soft[10]


@each("cutoff", [math.pi / 5, math.pi / 3, 2.0])
def test_sinc_filter_passes_below_its_cutoff_and_stops_above(cutoff):
    kernel = BlurRecipe("sinc", 81, cutoff=cutoff).kernel().double()
    x, y = pixel_grid(81)
    for angle in (0.0, 0.6):
        along = x * math.cos(angle) + y * math.sin(angle)

        def response(frequency, along=along):
            return (kernel * torch.cos(frequency * along)).sum().item()

        assert response(0.75 * cutoff) == pytest.approx(1, abs=0.1)
        assert response(cutoff) == pytest.approx(0.5, abs=0.15)
        assert response(1.25 * cutoff) == pytest.approx(0, abs=0.1)


def test_sinc_filter_rings_beside_an_edge():
    edge = torch.zeros(3, 40, 40)
    edge[:, :, 20:] = 1
    found = blur(edge, BlurRecipe("sinc", 21, cutoff=1.2))
    assert found.max() > 1.03
    assert found.min() < -0.03


@each(("height", "width"), [(1, 1), (2, 5), (30, 21)])
def test_blur_keeps_size_and_flat_colour_even_of_tiny_pictures(height, width):
    flat = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1).expand(3, height, width)
    found = blur(flat, BlurRecipe("iso", 21, 2.0, 2.0))
    torch.testing.assert_close(found, flat, atol=1e-5, rtol=0)


def test_blur_is_a_convolution_with_reflected_borders():
    image = models.picture(30, 40)[0]
    recipe = BlurRecipe("aniso", 7, 2.0, 0.7, 0.8)
    padded = np.pad(image.numpy(), ((0, 0), (3, 3), (3, 3)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(1, 2))
    expected = (windows * recipe.kernel().numpy()).sum((-1, -2))
    np.testing.assert_allclose(blur(image, recipe), expected, atol=1e-5)


# JPEG


def pillow_jpeg(image, quality):
    file = io.BytesIO()
    pixels = image.mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return Image.open(file)


def decoded(file):
    return torch.from_numpy(np.array(file)).permute(2, 0, 1) / 255


def soft_picture(height, width):
    """Blurred waves and an edge: what photographs have, and JPEG keeps."""
    image = blur(models.picture(height, width)[0], BlurRecipe("iso", 21, 1.5, 1.5))
    image[:, : height // 3] *= 0.4
    return image


@each("quality", [5, 10, 30, 49, 50, 75, 95, 100])
@each(("height", "width"), [(96, 128), (61, 83), (16, 9)])
def test_jpeg_is_close_to_pillows(quality, height, width):
    for image in (models.picture(height, width)[0], soft_picture(height, width)):
        found = jpeg(image[None], [quality])[0]
        expected = decoded(pillow_jpeg(image, quality))
        assert psnr(found, expected) > 40  # in a tiny picture one rounding tie weighs much
        loss = psnr(image, expected)
        assert psnr(image, found) == pytest.approx(loss, abs=0.3)


@each("quality", [1, 5, 33, 50, 77, 95, 100])
def test_quantization_tables_are_those_in_pillows_files(quality):
    tables = pillow_jpeg(models.picture(16, 16)[0], quality).quantization
    assert quantization_table(LUMA_TABLE, quality).flatten().tolist() == list(tables[0])
    assert quantization_table(CHROMA_TABLE, quality).flatten().tolist() == list(tables[1])


def test_pictures_of_a_batch_have_their_own_jpeg_quality():
    images = models.picture(32, 40, images=3)
    found = jpeg(images, [10, 50, 90])
    for image, quality, one in zip(images, (10, 50, 90), found, strict=True):
        assert torch.equal(jpeg(image[None], [quality])[0], one)


@each("quality", [0, 101])
def test_impossible_jpeg_quality_is_refused(quality):
    with pytest.raises(ValueError, match=f"quality {quality} is not within"):
        jpeg(models.picture(16, 16), [quality])


# Noise


@each("strength", [1.0, 10.0, 30.0])
def test_gaussian_noise_has_the_drawn_deviation(strength):
    flat = torch.full((3, 200, 200), 0.5)
    noise = add_noise(flat, no_noise(strength=strength)) - flat
    assert noise.std().item() * 255 == pytest.approx(strength, rel=0.02)
    assert noise.mean().item() * 255 == pytest.approx(0, abs=0.02 * strength)
    assert np.corrcoef(noise.flatten(1))[0, 1] == pytest.approx(0, abs=0.03)


@each("strength", [0.5, 2.0])
def test_variance_of_poisson_noise_is_proportional_to_the_signal(strength):
    levels = torch.arange(256).view(1, 256, 1).expand(3, 256, 400) / 255
    recipe = no_noise(gaussian=False, strength=strength)
    rows = (add_noise(levels, recipe) - levels)[:, 20:120].permute(1, 0, 2).flatten(1)
    signal = levels[0, 20:120, 0]  # dark and bright rows are cut off by the clamp
    slope = (rows.var(1) / signal).numpy()
    assert slope.mean() == pytest.approx(strength**2 / 256, rel=0.02)
    assert slope[:50].mean() == pytest.approx(slope[50:].mean(), rel=0.05)
    assert rows.mean().item() == pytest.approx(0, abs=1e-3)


@each(("levels", "photons"), [(3, 4), (16, 16), (100, 128)])
def test_photons_are_the_next_power_of_2_above_the_levels_in_use(levels, photons):
    image = torch.arange(levels).view(1, levels, 1).expand(3, levels, 50) / 255
    found = add_noise(image, no_noise(gaussian=False, strength=1.0))
    counts = found[found < 1] * photons
    torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)


@each("gaussian", [True, False])
def test_grey_noise_is_the_same_in_all_channels(gaussian):
    image = 0.3 + 0.4 * models.picture(40, 50)[0]
    for grey in (True, False):
        recipe = no_noise(gaussian=gaussian, strength=0.3, grey=grey)
        noise = add_noise(image, recipe) - image
        assert torch.allclose(noise[0], noise[2], atol=1e-6) == grey
        assert noise.std() > 1e-4


# Draws


def test_blur_is_drawn_as_often_as_published(recipes):
    assert all(recipe.first.blur for recipe in recipes)
    assert_share((recipe.second.blur is not None for recipe in recipes), 0.8)
    assert_share((recipe.final_sinc is not None for recipe in recipes), 0.8)


@pytest.mark.parametrize("order", ["first", "second"])
def test_kernels_are_drawn_as_often_as_published(recipes, order):
    blurs = [b for b in (getattr(recipe, order).blur for recipe in recipes) if b]
    assert_share((b.kind == "sinc" for b in blurs), 0.1)
    for kind, share in zip(BLUR_KINDS, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03), strict=True):
        assert_share((b.kind == kind for b in blurs), 0.9 * share)
    for size in range(7, 22, 2):
        assert_share((b.size == size for b in blurs), 1 / 8)


@each(("order", "limits"), [("first", (0.2, 3)), ("second", (0.2, 1.5))])
def test_kernel_parameters_have_their_published_ranges(recipes, order, limits):
    blurs = [b for b in (getattr(recipe, order).blur for recipe in recipes) if b]
    gaussians = [b for b in blurs if b.kind != "sinc"]
    turned = [b for b in blurs if b.kind.endswith("aniso")]
    assert_uniform((b.sigma_x for b in gaussians), limits)
    assert_uniform((b.sigma_y for b in turned), limits)
    assert_uniform((b.angle for b in turned), (-math.pi, math.pi))
    assert all((b.sigma_x != b.sigma_y) == b.kind.endswith("aniso") for b in gaussians)
    small = [b.cutoff for b in blurs if b.kind == "sinc" and b.size < 13]
    large = [b.cutoff for b in blurs if b.kind == "sinc" and b.size >= 13]
    assert_uniform(small, (math.pi / 3, math.pi))
    assert_uniform(large, (math.pi / 5, math.pi))


def test_shapes_of_kernels_are_below_and_above_1_equally_often(recipes):
    orders = [order for recipe in recipes for order in (recipe.first, recipe.second)]
    blurs = [order.blur for order in orders if order.blur]
    betas = [b.beta for b in blurs if b.kind.startswith("generalized")]
    assert_share((beta < 1 for beta in betas), 0.5)
    assert_uniform((beta for beta in betas if beta < 1), (0.5, 1))
    assert_uniform((beta for beta in betas if beta > 1), (1, 4))
    betas = [b.beta for b in blurs if b.kind.startswith("plateau")]
    assert_share((beta == 1 for beta in betas), 0.5)
    assert_uniform((beta for beta in betas if beta != 1), (1, 2))


@pytest.mark.parametrize(
    ("order", "shares", "limits"),
    [("first", (0.2, 0.7, 0.1), (0.15, 1.5)), ("second", (0.3, 0.4, 0.3), (0.3, 1.2))],
)
def test_sizes_go_up_and_down_as_published(recipes, order, shares, limits):
    factors = [getattr(recipe, order).factor for recipe in recipes]
    assert_share((factor > 1 for factor in factors), shares[0])
    assert_share((factor < 1 for factor in factors), shares[1])
    assert_share((factor == 1 for factor in factors), shares[2])
    assert_uniform((factor for factor in factors if factor > 1), (1, limits[1]))
    assert_uniform((factor for factor in factors if factor < 1), (limits[0], 1))


@pytest.mark.parametrize(
    ("order", "sigma", "scale"), [("first", (1, 30), (0.05, 3)), ("second", (1, 25), (0.05, 2.5))]
)
def test_noise_and_jpeg_are_drawn_as_published(recipes, order, sigma, scale):
    drawn = [getattr(recipe, order) for recipe in recipes]
    assert_share((one.gaussian for one in drawn), 0.5)
    assert_share((one.grey for one in drawn), 0.4)
    assert_uniform((one.strength for one in drawn if one.gaussian), sigma)
    assert_uniform((one.strength for one in drawn if not one.gaussian), scale)
    assert {one.quality for one in drawn} == set(range(30, 96))
    assert len({one.noise_seed for one in drawn}) == DRAWS


def test_last_steps_are_drawn_as_published(recipes):
    assert_share((recipe.sinc_first for recipe in recipes), 0.5)
    for mode in RESIZE_MODES:
        assert_share((recipe.first.mode == mode for recipe in recipes), 1 / 3)
        assert_share((recipe.second.mode == mode for recipe in recipes), 1 / 3)
        assert_share((recipe.final_mode == mode for recipe in recipes), 1 / 3)
    cutoffs = [recipe.final_sinc.cutoff for recipe in recipes if recipe.final_sinc]
    assert_uniform(cutoffs, (math.pi / 3, math.pi))


# Whole pictures


@each(("height", "width", "scale"), [(64, 96, 4), (20, 12, 4), (48, 48, 2)])
def test_result_is_small_and_in_8_bit_levels(height, width, scale):
    images = models.picture(height, width, images=8)
    found = degrade(images, DegradationSettings(scale=scale), seeded())
    assert found.shape == (8, 3, height // scale, width // scale)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(found * 255, (found * 255).round(), atol=1e-3, rtol=0)


def test_same_generator_state_gives_the_same_result():
    images = models.picture(64, 64, images=4)
    found = [degrade(images, PUBLISHED, seeded(seed)) for seed in (5, 5, 6)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_pictures_of_a_batch_have_draws_of_their_own():
    images = models.picture(64, 64).expand(6, -1, -1, -1)
    found = degrade(images, PUBLISHED, seeded())
    assert len({tuple(one.flatten().tolist()) for one in found}) == 6


def test_a_picture_does_not_depend_on_those_after_it():
    images = models.picture(64, 64, images=3)
    whole = degrade(images, PUBLISHED, seeded())
    assert torch.equal(degrade(images[:1], PUBLISHED, seeded()), whole[:1])


def test_degrading_neither_touches_nor_uses_the_global_generator():
    images, found = models.picture(64, 64, images=4), []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            found.append(degrade(images, PUBLISHED, seeded()))
            assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)


def test_autocast_around_a_training_step_changes_nothing():
    images = models.picture(64, 64, images=4)
    with torch.autocast("cpu", torch.bfloat16):
        found = degrade(images, PUBLISHED, seeded())
    assert torch.equal(found, degrade(images, PUBLISHED, seeded()))


def test_a_recipe_gives_the_same_picture_every_time(recipes):
    image = models.picture(64, 64)[0]
    for recipe in recipes[:10]:
        assert torch.equal(apply(recipe, image), apply(recipe, image))


def test_gentlest_recipe_is_little_more_than_a_resize(recipes):
    image = soft_picture(128, 128)[:1].expand(3, -1, -1)  # JPEG halves colour once more
    gentle = replace(
        recipes[0], first=no_noise(), second=no_noise(), final_sinc=None, final_mode="area"
    )
    expected = torch.nn.functional.avg_pool2d(image, 4)
    assert psnr(apply(gentle, image), expected) > 40


@pytest.mark.parametrize("sinc_first", [True, False])
def test_sinc_filter_comes_before_or_after_the_second_jpeg(recipes, sinc_first, monkeypatch):
    calls = []
    for name in ("blur", "jpeg"):
        function = getattr(degradation, name)

        def noted(*arguments, name=name, function=function):
            calls.append(name)
            return function(*arguments)

        monkeypatch.setattr(degradation, name, noted)
    apply(replace(recipes[0], sinc_first=sinc_first), models.picture(64, 64)[0])
    last = ["blur", "jpeg"] if sinc_first else ["jpeg", "blur"]
    assert calls == ["blur", "jpeg", "blur", *last]


def test_side_that_scale_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="62x64 picture is not divisible by scale 4"):
        degrade(models.picture(64, 62), PUBLISHED, seeded())


def test_probabilities_that_do_not_sum_to_1_are_refused():
    with pytest.raises(ValueError, match=r"sum to 0\.9"):
        OrderSettings(resize_probabilities=(0.3, 0.3, 0.3))
    with pytest.raises(ValueError, match="2 kernel probabilities for 6 kinds"):
        OrderSettings(kernel_probabilities=(0.5, 0.5))
