"""NSARM in training: its losses, its encoding, and that it learns maps, then bits."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from helpers import models
from helpers.each import each
from helpers.nsarm_training import MAPS, batch, learner, micro, write_infinity
from helpers.threads import one_thread
from helpers.training import settings
from tools.random_nsarm import MICRO, write_release
from varsr_core.checkpoint import load_model, save_checkpoint
from varsr_core.convert import convert_files
from varsr_core.errors import CheckpointError, InputError
from varsr_core.nn.float8 import FLOAT8
from varsr_core.nsarm.bits import patch
from varsr_core.nsarm.config import FORCED
from varsr_core.nsarm.family import NSARMChoices
from varsr_core.nsarm.results import TextFeatures
from varsr_core.nsarm.sampling import (
    SampleSettings,
    force_scales,
    sample_scale,
    start_sampling,
)
from varsr_core.nsarm.text_files import save_text
from varsr_core.nsarm.training.maps import MapsLoss, MapsTraining, map_losses
from varsr_core.nsarm.training.start import MapSizes, checkpoint, started
from varsr_core.nsarm.training.targets import encode, flip
from varsr_core.nsarm.training.teacher_forcing import all_hidden
from varsr_core.nsarm.training.texts import Texts
from varsr_core.nsarm.training.whole import WholeLoss, WholeTraining, bit_errors, token_weights
from varsr_core.training.config import TrainingConfig, from_plain, read_config
from varsr_core.training.data.small_pairs import SmallPairBatch
from varsr_core.training.loop import Loop
from varsr_core.training.run import MODEL_FILE
from varsr_core.training.starting.sources import Sources
from varsr_core.upscaling import UpscaleSettings, upscale

GREEDY = SampleSettings(temperature=0)
WIDTH = MICRO.text


@pytest.fixture(scope="module", autouse=True)
def _alone():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return micro(tmp_path_factory.mktemp("micro"))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def latents(model, pictures=2, seed=0):
    side, channels = model.config.final_cells, model.config.vae.latent_channels
    return noise(pictures, channels, side, side, seed=seed)


def text_file(path, tokens, seed=0):
    save_text(TextFeatures(noise(tokens, WIDTH, seed=seed)), path)
    return path


def by_hand(model, latent, shown=None):
    """Codes and sums, scale by scale; shown: of codes, what is added of them."""
    total, codes, sums = torch.zeros_like(latent), [], []
    for k, side in enumerate(model.config.schedule.sides):
        rest = F.interpolate(latent - total, (2 * side, 2 * side), mode="area")
        codes.append(torch.where(rest > 0, 1.0, -1.0) / 14**0.5)
        added = codes[-1] if shown is None else shown[k]
        size = latent.shape[-2:]
        total = total + F.interpolate(added, size, mode="bilinear", align_corners=False)
        sums.append(total)
    return codes, sums


def test_encoding_is_infinitys(small):
    latent = latents(small)
    found = encode(small, latent)
    codes, sums = by_hand(small, latent)
    for mine, wanted in ((found.codes, codes), (found.latents, sums)):
        for a, b in zip(mine, wanted, strict=True):
            torch.testing.assert_close(a, b)


def test_later_scales_correct_what_was_flipped_or_forced(small):
    latent, rng = latents(small), torch.Generator().manual_seed(3)
    forced = [-codes for codes in by_hand(small, latent)[0][:FORCED]]
    found = encode(small, latent, forced, 0.5, rng)
    shown = [*forced]
    again = torch.Generator().manual_seed(3)
    for scale in range(FORCED, len(found.codes)):
        rest = latent - found.latents[scale - 1]
        side = found.codes[scale].shape[-1]
        own = torch.where(F.interpolate(rest, (side, side), mode="area") > 0, 1.0, -1.0)
        torch.testing.assert_close(found.codes[scale], own / 14**0.5)
        shown.append(flip(found.codes[scale], 0.5, again))
    _, sums = by_hand(small, latent, shown)
    torch.testing.assert_close(found.latents[-1], sums[-1])
    unaware = by_hand(small, latent)[0]
    assert not torch.equal(found.codes[-1], unaware[-1])


def test_each_picture_draws_its_own_share_of_flips():
    codes = torch.ones(64, 14, 8, 8)
    flipped = flip(codes, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(flipped.abs(), codes)
    shares = (flipped < 0).float().mean((1, 2, 3))
    assert shares.max() < 0.36
    assert shares.min() < 0.03
    assert shares.mean() == pytest.approx(0.15, abs=0.03)


def test_map_loss_reads_tokens_as_they_lie_in_memory(small):
    lq, codes = latents(small)[..., :4, :4], encode(small, latents(small)).codes[:FORCED]
    found = map_losses(small, lq, codes, 0.0, torch.Generator())
    with torch.no_grad():
        tokens = small.maps(lq)
    errors, right = [], []
    for made, wanted in zip(tokens, codes, strict=True):
        flat = made.flatten(1)  # (L, C) one behind the other, read as (C, side, side)
        errors.append((flat - wanted.flatten(1)).square().mean())
        right.append(((flat > 0) == (wanted.flatten(1) > 0)).float().mean())
    torch.testing.assert_close(found["loss"], sum(errors) / FORCED)
    torch.testing.assert_close(found["map_bits"], sum(right) / FORCED)
    # What it is right about is what sampling takes.
    taken = small.forced_codes(lq)
    same = [(a == b).float().mean() for a, b in zip(taken, codes, strict=True)]
    torch.testing.assert_close(found["map_bits"], sum(same) / FORCED)


@each("by_side", [True, False])
def test_bit_loss_is_the_cross_entropy_of_each_bit(small, by_side):
    schedule = dataclasses.replace(small.config.schedule, sides=(1, 2, 3, 4, 5, 6, 7, 8, 9))
    model = type("Sized", (), {"config": type("C", (), {"schedule": schedule})})
    logits, bits = noise(2, 64 + 81, 56, 2), (noise(2, 64 + 81, 56, seed=1) > 0).long()
    found = bit_errors(logits, bits, token_weights(model, by_side))
    for picture in range(2):
        total = weight = 0.0
        for token in range(64 + 81):
            own = 1 / (8 if token < 64 else 9) if by_side else 1.0
            zero, one = logits[picture, token].unbind(1)
            right = torch.where(bits[picture, token] == 1, one, zero)
            total += own * (torch.logaddexp(zero, one) - right).mean().item()
            weight += own
        assert found[picture].item() == pytest.approx(total / weight, rel=1e-5)


def test_one_pass_equals_the_cached_steps(small):
    with torch.no_grad():
        text = small.transformer.read(noise(5, WIDTH))
        forced = small.forced_codes(latents(small)[..., :4, :4])
        state = start_sampling(small, forced, [text], models.own_seeds(2))
        force_scales(small, state, GREEDY)
        for scale in range(FORCED, small.config.schedule.num_scales):
            sample_scale(small, state, scale, GREEDY)
        target = encode(small, latents(small), forced)
        hidden = all_hidden(small, target.words(small, GREEDY), text)
        last = small.config.schedule.final_side**2
        logits = small.transformer.logits(hidden[:, -last:], text)
    margin = logits[..., 1] - logits[..., 0]
    sure = margin.abs() > 1e-4
    assert sure.float().mean() > 0.99
    assert torch.equal((margin > 0)[sure], state.bits[0][sure])


def losses_of(loss, pair, seed=0):
    return loss(*loss.inputs(pair), torch.Generator().manual_seed(seed))


def gradients(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_checkpointing_gives_equal_bits(small):
    parts = [p.requires_grad_(True) for p in small.transformer.parameters()]
    found = []
    for checkpointing in (False, True):
        loss = WholeLoss(small, WholeTraining(maps=0.0), Texts(None, WIDTH), checkpointing)
        made = losses_of(loss, batch(small))["loss"]
        found.append((made.detach(), gradients(small, made)))
    for p in parts:
        p.requires_grad_(False)
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    assert all(torch.equal(grad, found[1][1][name]) for name, grad in found[0][1].items())
    assert any(name.startswith("transformer.text.") for name in found[0][1])


def test_each_picture_is_learned_with_its_own_text(small, tmp_path):
    text_file(tmp_path / "a.safetensors", 3)
    text_file(tmp_path / "b.safetensors", 7, seed=1)
    texts = Texts(tmp_path, WIDTH)
    chosen = WholeTraining(maps=0.0, flipped=0.0, without_text=0.0)
    loss, pair = WholeLoss(small, chosen, texts), batch(small)
    whole = losses_of(loss, pair._replace(files=[Path("x/a.png"), Path("x/b.jpg")]))
    files = (Path("a.png"), Path("b.png"))
    singles = zip(pair.lq[:, None], pair.target[:, None], files, strict=True)
    alone = [losses_of(loss, SmallPairBatch(lq, target, [file])) for lq, target, file in singles]
    for name in ("loss", "accuracy"):
        torch.testing.assert_close(whole[name], (alone[0][name] + alone[1][name]) / 2)
    swapped = losses_of(loss, pair._replace(files=[Path("b.png"), Path("a.png")]))
    assert not torch.isclose(swapped["loss"], whole["loss"], rtol=1e-4)
    with pytest.raises(InputError, match=r"1 of 2 pictures have no text: for c\.png"):
        texts.check([Path("a.png"), Path("c.png")])


def test_a_text_left_out_is_the_learned_one_of_its_length(small, tmp_path):
    path = text_file(tmp_path / "a.safetensors", 3)
    texts = Texts(path, WIDTH)
    assert texts.grouped([path, path, None], [False, True, True]) == {
        (path, 3): [0],
        (None, 3): [1],
        (None, 128): [2],
    }
    encoder = small.transformer.text
    assert torch.equal(texts.read(encoder, None, 3), encoder.unconditional.weight[:3])
    always = WholeTraining(maps=0.0, flipped=0.0, without_text=1.0)
    left_out = losses_of(WholeLoss(small, always, texts), batch(small))["loss"]
    learned = TextFeatures(encoder.unconditional.weight[:3].detach())
    save_text(learned, tmp_path / "none.safetensors")
    never = WholeTraining(maps=0.0, flipped=0.0, without_text=0.0)
    wanted = losses_of(
        WholeLoss(small, never, Texts(tmp_path / "none.safetensors", WIDTH)), batch(small)
    )["loss"]
    torch.testing.assert_close(left_out, wanted)


def test_bf16_of_the_products_changes_little(small):
    loss = WholeLoss(small, WholeTraining(dropout=0.0), Texts(None, WIDTH))
    plain = losses_of(loss, batch(small))
    with torch.autocast("cpu", torch.bfloat16):
        found = losses_of(loss, batch(small))
    assert found["loss"].dtype == torch.float32
    torch.testing.assert_close(found["loss"], plain["loss"], rtol=0.02, atol=0)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A model after both stages on two pictures, and its file after each."""
    folder = tmp_path_factory.mktemp("learned")
    model = learner(folder)
    files, pair = [], batch(model)
    # What is learned by heart is not to change from step to step.
    still = WholeTraining(flipped=0.0, without_text=0.0, maps=0.0)
    stages = (
        (MapsLoss(model, dropout=0.0), 180, 4e-3),
        (WholeLoss(model, still, Texts(None, WIDTH)), 130, 3e-3),
    )
    for loss, steps, rate in stages:
        model.requires_grad_(False)
        place = folder / type(loss).__name__
        place.mkdir()
        chosen = settings(
            steps, learning_rate=rate, betas=(0.9, 0.97), weight_decay=0.0, flat_share=0.7
        )
        inputs = loss.inputs(pair)
        loop = Loop(loss.trained(), chosen, place, lambda: None)
        assert loop.run(lambda _, rng, loss=loss, inputs=inputs: loss(*inputs, rng))
        files.append(place / MODEL_FILE)
        save_checkpoint(checkpoint(model), files[-1], torch.float32, metadata={})
    return files, pair


