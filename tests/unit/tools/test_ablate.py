"""tools/ablate.py: what each switch does to the pictures, the table and the sheet."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import batch_files as files
from tools import ablate
from tools.ablation.making import made, to_picture
from tools.ablation.restorers import PrefixEstimate, QuantizedEstimate
from tools.ablation.sheet import CAPTION, Cell, sheet
from tools.ablation.variants import AS_IT_IS, Switches
from tools.metrics.case import colors
from varsr_core.batch.__main__ import NOT_DONE
from varsr_core.runtime.execution import Execution
from varsr_core.tiling.noise import TileSeed
from varsr_core.training.stages.prefix import estimated_latent
from varsr_core.upscaling import upscale
from varsr_core.varsr.sampling import RefineSettings, SampleSettings
from varsr_core.varsr.stages import decode_scales, encode_prefix, sample_tokens

SIZE = 2.0
PICTURE = Image.fromarray(files.pixels(36, 40, seed=3))
CPU = torch.device("cpu")


@pytest.fixture
def switches(micro_file, tmp_path, monkeypatch):
    """Of a tiny model, whose prefix is taken to hold an estimate."""
    monkeypatch.setattr("tools.ablation.variants.estimate_error", lambda *_: 0.5)
    options = ("--model", micro_file, "--scale", SIZE, "--seed", 5, "--guidance", 2)
    return Switches(str(tmp_path), [str(option) for option in options])


def results(switches):
    variants = switches.all(PICTURE)
    whole = {variant.label: variant for variant in variants}
    pairs = zip(variants, made(variants, PICTURE, switches.options), strict=True)
    return whole, {variant.label: np.asarray(one.picture, int) for variant, one in pairs}


def direct(restorer, settings=None):
    """As `upscale()` makes it."""
    rgb = upscale(colors(PICTURE), SIZE, restorer, seed=5, settings=settings)
    return np.asarray(to_picture(rgb), int)


def test_every_variant_is_what_upscale_makes_with_it(switches):
    variants, pictures = results(switches)
    assert {AS_IT_IS, "refiner off", "guidance 0", "guidance 3", "guidance 6"} < set(variants)
    assert {"color adain", "color wavelet", "color lab", "color none"} < set(variants)
    for label in (AS_IT_IS, "refiner off", "guidance 0", "color lab", "color none"):
        variant = variants[label]
        assert (pictures[label] == direct(variant.restorer, variant.settings)).all(), label
    assert variants["refiner off"].restorer.refining.strength == 0
    assert variants["guidance 3"].restorer.sampling.guidance == 3
    assert variants["guidance 3"].restorer.refining.guidance == 3
    assert variants[AS_IT_IS].restorer.sampling.guidance == 2
    for label in ("refiner off", "guidance 0", "color none", "prefix estimate"):
        assert (pictures[label] != pictures[AS_IT_IS]).any(), label


def test_first_scales_are_those_that_the_sampler_decodes(switches):
    variants = {variant.label: variant for variant in switches.all(PICTURE)}
    model, count = switches.restorer.model, switches.scales
    kept = [label for label in variants if label.startswith("scales")]
    assert kept == [f"scales {number}/{count}" for number in (2, 3)]
    prefix = encode_prefix(model, colors(PICTURE), SIZE, Execution(CPU))
    tokens = sample_tokens(model, prefix, SampleSettings(guidance=2.0), 5, Execution(CPU))
    stages = decode_scales(model, tokens, Execution(CPU))
    settings = variants["color none"].settings
    plain = [replace(variants[label], settings=settings) for label in kept]
    shown = [np.asarray(one.picture) for one in made(plain, PICTURE, switches.options)]
    for picture, number in zip(shown, (2, 3), strict=True):
        expected = np.asarray(to_picture(stages[number - 1 : number]))
        assert (picture == expected).all()


def test_the_estimates_are_the_first_channels_of_the_prefix(switches):
    model = switches.restorer.model
    side = model.config.tile_size
    lq = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    estimate = estimated_latent(model, model.encode_prefix(lq))
    for kind, expected in (
        (PrefixEstimate, estimate),
        (QuantizedEstimate, model.quantizer.encode(estimate)[1][-1]),
    ):
        restorer = kind(model, SampleSettings(), RefineSettings())
        state = restorer.start(lq, [TileSeed(0, 0)])
        assert restorer.steps == 1
        restorer.step(state, 0)
        assert torch.equal(state.latent, expected)


def test_equal_runs_go_through_the_model_once(switches, monkeypatch):
    runs = []

    def counted(*arguments, **options):
        runs.append(arguments[2])
        return upscale(*arguments, **options)

    monkeypatch.setattr("tools.ablation.making.upscale", counted)
    variants, _ = results(switches)
    assert len(variants) == 13
    assert len(runs) == 9  # colours are changed behind the model


def test_a_model_without_an_estimate_in_its_prefix_goes_without(micro_file, tmp_path, capsys):
    switches = Switches(str(tmp_path), ["--model", str(micro_file)])
    labels = [variant.label for variant in switches.all(PICTURE)]
    assert not [label for label in labels if label.startswith("prefix")]
    assert "left out: prefix estimate" in capsys.readouterr().out


def test_the_model_of_the_pack_estimates(tmp_path):
    switches = Switches(str(tmp_path), ["--scale", "4"])
    labels = [variant.label for variant in switches.all(PICTURE)]
    assert labels[1:3] == ["prefix estimate", "prefix quantized"]


@pytest.fixture
def run(tmp_path, micro_file, monkeypatch):
    for name in ("stlpips_pytorch", "piq", "pyiqa"):
        monkeypatch.setitem(sys.modules, name, None)
    for number, name in enumerate(("a", "inner/b")):
        files.save(tmp_path / f"low/{name}.png", files.pixels(24, 20, seed=number))
        files.save(tmp_path / f"high/{name}.png", files.pixels(48, 40, seed=number))

    def done(*arguments):
        common = (tmp_path / "low", "--out", tmp_path / "out", "--model", micro_file)
        options = (*common, "--scale", 2, "--guidance", 2, *arguments)
        return ablate.main([str(option) for option in options])

    return done


def test_one_table_one_sheet_and_scores_that_can_be_compared(run, tmp_path, capsys):
    assert run("--references", tmp_path / "high", "--metrics", "psnr", "ssim", "--crop", 32) == 0
    told, out = capsys.readouterr().out, tmp_path / "out"
    assert "as it is: guidance 2, color adain" in told
    lines = told.splitlines()
    head = next(line for line in lines if "PSNR-Y" in line)
    assert head.split() == ["PSNR-Y", "SSIM-Y", "seconds"]
    scores = json.loads((out / "guidance-3.json").read_text())
    assert list(scores) == ["a", "inner/b", "mean"]
    row = next(line for line in lines if line.startswith("guidance 3"))
    assert f"{scores['mean']['PSNR-Y']:.4g}" in row
    assert (out / "scales-2-of-4" / "inner" / "b.png").exists()
    with Image.open(out / "sheet.png") as image:
        cells, (width, height) = 13, image.size  # input, reference, eleven variants
    assert width == 4 * (32 + 6)
    assert height == 2 * (-(-cells // 4) * (32 + CAPTION + 6) + 6)


def test_without_references_what_needs_none_is_measured_and_the_model_on_grey(run, capsys):
    assert run("--metrics", "lr-psnr", "noise") == 0
    told = capsys.readouterr().out
    assert "NOISE LEFT" in told
    assert "LR-PSNR" in told
    assert run("--metrics", "psnr") == NOT_DONE
    assert "PSNR-Y needs a folder of references" in capsys.readouterr().out


def test_results_never_become_inputs(run, tmp_path, capsys):
    assert run("--out", tmp_path / "low" / "here") == NOT_DONE
    assert "choose --out" in capsys.readouterr().out


def test_cells_are_labelled_and_cut_from_the_middle():
    red = Image.new("RGB", (40, 30), (255, 0, 0))
    red.paste((0, 0, 255), (10, 5, 30, 25))
    found = sheet([[Cell("one", "2 dB", red), Cell("two", "", red)]], 20)
    assert found.size == (2 * 26, 20 + CAPTION + 6 + 6)
    values = np.asarray(found)
    for left in (0, 26):
        cell = values[CAPTION : CAPTION + 20, left : left + 20]
        assert (cell == (0, 0, 255)).all()
        assert values[:CAPTION, left : left + 20].min() < 200  # a label


def test_tried_options_are_variants_and_the_best_is_chosen_for_each_picture(
    micro_file, tmp_path, capsys
):
    folder = tmp_path / "low"
    for number in range(3):
        files.save(folder / f"{number}.png", files.pixels(16, 16, seed=number))
    tried = ("--seed 1", "--top-k 3 --seed 2")
    arguments = [str(folder), "--model", str(micro_file), "--scale", "1.5", "--metrics", "lr-psnr"]
    arguments += [f"--try={one}" for one in tried]
    assert ablate.main([*arguments, "--best", "lr-psnr", "--out", str(tmp_path / "out")]) == 0
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*.json"))]
    assert len(found) == 1 + len(tried)
    best = [max(rows[f"{n}"]["LR-PSNR"] for rows in found) for n in range(3)]
    line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("best by"))
    assert float(line.split()[-2]) == pytest.approx(np.mean(best), rel=1e-3)
    assert np.mean(best) > max(rows["mean"]["LR-PSNR"] for rows in found)
