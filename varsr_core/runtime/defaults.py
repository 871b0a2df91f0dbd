"""What a model is best run with, where the user leaves that to it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from ..errors import CheckpointError

AUTO = -1.0  # of numbers that are 0 or more; -0.5 is half of what is best for the model
AUTO_CHOICE = "auto"  # of a choice among words
METADATA_KEY = "defaults"  # of a model's file

Choices = TypeVar("Choices")


@dataclass(frozen=True)
class ModelDefaults:
    """One model's own values of settings, by the names they have everywhere.

    guidance:  as the sampling settings of the model's family count it
    color_fix: a colour mode
    fidelity:  0 to 1
    """

    guidance: float
    color_fix: str = "adain"
    fidelity: float = 0.0

    def of_file(self, metadata: Mapping[str, str]) -> ModelDefaults:
        """With what a file says of its model; names that this version does not know do not count.

        Raises CheckpointError for what cannot be such a value.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            return self
        try:
            told = dict(json.loads(text))
            known = {name: told[name] for name in asdict(self) if name in told}
        except (TypeError, ValueError, RecursionError):
            known = {"guidance": None}
        if not isinstance(known.get("color_fix", ""), str) or not all(
            _is_number(value) for name, value in known.items() if name != "color_fix"
        ):
            raise CheckpointError(
                f"its metadata says {METADATA_KEY}: {text[:80]!r}; a JSON object of "
                f"{', '.join(asdict(self))} is expected. Convert or train the model again"
            )
        return replace(self, **known)

    def to_metadata(self) -> dict[str, str]:
        """As `of_file` reads it."""
        return {METADATA_KEY: json.dumps(asdict(self), sort_keys=True)}


def is_auto(value: object) -> bool:
    """Whether a setting is left to the model: the word, or any number below 0."""
    return value == AUTO_CHOICE or (isinstance(value, int | float) and value < 0)


def resolved(choices: Choices, defaults: ModelDefaults) -> Choices:
    """Settings with the model's own value wherever they leave it to the model.

    A number below 0 is so many times the model's own.

    choices: a dataclass; those within it are resolved, too
    """
    changes: dict[str, Any] = {}
    own = asdict(defaults)
    for field in fields(choices):  # type: ignore[arg-type]
        value: Any = getattr(choices, field.name)
        if field.name in own and is_auto(value):
            found = own[field.name]
            changes[field.name] = found if value == AUTO_CHOICE else -value * found
        elif is_dataclass(value):
            inner: Any = resolved(value, defaults)
            if inner is not value:
                changes[field.name] = inner
    return replace(choices, **changes) if changes else choices  # type: ignore[type-var]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < math.inf