def restorer(path):
    """As Load NSARM Model and NSARM Upscale have it."""
    return load_model(path, device="cpu", dtype="fp32", choices=NSARMChoices(GREEDY))


def share(found, wanted):
    same = sum((a == b).sum().item() for a, b in zip(found, wanted, strict=True))
    return same / sum(b.numel() for b in wanted)


@torch.no_grad()
def test_the_map_network_learns_the_first_scales(learned):
    files, pair = learned
    made = restorer(files[0])
    wanted = encode(made.model, made.model.encode(pair.target)).codes[:FORCED]
    assert share(wanted, [codes.roll(1, 0) for codes in wanted]) < 0.6, "pictures differ"
    assert share(made.forced_codes(pair.lq), wanted) >= 0.99


@torch.no_grad()
def test_the_transformer_then_learns_the_bits_that_it_samples(learned):
    files, pair = learned
    made = restorer(files[1])
    before, model = restorer(files[0]), made.model
    forced = made.forced_codes(pair.lq)
    assert share(forced, before.forced_codes(pair.lq)) == 1, "maps are left as they are"
    target = encode(model, model.encode(pair.target), forced)
    wanted = [patch(target.codes[k]) > 0 for k in range(FORCED, len(target.codes))]

    def sampled(one):
        state = one.start(pair.lq, models.own_seeds(2))
        for step in range(one.steps):
            one.step(state, step)
        return state.bits

    assert share(sampled(before), wanted) < 0.6
    assert share(sampled(made), wanted) >= 0.99
    # And so the picture is the one that was learned by heart.
    plain = UpscaleSettings(color_fix="none")
    restored = upscale(pair.lq, float(model.config.reduction), made, settings=plain)
    right = model.decode(target.latents[-1])
    assert (restored - right).abs().mean() < 0.1 * (right - right.roll(1, 0)).abs().mean()


