"""From the file of a model to a picture, and what `upscale()` adds to `restore()`."""

import subprocess
import sys

import torch

from helpers import models, nsarm_goldens
from helpers.paths import ROOT
from varsr_core import load_model, upscale
from varsr_core.images.resize import resize
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.tiling.noise import tile_seeds
from varsr_core.tiling.restorer import restore
from varsr_core.upscaling import UpscaleSettings
from varsr_core.varsr.restorer import VARSRRestorer

PLAIN = UpscaleSettings(color_fix="none")


def test_upscale_of_one_tile_has_the_bits_of_restore():
    for restorer in (VARSRRestorer(models.micro_model()), NSARMRestorer(nsarm_goldens.model())):
        side = restorer.tile_size // restorer.reduction
        image = models.picture(side // 2, side // 2)
        lq = resize(image, side, side)
        with torch.inference_mode():
            tile = restore(restorer, lq, tile_seeds(5, 1, [(0, 0)]))
        scale = restorer.tile_size / (side // 2)
        assert torch.equal(upscale(image, scale, restorer, seed=5, settings=PLAIN), tile)


def test_model_of_the_pack_is_loaded_without_a_name():
    restorer = load_model(device="cpu", dtype="fp32")
    assert upscale(models.picture(16, 24), 2.0, restorer).shape == (1, 3, 32, 48)


def test_package_alone_imports_no_torch():
    code = "import sys, varsr_core; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
