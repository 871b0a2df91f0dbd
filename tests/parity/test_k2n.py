"""K2N's maps, and VARSR's sampling behind them, against recorded numbers."""

import pytest
import torch
from safetensors.torch import load_file

from helpers import k2n_files, models, weight_recipe
from helpers.each import each
from helpers.nsarm_goldens import relative
from helpers.paths import DATA
from varsr_core.nn.token_sampling import guide
from varsr_core.varsr.k2n.coarse import Coarse, nearest
from varsr_core.varsr.k2n.kind import read_k2n
from varsr_core.varsr.refiner import sample_residual
from varsr_core.varsr.sampling import (
    RefineSettings,
    SampleSettings,
    next_hidden,
    refine_latent,
    refiner_condition,
    sample_scale,
    start_sampling,
    take_scale,
)

GIVEN, SCALES = 3, 10
SETTINGS = SampleSettings(guidance=9.0)


@pytest.fixture(scope="module")
def trace():
    return load_file(DATA / "k2n_tiny_trace.safetensors")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = k2n_files.write_todays(tmp_path_factory.mktemp("k2n") / "K2NSR.pth")
    return read_k2n(path).build()


@pytest.fixture(scope="module")
def low_quality():
    """(1, 3, 128, 128) in [0, 1]"""
    return (torch.from_numpy(weight_recipe.picture(k2n_files.QUARTER, 0))[None] + 1) / 2


@pytest.fixture(scope="module")
def maps(network, low_quality):
    with torch.inference_mode():
        return network(low_quality, GIVEN)


def test_its_encoder_gives_the_recorded_latent(network, low_quality, trace, record_property):
    with torch.inference_mode():
        error = relative(network.encode(low_quality), trace["lr_latent"])
    record_property("error", error)
    assert error < 1e-4


@each("scale", range(GIVEN))
def test_maps_and_ids_equal_the_recorded_ones(scale, maps, tiny, trace, record_property):
    error = relative(maps[scale], trace[f"map.{scale}"])
    record_property("error", error)
    assert error < 1e-4
    with torch.inference_mode():
        assert torch.equal(nearest(tiny, maps[scale]), trace[f"idx.{scale}"].long())


@pytest.fixture(scope="module")
def fed(tiny, picture, trace):
    """Every scale after those that are given, fed the recorded ids of those before: guided logits,
    the last hidden state, the sum of the ids."""
    with torch.inference_mode():
        prefix = tiny.prefix_encoder(picture)
        state = start_sampling(tiny, prefix, SETTINGS, models.own_seeds(1))
        state.coarse = [trace[f"idx.{scale}"].long() for scale in range(SCALES)]
        found = {}
        for scale in range(SCALES):
            if scale < GIVEN:
                take_scale(tiny, state, scale)
                continue
            side = tiny.config.schedule.sides[scale]
            state.hidden = next_hidden(tiny, state, scale, keep=side * side)
            pair = tiny.transformer.logits(state.hidden, state.classes).chunk(2)
            found[scale] = guide(*pair, SETTINGS.strength(tiny.config.schedule, scale))
            ids = state.coarse[scale]
            state.latents.append(state.latent + tiny.quantizer.residual(ids, scale))
    return found, state


@each("scale", range(GIVEN, SCALES))
def test_guided_logits_and_clear_ids_equal_the_recorded_ones(scale, fed, trace, record_property):
    logits, recorded = fed[0][scale], trace[f"guided.{scale}"]  # of the tokens chosen there
    ids = trace[f"idx.{scale}"].long()
    found = logits.gather(2, ids[..., None])[:, : recorded.shape[1], 0]
    strength = SETTINGS.guidance * scale / (SCALES - 1)
    error = (found - recorded).abs().max().item()
    record_property("error", error)
    # 2e-4 of each row's logits, which guidance multiplies.
    assert error <= 2e-4 * (1 + 2 * strength)
    best = logits.topk(2).values
    clear = best[..., 0] - best[..., 1] > 0.01
    assert torch.equal(logits.argmax(dim=-1)[clear], ids[clear])


def test_ids_add_up_to_the_recorded_latent(fed, trace):
    torch.testing.assert_close(fed[1].latent, trace["f_hat.9"], atol=1e-4, rtol=0)


def test_refiner_gives_the_recorded_residual(tiny, fed, trace, refiner_noise, record_property):
    with torch.inference_mode():
        hidden = fed[1].hidden.unflatten(0, (2, -1))
        condition = refiner_condition(tiny, hidden, trace["idx.9"].long())
        condition = condition.flatten(1, 2)
        residual = sample_residual(tiny.refiner, condition, refiner_noise, guidance=9.0, steps=10)
    error = (residual - trace["refiner.residual"]).abs()
    record_property("error", error.max().item())
    # Its condition was not recorded: what rounding does to that, ten guided steps multiply.
    assert error.mean() <= 1e-4
    assert error.max() <= 1e-2


def test_free_run_differs_in_no_more_than_half_a_percent_of_the_tokens(
    tiny, network, picture, low_quality, trace, refiner_noise, record_property
):
    with torch.inference_mode():
        state = start_sampling(tiny, tiny.prefix_encoder(picture), SETTINGS, models.own_seeds(1))
        state.coarse = Coarse(network).token_ids(tiny, low_quality)
        for scale in range(SCALES):
            if scale < GIVEN:
                take_scale(tiny, state, scale)
            else:
                sample_scale(tiny, state, scale, SETTINGS)
        different = sum(
            (ids != trace[f"idx.{scale}"]).sum().item() for scale, ids in enumerate(state.token_ids)
        )
        noise = refiner_noise.transpose(1, 2).unflatten(2, (32, 32))[None]
        hidden = state.hidden.unflatten(0, (2, -1)).transpose(0, 1)
        settings = RefineSettings(guidance=9.0)
        residual = refine_latent(tiny, hidden, state.token_ids[-1], noise, settings)
    final = state.latent + residual
    record_property("different", different)
    assert different <= 0.005 * sum(ids.numel() for ids in state.token_ids)
    recorded = trace["f_hat.9"] + trace["refiner.residual"].T.unflatten(1, (32, 32))
    assert (final - recorded).abs().mean() < 2e-3
