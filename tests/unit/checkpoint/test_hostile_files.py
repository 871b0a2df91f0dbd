"""Files made to be no model: none hangs, and each is refused by its name."""

import os
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from helpers.each import each
from helpers.release_files import save, save_converted
from tools.random_nsarm import MICRO, write_release
from varsr_core.checkpoint import load_checkpoint
from varsr_core.convert import convert_files
from varsr_core.errors import CheckpointError
from varsr_core.files.soundness import check_plain
from varsr_core.files.tensors import MAX_CONTAINERS, MAX_DEPTH
from varsr_core.nn.float8 import FLOAT8


def refuse(path, match):
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=match) as refused:
        load_checkpoint([path])
    assert time.monotonic() - start < 20
    assert path.name in str(refused.value)
    return str(refused.value)


@pytest.fixture(scope="module")
def nsarm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsarm")
    convert_files(list(write_release(folder, MICRO)), folder / "m.safetensors", torch.float32)
    return {n: t.detach() for n, t in load_checkpoint([folder / "m.safetensors"]).tensors.items()}


@pytest.fixture(params=["varsr", "nsarm"])
def converted(request, expected, nsarm):
    return dict(expected if request.param == "varsr" else nsarm)


@each("kind", ["dict", "OrderedDict"])
@each("old", [True, False])
def test_dictionaries_that_share_others_are_walked_once(tmp_path, old, kind):
    make = dict if kind == "dict" else OrderedDict
    shared = make()
    for _ in range(MAX_DEPTH - 2):
        shared = make(a=shared, b=shared)
    path = save(tmp_path / "m.pth", shared, _use_new_zipfile_serialization=not old)
    refuse(path, "no checkpoint of VARSR or NSARM|no end to it")


def test_dictionaries_that_hold_themselves_end(tmp_path):
    first, second = {"weight": torch.zeros(1)}, {}
    first |= {"self": first, "other": second}
    second |= {"first": first, "second": second}
    refuse(save(tmp_path / "m.pth", first), "none of its 1 tensors")


@each("case", ["deep", "many"])
def test_more_nesting_than_any_checkpoint_has_is_refused(tmp_path, case):
    nested = {}
    if case == "deep":
        for _ in range(MAX_DEPTH + 2):
            nested = {"a": nested}
    else:
        nested = {str(i): {} for i in range(MAX_CONTAINERS + 1)}
    refuse(save(tmp_path / "m.pth", nested), "nests more than")


def bomb(path, body, old):
    """A pickle of torch.save() with other opcodes in it."""
    body = b"\x80\x02" + body + b"."
    save(path, {}, _use_new_zipfile_serialization=not old)
    if old:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"\x80\x02}q\x00.", body, 1))
        assert body in path.read_bytes()
        return path
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, body if name.endswith("data.pkl") else content)
    return path


TWICE = b")q\x01" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(1, 100))
WIDE = b")q\x01" + b"".join(b"(" + b"h%c" % i * 300 + b"tq%c" % (i + 1) for i in range(1, 9))
BOMBS = {
    "key": b"}" + TWICE + b"K\x01s",
    "wide key": b"}" + WIDE + b"K\x01s",
    "printed": b"}K\x01" + TWICE + b"\x85Qs",
    "called": b"}K\x01" + TWICE + b")Rs",
}


@pytest.mark.parametrize("case", BOMBS)
@each("old", [True, False])
def test_tuples_that_hold_each_other_are_refused_before_they_are_hashed(tmp_path, case, old):
    refuse(bomb(tmp_path / "m.pth", BOMBS[case], old), "no end to it")


def test_outer_and_earlier_dictionaries_still_come_first(tmp_path, reference):
    other = {name: torch.zeros_like(tensor) for name, tensor in reference.items()}
    path = save(tmp_path / "m.pth", {"a": {"deep": reference}, "b": other})
    head = load_checkpoint([path]).tensors["transformer.head.weight"]
    assert torch.equal(head, reference["head.weight"])


ODD = {
    "complex": lambda t: t.to(torch.complex64),
    "quantized": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "sparse": lambda t: t.to_sparse(),
    "meta": lambda t: t.to("meta"),
}


@each("name", ["head.weight", "blocks.0.attn.scale_mul_1H11", "pos_start", "encoder.conv_in.bias"])
@each("kind", ODD)
def test_release_with_a_tensor_that_is_no_plain_one_is_refused(tmp_path, reference, kind, name):
    odd = {**reference, name: ODD[kind](reference[name])}
    refuse(save(tmp_path / "m.pth", odd), kind)


@each("kind", [*ODD, "integer", "bool", "empty"])
def test_converted_weights_that_are_no_plain_numbers_are_refused(tmp_path, converted, kind):
    last = list(converted)[-1]
    make = {
        **ODD,
        "integer": lambda t: t.to(torch.int32),
        "bool": lambda t: t.bool(),
        "empty": lambda t: t.new_zeros(0, *t.shape[1:]),
    }[kind]
    for name in {last, next(n for n, t in converted.items() if t.dim() == 2)}:
        refuse(save(tmp_path / "m.pth", {**converted, name: make(converted[name])}), ".")


def test_mask_that_is_stored_as_one_repeated_value_is_no_fault(tmp_path, reference):
    mask = torch.zeros(1).expand(1, 1, 46, 46)
    path = save(tmp_path / "m.pth", {**reference, "attn_bias_for_masking": mask})
    assert load_checkpoint([path]).family.name == "varsr"


