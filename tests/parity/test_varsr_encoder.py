"""The tokenizer as encoder: a picture as tokens of every scale."""

import pytest
import torch

SCALES = range(10)


@pytest.fixture(scope="module")
def encoded(tiny, golden):
    """The recorded latent, with each scale subtracting the recorded tokens."""
    forced = [golden[f"encode.idx.{scale}"].long() for scale in SCALES]
    with torch.inference_mode():
        return tiny.quantizer.encode(golden["encode.latent"], forced)


def test_encoder_equals_the_recorded_one(tiny, golden, picture):
    with torch.inference_mode():
        latent = tiny.encode_latent((picture + 1) / 2)
    torch.testing.assert_close(latent, golden["encode.latent"], atol=1e-4, rtol=0)


def test_no_more_than_half_a_percent_of_the_encoded_tokens_differ(encoded, golden):
    recorded = [golden[f"encode.idx.{scale}"] for scale in SCALES]
    different = sum((encoded[0][k] != recorded[k]).sum().item() for k in SCALES)
    assert different <= 0.005 * sum(ids.numel() for ids in recorded)


def test_rest_before_the_last_scale_equals_the_recorded_one(encoded, golden):
    rest = encoded[2].flatten(2).transpose(1, 2)
    torch.testing.assert_close(rest, golden["encode.rest_before_last"], atol=1e-4, rtol=0)


def test_unforced_encoding_differs_in_no_more_than_half_a_percent(tiny, golden, record_property):
    with torch.inference_mode():
        ids, _, _ = tiny.quantizer.encode(golden["encode.latent"])
    recorded = [golden[f"encode.idx.{scale}"] for scale in SCALES]
    different = sum((ids[k] != recorded[k]).sum().item() for k in SCALES)
    record_property("encoded_tokens_that_differ", different)
    assert different <= 0.005 * sum(i.numel() for i in recorded)
