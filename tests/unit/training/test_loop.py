"""The loop: schedule, resume, averages, and that both stages learn what they are shown."""

import csv
import dataclasses

import pytest
import torch

from helpers import models
from helpers.training import SIZES
from varsr_core.checkpoint import load_checkpoint
from varsr_core.errors import CheckpointError
from varsr_core.training.loop import LOG_FILE, STATE_FILE, Loop, LoopSettings
from varsr_core.training.stages.encoded_target import encode_target
from varsr_core.training.stages.restorer import ISRLoss
from varsr_core.training.stages.tokenizer import TokenizerLoss, TokenizerSettings, revive_codes
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sampling import RefineSettings, SampleSettings

FAST = LoopSettings(
    steps=60, batch=4, learning_rate=3e-3, warmup_share=0.1, autocast=False, save_every_s=1e9
)


def model_of(seed=0, **tokenizer):
    sizes = {**SIZES, "tokenizer": {**SIZES["tokenizer"], **tokenizer}}
    return new_model(config_from_json(sizes), seed)


def pictures(model):
    tile = model.config.tile_size
    return torch.cat([models.picture(tile, tile, seed=seed) for seed in range(4)])


def tokenizer_loop(folder, settings=FAST, seed=0, **tokenizer):
    model = model_of(seed, **tokenizer)
    module = TokenizerLoss(model, TokenizerSettings())
    folder.mkdir(exist_ok=True)
    loop = Loop(module.trained(), settings, folder, save=lambda: None)
    return loop, model, lambda step, generator: module(pictures(model), generator)


def logged(folder, column="loss"):
    with (folder / LOG_FILE).open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("fast", [set(), {torch.bfloat16}])
@pytest.mark.parametrize("wanted", [False, True])
def test_bf16_only_where_the_cpu_has_it(tmp_path, monkeypatch, fast, wanted):
    monkeypatch.setattr("varsr_core.training.steps.precision.fast_on_cpu", lambda: fast)
    weight = torch.nn.Linear(2, 2)
    settings = dataclasses.replace(FAST, steps=1, autocast=wanted)
    seen = []

    def step(number, generator):
        seen.append(torch.is_autocast_enabled("cpu"))
        return {"loss": weight(torch.ones(2)).float().sum()}

    Loop([weight], settings, tmp_path, save=lambda: None).run(step)
    assert seen == [wanted and bool(fast)]


def test_resumed_run_has_the_losses_and_weights_of_an_unbroken_one(tmp_path):
    settings = dataclasses.replace(FAST, steps=12, average=0.9)
    unbroken, _, step = tokenizer_loop(tmp_path / "a", settings)
    unbroken.run(step)
    loop, _, step = tokenizer_loop(tmp_path / "b", settings)
    loop.run(step, until=5)
    resumed, _, step = tokenizer_loop(tmp_path / "b", settings, seed=9)
    assert resumed.resume()
    resumed.run(step)
    assert logged(tmp_path / "a") == logged(tmp_path / "b")
    for ours, theirs in zip(resumed.parameters, unbroken.parameters, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(resumed.average, unbroken.average, strict=True):
        assert torch.equal(ours, theirs)


def test_parts_take_their_share_of_the_learning_rate_also_when_resumed(tmp_path):
    """Adam's first step moves every weight by the rate."""
    settings = dataclasses.replace(
        FAST, steps=4, weight_decay=0.0, warmup_share=0.0, flat_share=1.0, learning_rate=0.1
    )

    def loop_of():
        parts = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
        loop = Loop(parts, settings, tmp_path, lambda: None, rate_factors=[0.1, 1.0, 0.1])
        return loop, lambda step, generator: {
            "loss": sum(p.sum() for part in parts for p in part.parameters())
        }

    loop, step = loop_of()
    for until in (1, 2):
        before = [p.detach().clone() for p in loop.parameters]
        loop.run(step, until=until)
        moved = [(a - b).mean().item() for a, b in zip(before, loop.parameters, strict=True)]
        assert moved == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.01], rel=1e-3)
        loop, step = loop_of()
        loop.resume()


