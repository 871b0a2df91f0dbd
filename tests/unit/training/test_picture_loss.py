"""The losses between pictures that tokenizer and decoder are trained with."""

import pytest
import torch

from helpers import models
from varsr_core.training.losses.picture import picture_loss


def test_brightness_is_seen_by_pixels_and_edges_by_both():
    a = models.picture(16, 16)
    pixels, perceptual = picture_loss(a + 0.25, a, None)
    assert pixels.item() == pytest.approx(0.25)
    assert perceptual.item() == pytest.approx(0, abs=1e-6)
    pixels, perceptual = picture_loss(a + torch.tensor([0.25, -0.25]).repeat(8), a, None)
    assert pixels.item() == pytest.approx(0.25)
    assert perceptual.item() == pytest.approx(0.25), "of the finest band alone"


def test_coarse_structure_weighs_as_much_as_fine():
    a, step = torch.zeros(1, 1, 16, 16), torch.tensor([0.25, -0.25])
    fine, *coarse = (
        picture_loss(a + step.repeat_interleave(width).repeat(8 // width), a, None)[1]
        for width in (1, 2, 4, 8)
    )
    assert min(coarse) > fine


def test_features_are_matched_beside_edges():
    a = models.picture(16, 16)
    b = (a + torch.tensor([0.25, -0.25]).repeat(8)).requires_grad_(True)
    perceptual = picture_loss(b, a, lambda picture: [picture, 2 * picture])[1]
    assert perceptual.item() == pytest.approx(0.25 + 0.25 + 0.5)
    perceptual.backward()
    assert b.grad.any()
