"""Every stage on a pretended card: nothing lies where it must not, and little waits."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from helpers import models, nsarm_goldens
from helpers.card import Card, card, device, on_the_way
from helpers.each import each
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.runtime.execution import Execution
from varsr_core.runtime.progress import Progress
from varsr_core.runtime.transfer import CPU, brought, fetched
from varsr_core.tiling.consistency import TILING_MODES, Tiling
from varsr_core.upscaling import UpscaleSettings, upscale
from varsr_core.varsr import sampling
from varsr_core.varsr.config import PAPER
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.work import BLOCK

ONE, SIX = (16, 16), (28, 40)  # sides of pictures that are so many tiles at four times the size
CLOSE = 1e-4  # attention is another kernel there

# What the program waits for, by file. Of the micro model, with four scales and the refiner, four
# tiles at once: six tiles are four blocks in phases, two where each is for itself, and one where
# six run at once. Behind each, how many there were while neighbours met on the CPU.
NUMBERS = "tiling/record.py"  # of each block, whether its latents are numbers
PIXELS = "tiling/decode.py"  # of each block, while the next is worked on; of a small canvas, once
WAITS = {  # tiles, tiling, at once
    (1, "phased", 4): {NUMBERS: 1, PIXELS: 1},  # 5
    (6, "phased", 4): {NUMBERS: 4, PIXELS: 1},  # 119
    (6, "independent", 4): {NUMBERS: 2, PIXELS: 2},  # 10
    (6, "lock-step", 6): {NUMBERS: 5, PIXELS: 1},  # 91; at every step, as all meet
}
WAITS_OF_NSARM = {NUMBERS: 1, PIXELS: 1}  # 19, one tile
# What comes to the card without a wait.
COPIES_OF_TWO_TILES = {
    "tiling/restorer.py": 2,  # the tile
    "varsr/sampling.py": 2 * (4 + 1),  # draws of each scale, noise of the refiner
    "varsr/transformer.py": 4,  # angles of each scale, then kept
}
# Kernels of one block at one scale, by dtype; one more, which gathers the modulation, were started
# at every scale before.
LAUNCHES = {torch.float32: 41, torch.bfloat16: 46, torch.float16: 46}


def moved(module: nn.Module) -> nn.Module:
    with card():
        return copy.deepcopy(module).to(device())


@cache
def micro() -> tuple[nn.Module, nn.Module]:
    """On the CPU, and on the card."""
    return models.micro_model(), moved(models.micro_model())


def run(
    place: torch.device,
    size: tuple[int, int],
    guidance: float,
    settings: UpscaleSettings,
    *,
    steps: int = 2,
    mask: bool = False,
    at_once: int = 4,
    **sampled: Any,
) -> tuple[Tensor, Card]:
    """A picture made there, and what the card was asked."""
    network = micro()[place == device()]
    chosen = SampleSettings(guidance=guidance, **sampled), RefineSettings(guidance, steps)
    given = torch.zeros(1, 1, *size) if mask else None
    if given is not None:
        given[..., : size[0] // 2, : size[1] // 2] = 1
    with card() as asked:
        made = upscale(
            models.picture(*size),
            4.0,
            VARSRRestorer(network, *chosen),
            seed=3,
            settings=settings,
            mask=given,
            execution=Execution(place, prepare=lambda: at_once),
        )
    return made, asked


def execution() -> Execution:
    return Execution(device())


def by_file(places: Counter[str]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for place, times in places.items():
        counted[place.split()[-1].partition(":")[0]] += times
    return counted


@each("mode", TILING_MODES)
@each("guidance", [0.0, PAPER.guidance])
def test_card_makes_the_picture_of_the_cpu(mode, guidance):
    settings = UpscaleSettings(tiling=Tiling(mode), color_fix="none")
    wanted, found = (run(place, SIX, guidance, settings)[0] for place in (CPU, device()))
    torch.testing.assert_close(found, wanted, atol=CLOSE, rtol=0)


@each("color_fix", ["adain", "wavelet", "lab"])
def test_what_comes_behind_the_model_is_the_same(color_fix):
    settings = UpscaleSettings(color_fix=color_fix, fidelity=0.4, shrink_first=2e-4)
    wanted, found = (run(place, SIX, 0.0, settings, mask=True)[0] for place in (CPU, device()))
    torch.testing.assert_close(found, wanted, atol=CLOSE, rtol=0)


@each("case", WAITS)
@each("top_k", [1, 50])
def test_card_is_waited_for_only_where_something_is_read(case, top_k):
    tiles, mode, at_once = case
    settings = UpscaleSettings(tiling=Tiling(mode), color_fix="none")
    size = {1: ONE, 6: SIX}[tiles]
    drawn = {"top_k": top_k, "top_p": 0.9}
    _, asked = run(device(), size, PAPER.guidance, settings, steps=10, at_once=at_once, **drawn)
    assert by_file(asked.waits) == WAITS[case]


def test_wait_in_the_loop_over_scales_would_be_counted(monkeypatch):
    choose = sampling.draw_tokens

    def look(logits: Tensor, **settings: Any) -> Tensor:
        assert logits.max().item() == logits.max().item()
        return choose(logits, **settings)

    monkeypatch.setattr(sampling, "draw_tokens", look)
    _, asked = run(device(), ONE, PAPER.guidance, UpscaleSettings(color_fix="none"))
    assert by_file(asked.waits) == {**WAITS[1, "phased", 4], "varsr/sampling.py": 2 * 4}


@each("dtype", LAUNCHES)
def test_block_starts_the_kernels_that_the_bar_counts(dtype):
    with card() as asked:
        network = models.build_model(models.converted_weights(), dtype=dtype).to(device())
        block, started = network.transformer.blocks[0], []

        def note(*_: object) -> None:
            started.append(sum(asked.launches.values()))

        block.register_forward_pre_hook(note)
        block.register_forward_hook(note)
        upscale(models.picture(*ONE), 4.0, VARSRRestorer(network), execution=execution())
    counts = {after - before for before, after in zip(started[::2], started[1::2], strict=True)}
    assert counts == {LAUNCHES[dtype]}
    assert LAUNCHES[dtype] <= BLOCK


def test_what_a_run_needs_comes_to_the_card_once():
    settings, chosen = UpscaleSettings(color_fix="none"), SampleSettings(top_k=50)
    with card() as asked:
        restorer = VARSRRestorer(copy.deepcopy(models.micro_model()).to(device()), chosen)
        for _ in range(2):
            upscale(models.picture(*ONE), 4.0, restorer, settings=settings, execution=execution())
    assert by_file(asked.copies) == COPIES_OF_TWO_TILES


@each("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_whole(dtype):
    with card():
        network = models.build_model(models.converted_weights(), dtype=dtype).to(device())
        made = upscale(
            models.picture(*SIX), 4.0, VARSRRestorer(network), execution=Execution(device())
        )
    assert made.isfinite().all()


def test_looking_for_overflow_in_float16_adds_no_wait():
    network, settings = models.micro_model(dtype=torch.float16), UpscaleSettings(color_fix="none")
    restorer = VARSRRestorer(moved(network), SampleSettings(guidance=PAPER.guidance))
    for _ in range(2):  # some things are made once
        with card() as asked:
            upscale(models.picture(*ONE), 4.0, restorer, settings=settings, execution=execution())
    assert by_file(asked.waits) == WAITS[1, "phased", 4]


@each("mode", TILING_MODES)
def test_tiles_that_overflow_in_float16_are_made_once_more_there(mode):
    weights = models.converted_weights()
    name = "transformer.blocks.1.fc2.weight"
    odd = {**weights, name: weights[name] * (5e4 / weights[name].abs().max())}
    network, settings = models.build_model(odd, dtype=torch.float16), Tiling(mode)
    results = []
    for place in (network, moved(network)):
        with card():
            how = Execution(place.word_embed.weight.device, prepare=lambda: 4)
            restorer = VARSRRestorer(place, SampleSettings(guidance=0.0))
            chosen = UpscaleSettings(settings, color_fix="none")
            results.append(
                upscale(models.picture(16, 24), 4.0, restorer, settings=chosen, execution=how)
            )
    assert (results[1] - results[0]).abs().mean() < 1e-3


def test_previews_are_drawn():
    drawn: list[Tensor] = []

    def draw(progress: Progress) -> None:
        if progress.draw is not None:
            drawn.append(progress.draw())

    with card():
        execution = Execution(device(), on_progress=draw, pictures=True)
        upscale(models.picture(*SIX), 4.0, VARSRRestorer(micro()[1]), execution=execution)
    assert drawn
    assert all(picture.device.type == "cpu" for picture in drawn)


def test_previews_are_waited_for_only_when_they_are_drawn():
    settings = UpscaleSettings(color_fix="none")

    def waits(draw_every: int) -> Counter[str]:
        seen = count(1)

        def look(progress: Progress) -> None:
            if progress.draw is not None and next(seen) % draw_every == 0:
                progress.draw()

        with card() as asked:
            execution = Execution(device(), lambda: 4, on_progress=look, pictures=True)
            restorer = VARSRRestorer(micro()[1])
            upscale(models.picture(*SIX), 4.0, restorer, settings=settings, execution=execution)
        return by_file(asked.waits)

    assert waits(1000) == WAITS[6, "phased", 4]
    # Four blocks of five steps, and the finished picture, which has come already.
    assert waits(7) == {**WAITS[6, "phased", 4], "tiling/preview.py": 2}


def test_nsarm_makes_the_picture_of_the_cpu():
    network, picture = nsarm_goldens.model(), models.picture(256, 256)
    text, results = nsarm_goldens.trace()["in.text_features"], []
    settings = UpscaleSettings(color_fix="none")
    for place in (network, moved(network)):
        with card() as asked:
            execution = Execution(next(place.parameters()).device)
            restorer = NSARMRestorer(place, nsarm_goldens.GREEDY, text)
            results.append(upscale(picture, 2.0, restorer, settings=settings, execution=execution))
    torch.testing.assert_close(results[1], results[0], atol=CLOSE, rtol=0)
    assert by_file(asked.waits) == WAITS_OF_NSARM


def test_what_comes_from_the_card_is_nothing_until_it_was_waited_for():
    with card() as asked:
        wait = fetched(torch.ones(3, device=device()))
        (there,) = (place for place, _ in on_the_way)
        assert there.isnan().all()
        assert not asked.waits
        assert wait() is there
    assert there.tolist() == [1, 1, 1]
    assert sum(asked.waits.values()) == 1
    assert not on_the_way


def test_indices_off_the_card_are_waited_for():
    with card() as asked:
        values = torch.arange(3, device=device())
        asked.waits.clear()
        assert len(values[torch.tensor([2, 0])]) == 2
    assert sum(asked.waits.values()) == 1


def test_card_without_lockable_memory_still_gets_its_data():
    refused = RuntimeError("CUDA error: out of memory")
    with card() as asked, patch.object(asked, "lock", side_effect=refused):
        there = brought(torch.ones(3), device())
    assert sum(asked.waits.values()) == 1
    assert there.device == device()


def test_mixes_and_double_precision_are_refused():
    with card():
        there = torch.ones(2, device=device())
        with pytest.raises(RuntimeError, match="on the card and off it"):
            there + torch.ones(2)
        with pytest.raises(TypeError, match="float64"):
            there.double()
