"""A class-to-image model is trained: its loss, and pictures of four classes learned by heart."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from helpers import models
from helpers.class_training import CLASS_SIZES, LABELS, TILE, pictures, train_classes
from helpers.training import SIZES, losses
from varsr_core.checkpoint import load_model, read_model
from varsr_core.errors import InputError
from varsr_core.runtime.execution import Execution
from varsr_core.training.class_stages import class_loss
from varsr_core.training.run import MODEL_FILE
from varsr_core.training.stages.class_to_image import ClassToImageLoss
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.training.steps.blocks import PLAIN
from varsr_core.varsr.class_to_image import SAMPLING, class_to_image
from varsr_core.varsr.sampling import RefineSettings, sample_scale, start_sampling
from varsr_core.varsr.stages import encode_tokens

GREEDY = replace(SAMPLING, top_k=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def learned(run):
    """The saved file, loaded as the node loads it."""
    return read_model(run / MODEL_FILE).build()


def new_class_model(seed=0):
    return new_model(config_from_json(CLASS_SIZES), seed)


def logged(run, column):
    with (run / "class_to_image" / "log.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


@torch.no_grad()
def test_all_tokens_of_every_class_are_learned(run, learned):
    module = ClassToImageLoss(learned)
    given = module.inputs((pictures(), torch.arange(LABELS)))
    assert len(given.target.token_ids.unique()) > 20, "there is something to learn"
    found = module(*given, torch.Generator().manual_seed(0))
    assert found["accuracy"] >= 0.99
    assert found["tokens"] < 0.05
    assert logged(run, "diffusion")[-1] < 0.5 * logged(run, "diffusion")[0]
    assert losses(run, "class_to_image")[-1] < 0.2 * losses(run, "class_to_image")[0]


@pytest.mark.parametrize("label", range(LABELS))
def test_its_class_is_made_token_by_token(learned, label):
    image, made = class_to_image(learned, label, sampling=replace(GREEDY, guidance=0.0))
    wanted = encode_tokens(learned, pictures()[label : label + 1], 1.0, Execution())
    for own, expected in zip(made.token_ids, wanted.token_ids, strict=True):
        assert torch.equal(own, expected)
    assert image.shape == (1, 3, TILE, TILE)


@torch.no_grad()
def test_picture_of_a_class_is_refined_towards_the_one_learned(learned):
    wanted = learned.encode_latent(pictures())
    errors = []
    for strength in (0.0, 1.0):
        refining = RefineSettings(strength=strength)
        sampling = replace(GREEDY, guidance=0.0)
        made = [class_to_image(learned, n, sampling=sampling, refining=refining)[1]
                for n in range(LABELS)]  # fmt: skip
        latents = [tokens.latent if strength == 0 else tokens.refined for tokens in made]
        errors.append((torch.cat(latents) - wanted).square().mean().item())
    assert errors[1] < 0.7 * errors[0]


@torch.no_grad()
def test_losses_are_those_of_the_sampler_fed_the_pictures_tokens(learned):
    """Cross-entropy over all tokens of all scales, from the cached steps; other weights tell."""
    model = new_class_model(seed=3)
    drawing = torch.Generator().manual_seed(1)
    for parameter in model.transformer.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=drawing))
    module, labels = ClassToImageLoss(model, diffusion_weight=3.0), torch.tensor([2, LABELS])
    given = module.inputs((pictures()[:2], labels))
    found = module(*given, torch.Generator().manual_seed(0))
    logits = []
    for row, label in enumerate(labels.tolist()):
        sampling = replace(GREEDY, guidance=0.0, quality_class=label)
        state = start_sampling(model, given.lq[row : row + 1], sampling, models.own_seeds(1))
        for scale in range(4):
            sample_scale(model, state, scale, sampling)
            logits.append(model.transformer.logits(state.hidden, state.classes)[0])
            state.latents[-1] = given.target.latents[row : row + 1, scale]
    tokens = F.cross_entropy(torch.cat(logits), given.target.token_ids.flatten())
    torch.testing.assert_close(found["tokens"], tokens, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["loss"], found["tokens"] + 3 * found["diffusion"])


def test_only_what_a_class_becomes_is_trained():
    model = new_class_model()
    trained = {id(p) for part in ClassToImageLoss(model).trained() for p in part.parameters()}
    left = {name.split(".")[0] for name, p in model.named_parameters() if id(p) not in trained}
    assert left == {"encoder", "pre_quantizer", "quantizer", "post_quantizer", "decoder"}


@pytest.mark.parametrize("labels", [[0, LABELS + 1], [-1, 0]])
def test_labels_without_a_row_are_refused(labels):
    with pytest.raises(InputError, match=r"labels reach from .*; the model has 4 classes, 0 to 3"):
        ClassToImageLoss(new_class_model()).inputs((pictures()[:2], torch.tensor(labels)))


@pytest.mark.parametrize("told", [0, LABELS + 1])
def test_data_with_another_null_class_is_refused(told):
    data = SimpleNamespace(num_classes=told)
    config = SimpleNamespace(diffusion_weight=2.0, blocks=PLAIN, data=data)
    with pytest.raises(InputError, match=f"data.num_classes is {told}; the model has 4 classes"):
        class_loss(SimpleNamespace(model=new_class_model(), config=config))
    data.num_classes = LABELS
    assert class_loss(SimpleNamespace(model=new_class_model(), config=config)).trained()


def test_a_restorer_has_no_classes_to_learn(run):
    with pytest.raises(InputError, match="knows no labels"):
        ClassToImageLoss(new_model(config_from_json(SIZES), 0))
    with pytest.raises(InputError, match="VARSR Class to Image"):
        load_model(run / MODEL_FILE, device="cpu", dtype="fp32")
