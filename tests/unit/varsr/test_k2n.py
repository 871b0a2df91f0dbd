"""The first scales from K2N: in stages and in one the same, for every tile its own, refused where
it does not fit."""

from dataclasses import replace

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.k2n_files import micro_varsr
from tools.random_k2n import SIZES, random_release, write_release
from varsr_core.errors import CheckpointError, InputError
from varsr_core.images.color_fix import match_colors
from varsr_core.images.resize import resize
from varsr_core.runtime.execution import Execution
from varsr_core.settings import UpscaleSettings
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import upscale, upscale_each
from varsr_core.varsr.k2n.coarse import Coarse
from varsr_core.varsr.k2n.kind import codebook_digest, read_k2n
from varsr_core.varsr.k2n.stages import predict_tokens
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import decode_tokens, encode_prefix, refine_tokens, sample_tokens

ONE_BY_ONE = Execution()
GUIDANCE = 9.0


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    return read_k2n(write_release(tmp_path_factory.mktemp("k2n"), SIZES["micro"]))


@pytest.fixture(scope="module")
def network(read):
    return read.build()


@pytest.fixture(scope="module")
def image():
    """Enlarged twice, several tiles."""
    return models.picture(72, 90)


def in_stages(coarse, image, mode, seed=5):
    model, tiling = micro_varsr(), Tiling(mode)
    tokens = predict_tokens(model, coarse, image, 2.0, ONE_BY_ONE, tiling)
    prefix = encode_prefix(model, image, 2.0, ONE_BY_ONE, tiling)
    settings = SampleSettings(guidance=GUIDANCE)
    sampled = sample_tokens(
        model, prefix, settings, seed, ONE_BY_ONE, tokens=tokens, first_scale=coarse.scales
    )
    refined = refine_tokens(model, sampled, RefineSettings(GUIDANCE), seed, ONE_BY_ONE)
    return tokens, refined, decode_tokens(model, refined, ONE_BY_ONE)


def in_one(coarse, image, mode, seed=5):
    restorer = VARSRRestorer(micro_varsr(), coarse=coarse)
    settings = UpscaleSettings(Tiling(mode), color_fix="none")
    return upscale(image, 2.0, restorer, seed=seed, settings=settings)


@each("scales", (1, 3))
@each("mode", TILING_MODES)
def test_stages_and_all_in_one_give_equal_bits(mode, scales, network, image):
    coarse = Coarse(network, scales)
    tokens, refined, restored = in_stages(coarse, image, mode)
    assert tokens.num_scales == scales
    for k in range(scales):
        assert torch.equal(tokens.token_ids[k], refined.token_ids[k])
        assert torch.equal(tokens.latents[k], refined.latents[k])
    assert torch.equal(restored, in_one(coarse, image, mode))


def test_it_makes_another_picture_than_varsr_alone(network, image):
    plain = in_one(None, image, "phased")
    assert not torch.equal(in_one(Coarse(network), image, "phased"), plain)


def test_each_tile_has_the_maps_of_its_own_part_of_the_picture(network, image):
    """A tile of a larger picture is given what it is alone: at 4 times, the input's own pixels."""
    model = micro_varsr()
    picture = models.picture(64, 32)
    tiling = Tiling("independent", 0.0)
    both = predict_tokens(model, Coarse(network), picture, 4.0, ONE_BY_ONE, tiling)
    for tile, part in enumerate((picture[:, :, :32], picture[:, :, 32:])):
        with torch.inference_mode():
            alone = Coarse(network).token_ids(model, part)
        assert all(torch.equal(a[tile], b[0]) for a, b in zip(both.token_ids, alone, strict=True))


def test_neighbours_agree_where_they_overlap(network):
    model = micro_varsr()
    tokens = predict_tokens(
        model, Coarse(network), models.picture(32, 56), 4.0, ONE_BY_ONE, Tiling("lock-step", 0.25)
    )
    left, right = tokens.latents[-1]
    shared = tokens.canvas.grid.tile - tokens.canvas.grid.columns[1]
    cells = shared // tokens.canvas.grid.align
    torch.testing.assert_close(left[..., -cells:], right[..., :cells])


