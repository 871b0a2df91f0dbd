"""Models in float16: what stays float32, and what is made once more where numbers are too large."""

from functools import cache

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.nsarm_goldens import GREEDY, SIDES, reference, trace
from helpers.upscaling import (
    ONE_BY_ONE,
    REFINING,
    SAMPLING,
    SEED,
    at_once,
    every_mode,
    in_mode,
    staged,
)
from varsr_core.nsarm import model as nsarm
from varsr_core.nsarm import stages as nsarm_stages
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.weights import convert as convert_nsarm
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.tiling import overflow
from varsr_core.upscaling import upscale
from varsr_core.varsr.acceleration import accelerated, in_float8
from varsr_core.varsr.refiner import sample_residual
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.stages import encode_prefix, refine_tokens, sample_tokens
from varsr_core.varsr.transformer import run_blocks
from varsr_core.varsr.weights import build_model, fix_dtype

FP16, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32
PREFIX, BLOCK = "prefix_encoder.conv_out.weight", "transformer.blocks.1.fc2.weight"
REFINER = "refiner.blocks.0.fc2.weight"
LARGE = 5e4  # of a layer's weights; float16 holds up to 65,504, less than what such a layer makes


def enlarged(weight, largest):
    return weight.detach() * (largest / weight.detach().abs().max())


@cache
def weights(name="", largest=LARGE):
    """As a file in float16 gives them back, one of them larger than any model has."""
    found = dict(models.converted_weights())
    if name:
        found[name] = enlarged(found[name], largest)
    return {name: w.to(fix_dtype(name, w, FP16)) for name, w in found.items()}


def varsr(name="", dtype=FP16, wide=FP32):
    model = build_model(weights(name), dtype=dtype, wide_dtype=wide, fingerprint="weights")
    return VARSRRestorer(model, SAMPLING, REFINING)


def restored(restorer, picture=None, mode="phased", execution=ONE_BY_ONE):
    picture = models.picture(50, 40) if picture is None else picture
    settings = in_mode(mode, color_fix="none")
    return upscale(picture, 2.0, restorer, seed=SEED, settings=settings, execution=execution)


@pytest.fixture
def once_more(monkeypatch):
    """Tiles that were begun again, by the loop."""
    found, plain = [], VARSRRestorer.wider

    def noting(self):
        wider = plain.fget(self)
        if wider is not None:
            start = wider.start

            def noted(lq, seeds):
                found.extend(seeds)
                return start(lq, seeds)

            object.__setattr__(wider, "start", noted)
        return wider

    monkeypatch.setattr(VARSRRestorer, "wider", property(noting))
    return found


def test_stream_and_hidden_state_stay_float32():
    restorer, seen = varsr(), set()
    model = restorer.model
    for block in [*model.transformer.blocks, *model.refiner.blocks]:
        block.register_forward_hook(
            lambda _, given, made: seen.update((given[0].dtype, made.dtype))
        )
    prefix = encode_prefix(model, models.picture(30, 32), 2.0, ONE_BY_ONE)
    tokens = sample_tokens(model, prefix, SAMPLING, SEED, ONE_BY_ONE)
    refine_tokens(model, tokens, REFINING, SEED, ONE_BY_ONE)
    assert seen == {FP32}
    assert tokens.hidden.dtype == FP32
    assert model.transformer.blocks[0].qkv.weight.dtype == FP16


def test_sound_pictures_are_not_made_twice(once_more):
    restored(varsr())
    assert not once_more


@every_mode
@each("name", [PREFIX, BLOCK, REFINER])
def test_picture_that_overflows_is_that_of_the_wider_dtype(name, mode, once_more):
    once_more.clear()
    found = restored(varsr(name), mode=mode)
    assert len(once_more) == 4
    exact = restored(varsr(name, FP32), mode=mode)
    if (name, mode) == (REFINER, "lock-step"):  # scales that all agreed on are kept
        assert (found - exact).abs().mean() < 0.05
    else:
        assert torch.equal(found, exact)


def test_wider_dtype_is_bf16_where_the_tokenizer_is(once_more):
    picture = models.picture(30, 32)
    found = restored(varsr(BLOCK, wide=BF16), picture)
    assert torch.equal(found, restored(varsr(BLOCK, BF16), picture))
    assert len(once_more) == 1


