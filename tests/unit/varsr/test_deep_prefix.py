"""The part of the prefix encoder that small models have beside the released one's layers."""

import pytest
import torch
import torch.nn.functional as F

from helpers import models
from helpers.counted import largest_distance
from helpers.deep_sizes import deep_sizes
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.errors import CheckpointError
from varsr_core.nn.dense_blocks import FEATURES, RRDB
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.upscaling import upscale
from varsr_core.varsr.config import infer_config
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model, sized_weights

BLOCKS = 2


def deep_model(seed=0):
    """With a deep prefix that has its say."""
    model = new_model(config_from_json(deep_sizes(BLOCKS)), seed)
    generator = torch.Generator().manual_seed(seed)
    last = model.prefix_encoder.deep.conv_out.weight
    last.data = torch.randn(last.shape, generator=generator) * 0.05
    return model.eval().requires_grad_(False)


def test_block_is_that_of_esrgan():
    """Written out: three times five convolutions, each of all before it."""
    block = RRDB()
    x = torch.randn(2, FEATURES, 6, 5, generator=torch.Generator().manual_seed(0))
    y = x
    for dense in block.blocks:
        seen = [y]
        layers = list(dense.convolutions)
        for layer in layers[:-1]:
            seen.append(F.leaky_relu(layer(torch.cat(seen, 1)), 0.2))
        y = y + 0.2 * layers[-1](torch.cat(seen, 1))
    torch.testing.assert_close(block(x), x + 0.2 * y)
    assert sum(p.numel() for p in block.parameters()) == 719_424, "as in the published network"


def test_new_deep_prefix_says_nothing_yet():
    deep, plain = (
        new_model(config_from_json(deep_sizes(BLOCKS)), 0),
        new_model(config_from_json(deep_sizes(0)), 0),
    )
    shared = {n: t for n, t in deep.state_dict().items() if ".deep." not in n}
    plain.load_state_dict(shared)
    lq = models.picture(32, 32)
    with torch.no_grad():
        assert torch.equal(deep.encode_prefix(lq), plain.encode_prefix(lq))
    assert not torch.equal(deep_model().encode_prefix(lq), plain.encode_prefix(lq))


def test_file_tells_how_deep_it_is(tmp_path):
    model = deep_model()
    tensors = sized_weights(model)
    made = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(made, tmp_path / "m.safetensors", torch.float32, metadata={})
    read = load_checkpoint([tmp_path / "m.safetensors"])
    assert infer_config(read.tensors) == model.config
    lq = models.picture(32, 32)
    assert torch.equal(build_model(read.tensors).encode_prefix(lq), model.encode_prefix(lq))


@pytest.mark.parametrize("lost", ["conv_out.weight", "blocks.1.blocks.2.convolutions.4.bias"])
def test_file_that_lacks_a_part_of_it_is_refused(lost):
    tensors = sized_weights(deep_model())
    del tensors[f"prefix_encoder.deep.{lost}"]
    with pytest.raises(CheckpointError, match=f"deep.{lost} is missing"):
        VARSR_FAMILY.assemble({"complete model": tensors})


def test_too_few_pixels_a_token_have_no_room_for_it():
    with pytest.raises(ValueError, match="needs 8 pixels per token or more, the prefix has 4"):
        config_from_json(deep_sizes(1, levels=3))


def test_its_work_is_counted_and_told_of(monkeypatch):
    picture = models.picture(12, 10)
    distance, told = largest_distance(
        monkeypatch, lambda e: upscale(picture, 4.0, VARSRRestorer(deep_model()), execution=e)
    )
    assert distance < 0.03
    assert told > 10
