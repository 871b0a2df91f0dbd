"""A file carries a hash of its own tensors: other weights under its description are found out."""

import copy
import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.each import each
from helpers.release_files import save_converted
from varsr_core.checkpoint import fingerprint, load_checkpoint
from varsr_core.convert import DTYPES, convert_files
from varsr_core.errors import CheckpointError, InputError
from varsr_core.tiling.stages import check_made_by
from varsr_core.varsr.family import NANO_FILE

DAMAGED = "not those that it was written with"


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def changed(tensors, name, index):
    values = tensors[name].clone()
    values.view(-1)[index] += 1
    return {**tensors, name: values}


@each("dtype", ["fp32", "bf16", "fp16"])
def test_sound_files_load_with_the_fingerprint_of_the_weights(tmp_path, expected, dtype):
    path = save_converted(tmp_path / "m.safetensors", expected, DTYPES[dtype])
    assert load_checkpoint([path]).fingerprint == fingerprint(expected)
    again = tmp_path / "again.safetensors"
    convert_files([path], again, torch.float16)
    assert load_checkpoint([again]).fingerprint == fingerprint(expected)
    assert metadata_of(path)["contents"] != metadata_of(again)["contents"] or dtype == "fp16"


@each("name", ["transformer.head.weight", "quantizer.codebook.weight", "encoder.conv_in.bias"])
def test_one_changed_value_under_the_old_description_is_refused(tmp_path, expected, name):
    path = save_converted(tmp_path / "m.safetensors", expected)
    save_file(changed(load_file(path), name, 1), tmp_path / "n.safetensors", metadata_of(path))
    with pytest.raises(CheckpointError, match=rf"n\.safetensors: .*{DAMAGED}"):
        load_checkpoint([tmp_path / "n.safetensors"])


def test_cast_or_short_file_under_the_old_description_is_refused(tmp_path, expected):
    path = save_converted(tmp_path / "m.safetensors", expected)
    tensors = load_file(path)
    cast = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    short = {n: t for n, t in tensors.items() if n != "schedule"}
    for odd in (cast, short):
        save_file(odd, tmp_path / "n.safetensors", metadata_of(path))
        with pytest.raises(CheckpointError, match=DAMAGED):
            load_checkpoint([tmp_path / "n.safetensors"])


def test_fingerprint_of_another_model_in_the_description_is_refused(tmp_path, expected):
    path = save_converted(tmp_path / "m.safetensors", expected)
    metadata = {**metadata_of(path), "fingerprint": "0" * 32}
    save_file(load_file(path), tmp_path / "n.safetensors", metadata)
    with pytest.raises(CheckpointError, match=DAMAGED):
        load_checkpoint([tmp_path / "n.safetensors"])


def test_file_written_again_in_another_order_is_the_same(tmp_path, expected):
    path = save_converted(tmp_path / "m.safetensors", expected, torch.bfloat16)
    turned = dict(reversed(load_file(path).items()))
    save_file(turned, tmp_path / "n.safetensors", {**metadata_of(path), "title": "mine"})
    assert load_checkpoint([tmp_path / "n.safetensors"]).fingerprint == fingerprint(expected)


def without_contents(path, tensors=None):
    metadata = {n: text for n, text in metadata_of(path).items() if n != "contents"}
    save_file(tensors or load_file(path), path, metadata)
    return path


@each("dtype", ["fp32", "bf16", "fp16"])
def test_older_files_without_the_hash_keep_their_fingerprint(tmp_path, expected, dtype):
    path = save_converted(tmp_path / "m.safetensors", expected, DTYPES[dtype])
    before = without_contents(path).read_bytes()
    assert load_checkpoint([path]).fingerprint == fingerprint(expected)
    assert path.read_bytes() == before
    again = tmp_path / "again.safetensors"
    convert_files([path], again, torch.float32)
    assert load_checkpoint([without_contents(again)]).fingerprint == fingerprint(expected)


def test_older_file_with_other_weights_under_a_fingerprint_is_another_model(tmp_path, expected):
    path = save_converted(tmp_path / "m.safetensors", expected)
    other = {
        n: t + torch.rand_like(t) if t.is_floating_point() else t
        for n, t in load_file(path).items()
    }
    without_contents(path, other)
    assert load_checkpoint([path]).fingerprint == fingerprint(other) != fingerprint(expected)


def fine_tuned(tensors):
    """Every weight moved by a few per cent, in the dtype it has."""
    torch.manual_seed(0)
    return {
        n: (t * (1 + 0.05 * torch.randn(t.shape))).to(t.dtype) if t.is_floating_point() else t
        for n, t in tensors.items()
    }


@each("dtype", ["bf16", "fp16"])
def test_older_cast_file_with_other_weights_is_no_conversion_of_its_release(
    tmp_path, expected, dtype
):
    sound = without_contents(save_converted(tmp_path / "s.safetensors", expected, DTYPES[dtype]))
    odd = save_converted(tmp_path / "o.safetensors", expected, DTYPES[dtype])
    without_contents(odd, fine_tuned(load_file(odd)))
    release = save_converted(tmp_path / "r.safetensors", expected)
    found = [load_checkpoint([path]).fingerprint for path in (sound, odd, release)]
    assert found[0] == found[2] == fingerprint(expected)
    assert found[1] != found[2]
    assert found[2] != found[1]
    assert found[0] != found[1]
    assert len(set(map(str, found))) == 1, "what is kept of them is one text"
    with pytest.raises(InputError, match="another model"):
        check_made_by(found[1], "tokens", found[2], "Load VARSR Model")
    check_made_by(found[0], "tokens", found[2], "Load VARSR Model")


@each("name", ["transformer.head.weight", "quantizer.codebook.weight", "encoder.conv_in.bias"])
def test_of_older_cast_files_of_one_dtype_all_bytes_count(tmp_path, expected, name):
    """Also against a file that carries the hash."""
    sound = save_converted(tmp_path / "s.safetensors", expected, torch.bfloat16)
    odd = save_converted(tmp_path / "o.safetensors", expected, torch.bfloat16)
    without_contents(odd, changed(load_file(odd), name, 1))
    for _ in range(2):
        assert load_checkpoint([odd]).fingerprint != load_checkpoint([sound]).fingerprint
        assert load_checkpoint([odd]).fingerprint == load_checkpoint([odd]).fingerprint
        without_contents(sound)


def test_conversions_count_as_one_model_by_whatever_way_they_were_made(tmp_path, expected):
    """Also weights so small that fp16 loses them, and those that are rounded twice."""
    small = {n: t * 1e-7 if "conv_in" in n else t for n, t in expected.items()}
    ways = [("fp32",), ("bf16",), ("fp16",), ("fp16", "bf16"), ("bf16", "fp16"), ("bf16", "fp32")]
    found = []
    for way in ways:
        path = save_converted(tmp_path / "m.safetensors", small)
        for dtype in way:
            convert_files([path], path, DTYPES[dtype])
        found.append(load_checkpoint([path]).fingerprint)
        found.append(load_checkpoint([without_contents(path)]).fingerprint)
    wanted = fingerprint(small)
    for one in found:
        assert one == wanted
        assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == wanted
        assert json.loads(json.dumps([one])) == [str(wanted)]


def test_built_in_model_keeps_its_fingerprint():
    told = metadata_of(NANO_FILE)["fingerprint"]
    assert load_checkpoint([NANO_FILE]).fingerprint == told
