"""The recorded NSARM run and the small model it was made with."""

from functools import cache

import torch
from safetensors.torch import load_file

from helpers.paths import DATA
from varsr_core.nsarm.model import build_model
from varsr_core.nsarm.sampling import SampleSettings, start_sampling
from varsr_core.nsarm.weights import convert
from varsr_core.tiling.noise import TileSeed

SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32)  # 512 pixels
GREEDY = SampleSettings(temperature=0)


@cache
@torch.inference_mode(False)  # whichever test comes first: others build models of these tensors
def reference():
    """Weights by their released names."""
    files = ("nsarm_tiny.safetensors", "nsarm_tiny_vae.safetensors")
    return {name: tensor for file in files for name, tensor in load_file(DATA / file).items()}


@cache
def trace():
    return load_file(DATA / "nsarm_trace.safetensors")


@cache
def model():
    return build_model(convert(reference()), sides=SIDES)


def recorded_codes(scale):
    return trace()[f"scale.{scale:02d}.codes"][:, :, 0]


def start(forced=None):
    """A state of one tile, by default with the recorded forced codes."""
    text = model().transformer.read(trace()["in.text_features"])
    forced = forced or [recorded_codes(scale) for scale in range(7)]
    return start_sampling(model(), forced, [text], [TileSeed(0, 0)])


def relative(found, wanted):
    """Largest difference, relative to the largest value."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()
