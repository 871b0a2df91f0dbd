"""Modulation trained as layers: what is saved, how it is gone on with, and how it learns."""

import logging

import pytest
import torch
from PIL import Image

from helpers import models
from helpers.starts import micro_sizes, write_varsr
from helpers.training import SIZES, broken_off, losses, settings
from varsr_core.checkpoint import load_checkpoint, load_model
from varsr_core.errors import CheckpointError, InputError
from varsr_core.tiling.restorer import restore
from varsr_core.training.config import TrainingConfig
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.starting.modulation import (
    LAYERS_FILE,
    folded,
    folded_weights,
    has_layers,
    layers_of,
    use_layers,
)
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.training.starting.starts import started_model
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model

LAYER = "transformer.blocks.0.modulation.linear.weight"
TABLE = "transformer.blocks.0.modulation.weight"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pictures"
    place.mkdir()
    for seed in range(4):
        pixels = models.picture(16, 16, seed=seed)[0].permute(1, 2, 0).mul(255).round().byte()
        Image.fromarray(pixels.numpy()).save(place / f"{seed}.png")
    return place


def config(stages=("pretraining", "isr"), steps=4, **others):
    stages = {name: settings(steps, average=0.5) for name in stages}
    return TrainingConfig(**{"sizes": SIZES, "modulation": "layers", **stages, **others})


def trained(config, run, folder, start=None):
    training = Training(config, run, [folder], [], start)
    assert training.run()
    return training


def layered_micro(tmp_path):
    files, _ = write_varsr(tmp_path)
    return started_model(TrainingConfig(modulation="layers"), files)[0]


@torch.no_grad()
def test_folded_model_gives_what_the_layers_give(tmp_path):
    """A release, whose layers say other things of the two classes."""
    layered = layered_micro(tmp_path)
    plain = build_model(folded_weights(layered))
    assert has_layers(layered)
    assert not has_layers(plain)
    classes = torch.tensor([1, 0, 1])
    tables, layers = plain.transformer, layered.transformer
    assert not torch.equal(*tables.modulation(classes)[0, :2])
    torch.testing.assert_close(
        tables.modulation(classes), layers.modulation(classes), rtol=0, atol=1e-5
    )
    hidden = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        tables.logits(hidden, classes), layers.logits(hidden, classes), rtol=0, atol=1e-4
    )
    picture, seeds = models.picture(64, 64, images=2), models.own_seeds(2)
    restored = [restore(VARSRRestorer(model), picture, seeds) for model in (layered, plain)]
    torch.testing.assert_close(*restored, rtol=0, atol=1e-4)


def test_run_saves_a_model_that_loads_and_restores_as_what_was_trained(folder, tmp_path):
    training = trained(config(), tmp_path / "run", folder)
    assert has_layers(training.model), "still trained"
    path = tmp_path / "run" / MODEL_FILE
    loaded = load_model(path, device="cpu", dtype="fp32")
    weights = load_checkpoint([path]).tensors
    assert not layers_of(weights)
    assert weights[TABLE].shape == (2, 6 * 64)
    assert not torch.equal(*weights[TABLE])
    picture, seeds = models.picture(8, 8, images=2), models.own_seeds(2)
    with torch.no_grad():
        wanted = restore(VARSRRestorer(training.model), picture, seeds)
        torch.testing.assert_close(restore(loaded, picture, seeds), wanted, rtol=0, atol=1e-4)


def test_what_is_learned_of_one_class_moves_the_other_only_with_layers(folder, tmp_path):
    """The paper's dynamic: both classes go through the same matrix and bias."""
    moved = {}
    plain = settings(4, weight_decay=0.0)
    for kind in ("table", "layers"):
        chosen = TrainingConfig(sizes=SIZES, modulation=kind, pretraining=plain, negative_share=0.0)
        weights = trained(chosen, tmp_path / kind, folder).model.state_dict()
        before = new_model(config_from_json(SIZES), seed=0).state_dict()
        now = folded(weights) if kind == "layers" else weights
        moved[kind] = (now[TABLE] - before[TABLE]).abs().amax(dim=1) > 1e-6
    assert moved["table"].tolist() == [True, False]
    assert moved["layers"].tolist() == [True, True]


