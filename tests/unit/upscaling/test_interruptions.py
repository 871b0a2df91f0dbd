"""Progress of an upscale, and what is left where it is cancelled or memory runs out."""

from collections import Counter
from contextlib import contextmanager
from itertools import groupby

import pytest
import torch

from helpers import models
from helpers.each import each
from helpers.told import assert_rises_to_its_total
from helpers.upscaling import (
    FOUR_TILES,
    IMAGES,
    SCALES,
    CancelledError,
    assert_equal_but_for_rounding,
    at_once,
    every_mode,
    in_mode,
    restorer,
    unbroken,
)
from varsr_core.nn.autoencoder import Decoder
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.progress import STAGE_KEYS
from varsr_core.tiling import decode as tiled_decode
from varsr_core.tiling.consistency import Given, Overlaps
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.quantizer import Quantizer
from varsr_core.varsr.refiner import Refiner
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.transformer import Block, Transformer

# Progress, cancelling, memory


@every_mode
def test_progress_tells_what_begins_and_rises_to_its_total(mode):
    seen = []
    execution = at_once(4, on_progress=seen.append)
    upscale(FOUR_TILES, 2.0, restorer(), settings=in_mode(mode), execution=execution)
    assert_rises_to_its_total(seen)
    scales = [f"scale {k} of 4" for k in range(1, 5)]
    of_tiles = ["encoding", *scales, "refining"] * (4 if mode == "phased" else 1)
    words = [word for word, _ in groupby(str(progress.stage) for progress in seen)]
    assert words == [*of_tiles, "decoding", "finishing"]
    assert {progress.stage.key for progress in seen} == set(STAGE_KEYS)
    steps = Counter()
    for progress in seen:
        steps[progress.step] += progress.stepped
    assert steps == {None: 0, **dict.fromkeys(range(SCALES + 1), 4)}
    assert all(progress.draw is None for progress in seen)


@each(("case", "tiles"), [("several tiles", 3), ("four pictures", 5)])
@every_mode
def test_progress_ends_at_its_total(case, tiles, mode):
    seen = []
    execution = at_once(tiles, on_progress=seen.append)
    upscale(IMAGES[case], 2.0, restorer(), settings=in_mode(mode), execution=execution)
    assert_rises_to_its_total(seen)


def test_model_is_prepared_once_and_only_for_good_input():
    calls = []
    execution = Execution(prepare=lambda: calls.append(1) or 1)
    with pytest.raises(ValueError, match="2 channels"):
        upscale(torch.zeros(1, 2, 32, 32), 2.0, restorer(), execution=execution)
    with pytest.raises(ValueError, match="limit"):
        upscale(FOUR_TILES, 1e4, restorer(), execution=execution)
    assert not calls
    upscale(models.picture(30, 50, images=3), 2.0, restorer(), execution=execution)
    assert calls == [1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"color_fix": "histogram"}, "'histogram' is none of adain, wavelet, lab, none"),
        ({"color_strength": float("nan")}, "color_strength is nan"),
        ({"color_strength": 1.5}, "color_strength is 1.5; 0 to 1"),
        ({"feather": -1}, "feather is -1; 0 pixels or more"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        UpscaleSettings(**wrong)


@each("cancel_at", [0.0, 0.04, 0.1, 0.24, 0.5, 0.8, 0.99, 1.0])
@every_mode
def test_cancelled_run_leaves_the_next_one_right(cancel_at, mode):
    """At any share of the work, in the middle of a scale, too."""
    how, settings, seen = restorer(), in_mode(mode), []

    def cancel(progress):
        seen.append(progress)
        if progress.done >= cancel_at * progress.total:
            raise CancelledError

    with pytest.raises(CancelledError):
        upscale(FOUR_TILES, 2.0, how, settings=settings, execution=Execution(on_progress=cancel))
    assert seen[-1].done < (cancel_at + 0.05) * seen[-1].total, "at once"
    assert not any(module._forward_hooks for module in how.model.modules())
    again = upscale(FOUR_TILES, 2.0, how, settings=settings)
    assert torch.equal(again, unbroken("several tiles", mode))


@contextmanager
def short_of_memory(monkeypatch, owner, name, call, after=False):
    """The `call`-th call of a method runs out of memory, at its begin or when it has done its work.

    owner: a class; yields a list that gets an entry when it happened
    """
    whole, calls, failed = getattr(owner, name), [], []

    def once(self, *args, **kwargs):
        calls.append(1)
        fails = len(calls) == call
        if fails and not after:
            failed.append(call)
            raise torch.OutOfMemoryError("before")
        result = whole(self, *args, **kwargs)
        if fails:
            failed.append(call)
            raise torch.OutOfMemoryError("after")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, once)
        yield failed


