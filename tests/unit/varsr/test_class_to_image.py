"""Pictures of a class: batches, seeds, stopping and going on, and who refuses what."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import models
from helpers.each import each
from helpers.paths import KITTEN
from tools.random_checkpoint import (
    MICRO,
    random_weights,
    tokenizer_shapes,
    transformer_shapes,
)
from tools.random_checkpoint import (
    class_to_image as sizes_of,
)
from varsr_core.checkpoint import fingerprint, read_model
from varsr_core.errors import InputError
from varsr_core.runtime.execution import Execution
from varsr_core.varsr.class_preview import class_sketch
from varsr_core.varsr.class_to_image import SAMPLING, Kept, class_to_image
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_scales,
    decode_tokens,
    encode_prefix,
    encode_tokens,
    refine_tokens,
    sample_tokens,
)
from varsr_core.varsr.weights import build_model, convert

LABELS, SCALES, TILE = 10, 4, 64


@lru_cache
def model():
    sizes = sizes_of(MICRO)
    shapes = transformer_shapes(sizes, with_prefix=False)
    with torch.inference_mode(False):
        tokenizer = random_weights(tokenizer_shapes(MICRO), MICRO)
        weights = convert(tokenizer | random_weights(shapes, sizes, 1))
    return build_model(weights, fingerprint=fingerprint(weights))


def made(label=3, **choices):
    return class_to_image(model(), label, **{"seed": 5, **choices})


def same(one, other):
    return torch.equal(one[0], other[0]) and torch.equal(one[1].latent, other[1].latent)


def test_picture_is_a_tile_and_has_all_scales():
    image, tokens = made()
    assert image.shape == (1, 3, TILE, TILE)
    assert image.std() > 0.01
    assert tokens.num_scales == SCALES
    assert tokens.refined is not None


def test_same_seed_gives_the_same_bits_and_another_another():
    assert same(made(), made())
    assert not same(made(), made(seed=6))


def test_label_matters():
    assert not same(made(3), made(4))


def test_batch_equals_singles_with_seeds_counted_up():
    images, tokens = made(pictures=3)
    for number in range(3):
        image, alone = made(seed=5 + number)
        assert torch.equal(images[number : number + 1], image)
        assert torch.equal(tokens.latent[number : number + 1], alone.latent)


@each("tiles", [1, 2, 3])
def test_pictures_at_once_change_no_token(tiles):
    _, apart = made(pictures=3)
    _, together = made(pictures=3, execution=Execution(prepare=lambda: tiles))
    for one, other in zip(apart.token_ids, together.token_ids, strict=True):
        assert torch.equal(one, other)


def test_memory_that_runs_out_is_met_with_fewer_pictures():
    failed = []

    def out_of_memory(progress):
        if not failed and str(progress.stage).startswith("scale 3"):
            failed.append(progress)
            raise torch.OutOfMemoryError("not enough")

    execution = Execution(prepare=lambda: 3, on_progress=out_of_memory)
    _, tokens = made(pictures=3, execution=execution)
    assert failed
    assert torch.equal(tokens.token_ids[-1], made(pictures=3)[1].token_ids[-1])


@each("stop", range(1, SCALES))
def test_stopped_run_goes_on_as_an_unbroken_one(stop):
    _, part = made(pictures=2, stop_scale=stop)
    assert (part.num_scales, part.hidden, part.refined) == (stop, None, None)
    assert same(made(pictures=2, kept=Kept(part, stop)), made(pictures=2))


def test_tokens_decode_to_the_picture():
    image, tokens = made(pictures=2)
    assert torch.equal(decode_tokens(model(), tokens, Execution()), image)
    scales = decode_scales(model(), tokens, Execution())
    assert scales.shape == (SCALES * 2, 3, TILE, TILE)
    assert torch.equal(scales[-2:], image)


def test_refining_apart_is_refining_at_once():
    _, tokens = made(pictures=2)
    _, bare = made(pictures=2, refining=RefineSettings(strength=0.0))
    assert bare.refined is None
    refined = refine_tokens(model(), bare, RefineSettings(), 5, Execution())
    assert torch.equal(refined.refined, tokens.refined)


def test_encoded_pictures_can_be_gone_on_from():
    pictures = models.picture(TILE, TILE, images=2)
    encoded = encode_tokens(model(), pictures, 1.0, Execution())
    image, tokens = made(pictures=2, kept=Kept(encoded, 2))
    assert torch.equal(tokens.token_ids[1], encoded.token_ids[1])
    assert not torch.equal(image, made(pictures=2)[0])


@each("settings", [{"guidance": 0.0}, {"unguided_scales": 2}, {"temperature": 0.5}])
def test_settings_change_the_picture(settings):
    assert not same(made(sampling=replace(SAMPLING, **settings)), made())


def test_progress_is_one_bar_with_a_preview_behind_every_scale():
    seen = []

    def watch(progress):
        picture = None if progress.draw is None else progress.draw()
        seen.append((progress.done / progress.total, progress.step, picture))

    made(execution=Execution(pictures=True, on_progress=watch))
    shares = [share for share, _, _ in seen]
    assert shares == sorted(shares)
    assert shares.count(1.0) == 1
    pictures = [picture for _, step, picture in seen if step is not None]
    assert [step for _, step, _ in seen if step is not None] == list(range(SCALES + 1))
    assert all(picture.shape[0] == 3 for picture in pictures)
    assert all(p.min() >= 0 and p.max() <= 1 for p in pictures)


def test_preview_changes_no_bit():
    assert same(made(execution=Execution(pictures=True)), made())


def test_preview_shows_a_photograph_as_its_decoder_does():
    """With the tokenizer of the model that comes with the pack, whose latents hold photographs."""
    nano = read_model().build()
    photo = Image.open(KITTEN).convert("RGB").resize((nano.config.tile_size,) * 2)
    pixels = torch.from_numpy(np.asarray(photo, np.float32) / 255).permute(2, 0, 1)[None]
    with torch.inference_mode():
        latent = nano.quantizer.encode(nano.encode_latent(pixels))[1][-1]
        shown = class_sketch(nano, torch.device("cpu"))(latent)
        decoded = torch.nn.functional.interpolate(nano.decode(latent), shown.shape[2:], mode="area")
    flat = decoded.mean(dim=(2, 3), keepdim=True)
    assert (shown - decoded).abs().mean() < 0.5 * (flat - decoded).abs().mean()


@each("label", [-1, LABELS, 3829])
def test_label_beyond_the_model_is_refused_with_how_many_there_are(label):
    with pytest.raises(InputError, match=rf"label {label} .*has {LABELS} labels: 0 to 9"):
        made(label)


def test_model_that_restores_is_refused_by_name():
    with pytest.raises(InputError, match=r"VARSR_C2I\.pth in Load VARSR Model.*VARSR Upscale node"):
        class_to_image(models.micro_model(), 1)


def test_class_to_image_model_is_refused_wherever_a_picture_is_restored():
    picture = models.picture(TILE, TILE)
    prefix = encode_prefix(models.micro_model(), picture, 1.0, Execution())
    for work in (
        lambda: VARSRRestorer(model()),
        lambda: encode_prefix(model(), picture, 1.0, Execution()),
        lambda: sample_tokens(model(), prefix, SampleSettings(), 0, Execution()),
    ):
        with pytest.raises(InputError, match=r"model is VARSR_C2I.*VARSR Class to Image node"):
            work()


def test_tokens_that_do_not_fit_are_refused():
    _, part = made(pictures=2, stop_scale=2)
    small = encode_tokens(model(), models.picture(20, 20), 1.0, Execution())
    for kept, pictures, message in (
        (Kept(part, 2), 3, "tokens hold 2 pictures of 64x64; 3 of 64x64 are expected"),
        (Kept(small, 1), 1, "tokens hold 1 pictures of 20x20"),
        (Kept(part, 3), 2, "tokens stop after 2"),
        (Kept(None, 2), 2, "connect .* an earlier VARSR Class to Image"),
        (Kept(part, 4), 2, "leaves nothing to sample"),
    ):
        with pytest.raises(InputError, match=message):
            made(pictures=pictures, kept=kept)


def test_stop_beyond_the_scales_is_refused():
    with pytest.raises(InputError, match="stop_scale 5 is beyond the 4 scales"):
        made(stop_scale=5)


def test_none_of_the_pictures_is_refused():
    with pytest.raises(InputError, match="pictures is 0"):
        made(pictures=0)
