"""Several processes train the model that one would: as replicas (DDP), and with FSDP2's shards.

Here two of them on the CPU, by gloo: what fully_shard does on GPUs it does there too, but for the
transport.
"""

import csv
import json

import pytest
import torch
from PIL import Image

from helpers import models
from helpers.processes import two_processes
from helpers.training import SIZES
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.errors import InputError
from varsr_core.training.config import TrainingConfig, from_plain
from varsr_core.training.loop import Loop
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.training.steps import processes
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.weights import sized_weights

KINDS = ("replicas", "shards")
RUNS = ("replicas_whole", "shards_whole", "shards_then_one", "one_then_shards")
STEPS, BROKEN = 4, 2
STAGE = {"batch": 5, "learning_rate": 1e-3, "average": 0.9, "precision": "fp32", "accumulate": 2}
CONFIG = {
    "sizes": SIZES,
    "drop_path": 0.3,
    "checkpointing": True,
    "isr_losses": {"sampling": {"share": 0.3, "near": 4}},
    "samples_every": 3,
    "data": {"order": "global"},
    "isr": {"steps": STEPS, **STAGE},
}

WORKER = f"""
import json, sys
from pathlib import Path
import torch
from torch import distributed
from varsr_core.training import run
from varsr_core.training.config import TrainingConfig, from_plain
from varsr_core.training.loop import Loop

place, plain = Path(sys.argv[1]), json.loads(sys.argv[2])
torch.set_num_threads(1)
distributed.init_process_group("gloo")

class Stopped(Exception):
    pass

def train(kind, folder, until=None):
    config = from_plain(TrainingConfig, {{**plain, "parallel": kind}}, "test")
    data, start = [place / "pictures"], place / "start.safetensors"
    training = run.Training(config, place / folder, data, [], start)
    original = Loop.run
    def stopping(loop, step, **given):
        done = original(loop, step, until=until, **given)
        if until is not None:
            raise Stopped
        return done
    Loop.run = stopping
    try:
        training.run()
    except Stopped:
        pass
    finally:
        Loop.run = original
    distributed.barrier()
    return training

for kind in {KINDS!r}:
    trained = train(kind, f"{{kind}}_whole")
    (place / f"{{kind}}_{{distributed.get_rank()}}.json").write_text(json.dumps(
        {{name: float(p.double().sum()) for name, p in trained.model.named_parameters()}}))
train("shards", "shards_then_one", until={BROKEN})
train("shards", "one_then_shards")
distributed.destroy_process_group()
"""


def run_one(place, folder, until=None):
    """The same run in this process, or its first steps."""
    config = from_plain(TrainingConfig, CONFIG, "test")
    training = Training(config, folder, [place / "pictures"], [], place / "start.safetensors")
    if until is None:
        assert training.run()
        return
    original, patch = Loop.run, pytest.MonkeyPatch()

    class Stopped(Exception):
        pass

    def stopping(loop, step, **given):
        original(loop, step, until=until)
        raise Stopped

    with patch.context() as patched:
        patched.setattr(Loop, "run", stopping)
        with pytest.raises(Stopped):
            training.run()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of one process, of two, and of one after the other, by the names of their folders."""
    place = tmp_path_factory.mktemp("processes")
    (place / "pictures").mkdir()
    for seed in range(7):
        pixels = models.picture(16, 20, seed=seed)[0].permute(1, 2, 0).mul(255).round().byte()
        Image.fromarray(pixels.numpy()).save(place / "pictures" / f"{seed}.png")
    model = new_model(config_from_json(SIZES), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # a new model's gradients are mostly 0, of which Adam makes noise
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    tensors = sized_weights(model)
    start = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(start, place / "start.safetensors", torch.float32, metadata={})
    run_one(place, place / "one_then_shards", until=BROKEN)
    two_processes(WORKER, place, json.dumps(CONFIG))
    run_one(place, place / "one")
    run_one(place, place / "shards_then_one")
    return place


def state(folder):
    return torch.load(folder / "isr" / "state.pt", weights_only=True)


def log(folder):
    with (folder / "isr" / "log.csv").open() as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


@pytest.mark.parametrize("run", RUNS)
def test_any_number_of_processes_ends_like_one(place, run):
    """Also where a run goes on with another number of them."""
    one, folder = state(place / "one"), place / run
    many = state(folder)
    assert many["step"] == STEPS
    for name in ("parameters", "average"):
        for ours, theirs in zip(many[name], one[name], strict=True):
            assert (ours - theirs).abs().max() < 1e-5
    for number, moments in one["optimizer"]["state"].items():
        for name, value in moments.items():
            assert many["optimizer"]["state"][number][name].allclose(value, atol=1e-5), name
    assert torch.tensor(log(folder)).allclose(torch.tensor(log(place / "one")), rtol=1e-4)
    weights, wanted = (load_checkpoint([f / MODEL_FILE]).tensors for f in (folder, place / "one"))
    assert all((weights[name].float() - wanted[name]).abs().max() < 1e-5 for name in wanted)


def test_steps_have_changed_the_weights(place):
    start = load_checkpoint([place / "start.safetensors"]).tensors
    trained = load_checkpoint([place / "one" / MODEL_FILE]).tensors
    moved = (trained["transformer.head.weight"] - start["transformer.head.weight"]).abs()
    assert moved.median() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_all_processes_have_the_whole_model_in_the_end(place, kind):
    """For the stages that follow."""
    first, second = (json.loads((place / f"{kind}_{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    trained = load_checkpoint([place / f"{kind}_whole" / MODEL_FILE]).tensors
    assert first["word_embed.weight"] == pytest.approx(
        trained["word_embed.weight"].double().sum().item()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_sample_pictures_are_those_of_one_process(place, kind):
    """Of the samples that the first process has, two of five."""
    name = "sample_0000000.png"
    with (
        Image.open(place / f"{kind}_whole" / name) as found,
        Image.open(place / "one" / name) as one,
    ):
        assert found.height == one.height // 2
        assert found.tobytes() == one.crop((0, 0, *found.size)).tobytes()
    assert (place / f"{kind}_whole" / "sample_0000003.png").is_file()


def test_batch_smaller_than_the_processes_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "place", lambda: (0, 8))
    with pytest.raises(InputError, match="batch of 5 cannot be shared by 8"):
        processes.own_share(5)


def test_shares_of_processes_make_the_batch(monkeypatch):
    for count in (8, 9, 17):
        samples = []
        for rank in range(8):
            monkeypatch.setattr(processes, "place", lambda rank=rank: (rank, 8))
            share = processes.own_share(count)
            assert len(share) in (count // 8, count // 8 + 1)
            samples += share
        assert samples == list(range(count))
