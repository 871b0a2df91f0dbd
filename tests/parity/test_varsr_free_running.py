"""From the picture to the picture, fed nothing but the recorded noise."""

from dataclasses import replace

import pytest
import torch

from varsr_core.runtime.execution import Execution
from varsr_core.varsr.sampling import RefineSettings, SampleSettings, refine_latent
from varsr_core.varsr.stages import decode_tokens, encode_prefix, sample_tokens


@pytest.fixture(scope="module")
def sampled(tiny, picture):
    prefix = encode_prefix(tiny, (picture + 1) / 2, 1.0, Execution())
    return sample_tokens(tiny, prefix, SampleSettings(), 0, Execution())


def test_no_more_than_half_a_percent_of_the_tokens_differ(sampled, golden, record_property):
    recorded = [golden[f"idx.{scale}"] for scale in range(10)]
    pairs = zip(sampled.token_ids, recorded, strict=True)
    different = sum((ours != theirs).sum().item() for ours, theirs in pairs)
    record_property("free_running_tokens_that_differ", different)
    assert different <= 0.005 * sum(ids.numel() for ids in recorded)


def test_picture_at_the_end_is_close_to_the_recorded_one(
    tiny, sampled, golden, refiner_noise, record_property
):
    noise = refiner_noise.transpose(1, 2).unflatten(2, (32, 32))[None]
    with torch.inference_mode():
        residual = refine_latent(
            tiny, sampled.hidden, sampled.token_ids[-1], noise, RefineSettings()
        )
    image = decode_tokens(tiny, replace(sampled, refined=sampled.latent + residual), Execution())
    error = (image - golden["image"].float()).abs()
    record_property("free_running_image_error", error.max().item())
    # On the mean: where rounding flips one token, its neighbourhood may look different.
    assert error.mean().item() <= 2e-3
