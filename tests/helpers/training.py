"""Training runs of seconds: sizes of a model, settings, and what came out of a run."""

from __future__ import annotations

import csv
import math
from contextlib import contextmanager

import pytest
import torch

from helpers import models
from varsr_core.checkpoint import load_checkpoint
from varsr_core.training.loop import Loop, LoopSettings
from varsr_core.training.run import MODEL_FILE
from varsr_core.varsr.weights import build_model

SIZES = {
    "tokenizer": {
        "widths": [32, 32],
        "encoder_blocks": 1,
        "decoder_blocks": 1,
        "attention_levels": [],
        "latent_channels": 8,
        "codebook_size": 64,
        "phi_count": 4,
    },
    "transformer": {
        "width": 64,
        "depth": 2,
        "heads": 4,
        "mlp_width": 128,
        "prefix_widths": [16, 32],
        "num_classes": 2,
    },
    "refiner": {"width": 64, "depth": 2, "frequencies": 32},
    "schedule": [1, 2, 3, 4],
}


class Stopped(Exception):
    """A run was broken off."""


@contextmanager
def broken_off(stage=None, steps=2):
    """A context whose run is to be broken off after some steps of a stage; None: of the first."""
    original = Loop.run

    def stopping(loop, step, **given):
        if stage not in (None, loop.folder.name):
            return original(loop, step, **given)
        original(loop, step, until=steps)
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "run", stopping)
        with pytest.raises(Stopped):
            yield


def settings(steps, **others):
    others = {"batch": 3, "learning_rate": 1e-3, "autocast": False, **others}
    return LoopSettings(steps=steps, **others)


def trained(run):
    return build_model(load_checkpoint([run / MODEL_FILE]).tensors)


def pictures():
    """Not of the folder."""
    return torch.cat([models.picture(8, 8, seed=seed) for seed in range(20, 40)])


def losses(run, stage):
    with (run / stage / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@torch.no_grad()
def decibels(model, pictures):
    """Of what encoder and decoder make of pictures, without tokens."""
    decoded = model.decode(model.encode_latent(pictures))
    return -10 * math.log10((decoded - pictures).square().mean())
