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
from tools.nano import begin
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.training.closed_form import Starts
from varsr_core.training.closed_form.restorer import restorer_fits
from varsr_core.training.config import TrainingConfig, read_config
from varsr_core.training.run import MODEL_FILE, RESIZED_FILE, Training
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.training import kind as trained
from varsr_core.varsr.weights import build_model, sized_weights

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


def sizes_of(model):
    parts = ("tokenizer", "transformer", "refiner")
    sizes = {name: dataclasses.asdict(getattr(model.config, name)) for name in parts}
    return {**sizes, "schedule": model.config.schedule.sides}


@pytest.mark.parametrize("deep", [0, 1])
def test_what_a_run_has_learned_is_gone_on_with_elsewhere(tool, tmp_path, deep):
    before = saved(tmp_path / "model.safetensors", 1)
    sizes = sizes_of(build_model(before))
    sizes["transformer"]["deep_prefix"] = deep
    model = new_model(config_from_json(sizes), 5)
    taken = {name: t for name, t in before.items() if name.startswith(begin.KEPT)}
    model.load_state_dict(taken, strict=False)
    model.decoder.conv_out.bias.data += 1
    tensors = sized_weights(model)
    made = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    (tmp_path / "run").mkdir()
    save_checkpoint(made, tmp_path / "run" / MODEL_FILE, torch.float32, metadata={})
    state = tmp_path / "state.safetensors"
    tool.keep(tmp_path / "run", tmp_path / "model.safetensors", state)
    learned = {name for name in tensors if name.startswith("prefix_encoder.deep.")}
    assert load_file(state).keys() == learned | {"decoder.conv_out.bias"}
    assert bool(learned) == bool(deep)
    given = (state, tmp_path / "model.safetensors", tmp_path / "other", TrainingConfig(sizes=sizes))
    tool.go_on(*given)
    assert (tmp_path / "other" / RESIZED_FILE).exists()
    found = load_checkpoint([tmp_path / "other" / MODEL_FILE]).tensors
    assert found.keys() == tensors.keys()
    for name in (name for name in tensors if name.startswith(begin.KEPT)):
        torch.testing.assert_close(found[name], tensors[name], rtol=1e-3, atol=1e-3)
    with pytest.raises(FileExistsError):
        tool.go_on(*given)


def test_next_leg_keeps_the_embedded_tokenizer_and_deepens_the_prefix():
    nano, further = read_config(Path("nano")), read_config(TOOLS / "nano" / "next.json")
    for part in ("tokenizer", "refiner", "schedule"):
        assert further.sizes[part] == nano.sizes[part]
    assert further.degradation == nano.degradation
    assert further.tokenizer is further.prefix is further.decoder is None
    assert further.isr.learning_rate == 0, "what was solved for stays"
    model = new_model(config_from_json(further.sizes), 0)
    assert restorer_fits(model.config), "there is something to solve for"
    halves = sum(tensor.numel() for tensor in model.state_dict().values()) * 2
    assert model.config.transformer.deep_prefix > 0
    assert halves < 30e6, "bytes of the file that comes with the pack"


def test_run_begins_with_a_tokenizer_of_other_sizes(tool, tmp_path, monkeypatch):
    old = build_model(models.converted_weights(3))
    sizes = sizes_of(old)
    sizes["tokenizer"] |= {"latent_channels": 3, "codebook_size": 40}
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
