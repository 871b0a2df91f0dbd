"""What tokens see, told to a network with every call."""

import torch
import torch.nn.functional as F

from helpers import nsarm_goldens as goldens
from varsr_core.nn.attention import BlockCausalAttention, CachedAttention, block_causal
from varsr_core.nn.kv_cache import KVCache
from varsr_core.nsarm.sampling import next_words

COUNTS, HEAD_DIM = (5, 4, 9), 8


def kernel(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def tokens(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 4, count, HEAD_DIM, generator=generator).unbind()


def new_cache():
    cpu = torch.device("cpu")
    return KVCache(1, 2, 4, sum(COUNTS), HEAD_DIM, dtype=torch.float32, device=cpu)


def test_block_causal_attention_is_masked_attention():
    number = torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(COUNTS))
    for before in (0, 7):
        q, k, v = tokens(before + sum(COUNTS))
        seen = number[:, None] >= F.pad(number, (before, 0))[None]
        q = q[:, :, before:]
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1.0)
        assert (block_causal(q, k, v, COUNTS, kernel) - expected).abs().max() < 1e-6


def test_cached_calls_see_what_one_block_causal_pass_sees():
    q, k, v = tokens(sum(COUNTS))
    whole = BlockCausalAttention(COUNTS, kernel)(0, q, k, v)
    for steps in ([[0], [1], [2]], [[0, 1], [2]]):
        cache, found, start = new_cache(), [], 0
        for step in steps:
            counts = [COUNTS[number] for number in step]
            end = start + sum(counts)
            attend = CachedAttention(cache, kernel, counts, last=2 in step)
            found.append(attend(0, *(part[:, :, start:end] for part in (q, k, v))))
            if 2 not in step:
                cache.advance(end - start)
            start = end
        assert (torch.cat(found, dim=2) - whole).abs().max() < 1e-6
        assert cache.length == sum(COUNTS[:2]), "nothing looks back at the last map"


def test_tokens_that_are_not_asked_for_fill_the_cache():
    q, k, v = tokens(5)
    cache = new_cache()
    assert CachedAttention(cache, kernel)(0, q[:, :, :0], k, v).shape == (2, 4, 0, HEAD_DIM)
    assert torch.equal(cache.storage[0, 0, :, :, :5], k)


@torch.inference_mode()
def test_nsarm_in_one_pass_equals_its_cached_steps():
    model, state = goldens.model(), goldens.start()
    text, transformer, latent = state.texts[0], model.transformer, state.latent
    scales = range(4)
    inputs = [
        transformer.embed(
            next_words(model, latent + k, k, goldens.GREEDY) if k else None, text, k, 1
        )
        for k in scales
    ]
    stepwise = [
        transformer(x, text, state.caches[0], [k]) for k, x in zip(scales, inputs, strict=True)
    ]
    attend = BlockCausalAttention(transformer.tokens(scales), transformer.kernel)
    whole = transformer.run_blocks(torch.cat(inputs, dim=1), text, attend, scales)
    assert (whole - torch.cat(stepwise, dim=1)).abs().max() < 1e-4 * whole.abs().max()
