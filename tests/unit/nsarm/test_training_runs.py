"""Runs that train NSARM: from a release to a file for its nodes, broken off and gone on with."""

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.k2n_training import write_pictures
from helpers.training import broken_off
from tools.random_nsarm import MICRO, write_release
from varsr_core.checkpoint import load_checkpoint
from varsr_core.errors import InputError
from varsr_core.nsarm.family import NSARM_FAMILY
from varsr_core.nsarm.results import TextFeatures
from varsr_core.nsarm.text_files import save_text
from varsr_core.training.config import TrainingConfig
from varsr_core.training.run import MODEL_FILE, Training

STAGE = {"nsarm_maps": "maps", "nsarm": "bits"}
CHANGES = {"nsarm_maps": {"maps"}, "nsarm": {"maps", "transformer"}}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("release"), MICRO)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pictures = torch.cat([models.picture(128, 128, seed=seed) for seed in range(3)])
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures", pictures)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    place = tmp_path_factory.mktemp("texts")
    for number in range(3):
        rng = torch.Generator().manual_seed(number)
        features = torch.randn(2 + number, MICRO.text, generator=rng)
        save_text(TextFeatures(features), place / f"{number}.safetensors")
    return place


def config(name, steps=3):
    stage = {"steps": steps, "batch": 2, "learning_rate": 1e-3, "autocast": False}
    return TrainingConfig(model=name, model_settings={STAGE[name]: stage})


@each("name", tuple(STAGE))
def test_a_run_broken_in_two_ends_like_an_unbroken_one(name, release, folder, texts, tmp_path):
    given = {"texts": texts} if name == "nsarm" else {}
    Training(config(name), tmp_path / "whole", [folder], [], release, **given).run()
    with broken_off():
        Training(config(name), tmp_path / "broken", [folder], [], release, **given).run()
    Training(config(name), tmp_path / "broken", [folder], [], **given).run()
    for file in (MODEL_FILE, f"{STAGE[name]}/log.csv"):
        whole, broken = ((tmp_path / run / file).read_bytes() for run in ("whole", "broken"))
        assert whole.splitlines() == broken.splitlines(), file
    before = load_checkpoint(NSARM_FAMILY.files(release)).tensors
    after = load_checkpoint([tmp_path / "whole" / MODEL_FILE], NSARM_FAMILY).tensors
    changed = {n for n in after if not torch.equal(before[n].detach(), after[n].detach())}
    assert {name.split(".")[0] for name in changed} == CHANGES[name]


def test_a_picture_without_its_text_stops_the_run_and_is_named(release, folder, texts, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "0.safetensors").write_bytes((texts / "0.safetensors").read_bytes())
    training = Training(
        config("nsarm"), tmp_path / "run", [folder], [], release, texts=tmp_path / "some"
    )
    with pytest.raises(InputError, match=r"2 of 3 pictures have no text: for 1\.png"):
        training.run()


def test_texts_are_not_for_the_map_network(release, folder, texts, tmp_path):
    with pytest.raises(InputError, match="texts"):
        Training(config("nsarm_maps"), tmp_path / "run", [folder], [], release, texts=texts)