def test_steps_after_the_last_checkpoint_leave_the_log_when_resuming(tmp_path):
    settings = dataclasses.replace(FAST, steps=9)
    loop, _, step = tokenizer_loop(tmp_path, settings)
    loop.run(step, until=4)
    for _ in range(3):
        loop._one(step)  # and then the process dies
    assert len(logged(tmp_path)) == 7
    loop, _, step = tokenizer_loop(tmp_path, settings)
    loop.resume()
    assert len(logged(tmp_path)) == 4
    loop.run(step)
    assert len(logged(tmp_path)) == 9


def test_state_of_another_model_is_refused(tmp_path):
    loop, _, step = tokenizer_loop(tmp_path, dataclasses.replace(FAST, steps=1))
    loop.run(step)
    module = ISRLoss(model_of())
    other = Loop(module.trained(), FAST, tmp_path, save=lambda: None)
    with pytest.raises(CheckpointError, match="other sizes"):
        other.resume()


def test_fresh_folder_has_nothing_to_resume(tmp_path):
    loop, _, _ = tokenizer_loop(tmp_path)
    assert not loop.resume()
    assert loop.step == 0


def test_no_half_written_state_is_left(tmp_path):
    loop, _, step = tokenizer_loop(tmp_path, dataclasses.replace(FAST, steps=1))
    loop.run(step)
    assert {path.name for path in tmp_path.iterdir()} == {STATE_FILE, LOG_FILE}


def test_learning_rate_warms_up_stays_and_falls():
    settings = LoopSettings(steps=1000, learning_rate=1.0)
    assert settings.rate(0) == pytest.approx(0.005)
    assert settings.rate(20) == settings.rate(299) == 1.0
    assert settings.rate(650) == pytest.approx(0.505, abs=0.01)
    assert settings.rate(1000) == pytest.approx(0.01)


def test_average_is_in_place_only_while_saving(tmp_path):
    seen = []
    model = torch.nn.Linear(1, 1, bias=False)
    loop = Loop(
        [model],
        dataclasses.replace(FAST, steps=20, average=0.5, learning_rate=0.1),
        tmp_path,
        save=lambda: seen.append(model.weight.item()),
    )
    trajectory, expected = [], model.weight.item()

    def step(number, generator):
        if number:
            trajectory.append(model.weight.item())
        return {"loss": (model.weight - 5).square().sum()}

    loop.run(step)
    trajectory.append(model.weight.item())
    for weight in trajectory:
        expected = 0.5 * expected + 0.5 * weight
    assert seen == [pytest.approx(expected, rel=1e-5)]
    assert model.weight.item() != pytest.approx(expected, rel=1e-5)


def test_weight_decay_spares_vectors(tmp_path):
    layer = torch.nn.Linear(3, 3)
    loop = Loop([layer], FAST, tmp_path, save=lambda: None)
    decays = {id(p): g["weight_decay"] for g in loop.optimizer.param_groups for p in g["params"]}
    assert decays[id(layer.weight)] == FAST.weight_decay
    assert decays[id(layer.bias)] == 0


def test_global_random_state_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    loop, _, step = tokenizer_loop(tmp_path, dataclasses.replace(FAST, steps=1))
    loop.run(step)
    assert torch.equal(torch.get_rng_state(), before)


def test_dead_codes_come_alive():
    model = model_of()
    model.pre_quantizer.weight.data *= 20  # latents of a new model hardly differ
    model.quantizer.codebook.weight.data[1:] += 100  # only one code is ever the nearest
    shown = pictures(model)
    with torch.no_grad():
        latent = model.encode_latent(shown)
        before = torch.cat(model.quantizer.encode(latent)[0], dim=1).unique().numel()
        moved = revive_codes(model, shown, torch.Generator().manual_seed(0))
        after = torch.cat(model.quantizer.encode(latent)[0], dim=1).unique().numel()
    assert (before, moved) == (1, 63)
    assert after > 20


