import pytest
import torch

from helpers.card import card, device
from helpers.each import each
from varsr_core.nn.kv_cache import KVCache

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


def filled_cache():
    cache = new_cache(12)
    for layer in range(LAYERS):
        cache.append(layer, *random_tokens(5, layer))
    cache.advance(5)
    return cache


def held(cache, layer):
    """Keys and values of a layer so far."""
    nothing = torch.empty(2, cache.storage.shape[2], HEADS, 0, HEAD_DIM)
    return torch.stack(cache.append(layer, *nothing))


@each("rows", [[1], [1, 0], [0, 0, 1]])
def test_selected_rows_are_copies_that_go_on_by_themselves(rows):
    cache = filled_cache()
    before = cache.storage.clone()
    part = cache.select(torch.tensor(rows))
    assert (part.length, part.capacity) == (5, 12)
    for layer in range(LAYERS):
        assert torch.equal(held(part, layer), held(cache, layer)[:, rows])
    new = random_tokens(3, 9)[:, rows]
    keys, values = part.append(1, *new)
    part.advance(3)
    assert torch.equal(keys[:, :, 5:], new[0])
    assert torch.equal(values[:, :, 5:], new[1])
    assert cache.length == 5
    assert torch.equal(cache.storage[..., :5, :], before[..., :5, :])
    assert part.storage.data_ptr() != cache.storage.data_ptr()


def test_rewound_cache_goes_on_as_if_the_rest_had_never_been():
    cache, expected = filled_cache(), filled_cache()
    for layer in range(LAYERS - 1):  # a step that failed before the last layer and the advance
        cache.append(layer, *random_tokens(4, 20 + layer))
    cache.rewind(5)
    assert cache.length == 5
    for layer in range(LAYERS):
        cache.append(layer, *random_tokens(4, 40 + layer))
        expected.append(layer, *random_tokens(4, 40 + layer))
    cache.advance(4)
    expected.advance(4)
    cache.rewind(7)
    expected.rewind(7)
    for layer in range(LAYERS):
        assert torch.equal(held(cache, layer), held(expected, layer))
        assert held(cache, layer).shape[3] == 7


def test_rewinding_further_than_the_cache_has_come_changes_nothing():
    cache = filled_cache()
    cache.rewind(9)
    assert cache.length == 5


def test_cache_elsewhere_holds_the_same():
    cache = filled_cache()
    moved = cache.to(torch.device("meta"))
    assert moved.storage.device.type == "meta"
    assert (moved.length, moved.capacity) == (5, 12)
    assert cache.storage.device.type == "cpu"
    again = cache.to(torch.device("cpu"))
    assert all(torch.equal(held(again, layer), held(cache, layer)) for layer in range(LAYERS))


def test_cache_that_waits_takes_room_for_what_it_holds_and_gets_all_of_it_back():
    """Bits too: it comes back to a card, here to the pretended one."""
    expected = filled_cache()
    with card():
        there = expected.to(device())
        assert there.nbytes == expected.nbytes
        waiting = there.to(torch.device("cpu"))
        assert (waiting.length, waiting.capacity) == (5, 12)
        assert waiting.nbytes * 12 == expected.nbytes * 5
        with pytest.raises(ValueError, match="holds 5 tokens; 6 were appended"):
            waiting.append(0, *random_tokens(1, 0))
        part = waiting.select(torch.tensor([1])).to(device())
        again = waiting.to(device())
        assert (again.storage.shape, part.capacity) == (expected.storage.shape, 12)
        for layer in range(LAYERS):
            keys, values = (held(expected, layer)[side] for side in range(2))
            assert torch.equal(again.storage[0, layer, :, :, :5].cpu(), keys)
            assert torch.equal(part.storage[1, layer, :, :, :5].cpu(), values[[1]])
        assert (again.length, part.length) == (5, 5)


def test_emptied_cache_has_no_memory_and_takes_nothing_in():
    cache = filled_cache().emptied()
    assert (cache.nbytes, cache.length, cache.capacity) == (0, 0, 0)
    assert cache.to(torch.device("meta")).nbytes == 0
    with pytest.raises(ValueError, match="holds 0 tokens; 1 were appended"):
        cache.append(0, *random_tokens(1, 0))


def test_bytes_are_those_of_keys_and_values_for_all_tokens():
    assert new_cache(12).nbytes == 2 * LAYERS * ROWS * HEADS * 12 * HEAD_DIM * 4
    half = KVCache(1, 1, 1, 4, 8, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert half.nbytes == 2 * 4 * 8 * 2
