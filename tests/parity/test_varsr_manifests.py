"""Every tensor of the released checkpoints at full size, by name and shape alone."""

import json
import re

import pytest
import torch

from helpers.paths import DATA
from tools.random_checkpoint import RELEASED, Sizes, tokenizer_shapes, transformer_shapes
from varsr_core.errors import CheckpointError
from varsr_core.varsr import family
from varsr_core.varsr.config import infer_config
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.weights import DROPPED, FOLDED, check_weights, convert, fix_dtype

DEPTH = 24
SIDES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)

DROPPED_NAMES = {
    "attn_bias_for_masking",
    "quantize.ema_vocab_hit_SV",
    *(f"blocks.{i}.attn.zero_k_bias" for i in range(DEPTH)),
}
FOLDED_NAMES = {
    "lvl_1L",
    "pos_start",
    "head_nm.ada_lin.1.weight",
    "head_nm.ada_lin.1.bias",
    *(
        f"blocks.{i}.{name}"
        for i in range(DEPTH)
        for name in (
            "attn.mat_qkv.weight",
            "attn.q_bias",
            "attn.v_bias",
            "attn.scale_mul_1H11",
            "ada_lin.1.weight",
            "ada_lin.1.bias",
        )
    ),
}


def manifest(file):
    """Names and shapes of each part, in the order of the file."""
    parts = json.loads((DATA / file).read_text()).values()
    return [{name: tuple(shape) for name, (shape, _) in part.items()} for part in parts]


def on_meta(shapes):
    """Tensors without memory, but for the buffer whose values are read."""
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    prefix = shapes["lvl_1L"][1] - sum(side * side for side in SIDES)
    counts = [side * side for side in SIDES]
    numbers = [0] * prefix + [k for k, count in enumerate(counts) for _ in range(count)]
    return tensors | {"lvl_1L": torch.tensor([numbers])}


@pytest.fixture(scope="module")
def released():
    tokenizer, transformer = manifest("varsr_manifest.json")
    return on_meta(tokenizer | transformer)


@pytest.fixture(scope="module")
def converted(released):
    return convert(released)


def test_manifest_lists_all_tensors_of_the_release():
    assert [len(part) for part in manifest("varsr_manifest.json")] == [324, 405]


def test_released_tensors_become_exactly_the_tensors_of_the_model(converted):
    with torch.device("meta"):
        model = VARSR(infer_config(converted))
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in converted.items() if name != "schedule"}
    assert found == expected
    check_weights(converted)


def test_released_tensors_not_passed_on_are_the_dropped_and_folded_ones(released, converted):
    passed_on = {id(tensor) for tensor in converted.values()}
    left = {name for name, tensor in released.items() if id(tensor) not in passed_on}
    assert left == DROPPED_NAMES | FOLDED_NAMES


@pytest.mark.parametrize(("patterns", "names"), [(DROPPED, DROPPED_NAMES), (FOLDED, FOLDED_NAMES)])
def test_a_pattern_matches_exactly_the_names_it_is_for(released, patterns, names):
    matching = {name for name in released if any(re.fullmatch(p, name) for p in patterns)}
    assert matching == names


def test_every_dropped_tensor_has_a_reason():
    assert all(len(reason) > 10 for reason in DROPPED.values())


def test_no_two_released_tensors_become_one(released, converted):
    computed = 1 + 2 + 4 * DEPTH  # schedule; positions, head table; qkv twice, scale, table
    assert len(converted) == len(released) - len(DROPPED_NAMES | FOLDED_NAMES) + computed


def test_parameters_of_the_release_number_what_is_published(released):
    trained = {n: t.numel() for n, t in released.items() if n not in {*DROPPED_NAMES, "lvl_1L"}}
    parts = {name: name.startswith(family.TOKENIZER_NAMES) for name in trained}
    tokenizer = sum(size for name, size in trained.items() if parts[name])
    assert round(tokenizer / 1e6, 1) == 108.9
    assert round((sum(trained.values()) - tokenizer) / 1e6, 1) == 1101.9


def test_model_keeps_all_parameters_but_the_folded_modulation(released, converted):
    """The tables of two classes replace the modulation layers; one bias in three is new zeros."""
    ada_lin = sum(t.numel() for name, t in released.items() if ".ada_lin." in name)
    tables = 2 * (DEPTH * 6 + 2) * 1536
    key_bias = DEPTH * 1536
    dropped = sum(released[name].numel() for name in {*DROPPED_NAMES, "lvl_1L"})
    before = sum(t.numel() for t in released.values()) - dropped
    kept = sum(t.numel() for name, t in converted.items() if name != "schedule")
    assert kept == before - ada_lin + tables + key_bias
    assert round(ada_lin / 1e6) == 345  # a third of the transformer


def test_sizes_are_read_off_the_released_tensors(converted):
    config = infer_config(converted)
    assert config.schedule.sides == SIDES
    assert config.tile_size == 512
    assert config.tokenizer.widths == (160, 160, 320, 320, 640)
    assert (config.tokenizer.encoder_blocks, config.tokenizer.decoder_blocks) == (2, 3)
    assert config.tokenizer.attention_levels == (4,)
    assert (config.tokenizer.codebook_size, config.tokenizer.latent_channels) == (4096, 32)
    assert config.tokenizer.phi_count == 4
    assert config.tokenizer.norm_groups == 32
    assert (config.transformer.width, config.transformer.depth) == (1536, 24)
    assert (config.transformer.heads, config.transformer.head_dim) == (24, 64)
    assert config.transformer.mlp_width == 4 * 1536
    assert config.transformer.prefix_widths == (32, 128, 256, 512, 1536)
    assert config.transformer.num_classes == 2
    assert (config.refiner.width, config.refiner.depth) == (1024, 6)
    assert config.refiner.frequencies == 256


def test_random_release_has_the_shapes_of_the_real_one():
    tokenizer, transformer = manifest("varsr_manifest.json")
    assert tokenizer_shapes(RELEASED) == tokenizer
    assert transformer_shapes(RELEASED) == transformer


def test_random_class_to_image_model_has_the_shapes_of_the_real_one():
    (shapes,) = manifest("varsr_c2i_manifest.json")
    classes = shapes["class_emb.weight"][0]
    assert transformer_shapes(Sizes(classes=classes), with_prefix=False) == shapes


def test_class_to_image_model_is_recognised_and_needs_the_tokenizer():
    (shapes,) = manifest("varsr_c2i_manifest.json")
    parts = family.split(on_meta(shapes))
    assert list(parts) == [family.CLASS_TO_IMAGE]
    with pytest.raises(CheckpointError, match=r"VARSR_C2I\.pth.*VQVAE\.pth"):
        family.assemble(parts)


def test_class_to_image_model_converts_to_names_of_ours_and_to_at_most_2_4_gb():
    (shapes,) = manifest("varsr_c2i_manifest.json")
    tokenizer, _ = manifest("varsr_manifest.json")
    group = on_meta(shapes) | {name: torch.empty(s, device="meta") for name, s in tokenizer.items()}
    converted = convert(group)
    check_weights(converted)
    size = sum(
        t.numel() * fix_dtype(name, t, torch.float16).itemsize for name, t in converted.items()
    )
    assert size <= 2.4e9