def test_latent_is_held_to_its_deviation(tmp_path):
    """As a whole; its channels may differ."""

    def deviation():
        with torch.no_grad():
            return model.encode_latent(pictures(model)).square().mean().sqrt().item()

    loop, model, step = tokenizer_loop(tmp_path, dataclasses.replace(FAST, steps=100))
    before = deviation()
    loop.run(step)
    wanted = TokenizerSettings().deviation
    assert abs(deviation() - wanted) < 0.05 < abs(before - wanted) / 2


def test_another_deviation_is_held_just_as_well(tmp_path):
    model = model_of()
    module = TokenizerLoss(model, TokenizerSettings(deviation=1.2))
    settings = dataclasses.replace(FAST, steps=100)
    loop = Loop(module.trained(), settings, tmp_path, save=lambda: None)
    loop.run(lambda number, generator: module(pictures(model), generator))
    with torch.no_grad():
        found = model.encode_latent(pictures(model)).square().mean().sqrt().item()
    assert found == pytest.approx(1.2, abs=0.1)


def learn(folder):
    """Tokenizer, then restorer, on four pictures; the model and the pictures.

    With few codes and steps for the tokenizer, so that it leaves something for the refiner.
    """
    settings = dataclasses.replace(FAST, steps=250)
    loop, model, step = tokenizer_loop(folder, settings, codebook_size=4)
    loop.run(step)
    model.requires_grad_(False)
    shown = pictures(model)
    lq = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(shown, 4), shown.shape[2:], mode="bicubic"
    ).clamp(0, 1)
    module = ISRLoss(model)
    (folder / "isr").mkdir()
    encoded, classes = encode_target(model, shown), torch.zeros(4, dtype=torch.long)
    settings = dataclasses.replace(FAST, steps=400)
    loop = Loop(module.trained(), settings, folder / "isr", save=lambda: None)
    loop.run(lambda number, generator: module(lq, classes, encoded, generator))
    return model, shown, lq


def test_four_pictures_are_learned_by_heart_and_refined_closer(tmp_path):
    model, shown, lq = learn(tmp_path)
    pixels = logged(tmp_path, "pixels")
    assert sum(pixels[-20:]) < sum(pixels[:20]) / 3, "the tokenizer does not learn"
    assert logged(tmp_path / "isr", "accuracy")[-1] > 0.98, "the tokens are not learned"
    assert logged(tmp_path / "isr", "diffusion")[-1] < logged(tmp_path / "isr", "diffusion")[0] / 2

    settings = SampleSettings(guidance=0.0)
    wanted = model.encode_latent(shown)
    latents, decoded = [], []
    with torch.no_grad():
        restorer = VARSRRestorer(model, settings, RefineSettings(guidance=0.0))
        state = restorer.start(lq, models.own_seeds(4))
        for k in range(restorer.steps):
            restorer.step(state, k)
            if k >= restorer.steps - 2:  # the last scale, and the refiner
                latents.append((state.latent - wanted).square().mean().item())
                best = model.decode(wanted)
                decoded.append((model.decode(state.latent) - best).square().mean().item())
    assert latents[1] < latents[0] / 2
    assert decoded[1] < decoded[0] / 2


def test_trained_model_is_saved_as_a_checkpoint_that_loads(tmp_path):
    from varsr_core.checkpoint import Checkpoint, fingerprint, save_checkpoint
    from varsr_core.varsr.family import VARSR_FAMILY

    model = model_of()
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    tensors["schedule"] = torch.tensor(model.config.schedule.sides)
    checkpoint = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(checkpoint, tmp_path / "m.safetensors", torch.float32, metadata={})
    assert load_checkpoint([tmp_path / "m.safetensors"]).fingerprint == checkpoint.fingerprint
