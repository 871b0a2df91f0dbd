"""Masks: what is refused, how they fade in, what they leave alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from helpers.each import each
from varsr_core.errors import InputError
from varsr_core.images.mask import blend_inside, check_mask, feathered

many = settings(max_examples=250, deadline=None, derandomize=True, database=None)


def right_half(height=40, width=40):
    """1 from the middle column on."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., width // 2 :] = 1
    return mask


def random_mask(height, width, images=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(images, 1, height, width, generator=generator)


def blot(height, width, images=1, seed=0):
    """0 or 1, in random patches of about a quarter of the picture."""
    coarse = random_mask(4, 4, images, seed)
    return (torch.nn.functional.interpolate(coarse, (height, width)) > 0.4).float()


# Refusals


@each("masks", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool])
def test_one_mask_for_all_or_one_each_is_accepted(masks, dtype):
    check_mask(torch.ones(masks, 1, 4, 5, dtype=dtype), 3)
    check_mask(torch.zeros(masks, 1, 4, 5, dtype=dtype), 3)


@each("shape", [(4, 5), (1, 4, 5), (1, 3, 4, 5), (1, 1, 1, 4, 5), (1, 1, 0, 5), (0, 1, 4, 5)])
def test_what_has_another_shape_is_no_mask(shape):
    with pytest.raises(InputError) as caught:
        check_mask(torch.zeros(shape), 1)
    assert str(shape) in str(caught.value)
    assert "(B, 1, h, w)" in str(caught.value)


@each("what", [None, [[0.0]], torch.zeros(1, 1, 4, 5, dtype=torch.complex64)])
def test_what_holds_no_numbers_is_no_mask(what):
    with pytest.raises(InputError, match=r"mask is .*\(B, 1, h, w\)"):
        check_mask(what, 1)


def test_masks_for_another_number_of_pictures_are_refused():
    with pytest.raises(InputError, match="mask holds 2 masks for 3 pictures"):
        check_mask(torch.zeros(2, 1, 4, 5), 3)


@pytest.mark.parametrize(
    ("value", "found"),
    [(-0.1, "-0.1 to 0"), (1.5, "0 to 1.5"), (255, "0 to 255"), (float("nan"), "nan")],
)
def test_values_beyond_a_share_are_refused(value, found):
    mask = torch.zeros(1, 1, 4, 5)
    mask[0, 0, 1, 2] = value
    with pytest.raises(InputError, match=f"mask has values from {found}"):
        check_mask(mask, 1)


def test_refusal_tells_which_mask():
    with pytest.raises(InputError, match="sky is"):
        check_mask(torch.zeros(4, 5), 1, name="sky")


# Feathering


@many
@given(
    some.integers(1, 40),
    some.integers(1, 40),
    some.integers(0, 60),
    some.integers(1, 3),
    some.data(),
)
def test_effect_never_exceeds_the_mask_and_is_none_outside(height, width, feather, images, data):
    draw = data.draw(some.sampled_from([random_mask, blot]))
    mask = draw(height, width, images)
    found = feathered(mask, height, width, feather)
    assert found.shape == mask.shape
    assert (found <= mask).all()
    assert (found >= 0).all()
    assert (found[mask == 0] == 0).all()


@each("size", [(1, 1), (3, 70), (16, 16), (64, 48), (200, 111)])
@each("images", [1, 2])
@each("feather", [0, 5])
def test_mask_of_any_size_comes_out_at_the_size_of_the_output(size, images, feather):
    found = feathered(random_mask(*size, images), 64, 48, feather)
    assert found.shape == (images, 1, 64, 48)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1


@each("factor", [2, 3])
def test_smaller_mask_lies_where_it_lay(factor):
    small = torch.zeros(1, 1, 12, 8)
    small[..., 6:, 4:] = 1
    found = feathered(small, 12 * factor, 8 * factor, 0)
    assert (found[..., 7 * factor :, 5 * factor :] == 1).all()
    assert (found[..., : 5 * factor, :] == 0).all()
    assert (found[..., : 3 * factor] == 0).all()


def test_feather_of_0_keeps_the_mask():
    mask = random_mask(20, 30)
    assert torch.equal(feathered(mask, 20, 30, 0), mask)


@each("feather", [1, 4, 8, 15])
@each("turned", [False, True])
def test_effect_fades_in_from_the_edge_and_is_whole_after_the_feather(feather, turned):
    mask = right_half()
    if turned:
        mask = mask.transpose(2, 3)
    found = feathered(mask, 40, 40, feather)
    if turned:
        found = found.transpose(2, 3)
    row = found[0, 0, 7]
    assert torch.equal(found[0, 0], row.expand(40, 40))
    assert (row[:20] == 0).all()
    assert (row[20 + feather :] == 1).all()
    fade = row[20 : 20 + feather]
    assert fade[0] > 0
    assert fade[-1] < 1
    # A straight line from the last pixel outside.
    expected = (torch.arange(feather) + 1) / (feather + 1)
    torch.testing.assert_close(fade, expected)


