"""What a run takes of the files it starts from, and what it makes new."""

import json
import logging

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from helpers import models
from helpers.each import each
from helpers.starts import (
    class_sizes,
    micro_sizes,
    released_on_meta,
    tokenizer,
    write_c2i,
    write_var,
    write_varsr,
)
from helpers.training import losses, settings
from varsr_core.checkpoint import load_checkpoint, load_model
from varsr_core.convert import convert_files
from varsr_core.errors import CheckpointError, InputError
from varsr_core.tiling.restorer import restore
from varsr_core.training.config import TrainingConfig
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.training.starting.listing import LISTING_FILE
from varsr_core.training.starting.modulation import has_layers
from varsr_core.training.starting.starts import started_model, transferred
from varsr_core.varsr.config import infer_config
from varsr_core.varsr.weights import convert

CLASSES = "transformer.class_embedding.weight"
SCALES = "transformer.scale_embedding.weight"
POSITIONS = "transformer.position_embedding.weight"
REFINER = "refiner."


def restorer(**others):
    return TrainingConfig(**{"sizes": micro_sizes(), "modulation": "layers", **others})


def classes(**others):
    return TrainingConfig(**{"model": "varsr_c2i", "sizes": class_sizes(), **others})


def counts(model, names):
    own = model.state_dict()
    return {name: own[name].numel() for name in names}


def prefix_encoder(model):
    return {name for name in model.state_dict() if name.startswith("prefix_encoder.")}


@pytest.fixture(params=["released", "converted"])
def c2i(request, tmp_path):
    """A class-to-image model's files, and its weights under our names."""
    files, reference = write_c2i(tmp_path)
    if request.param == "converted":
        convert_files(files, tmp_path / "c2i.safetensors", torch.float32)
        files = [tmp_path / "c2i.safetensors"]
    return files, convert(reference)


def test_of_a_class_to_image_model_all_but_three_parts_is_taken(c2i):
    files, source = c2i
    model, listing = started_model(restorer(), files)
    own = model.state_dict()
    assert listing.new == counts(model, {SCALES, POSITIONS, *prefix_encoder(model)})
    assert listing.cut == {CLASSES: 2 * 32}
    assert torch.equal(own[CLASSES], source[CLASSES][:2])
    assert listing.taken == counts(model, own.keys() - listing.new.keys() - {CLASSES})
    assert all(torch.equal(own[name], source[name]) for name in listing.taken)
    assert listing.left_out == {SCALES: 3 * 32, POSITIONS: 32}
    assert not listing.folded


def test_taken_modulation_is_folded_with_the_classes_that_are_left(c2i):
    files, source = c2i
    model, listing = started_model(restorer(modulation="table"), files)
    own = model.state_dict()
    tables = {name for name in own if name.endswith("modulation.weight") and "refiner" not in name}
    assert listing.folded == counts(model, tables)
    given = F.silu(source[CLASSES][:2])
    for name in tables:
        layer = name.removesuffix("weight") + "linear"
        wanted = F.linear(given, source[f"{layer}.weight"], source[f"{layer}.bias"])
        torch.testing.assert_close(own[name], wanted)
    assert listing.new == counts(model, {SCALES, POSITIONS, *prefix_encoder(model)})
    assert listing.left_out == {SCALES: 3 * 32, POSITIONS: 32}


def test_of_a_plain_var_what_fits_is_taken(tmp_path):
    files, reference = write_var(tmp_path)
    model, listing = started_model(restorer(), files)
    own = model.state_dict()
    refiner = {name for name in own if name.startswith(REFINER)}
    assert listing.new == counts(model, {POSITIONS, *prefix_encoder(model), *refiner})
    assert listing.cut == {CLASSES: 2 * 32}
    assert torch.equal(own[SCALES], reference["lvl_embed.weight"]), "as many scales"
    assert torch.equal(own["transformer.head.bias"], reference["head.bias"])
    layer = own["transformer.blocks.1.modulation.linear.weight"]
    assert torch.equal(layer, reference["blocks.1.ada_lin.1.weight"])
    assert listing.left_out == {POSITIONS: 32, "pos_1LC": reference["pos_1LC"].numel()}


