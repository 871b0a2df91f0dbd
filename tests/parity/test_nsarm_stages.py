"""NSARM's numbers, stage by stage, against those recorded from the public code."""

import pytest
import torch
import torch.nn.functional as F

from helpers.each import each
from helpers.nsarm_goldens import GREEDY, SIDES, model, recorded_codes, relative, start, trace
from varsr_core.nsarm.bits import codes_of_bits, draw_bits, unpatch
from varsr_core.nsarm.config import FORCED
from varsr_core.nsarm.sampling import enlarged, force_scales, next_words, sample_scale


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def test_autoencoder_reads_the_low_quality_picture_as_recorded():
    lq = trace()["in.lq_u8_hwc"].permute(2, 0, 1)[None] / 255
    assert lq.shape[-1] == model().config.lq_size
    assert relative(model().encode(lq), trace()["vae.raw_features"][:, :, 0]) < 1e-4


@each("scale", range(FORCED))
def test_map_network_gives_the_recorded_maps_and_codes(scale):
    latent = trace()["vae.raw_features"][:, :, 0]
    assert relative(model().maps(latent)[scale], trace()[f"map.out.{scale}"]) < 1e-4
    signs = model().forced_codes(latent)[scale] > 0
    assert torch.equal(signs, recorded_codes(scale) > 0)


def test_text_gives_the_recorded_vector_and_modulation():
    text = model().transformer.read(trace()["in.text_features"])
    assert relative(text.start, trace()["text.sos"]) < 1e-4
    assert relative(text.condition, trace()["cond.gss"]) < 1e-4
    normed, ca = trace()["text.normed"], model().transformer.text
    memory = ca.fc2(F.gelu(ca.fc1(normed), approximate="tanh"))
    assert relative(memory, trace()["text.ca"]) < 1e-4


@pytest.fixture(scope="module")
def fed():
    """Every scale one after the other, each fed the recorded codes of those before."""
    with torch.inference_mode():
        state = start()
        text, cache, transformer = state.texts[0], state.caches[0], model().transformer
        latent, found = state.latent, []
        for scale in range(len(SIDES)):
            words = next_words(model(), latent, scale, GREEDY) if scale else None
            x = transformer.embed(words, text, scale, 1)
            hidden = transformer(x, text, cache, [scale])
            found.append((words, hidden, transformer.logits(hidden, text)))
            latent = latent + enlarged(model(), recorded_codes(scale))
        return found, cache, latent


@each("scale", range(len(SIDES)))
def test_scale_sees_and_says_what_was_recorded(fed, scale):
    words, hidden, logits = fed[0][scale]
    if scale:
        assert relative(words, trace()[f"scale.{scale:02d}.tokens_in"]) < 1e-6
    assert relative(hidden, trace()[f"scale.{scale:02d}.hidden"]) < 1e-4
    recorded = trace()[f"scale.{scale:02d}.logits_raw"].unflatten(2, (-1, 2))
    assert relative(logits, recorded) < 1e-3
    bits = draw_bits(logits, temperature=0, top_p=1, uniform=None)
    wanted = trace()[f"scale.{scale:02d}.sampled_bits_flat"].reshape(bits.shape) > 0
    clear = (recorded[..., 1] - recorded[..., 0]).abs() > 1e-5 * recorded.abs().max()
    assert torch.equal(bits[clear], wanted[clear])
    assert clear.float().mean() > 0.99


@each("scale", range(FORCED, len(SIDES)))
def test_bits_become_the_recorded_codes(scale):
    side = SIDES[scale]
    bits = trace()[f"scale.{scale:02d}.sampled_bits_flat"].reshape(1, side * side, -1)
    codes = codes_of_bits(unpatch(bits.float(), side) > 0)
    torch.testing.assert_close(codes, recorded_codes(scale), rtol=1e-6, atol=1e-6)


def test_sum_of_all_scales_is_what_was_decoded(fed):
    assert relative(fed[2], trace()["vae.dec_in"]) < 1e-5


def test_decoder_gives_the_recorded_picture():
    found = model().decode(trace()["vae.dec_in"])
    wanted = (trace()["vae.dec_out"].float().clamp(-1, 1) + 1) / 2
    assert (found - wanted).abs().max() < 3e-3 / 2


def test_forced_scales_in_one_pass_fill_the_cache_as_one_by_one(fed):
    state = start()
    force_scales(model(), state, GREEDY)
    count = sum(side * side for side in SIDES[:FORCED])
    assert state.caches[0].length == count
    for found, wanted in zip(state.caches[0].storage, fed[1].storage, strict=True):
        assert relative(found[..., :count, :], wanted[..., :count, :]) < 1e-5


def test_free_run_from_the_recorded_maps_ends_in_the_recorded_latent():
    state = start()
    force_scales(model(), state, GREEDY)
    for scale in range(FORCED, len(SIDES)):
        sample_scale(model(), state, scale, GREEDY)
    differ = [
        (bits.flatten() != (trace()[f"scale.{scale:02d}.sampled_bits_flat"].flatten() > 0))
        for scale, bits in enumerate(state.bits, start=FORCED)
    ]
    assert torch.cat(differ).float().mean() < 1e-3
    assert (state.latent - trace()["vae.dec_in"]).square().mean() < 1e-3


def test_last_scale_leaves_nothing_in_the_cache():
    state = start()
    force_scales(model(), state, GREEDY)
    for scale in range(FORCED, len(SIDES)):
        sample_scale(model(), state, scale, GREEDY)
    cache = state.caches[0]
    assert cache.length == cache.capacity == sum(side * side for side in SIDES[:-1])
