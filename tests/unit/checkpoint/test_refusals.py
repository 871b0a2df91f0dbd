"""Files that are no checkpoint, or none of this family: refused with a remedy, and never run."""

import argparse
import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from helpers.release_files import (
    nested_tokenizer,
    nested_transformer,
    release,
    save,
    save_converted,
)
from tools.random_checkpoint import MICRO, class_to_image, random_weights, transformer_shapes
from varsr_core.checkpoint import load_checkpoint
from varsr_core.errors import CheckpointError
from varsr_core.varsr.family import VARSR_FAMILY


class RunsACommand:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo run > {self.path}",)


def refuse(paths, match):
    with pytest.raises(CheckpointError, match=match) as refused:
        load_checkpoint(paths if isinstance(paths, list) else [paths])
    return str(refused.value)


@pytest.mark.parametrize("kind", ["zip", "old", "plain pickle"])
def test_malicious_pickle_is_refused_by_name_and_not_run(tmp_path, tokenizer, kind):
    path, trace = tmp_path / "model.pth", tmp_path / "trace"
    content = {"trainer": {"vae_local": tokenizer, "extra": RunsACommand(trace)}}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps({"extra": RunsACommand(trace)}, protocol=2))
    else:
        save(path, content, _use_new_zipfile_serialization=kind == "zip")
    refuse(path, r"model\.pth asks to run '\w+\.system' .*nothing was executed")
    assert not trace.exists()


def test_the_malicious_pickle_of_the_test_above_would_run_if_unpickled(tmp_path):
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(RunsACommand(trace)))
    assert trace.exists()


def test_objects_other_than_tensors_are_refused_by_name(tmp_path, reference):
    path = save(tmp_path / "model.pth", {"args": argparse.Namespace(), "weights": reference})
    refuse(path, r"model\.pth asks to run 'argparse\.Namespace'")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_truncated_file_is_refused_with_its_name_and_size(tmp_path, reference, kind, share):
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.pth")
    if kind == "safetensors":
        save_file(reference, path)
    else:
        save(path, reference, _use_new_zipfile_serialization=kind == "zip")
    size = int(path.stat().st_size * share)
    with path.open("rb+") as file:
        file.truncate(size)
    refuse(path, rf"{path.name} \({size:,} bytes\) is truncated or no")


@pytest.mark.parametrize("name", ["model.pth", "model.ckpt", "model.safetensors"])
@pytest.mark.parametrize("text", ["<!DOCTYPE html><title>404</title>", "version https://git-lfs"])
def test_text_that_is_named_as_a_checkpoint_is_refused(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text * 20)
    refuse(path, f"{name} .*is truncated or no")


def test_missing_file_is_refused_with_its_place(tmp_path):
    refuse(tmp_path / "none.pth", r"there is no file .*none\.pth")


def test_folder_is_refused(tmp_path):
    refuse(tmp_path, "there is no file")


@pytest.mark.parametrize("content", [{}, [1, 2], torch.zeros(3), {"epoch": 3}])
def test_files_without_named_tensors_are_refused(tmp_path, content):
    path = save(tmp_path / "model.pth", content)
    refuse(path, r"model\.pth is no checkpoint of VARSR or NSARM: none of its 0 tensors")


FOREIGN = {
    "Stable Diffusion": (
        [
            "model.diffusion_model.input_blocks.0.0.weight",
            "first_stage_model.encoder.conv_in.weight",
        ],
        "a Stable Diffusion checkpoint; use the Load Checkpoint node",
    ),
    "VAE of Stable Diffusion": (
        ["first_stage_model.encoder.conv_in.weight", "first_stage_model.quant_conv.weight"],
        "the VAE of Stable Diffusion; use the Load VAE node",
    ),
    "ESRGAN, old names": (
        ["model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"],
        "an ESRGAN upscaler; use the Load Upscale Model node",
    ),
    "ESRGAN, new names": (
        ["conv_first.weight", "conv_body.weight", "body.0.rdb1.conv1.weight"],
        "an ESRGAN upscaler; use the Load Upscale Model node",
    ),
}
OTHER_FAMILY = {
    "whole": ["block_chunks.0.module.0.sa.mat_qkv.weight", "map_transformer.lr_blocks.0.weight"],
    "without map network": ["block_chunks.0.module.0.sa.mat_qkv.weight", "cfg_uncond"],
    "autoencoder": ["encoder.conv_in.conv.weight", "decoder.conv_in.conv.weight"],
    "converted": ["transformer.blocks.0.query_scale.weight", "maps.branches.0.out.weight"],
}


