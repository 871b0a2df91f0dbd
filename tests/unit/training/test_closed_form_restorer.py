"""A new restorer whose first weights are solved for: what it can do before its first step."""

import itertools
import math
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.closed_form import BIG, CASES, CODES, drawn
from varsr_core.training.closed_form import codes as code_start
from varsr_core.training.closed_form.prefix import prefix_start
from varsr_core.training.closed_form.restorer import PARTS, UNSURE, restorer_start
from varsr_core.training.closed_form.stream_layout import MARK, StreamLayout
from varsr_core.training.stages.restorer import ISRLoss
from varsr_core.training.steps.teacher_forcing import all_hidden


@lru_cache
def started(case):
    """The same behind both starts, what was drawn, and the guesses that were to be set."""
    guesses, guess = [], code_start._guess

    def spy(*given):
        guesses.append(guess(*given))
        return guesses[-1]

    found = drawn(case)
    found.drawn = {name: tensor.clone() for name, tensor in found.model.state_dict().items()}
    prefix_start(found.model, found.samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_start, "_guess", spy)
        restorer_start(found.model, found.samples)
    found.guesses = guesses
    return found


def counts(model):
    return [side * side for side in model.config.schedule.sides]


def hidden(model, lq, classes, target):
    return all_hidden(model, model.encode_prefix(lq), target.latents.unbind(1), classes)


def log_likelihoods(model, lq, classes, target):
    return model.transformer.logits(hidden(model, lq, classes, target), classes).log_softmax(2)


@torch.no_grad()
def cross_entropy(model, sample):
    """Of every scale."""
    ids = sample[2].token_ids
    per_token = -log_likelihoods(model, *sample).gather(2, ids[:, :, None])[:, :, 0]
    return [part.mean().item() for part in per_token.split(counts(model), dim=1)]


def whole(target):
    """The latent that was encoded, as rows."""
    return (target.latents[:, -2] + target.rest).flatten(2).transpose(1, 2)


@torch.no_grad()
def estimate(model, lq):
    return model.encode_prefix(lq)[:, :, StreamLayout.of(model.config).estimate]


