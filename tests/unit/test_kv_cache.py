import pytest
import torch

from varsr_core.kv_cache import KVCache

LAYERS, ROWS, HEADS, HEAD_DIM = 3, 2, 4, 8
STEPS = (5, 1, 4, 9)


def new_cache(tokens):
    cpu = torch.device("cpu")
    return KVCache(LAYERS, ROWS, HEADS, tokens, HEAD_DIM, dtype=torch.float32, device=cpu)


def random_tokens(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, ROWS, HEADS, count, HEAD_DIM, generator=generator)


def test_cache_equals_growing_concatenation():
    cache = new_cache(sum(STEPS))
    grown = [torch.empty(2, ROWS, HEADS, 0, HEAD_DIM)] * LAYERS
    for step, count in enumerate(STEPS):
        for layer in range(LAYERS):
            new = random_tokens(count, 10 * step + layer)
            grown[layer] = torch.cat((grown[layer], new), dim=3)
            keys, values = cache.append(layer, *new)
            assert torch.equal(keys, grown[layer][0])
            assert torch.equal(values, grown[layer][1])
        cache.advance(count)
    assert cache.length == cache.capacity == sum(STEPS)


def test_append_without_advance_is_forgotten():
    cache = new_cache(8)
    cache.append(0, *random_tokens(5, 0))
    new = random_tokens(3, 1)
    keys, _ = cache.append(0, *new)
    assert torch.equal(keys, new[0])


def test_append_beyond_the_capacity_is_refused():
    cache = new_cache(6)
    cache.append(0, *random_tokens(4, 0))
    cache.advance(4)
    with pytest.raises(ValueError, match="holds 6 tokens; 7 were appended"):
        cache.append(0, *random_tokens(3, 1))


def test_cache_keeps_the_dtype_it_was_made_with():
    cache = KVCache(1, 1, 1, 4, 8, dtype=torch.bfloat16, device=torch.device("cpu"))
    keys, _ = cache.append(0, *torch.randn(2, 1, 1, 2, 8))
    assert keys.dtype == torch.bfloat16
