"""How a restorer's modulation is trained: as the paper's layers, or as a table of their values.

A block is modulated by Linear(SiLU(class embedding)). A restorer knows two classes, so its files
hold two rows in place of each layer, a third of all weights: the layer is folded away. Training the
rows is another dynamic than training the layers, in which both classes and all channels of the
embedding share what they learn.

A model that trains with layers is a VARSR like any other and restores as it is. Its files are
folded; the layers lie beside them in a file of their own, from which training goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import CheckpointError, InputError
from ...files.atomic import unfinished_file, whole_file
from ...files.lazy_tensor import StateDict
from ...nn.weights import matches
from ...varsr.model import VARSR
from ...varsr.transformer import ClassModulation
from ...varsr.weights import MODULATION, our_name, sized_weights

TABLE, LAYERS = "table", "layers"
MODULATIONS = (TABLE, LAYERS)
LAYERS_FILE = "modulation.pt"  # beside a model file whose layers are folded
CLASSES = "transformer.class_embedding.weight"
LAYER = re.compile(r"(transformer\.(?:blocks\.\d+\.modulation|head_modulation))\.linear\.weight")
FOLD_TOLERANCE = 1e-4  # of tables, relative to the largest value: folded on other machines


def check_modulation(modulation: str) -> None:
    """Raises InputError for a name that is none."""
    if modulation not in MODULATIONS:
        raise InputError(
            f"modulation is {modulation!r}; known are {' and '.join(map(repr, MODULATIONS))}"
        )


def has_layers(model: VARSR) -> bool:
    """Whether this is a restorer whose layers are to be folded when it is saved."""
    embedded = isinstance(model.transformer.head_modulation, ClassModulation)
    return embedded and not model.config.transformer.class_to_image


def described(model: VARSR) -> str:
    """How the modulation of a model is trained, for people."""
    if has_layers(model):
        return "layers, folded into a table on saving"
    return "layers" if model.config.transformer.class_to_image else "a table"


def use_layers(model: VARSR, weights: StateDict | None = None) -> None:
    """Replaces every table of a restorer by its layer.

    weights: under our names, as `layers_of` finds them; None for layers that say of every class
             what the table says of the first: a new model's table says the same of all
    Raises CheckpointError for layers that do not fit the model.
    """
    transformer = model.transformer
    for block in transformer.blocks:
        block.modulation = _layer_like(block.modulation, model)
    transformer.head_modulation = _layer_like(transformer.head_modulation, model)
    if weights is not None:
        _fill(model, weights)


def _layer_like(table: nn.Embedding, model: VARSR) -> ClassModulation:
    """A layer that says of every class what the table says of the first."""
    width, outputs = model.config.transformer.width, table.embedding_dim
    with torch.device("meta"):  # nothing is drawn
        layer = ClassModulation(width, outputs, model.dtype, nn)
    layer = layer.to_empty(device=table.weight.device)
    nn.init.zeros_(layer.linear.weight)
    with torch.no_grad():
        layer.linear.bias.copy_(table.weight[0])
    return layer


@torch.no_grad()
def _fill(model: VARSR, weights: StateDict) -> None:
    own = layers_of(model.state_dict(keep_vars=True))
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if shapes != found:
        wrong = sorted(shapes.items() ^ found.items())[0]
        raise CheckpointError(
            f"layers of modulation do not fit the model, e.g. {wrong[0]} of shape {wrong[1]}"
        )
    for name, tensor in own.items():
        tensor.detach().copy_(weights[name].detach())


def layers_of(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The layers among weights under our names: matrices and biases."""
    owners = {match[1] for match in map(LAYER.fullmatch, weights) if match}
    return {
        f"{owner}.linear.{part}": weights[f"{owner}.linear.{part}"]
        for owner in sorted(owners)
        for part in ("weight", "bias")
    }


def released_layers(reference: StateDict) -> dict[str, Tensor]:
    """The layers of a release, under our names."""
    return {
        name: tensor.detach()
        for released, tensor in reference.items()
        if matches(released, [MODULATION]) and (name := our_name(released))
    }


def folded(weights: StateDict) -> dict[str, Tensor]:
    """The same weights with a table, (classes, outputs) float32, in place of every layer."""
    layers = layers_of(weights)
    kept = {name: tensor.detach() for name, tensor in weights.items() if name not in layers}
    if not layers:
        return kept
    classes = F.silu(weights[CLASSES].detach().float())
    for name, weight in layers.items():
        match = LAYER.fullmatch(name)
        if match:
            bias = layers[f"{match[1]}.linear.bias"]
            table = F.linear(classes, weight.detach().float(), bias.detach().float())
            kept[f"{match[1]}.weight"] = table
    return kept


def folded_weights(model: VARSR) -> dict[str, Tensor]:
    """All that a file of a model holds: of a restorer that trains layers, their tables."""
    weights = sized_weights(model)
    return folded(weights) if has_layers(model) else weights


def save_layers(model: VARSR, model_file: Path) -> None:
    """Writes the layers, where there are some, beside a model's file and before it is written.

    Whole or not at all. Between the two files' writing, a stage's state has what both hold.
    """
    if not has_layers(model):
        return
    path, weights = model_file.with_name(LAYERS_FILE), model.state_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = {name: tensor.detach().cpu() for name, tensor in layers_of(weights).items()}
    with unfinished_file(path.parent) as part, whole_file(path, part):
        torch.save(layers, part)


def load_layers(model_file: Path) -> dict[str, Tensor] | None:
    """The layers beside a model's file, or None. Raises CheckpointError for what is none."""
    path = model_file.with_name(LAYERS_FILE)
    if not path.is_file():
        return None
    try:
        layers = torch.load(path, map_location="cpu", weights_only=True)
        complete = layers_of(layers).keys() == layers.keys() and len(layers) > 0
    except Exception as error:  # whatever a damaged pickle leads to
        raise CheckpointError(f"{path} cannot be read ({error}); take a copy of it") from error
    if not complete:
        raise CheckpointError(f"{path} holds other things than layers of modulation")
    return layers


def check_belong(layers: Mapping[str, Tensor], weights: StateDict, model_file: Path) -> None:
    """Raises CheckpointError where the tables of a model are not those of the layers beside it."""
    tables = folded({**layers, CLASSES: weights[CLASSES].detach()})
    for name in tables.keys() - {CLASSES}:
        found = weights[name].detach().float()
        near = FOLD_TOLERANCE * max(1.0, found.abs().max().item())
        same_shape = found.shape == tables[name].shape
        if not same_shape or (found - tables[name]).abs().max() > near:
            raise CheckpointError(
                f"{LAYERS_FILE} beside {model_file} is of another model: its layers do not give "
                f"{name}. Move it away and train with modulation {TABLE!r}, or bring its own"
            )
