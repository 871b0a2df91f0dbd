"""A training run through all stages: which start from solved weights, and what each changes."""

import pytest
import torch
from PIL import Image

from helpers import models
from helpers.closed_form import roomy_sizes
from helpers.training import broken_off, losses, pictures, settings, trained
from varsr_core.checkpoint import load_checkpoint
from varsr_core.training import closed_form, stage_table
from varsr_core.training.config import TrainingConfig
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.stages.decoder import DecoderSettings
from varsr_core.training.starting.new_model import config_from_json
from varsr_core.upscaling import upscale
from varsr_core.varsr.restorer import VARSRRestorer

ROOMY = roomy_sizes()
FEW_PAIRS = 60
STAGES = ("tokenizer", "prefix", "sight", "isr", "refiner", "decoder")
TOKENIZER = ("encoder.", "decoder.", "quantizer.", "pre_quantizer.", "post_quantizer.")


@pytest.fixture
def folder(tmp_path):
    """Six pictures, larger than a tile."""
    place = tmp_path / "pictures"
    place.mkdir()
    for seed in range(6):
        pixels = models.picture(40, 48, seed=seed)[0].permute(1, 2, 0).mul(255).round().byte()
        Image.fromarray(pixels.numpy()).save(place / f"{seed}.png")
    return place


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch):
    """Enough to run; what comes of more is for the tests of the starts."""
    monkeypatch.setattr(stage_table, "START_PAIRS", FEW_PAIRS)


@pytest.fixture
def solved(monkeypatch):
    """Names of the starts that were solved for, in their order."""
    calls = []
    for name in ("linear_start", "prefix_start", "restorer_start"):
        original = getattr(closed_form, name)

        def spy(*given, name=name, original=original):
            if name != "linear_start":
                assert sum(len(classes) for _, classes, _ in given[1]) >= FEW_PAIRS
            calls.append(name)
            return original(*given)

        monkeypatch.setattr(closed_form, name, spy)
    return calls


def config(stages=STAGES, steps=3, sizes=ROOMY, **others):
    stages = {name: settings(steps, average=0.9) for name in stages}
    return TrainingConfig(sizes=sizes, **stages, **others)


def run(config, place, folder, start=None):
    assert Training(config, place, [folder], [], start).run()
    return {name: t.clone() for name, t in load_checkpoint([place / MODEL_FILE]).tensors.items()}


def changed(before, after):
    return {name for name in after if not torch.equal(before[name], after[name])}


def test_all_stages_run_and_the_saved_model_restores(folder, tmp_path, solved):
    final = run(config(), tmp_path / "run", folder)
    assert solved == ["linear_start", "prefix_start", "restorer_start"]
    for stage in STAGES:
        assert len(losses(tmp_path / "run", stage)) == 3
        left = load_checkpoint([tmp_path / "run" / stage / MODEL_FILE]).tensors
        assert (stage == STAGES[-1]) == torch.equal(
            left["decoder.conv_out.bias"], final["decoder.conv_out.bias"]
        )
    model = trained(tmp_path / "run")
    restored = upscale(pictures()[:1], 2.0, VARSRRestorer(model))
    assert restored.shape == (1, 3, 16, 16)
    assert restored.isfinite().all()


