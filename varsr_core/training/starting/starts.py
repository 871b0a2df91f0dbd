"""What a run starts from: nothing, a model of its own kind, or one that it can take a part of.

A model of the same kind is gone on with as it is: its sizes, all its weights. From another kind,
the class-to-image model (VARSR_C2I) or a plain VAR, a run takes what fits its configured sizes by
name and shape, as the public code does. Of the class embedding, a restorer takes the first rows.
All else is new, and everything is listed: see `Listing`.

Names of VAR's files are those of VARSR's, which was made from it. Its positions (pos_1LC) have no
place here, where positions turn queries and keys; the refiner is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...checkpoint import load_checkpoint
from ...errors import InputError
from ...family import assembled
from ...files.lazy_tensor import StateDict
from ...varsr.config import SIZE_TENSORS, VARSRConfig, infer_config
from ...varsr.family import TRANSFORMER, VARSR_FAMILY
from ...varsr.kinds import makes_classes
from ...varsr.model import VARSR
from ...varsr.weights import RULES, build_model
from ..config import CLASS_TO_IMAGE, RESTORER, TrainingConfig
from .files import POSITIONS, read_parts, under_our_names
from .listing import Listing
from .modulation import (
    CLASSES,
    LAYERS,
    LAYERS_FILE,
    TABLE,
    check_belong,
    check_modulation,
    folded,
    layers_of,
    load_layers,
    released_layers,
    use_layers,
)
from .new_model import config_from_json, new_model

TOKENIZER_PARTS = (*RULES.autoencoder, "quantizer.")


def fresh_model(config: TrainingConfig) -> VARSR:
    """A new model of the configured sizes. Raises InputError for sizes of another kind."""
    check_modulation(config.modulation)
    model = new_model(_sizes(config, "a new model"), config.seed)
    if config.model != CLASS_TO_IMAGE and config.modulation == LAYERS:
        use_layers(model)
    return model


def resumed_model(config: TrainingConfig, saved: Path) -> VARSR:
    """The model of a run's folder, with its layers of modulation if it trains them.

    Raises InputError where the folder is of a run of another kind.
    """
    check_modulation(config.modulation)
    model = _built(load_checkpoint([saved], VARSR_FAMILY).tensors)
    if makes_classes(model) != (config.model == CLASS_TO_IMAGE):
        kind = CLASS_TO_IMAGE if makes_classes(model) else RESTORER
        raise InputError(
            f"{saved} is a model of the kind {kind!r}, the configuration trains {config.model!r}; "
            "choose another folder for the run, or its own configuration"
        )
    if makes_classes(model):
        return model
    layers = load_layers(saved)
    if (layers is not None) != (config.modulation == LAYERS):
        trained = TABLE if layers is None else LAYERS
        raise InputError(
            f"the run in {saved.parent} trains modulation as {trained!r}, the configuration asks "
            f"for {config.modulation!r}; choose another folder, or write {trained!r}"
        )
    if layers is not None:
        use_layers(model, layers)
    return model


def started_model(config: TrainingConfig, files: Sequence[Path]) -> tuple[VARSR, Listing]:
    """A model that begins with what files hold, and what that is.

    files: a released or converted VARSR or VARSR_C2I, or a plain VAR, and its tokenizer, in any
           order; of a release, the tokenizer that lies beside it is found
    Raises CheckpointError for what cannot be read, InputError for what does not go together.
    """
    check_modulation(config.modulation)
    parts = read_parts(files)
    names = [path.name for path in files]
    class_to_image = config.model == CLASS_TO_IMAGE
    modulation = LAYERS if class_to_image else config.modulation
    weights = under_our_names(parts, names)
    whole = _same_kind(parts, weights, config, names)
    if whole is None:
        sizes = _sizes(config, f"a model that starts from {' and '.join(names)}")
        model, listing = transferred(weights, sizes, config.seed, modulation)
        return model, replace(listing, files=names)
    model = _built(whole)
    if modulation == LAYERS and not class_to_image:
        use_layers(model, _layers_beside(parts, whole, files))
    taken = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    return model, Listing(names, modulation, taken)


def _same_kind(
    parts: dict[str, StateDict], weights: StateDict, config: TrainingConfig, names: list[str]
) -> StateDict | None:
    """Weights that are gone on with as they are, checked; None where only a part can be taken."""
    class_to_image = bool(layers_of(weights))
    if class_to_image != (config.model == CLASS_TO_IMAGE) or POSITIONS in weights:
        return None
    whole = assembled(VARSR_FAMILY, parts, {}, " and ".join(names)).tensors
    if class_to_image and config.sizes and _sizes(config, "the model") != infer_config(whole):
        return None  # e.g. with classes of its own
    return whole


def _built(weights: StateDict) -> VARSR:
    # Copies: the tensors are mapped from the file, which may be written again.
    return build_model({name: tensor.detach().clone() for name, tensor in weights.items()})


def _sizes(config: TrainingConfig, what: str) -> VARSRConfig:
    """The configured sizes. Raises InputError where there are none, or those of another kind."""
    if not config.sizes:
        raise InputError(
            f"{what} needs `sizes` in the configuration; the recipes varsr and varsr_c2i have the "
            "released ones"
        )
    sizes = config_from_json(config.sizes)
    if sizes.transformer.class_to_image != (config.model == CLASS_TO_IMAGE):
        raise InputError(
            f"the configuration trains {config.model!r}, but prefix_widths in `sizes` are "
            f"{list(sizes.transformer.prefix_widths)}: a class-to-image model has none, a restorer "
            "has some"
        )
    return sizes


def _layers_beside(
    parts: dict[str, StateDict], weights: StateDict, files: Sequence[Path]
) -> dict[str, Tensor]:
    """The layers of a restorer whose tables `weights` holds."""
    if TRANSFORMER in parts:
        return released_layers(parts[TRANSFORMER])
    layers = load_layers(files[0])
    if layers is None:
        raise InputError(
            f"modulation is {LAYERS!r}, but in {files[0].name} it is folded into a table, and no "
            f"{LAYERS_FILE} lies beside it. Start from VARSR.pth and VQVAE.pth, or train with "
            f"modulation {TABLE!r}"
        )
    check_belong(layers, weights, files[0])
    return layers


@torch.no_grad()
def transferred(
    weights: StateDict, sizes: VARSRConfig, seed: int, modulation: str
) -> tuple[VARSR, Listing]:
    """A new model of these sizes that takes of `weights` what fits by name and shape.

    weights: under our names; tensors on the meta device tell what would be taken
    Raises InputError for sizes of which nothing fits.
    """
    listing = Listing([], modulation)
    model = new_model(sizes, seed)
    restores = not makes_classes(model)
    if restores and modulation == LAYERS:
        use_layers(model)
    source = {name: t for name, t in weights.items() if name not in SIZE_TENSORS}
    classes, wanted = source[CLASSES], model.transformer.class_embedding.weight.shape
    cut = restores and classes.shape[0] > wanted[0] and classes.shape[1:] == wanted[1:]
    if cut:
        source[CLASSES] = classes.detach()[: wanted[0]]
    computed: set[str] = set()
    if restores and modulation == TABLE and layers_of(source):
        computed = set(source)
        source = folded(source)
        computed = source.keys() - computed
    for name, tensor in model.state_dict(keep_vars=True).items():
        given = source.get(name)
        if given is None or given.shape != tensor.shape:
            listing.new[name] = tensor.numel()
            continue
        tensor.detach().copy_(source.pop(name).detach())
        kind = listing.cut if cut and name == CLASSES else listing.taken
        (listing.folded if name in computed else kind)[name] = tensor.numel()
    listing.left_out.update({name: tensor.numel() for name, tensor in source.items()})
    _check_taken(listing, weights, model)
    return model.eval().requires_grad_(False), listing


def _check_taken(listing: Listing, weights: StateDict, model: VARSR) -> None:
    """Refuses a start of which too little fits to be one. Raises InputError."""
    missing = [name for name in listing.new if name.startswith(TOKENIZER_PARTS)]
    if missing:
        raise InputError(
            f"{len(missing)} tensors of the tokenizer do not fit the configured sizes, e.g. "
            f"{missing[0]}; a start's tokenizer is taken whole. Take `sizes` of the tokenizer from "
            "a recipe"
        )
    qkv = "transformer.blocks.0.qkv.weight"
    if qkv in listing.new:
        found = weights[qkv].shape[1] if qkv in weights else 0
        raise InputError(
            f"the start's transformer is {found} wide, `sizes` ask for "
            f"{model.config.transformer.width}; nothing of it fits. Change `sizes`"
        )
