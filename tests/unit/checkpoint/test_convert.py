"""Writing converted files: whole or not at all, the same bytes for the same model."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from helpers import models
from helpers.each import each
from helpers.paths import ROOT
from tools.random_checkpoint import MICRO, write_release
from varsr_core.checkpoint import (
    FAMILIES,
    check_output,
    load_checkpoint,
    save_checkpoint,
    saved_size,
)
from varsr_core.convert import DTYPES as ALL_DTYPES
from varsr_core.convert import convert_files
from varsr_core.errors import CheckpointError
from varsr_core.upscaling import upscale
from varsr_core.varsr.config import SIZE_TENSORS
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model

DTYPES = {name: dtype for name, dtype in ALL_DTYPES.items() if name != "fp8"}
KEPT_IN_FLOAT32 = (
    "quantizer.",
    "transformer.class_embedding.",
    "transformer.position_embedding.",
    "transformer.scale_embedding.",
    "transformer.head_modulation.",
    ".modulation.weight",
    ".query_scale.",
    "refiner.condition_norm.",
    ".norm.",
)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return list(write_release(tmp_path_factory.mktemp("release"), MICRO))


@pytest.fixture(scope="module", params=DTYPES)
def converted(request, release, tmp_path_factory):
    """Name of a dtype, and the release as a file of it."""
    path = tmp_path_factory.mktemp("converted") / "model.safetensors"
    convert_files(release, path, DTYPES[request.param])
    return request.param, path


def stays_float32(name):
    if name.startswith(("encoder.", "decoder.", "post_quantizer.", "pre_quantizer.")):
        return False  # the tokenizer's norms follow the file
    if name.startswith("refiner.") and "modulation" in name:
        return False  # these layers see the time, so they are no tables
    return any(part in name for part in KEPT_IN_FLOAT32)


def test_every_tensor_has_the_dtype_it_should(converted):
    dtype, path = converted
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if name == "schedule":
            assert tensor.dtype == torch.int64
        else:
            expected = torch.float32 if stays_float32(name) else DTYPES[dtype]
            assert tensor.dtype == expected, name
    if dtype != "fp32":
        assert {t.dtype for t in tensors.values()} == {
            torch.int64,
            torch.float32,
            DTYPES[dtype],
        }


def test_safetensors_library_reads_back_what_was_written(converted, release):
    _, path = converted
    found, expected = load_file(path), load_checkpoint(release).tensors
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        rounded = tensor.to(found[name].dtype)
        assert torch.equal(found[name], rounded), name


def test_metadata_tells_family_format_fingerprint_and_sources(converted, release):
    _, path = converted
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["family"] == "varsr"
    assert metadata["format_version"] == "1"
    assert metadata["fingerprint"] == load_checkpoint(release).fingerprint
    assert json.loads(metadata["sources"]) == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in release
    }


def test_fingerprint_of_the_file_is_that_of_the_release(converted, release):
    assert load_checkpoint([converted[1]]).fingerprint == load_checkpoint(release).fingerprint


def test_converting_again_gives_the_same_bytes(converted, tmp_path):
    dtype, path = converted
    convert_files([path], tmp_path / "again.safetensors", DTYPES[dtype])
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_file_can_be_converted_onto_itself(converted, tmp_path):
    dtype, path = converted
    copy = tmp_path / "model.safetensors"
    shutil.copy(path, copy)
    convert_files([copy], copy, DTYPES[dtype])
    assert copy.read_bytes() == path.read_bytes()


@each("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_sizes_are_written_whatever_kind_of_whole_number_they_are(tmp_path, kind):
    weights = models.converted_weights()
    sizes = {name: value.to(kind) for name, value in weights.items() if name in SIZE_TENSORS}
    assert sizes
    torch.save(weights | sizes, tmp_path / "model.pth")
    convert_files([tmp_path / "model.pth"], tmp_path / "made.safetensors", torch.float32)
    written = load_file(tmp_path / "made.safetensors")
    assert all(torch.equal(written[name].long(), value.long()) for name, value in sizes.items())


def test_order_of_the_files_does_not_change_the_bytes(release, tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "second")]
    for path, files in zip(paths, (release, release[::-1]), strict=True):
        convert_files(files, path, torch.bfloat16)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_converting_by_way_of_float32_gives_the_same_bytes(release, tmp_path, dtype):
    whole, direct, detour = (tmp_path / f"{name}.safetensors" for name in "abc")
    convert_files(release, whole, torch.float32)
    convert_files(release, direct, DTYPES[dtype])
    convert_files([whole], detour, DTYPES[dtype])
    assert detour.read_bytes() == direct.read_bytes()


def test_file_has_the_size_that_was_announced(converted, release):
    dtype, path = converted
    size = saved_size(load_checkpoint(release), DTYPES[dtype])
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert path.stat().st_size == 8 + header + size


def test_half_precision_file_is_about_half_as_large(release, tmp_path):
    sizes = {}
    for name, dtype in DTYPES.items():
        convert_files(release, tmp_path / f"{name}.safetensors", dtype)
        sizes[name] = (tmp_path / f"{name}.safetensors").stat().st_size
    assert max(sizes["bf16"], sizes["fp16"]) < 0.6 * sizes["fp32"]


def test_model_of_a_file_restores_a_picture(converted):
    dtype, path = converted
    checkpoint = load_checkpoint([path])
    model = build_model(checkpoint.tensors, dtype=DTYPES[dtype])
    found = upscale(models.picture(24, 24), 2.0, VARSRRestorer(model))
    assert torch.isfinite(found).all()


def test_float32_file_gives_the_bits_of_the_release(release, tmp_path):
    convert_files(release, tmp_path / "model.safetensors", torch.float32)
    pictures = []
    for files in (release, [tmp_path / "model.safetensors"]):
        model = build_model(load_checkpoint(files).tensors)
        pictures.append(upscale(models.picture(24, 24), 2.0, VARSRRestorer(model)))
    assert torch.equal(*pictures)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pth", "does not end in .safetensors"),
        ("none/model.safetensors", "there is no folder"),
    ],
)
def test_place_that_cannot_be_written_is_refused_before_the_work(release, tmp_path, name, message):
    with pytest.raises(CheckpointError, match=message):
        convert_files(release, tmp_path / name, torch.float32)
    assert list(tmp_path.iterdir()) == []


def full_disk(monkeypatch, free):
    usage = SimpleNamespace(total=10**12, used=10**12 - free, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


@pytest.mark.parametrize("existing", [False, True])
def test_full_disk_is_refused_and_leaves_everything_as_it_was(
    release, tmp_path, monkeypatch, existing
):
    target = tmp_path / "model.safetensors"
    if existing:
        target.write_bytes(b"earlier")
    full_disk(monkeypatch, 1000)
    with pytest.raises(CheckpointError, match=r"needs 0\.00 GB, the disk has .*make room"):
        convert_files(release, target, torch.float32)
    assert list(tmp_path.iterdir()) == [target] * existing
    assert not existing or target.read_bytes() == b"earlier"


def test_room_is_checked_for_the_whole_file(release, tmp_path, monkeypatch):
    size = saved_size(load_checkpoint(release), torch.float32)
    for free, fits in ((size - 1, False), (size, True)):
        full_disk(monkeypatch, free)
        if fits:
            check_output(tmp_path / "model.safetensors", size)
        else:
            with pytest.raises(CheckpointError, match="make room"):
                check_output(tmp_path / "model.safetensors", size)


def test_header_is_counted_when_room_is_checked(release, tmp_path, monkeypatch):
    checkpoint = load_checkpoint(release)
    full_disk(monkeypatch, saved_size(checkpoint, torch.float32))
    with pytest.raises(CheckpointError, match="make room"):
        save_checkpoint(checkpoint, tmp_path / "model.safetensors", torch.float32, metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_error_in_the_middle_leaves_everything_as_it_was(release, tmp_path, existing, error):
    target = tmp_path / "model.safetensors"
    if existing:
        target.write_bytes(b"earlier")
    written = []

    def interrupt(size):
        written.append(size)
        assert len(list(tmp_path.iterdir())) > existing
        if len(written) == 20:
            raise error

    with pytest.raises(error):
        save_checkpoint(
            load_checkpoint(release), target, torch.float32, metadata={}, on_written=interrupt
        )
    assert len(written) == 20
    assert list(tmp_path.iterdir()) == [target] * existing
    assert not existing or target.read_bytes() == b"earlier"


def test_disk_that_fills_up_meanwhile_is_reported_and_leaves_nothing(
    release, tmp_path, monkeypatch
):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CheckpointError, match=r"could not be written \(No space left"):
        convert_files(release, tmp_path / "model.safetensors", torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_progress_of_writing_adds_up_to_the_announced_size(release, tmp_path):
    checkpoint, written = load_checkpoint(release), []
    save_checkpoint(
        checkpoint,
        tmp_path / "model.safetensors",
        torch.bfloat16,
        metadata={},
        on_written=written.append,
    )
    assert sum(written) == saved_size(checkpoint, torch.bfloat16)


def run_convert(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "varsr_core.convert", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_fp8_is_refused_before_anything_is_written(release, tmp_path):
    with pytest.raises(CheckpointError, match="fp8 is offered for larger models only"):
        convert_files(release, tmp_path / "model.safetensors", ALL_DTYPES["fp8"])
    assert not list(tmp_path.iterdir())


def test_command_converts_a_release(release, tmp_path):
    target = tmp_path / "model.safetensors"
    result = run_convert(*release[::-1], "-o", target, "--dtype", "bf16")
    assert result.returncode == 0, result.stderr
    assert load_checkpoint([target]).fingerprint == load_checkpoint(release).fingerprint
    assert load_file(target)["word_embed.weight"].dtype == torch.bfloat16
    again = run_convert(*release, "-o", target)
    assert again.returncode == 0, again.stderr
    assert load_file(target)["word_embed.weight"].dtype == FAMILIES["varsr"].dtypes[0]


def test_command_fails_with_a_message_and_no_traceback(release, tmp_path):
    target = tmp_path / "model.safetensors"
    result = run_convert(release[0], "-o", target)
    assert result.returncode == 1
    assert "this is only the tokenizer" in result.stderr
    assert "Traceback" not in result.stderr
    assert not target.exists()
