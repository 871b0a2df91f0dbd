"""The benchmark: what it times, how often, and the arithmetic it counts."""

from types import SimpleNamespace

import pytest
import torch

from tools.benchmarks import agreement, bench, common
from tools.random_checkpoint import MICRO
from varsr_core.varsr.weights import build_model, convert


@pytest.fixture
def found(monkeypatch):
    """The smallest model, measured for two pictures at once in two runs."""
    monkeypatch.setitem(common.SIZES, "micro", MICRO)
    weights = common.release("micro")
    with torch.inference_mode():
        model = build_model(convert(weights))
        measured = bench.measure(model, torch.device("cpu"), batch=2, rounds=2)
        reference = bench.measure_reference(weights, torch.device("cpu"), rounds=1)
    return SimpleNamespace(model=model, measured=measured, reference=reference)


def test_every_stage_is_timed_as_often_as_it_runs(found):
    stages, sides = found.measured["stages"], found.model.config.schedule.sides
    scales = ["prefill + scale 0", *(f"scale {k}" for k in range(1, len(sides)))]
    assert [name for name in stages if "scale" in name] == scales
    calls = {name: stage["calls"] for name, stage in stages.items()}
    assert calls == {
        **dict.fromkeys(["prefix encoder", "decoder", *scales], 1),
        "head": len(sides),
        "refiner": 10,
    } | {"decoder": calls["decoder"]}
    assert calls["decoder"] in (1, 2), "tiles are decoded one by one on a CPU"
    assert all(stage["seconds"] > 0 for stage in stages.values())
    assert sum(stage["seconds"] for stage in stages.values()) < found.measured["seconds"]
    assert found.measured["seconds_a_tile"] == found.measured["seconds"] / 2
    assert found.reference > 0


def test_arithmetic_is_that_of_the_layers(found):
    stages, config = found.measured["stages"], found.model.config
    width, rows = config.transformer.width, 4  # two tiles, guided
    tokens = sum(side * side for side in config.schedule.sides)
    head = 2 * rows * tokens * width * config.tokenizer.codebook_size
    unguided = 2 * 2 * width * config.tokenizer.codebook_size  # scale 0 needs no negative rows
    assert stages["head"]["flops"] == head - unguided
    last = config.schedule.final_side**2
    linear = 2 * rows * last * 12 * width**2 * config.transformer.depth
    counted = stages[f"scale {config.schedule.num_scales - 1}"]["flops"]
    assert linear < counted < 2 * linear, "and attention"


def test_table_has_a_line_for_each_stage_and_what_is_left(found):
    limits = bench.ceilings.Ceilings(matmul=1e12, attention=1e12, copy=1e9)
    lines = bench.table(found.measured, limits).splitlines()
    assert len(lines) == 1 + len(found.measured["stages"]) + 2
    assert lines[-1].startswith("whole")
    assert "a tile" in lines[-1]


def test_a_model_agrees_with_itself_wholly_and_with_a_coarser_one_in_part(monkeypatch):
    monkeypatch.setitem(common.SIZES, "micro", MICRO)
    weights = convert(common.release("micro"))
    lq = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = agreement.of_precision("fp32", weights)
        ids, latents, picture = agreement.sampled(exact, lq)
        coarse = agreement.forced(agreement.of_precision("fp8", weights), lq, latents)
        assert all(map(torch.equal, agreement.forced(exact, lq, latents), ids))
    assert picture.shape == (1, 3, 64, 64)
    shares = [(a == b).double().mean().item() for a, b in zip(coarse, ids, strict=True)]
    assert 0 < sum(shares) < len(ids)
