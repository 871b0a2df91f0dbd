"""Reading releases and converted files: the same model whatever the file looks like."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from helpers import models
from helpers.release_files import (
    assert_same_model,
    nested_tokenizer,
    nested_transformer,
    release,
    save,
    save_converted,
)
from tools.random_checkpoint import MICRO, write_release
from varsr_core.checkpoint import fingerprint, load_checkpoint
from varsr_core.varsr.weights import build_model


@pytest.mark.parametrize("turned", [False, True])
def test_release_loads_in_any_order(tmp_path, tokenizer, transformer, expected, turned):
    paths = release(tmp_path, tokenizer, transformer)
    assert_same_model(load_checkpoint(paths[::-1] if turned else paths), expected)


def test_random_release_loads(tmp_path):
    checkpoint = load_checkpoint(write_release(tmp_path, MICRO))
    build_model(checkpoint.tensors)
    assert checkpoint.metadata == {}
    assert checkpoint.fingerprint == fingerprint(checkpoint.tensors)


def test_tensors_under_the_plain_names_load(tmp_path, reference, expected):
    assert_same_model(load_checkpoint([save(tmp_path / "all.pth", reference)]), expected)


def test_one_safetensors_file_with_both_parts_loads(tmp_path, reference, expected):
    save_file(reference, tmp_path / "all.safetensors")
    assert_same_model(load_checkpoint([tmp_path / "all.safetensors"]), expected)


@pytest.mark.parametrize("turned", [False, True])
def test_two_safetensors_files_load(tmp_path, tokenizer, transformer, expected, turned):
    paths = [tmp_path / "tokenizer.safetensors", tmp_path / "transformer.sft"]
    save_file(tokenizer, paths[0])
    save_file(transformer, paths[1])
    assert_same_model(load_checkpoint(paths[::-1] if turned else paths), expected)


def test_a_pickle_and_a_safetensors_file_load_together(tmp_path, tokenizer, transformer, expected):
    save_file(tokenizer, tmp_path / "tokenizer.safetensors")
    paths = [tmp_path / "tokenizer.safetensors", save(tmp_path / "VARSR.pth", transformer)]
    assert_same_model(load_checkpoint(paths), expected)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_that_trainers_wrap_are_unwrapped(tmp_path, reference, expected, wrapper):
    wrapped = {f"{wrapper}{name}": tensor for name, tensor in reference.items()}
    assert_same_model(load_checkpoint([save(tmp_path / "all.pth", wrapped)]), expected)


def test_flat_names_with_the_nesting_in_them_are_unwrapped(
    tmp_path, tokenizer, transformer, expected
):
    flat = {f"trainer.vae_local.{name}": tensor for name, tensor in tokenizer.items()}
    flat |= {f"trainer.var_wo_ddp.{name}": tensor for name, tensor in transformer.items()}
    save_file(flat, tmp_path / "all.safetensors")
    assert_same_model(load_checkpoint([tmp_path / "all.safetensors"]), expected)


def test_optimiser_state_is_ignored(tmp_path, tokenizer, transformer, expected):
    moments = {
        "state": {
            number: {"step": torch.tensor(7.0), "exp_avg": torch.randn_like(tensor.float())}
            for number, tensor in enumerate(transformer.values())
        },
        "param_groups": [{"lr": 5e-5, "betas": (0.9, 0.95), "params": [0, 1, 2]}],
    }
    paths = release(tmp_path, tokenizer, transformer)
    content = nested_transformer(transformer)
    content["trainer"] = {"var_opt": {"optimizer": moments}, **content["trainer"]}
    save(paths[1], content)
    assert_same_model(load_checkpoint(paths), expected)


@pytest.mark.parametrize("turned", [False, True])
def test_tokenizer_inside_the_transformer_file_yields_to_the_one_of_its_own(
    tmp_path, tokenizer, transformer, expected, turned
):
    stale = {name: tensor + 1 for name, tensor in tokenizer.items()}
    paths = release(tmp_path, tokenizer, transformer)
    save(paths[1], {"trainer": {"vae_local": stale, "var_wo_ddp": transformer}})
    assert_same_model(load_checkpoint(paths[::-1] if turned else paths), expected)


def test_old_files_that_cannot_be_mapped_load_with_a_warning(tmp_path, reference, expected, caplog):
    path = tmp_path / "old.pth"
    save(path, reference, _use_new_zipfile_serialization=False)
    with caplog.at_level(logging.WARNING):
        assert_same_model(load_checkpoint([path]), expected)
    assert "old.pth is of the old kind" in caplog.text


def test_new_files_load_without_a_warning(tmp_path, reference, caplog):
    with caplog.at_level(logging.WARNING):
        load_checkpoint([save(tmp_path / "new.pth", reference)])
    assert not caplog.records


def test_half_precision_release_loads(tmp_path, reference):
    half = {n: t.half() if t.is_floating_point() else t for n, t in reference.items()}
    tensors = load_checkpoint([save(tmp_path / "half.pth", half)]).tensors
    assert tensors["transformer.blocks.0.modulation.weight"].dtype == torch.float32
    build_model(tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fingerprint_of_a_conversion_is_that_of_the_release(tmp_path, expected, dtype):
    path = save_converted(tmp_path / "model.safetensors", expected, dtype)
    assert load_checkpoint([path]).fingerprint == fingerprint(expected)


@pytest.mark.parametrize("turned", [False, True])
def test_tokenizer_beside_a_converted_file_changes_nothing(tmp_path, tokenizer, expected, turned):
    converted = save_converted(tmp_path / "model.safetensors", expected, torch.bfloat16)
    paths = [converted, save(tmp_path / "VQVAE.pth", nested_tokenizer(tokenizer))]
    alone, both = load_checkpoint([converted]), load_checkpoint(paths[::-1] if turned else paths)
    assert both.fingerprint == alone.fingerprint
    assert both.metadata == alone.metadata
    assert all(torch.equal(tensor, alone.tensors[name]) for name, tensor in both.tensors.items())


def test_fingerprint_differs_when_one_weight_of_any_tensor_changes(expected):
    original = fingerprint(expected)
    for name, tensor in expected.items():
        changed = tensor.clone()
        changed.view(-1)[0] += 1
        assert fingerprint({**expected, name: changed}) != original, name


def test_fingerprint_depends_on_names_and_shapes_and_not_on_order(expected):
    original = fingerprint(expected)
    assert fingerprint(dict(reversed(expected.items()))) == original
    name = "word_embed.weight"
    renamed = {f"{name}s" if n == name else n: t for n, t in expected.items()}
    assert fingerprint(renamed) != original
    assert fingerprint({**expected, name: expected[name].flatten()}) != original


def test_models_of_two_seeds_have_two_fingerprints():
    assert models.micro_model().fingerprint != models.micro_model(seed=1).fingerprint
