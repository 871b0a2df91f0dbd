"""The training command from folders of pictures to a file that restores."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import models
from helpers.paths import ROOT
from helpers.training import SIZES, broken_off, decibels, losses, pictures, settings, trained
from varsr_core.checkpoint import load_checkpoint
from varsr_core.training import closed_form
from varsr_core.training.closed_form.tokenizer import tokenizer_fits
from varsr_core.training.config import TrainingConfig
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.starting.new_model import config_from_json
from varsr_core.upscaling import upscale
from varsr_core.varsr.restorer import VARSRRestorer

# With a tokenizer that starts from solved weights.
FITTING = {**SIZES, "tokenizer": {**SIZES["tokenizer"], "widths": [16, 48], "norm_groups": 4}}


@pytest.fixture
def folder(tmp_path):
    """Six pictures of 48 by 40."""
    place = tmp_path / "pictures"
    place.mkdir()
    for seed in range(6):
        picture = models.picture(40, 48, seed=seed)[0].permute(1, 2, 0)
        pixels = (picture * 255).round().byte().numpy()
        Image.fromarray(pixels).save(place / f"{seed}.png")
    return place


def config(tokenizer=4, isr=4, sizes=SIZES, **others):
    return TrainingConfig(sizes=sizes, tokenizer=settings(tokenizer), isr=settings(isr), **others)


@pytest.mark.parametrize("sizes", [SIZES, FITTING])
def test_saved_model_loads_and_restores(folder, tmp_path, sizes):
    Training(config(sizes=sizes), tmp_path / "run", [folder], []).run()
    model = trained(tmp_path / "run")
    assert model.config == config_from_json(sizes), "also what the weights do not tell"
    restored = upscale(models.picture(16, 12), 2.0, VARSRRestorer(model))
    assert restored.shape == (1, 3, 32, 24)
    assert restored.isfinite().all()


@pytest.mark.parametrize("sizes", [SIZES, FITTING])
def test_run_broken_in_each_stage_ends_like_an_unbroken_one(folder, tmp_path, sizes):
    chosen = config(sizes=sizes, zoom=0.5)
    Training(chosen, tmp_path / "whole", [folder], []).run()

    broken = tmp_path / "broken"
    for stage in ("tokenizer", "isr"):
        with broken_off(stage):
            Training(chosen, broken, [folder], []).run()
    Training(chosen, broken, [folder], []).run()
    for stage in ("tokenizer", "isr"):
        assert losses(broken, stage) == losses(tmp_path / "whole", stage)
    assert (broken / MODEL_FILE).read_bytes() == (tmp_path / "whole" / MODEL_FILE).read_bytes()


def test_deadline_saves_and_stops_between_steps(folder, tmp_path):
    run = tmp_path / "run"
    assert not Training(config(), run, [folder], []).run(deadline=0.0)
    assert not (run / "tokenizer" / "log.csv").exists()
    assert not (run / "isr").exists()
    assert Training(config(), run, [folder], []).run()
    assert len(losses(run, "isr")) == 4


def test_crops_are_shrunk_as_configured(folder, tmp_path):
    training = Training(config(zoom=0.5), tmp_path / "run", [folder], [])
    assert training.context.data.folder().zoom == 0.5


@pytest.fixture
def solved(monkeypatch):
    """How often a tokenizer's first weights were solved for."""
    calls = []

    def spy(*given):
        calls.append(1)
        return linear_start(*given)

    linear_start = closed_form.linear_start
    monkeypatch.setattr(closed_form, "linear_start", spy)
    return calls


def test_only_a_new_model_with_room_starts_from_solved_weights(folder, tmp_path, solved):
    only = {"tokenizer": settings(2)}
    assert tokenizer_fits(config_from_json(FITTING).tokenizer)
    assert not tokenizer_fits(config_from_json(SIZES).tokenizer)
    Training(TrainingConfig(sizes=SIZES, **only), tmp_path / "none", [folder], []).run()
    assert len(solved) == 0
    new = TrainingConfig(sizes=FITTING, **only)
    Training(new, tmp_path / "new", [folder], []).run()
    assert len(solved) == 1
    Training(new, tmp_path / "new", [folder], []).run()  # goes on
    start = tmp_path / "new" / MODEL_FILE
    Training(new, tmp_path / "tuned", [folder], [], start).run()
    assert len(solved) == 1


def test_a_run_without_a_tokenizer_stage_solves_nothing(folder, tmp_path, solved):
    restoring = TrainingConfig(sizes=FITTING, isr=settings(1))
    Training(restoring, tmp_path / "run", [folder], []).run()
    assert not solved


