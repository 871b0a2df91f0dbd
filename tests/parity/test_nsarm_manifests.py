"""Every tensor of NSARM's released checkpoints at full size, by name and shape alone."""

import json
import re

import pytest
import torch

from helpers.paths import DATA
from varsr_core.errors import CheckpointError
from varsr_core.nsarm.config import infer_config
from varsr_core.nsarm.model import NSARM, check_weights
from varsr_core.nsarm.training.released import released_sizes
from varsr_core.nsarm.weights import DROPPED, convert
from varsr_core.training.config import TrainingConfig


def manifest(file):
    found = json.loads((DATA / file).read_text())["tensors"]
    return {name: torch.empty(entry["shape"], device="meta") for name, entry in found.items()}


@pytest.fixture(scope="module")
def released():
    return manifest("nsarm_manifest.json") | manifest("nsarm_vae_manifest.json")


@pytest.fixture(scope="module")
def converted(released):
    return convert(released)


def test_released_tensors_become_exactly_the_tensors_of_the_model(converted):
    with torch.device("meta"):
        model = NSARM(infer_config(converted))
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in converted.items()} == expected
    check_weights(converted)


def test_sizes_are_the_published_ones(converted):
    config = infer_config(converted)
    transformer = config.transformer
    assert (transformer.depth, transformer.width, transformer.head_dim) == (40, 3584, 128)
    assert (transformer.text_width, transformer.text_heads) == (2048, 16)
    assert (config.tile_size, config.lq_size, config.bits) == (1024, 256, 56)
    assert config.maps.widths == (64, 128, 256, 384, 512, 768, 1024)
    assert config.maps.layers == (4, 6, 8, 10, 12, 14, 16)


def test_what_training_takes_is_told_of_the_released_sizes(converted):
    with torch.device("meta"):
        model = released_sizes(TrainingConfig())
    assert model.config == infer_config(converted)


def test_parameters_number_what_is_published(released):
    sizes = {name: tensor.numel() for name, tensor in released.items()}
    buffers = re.compile(r".*(zero_k_bias|lfq\.mask)")
    kept = {name: size for name, size in sizes.items() if not buffers.fullmatch(name)}
    vae = sum(size for name, size in kept.items() if name.startswith(("encoder.", "decoder.")))
    assert round(vae / 1e6, 3) == 81.624
    assert round((sum(kept.values()) - vae) / 1e6, 3) == 8760.895


def test_dropped_names_are_those_with_a_reason(released, converted):
    dropped = {name for name in released if any(re.fullmatch(p, name) for p in DROPPED)}
    assert all(name.endswith(("zero_k_bias", "lfq.mask")) for name in dropped)
    assert len(dropped) == 2 * 40 + 1 + 2


def test_autoencoder_without_wrapped_layers_is_read_too(released, converted):
    """Names as FLUX has them."""
    plain = {
        re.sub(r"\.(conv|norm)\.(weight|bias)$", r".\2", name)
        if name.startswith(("encoder.", "decoder."))
        else name: tensor
        for name, tensor in released.items()
    }
    assert plain.keys() != released.keys()
    assert convert(plain).keys() == converted.keys()


@pytest.mark.parametrize(
    "name",
    ["block_chunks.3.module.1.sa.q_bias", "cfg_uncond", "map_transformer.output_projs.6.3.bias"],
)
def test_a_missing_tensor_is_an_error_that_names_it_or_its_place(released, name):
    left = {key: tensor for key, tensor in released.items() if key != name}
    with pytest.raises(CheckpointError):
        check_weights(convert(left))


def test_an_unknown_tensor_is_an_error(released):
    with pytest.raises(CheckpointError, match="unknown to NSARM"):
        convert(released | {"block_chunks.0.module.0.extra.weight": torch.empty(1)})
