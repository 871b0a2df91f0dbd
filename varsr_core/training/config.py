"""What a training run is asked to do, read from one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from ..errors import InputError
from .data.degradation import DegradationSettings
from .loop import LoopSettings
from .stages.decoder import DecoderSettings
from .stages.tokenizer import TokenizerSettings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class TrainingConfig:
    """One run; a stage that is None is left out. See stage_table.py for what each does.

    sizes:          of a new model (see new_model.py); unused where a model is given to start from
    tokenizer:      the stage of the tokenizer
    pretraining:    next-scale prediction without a low-quality picture, before restoring
    prefix:         the prefix encoder alone (see stages/prefix.py); only where it and the restorer
                    start in closed form: new small models without pretraining
    sight:          then that and the decoder together, by what the estimate looks like; only there
    isr:            the stage that makes a restorer
    decoder:        the decoder once more, on what the restorer makes
    unseen:         share of what the prefix cannot tell that targets of isr keep; only there
    negative_share: of restoring samples that are made bad on purpose, when no folder has such
    zoom:           crops are shrunk at random by factors down to this one
    samples_every:  steps between sample pictures
    workers:        processes that read and degrade pictures; 0 for none beside this one
    cache:          keeps all pictures decoded in memory, for small sets
    """

    sizes: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    tokenizer: LoopSettings | None = None
    tokenizer_losses: TokenizerSettings = TokenizerSettings()
    pretraining: LoopSettings | None = None
    prefix: LoopSettings | None = None
    sight: LoopSettings | None = None
    sight_losses: DecoderSettings = DecoderSettings()
    isr: LoopSettings | None = None
    decoder: LoopSettings | None = None
    decoder_losses: DecoderSettings = DecoderSettings()
    diffusion_weight: float = 2.0
    unseen: float = 1.0
    negative_share: float = 0.1
    degradation: DegradationSettings = DegradationSettings()
    zoom: float = 1.0
    samples_every: int = 1000
    workers: int = 0
    cache: bool = False


def read_config(path: Path) -> TrainingConfig:
    """From a file, or a recipe of the pack by its name: `nano`, or any path that ends in nano.json.

    Raises InputError that names what the file has wrong.
    """
    if not path.is_file():
        recipe = RECIPES / f"{path.name.removesuffix('.json')}.json"
        if not recipe.is_file():
            known = ", ".join(sorted(found.stem for found in RECIPES.glob("*.json")))
            raise InputError(f"{path} is no file, and none of the recipes: {known}")
        path = recipe
    try:
        return from_plain(TrainingConfig, json.loads(path.read_text()), path.name)
    except json.JSONDecodeError as error:
        raise InputError(f"{path.name} is no JSON: {error}") from error


def from_plain(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """A settings dataclass from plain values, nested ones too."""
    known = {f.name for f in fields(kind)}
    unknown = values.keys() - known
    if unknown:
        raise InputError(
            f"{where} has {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}"
        )
    hints = get_type_hints(kind)
    made = {
        name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()
    }
    try:
        return kind(**made)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    options = getattr(hint, "__args__", ())
    for candidate in (hint, *options):
        if isinstance(candidate, type) and is_dataclass(candidate) and isinstance(value, Mapping):
            return from_plain(candidate, value, where)
    return tuple(value) if isinstance(value, list) else value
