"""What is brought to a GPU elsewhere, and what is brought back."""

import csv
import dataclasses
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from helpers import models
from tools.nano import kit, on_card, teacher
from varsr_core.checkpoint import Checkpoint, fingerprint, save_checkpoint
from varsr_core.training.loop import LOG_FILE
from varsr_core.training.run import MODEL_FILE
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.model import VARSR


@pytest.fixture
def model_file(tmp_path):
    tensors = models.converted_weights(0)
    made = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(made, tmp_path / "m.safetensors", torch.float32, metadata={})
    return tmp_path / "m.safetensors"


def test_eight_bits_keep_weights_to_half_a_level():
    rows = torch.randn(6, 4, 3, 3) * torch.logspace(-3, 1, 6)[:, None, None, None]
    given = {"w": rows, "zero": torch.zeros(2, 2), "bias": torch.randn(6), "n": torch.tensor([3])}
    packed = kit.eight_bits(given)
    assert packed["w"].dtype == torch.int8
    found = kit.full(packed)
    assert found.keys() == given.keys()
    level = rows.flatten(1).abs().amax(dim=1) / 127
    assert ((found["w"] - rows).flatten(1).abs().amax(dim=1) <= 0.51 * level).all()
    assert all(torch.equal(found[name], given[name]) for name in ("zero", "bias", "n"))


def test_kit_brings_tokenizer_and_prefix_and_no_more(tmp_path, model_file, monkeypatch):
    small = [(torch.randn(2, 3, 3, 3), torch.randn(2)), (torch.randn(1, 2, 3, 3), torch.randn(1))]
    monkeypatch.setattr(kit, "load_teacher", lambda: teacher.Teacher(small))
    save_file({"net": torch.randn(3, 2, 3, 3)}, tmp_path / "features.safetensors")
    crops = tmp_path / "crops"
    crops.mkdir()
    (crops / "manifest.tsv").write_text("file\tpicture\n0.jpg\ta\n")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(crops / "0.jpg")
    place = tmp_path / "kit"
    kit.pack(crops, tmp_path / "features.safetensors", model_file, place, side=24, quality=90)
    assert Image.open(place / "crops/0.jpg").size == (24, 24)
    brought = kit.teacher_of(place).state_dict()
    torch.testing.assert_close(brought["convolutions.0.weight"], small[0][0], rtol=0, atol=0.02)
    assert not any(n.startswith("transformer") for n in load_file(place / "start.safetensors"))
    start, old = kit.start_of(place), models.micro_model(0)
    assert isinstance(start, VARSR)
    assert start.config == old.config
    picture = models.picture(old.config.tile_size, old.config.tile_size)
    with torch.no_grad():
        ours, theirs = start.encode_latent(picture), old.encode_latent(picture)
    assert (ours - theirs).square().mean() < 0.01 * theirs.square().mean()


def test_model_is_brought_back_in_parts_with_its_logs(tmp_path, model_file, monkeypatch):
    run, out = tmp_path / "run", tmp_path / "out"
    (run / "isr").mkdir(parents=True)
    out.mkdir()
    model_file.rename(run / MODEL_FILE)
    (run / "isr" / LOG_FILE).write_text("step,loss\n1,2\n")
    monkeypatch.setattr(on_card, "FILE_BYTES", 20_000)
    on_card.keep(run, out)
    parts = sorted(out.glob("model-*.safetensors"))
    assert len(parts) > 2
    whole = {name: tensor for part in parts for name, tensor in load_file(part).items()}
    wanted = load_file(run / MODEL_FILE)
    assert whole.keys() == wanted.keys()
    assert all(whole[name].to(t.dtype).allclose(t, atol=1e-2) for name, t in wanted.items())
    with zipfile.ZipFile(out / "logs.zip") as archive:
        assert list(csv.reader(archive.read("isr.csv").decode().splitlines()))[1] == ["1", "2"]


def test_sizes_are_as_recipes_hold_them():
    config = models.micro_model().config
    sizes = kit.plain_sizes(config)
    assert kit.config_from_json(sizes) == config
    assert sizes["tokenizer"] == dataclasses.asdict(config.tokenizer)
