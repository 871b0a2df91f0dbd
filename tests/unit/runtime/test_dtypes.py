"""Which dtype a model is loaded in: what `auto` takes on which device."""

from types import SimpleNamespace

import pytest
import torch

from helpers.each import each
from varsr_core.checkpoint import FAMILIES, build_restorer, read_model
from varsr_core.errors import InputError
from varsr_core.runtime import device as devices
from varsr_core.runtime import dtypes
from varsr_core.runtime.device import pick_dtype, wide_dtype
from varsr_core.runtime.dtypes import DTYPES, NEAREST, RANGE

FP16, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
# Name and generation of a card -> nearest to float32; of the widest range; what float16 cannot hold
CARDS = {
    ("NVIDIA GeForce GTX 1080", 6): (FP32, FP32, FP32),
    ("NVIDIA GeForce GTX 1660", 7): (FP32, FP32, FP32),
    ("NVIDIA GeForce RTX 2080", 7): (FP16, FP16, FP32),
    ("NVIDIA GeForce RTX 3060", 8): (FP16, BF16, BF16),
    ("NVIDIA H200", 9): (FP16, BF16, BF16),
}


@each("card", CARDS)
def test_auto_on_nvidia(card, monkeypatch):
    name, major = card
    found = SimpleNamespace(name=name, major=major)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    chosen = [pick_dtype("auto", CUDA, order) for order in (NEAREST, RANGE)]
    assert (*chosen, wide_dtype(CUDA)) == CARDS[card]
    assert pick_dtype("auto", CUDA) == chosen[0]


@each("device", ["mps", "xpu"])
def test_auto_on_other_gpus(device):
    device = torch.device(device)
    assert [pick_dtype("auto", device, order) for order in (NEAREST, RANGE)] == [FP16, BF16]
    assert wide_dtype(device) == BF16


@each(("units", "chosen"), [(set(), FP32), ({"_is_amx_tile_supported"}, BF16)])
def test_auto_on_cpus_is_bf16_only_where_they_have_it(units, chosen, monkeypatch):
    for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda check=check: check in units)
    assert [pick_dtype("auto", CPU, order) for order in (NEAREST, RANGE)] == [chosen] * 2
    assert wide_dtype(CPU) == FP32


@each("device", [CPU, CUDA])
def test_what_the_user_names_is_taken(device):
    assert [pick_dtype(name, device) for name in DTYPES] == list(DTYPES.values())
    with pytest.raises(InputError, match="'half' is none of auto"):
        pick_dtype("half", device)


def test_families_say_what_auto_tries():
    assert FAMILIES["varsr"].dtypes == NEAREST
    assert FAMILIES["nsarm"].dtypes == RANGE


@each(("dtype", "tokenizer"), [("fp32", FP32), ("bf16", BF16), ("fp16", FP32)])
def test_tokenizer_is_never_float16(dtype, tokenizer):
    model = build_restorer(read_model(), device="cpu", dtype=dtype).model
    assert model.dtype == model.transformer.dtype == model.refiner.dtype == DTYPES[dtype]
    assert model.tokenizer_dtype == model.decoder.conv_in.weight.dtype == tokenizer
    assert model.encoder.conv_in.weight.dtype == tokenizer


def test_on_a_card_with_bf16_the_tokenizer_beside_float16_is_bf16(monkeypatch):
    monkeypatch.setattr(devices, "_fast_dtypes", lambda device: {FP16, BF16})
    assert dtypes.wide({FP16, BF16}) == BF16
    model = build_restorer(read_model(), device=None, dtype="auto", wide_dtype=BF16).model
    assert model.dtype == FP16
    assert model.word_embed.weight.dtype == FP16
    assert model.decoder.conv_in.weight.dtype == model.tokenizer_dtype == BF16
