"""Blocks in training: computed again for the gradient with equal bits, and branches dropped."""

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.training import SIZES
from varsr_core.errors import InputError
from varsr_core.training.config import TrainingConfig
from varsr_core.training.data.pairs import PairBatch
from varsr_core.training.stages.restorer import ISRLoss
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.training.steps.blocks import BlockSettings, drop_branches

DEEP = {**SIZES, "transformer": {**SIZES["transformer"], "depth": 3}}


def computed(blocks, training=True, dtype=None):
    """Loss, gradients, and bytes that autograd keeps for the gradient."""
    model = new_model(config_from_json(DEEP), 0)
    module = ISRLoss(model, blocks=blocks).train(training)
    target = torch.cat([models.picture(8, 8, seed=seed) for seed in range(2)])
    inputs = module.inputs(PairBatch(target, target, torch.tensor([0, 1])))
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    generator = torch.Generator().manual_seed(0)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        loss = module(*inputs, generator)["loss"]
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, sum(t.untyped_storage().nbytes() for t in kept.values())


@each("drop_path", [0.0, 0.6])
@each("dtype", [None, torch.bfloat16])
def test_checkpointing_has_equal_bits_and_keeps_less(drop_path, dtype):
    plain, wanted, more = computed(BlockSettings(drop_path), dtype=dtype)
    again, found, fewer = computed(BlockSettings(drop_path, checkpointing=True), dtype=dtype)
    assert again == plain
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert fewer < 0.7 * more


def test_process_wide_random_state_is_left_alone():
    before = torch.get_rng_state()
    computed(BlockSettings(0.5, checkpointing=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_branch_is_dropped_in_evaluation():
    dropping, plain = BlockSettings(0.6), BlockSettings()
    assert computed(dropping, training=False)[0] == computed(plain)[0]
    assert computed(dropping)[0] != computed(plain)[0]


def test_branches_are_dropped_by_depth_and_the_others_weigh_more():
    depth, samples, width = 5, 2000, 3
    modulation = 1 + torch.arange(6.0).repeat_interleave(width).expand(depth, samples, 1, -1)
    found = drop_branches(modulation, 0.4, torch.Generator().manual_seed(0))
    gammas, others = found.split([2 * width, 4 * width], dim=-1)
    assert torch.equal(others, modulation[..., 2 * width :])
    for layer, rate in enumerate((0.0, 0.1, 0.2, 0.3, 0.4)):
        for branch in range(2):
            own = gammas[layer, :, 0, branch * width : (branch + 1) * width]
            assert (own == own[:, :1]).all(), "a branch is left out as a whole"
            dropped = own[:, 0] == 0
            assert dropped.float().mean() == pytest.approx(rate, abs=0.03)
            assert own[~dropped].numpy() == pytest.approx((1 + branch) / (1 - rate))
    both = (gammas[4, :, 0, 0] == 0) & (gammas[4, :, 0, width] == 0)
    assert both.float().mean() == pytest.approx(0.16, abs=0.03), "each branch is drawn by itself"


def test_a_dropped_branch_passes_its_stream_by():
    """With every branch dropped a block is the identity."""
    model = new_model(config_from_json(DEEP), 0)
    modulation = model.transformer.modulation(torch.tensor([0]))
    dropped = modulation.unflatten(-1, (6, -1)).clone()
    dropped[:, :, :, :2] = 0
    x = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    rope, attend = torch.zeros(2, 4, 8), lambda layer, q, k, v: v
    block = model.transformer.blocks[0]
    found = block(x, dropped.flatten(-2)[0], attend, 0, rope, 4)
    assert torch.equal(found, x)


@each("share", [-0.1, 1.0])
def test_impossible_drop_path_is_refused(share):
    with pytest.raises(InputError, match="drop_path"):
        TrainingConfig(drop_path=share)