def test_a_class_to_image_model_starts_from_a_plain_var_with_classes_of_its_own(tmp_path):
    files, reference = write_var(tmp_path)
    model, listing = started_model(classes(), files)
    refiner = {name for name in model.state_dict() if name.startswith(REFINER)}
    assert listing.new == counts(model, {CLASSES, SCALES, *refiner})
    assert torch.equal(model.state_dict()[POSITIONS], reference["pos_start"][0])


@each("given", [{}, {"sizes": {}}])
def test_a_class_to_image_model_is_gone_on_with_as_it_is(tmp_path, given):
    files, reference = write_c2i(tmp_path)
    model, listing = started_model(classes(**given), files)
    source = convert(reference)
    assert listing.taken == counts(model, model.state_dict())
    assert all(torch.equal(tensor, source[n]) for n, tensor in model.state_dict().items())


def test_a_class_to_image_model_gets_other_classes_where_sizes_ask_for_them(tmp_path):
    files, _ = write_c2i(tmp_path)
    model, listing = started_model(classes(sizes=class_sizes(classes=5)), files)
    assert listing.new == {CLASSES: 5 * 32}
    assert model.config.transformer.num_classes == 5


def test_a_release_starts_with_its_layers_or_with_tables(tmp_path):
    files, reference = write_varsr(tmp_path)
    for given in (files, files[::-1], files[:1]):  # the tokenizer beside it is found
        model, listing = started_model(restorer(sizes={}), given)
        own = model.state_dict()
        for theirs, ours in (("blocks.1", "blocks.1.modulation"), ("head_nm", "head_modulation")):
            for part in ("weight", "bias"):
                layer = own[f"transformer.{ours}.linear.{part}"]
                assert torch.equal(layer, reference[f"{theirs}.ada_lin.1.{part}"])
        assert listing.taken == counts(model, own)
    model, _ = started_model(restorer(modulation="table"), files)
    wanted = models.converted_weights()
    assert all(torch.equal(t, wanted[n]) for n, t in model.state_dict().items())


def test_the_run_logs_and_writes_what_it_starts_from(tmp_path, caplog):
    files, _ = write_c2i(tmp_path)
    with caplog.at_level(logging.INFO):
        training = Training(restorer(), tmp_path / "run", [tmp_path], [], files)
    _, listing = started_model(restorer(), files)
    written = json.loads((tmp_path / "run" / LISTING_FILE).read_text())
    assert written["files"] == ["VARSR_C2I.pth", "VQVAE.pth"]
    assert written["modulation"] == "layers"
    assert written["tensors"]["taken"] == listing.taken
    assert written["tensors"]["new"] == listing.new
    total = sum(tensor.numel() for tensor in training.model.parameters())
    assert sum(written["parameters"][kind] for kind in ("taken", "cut", "new")) == total
    assert "modulation: layers" in caplog.text
    assert "new: 84,800 parameters in 22 tensors: prefix_encoder." in caplog.text
    assert "cut: 64 parameters in 1 tensors: transformer.class_embedding" in caplog.text


def test_at_the_released_sizes_the_same_three_parts_are_new():
    source = convert(released_on_meta(with_prefix=False))
    wanted = infer_config(convert(released_on_meta(with_prefix=True)))
    with torch.device("meta"):
        model, listing = transferred(source, wanted, 0, "layers")
    assert listing.new == counts(model, {SCALES, POSITIONS, *prefix_encoder(model)})
    assert (listing.new[SCALES], listing.new[POSITIONS]) == (10 * 1536, 1025 * 1536)
    assert listing.cut == {CLASSES: 2 * 1536}
    assert listing.left_out == {SCALES: 12 * 1536, POSITIONS: 1536}
    assert sum(listing.taken.values()) > 1.1e9