@pytest.mark.parametrize("average", [0.0, 0.995])
def test_a_tokenizer_reconstructs_after_few_steps(folder, tmp_path, average):
    """The averaged weights too, which are those that are saved."""
    found = []
    for name, sizes in (("drawn", SIZES), ("solved", FITTING)):
        tokenizer = settings(10, average=average, learning_rate=1e-4)
        chosen = TrainingConfig(sizes=sizes, tokenizer=tokenizer)
        Training(chosen, tmp_path / name, [folder], []).run()
        found.append(decibels(trained(tmp_path / name), pictures()))
    assert found[0] < 16
    assert found[1] > 20


def test_restoring_leaves_the_tokenizer_as_it_is(folder, tmp_path):
    only_tokenizer = TrainingConfig(sizes=SIZES, tokenizer=settings(2))
    Training(only_tokenizer, tmp_path / "run", [folder], []).run()
    before = load_checkpoint([tmp_path / "run" / MODEL_FILE]).tensors
    before = {name: tensor.clone() for name, tensor in before.items()}
    Training(config(tokenizer=2), tmp_path / "run", [folder], []).run()
    after = load_checkpoint([tmp_path / "run" / MODEL_FILE]).tensors
    tokenizer = ("encoder", "decoder", "quantizer", "pre_quantizer", "post_quantizer")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(tokenizer)} <= same
    assert not any(name.startswith("transformer.blocks.0.qkv") for name in same)


def test_sample_pictures_show_input_unrefined_refined_and_target(folder, tmp_path):
    Training(config(isr=1), tmp_path / "run", [folder], []).run()
    sheet = np.asarray(Image.open(tmp_path / "run" / "sample_0000000.png"))
    assert sheet.shape == (3 * 8, 4 * 8, 3)


def test_pretraining_never_shows_a_low_quality_picture(folder, tmp_path):
    seen = []
    training = Training(
        TrainingConfig(sizes=SIZES, pretraining=settings(2)), tmp_path / "run", [folder], []
    )
    encode = training.model.prefix_encoder.forward
    training.model.prefix_encoder.forward = lambda lq: seen.append(lq) or encode(lq)
    training.run()
    seen = [lq for lq in seen if not lq.is_meta]  # not those that memory was counted with
    assert seen
    assert all((lq == 0).all() for lq in seen), "the prefix of grey is 0 in [-1, 1]"


def command(folder, out, config_file, *more):
    call = [sys.executable, "-m", "varsr_core.training", "--config", config_file]
    call += ["--data", folder, "--out", out, "--device", "cpu", *more]
    return subprocess.run([str(c) for c in call], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "run.json"
    stage = {"steps": 2, "batch": 2}  # in bf16 where it can be, as by default
    path.write_text(json.dumps({"sizes": SIZES, "tokenizer": stage, "isr": stage}))
    return path


def test_command_trains_and_fine_tunes(folder, tmp_path, config_file):
    done = command(folder, tmp_path / "run", config_file)
    assert done.returncode == 0, done.stderr
    first = tmp_path / "run" / MODEL_FILE
    done = command(folder, tmp_path / "tuned", config_file, "--start", first)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tuned" / MODEL_FILE).is_file()


def test_command_names_what_is_wrong(tmp_path, config_file):
    done = command(tmp_path / "nowhere", tmp_path / "run", config_file)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


TWICE = """
import hashlib, sys
from pathlib import Path
from varsr_core.training import __main__ as command, run

class Watched(run.Training):
    def _train(self, stage, *given):  # the next stage begins by making the models equal
        done = super()._train(stage, *given)
        if stage.name != "tokenizer":
            return done
        digest = hashlib.blake2b()
        for tensor in self.model.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        rank = run.distributed.get_rank()
        (self.folder / f"weights_{rank}").write_text(digest.hexdigest())
        return done

command.Training = Watched
sys.exit(command.main())
"""


def test_two_processes_train_one_model(folder, tmp_path):
    """From solved weights, though each sees other pictures."""
    stage = {"steps": 2, "batch": 2}
    values = {"sizes": FITTING, "tokenizer": stage, "isr": stage}
    (tmp_path / "run.json").write_text(json.dumps(values))
    (tmp_path / "twice.py").write_text(TWICE)
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    call += [tmp_path / "twice.py", "--config", tmp_path / "run.json", "--data", folder]
    call += ["--out", tmp_path / "run", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(c) for c in call], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(losses(tmp_path / "run", "isr")) == 2
    load_checkpoint([tmp_path / "run" / MODEL_FILE])
    first, second = ((tmp_path / "run" / f"weights_{rank}").read_text() for rank in (0, 1))
    assert first == second
