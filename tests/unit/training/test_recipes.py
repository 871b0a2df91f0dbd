"""The recipes of the pack: what they say can be read, built and trained."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from helpers import models
from helpers.starts import released_on_meta, write_varsr
from helpers.training import losses
from varsr_core.checkpoint import load_model
from varsr_core.tiling.restorer import restore
from varsr_core.training.config import RECIPES, read_config
from varsr_core.training.memory.table import fits
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.starting.new_model import config_from_json
from varsr_core.training.trained_kind import stage_settings, trained_kind
from varsr_core.varsr.config import infer_config
from varsr_core.varsr.weights import convert

NAMES = sorted(path.stem for path in RECIPES.glob("*.json"))
STEPS = 100


@pytest.mark.parametrize("name", NAMES)
def test_recipe_says_only_what_is_known(name):
    config = read_config(RECIPES / f"{name}.json")
    kind = trained_kind(config.model)
    own = kind.own_settings(config)
    assert any(stage_settings(config, own, stage) is not None for stage in kind.stages)


@pytest.mark.parametrize("name", ["varsr", "varsr_c2i", "fine_tune"])
def test_recipe_has_the_released_sizes(name):
    config = read_config(RECIPES / f"{name}.json")
    released = released_on_meta(with_prefix=name != "varsr_c2i")
    assert config_from_json(config.sizes) == infer_config(convert(released))


def test_recipe_of_the_paper_trains_as_the_paper_did():
    config = read_config(RECIPES / "varsr.json")
    loop = config.isr
    assert (loop.batch, loop.betas, loop.clip) == (128, (0.9, 0.95), 2.0)
    rates = [loop.rate(step) for step in (0, loop.steps // 4, loop.steps)]
    assert rates == pytest.approx([0.005 * 5e-5, 5e-5, 0.01 * 5e-5])
    assert (config.modulation, config.drop_path, loop.decay) == ("layers", 0.1, "public")


def test_null_class_of_the_recipe_is_the_models():
    config = read_config(RECIPES / "varsr_c2i.json")
    classes = config_from_json(config.sizes).transformer.num_classes
    assert config.data.num_classes == classes - 1


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("k2n", [True, True, True]),
        ("nsarm_maps", [False] + 2 * [True]),
        ("nsarm", 2 * [False] + [True]),
    ],
)
def test_what_a_recipe_takes_is_told_without_a_file(name, fitting):
    """On 1 x 24 GB, 1 x 80 GB and 8 x 80 GB; what learns is counted with its two moments."""
    config = read_config(RECIPES / f"{name}.json")
    found = list(fits(config))
    assert [fit.passes > 0 for fit in found] == fitting
    assert all(fit.needed.kept > 0 for fit in found)
    one, _, eight = (fit.needed for fit in found)
    assert one.optimizer == 2 * one.gradients
    assert eight.optimizer == pytest.approx(one.optimizer / 8, abs=8), "it is shared out"
    learning = {"k2n": 0.505e9, "nsarm_maps": 0.385e9, "nsarm": 8.761e9}
    assert one.gradients == pytest.approx(4 * learning[name], rel=1e-3)


def test_fine_tuning_for_a_hundred_steps_makes_a_better_restorer(tmp_path):
    """The recipe with fewer pictures at once, on a model of the released layout and tiny sizes."""
    place = tmp_path / "pictures"
    place.mkdir()
    for seed in range(6):
        pixels = models.picture(64, 64, seed=seed)[0].permute(1, 2, 0).mul(255).round().byte()
        Image.fromarray(pixels.numpy()).save(place / f"{seed}.png")
    files, _ = write_varsr(tmp_path)
    config = read_config(RECIPES / "fine_tune.json")
    # So few steps have to be longer.
    isr = replace(config.isr, steps=STEPS, batch=2, accumulate=2, learning_rate=1e-3)
    config = replace(config, isr=isr, workers=0, samples_every=STEPS)
    assert Training(config, tmp_path / "run", [place], [], files).run()
    found = losses(tmp_path / "run", "isr")
    assert len(found) == STEPS
    assert sum(found[-10:]) < 0.7 * sum(found[:10])
    restorer = load_model(tmp_path / "run" / MODEL_FILE, device="cpu", dtype="fp32")
    with torch.no_grad():
        restored = restore(restorer, models.picture(64, 64), models.own_seeds(1))
    assert restored.shape == (1, 3, 64, 64)
    assert restored.isfinite().all()
