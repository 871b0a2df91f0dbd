"""A RUN folder as version 0.1.0 left it, half-done, is gone on with; its files are written here."""

import csv

import pytest
import torch
from PIL import Image

from helpers import models
from helpers.closed_form import roomy_sizes
from helpers.training import settings
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.training.config import TrainingConfig
from varsr_core.training.run import Training
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.weights import sized_weights

STEPS = 3
LOGGED = 9.0
PARTS = {  # whose parameters state.pt holds, in this order
    "tokenizer": ("encoder", "pre_quantizer", "quantizer", "post_quantizer", "decoder"),
    "prefix": ("prefix_encoder",),
    "sight": ("prefix_encoder", "post_quantizer", "decoder"),
    "isr": ("prefix_encoder", "word_embed", "transformer", "refiner"),
    "decoder": ("post_quantizer", "decoder"),
}
GROUPS = {"isr": (("prefix_encoder", "word_embed", "transformer"), ("refiner",))}  # of the rate
COLUMNS = {
    "tokenizer": ("pixels", "perceptual", "codebook", "spread"),
    "prefix": (),
    "sight": ("pixels", "perceptual", "error"),
    "isr": ("tokens", "diffusion", "accuracy"),
    "decoder": ("pixels", "perceptual"),
}


def saved(model, path):
    tensors = sized_weights(model)
    checkpoint = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(checkpoint, path, torch.float32, metadata={})


def parameters(model, parts):
    return [p for part in parts for p in getattr(model, part).parameters()]


def optimizer_state(model, stage):
    """Of steps without a gradient: moments are zero."""
    groups = []
    for parts in GROUPS.get(stage, (PARTS[stage],)):
        own = parameters(model, parts)
        groups.append({"params": [p for p in own if p.ndim >= 2], "weight_decay": 0.05})
        groups.append({"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    for parameter in parameters(model, PARTS[stage]):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def leave(run, stage, model, steps):
    """What a stage has left in the folder after some steps; one more was logged, but not saved."""
    folder = run / stage
    folder.mkdir(parents=True)
    state = {
        "step": steps,
        "parameters": [p.detach() for p in parameters(model, PARTS[stage])],
        "average": [p.detach() for p in parameters(model, PARTS[stage])],
        "optimizer": optimizer_state(model, stage),
    }
    torch.save(state, folder / "state.pt")
    saved(model, run / "model.safetensors")
    if steps == STEPS:
        saved(model, folder / "model.safetensors")
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "loss", *COLUMNS[stage], "norm", "rate"))
        for step in range(1, min(steps + 1, STEPS) + 1):
            writer.writerow((step, LOGGED, *(1.0 for _ in COLUMNS[stage]), 1.0, 0.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    for seed in range(3):
        pixels = models.picture(40, 48, seed=seed)[0].permute(1, 2, 0).mul(255).round().byte()
        Image.fromarray(pixels.numpy()).save(place / f"{seed}.png")
    return place


def rows_of(run, stage):
    with (run / stage / "log.csv").open() as file:
        return list(csv.DictReader(file))


def half_done(run, broken, model):
    """All stages up to the broken one, which has two steps of three; their settings."""
    stages = list(PARTS)[: list(PARTS).index(broken) + 1]
    for stage in stages:
        leave(run, stage, model, 2 if stage == broken else STEPS)
    # Without a learning rate the weights tell what was read.
    return {stage: settings(STEPS, learning_rate=0.0, average=0.5) for stage in stages}


@pytest.mark.parametrize("broken", PARTS)
def test_run_goes_on_where_the_first_version_left_it(folder, tmp_path, broken):
    run, sizes = tmp_path / "run", roomy_sizes()
    model = new_model(config_from_json(sizes), seed=5)
    chosen = half_done(run, broken, model)
    before = {stage: rows_of(run, stage) for stage in chosen}
    training = Training(TrainingConfig(sizes=sizes, **chosen), run, [folder], [])
    for parameter in parameters(training.model, PARTS[broken]):
        parameter.data.fill_(0.3)  # the state goes before the file of the model
    assert training.run()

    *done, _ = chosen
    assert all(rows_of(run, stage) == before[stage] for stage in done), "not trained again"
    *first, last = rows_of(run, broken)
    assert first == before[broken][:2]
    assert last["step"] == "3"
    assert None not in (*last, *last.values()), "the same columns"
    assert float(last["loss"]) != LOGGED, "the step that was not saved is made again"
    state = torch.load(run / broken / "state.pt", weights_only=True)
    assert state["step"] == STEPS
    counts = {one["step"].item() for one in state["optimizer"]["state"].values()}
    assert max(counts) == 2, "the optimizer goes on, too"
    for path in (run / "model.safetensors", run / broken / "model.safetensors"):
        found = load_checkpoint([path]).tensors
        assert all(torch.equal(found[name], t) for name, t in model.state_dict().items())
