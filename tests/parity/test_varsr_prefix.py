"""The low-quality picture as the transformer sees it."""

import torch


def test_prefix_equals_the_recorded_one(tiny, golden, picture, record_property):
    with torch.inference_mode():
        prefix = tiny.prefix_encoder(picture)
    error = (prefix - golden["prefix_embed"].flatten(2).transpose(1, 2)).abs().max().item()
    record_property("prefix_error", error)
    assert error <= 1e-4


def test_encode_prefix_takes_pictures_from_0_to_1(tiny, golden, picture):
    with torch.inference_mode():
        prefix = tiny.encode_prefix((picture + 1) / 2)
    torch.testing.assert_close(
        prefix, golden["prefix_embed"].flatten(2).transpose(1, 2), atol=1e-4, rtol=0
    )
