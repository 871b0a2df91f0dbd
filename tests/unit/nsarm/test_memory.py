"""What is said to be needed for a tile of NSARM, against the bytes of all tensors alive at once.

On the meta device: sizes are right and nothing is computed, so the released model fits anywhere.
"""

import json

import pytest
import torch

from helpers.live_bytes import LiveBytes
from helpers.paths import DATA
from varsr_core.nsarm.config import infer_config
from varsr_core.nsarm.memory import decoding_bytes, encoding_bytes, sampling_bytes
from varsr_core.nsarm.model import NSARM, fix_dtype
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.sampling import SampleSettings
from varsr_core.nsarm.weights import convert
from varsr_core.tiling.noise import TileSeed


def flash(q, k, v, scale):
    """Attention as fast kernels do it: nothing but its result is ever in memory."""
    return torch.empty_like(q)


def released(dtype):
    weights = {}
    for file in ("nsarm_manifest.json", "nsarm_vae_manifest.json"):
        found = json.loads((DATA / file).read_text())["tensors"]
        weights |= {n: torch.empty(entry["shape"], device="meta") for n, entry in found.items()}
    with torch.device("meta"):
        model = NSARM(infer_config(convert(weights)), dtype=dtype, vae_dtype=dtype, attention=flash)
    for name, parameter in model.named_parameters():
        own = model.vae_dtype if name.startswith("vae.") else dtype
        parameter.data = parameter.data.to(fix_dtype(name, parameter, own))
    return model


@pytest.mark.parametrize(("dtype", "guidance"), [(torch.float32, 1.0), (torch.bfloat16, 2.0)])
@torch.no_grad()
def test_tensors_of_a_tile_fit_into_what_is_said_and_nearly_fill_it(dtype, guidance):
    model = released(dtype)
    restorer = NSARMRestorer(model, SampleSettings(guidance=guidance))
    with LiveBytes() as encoding:
        codes = restorer.forced_codes(torch.empty(1, 3, 256, 256, device="meta"))
    if guidance != 1:
        features = torch.empty(128, 2048, device="meta")
        object.__setattr__(restorer, "features", features)  # its values cannot be checked there
    with LiveBytes() as sampling:
        state = restorer.start_from(codes, [TileSeed(0, 0)])
        for k in range(restorer.steps):
            restorer.step(state, k)
    with LiveBytes() as decoding:
        restorer.decoder.decode(state.latent)
    assert encoding.peak <= encoding_bytes(model)
    said = sampling_bytes(model, len(state.texts))
    assert 0.95 * said < sampling.peak <= said
    assert 0.95 * decoding_bytes(model) < decoding.peak <= decoding_bytes(model)


def test_released_tile_takes_what_the_help_pages_say():
    model = released(torch.bfloat16)
    said = [sampling_bytes(model, texts) / 2**30 for texts in (1, 2)]
    assert [round(size, 1) for size in said] == [4.1, 7.6]
    weights = {
        part: sum(p.nbytes for p in module.parameters()) / 2**30
        for part, module in model.named_children()
    }
    assert {part: round(size, 1) for part, size in weights.items()} == {
        "vae": 0.2,
        "maps": 0.7,
        "transformer": 15.6,
    }
