"""The refiner from the recorded condition and the recorded noise, and the decoder behind it."""

import pytest
import torch

from varsr_core.runtime.execution import Execution, Session
from varsr_core.tiling.decode import decode_canvas
from varsr_core.varsr.decoding import VARSRDecoder
from varsr_core.varsr.refiner import sample_residual
from varsr_core.varsr.sampling import refiner_condition


def test_condition_equals_the_recorded_one(tiny, fed, golden):
    with torch.inference_mode():
        condition = refiner_condition(tiny, fed.hidden[:, None], golden["idx.9"].long())
    torch.testing.assert_close(condition.flatten(0, 2), golden["refiner.cond"], atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def residual(tiny, golden, refiner_noise):
    with torch.inference_mode():
        condition = golden["refiner.cond"].unflatten(0, (2, -1))
        return sample_residual(tiny.refiner, condition, refiner_noise, guidance=6.0, steps=10)


def test_residual_equals_the_recorded_one(residual, golden, record_property):
    error = (residual - golden["refiner.residual"]).abs().max().item()
    record_property("residual_error", error)
    assert error <= 1e-3


def test_final_latent_is_the_last_scale_plus_the_residual(residual, golden):
    final = golden["f_hat.9"] + residual.T.unflatten(1, (32, 32))
    torch.testing.assert_close(final, golden["f_hat.final"], atol=1e-3, rtol=0)


def test_picture_decoded_from_the_recorded_latent_equals_the_recorded_one(
    tiny, golden, record_property
):
    with torch.inference_mode():
        image = tiny.decode(golden["f_hat.final"])
    error = (image - golden["image"].float()).abs().max().item()
    record_property("image_error", error)
    assert error <= 3e-3


def test_picture_decoded_as_a_canvas_equals_the_recorded_one(tiny, golden, record_property):
    """In two parts, with norms that were measured first: here the canvas is a single tile."""
    (latent,), rgb = golden["f_hat.final"], torch.zeros(3, 512, 512)
    with torch.inference_mode():
        decode_canvas(latent, VARSRDecoder(tiny), Session(Execution()), rgb)
    error = (rgb - golden["image"][0].float()).abs()
    record_property("canvas_image_error", error.max().item())
    assert error.max().item() <= 3e-3