@pytest.mark.parametrize("case", OTHER_FAMILY)
@pytest.mark.parametrize("nesting", [lambda t: t, lambda t: {"trainer": {"gpt_fsdp": t}}])
def test_checkpoint_of_another_family_is_refused_with_the_node_for_it(tmp_path, case, nesting):
    tensors = {name: torch.zeros(1) for name in OTHER_FAMILY[case]}
    path = save(tmp_path / "other.pth", nesting(tensors))
    message = r"^other\.pth is a checkpoint of NSARM, not of VARSR; use the Load NSARM Model node$"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint([path], VARSR_FAMILY)


def test_files_of_two_families_are_refused(tmp_path, reference):
    first = save(tmp_path / "first.pth", reference)
    second = save(tmp_path / "second.pth", {"block_chunks.0.module.0.ada_gss": torch.zeros(1)})
    message = r"first\.pth is a checkpoint of VARSR and second\.pth one of NSARM"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint([first, second])


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("nesting", [lambda t: t, lambda t: {"state_dict": t}])
def test_checkpoint_of_another_model_is_refused_with_the_node_for_it(tmp_path, case, nesting):
    names, description = FOREIGN[case]
    path = save(tmp_path / "other.pth", nesting({name: torch.zeros(1) for name in names}))
    refuse(path, rf"^other\.pth is {description}$")


def test_unknown_checkpoint_is_refused_with_a_name_out_of_it(tmp_path):
    path = save(tmp_path / "other.pth", {"layers.0.weight": torch.zeros(1)})
    refuse(path, r"none of its 1 tensors .*the first is 'layers\.0\.weight'")


def test_vae_with_the_tokenizers_plain_names_is_refused(tmp_path):
    names = ("encoder.conv_in.weight", "decoder.conv_in.weight", "quant_conv.weight")
    path = save(tmp_path / "vae.pth", {name: torch.zeros(1) for name in names})
    refuse(path, r"vae\.pth is no checkpoint of VARSR")


def test_tokenizer_alone_is_refused_with_what_to_choose(tmp_path, tokenizer):
    path = save(tmp_path / "VQVAE.pth", nested_tokenizer(tokenizer))
    refuse(path, r"VQVAE\.pth: this is only the tokenizer .*choose the transformer \(VARSR\.pth\)")


def test_transformer_alone_is_refused_with_what_is_needed(tmp_path, transformer):
    path = save(tmp_path / "VARSR.pth", nested_transformer(transformer))
    refuse(path, r"VARSR\.pth: this is only the transformer .*\(VQVAE\.pth\) is needed too")


def test_class_to_image_model_alone_is_refused_with_what_is_needed(tmp_path):
    sizes = class_to_image(MICRO)
    base = random_weights(transformer_shapes(sizes, with_prefix=False), sizes)
    path = save(tmp_path / "VARSR_C2I.pth", nested_transformer(base))
    refuse(path, r"only the transformer \(VARSR_C2I\.pth\).*\(VQVAE\.pth\) is needed too")


def test_transformer_that_lost_its_prefix_encoder_is_refused(tmp_path, tokenizer, transformer):
    lost = {n: t for n, t in transformer.items() if not n.startswith("con_embedding")}
    refuse(release(tmp_path, tokenizer, lost), "do not fit the rest of the VARSR model")


def test_both_transformers_are_refused(tmp_path, tokenizer, transformer):
    sizes = class_to_image(MICRO)
    base = random_weights(transformer_shapes(sizes, with_prefix=False), sizes)
    path = save(tmp_path / "VARSR_C2I.pth", nested_transformer(base))
    refuse([*release(tmp_path, tokenizer, transformer), path], "two transformers")


def test_two_tokenizers_are_refused(tmp_path, tokenizer):
    paths = [save(tmp_path / name, nested_tokenizer(tokenizer)) for name in ("a.pth", "b.pth")]
    refuse(paths, r"b\.pth and a\.pth are both a tokenizer; give one of each")


def test_two_converted_files_are_refused(tmp_path, expected):
    paths = [save_converted(tmp_path / f"{name}.safetensors", expected) for name in "ab"]
    refuse(paths, "are both a complete model")