@pytest.mark.parametrize("modulation", ["layers", "table"])
def test_a_class_to_image_model_becomes_a_restorer(tmp_path, modulation):
    """In a run that is broken off and gone on with; the start is looked at once."""
    files, _ = write_c2i(tmp_path)
    place = tmp_path / "pictures"
    place.mkdir()
    pixels = models.picture(64, 64)[0].permute(1, 2, 0).mul(255).round().byte()
    Image.fromarray(pixels.numpy()).save(place / "picture.png")
    config = restorer(modulation=modulation, isr=settings(2, batch=1))
    assert not Training(config, tmp_path / "run", [place], [], files).run(deadline=0.0)
    listed = (tmp_path / "run" / LISTING_FILE).read_bytes()
    for path in files:
        path.unlink()
    training = Training(config, tmp_path / "run", [place], [], files)
    assert training.run()
    assert (tmp_path / "run" / LISTING_FILE).read_bytes() == listed
    assert has_layers(training.model) == (modulation == "layers")
    loaded = load_model(tmp_path / "run" / MODEL_FILE, device="cpu", dtype="fp32")
    assert len(losses(tmp_path / "run", "isr")) == 2
    with torch.no_grad():
        restored = restore(loaded, models.picture(64, 64), models.own_seeds(1))
    assert restored.isfinite().all()


def test_files_that_are_no_start_are_refused_with_what_to_give(tmp_path):
    files, _ = write_c2i(tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "c2i.pth").write_bytes(files[0].read_bytes())
    with pytest.raises(InputError, match=r"c2i\.pth: class-to-image model; a start is one trans"):
        started_model(restorer(), [alone / "c2i.pth"])
    torch.save({"weight": torch.ones(3)}, alone / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth is no checkpoint of VARSR"):
        started_model(restorer(), [alone / "other.pth", files[1]])
    with pytest.raises(InputError, match="3 files to start from; one or two"):
        started_model(restorer(), [*files, files[0]])
    with pytest.raises(CheckpointError, match="are both a tokenizer"):
        started_model(restorer(), [files[1], files[1]])


def test_damaged_weights_are_no_start(tmp_path):
    files, _ = write_c2i(tmp_path)
    torch.save({**tokenizer(), "quant_conv.bias": torch.full((32,), torch.nan)}, files[1])
    with pytest.raises(CheckpointError, match=r"pre_quantizer\.bias"):
        started_model(restorer(), files)


@each(
    ("part", "changes", "words"),
    [
        ("transformer", {"width": 64}, "transformer is 32 wide, `sizes` ask for 64"),
        ("transformer", {"prefix_widths": []}, r"trains 'varsr', but prefix_widths .* are \[\]"),
        ("tokenizer", {"latent_channels": 64}, "of the tokenizer do not fit"),
    ],
)
def test_sizes_that_fit_nothing_are_refused(tmp_path, part, changes, words):
    files, _ = write_c2i(tmp_path)
    sizes = micro_sizes()
    sizes[part] = {**sizes[part], **changes}
    with pytest.raises(InputError, match=words):
        started_model(restorer(sizes=sizes), files)


def test_a_start_of_another_kind_needs_sizes(tmp_path):
    files, _ = write_c2i(tmp_path)
    with pytest.raises(InputError, match=r"VARSR_C2I\.pth and VQVAE\.pth needs `sizes` in the"):
        started_model(restorer(sizes={}), files)


def test_a_run_is_not_gone_on_with_as_another_kind(tmp_path):
    files, _ = write_c2i(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    convert_files(files, run / MODEL_FILE, torch.float32)
    with pytest.raises(InputError, match="of the kind 'varsr_c2i', the configuration trains 'var"):
        Training(restorer(), run, [tmp_path], [])
    with pytest.raises(InputError, match=r"model is 'varsr_c3i'; .*varsr, varsr_c2i can"):
        Training(TrainingConfig(model="varsr_c3i"), run, [tmp_path], [])
    assert load_checkpoint([run / MODEL_FILE]).tensors
