import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from helpers.each import each
from varsr_core.nn.token_sampling import draw_tokens, guide, keep_top_k, keep_top_p

ALMOST_ONE = 1 - 2**-24  # the largest number a float32 draw gives
DRAWS = 50_000


def kept(logits):
    return torch.isfinite(logits).tolist()


def random_logits(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def draw(logits, uniform, *, top_k=0, top_p=1.0, temperature=1.0):
    return draw_tokens(logits, top_k=top_k, top_p=top_p, temperature=temperature, uniform=uniform)


def draw_many(logits, **settings):
    uniform = torch.rand(DRAWS, generator=torch.Generator().manual_seed(1))
    return draw(logits.expand(DRAWS, -1), uniform, **settings)


def test_guidance_pushes_away_from_the_negative():
    positive, negative = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    assert guide(positive, negative, 6.0).tolist() == [4.0, -4.0]


def test_guidance_of_strength_0_returns_the_positive():
    positive, negative = random_logits(2, 1000)
    assert torch.equal(guide(positive, negative, 0.0), positive)


def test_guidance_of_strength_1_still_guides():
    positive, negative = random_logits(2, 1000)
    assert not torch.allclose(guide(positive, negative, 1.0), positive)


def test_top_k_keeps_all_ties_at_the_threshold():
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0], [5.0, 5.0, 5.0, 1.0]])
    assert kept(keep_top_k(logits, 2)) == [[False, True, True, True], [True, True, True, False]]


@each("k", [1, 5, 63])
def test_top_k_keeps_k_tokens_unchanged_when_none_tie(k):
    logits = random_logits(3, 64)
    result = keep_top_k(logits, k)
    assert torch.isfinite(result).sum(dim=-1).tolist() == [k] * 3
    assert torch.equal(result[torch.isfinite(result)], logits[torch.isfinite(result)])


def test_top_k_beyond_the_vocabulary_keeps_all():
    logits = random_logits(2, 8)
    assert torch.equal(keep_top_k(logits, 9), logits)


@each("p", [0.01, 0.3, 0.5, 0.9, 0.999])
@each("seed", range(5))
def test_top_p_keeps_what_a_plain_loop_keeps(p, seed):
    logits = random_logits(4, 40, seed=seed)
    expected = []
    for row in logits.double().numpy():
        probabilities = softmax(row)
        wanted, total = [True] * len(row), 0.0
        for token in np.argsort(row)[:-1]:  # the most likely one always stays
            total += probabilities[token]
            wanted[token] = bool(total > 1 - p)
        expected.append(wanted)
    assert kept(keep_top_p(logits, p)) == expected


@each("p", [1e-9, 0.5])
def test_top_p_never_drops_the_most_likely_token(p):
    logits = torch.full((5, 100), -50.0)
    best = torch.tensor([0, 7, 50, 98, 99])
    logits[torch.arange(5), best] = 50.0
    result = keep_top_p(logits, p)
    assert torch.equal(result.argmax(dim=-1), best)
    assert torch.isfinite(result).sum(dim=-1).tolist() == [1] * 5


def test_truncation_leaves_its_argument_alone():
    logits = random_logits(2, 16)
    before = logits.clone()
    keep_top_k(logits, 3)
    keep_top_p(logits, 0.5)
    draw(logits, torch.full((2,), 0.5), top_k=3, top_p=0.5)
    assert torch.equal(logits, before)


@each("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_the_probabilities_of_softmax(temperature):
    logits = random_logits(12) / 2
    counts = np.bincount(draw_many(logits, temperature=temperature), minlength=12)
    expected = softmax(logits.double().numpy() / temperature) * DRAWS
    assert expected.min() > 5  # else the test below means nothing
    assert chisquare(counts, expected).pvalue > 0.001


def test_draws_after_top_k_have_the_renormalised_probabilities():
    logits = random_logits(12) / 2
    counts = np.bincount(draw_many(logits, top_k=4), minlength=12)
    best = np.argsort(logits.numpy())[-4:]
    assert counts[best].sum() == DRAWS
    expected = softmax(logits.double().numpy()[best]) * DRAWS
    assert chisquare(counts[best], expected).pvalue > 0.001


@each("uniform", [0.0, 0.25, 0.5, 0.75, ALMOST_ONE])
@each("seed", range(20))
def test_tokens_without_probability_are_never_drawn(uniform, seed):
    logits = random_logits(8, 4096, seed=seed)
    hidden = torch.rand(8, 4096, generator=torch.Generator().manual_seed(seed)) < 0.9
    hidden[:, :10] = hidden[:, -10:] = True
    hidden[:, 2000] = False
    ids = draw(logits.masked_fill(hidden, -torch.inf), torch.full((8,), uniform))
    assert not hidden.gather(1, ids[:, None]).any()


@each(("uniform", "token"), [(0.0, 3), (ALMOST_ONE, 5)])
def test_ends_of_the_draw_give_the_first_and_last_token_with_weight(uniform, token):
    logits = torch.full((1, 8), -torch.inf)
    logits[0, 3:6] = 0.0
    assert draw(logits, torch.tensor([uniform])).tolist() == [token]


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"temperature": 0.0}])
def test_greedy_draws_take_the_best_token_and_need_no_random_numbers(settings):
    logits = random_logits(6, 30)
    expected = np.argmax(logits.numpy(), axis=-1)
    assert draw(logits, None, **settings).tolist() == expected.tolist()


def test_draw_without_random_numbers_is_refused_when_not_greedy():
    with pytest.raises(ValueError, match="needs uniform numbers"):
        draw(random_logits(2, 8), None, top_k=20)


def test_low_temperature_and_small_top_p_come_to_the_best_token():
    logits = random_logits(50, 30)
    uniform = torch.rand(50, generator=torch.Generator().manual_seed(2))
    best = logits.argmax(dim=-1)
    assert torch.equal(draw(logits, uniform, temperature=1e-4), best)
    assert torch.equal(draw(logits, uniform, top_p=1e-6), best)
