"""Attention for bf16 on the CPU: as exact as the rounding of what it is given."""

import torch
import torch.nn.functional as F

from helpers.each import each
from varsr_core.nn.cpu_attention import cpu_attention, worthwhile
from varsr_core.varsr import transformer


def inputs(scale, queries=700, keys=900, seed=0):
    """Normalised as the transformer's are; each query is drawn towards one key."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(2, 3, *shape, 64, generator=generator)

    k = F.normalize(drawn(keys), dim=-1)
    near = k[:, :, torch.randint(keys, (queries,), generator=generator)]
    q = scale * F.normalize(F.normalize(drawn(queries), dim=-1) + 0.6 * near, dim=-1)
    return q, k, drawn(keys)


def exact(*given):
    return F.scaled_dot_product_attention(*(x.double() for x in given), scale=1.0)


@each("scale", [1.0, 20.0, 100.0])
def test_error_is_below_what_rounding_the_inputs_costs(scale):
    given = inputs(scale)
    rounded = [x.bfloat16() for x in given]
    wanted = exact(*rounded)
    found = cpu_attention(*rounded)
    assert found.dtype == torch.bfloat16
    error = (found - wanted).square().mean().sqrt()
    of_inputs = (wanted - exact(*given)).square().mean().sqrt()
    of_result = wanted.square().mean().sqrt() * 2**-8  # which is rounded to bf16, too
    assert error < of_inputs + of_result
    plain = F.scaled_dot_product_attention(*rounded, scale=1.0)
    assert error < 3 * (plain - wanted).square().mean().sqrt()


def test_weights_of_a_query_sum_to_one_even_where_all_logits_are_far_below_zero():
    q, k, v = inputs(100.0)
    opposite = [x.bfloat16() for x in (-q.abs(), k.abs(), torch.ones_like(v))]
    assert (cpu_attention(*opposite) - 1).abs().max() < 0.01


def test_one_key_far_above_all_others_is_found_wherever_it_is():
    q, k, v = inputs(100.0, queries=600, keys=900)
    k = -F.normalize(q[:, :, :1] + 0.1 * torch.randn_like(k), dim=-1)
    for place in (0, 1, 500, 899):
        k[:, :, place] = F.normalize(q[:, :, 0], dim=-1)
        given = [x.bfloat16() for x in (q, k, v)]
        found = cpu_attention(*given)
        assert found.isfinite().all()
        assert (found[:, :, 0] - given[2][:, :, place]).abs().max() < 0.05
        k[:, :, place] *= -1


def test_transformer_takes_it_for_many_logits_in_bf16_on_a_cpu_only(monkeypatch):
    calls = []
    monkeypatch.setattr(transformer, "cpu_attention", lambda *given: calls.append(given))
    for dtype, queries, wanted in (
        (torch.bfloat16, 512, True),
        (torch.bfloat16, 511, False),
        (torch.float32, 512, False),
        (torch.float16, 512, False),
    ):
        given = [x.to(dtype) for x in inputs(1.0, queries, keys=512)]
        assert worthwhile(*given[:2]) == wanted
        transformer.attention(*given)
        assert bool(calls) == wanted
        calls.clear()
