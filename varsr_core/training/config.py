"""What a training run is asked to do, read from one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from ..errors import InputError
from .data.degradation import DegradationSettings
from .data.presets import degradation_preset
from .data.settings import DataSettings
from .loop import LoopSettings
from .stages.decoder import DecoderSettings
from .stages.restorer import ISRSettings
from .stages.tokenizer import TokenizerSettings
from .steps.blocks import BlockSettings
from .steps.processes import PARALLEL

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

RECIPES = Path(__file__).parent / "recipes"
RESTORER, CLASS_TO_IMAGE = "varsr", "varsr_c2i"  # what is trained


@dataclass(frozen=True)
class TrainingConfig:
    """One run; a stage that is None is left out. See stage_table.py for what each does.

    sizes:          of a new model (see starting/new_model.py), or of one that takes a part of
                    another (see starting/starts.py); unused where a model of the same kind is given
    tokenizer:      the stage of the tokenizer
    pretraining:    next-scale prediction without a low-quality picture, before restoring
    prefix:         the prefix encoder alone (see stages/prefix.py); only where it and the restorer
                    start in closed form: new small models without pretraining
    sight:          then that and the decoder together, by what the estimate looks like; only there
    isr:            the stage that makes a restorer
    refiner:        the refiner once more, alone, on what the restorer samples by itself
    decoder:        the decoder once more, on what the restorer makes
    unseen:         share of what the prefix cannot tell that targets of isr and refiner keep; only
                    there
    solved_rate:    share of isr's learning rate for what was solved for in closed form; only there
    negative_share: of restoring samples that are made bad on purpose, when no folder has such
    degradation:    of good pictures; in the file a preset's name (see data/presets.py), or values,
                    which change those of a "preset" if one is named among them
    zoom:           crops are shrunk at random by factors down to this one
    samples_every:  steps between sample pictures
    drop_path, checkpointing: of the transformer's blocks in pretraining and isr; steps/blocks.py
    parallel:       how several processes share the work: "auto", "replicas" or "shards", see
                    steps/processes.py
    evaluate_every: steps between evaluations, where pictures are given for them; 0: only when a
                    stage is done
    workers:        processes that read and degrade pictures; 0 for none beside this one
    cache:          keeps all pictures decoded in memory, for small sets
    data:           crops, tables and tar files
    model:          what is trained; its descriptor names it, see trained_kind.py
    model_settings: stages and losses of models other than VARSR, whose modules say what they are
    modulation:     of a restorer, trained as a "table" or as "layers", see starting/modulation.py
    class_to_image: the stage that makes a class-to-image model
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
    isr_losses: ISRSettings = ISRSettings()
    decoder: LoopSettings | None = None
    decoder_losses: DecoderSettings = DecoderSettings()
    diffusion_weight: float = 2.0
    unseen: float = 1.0
    solved_rate: float = 0.1
    negative_share: float = 0.1
    degradation: DegradationSettings = DegradationSettings()
    zoom: float = 1.0
    samples_every: int = 1000
    workers: int = 0
    cache: bool = False
    data: DataSettings = DataSettings()
    drop_path: float = 0.0
    checkpointing: bool = False
    parallel: str = PARALLEL[0]
    evaluate_every: int = 0
    model: str = RESTORER
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    modulation: str = "table"
    class_to_image: LoopSettings | None = None
    refiner: LoopSettings | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.drop_path < 1:
            raise InputError(f"drop_path is {self.drop_path}; choose a share from 0 to below 1")
        if self.parallel not in PARALLEL:
            raise InputError(f"parallel is {self.parallel!r}; known are {', '.join(PARALLEL)}")

    @property
    def blocks(self) -> BlockSettings:
        """How the transformer's blocks are trained."""
        return BlockSettings(self.drop_path, self.checkpointing)


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


def from_plain(
    kind: type[Settings], values: Mapping[str, Any], where: str, base: Settings | None = None
) -> Settings:
    """A settings dataclass from plain values, nested ones too; `base` has all that are not given.

    Without a base, what is not given has its default, also where `kind` is a part of a whole.
    """
    known = {f.name for f in fields(kind)}
    unknown = values.keys() - known
    if unknown:
        raise InputError(
            f"{where} has {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}"
        )
    hints = get_type_hints(kind)
    made = {
        name: _convert(hints[name], value, f"{where}: {name}", getattr(base, name, None))
        for name, value in values.items()
    }
    try:
        return kind(**made) if base is None else replace(base, **made)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str, base: Any) -> Any:
    if hint is DegradationSettings:
        return _degradation(value, where)
    options = getattr(hint, "__args__", ())
    for candidate in (hint, *options):
        if isinstance(candidate, type) and is_dataclass(candidate) and isinstance(value, Mapping):
            return from_plain(candidate, value, where, base)
    return tuple(value) if isinstance(value, list) else value


def _degradation(value: Any, where: str) -> DegradationSettings:
    """From a preset's name, from changes to a preset, or from values."""
    if not isinstance(value, (str, Mapping)):
        raise InputError(f"{where} is {value!r}; it is a preset's name, or values by name")
    changes = {"preset": value} if isinstance(value, str) else dict(value)
    name = changes.pop("preset", None)
    try:
        base = None if name is None else degradation_preset(name)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    return from_plain(DegradationSettings, changes, where, base)
