"""A third family, as small as it can be: what it takes to be loaded and to restore any size."""

from argparse import Namespace
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from varsr_core import checkpoint, load_model, upscale
from varsr_core.family import Checkpoint, Family
from varsr_core.images.resize import resize
from varsr_core.runtime.defaults import ModelDefaults
from varsr_core.runtime.progress import ENCODING, Stage
from varsr_core.runtime.work import Calls, Task
from varsr_core.tiling.consistency import Tiling
from varsr_core.upscaling import UpscaleSettings

CELL = 4  # pixels


class Gain(nn.Module):
    """The whole network: one factor on the low-quality picture."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(()))


@dataclass
class State:
    lq: torch.Tensor
    latent: torch.Tensor

    @property
    def nbytes(self):
        return self.lq.nbytes + self.latent.nbytes

    def select(self, tiles):
        return State(self.lq[tiles].clone(), self.latent[tiles].clone())

    def to(self, device):
        return State(self.lq.to(device), self.latent.to(device))

    def rewind(self, k):
        self.latent = self.latent * (k > 0)


@dataclass(frozen=True)
class Decoder:
    """A cell holds its pixels' colours."""

    cells = 4
    features = 1
    pixels = CELL
    context = 0

    def decode(self, latent):
        return F.pixel_shuffle(latent, CELL)

    def coarse(self, latent):
        return latent

    def fine(self, features, norm):
        return F.pixel_shuffle(features, CELL)

    def coarse_parts(self, height, width):
        return []

    def fine_parts(self, height, width):
        return [Calls(None, height * width)]


@dataclass(frozen=True)
class Restorer:
    model: Gain
    tile_size = 4 * CELL
    reduction = 1
    align = CELL
    tile_bytes = 4096
    weight_bytes = 12
    steps = 2
    starting = Task(ENCODING)
    defaults = ModelDefaults(guidance=0.0)
    decoder = Decoder()
    wider = None

    @property
    def device(self):
        return self.model.gain.device

    def task(self, k):
        return Task(Stage("scale", k + 1, self.steps), [Calls(self.model, CELL**2)])

    def start(self, lq, seeds):
        return State(lq, torch.zeros_like(F.pixel_unshuffle(lq, CELL)))

    def step(self, state, k):
        """Half of the picture a scale."""
        state.latent = state.latent + F.pixel_unshuffle(state.lq, CELL) * self.model.gain / 2


def build(weights, *, dtype=torch.float32, wide_dtype=None, fingerprint="", defaults=None):
    model = Gain()
    model.load_state_dict({"gain": weights["gain"].to(dtype)}, strict=True, assign=True)
    return model.requires_grad_(False)


TOY = Family(
    name="toy",
    title="Toy",
    default=None,
    files=lambda path: [path],
    complete="complete model",
    split=lambda group: {"complete model": group} if set(group) == {"gain"} else {},
    assemble=lambda parts: parts["complete model"],
    fix_dtype=lambda name, tensor, dtype: dtype,
    build=build,
    defaults=Restorer.defaults,
    restorer=lambda model, choices: Restorer(model),
    add_to=lambda parser: None,
    choices=lambda arguments: Namespace(),
)


@pytest.fixture
def model_file(tmp_path, monkeypatch):
    monkeypatch.setitem(checkpoint.FAMILIES, TOY.name, TOY)
    save_file({"gain": torch.tensor(0.5)}, tmp_path / "toy.safetensors")
    return tmp_path / "toy.safetensors"


def test_its_file_is_recognised_and_restores_any_size(model_file):
    restorer = load_model(model_file, device="cpu", dtype="fp32")
    image = torch.rand(2, 3, 11, 17, generator=torch.Generator().manual_seed(0))
    for mode in ("phased", "lock-step", "independent"):
        settings = UpscaleSettings(Tiling(mode), color_fix="none")
        restored = upscale(image, 2.0, restorer, settings=settings)
        assert (restored - resize(image, 22, 34) / 2).abs().max() < 1e-6, mode


def test_it_is_converted_and_loaded_again(model_file, tmp_path):
    read = checkpoint.load_checkpoint([model_file])
    assert read == replace(read, family=TOY)
    assert isinstance(read, Checkpoint)
    target = tmp_path / "half.safetensors"
    checkpoint.save_checkpoint(read, target, torch.float16, metadata={})
    again = load_model(target, family="toy", device="cpu", dtype="fp32")
    assert again.model.gain == 0.5