BLOCKS = 2  # of the transformer; its second one fails when the first has filled the cache
FAILURES = {
    "prefix": (VARSR, "encode_prefix", 1),
    "begin of scale 1": (Transformer, "forward", 1),
    **{f"middle of scale {k}": (Block, "forward", BLOCKS * k) for k in (1, 2, 3, 4)},
    **{f"end of scale {k}": (Quantizer, "residual", k) for k in (1, 4)},
    "refiner": (Refiner, "forward", 2),
}


def assert_survives(monkeypatch, failure, mode, case="several tiles", tiles=4, **options):
    """The picture of the uninterrupted run, several tiles at once, and progress to its total.

    Not its bits, unless blocks of tiles were the same in both: with fewer rows, matrices are
    multiplied in another order.
    """
    same_bits = options.pop("same_bits", False)
    how, seen = restorer(SampleSettings(top_k=20)), []
    expected = unbroken(case, mode, tiles // 2 if same_bits else tiles, top_k=20)
    with short_of_memory(monkeypatch, *failure, **options) as failed:
        execution = at_once(tiles, on_progress=seen.append)
        found = upscale(IMAGES[case], 2.0, how, settings=in_mode(mode), execution=execution)
    assert failed
    assert_equal_but_for_rounding(found, expected)
    assert not same_bits or torch.equal(found, expected)
    assert_rises_to_its_total(seen)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("mode", ["lock-step", "independent"])
def test_running_out_of_memory_in_any_step_leaves_the_picture_as_it_is(monkeypatch, failure, mode):
    assert_survives(monkeypatch, FAILURES[failure], mode)


@pytest.mark.parametrize("failure", FAILURES)
def test_running_out_of_memory_in_a_phase_leaves_the_picture_as_it_is(monkeypatch, failure):
    """Of four pictures, since the two tiles of one overlap and run after one another."""
    assert_survives(monkeypatch, FAILURES[failure], "phased", "four pictures", tiles=8)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failure", ["prefix", "begin of scale 1"])
@pytest.mark.parametrize("mode", ["lock-step", "independent"])
def test_running_out_of_memory_at_first_gives_the_bits_of_smaller_blocks(
    monkeypatch, failure, mode, after
):
    assert_survives(monkeypatch, FAILURES[failure], mode, after=after, same_bits=True)


@pytest.mark.parametrize("call", [1, 4])
@pytest.mark.parametrize(("owner", "name"), [(Overlaps, "given"), (Given, "over")])
def test_running_out_of_memory_while_tiles_are_brought_together(monkeypatch, owner, name, call):
    """The step itself is done then, and must be forgotten."""
    assert_survives(monkeypatch, (owner, name, call), "phased", "several pictures")


@pytest.mark.parametrize("tiles", [2, 4])
def test_running_out_of_memory_in_the_decoder_leaves_tiles_as_they_are(monkeypatch, tiles):
    how, settings = restorer(), in_mode("independent")
    whole = Decoder.forward

    def short(self, latent):
        if len(latent) > 1:
            raise torch.OutOfMemoryError("more than one tile")
        return whole(self, latent)

    expected = upscale(FOUR_TILES, 2.0, how, settings=settings, execution=at_once(tiles))
    monkeypatch.setattr(Decoder, "forward", short)
    found = upscale(FOUR_TILES, 2.0, how, settings=settings, execution=at_once(tiles))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


LONG = models.picture(8, 128)  # four times as large, two pieces of a canvas


@pytest.mark.parametrize("call", [1, 2])
def test_running_out_of_memory_in_the_decoder_leaves_a_canvas_as_it_is(monkeypatch, call):
    """The first call measures, on samples; the second decodes."""
    monkeypatch.setattr(tiled_decode, "MEASURED_PIXELS", 0)
    how = restorer(refining=RefineSettings(strength=0))
    expected = upscale(LONG, 4.0, how, execution=at_once(4))
    with short_of_memory(monkeypatch, Decoder, "fine", call) as failed:
        found = upscale(LONG, 4.0, how, execution=at_once(4))
    assert failed
    assert_equal_but_for_rounding(found, expected)


def test_running_out_of_memory_never_makes_blocks_larger(monkeypatch):
    how = restorer(refining=RefineSettings(strength=0))
    sizes, whole = [], Decoder.fine

    def short(self, features, *args):
        sizes.append(len(features))
        if len(sizes) == 1:
            raise torch.OutOfMemoryError("while measuring")
        return whole(self, features, *args)

    monkeypatch.setattr(Decoder, "fine", short)
    upscale(LONG, 4.0, how, execution=at_once(1))
    assert set(sizes[1:]) == {1}


@every_mode
def test_a_single_tile_that_does_not_fit_is_an_error_that_tells_what_to_do(monkeypatch, mode):
    def short(self, *args, **kwargs):
        raise torch.OutOfMemoryError("not a byte")

    monkeypatch.setattr(Refiner, "forward", short)
    with pytest.raises(torch.OutOfMemoryError, match=r"single tile.*lower precision.*not a byte"):
        upscale(FOUR_TILES, 2.0, restorer(), settings=in_mode(mode), execution=at_once(4))
