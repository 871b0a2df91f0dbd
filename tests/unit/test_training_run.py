"""The training command from folders of pictures to a file that restores."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from PIL import Image
from test_training_loop import SIZES

from varsr_core.checkpoint import load_checkpoint
from varsr_core.training.config import TrainingConfig
from varsr_core.training.loop import LoopSettings
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.upscale import upscale
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model

ROOT = Path(__file__).resolve().parent.parent.parent


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


def settings(steps):
    return LoopSettings(steps=steps, batch=3, learning_rate=1e-3, autocast=False)


def config(tokenizer=4, isr=4, **others):
    return TrainingConfig(sizes=SIZES, tokenizer=settings(tokenizer), isr=settings(isr), **others)


def losses(run, stage):
    with (run / stage / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_saved_model_loads_and_restores(folder, tmp_path):
    Training(config(), tmp_path / "run", [folder], []).run()
    checkpoint = load_checkpoint([tmp_path / "run" / MODEL_FILE])
    model = build_model(checkpoint.tensors)
    restored = upscale(models.picture(16, 12), 2.0, VARSRRestorer(model))
    assert restored.shape == (1, 3, 32, 24)
    assert restored.isfinite().all()


def test_run_broken_in_each_stage_ends_like_an_unbroken_one(folder, tmp_path):
    Training(config(), tmp_path / "whole", [folder], []).run()

    class Stopped(Exception):
        pass

    broken = tmp_path / "broken"
    for stage in ("tokenizer", "isr"):
        training = Training(config(), broken, [folder], [])
        original = training._loop

        def stopping(name, parts, stage_settings, stage=stage, original=original):
            loop = original(name, parts, stage_settings)
            if name == stage:
                run = loop.run

                def until_two(step, deadline):
                    run(step, until=2)
                    raise Stopped

                loop.run = until_two
            return loop

        training._loop = stopping
        with pytest.raises(Stopped):
            training.run()
    Training(config(), broken, [folder], []).run()
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


def test_two_processes_train_together(folder, tmp_path, config_file):
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    call += ["-m", "varsr_core.training", "--config", config_file, "--data", folder]
    call += ["--out", tmp_path / "run", "--device", "cpu"]
    done = subprocess.run([str(c) for c in call], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(losses(tmp_path / "run", "isr")) == 2
    load_checkpoint([tmp_path / "run" / MODEL_FILE])
