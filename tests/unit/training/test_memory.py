"""Memory that is told of a step, against what a real one has alive; what comes of too little."""

import json

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.live_bytes import LiveBytes
from helpers.training import SIZES, settings
from varsr_core.errors import InputError
from varsr_core.training.config import TrainingConfig, from_plain
from varsr_core.training.data.pairs import PairBatch
from varsr_core.training.data.pictures import PictureBatch
from varsr_core.training.memory.saved import on_meta
from varsr_core.training.memory.step import (
    CONTEXT,
    GIB,
    StepMemory,
    check_room,
    outermost,
    pass_memory,
    step_memory,
)
from varsr_core.training.memory.table import CARDS, Cards, fits, memory_table
from varsr_core.training.stages.restorer import ISRLoss
from varsr_core.training.stages.tokenizer import TokenizerLoss, TokenizerSettings
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.training.steps.blocks import BlockSettings

DEEP = {**SIZES, "transformer": {**SIZES["transformer"], "depth": 6}}
BYTES = 4  # of a float32


def restorer(checkpointing=False):
    module = ISRLoss(model(), blocks=BlockSettings(checkpointing=checkpointing))
    return learning(module), batch(3)


def tokenizer(checkpointing=False):
    lq, _, classes = batch(3)
    return learning(TokenizerLoss(model(), TokenizerSettings())), PictureBatch(lq, classes)


def model():
    return new_model(config_from_json(DEEP), 0)


def learning(module):
    module.model.requires_grad_(False)
    for part in module.trained():
        part.requires_grad_(True)
    return module


def batch(count):
    target = torch.cat([models.picture(8, 8, seed=seed) for seed in range(count)])
    return PairBatch(target, target, torch.zeros(count, dtype=torch.long))


def alive(module, given):
    """Bytes that a real step has after its losses, and at most, gradients counted in."""
    with LiveBytes() as live:
        losses = module(*module.inputs(given), torch.Generator().manual_seed(0))
        live.count()
        kept, live.peak = live.alive, live.alive
        losses["loss"].backward()
    return kept, live.peak


@pytest.mark.parametrize("make", [restorer, tokenizer])
def test_what_is_kept_is_what_a_real_step_has_alive(make):
    module, given = make()
    counted = pass_memory(module, given, 3, None).kept
    kept, _ = alive(module, given)
    assert counted == pytest.approx(kept, rel=0.05)


@pytest.mark.parametrize("make", [restorer, tokenizer])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_takes_no_more_than_is_told_and_not_much_less(make, checkpointing):
    module, given = make(checkpointing)
    told = pass_memory(module, given, 3, None, checkpointing)
    gradients = sum(p.nbytes for p in module.parameters() if p.requires_grad)
    _, peak = alive(module, given)
    assert 0.5 * (told.kept + gradients) < peak < told.kept + told.work + gradients


def test_checkpointing_keeps_less_but_what_one_block_needs():
    plain, again = (
        pass_memory(restorer(c)[0], batch(3), 3, None, checkpointing=c) for c in (False, True)
    )
    kept, _ = alive(*restorer(checkpointing=True))
    assert kept < again.kept < 0.6 * plain.kept


def test_half_precision_keeps_less():
    module, given = restorer()
    exact, half = (pass_memory(module, given, 16, dtype).kept for dtype in (None, torch.bfloat16))
    assert 0.5 * exact < half < 0.85 * exact


@each("checkpointing", [False, True])
def test_every_further_sample_takes_as_much(checkpointing):
    module, given = restorer(checkpointing)
    one, two, five = (
        pass_memory(module, given, count, None, checkpointing).kept for count in (1, 2, 5)
    )
    assert five == pytest.approx(one + 4 * (two - one), rel=0.01)


def test_weights_gradients_and_moments_are_counted():
    module, given = restorer()
    learns = sum(p.numel() for p in module.parameters() if p.requires_grad)
    still = sum(p.numel() for p in module.parameters()) - learns
    one_pass = pass_memory(module, given, 1, None)
    needed = step_memory(module, one_pass, settings(1, average=0.9))
    assert needed.weights == BYTES * (learns + still)
    assert needed.gradients == BYTES * learns
    assert needed.optimizer == BYTES * 3 * learns, "two moments and the average"
    assert needed.work == one_pass.work + CONTEXT
    assert needed.gathered == 0
    assert needed.total == sum(vars(needed).values())
    replicas = step_memory(module, one_pass, settings(1), processes=4)
    assert (replicas.weights, replicas.gradients) == (needed.weights, 2 * needed.gradients)
    shards = step_memory(module, one_pass, settings(1), processes=4, sharded=True)
    assert shards.weights == pytest.approx(BYTES * (still + learns / 4), abs=BYTES)
    assert shards.optimizer == pytest.approx(BYTES * 2 * learns / 4, abs=BYTES * 2)
    block = sum(p.numel() for p in module.model.transformer.blocks[0].parameters())
    assert shards.gathered == 2 * BYTES * (learns - 4 * block), "of 6 blocks 2 are there"


def test_blocks_are_counted_once():
    module, _ = restorer()
    assert outermost(module.shards()) == list(module.model.transformer.blocks)


def test_counting_leaves_the_model_as_it_is():
    module, given = restorer()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    meta = on_meta(module)
    pass_memory(module, given, 2, None, checkpointing=True)
    assert all(p.is_meta for p in meta.parameters())
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_too_little_memory_is_told_before_the_step():
    needed = StepMemory(*(GIB for _ in range(6)))
    check_room(needed, 6 * GIB, 4, "isr")
    with pytest.raises(InputError, match=r"isr takes 6\.0 GiB.*has 5\.5 GiB.*4 samples"):
        check_room(needed, int(5.5 * GIB), 4, "isr")


def test_table_has_every_stage_on_every_kind_of_cards():
    plain = {"steps": 1, "batch": 64}
    config = from_plain(
        TrainingConfig, {"sizes": SIZES, "tokenizer": plain, "isr": plain, "decoder": plain}, "test"
    )
    found = list(fits(config))
    assert [(fit.stage, fit.cards) for fit in found] == [
        (stage, cards) for stage in ("tokenizer", "isr", "decoder") for cards in CARDS
    ]
    assert all(fit.passes == 1 and fit.needed.total < 2 * GIB for fit in found)
    assert [fit.samples for fit in found[:3]] == [64, 64, 8]
    lines = memory_table(config, "tiny").splitlines()
    assert len(lines) == 2 + len(found)
    assert lines[0].startswith("tiny")
    assert json.dumps(lines).isascii()


def test_batch_is_taken_in_as_many_passes_as_fit(monkeypatch):
    cards = Cards(1, 1)
    monkeypatch.setattr("varsr_core.training.memory.table.CARDS", (cards,))
    plain = {"steps": 1, "batch": 4096, "accumulate": 2}
    config = from_plain(TrainingConfig, {"sizes": DEEP, "isr": plain}, "test")
    (fit,) = fits(config)
    assert fit.passes > 2
    assert fit.samples * fit.passes == 4096
    assert fit.needed.total < 0.95e9 < fit.needed.total + fit.needed.kept
    monkeypatch.setattr("varsr_core.training.memory.table.CARDS", (Cards(1, 0),))
    (fit,) = fits(config)
    assert (fit.passes, fit.samples) == (0, 1)
    assert memory_table(config, "tiny").endswith("does not fit")
