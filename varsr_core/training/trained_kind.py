"""What a run must know of a kind of model to train it, found through the kind's descriptor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ..checkpoint import ADDITIONS, FAMILIES
from ..errors import InputError
from ..family import Checkpoint
from .closed_form import Starts
from .config import TrainingConfig, from_plain
from .loop import LoopSettings
from .stage_table import Stage
from .starting.sources import Sources

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def nothing_solved(model: Any) -> Starts:
    """`starts` of a kind whose first weights are all drawn or given."""
    return Starts()


@dataclass(frozen=True, kw_only=True)
class TrainedKind:
    """
    stages:     rows of its table, in their order
    model:      configuration and sources -> a model in float32 on the CPU; `sources.start` is the
                run's own file where there is one. Raises InputError or CheckpointError
    tile_size:  side of the good pictures that a model learns from, in pixels
    checkpoint: of a model, as the file that its node loads has it
    own:        dataclass of config.model_settings, with the settings of each stage under the
                stage's name; None where the configuration itself has them
    starts:     what of a model's first weights can be solved for
    beside:     writes what else belongs to a model, before its file is written at a path
    takes:      sources that it knows, beside `start`
    example:    configuration -> a model of the released sizes, to be made on the meta device, where
                `model` makes none without a file. Raises InputError
    """

    stages: tuple[Stage, ...]
    model: Callable[[TrainingConfig, Sources], nn.Module]
    tile_size: Callable[[Any], int]
    checkpoint: Callable[[Any], Checkpoint]
    own: type[DataclassInstance] | None = None
    starts: Callable[[Any], Starts] = nothing_solved
    beside: Callable[[Any, Path], None] | None = None
    takes: frozenset[str] = frozenset()
    example: Callable[[TrainingConfig], nn.Module] | None = None

    def own_settings(self, config: TrainingConfig) -> Any:
        """What is specific to the kind in a configuration. Raises InputError."""
        if self.own is not None:
            own = from_plain(self.own, config.model_settings, "model_settings")
            names = [stage.name for stage in self.stages]
            if all(getattr(own, name) is None for name in names):
                raise InputError(
                    f"model_settings has no stage; of the model {config.model!r} "
                    f"{', '.join(names)} can be trained"
                )
            return own
        if config.model_settings:
            raise InputError(
                f"model_settings has {', '.join(sorted(config.model_settings))}; of the model "
                f"{config.model!r} all settings stand in the configuration itself"
            )
        return None

    def check(self, sources: Sources, name: str) -> None:
        """Raises InputError for a source that this kind does not know; name: of the model"""
        for source in ("base", "texts"):
            if getattr(sources, source) is not None and source not in self.takes:
                raise InputError(f"--{source} is not for the model {name!r}; leave it out")
        if sources.further and "further" not in self.takes:
            raise InputError(
                f"--start takes one file for the model {name!r}; "
                f"{len(sources.further) + 1} are given"
            )


def stage_settings(config: TrainingConfig, own: Any, stage: Stage) -> LoopSettings | None:
    """How long, and how, a stage is to run; None where it is left out."""
    return getattr(config if own is None else own, stage.name)


def trained_kind(name: str) -> TrainedKind:
    """Of the model that a configuration names. Raises InputError."""
    known = trainable()
    if name not in known:
        raise InputError(f"model is {name!r}; {', '.join(sorted(known))} can be trained")
    return known[name]()


def trainable() -> Mapping[str, Callable[[], TrainedKind]]:
    """Every model that can be trained, by its name."""
    kinds = (*FAMILIES.values(), *ADDITIONS)
    return {name: load for kind in kinds for name, load in kind.training.items()}
