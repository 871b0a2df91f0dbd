"""What the nodes call, stage by stage, on a pretended card: batches, alpha, going on from a scale;
pictures on either device; weights on the card, or in system memory as ComfyUI may leave them."""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from helpers import models, nsarm_goldens
from helpers.card import card, device
from helpers.each import each
from varsr_core.checkpoint import fingerprint
from varsr_core.nsarm import stages as nsarm
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.sampling import SampleSettings as NSARMSampleSettings
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.transfer import CPU
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.varsr.config import PAPER
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import (
    decode_scales,
    decode_tokens,
    encode_prefix,
    encode_tokens,
    refine_tokens,
    sample_tokens,
)

CLOSE = 1e-4  # attention is another kernel there
PICTURE = models.picture(16, 24, channels=4, images=2)  # two of two tiles
LAYERS = (nn.Linear, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm)


def left_behind(kind: type[nn.Module]) -> type[nn.Module]:
    """A layer whose weights stay where they are, and come along when it runs."""

    class Layer(kind):
        def forward(self, x: Tensor) -> Tensor:
            kept = dict(self._parameters)
            for name, weight in kept.items():
                self._parameters[name] = None if weight is None else weight.detach().to(x.device)
            try:
                return super().forward(x)
            finally:
                self._parameters.update(kept)

    return Layer


@cache
def model(weights: str) -> VARSR:
    if weights == "card":
        with card():
            return copy.deepcopy(models.micro_model()).to(device())
    tensors = models.converted_weights()
    layers: Any = SimpleNamespace(**{kind.__name__: left_behind(kind) for kind in LAYERS})
    return models.build_model(tensors, fingerprint=fingerprint(tensors), operations=layers)


def run(network: VARSR, image: Tensor, place: torch.device, mode: str, guidance: float) -> Any:
    execution, settings = Execution(place, lambda: 4), SampleSettings(guidance=guidance)
    prefix = encode_prefix(network, image, 4.0, execution, Tiling(mode))
    first = sample_tokens(network, prefix, settings, 3, execution, stop_scale=2)
    tokens = sample_tokens(network, prefix, settings, 4, execution, tokens=first, first_scale=2)
    refined = refine_tokens(network, tokens, RefineSettings(guidance, 2), 5, execution)
    known = encode_tokens(network, image, 4.0, execution)
    pictures = decode_tokens(network, refined, execution), decode_scales(network, known, execution)
    return [prefix.tokens, *refined.latents, refined.latent, *pictures]


@cache
def wanted(mode: str, guidance: float) -> Any:
    return run(models.micro_model(), PICTURE, CPU, mode, guidance)


@each("mode", TILING_MODES)
@each("guidance", [0.0, PAPER.guidance])
@each("weights", ["card", "system memory"])
@each("pictures", [CPU, "card"])
def test_stages_make_on_the_card_what_they_make_on_the_cpu(mode, guidance, weights, pictures):
    with card():
        home = device() if pictures == "card" else CPU
        found = run(model(weights), PICTURE.to(home), device(), mode, guidance)
        assert {one.device for one in found} == {home}, "results lie where the picture does"
        found = [one.cpu() for one in found]
    assert found[-2].shape == (2, 4, 64, 96)
    for ours, theirs in zip(found, wanted(mode, guidance), strict=True):
        torch.testing.assert_close(ours, theirs, atol=CLOSE, rtol=0)


@each(("mode", "guidance"), [("phased", 3.0), ("lock-step", 0.0), ("independent", 3.0)])
def test_stages_of_nsarm_make_there_what_they_make_on_the_cpu(mode, guidance):
    network, image = nsarm_goldens.model(), models.picture(256, 288, channels=4)
    text = nsarm_goldens.trace()["in.text_features"]
    settings = NSARMSampleSettings(temperature=0, guidance=guidance)
    results = []
    with card():
        for place in (network, copy.deepcopy(network).to(device())):
            execution = Execution(next(place.parameters()).device, lambda: 4)
            restorer = NSARMRestorer(place, settings, text)
            prefix = nsarm.encode_prefix(restorer, image, 2.0, execution, Tiling(mode))
            sampled = nsarm.sample(restorer, prefix, 3, execution)
            results.append(nsarm.decode(restorer, sampled, execution))
    assert results[0].shape == (1, 4, 512, 576)
    torch.testing.assert_close(results[1], results[0], atol=CLOSE, rtol=0)