def test_a_batch_equals_its_pictures(network):
    pictures = models.picture(70, 30, images=2)
    restorer = VARSRRestorer(micro_varsr(), coarse=Coarse(network))
    batch = upscale(pictures, 2.0, restorer)
    singles = [upscale(one[None], 2.0, restorer)[0] for one in pictures]
    each_one = upscale_each(list(pictures), 2.0, restorer)
    for found, alone, other in zip(batch, singles, each_one, strict=True):
        assert torch.equal(found, alone)
        assert torch.equal(found, other)


def test_a_mask_and_a_smaller_input_go_with_it(network, image):
    restorer = VARSRRestorer(micro_varsr(), coarse=Coarse(network))
    mask = torch.zeros(1, 1, 72, 90)
    mask[..., :10, :10] = 1
    settings = UpscaleSettings(shrink_first=0.004, feather=0)
    found = upscale(image, 2.0, restorer, settings=settings, mask=mask)
    plain = resize(image, 144, 180)
    assert torch.equal(found[..., 40:, 60:], plain[..., 40:, 60:])
    assert not torch.equal(found, plain)


def test_guidance_that_is_left_to_the_model_is_nine(network):
    restorer = VARSRRestorer(micro_varsr(), coarse=Coarse(network))
    assert restorer.sampling.guidance == restorer.refining.guidance == GUIDANCE
    half = VARSRRestorer(micro_varsr(), SampleSettings(-0.5), coarse=Coarse(network))
    assert half.sampling.guidance == GUIDANCE / 2
    given = VARSRRestorer(micro_varsr(), SampleSettings(4.0), coarse=Coarse(network))
    assert given.sampling.guidance == 4.0
    assert VARSRRestorer(micro_varsr()).sampling.guidance == 6.0


def test_more_scales_than_the_file_has_are_refused(network):
    with pytest.raises(InputError, match="scales is 4; this K2N file gives 1 to 3"):
        Coarse(network, 4)


@each(
    ("change", "said"),
    (
        ("side", "its latent has 8x8 cells, not 16x16"),
        ("sides", "its token maps begin with 1, 2, 3, not 1, 2, 4"),
        ("codebook", "its codebook is another"),
        ("other_codebook", "its codebook is another"),
    ),
)
def test_a_model_that_does_not_fit_is_refused_by_name(change, said, network):
    model, config = micro_varsr(), network.config
    own = bytes(codebook_digest(model.quantizer.codebook.weight).tolist())
    changes = {
        "side": {"maps": replace(config.maps, side=16)},
        "sides": {"sides": (1, 2, 4)},
        "codebook": {"codebook": b"\0" * 32},
        "other_codebook": {"other_codebook": own},
    }[change]
    network.config = replace(config, **changes)
    try:
        with pytest.raises(InputError, match=said) as raised:
            Coarse(network).check(model)
    finally:
        network.config = config
    assert "varsr_nano" in str(raised.value)


def test_a_model_with_the_right_codebook_fits(network):
    model, config = micro_varsr(), network.config
    own = bytes(codebook_digest(model.quantizer.codebook.weight).tolist())
    network.config = replace(config, codebook=own, other_codebook=b"\0" * 32)
    try:
        Coarse(network).check(model)
    finally:
        network.config = config


def test_memory_that_runs_out_changes_no_token(network, image):
    """Blocks of one tile, and of all: what K2N gives does not depend on that."""
    model = micro_varsr()
    one, all_at_once = (
        predict_tokens(
            model, Coarse(network), image, 2.0, Execution(prepare=lambda n=count: n), Tiling()
        )
        for count in (1, 8)
    )
    for a, b in zip(one.token_ids, all_at_once.token_ids, strict=True):
        assert torch.equal(a, b)


def test_heads_that_do_not_divide_are_refused(tmp_path):
    release = random_release(SIZES["micro"])
    release["config"]["reconstructor"]["scales"][0]["heads"] = 5
    torch.save(release, tmp_path / "K2NSR.pth")
    with pytest.raises(CheckpointError, match="do not divide into 5 parts"):
        read_k2n(tmp_path / "K2NSR.pth")


def test_colours_are_matched_as_without_it(network, image):
    restorer = VARSRRestorer(micro_varsr(), coarse=Coarse(network))
    plain = upscale(image, 2.0, restorer, settings=UpscaleSettings(color_fix="none"))
    matched = upscale(image, 2.0, restorer, settings=UpscaleSettings(color_fix="adain"))
    assert torch.equal(matched, match_colors(plain, resize(image, 144, 180), "adain", 1.0))