@each("feather", [17, 40, 90])
def test_wide_feather_fades_in_small_steps_and_is_whole_at_its_end(feather):
    row = feathered(right_half(4, 240), 4, 240, feather)[0, 0, 2]
    assert (row[:120] == 0).all()
    assert (row[120 + feather :] == 1).all()
    steps = row[119 : 121 + feather].diff()
    assert (steps >= 0).all()
    assert steps.max() < 0.07  # of the effect
    line = (torch.arange(feather) + 1) / (feather + 1)
    assert (row[120 : 120 + feather] - line).abs().max() < 0.07


def test_corner_of_a_mask_fades_as_its_nearer_edge_does():
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 10:, 15:] = 1
    down, right = ((torch.arange(40) - edge + 1).clamp(0, 6) / 6 for edge in (10, 15))
    expected = torch.minimum(down[:, None], right)
    torch.testing.assert_close(feathered(mask, 40, 40, 5)[0, 0], expected)


def test_border_of_the_picture_is_no_edge_of_the_mask():
    assert (feathered(torch.ones(1, 1, 20, 30), 20, 30, 8) == 1).all()
    assert (feathered(right_half(), 40, 40, 8)[..., 28:] == 1).all()


@each("feather", [39, 40, 41, 1000, 100_000])
@each("size", [(40, 40), (1, 40), (40, 2), (1, 1)])
def test_feather_may_be_larger_than_the_picture(feather, size):
    mask = torch.ones(1, 1, *size)
    mask[..., : size[1] // 2] = 0
    found = feathered(mask, *size, feather)
    assert (found[..., : size[1] // 2] == 0).all()
    assert (found[..., -1] > 0).all()
    assert (found.diff(dim=3) >= 0).all()


@each("turned", [False, True])
def test_edge_counts_from_across_the_whole_picture(turned):
    mask = torch.ones(1, 1, 40, 40)
    mask[..., 0] = 0
    if turned:
        mask = mask.transpose(2, 3)
    found = feathered(mask, 40, 40, 1000)  # every pixel is near the edge then
    assert (found[mask == 1] < 0.1).all()
    assert (found[mask == 1] > 0).all()


def test_deep_inside_a_large_mask_the_effect_is_whole_to_the_bit():
    """Whatever the mask holds elsewhere."""
    mask = random_mask(1000, 60)
    mask[..., 900:980, :] = 1
    assert (feathered(mask, 1000, 60, 16)[..., 916:964, :] == 1).all()


@many
@given(some.integers(0, 1000), some.integers(1, 12))
def test_wider_feather_never_strengthens_the_effect_at_a_straight_edge(seed, feather):
    edge = 5 + seed % 20
    mask = torch.zeros(1, 1, 30, 60)
    mask[..., edge:] = 1
    narrow, wide = (feathered(mask, 30, 60, radius) for radius in (feather, feather + 1))
    assert (wide <= narrow + 1e-6).all()


def test_masks_of_a_batch_do_not_mix():
    masks = blot(30, 40, images=3)
    found = feathered(masks, 30, 40, 6)
    for mask, one in zip(masks, found, strict=True):
        assert torch.equal(feathered(mask[None], 30, 40, 6)[0], one)


def test_mask_turns_with_the_picture():
    mask = blot(30, 40)
    found = feathered(mask, 30, 40, 6)
    flipped = feathered(mask.flip(2, 3), 30, 40, 6).flip(2, 3)
    torch.testing.assert_close(flipped, found, atol=1e-6, rtol=0)
    turned = feathered(mask.transpose(2, 3), 40, 30, 6).transpose(2, 3)
    torch.testing.assert_close(turned, found, atol=1e-6, rtol=0)


def test_feathering_leaves_its_mask_alone():
    mask = blot(30, 40)
    feathered(mask, 30, 40, 6)
    assert torch.equal(mask, blot(30, 40))


@each("value", [0.25, 0.5, 0.9])
def test_even_mask_has_no_edge_to_fade_from(value):
    mask = torch.full((1, 1, 30, 40), value)
    torch.testing.assert_close(feathered(mask, 30, 40, 6), mask)


@each(("size", "feather"), [(20, 16), (8, 16), (4, 4)])
def test_mask_smaller_than_the_feather_still_has_an_effect(size, feather):
    mask = torch.zeros(1, 1, 100, 100)
    mask[..., 40 : 40 + size, 40 : 40 + size] = 1
    assert feathered(mask, 100, 100, feather).max() > 0.1


# Blending


def test_blend_is_restored_inside_plain_outside_and_a_mixture_between():
    generator = torch.Generator().manual_seed(0)
    restored, plain = torch.rand(2, 2, 3, 4, 6, generator=generator).sqrt()
    mask = torch.tensor([0.0, 0.0, 0.25, 0.75, 1.0, 1.0]).expand(2, 1, 4, 6)
    found = blend_inside(restored, plain, mask)
    assert torch.equal(found[..., :2], plain[..., :2])
    assert torch.equal(found[..., 4:], restored[..., 4:])
    for column, share in ((2, 0.25), (3, 0.75)):
        mixture = share * restored[..., column] + (1 - share) * plain[..., column]
        torch.testing.assert_close(found[..., column], mixture)


def test_one_mask_blends_all_pictures_and_takes_their_dtype():
    restored, plain = torch.ones(2, 3, 4, 6).half(), torch.zeros(2, 3, 4, 6).half()
    found = blend_inside(restored, plain, torch.full((1, 1, 4, 6), 0.5))
    assert found.dtype == torch.float16
    assert (found == 0.5).all()
