"""The stage in which the refiner alone learns what the restorer's own tokens lack."""

import copy

import pytest
import torch

from helpers import models
from helpers.closed_form import drawn
from varsr_core.tiling.restorer import all_steps
from varsr_core.training.closed_form import prefix, restorer
from varsr_core.training.data.pairs import PairBatch
from varsr_core.training.losses.diffusion import DiffusionTables, diffusion_loss
from varsr_core.training.stages.prefix import estimated_latent
from varsr_core.training.stages.refiner import RefinerLoss
from varsr_core.varsr.refiner import RESIDUAL_SCALE
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

CASE = "2 pixels a token"
PICTURES = 24


@pytest.fixture(scope="module")
def solved():
    found = drawn(CASE)
    prefix.prefix_start(found.model, found.samples)
    restorer.restorer_start(found.model, found.samples)
    return found


def pairs(found, part):
    lq, classes, target = found.samples[part]
    return PairBatch(lq[:PICTURES], found.model.decode(target.whole[:PICTURES]), classes[:PICTURES])


def restored(model, lq, strength):
    how = VARSRRestorer(
        model, SampleSettings(guidance=0.0), RefineSettings(guidance=0.0, strength=strength)
    )
    return all_steps(how, lq, models.own_seeds(len(lq)))


@torch.no_grad()
def test_residual_is_what_the_own_tokens_lack(solved):
    model, batch = solved.model, pairs(solved, 0)
    _, residual = RefinerLoss(model, unseen=1.0).inputs(batch)
    state = restored(model, batch.lq, 0.0)
    wanted = model.encode_latent(batch.target) - state.latent
    torch.testing.assert_close(residual, wanted.flatten(2).transpose(1, 2))
    _, seen = RefinerLoss(model, unseen=0.0).inputs(batch)
    estimate = estimated_latent(model, model.encode_prefix(batch.lq))
    torch.testing.assert_close(seen, (estimate - state.latent).flatten(2).transpose(1, 2))


def test_refiner_alone_learns_and_brings_latents_nearer(solved):
    found = copy.deepcopy(solved)
    model = found.model.requires_grad_(False)
    module = RefinerLoss(model, unseen=0.0)
    assert module.trained() == [model.refiner]
    parameters = list(model.refiner.requires_grad_(True).parameters())
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    batch = pairs(found, 0)
    inputs, losses = module.inputs(batch), []
    for step in range(200):
        optimizer.zero_grad()
        loss = module(*inputs, torch.Generator().manual_seed(step))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])
    new = pairs(found, 1)
    with torch.no_grad():
        estimate = estimated_latent(model, model.encode_prefix(new.lq))
        plain, refined = (
            (restored(model, new.lq, strength).latent - estimate).square().mean().item()
            for strength in (0.0, 1.0)
        )
    assert refined < 0.6 * plain, "of pictures that it has not learned from"


def test_loss_is_the_diffusion_loss_of_residuals_divided_by_their_scale(solved):
    model = solved.model
    module = RefinerLoss(model)
    condition, residual = module.inputs(pairs(solved, 0))
    drawn_alike = [torch.Generator().manual_seed(3) for _ in range(2)]
    with torch.no_grad():
        wanted = diffusion_loss(
            model.refiner,
            condition.flatten(0, 1),
            residual.flatten(0, 1) / RESIDUAL_SCALE,
            DiffusionTables(residual.device),
            drawn_alike[0],
            pictures=PICTURES,
        )
        assert module(condition, residual, drawn_alike[1])["loss"] == wanted