MISSING = {
    "head.bias": "transformer.head.bias is missing",
    "decoder.up.0.block.0.conv1.weight": r"decoder\.up\.0\.blocks",
    "encoder.mid.attn_1.qkv.bias": "encoder.middle.attention.qkv.bias is missing",
    "pos_start": "lacks the tensor 'pos_start'",
    "class_emb.weight": "lacks the tensor 'class_emb.weight'",
    "blocks.0.attn.q_bias": "lacks the tensor 'blocks.0.attn.q_bias'",
    "blocks.1.ada_lin.1.bias": "lacks the tensor 'blocks.1.ada_lin.1.bias'",
    "blocks.1.attn.mat_qkv.weight": "transformer.blocks.1.* is unknown",
    "diffloss.net.res_blocks.0.mlp.2.weight": "refiner.blocks.0.fc2.weight is missing",
    "diffloss.net.time_embed.mlp.0.weight": "lack the tensor 'refiner.time_embed.0.weight'",
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_tensor_is_refused_by_name(tmp_path, reference, name):
    short = {n: t for n, t in reference.items() if n != name}
    refuse(save(tmp_path / "model.pth", short), rf"^model\.pth: .*{MISSING[name]}")


WRONG = {
    "head.weight": ((64, 31), r"transformer\.head\.weight has shape \(64, 31\), \(64, 32\) is"),
    "blocks.1.ffn.fc1.bias": ((127,), r"fc1\.bias has shape \(127,\), \(128,\) is expected"),
    "encoder.conv_in.weight": ((32, 4, 3, 3), r"encoder\.conv_in\.weight has shape"),
    "quantize.embedding.weight": ((64, 16), r"quantizer\.codebook\.weight has shape"),
    "con_embedding.conv_out.weight": ((32, 31, 3, 3), r"prefix_encoder\.conv_out"),
    "blocks.0.attn.q_bias": ((16,), "wrong shape|tensors do not fit"),
    "blocks.0.attn.mat_qkv.weight": ((95, 32), "wrong shape"),
    "blocks.0.ada_lin.1.weight": ((192, 31), "wrong shape"),
    "blocks.0.attn.scale_mul_1H11": ((1, 5, 1, 1), "wrong shape|impossible sizes"),
    "pos_start": ((1, 16, 32), "lvl_1L counts|do not fit"),
    "class_emb.weight": ((2, 31), "wrong shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_tensor_of_the_wrong_shape_is_refused(tmp_path, reference, name):
    shape, message = WRONG[name]
    path = save(tmp_path / "model.pth", {**reference, name: torch.zeros(shape)})
    refuse(path, rf"^model\.pth: .*({message})")


def test_schedule_that_is_not_of_squares_is_refused(tmp_path, reference):
    levels = reference["lvl_1L"].clone()
    levels[0, -1] -= 1
    path = save(tmp_path / "model.pth", {**reference, "lvl_1L": levels})
    refuse(path, r"lvl_1L counts \[1, 4, 10, 15\] tokens a scale, not squares")


def test_unknown_tensor_is_refused_by_name(tmp_path, reference):
    path = save(tmp_path / "model.pth", {**reference, "text_proj.weight": torch.zeros(1)})
    refuse(path, r"1 tensors are unknown to VARSR, e\.g\. text_proj\.weight")


def test_tokenizer_of_another_size_is_refused(tmp_path, reference, tokenizer):
    few = {n: t for n, t in tokenizer.items() if ".down.4." not in n and ".up.4." not in n}
    rest = {n: t for n, t in reference.items() if n not in tokenizer}
    refuse(
        save(tmp_path / "model.pth", few | rest),
        "the prefix has 16 pixels per token, the tokenizer 8; they come from different models",
    )


@pytest.mark.parametrize("name", ["schedule", "transformer.head.bias", "word_embed.weight"])
def test_converted_file_that_lacks_a_tensor_is_refused(tmp_path, expected, name):
    save_file({n: t for n, t in expected.items() if n != name}, tmp_path / "model.safetensors")
    refuse(tmp_path / "model.safetensors", rf"model\.safetensors: .*{name}")


def test_converted_file_of_a_later_format_is_refused(tmp_path, expected):
    path = tmp_path / "model.safetensors"
    save_file(expected, path, metadata={"format_version": "2"})
    refuse(path, r"format version 2, this pack reads 1; update the pack")


def test_metadata_of_a_converted_file_is_kept(tmp_path, expected):
    metadata = {"format_version": "1", "sources": json.dumps({"VARSR.pth": "ab"})}
    save_file(expected, tmp_path / "model.safetensors", metadata=metadata)
    assert load_checkpoint([tmp_path / "model.safetensors"]).metadata == metadata
