"""What is said to be needed for a tile, against the bytes of all tensors alive at once.

On the meta device: sizes are right and nothing is computed, so the released model fits anywhere.
"""

import json

import pytest
import torch

from helpers.live_bytes import LiveBytes
from helpers.paths import NANO
from varsr_core.nn.schedule import ScaleSchedule
from varsr_core.runtime.cuda_graphs import Recorder
from varsr_core.tiling.noise import TileSeed
from varsr_core.training.starting.new_model import config_from_json
from varsr_core.varsr.acceleration import accelerated
from varsr_core.varsr.config import RefinerConfig, TokenizerConfig, TransformerConfig, VARSRConfig
from varsr_core.varsr.memory import block_bytes, tile_bytes
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.restorer import VARSRRestorer

CONFIGS = {
    "nano": config_from_json(json.loads(NANO.read_text())["sizes"]),
    "released": VARSRConfig(
        tokenizer=TokenizerConfig(
            widths=(160, 160, 320, 320, 640),
            encoder_blocks=2,
            decoder_blocks=3,
            attention_levels=(4,),
            latent_channels=32,
            codebook_size=4096,
            phi_count=4,
        ),
        transformer=TransformerConfig(
            width=1536,
            depth=24,
            heads=24,
            mlp_width=6144,
            prefix_widths=(16, 32, 96, 256, 512),
            num_classes=2,
        ),
        refiner=RefinerConfig(width=1024, depth=6, frequencies=256),
        schedule=ScaleSchedule((1, 2, 3, 4, 6, 9, 13, 18, 24, 32)),
    ),
}


def flash(q, k, v):
    """Attention as fast kernels do it: nothing but its result is ever in memory."""
    return torch.empty_like(q)


def unreal(config, dtype):
    with torch.device("meta"):
        model = VARSR(config, dtype=dtype, tokenizer_dtype=dtype, attention=flash)
    for name, part in model.named_children():
        if name != "quantizer":
            part.to(dtype)
    return model


@torch.no_grad()
def sampling_and_decoding(model, tiles):
    """Most bytes alive while tiles are sampled with guidance and refined, and while decoded."""
    restorer = VARSRRestorer(model)
    side = model.config.tile_size
    with LiveBytes() as sampling:
        lq = torch.empty(tiles, 3, side, side, device="meta")
        state = restorer.start(lq, [TileSeed(0, number) for number in range(tiles)])
        for k in range(restorer.steps):
            restorer.step(state, k)
    with LiveBytes() as decoding:
        restorer.decoder.decode(state.latent)
    return sampling.peak, decoding.peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("name", "tiles"), [("nano", 4), ("released", 1)])
def test_tensors_of_a_tile_fit_into_what_is_said_and_nearly_fill_it(name, dtype, tiles):
    model = unreal(CONFIGS[name], dtype)
    said = tiles * tile_bytes(model)
    found = max(sampling_and_decoding(model, tiles))
    assert 0.85 * said < found <= said


@pytest.mark.parametrize(("name", "dtype"), [("nano", torch.float32), ("released", torch.bfloat16)])
def test_what_recordings_keep_is_in_the_estimate(name, dtype):
    """From the third run on: caches, places of inputs and results, what a block works on in its
    graph; and beside them what no recording does."""
    model = unreal(CONFIGS[name], dtype)
    recorder = Recorder(lambda: lambda work: (lambda: None, work()), device="meta")
    fast = accelerated(model, recorder=recorder)
    for _ in range(3):
        beside = max(sampling_and_decoding(fast, 1))
    assert recorder.recordings == model.config.schedule.num_scales + 2
    found = recorder.kept_bytes(torch.device("meta")) + block_bytes(model) + beside
    assert 0.85 * tile_bytes(fast) < found <= tile_bytes(fast)


def test_a_model_whose_decoder_needs_most_is_estimated_by_it():
    config = CONFIGS["nano"]
    wide = TokenizerConfig(**{**vars(config.tokenizer), "widths": (256, 256, 256, 256)})
    model = unreal(
        VARSRConfig(wide, config.transformer, config.refiner, config.schedule), torch.float32
    )
    sampling, decoding = sampling_and_decoding(model, 1)
    assert sampling < decoding <= tile_bytes(model) < 1.3 * decoding
