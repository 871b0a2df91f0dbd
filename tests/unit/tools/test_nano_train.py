"""What is shipped of a run: its model, moved along two ways."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from helpers import models
from helpers.paths import TOOLS
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.training.closed_form import Starts
from varsr_core.training.config import TrainingConfig, read_config
from varsr_core.training.run import MODEL_FILE, RESIZED_FILE, Training
from varsr_core.training.starting.new_model import config_from_json
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.training import kind as trained
from varsr_core.varsr.weights import build_model

TOOL = TOOLS / "nano" / "train.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("nano_train", TOOL)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def saved(path, seed):
    tensors = models.converted_weights(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {}),
        path,
        torch.float32,
        metadata={},
    )
    return tensors


@pytest.mark.parametrize(("distance", "share"), [(1.0, 1.0), (0.25, 1.0), (1.0, 0.0), (0.5, -0.5)])
def test_classes_and_decoder_go_their_share_of_the_way(tool, tmp_path, distance, share):
    before = saved(tmp_path / "run" / "isr" / MODEL_FILE, 1)
    after = saved(tmp_path / "run" / MODEL_FILE, 2)
    tool.ship(tmp_path / "run", tmp_path / "out" / "model.safetensors", distance, share)
    shipped = load_checkpoint([tmp_path / "out" / "model.safetensors"]).tensors
    assert shipped.keys() == after.keys()
    moved = set()
    for name, tensor in shipped.items():
        wanted = after[name]
        if name.startswith(("decoder.", "post_quantizer.")):
            wanted = before[name] + share * (after[name] - before[name])
            moved.add(name.split(".")[0])
        elif name.startswith("transformer.") and name.endswith(tool.CLASS_TABLES):
            good, bad = after[name]
            wanted = torch.stack((good, good + distance * (bad - good)))
            moved.add(name.rsplit(".", 2)[1])
        torch.testing.assert_close(tensor.float(), wanted.float(), rtol=2e-3, atol=2e-3)
    assert moved >= {
        "decoder",
        "post_quantizer",
        "class_embedding",
        "modulation",
        "head_modulation",
    }


def test_what_a_run_has_learned_is_gone_on_with_elsewhere(tool, tmp_path):
    before = saved(tmp_path / "model.safetensors", 1)
    learned = {name: t + 1 for name, t in before.items() if name.startswith("decoder.")}
    tensors = before | learned
    made = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    (tmp_path / "run").mkdir()
    save_checkpoint(made, tmp_path / "run" / MODEL_FILE, torch.float32, metadata={})
    state = tmp_path / "state.safetensors"
    tool.keep(tmp_path / "run", tmp_path / "model.safetensors", state)
    assert load_file(state).keys() == learned.keys()
    tool.go_on(state, tmp_path / "model.safetensors", tmp_path / "other")
    assert (tmp_path / "other" / RESIZED_FILE).exists()
    found = load_checkpoint([tmp_path / "other" / MODEL_FILE]).tensors
    assert found.keys() == tensors.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, tensors[name], rtol=1e-3, atol=1e-3)
    with pytest.raises(FileExistsError):
        tool.go_on(state, tmp_path / "model.safetensors", tmp_path / "other")


def test_next_leg_trains_the_embedded_sizes_and_nothing_of_the_tokenizer():
    nano, further = read_config(Path("nano")), read_config(TOOLS / "nano" / "next.json")
    assert further.sizes == nano.sizes
    assert further.degradation == nano.degradation
    assert further.isr is not None
    assert further.unseen == 1.0
    assert further.tokenizer is further.prefix is further.sight is further.decoder is None


def test_run_begins_with_a_tokenizer_of_other_sizes(tool, tmp_path, monkeypatch):
    old = build_model(models.converted_weights(3))
    parts = ("tokenizer", "transformer", "refiner")
    sizes = {name: dataclasses.asdict(getattr(old.config, name)) for name in parts}
    sizes["tokenizer"] |= {"latent_channels": 3, "codebook_size": 40}
    sizes["schedule"] = old.config.schedule.sides
    for seed in range(3):
        pixels = models.picture(64, 64, seed=seed)[0].permute(1, 2, 0).mul(255).byte()
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{seed}.png")
    config = TrainingConfig(sizes=sizes)
    tool.resize(old, tmp_path / "run", config, [tmp_path])
    new = build_model(load_checkpoint([tmp_path / "run" / MODEL_FILE]).tensors)
    assert new.config == config_from_json(sizes)
    for ours, theirs in ((new.encoder.down, old.encoder.down), (new.decoder.up, old.decoder.up)):
        assert all(
            torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
        )
    with pytest.raises(FileExistsError):
        tool.resize(old, tmp_path / "run", config, [tmp_path])
    monkeypatch.setattr(trained, "closed_form_starts", lambda _: Starts(print, print, print))
    starts = Training(config, tmp_path / "run", [tmp_path], []).context.starts
    assert starts.tokenizer is None
    assert starts.prefix is None, "both are given"
    assert starts.restorer is print
