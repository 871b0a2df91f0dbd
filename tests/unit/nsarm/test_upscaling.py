"""NSARM through `upscale()`: what it is shown, tiles that agree, draws that can be repeated."""

from types import SimpleNamespace

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.nsarm_goldens import model, trace
from varsr_core.errors import InputError
from varsr_core.nsarm.restorer import NO_TEXT_TOKENS, NSARMRestorer
from varsr_core.nsarm.sampling import SampleSettings
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.consistency import Tiling
from varsr_core.tiling.noise import TileSeed
from varsr_core.upscaling import UpscaleSettings, upscale


def restorer(**settings):
    return NSARMRestorer(model(), SampleSettings(**settings), trace()["in.text_features"])


def restored(image, seed=0, mode="phased", execution=None, **settings):
    return upscale(
        image,
        2.0,
        restorer(**settings),
        seed=seed,
        settings=UpscaleSettings(tiling=Tiling(mode), color_fix="none"),
        execution=execution,
    )


@pytest.fixture
def shown(monkeypatch):
    """What the autoencoder was given."""
    seen, encode = [], model().encode
    monkeypatch.setattr(model(), "encode", lambda lq: seen.append(lq) or encode(lq))
    return seen


def test_network_is_shown_the_picture_itself_where_sizes_allow(shown):
    image = models.picture(256, 256)
    assert restored(image).shape == (1, 3, 512, 512)
    torch.testing.assert_close(shown[0], image)


def test_tiles_of_a_larger_picture_are_cut_from_it(shown):
    image = models.picture(256, 340)
    assert restored(image).shape == (1, 3, 512, 680)
    left, right = torch.cat(shown)
    torch.testing.assert_close(left, image[0, :, :, :256])
    torch.testing.assert_close(right, image[0, :, :, -256:])


def test_a_smaller_picture_is_padded_not_stretched(shown):
    image = models.picture(100, 256)
    assert restored(image).shape == (1, 3, 200, 512)
    torch.testing.assert_close(shown[0][:, :, :100], image)


def test_same_seed_gives_the_same_picture_and_another_one_another():
    image = models.picture(256, 256)
    first, again, other = restored(image), restored(image), restored(image, seed=1)
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 1e-3
    assert torch.equal(restored(image, temperature=0.0), restored(image, 1, temperature=0.0))


def test_guidance_of_a_text_over_none_changes_the_picture():
    image = models.picture(256, 256)
    plain, guided = (restored(image, temperature=0, guidance=g) for g in (1.0, 3.0))
    assert (guided - plain).abs().mean() > 1e-4


def test_guidance_of_1_never_reads_the_other_text():
    first, second = (restorer(guidance=g) for g in (1.0, 3.0))
    with torch.inference_mode():
        counts = [len(r.start(torch.rand(1, 3, 256, 256), [TileSeed(0, 0)]).texts)
                  for r in (first, second)]  # fmt: skip
    assert counts == [1, 2]


def test_without_a_text_what_was_learned_for_none_is_read():
    image = models.picture(256, 256)
    learned = model().transformer.text.unconditional.weight[:NO_TEXT_TOKENS]
    settings = SampleSettings(temperature=0)
    none, given = (
        upscale(image, 2.0, NSARMRestorer(model(), settings, features))
        for features in (None, learned)
    )
    assert torch.equal(none, given)
    assert (none - restored(image, temperature=0)).abs().mean() > 1e-4


@each("features", [torch.zeros(3, 7), torch.zeros(513, 256), torch.zeros(0, 256), torch.zeros(256)])
def test_features_of_another_encoder_are_refused(features):
    with pytest.raises(InputError, match="flan-t5-xl"):
        NSARMRestorer(model(), features=features)


def test_every_part_is_brought_before_it_works():
    brought = []
    shown = NSARMRestorer(model(), SampleSettings(temperature=0), bring=brought.append)
    upscale(models.picture(256, 256), 2.0, shown)
    order = [part for part, after in zip(brought, [*brought[1:], ""], strict=True) if part != after]
    assert order == ["autoencoder", "map network", "transformer", "autoencoder"]


@pytest.mark.parametrize("mode", ["phased", "independent"])
def test_memory_that_runs_out_in_any_step_changes_no_picture(mode, monkeypatch):
    image = models.picture(256, 340)
    wanted = restored(image, mode=mode)
    for k in range(restorer().steps):
        step, failures = NSARMRestorer.step, SimpleNamespace(left=1)

        def failing(self, state, number, k=k, step=step, failures=failures):
            step(self, state, number)
            if number == k and state.tiles > 1 and failures.left:
                failures.left -= 1
                raise torch.OutOfMemoryError("as a test")

        with monkeypatch.context() as patch:
            patch.setattr(NSARMRestorer, "step", failing)
            found = restored(image, mode=mode, execution=Execution(prepare=lambda: 2))
        assert (found - wanted).abs().mean() < 1e-3
        assert (failures.left == 0) == (mode == "independent"), "phased tiles go one by one here"


def test_steps_have_names():
    names = [str(restorer().task(k).stage) for k in range(restorer().steps)]
    assert names[:2] == ["scale 7 of 10", "scale 8 of 10"]
    assert len(set(names)) == len(names) == 4
