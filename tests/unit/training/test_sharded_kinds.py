"""Two processes that share out the weights of models beside VARSR, by FSDP2 and gloo on the CPU."""

import json

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.k2n_training import write_pictures, write_varsr
from helpers.processes import two_processes
from helpers.threads import one_thread
from tools.random_nsarm import MICRO, write_release
from varsr_core.checkpoint import load_checkpoint
from varsr_core.nsarm.results import TextFeatures
from varsr_core.nsarm.text_files import save_text
from varsr_core.training.config import TrainingConfig, from_plain
from varsr_core.training.loop_settings import LoopSettings
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.starting.sources import Sources
from varsr_core.training.trained_kind import trained_kind

STEPS = {"k2n": 1, "nsarm": 2}  # what one step rounds, the kinks of K2N's losses may enlarge
ROUNDING = 1e-4  # of gradients; of what is below, by which nothing is learned, Adam makes steps
STAGE = {
    "batch": 3,
    "warmup_share": 0.0,
    "average": 0.5,
    "precision": "fp32",
}
SHARED = {"parallel": "shards", "data": {"order": "global"}}
SMALL = {
    "sides": [1, 2],
    "widths": [32, 64],
    "layers": [1, 1],
    "heads": [4, 4],
    "extractor": [32, 32],
}
# What is dropped differs with the number of processes.
RUNS = {
    "k2n": {
        "sizes": SMALL,
        "model_settings": {
            "maps": {**STAGE, "steps": STEPS["k2n"], "learning_rate": 1e-4},
            "dropout": 0.0,
        },
    },
    "nsarm": {
        "checkpointing": True,
        "model_settings": {
            "bits": {**STAGE, "steps": STEPS["nsarm"], "learning_rate": 3e-5},
            "dropout": 0.0,
            "without_text": 0.5,
        },
    },
}
CHANGED = {  # weights that only a gradient moves, by the kind of model
    "k2n": ("maps.branches.1.out.weight", "maps.extractor.0.conv.weight"),
    "nsarm": (
        "maps.branches.6.out.weight",
        "transformer.blocks.0.cross_kv.weight",
        "transformer.blocks.1.fc2.weight",
        "transformer.text.unconditional.weight",
        "transformer.shared_modulation.weight",
    ),
}

WORKER = """
import json, sys
from pathlib import Path
import torch
from torch import distributed
from varsr_core.training import run
from varsr_core.training.config import TrainingConfig, from_plain
from varsr_core.training.steps.processes import is_sharded, parallel

def sharing(module, shards, wanted):
    made = parallel(module, shards, wanted)
    assert shards and all(is_sharded(part.parameters()) for part in shards)
    return made

folder, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.set_num_threads(1)
distributed.init_process_group("gloo")
run.parallel = sharing
for name, (config, sources) in runs.items():
    paths = {source: Path(path) for source, path in sources.items()}
    config = from_plain(TrainingConfig, config, name)
    run.Training(config, folder / f"{name}_two", [folder / "pictures"], [], **paths).run()
distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Configuration and sources of every run, by its name."""
    place = tmp_path_factory.mktemp("sources")
    (place / "texts").mkdir()
    for number in range(3):  # of which one process reads one, the other two
        rng = torch.Generator().manual_seed(number)
        features = torch.randn(2 + number, MICRO.text, generator=rng)
        save_text(TextFeatures(features), place / "texts" / f"{number}.safetensors")
    start = write_release(place, MICRO)[0]
    sources = {
        "k2n": {"base": write_varsr(place / "varsr.safetensors")},
        "nsarm": {"start": start, "texts": place / "texts"},
    }
    return {
        name: ({"model": name, **SHARED, **plain}, sources[name]) for name, plain in RUNS.items()
    }


@pytest.fixture(scope="module")
def place(runs, tmp_path_factory):
    """Every run by one process and by two, in the folders NAME_one and NAME_two."""
    place = tmp_path_factory.mktemp("sharded")
    pictures = torch.cat([models.picture(128, 128, seed=seed) for seed in range(3)])
    write_pictures(place / "pictures", pictures)
    two_processes(WORKER, place, json.dumps(runs, default=str))
    with one_thread():
        for name, (plain, paths) in runs.items():
            config = from_plain(TrainingConfig, plain, name)
            Training(config, place / f"{name}_one", [place / "pictures"], [], **paths).run()
    return place


def state(folder):
    (path,) = folder.glob("*/state.pt")
    return torch.load(path, weights_only=True)


def above_rounding(moments, steps):
    """Of which weights every step's gradient is, not only their mean; of one step or of two.

    Two moments of two gradients are a quadratic equation in the first one: both of its roots are.
    """
    slow, slower = LoopSettings(steps=steps).betas
    mean = moments["exp_avg"].double() / (1 - slow)
    if steps == 1:
        return mean.abs() > ROUNDING
    square = moments["exp_avg_sq"].double() / (1 - slower)
    both = slow**2 + slower
    root = ((slow * mean).square() - both * (mean.square() - square)).clamp(min=0).sqrt()
    firsts = torch.stack([(slow * mean + sign * root) / both for sign in (1, -1)])
    return (firsts.abs() > ROUNDING).all(0) & (mean.abs() > ROUNDING)


@each("name", tuple(RUNS))
def test_two_processes_end_like_one(place, name):
    one, two = (state(place / f"{name}_{count}") for count in ("one", "two"))
    assert two["step"] == STEPS[name]
    moments, found = (run["optimizer"]["state"] for run in (one, two))
    assert found.keys() == moments.keys()
    sure = []
    for number, of_one in moments.items():
        for moment, value in of_one.items():
            assert (found[number][moment] - value).abs().max() < 1e-6, moment
        sure.append(above_rounding(of_one, STEPS[name]))
    assert torch.cat([part.flatten() for part in sure]).float().mean() > 0.5
    for part in ("parameters", "average"):
        # The optimiser numbers matrices first.
        ours, theirs = (sorted(run[part], key=lambda p: p.ndim < 2) for run in (two, one))
        for ends, wanted, counts in zip(ours, theirs, sure, strict=True):
            assert (ends - wanted).where(counts, 0).abs().max() < 1e-6, part


@each("name", tuple(RUNS))
def test_losses_of_two_processes_are_those_of_one(place, name):
    one, two = (
        (next((place / f"{name}_{count}").glob("*/log.csv")).read_text().splitlines())
        for count in ("one", "two")
    )
    assert one[0] == two[0]
    assert len(one) == 1 + STEPS[name]
    for ours, theirs in zip(two[1:], one[1:], strict=True):
        numbers = [torch.tensor(list(map(float, row.split(",")))) for row in (ours, theirs)]
        torch.testing.assert_close(*numbers, rtol=1e-4, atol=1e-6)


def test_steps_have_changed_the_weights(place, runs):
    """By more than what is allowed between the two."""
    for name, (plain, paths) in runs.items():
        kind = trained_kind(name)
        model = kind.model(from_plain(TrainingConfig, plain, name), Sources(**paths))
        before = kind.checkpoint(model).tensors
        after = load_checkpoint([place / f"{name}_two" / MODEL_FILE]).tensors
        for weight in CHANGED[name]:
            moved = (after[weight].detach() - before[weight].detach()).abs()
            assert moved.max() > 2e-5, (name, weight)