def test_infinity_gets_a_new_map_network_of_the_configured_sizes(tmp_path):
    model = started(TrainingConfig(sizes=MAPS), Sources(start=write_infinity(tmp_path)))
    assert list(model.config.maps.widths) == MAPS["widths"]
    again = started(TrainingConfig(sizes=MAPS), Sources(start=tmp_path / "NSARM.pth"))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    with pytest.raises(InputError, match="sizes has sides"):
        started(TrainingConfig(sizes={"sides": 3}), Sources(start=tmp_path / "NSARM.pth"))


def test_what_cannot_be_trained_is_told(tmp_path):
    with pytest.raises(InputError, match="--start"):
        started(TrainingConfig(), Sources())
    release = list(write_release(tmp_path, MICRO))
    packed = tmp_path / "packed.safetensors"
    convert_files(release, packed, FLOAT8)
    with pytest.raises(InputError, match="fp8"):
        started(TrainingConfig(), Sources(start=packed))
    release[1].unlink()
    with pytest.raises(CheckpointError, match="autoencoder"):
        started(TrainingConfig(), Sources(start=release[0]))
    with pytest.raises(InputError, match="there is no"):
        Texts(tmp_path / "nowhere", WIDTH)
    narrow = text_file(tmp_path / "text.safetensors", 3)
    with pytest.raises(InputError, match=f"{WIDTH}"):
        Texts(narrow, WIDTH + 1)
    with pytest.raises(InputError, match="downsampling"):
        WholeLoss(None, WholeTraining(downsampling="nearest"), Texts(None, WIDTH))


def test_the_recipes_are_read():
    maps, whole = (read_config(Path(name)) for name in ("nsarm_maps", "nsarm"))
    first = from_plain(MapsTraining, maps.model_settings, "maps")
    second = from_plain(WholeTraining, whole.model_settings, "whole")
    assert first.maps is not None
    assert second.bits is not None
    assert (maps.model, whole.model) == ("nsarm_maps", "nsarm")
    assert from_plain(MapSizes, maps.sizes, "sizes") == MapSizes()
    assert second == WholeTraining(bits=second.bits)
