"""A deep prefix out of the teacher's blocks."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from helpers import models
from helpers.deep_sizes import deep_sizes
from tools.nano import begin
from tools.nano.deep_start import deep_start, tiles
from tools.nano.teacher import Teacher
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.images.resize import resize
from varsr_core.training.config import TrainingConfig
from varsr_core.training.run import MODEL_FILE, RESIZED_FILE
from varsr_core.training.stages.prefix import estimate_error, estimated_latent
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.weights import build_model, sized_weights

NUMBERS = [2, 20]


@pytest.fixture(scope="module")
def teacher():
    """Of the real one's layout and width, its weights drawn; few of its blocks are looked at."""
    generator = torch.Generator().manual_seed(0)
    dense = [(64 + 32 * i, 32) for i in range(4)] + [(192, 64)]
    shapes = [(3, 64), *dense * (3 * 23), *[(64, 64)] * 4, (64, 3)]
    return Teacher(
        [
            (
                0.5 * torch.randn(wide, narrow, 3, 3, generator=generator) / (3 * narrow**0.5),
                torch.full((wide,), 0.01),
            )
            for narrow, wide in shapes
        ]
    )


@pytest.fixture
def pairs(tmp_path):
    """Folders of low-quality pictures and targets, of several tiles each."""
    for seed in range(6):
        high = models.picture(64, 96, seed=seed)
        low = F.avg_pool2d(high, 4)
        for name, picture in (("low", low), ("target", high)):
            folder = tmp_path / "pairs" / name
            folder.mkdir(parents=True, exist_ok=True)
            pixels = picture[0].permute(1, 2, 0).mul(255).round().byte().numpy()
            Image.fromarray(pixels).save(folder / f"{seed}.png")
    return [tmp_path / "pairs" / name for name in ("low", "target")]


def test_tiles_lie_side_by_side_and_fit_together(pairs):
    found = list(tiles(*pairs, 32, 100))
    assert sum(len(low) for low, _ in found) == 6 * 2 * 3
    for low, target in found:
        assert low.shape[1:] == (3, 8, 8)
        assert target.shape[1:] == (3, 32, 32)
        torch.testing.assert_close(F.avg_pool2d(target, 4), low, atol=2 / 255, rtol=0)
    assert sum(len(low) for low, _ in tiles(*pairs, 32, 7)) == 7


def error(model, batches):
    with torch.no_grad():
        return sum(
            estimate_error(
                estimated_latent(model, model.encode_prefix(resize(low, *target.shape[2:]))),
                model.encode_latent(target),
            )
            for low, target in batches
        ) / len(batches)


def test_blocks_are_the_teachers_and_the_prefix_sees_more(teacher, pairs):
    model = new_model(config_from_json(deep_sizes(len(NUMBERS))), 0)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    batches = list(tiles(*pairs, 32, 100))
    first = error(model, batches)
    left = deep_start(model, teacher, NUMBERS, batches)
    assert error(model, batches) == pytest.approx(left, rel=0.1)
    assert left < 0.7 * first
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert all(name.startswith("prefix_encoder.deep.") for name in changed)
    deep = model.prefix_encoder.deep
    for block, number in zip(deep.blocks, NUMBERS, strict=True):
        theirs = teacher.convolutions[1 + 15 * number + 7]
        assert torch.equal(block.blocks[1].convolutions[2].weight, theirs.weight)
    low, target = batches[0]
    small = F.pixel_unshuffle(resize(low, *target.shape[2:]) * 2 - 1, 4)
    with torch.no_grad():
        ours, theirs = deep.conv_in(small), teacher.convolutions[0](low)
    ours, theirs = (x[:, :, 2:-2, 2:-2] for x in (ours, theirs))  # borders are padded otherwise
    assert (ours - theirs).square().mean() < 0.03 * theirs.square().mean()


def test_run_begins_with_the_model_and_says_how_many_blocks_it_takes(
    teacher, pairs, tmp_path, monkeypatch
):
    monkeypatch.setattr(begin, "load_teacher", lambda: teacher)
    old = new_model(config_from_json(deep_sizes(0)), 1)
    tensors = sized_weights(old)
    made = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(made, tmp_path / "m.safetensors", torch.float32, metadata={})
    read = load_checkpoint([tmp_path / "m.safetensors"]).tensors
    config = TrainingConfig(sizes=deep_sizes(1))
    with pytest.raises(SystemExit, match="have 1 blocks as deep_prefix, 2 are given"):
        begin.deepen(read, tmp_path / "run", config, pairs, NUMBERS)
    assert not (tmp_path / "run").exists()
    begin.deepen(read, tmp_path / "run", config, pairs, NUMBERS[:1])
    assert (tmp_path / "run" / RESIZED_FILE).exists()
    model = build_model(load_checkpoint([tmp_path / "run" / MODEL_FILE]).tensors)
    assert model.config.transformer.deep_prefix == 1
    for name in ("decoder.conv_out.weight", "prefix_encoder.conv_out.weight"):
        assert torch.equal(model.state_dict()[name], old.state_dict()[name])
