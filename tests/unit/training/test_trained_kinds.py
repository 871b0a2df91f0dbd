"""What a run trains is told by the descriptors of the kinds of models, and by them alone."""

import dataclasses
import json
import sys

import pytest
import torch

from helpers import models
from helpers.k2n_training import SIZES, tiles, write_pictures, write_varsr
from helpers.shards import write_shards
from helpers.training import SIZES as VARSR_SIZES
from helpers.training import settings
from varsr_core.checkpoint import ADDITIONS, FAMILIES, load_checkpoint
from varsr_core.errors import InputError
from varsr_core.images.resize import resize
from varsr_core.training import __main__ as command
from varsr_core.training.config import TrainingConfig
from varsr_core.training.data.loading import TrainingData
from varsr_core.training.data.small_pairs import SmallPairFolder, small_pairs
from varsr_core.training.loop import LoopSettings
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.stage_table import STAGES
from varsr_core.training.trained_kind import TrainedKind, trainable, trained_kind

CPU = torch.device("cpu")


def test_every_descriptors_models_can_be_trained():
    names = {n for kind in (*FAMILIES.values(), *ADDITIONS) for n in kind.training}
    assert names == set(trainable())
    for name in names:
        kind = trained_kind(name)
        assert isinstance(kind, TrainedKind)
        stages = [stage.name for stage in kind.stages]
        assert len(stages) == len(set(stages))
        known = {field.name for field in dataclasses.fields(kind.own or TrainingConfig)}
        assert set(stages) <= known, "each stage has its settings"
    assert trained_kind(TrainingConfig().model).stages is STAGES


def test_a_model_that_nothing_trains_is_told_with_those_that_are():
    with pytest.raises(InputError, match=r"'dit'; .*k2n.*varsr"):
        trained_kind("dit")


def test_varsr_takes_neither_settings_of_others_nor_their_files(tmp_path):
    wrong = TrainingConfig(sizes=VARSR_SIZES, model_settings={"maps": {"steps": 3}})
    with pytest.raises(InputError, match="model_settings has maps"):
        Training(wrong, tmp_path / "run", [tmp_path], [])
    with pytest.raises(InputError, match="--base"):
        Training(TrainingConfig(sizes=VARSR_SIZES), tmp_path / "run", [], [], base=tmp_path)
    assert not (tmp_path / "run").exists()


def test_the_command_trains_another_model(tmp_path, monkeypatch):
    stage = {"steps": 1, "batch": 1, "autocast": False}
    values = {"model": "k2n", "sizes": SIZES, "model_settings": {"maps": stage}}
    (tmp_path / "k2n_run.json").write_text(json.dumps(values))
    base = write_varsr(tmp_path / "varsr.safetensors")
    pictures = write_pictures(tmp_path / "pictures", tiles()[:1])
    call = ["training", "--config", tmp_path / "k2n_run.json", "--data", pictures]
    call += ["--out", tmp_path / "run", "--device", "cpu", "--base", base]
    monkeypatch.setattr(sys, "argv", [str(part) for part in call])
    assert command.main() == 0
    assert load_checkpoint([tmp_path / "run" / MODEL_FILE]).family.name == "k2n"


def data(folder, paired=None, **others):
    chosen = TrainingConfig(**others)
    return TrainingData([folder], [], 32, chosen, CPU, paired)


@pytest.fixture
def folder(tmp_path):
    pictures = torch.cat([models.picture(48, 48, seed=seed) for seed in range(4)])
    return write_pictures(tmp_path / "pictures", pictures)


def test_small_pairs_are_what_restoring_pairs_are_before_they_are_enlarged(folder):
    chosen = settings(1, batch=4)
    small = next(small_pairs(data(folder), chosen, 0))
    large = next(data(folder).good_pairs(chosen, 0))
    assert small.lq.shape == (4, 3, 8, 8)
    assert torch.equal(small.target, large.target)
    levels = small.lq * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    shrunk = resize(large.lq, 8, 8)
    assert (shrunk - small.lq).abs().mean() < 0.05
    assert not torch.equal(shrunk, small.lq)
    names = {path.name for path in small.files}
    assert names == {"0.png", "1.png", "2.png", "3.png"}


def test_small_pairs_go_on_where_a_run_was_broken_off(folder):
    chosen = LoopSettings(steps=1, batch=3)
    whole = small_pairs(data(folder), chosen, 0)
    wanted = [next(whole) for _ in range(3)][2]
    found = next(small_pairs(data(folder, workers=1), chosen, 2))
    assert torch.equal(found.lq, wanted.lq)
    assert torch.equal(found.target, wanted.target)
    assert found.files == wanted.files


def test_small_pairs_of_files_have_the_files_own_size(tmp_path, folder):
    targets = torch.cat([models.picture(48, 48, seed=seed) for seed in range(4)])
    low = write_pictures(tmp_path / "low", resize(targets, 12, 12))
    found = next(small_pairs(data(folder, (low, folder)), settings(1, batch=4), 0))
    assert found.lq.shape == (4, 3, 8, 8)
    assert found.target.shape == (4, 3, 32, 32)
    assert all(path.parent == folder for path in found.files)
    # The enlarged crop shrunk again is nearly the crop.
    assert (found.lq - resize(found.target, 8, 8)).abs().mean() < 0.06


def test_a_picture_that_stands_in_for_another_has_no_file(folder):
    """Nor the text of that one."""
    dataset = SmallPairFolder(data(folder).folder(good=True))
    assert [dataset[0, 0, index].number for index in range(4)] == [0, 1, 2, 3]
    (folder / "1.png").write_bytes(b"")  # after its size was read
    again = [dataset[0, 0, index] for index in range(4)]
    assert [sample.number for sample in again] == [0, -1, 2, 3]
    assert again[1].target.isfinite().all()


def test_small_pairs_of_tar_files_are_refused(tmp_path):
    (shard,) = write_shards(tmp_path, [2])
    with pytest.raises(InputError, match="tar files are given; unpack them"):
        next(small_pairs(data(shard), settings(1, batch=4), 0))