@every_mode
@each("tiles", [1, 4])
def test_only_the_tiles_that_overflow_are_made_once_more(mode, tiles, once_more):
    """Of grey little is left behind ten layers, whatever they are multiplied by."""
    once_more.clear()
    picture = torch.full((1, 3, 32, 100), 0.5)
    picture[..., :20] = models.picture(32, 20)
    found = restored(varsr(PREFIX), picture, mode, at_once(tiles))
    exact = restored(varsr(PREFIX, FP32), picture, mode, at_once(tiles))
    assert len(once_more) == 1
    assert found.isfinite().all()
    assert (found - exact)[..., :40].abs().mean() < (1e-4 if mode == "independent" else 0.05)


@each("name", [PREFIX, BLOCK, REFINER])
def test_stages_make_once_more_what_overflows_in_them(name):
    picture = models.picture(30, 32)
    found = staged(picture, 2.0, varsr(name))
    assert found.isfinite().all()
    if name == BLOCK:  # all of it is sampled in float32, behind the same prefix but for rounding
        exact = staged(picture, 2.0, varsr(name, FP32))
        assert (found - exact).abs().mean() < 0.05


def test_said_once_however_many_pictures(caplog):
    overflow._tell_once.cache_clear()
    for _ in range(2):
        restored(varsr(BLOCK))
    staged(models.picture(30, 32), 2.0, varsr(PREFIX))
    assert [record.getMessage()[:31] for record in caplog.records] == [
        "The model overflows in fp16. Ea"
    ]


def test_infinite_prediction_of_the_refiner_is_not_clamped_away():
    model = models.micro_model()
    noise, condition = torch.randn(3, 16, 32), torch.randn(2, 16, 32)
    bias = model.refiner.final.bias.detach().clone()
    bias[0] = torch.inf
    odd = build_model({**models.converted_weights(), "refiner.final.bias": bias})
    with torch.inference_mode():
        for guidance in (0.0, 2.0):
            sound = sample_residual(model.refiner, condition, noise, guidance=guidance, steps=2)
            assert sound.isfinite().all()
            found = sample_residual(odd.refiner, condition, noise, guidance=guidance, steps=2)
            assert found.isnan().all()


def test_wider_model_shares_weights_and_runs_plainly():
    plain = varsr(BLOCK).model
    quick = accelerated(plain, recorder=Recorder())
    wider = quick.widened()
    assert wider.dtype == wider.transformer.dtype == wider.refiner.dtype == FP32
    assert {block.dtype for block in wider.transformer.blocks} == {FP32}
    assert {block.dtype for block in plain.transformer.blocks} == {FP16}
    assert wider.transformer.run_blocks is run_blocks
    assert quick.transformer.run_blocks is not run_blocks
    ours = dict(plain.named_parameters())
    assert all(ours[name] is parameter for name, parameter in wider.named_parameters())
    assert varsr(dtype=BF16).model.widened() is None
    assert varsr(dtype=FP32).model.widened() is None


def test_weights_in_8_bits_are_made_once_more_too(once_more):
    plain = varsr(BLOCK).model
    model = in_float8(plain.state_dict(), plain)
    assert model.tokenizer_dtype == FP32
    found = restored(VARSRRestorer(model, SAMPLING, REFINING))
    assert found.isfinite().all()
    assert len(once_more) == 4


@cache
def nsarm_weights(name=""):
    found = dict(convert_nsarm(reference()))
    if name:
        found[name] = enlarged(found[name], LARGE)
    return {name: w.detach().to(nsarm.fix_dtype(name, w, FP16)) for name, w in found.items()}


def nsarm_restorer(name="", dtype=FP16):
    model = nsarm.build_model(
        nsarm_weights(name), sides=SIDES, dtype=dtype, wide_dtype=FP32, fingerprint="weights"
    )
    return NSARMRestorer(model, GREEDY, trace()["in.text_features"])


NSARM_LAYERS = ["maps.branches.2.narrow.weight", "transformer.blocks.0.fc2.weight"]


@each("name", NSARM_LAYERS)
def test_nsarm_that_overflows_makes_the_picture_of_float32(name):
    picture = models.picture(64, 64)
    found = upscale(picture, 2.0, nsarm_restorer(name))
    assert torch.equal(found, upscale(picture, 2.0, nsarm_restorer(name, FP32)))


@each("name", NSARM_LAYERS)
def test_staged_nsarm_makes_once_more_what_overflows(name):
    restorer = nsarm_restorer(name)
    prefix = nsarm_stages.encode_prefix(restorer, models.picture(64, 64), 2.0, ONE_BY_ONE)
    assert all(codes.isfinite().all() for codes in prefix.codes)
    bits = nsarm_stages.sample(restorer, prefix, SEED, ONE_BY_ONE)
    assert nsarm_stages.decode(restorer, bits, ONE_BY_ONE).isfinite().all()