@pytest.mark.parametrize("case", [case for case in CASES if case != BIG])
def test_prefix_is_the_best_linear_estimate_of_the_latent(case):
    cell = 2 ** (len(CASES[case]["tokenizer"]["widths"]) - 1)
    found = started(case)
    kept = min(3 * cell * cell, CASES[case]["transformer"]["prefix_widths"][-1] // 4)

    def cells(lq):
        return F.pixel_unshuffle(lq * 2 - 1, cell)

    first = cells(found.samples[0][0]).movedim(1, -1).flatten(0, 2).double().numpy()
    components = np.linalg.svd(first, full_matrices=False)[2][:kept]

    def rows(lq):
        reduced = torch.einsum("kc,nchw->nkhw", torch.from_numpy(components), cells(lq).double())
        rows = F.unfold(reduced, 3, padding=1).transpose(1, 2).flatten(0, 1)
        return np.concatenate((rows, np.ones((len(rows), 1))), axis=1)

    inputs = np.concatenate([rows(lq) for lq, _, _ in found.samples])
    targets = np.concatenate([whole(target).flatten(0, 1) for _, _, target in found.samples])
    optimum = np.linalg.lstsq(inputs, targets.astype(np.float64), rcond=None)[0]
    for lq, _, target in (*found.samples, found.held_out):
        wanted = whole(target)
        best = np.square(rows(lq) @ optimum - wanted.flatten(0, 1).numpy()).mean()
        error = (estimate(found.model, lq) - wanted).square().mean().item()
        assert error < 1.03 * best
        assert error < 0.2 * wanted.var()


@torch.no_grad()
def test_stream_starts_with_estimate_latent_so_far_and_marks_that_balance():
    model, sample = started(BIG).model, started(BIG).held_out
    seen, where, prefix = [], StreamLayout.of(model.config), model.config.prefix_tokens
    hook = model.transformer.blocks[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    hidden(model, *sample)
    hook.remove()
    wanted = torch.zeros(*seen[0].shape[:2], where.end)
    wanted[:, :prefix, where.estimate] = estimate(model, sample[0])
    wanted[:, :prefix, where.mark(where.scales)] = MARK
    wanted[:, :, where.balance] = -MARK
    for scale, tokens in enumerate(wanted[:, prefix:].split(counts(model), dim=1)):
        tokens[:, :, where.mark(scale)] = MARK
        if scale > 0:
            so_far = model.quantizer.downsample(sample[2].latents[:, scale - 1], scale)
            tokens[:, :, where.words] = so_far
    torch.testing.assert_close(seen[0][:, :, : where.end], wanted)


def over_parts(maps, side, rows, columns):
    """Means of maps (N, C, S, S) over a part of every cell of a coarser map: (N, C, side * side).

    In S * 60 small steps a side, so that every border falls on one.
    """
    final, fine = maps.shape[-1], 60
    values = maps.repeat_interleave(fine, dim=2).repeat_interleave(fine, dim=3)
    means = []
    for i, j in itertools.product(range(side), repeat=2):
        found = values
        for axis, (index, (low, high)) in enumerate(((i, rows), (j, columns)), start=2):
            first, end = index * final // side, math.ceil((index + 1) * final / side)
            start, stop = (round(fine * (first + part * (end - first))) for part in (low, high))
            found = found.narrow(axis, start, stop - start)
        means.append(found.mean(dim=(2, 3)))
    return torch.stack(means, dim=2)


@torch.no_grad()
def test_means_over_whole_cells_are_those_that_the_quantizer_takes():
    maps = torch.randn(1, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(maps, (5, 5), mode="area").flatten(2)
    torch.testing.assert_close(over_parts(maps, 5, (0, 1), (0, 1)), wanted)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_blocks_find_the_estimate_over_every_token_and_over_its_quarters(case):
    model, (lq, classes, target) = started(case).model, started(case).held_out
    where, schedule = StreamLayout.of(model.config), model.config.schedule
    final = schedule.final_side
    prefix = estimate(model, lq).transpose(1, 2).unflatten(2, (final, final))
    stream = hidden(model, lq, classes, target)
    for block in range(model.config.transformer.depth):
        copies = stream[:, :, where.average(block)].split(counts(model), dim=1)
        factors = []
        for copy, side in zip(copies, schedule.sides, strict=True):
            wanted = over_parts(prefix, side, *PARTS[block % len(PARTS)]).transpose(1, 2)
            pairs = torch.stack((copy.flatten(), wanted.flatten()))
            assert torch.corrcoef(pairs)[0, 1] > 0.97
            factors.append(((copy * wanted).sum() / wanted.square().sum()).item())
        assert min(factors) > 0.4
        assert max(factors) < 1.25 * min(factors), "the norm's factor is one for all scales"


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_gates_of_the_tokens_own_scale_are_open_and_no_others(case):
    model, (lq, classes, target) = started(case).model, started(case).held_out
    seen = []
    hook = model.transformer.blocks[-1].fc1.register_forward_hook(lambda *call: seen.append(call))
    hidden(model, lq, classes, target)
    hook.remove()
    carried = F.gelu(seen[0][2], approximate="tanh")
    scales, channels = model.config.schedule.num_scales, model.config.tokenizer.latent_channels
    carried = carried[:, :, : 2 * channels * scales].unflatten(2, (scales, 2 * channels))
    tokens = carried.split([model.config.prefix_tokens, *counts(model)], dim=1)
    open_at = torch.stack([part.square().mean(dim=(0, 1, 3)).sqrt() for part in tokens])
    assert (open_at[0] < 1e-4).all(), "the prefix makes no guess"
    assert (open_at[1:].diagonal() > 0.1).all()
    assert (open_at[1:] - open_at[1:].diag().diag_embed()).abs().max() < 1e-4


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_model_says_what_was_solved_for(case):
    model, guesses, sample = started(case).model, started(case).guesses, started(case).held_out
    seen = []
    layer = model.transformer.blocks[-1].fc1
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    said = log_likelihoods(model, *sample).split(counts(model), dim=1)
    hook.remove()
    tokens = seen[0][:, model.config.prefix_tokens :, StreamLayout.of(model.config).evidence]
    codes = model.quantizer.codebook.weight
    for guess, found, evidence in zip(
        guesses, said, tokens.split(counts(model), dim=1), strict=True
    ):
        mean = evidence @ guess.affine[:, :-1].T + guess.affine[:, -1]
        wanted = (mean @ codes.T + guess.bias).log_softmax(dim=2)
        divergence = (wanted.exp() * (wanted - found)).sum(dim=2).mean()
        assert divergence < 0.005 * wanted.std(), "beside the height that logits have"


def frequencies(model, samples):
    """Of the codes, at every scale."""
    ids = torch.cat([target.token_ids for _, _, target in samples]).split(counts(model), dim=1)
    found = torch.stack([torch.bincount(part.flatten(), minlength=CODES) + 0.1 for part in ids])
    return found / found.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("case", CASES)
def test_tokens_of_pictures_not_seen_are_guessed_well_at_once(case):
    found, before = started(case), drawn(case)
    ids = found.held_out[2].token_ids.split(counts(found.model), dim=1)
    unigram = frequencies(found.model, found.samples).log()
    at_first = cross_entropy(before.model, before.held_out)
    then = cross_entropy(found.model, found.held_out)
    for scale in range(len(ids)):
        assert at_first[scale] > 0.9 * math.log(CODES)
        assert then[scale] < 0.5 * math.log(CODES)
        assert then[scale] < -unigram[scale][ids[scale]].mean() - 0.25


@torch.no_grad()
def test_classes_that_were_not_solved_for_say_the_same_with_less_certainty():
    model, (lq, classes, target) = started(BIG).model, started(BIG).held_out
    heights = []
    for number in (0, 1):
        logits = model.transformer.logits(
            hidden(model, lq, classes, target), torch.full_like(classes, number)
        )
        spread = logits - model.transformer.head.bias
        heights.append(spread - spread.mean(dim=2, keepdim=True))
    sure, unsure = heights
    torch.testing.assert_close(unsure, UNSURE * sure, rtol=1e-3, atol=1e-3)


def test_result_depends_on_the_model_and_the_pairs_alone():
    case = "2 pixels a token"
    before, again = torch.get_rng_state(), drawn(case)
    prefix_start(again.model, again.samples)
    restorer_start(again.model, again.samples)
    first, second = started(case).model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_what_the_way_through_the_restorer_needs_is_set():
    found = started("2 pixels a token")
    after, width = found.model.state_dict(), found.model.config.transformer.width
    head = found.model.config.transformer.head_dim
    changed = {name for name, t in after.items() if not torch.equal(t, found.drawn[name])}
    parts = ("prefix_encoder.", "word_embed.", "transformer.")
    assert all(name.startswith(parts) for name in changed)
    evidence = after["transformer.head.weight"][:, StreamLayout.of(found.model.config).evidence]
    assert not evidence.any(), "logits read the guess alone"
    for block in range(found.model.config.transformer.depth):
        name = f"transformer.blocks.{block}.qkv.weight"
        same = (after[name] == found.drawn[name]).all(dim=1).unflatten(0, (3, width))
        assert same[:, head:].all(), "other heads stay as they were drawn"
        assert not same[:2, :head].any()
        scale = f"transformer.blocks.{block}.query_scale.weight"
        assert torch.equal(after[scale][1:], found.drawn[scale][1:])


def test_what_is_set_can_be_trained_further():
    found = drawn("2 pixels a token")
    prefix_start(found.model, found.samples)
    restorer_start(found.model, found.samples)
    module = ISRLoss(found.model)
    module(*found.held_out, torch.Generator().manual_seed(0))["tokens"].backward()
    *parts, _ = module.trained()  # the refiner starts closed
    assert all(parameter.grad.any() for part in parts for parameter in part.parameters())