@pytest.mark.parametrize("broken", STAGES)
def test_run_broken_in_a_stage_ends_like_an_unbroken_one(
    folder,
    tmp_path,
    solved,
    broken,
):
    run(config(), tmp_path / "whole", folder)
    expected = list(solved)
    solved.clear()
    with broken_off(broken):
        run(config(), tmp_path / "broken", folder)
    run(config(), tmp_path / "broken", folder)
    assert solved == expected, "nothing is solved for twice"
    for stage in STAGES:
        assert losses(tmp_path / "broken", stage) == losses(tmp_path / "whole", stage)
    files = [tmp_path / name / MODEL_FILE for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_decoder_stage_has_the_losses_that_are_configured_and_shows_samples(folder, tmp_path):
    """Features too, whose loss is scaled with the perceptual one."""
    shown, found = [], []

    def features(picture):
        if picture.device.type != "meta":  # where only memory is counted
            shown.append(picture)
        return [picture]

    for number, weight in enumerate((0.0, 3.0)):
        chosen = config(STAGES[-1:], steps=1, decoder_losses=DecoderSettings(perceptual=weight))
        place = tmp_path / str(number)
        Training(chosen, place, [folder], [], features=features).run()
        assert (place / "decoder_0000000.png").is_file()
        found += losses(place, "decoder")
    assert len(shown) == 4, "what is decoded and what it should be"
    assert found[1] > 2 * found[0]


@pytest.mark.parametrize("stage", ["sight", "decoder"])
def test_sight_and_decoder_have_losses_of_their_own(folder, tmp_path, stage):
    """The prefix's first weights are solved for before, so that the one can follow."""
    stages = ("prefix", stage) if stage == "sight" else (stage,)
    chosen = DecoderSettings(perceptual=0.0, own_share=1.0)
    plain = DecoderSettings(own_share=1.0)
    for name, own in ((stage, chosen), ("other", plain)):
        given = {"sight_losses": plain, "decoder_losses": plain} | {f"{stage}_losses": own}
        run(config(stages, steps=1, **given), tmp_path / name, folder)
    assert losses(tmp_path / stage, stage)[0] < losses(tmp_path / "other", stage)[0]


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_what_was_solved_for_learns_at_a_share_of_the_rate(folder, tmp_path, share):
    """All but the refiner, which is drawn."""
    chosen = config(("prefix", "isr"), steps=1, solved_rate=share)
    run(chosen, tmp_path / "run", folder)
    state = torch.load(tmp_path / "run" / "isr" / "state.pt", weights_only=True)
    rates = {group["lr"] for group in state["optimizer"]["param_groups"]}
    assert sorted(rates) == pytest.approx(sorted({share * max(rates), max(rates)}))


def test_a_model_given_to_start_from_keeps_its_weights(folder, tmp_path, solved):
    run(config(), tmp_path / "run", folder)
    solved.clear()
    run(config(), tmp_path / "tuned", folder, tmp_path / "run" / MODEL_FILE)
    assert not solved
    assert not (tmp_path / "tuned" / "prefix").exists()


def test_a_tuned_model_keeps_its_weights_when_the_run_is_resumed(folder, tmp_path, solved):
    run(config(), tmp_path / "run", folder)
    solved.clear()
    start = tmp_path / "run" / MODEL_FILE
    run(config(STAGES[:1]), tmp_path / "tuned", folder, start)
    run(config(), tmp_path / "tuned", folder)
    assert not solved


def test_a_pretrained_model_keeps_its_weights(folder, tmp_path, solved):
    run(config(("pretraining", "prefix", "isr"), steps=1), tmp_path / "run", folder)
    assert not solved
    assert not (tmp_path / "run" / "prefix").exists()


def test_sizes_without_room_are_trained_from_drawn_weights(folder, tmp_path, solved):
    narrow = roomy_sizes(mlp_width=48)
    starts = closed_form.closed_form_starts(config_from_json(narrow))
    assert (starts.tokenizer is None, starts.restorer is None) == (False, True)
    run(config(steps=1, sizes=narrow), tmp_path / "run", folder)
    assert solved == ["linear_start"]
    assert not (tmp_path / "run" / "prefix").exists()


def test_without_its_stage_the_prefix_encoder_is_solved_for_with_the_rest(
    folder,
    tmp_path,
    solved,
):
    run(config(("tokenizer", "isr"), steps=1), tmp_path / "run", folder)
    assert solved == ["linear_start", "prefix_start", "restorer_start"]


def test_every_stage_changes_its_own_parts_alone(folder, tmp_path):
    """Averages of weights, where they are kept, outlast the stages that follow."""
    place = tmp_path / "run"
    before = run(config(STAGES[:1], steps=2), place, folder)
    after = {}
    for count, stage in enumerate(STAGES[1:], 2):
        after[stage] = run(config(STAGES[:count], steps=2), place, folder)
    assert {name.split(".")[0] for name in changed(before, after["prefix"])} == {"prefix_encoder"}
    by_sight = changed(after["prefix"], after["sight"])
    parts = {"prefix_encoder", "post_quantizer", "decoder"}
    assert {name.split(".")[0] for name in by_sight} == parts
    assert not any(name.startswith(TOKENIZER) for name in changed(after["sight"], after["isr"]))
    by_refiner = changed(after["isr"], after["refiner"])
    assert {name.split(".")[0] for name in by_refiner} == {"refiner"}
    by_decoder = changed(after["refiner"], after["decoder"])
    assert {name.split(".")[0] for name in by_decoder} == {"post_quantizer", "decoder"}
