"""K2N's files: both forms of a release, converted, and what they say of the codebook."""

import hashlib
import shutil

import pytest
import torch

from helpers import k2n_files
from helpers.comfyui.checkpoints import Malicious
from varsr_core.checkpoint import load_checkpoint
from varsr_core.convert import convert_files
from varsr_core.errors import CheckpointError
from varsr_core.files.tensors import read_tensors
from varsr_core.varsr.k2n.config import infer_config
from varsr_core.varsr.k2n.kind import TOKENIZER_CODEBOOK, codebook_digest, read_k2n


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """VQVAE.pth, VARSR.pth and K2NSR.pth."""
    folder = tmp_path_factory.mktemp("release")
    tokenizer, _ = k2n_files.write_tiny_varsr(folder)
    k2n_files.write_todays(folder / "K2NSR.pth", tokenizer)
    return folder


def codebook_of(folder):
    (tensors,), _ = read_tensors(folder / "VQVAE.pth")
    return bytes(codebook_digest(tensors[TOKENIZER_CODEBOOK]).tolist())


def test_both_forms_are_the_same_model(release, tmp_path):
    todays = load_checkpoint([release / "K2NSR.pth"])
    older = load_checkpoint([k2n_files.write_older(tmp_path / "older.pth")])
    assert todays.family is older.family
    for name, tensor in older.tensors.items():
        assert torch.equal(tensor, todays.tensors[name]), name
    assert todays.tensors.keys() - older.tensors.keys() == {"vae_sha256"}


def test_heads_are_the_released_ones_where_no_configuration_tells(tmp_path):
    path = k2n_files.write_older(tmp_path / "older.pth", with_config=False)
    config = infer_config(read_k2n(path).tensors)
    assert (config.sides, config.maps.heads) == ((1, 2, 3), (8, 8, 8))


def test_converted_file_notes_the_codebook_of_the_released_tokenizer(release, tmp_path):
    convert_files([release / "K2NSR.pth"], tmp_path / "k2n.safetensors", torch.float32)
    config = infer_config(read_k2n(tmp_path / "k2n.safetensors").tensors)
    assert config.codebook == codebook_of(release)
    plain, again = (read_k2n(one) for one in (release / "K2NSR.pth", tmp_path / "k2n.safetensors"))
    assert str(plain.fingerprint) == str(again.fingerprint)


def test_converted_varsr_tells_the_codebook_where_the_tokenizer_is_gone(release, tmp_path):
    files = [release / "VQVAE.pth", release / "VARSR.pth"]
    convert_files(files, tmp_path / "varsr.safetensors", torch.float16)
    shutil.copy(release / "K2NSR.pth", tmp_path)
    assert infer_config(read_k2n(tmp_path / "K2NSR.pth").tensors).codebook == codebook_of(release)


def test_another_tokenizer_beside_it_is_known_to_be_another(release, tmp_path):
    shutil.copy(release / "VQVAE.pth", tmp_path)
    path = tmp_path / "K2NSR.pth"
    k2n_files.write_todays(path, vae_sha256=hashlib.sha256(b"another").hexdigest())
    config = infer_config(read_k2n(path).tensors)
    assert (config.codebook, config.other_codebook) == (b"", codebook_of(release))


def test_only_as_many_scales_as_asked_for_are_converted(release, tmp_path):
    target = tmp_path / "k2n.safetensors"
    convert_files([release / "K2NSR.pth"], target, torch.float32, scales=2)
    assert infer_config(read_k2n(target).tensors).sides == (1, 2)
    with pytest.raises(CheckpointError, match="gives 3 scales, 4 are asked for"):
        convert_files([release / "K2NSR.pth"], target, torch.float32, scales=4)
    files = [release / "VQVAE.pth", release / "VARSR.pth"]
    with pytest.raises(CheckpointError, match="needs all of its scales"):
        convert_files(files, target, torch.float32, scales=2)


def test_a_part_that_is_missing_is_named(tmp_path):
    path = k2n_files.write_todays(tmp_path / "K2NSR.pth", lr_encoder={})
    with pytest.raises(CheckpointError, match="lacks the encoder of K2N"):
        read_k2n(path)


def test_program_code_is_refused_by_name_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    path = k2n_files.write_todays(tmp_path / "K2NSR.pth", training=Malicious(marker))
    with pytest.raises(CheckpointError, match=r"asks to run '\S*open'"):
        read_k2n(path)
    assert not marker.exists()
