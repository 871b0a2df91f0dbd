"""Logits and tokens with every scale fed the recorded latent."""

import torch

from helpers.each import each

SCALES = range(10)
CLEAR_MARGIN = 0.01  # below it, rounding may pick the other token


@each("scale", SCALES)
@each("row", ["cond", "neg"])
def test_logits_equal_the_recorded_ones(fed, golden, scale, row, record_property):
    recorded = golden[f"logits_{row}.{scale}"]
    ours = (fed.positive if row == "cond" else fed.negative)[scale][:, : recorded.shape[1]]
    error = (ours - recorded).abs().max().item()
    record_property("logit_error", error)
    assert error <= 2e-4


@each("scale", SCALES)
def test_tokens_equal_the_recorded_ones_wherever_the_choice_is_clear(fed, golden, scale):
    best, second = fed.guided[scale].topk(2, dim=-1).values.unbind(-1)
    clear = best - second > CLEAR_MARGIN
    assert clear.any()
    ours = fed.guided[scale].argmax(dim=-1)
    assert torch.equal(ours[clear], golden[f"idx.{scale}"].long()[clear])


def test_no_more_than_half_a_percent_of_the_fed_tokens_differ(fed, golden, record_property):
    different = sum(
        (fed.guided[scale].argmax(dim=-1) != golden[f"idx.{scale}"]).sum().item()
        for scale in SCALES
    )
    total = sum(golden[f"idx.{scale}"].numel() for scale in SCALES)
    record_property("fed_tokens_that_differ", different)
    assert different <= 0.005 * total


@each("scale", SCALES)
def test_recorded_tokens_add_up_to_the_recorded_latent(tiny, golden, scale):
    before = golden[f"f_hat.{scale - 1}"] if scale else torch.zeros(1, 32, 32, 32)
    with torch.inference_mode():
        latent = before + tiny.quantizer.residual(golden[f"idx.{scale}"].long(), scale)
    torch.testing.assert_close(latent, golden[f"f_hat.{scale}"], atol=1e-4, rtol=0)