def test_tensor_of_a_few_bytes_that_claims_to_be_huge_is_refused_at_once():
    with pytest.raises(CheckpointError, match="fewer values"):
        check_plain({"huge": torch.zeros(1).expand(2**40)})


def test_fp8_of_other_programs_is_widened_where_no_layer_takes_it(tmp_path, converted):
    odd = {n: t.to(FLOAT8) if t.is_floating_point() else t for n, t in converted.items()}
    network = load_checkpoint([save(tmp_path / "m.pth", odd)]).build(dtype=torch.float32)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


SCHEDULES = {
    "zero": [0, 1, 2, 4],
    "negative": [1, -2, 3, 4],
    "not rising": [1, 2, 2, 4],
    "falling": [4, 3, 2, 1],
    "huge": [1, 2, 3, 2**40],
    "huge once": [2**62],
    "none": [],
    "floats": [1.0, 2.0, 3.0, 4.0],
    "NaN": [1.0, float("nan"), 3.0, 4.0],
    "bool": [True, False],
    "too deep": [[1, 2, 3, 4]],
    "a number": 1,
}


@each("case", SCHEDULES)
def test_impossible_schedule_is_refused(tmp_path, converted, case):
    schedule = torch.tensor(SCHEDULES[case])
    if case == "none":
        schedule = schedule.long()
    refuse(save(tmp_path / "m.pth", {**converted, "schedule": schedule}), ".")


@each("groups", [0, -1, 5, 64, 2**40, 8.0, float("nan"), True, [8], [8, 8], []])
def test_impossible_norm_groups_are_refused(tmp_path, expected, groups):
    odd = {**expected, "norm_groups": torch.tensor(groups)}
    refuse(save(tmp_path / "m.pth", odd), "norm_groups")


@each("heads", [0, 3, 5, 128])
def test_impossible_heads_are_refused(tmp_path, converted, heads):
    odd = {
        name: torch.ones(heads) if name.endswith("query_scale.weight") else tensor
        for name, tensor in converted.items()
    }
    refuse(save(tmp_path / "m.pth", odd), ".")


@each("levels", [lambda t: t.float(), lambda t: t - 1, lambda t: t * 10**12, lambda t: t.bool()])
def test_impossible_levels_of_a_release_are_refused(tmp_path, reference, levels):
    odd = {**reference, "lvl_1L": levels(reference["lvl_1L"])}
    refuse(save(tmp_path / "m.pth", odd), ".")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_that_may_not_be_read_says_so(tmp_path, expected, monkeypatch, suffix):
    path = tmp_path / f"m{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(expected, path)

    def refused(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)  # root may read everything, so it is played
    text = refuse(path, "may not be read .*permission")
    assert "download" not in text


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_folder_pipe_and_device_are_refused_without_waiting(tmp_path, suffix):
    folder, pipe, device = (tmp_path / f"{name}{suffix}" for name in ("a", "b", "c"))
    folder.mkdir()
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    refuse(folder, "is a folder")
    refuse(pipe, "is a pipe or a device")
    refuse(device, "is a pipe or a device")


def test_name_that_no_file_can_have_and_a_loop_of_links_are_refused(tmp_path):
    loop = tmp_path / "loop.pth"
    loop.symlink_to(loop)
    refuse(loop, "cannot be opened|there is no file")
    for name in ("a" * 300 + ".pth", "a\0b.pth"):
        with pytest.raises(CheckpointError, match="cannot be opened"):
            load_checkpoint([tmp_path / name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@each("value", [torch.nan, torch.inf, -torch.inf])
def test_value_that_is_not_finite_is_refused_with_file_and_tensor(
    tmp_path, converted, dtype, value
):
    learned = {n: t.to(dtype) for n, t in converted.items() if t.is_floating_point()}
    for name in list(learned)[:: 1 + len(learned) // 6]:
        odd = learned[name].clone()
        odd.view(-1)[-1] = value
        save_file({**converted, **learned, name: odd}, tmp_path / "m.safetensors")
        assert f"{name} has NaN or infinite" in refuse(tmp_path / "m.safetensors", ".")


@each("name", ["head.weight", "blocks.1.attn.mat_qkv.weight", "blocks.0.ada_lin.1.bias"])
def test_release_with_nan_is_not_converted(tmp_path, reference, name):
    odd = reference[name].clone()
    odd.view(-1)[7] = torch.nan
    path = save(tmp_path / "m.pth", {**reference, name: odd})
    with pytest.raises(CheckpointError, match=r"m\.pth: .* has NaN or infinite values"):
        convert_files([path], tmp_path / "m.safetensors", torch.bfloat16)
    assert not list(tmp_path.glob("m.safetensors*"))


def test_weights_too_large_for_fp16_are_refused_when_cast(tmp_path, expected):
    large = {**expected, "word_embed.weight": expected["word_embed.weight"] * 1e6}
    path = save_converted(tmp_path / "m.safetensors", large)
    read = load_checkpoint([path])
    read.build(dtype=torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"m\.safetensors: word_embed.* fp16\. Choose bf16"):
        read.build(dtype=torch.float16)
    with pytest.raises(CheckpointError, match=r"half\.safetensors was not written: word_embed"):
        convert_files([path], tmp_path / "half.safetensors", torch.float16)
    assert not list(tmp_path.glob("half*"))