@pytest.mark.parametrize("broken", ["pretraining", "isr"])
def test_broken_run_goes_on_with_its_layers(folder, tmp_path, broken):
    trained(config(), tmp_path / "whole", folder)
    with broken_off(broken):
        trained(config(), tmp_path / "broken", folder)
    trained(config(), tmp_path / "broken", folder)
    for stage in ("pretraining", "isr"):
        assert losses(tmp_path / "broken", stage) == losses(tmp_path / "whole", stage)
    files = [tmp_path / name / MODEL_FILE for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_layers_outlast_stages_that_are_left_out_later(folder, tmp_path):
    """No stage's state holds them then."""
    before = trained(config(("isr",)), tmp_path / "run", folder).model.state_dict()
    after = trained(config(("decoder",), steps=1), tmp_path / "run", folder).model.state_dict()
    assert torch.equal(after[LAYER], before[LAYER])
    assert not torch.equal(after["decoder.conv_out.bias"], before["decoder.conv_out.bias"])


def test_another_run_takes_the_layers_beside_a_model_only_if_they_are_its_own(folder, tmp_path):
    first = trained(config(("isr",)), tmp_path / "first", folder)
    start = tmp_path / "first" / "isr" / MODEL_FILE
    model, listing = started_model(config(), [start])
    assert torch.equal(model.state_dict()[LAYER], first.model.state_dict()[LAYER])
    assert (listing.taken[LAYER], TABLE in listing.taken) == (6 * 64 * 64, False)
    trained(config(("isr",), steps=2), tmp_path / "other", folder)
    start.with_name(LAYERS_FILE).write_bytes((tmp_path / "other" / LAYERS_FILE).read_bytes())
    with pytest.raises(CheckpointError, match=r"modulation\.pt beside .* is of another model"):
        started_model(config(), [start])


def test_folded_model_is_tuned_as_a_table(folder, tmp_path):
    trained(config(("isr",)), tmp_path / "first", folder)
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((tmp_path / "first" / MODEL_FILE).read_bytes())
    tuned = trained(config(("isr",), modulation="table"), tmp_path / "tuned", folder, alone)
    assert not has_layers(tuned.model)
    assert not (tmp_path / "tuned" / LAYERS_FILE).exists()
    with pytest.raises(InputError, match=r"alone\.safetensors it is folded into a table, and no"):
        Training(config(), tmp_path / "refused", [folder], [], alone)


@pytest.mark.parametrize("first", ["table", "layers"])
def test_run_does_not_change_its_modulation_on_the_way(folder, tmp_path, first):
    other = "layers" if first == "table" else "table"
    chosen = config(("pretraining",), steps=1, modulation=first)
    trained(chosen, tmp_path / "run", folder)
    with pytest.raises(InputError, match=f"trains modulation as '{first}', .* asks for '{other}'"):
        Training(config(modulation=other), tmp_path / "run", [folder], [])


def test_unknown_modulation_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="modulation is 'folded'; known are 'table' and 'layers'"):
        Training(config(modulation="folded"), tmp_path / "run", [folder], [])


@pytest.mark.parametrize("content", [b"text", None])
def test_damaged_layers_are_named(folder, tmp_path, content):
    trained(config(("isr",), steps=1), tmp_path / "run", folder)
    path = tmp_path / "run" / LAYERS_FILE
    torch.save({"weight": torch.ones(1)}, path) if content is None else path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"modulation\.pt"):
        Training(config(), tmp_path / "run", [folder], [])


def test_layers_of_a_new_model_say_what_its_table_says():
    model, other = (new_model(config_from_json(SIZES), seed=3) for _ in range(2))
    state = torch.get_rng_state()
    use_layers(model)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn"
    both = torch.tensor([0, 1])
    assert torch.equal(model.transformer.modulation(both), other.transformer.modulation(both))


def test_layers_of_other_sizes_are_refused(tmp_path):
    layers = layers_of(layered_micro(tmp_path).state_dict())
    with pytest.raises(CheckpointError, match="layers of modulation do not fit the model"):
        use_layers(new_model(config_from_json(SIZES), seed=0), layers)


def test_the_log_says_how_modulation_is_trained(folder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        Training(config(), tmp_path / "run", [folder], [])
    assert "modulation: layers, folded into a table on saving" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        Training(config(sizes=micro_sizes(), modulation="table"), tmp_path / "b", [folder], [])
    assert "modulation: a table" in caplog.text
