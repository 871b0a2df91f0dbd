"""How a run restores, as the user chose it, and the hash by which later runs know it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ..family import PLACE
from ..images.output_size import OutputSize
from ..upscaling import UpscaleSettings
from .output_format import OutputFormat

# Choices of families that enter the hash with every value: those of 0.1.0. A later one enters only
# where it is not at its default, so that results made before there was such a choice stay valid.
FIRST_CHOICES = {
    "sampling.guidance", "sampling.guidance_schedule", "sampling.top_k", "sampling.top_p",
    "sampling.temperature", "sampling.quality_class", "sampling.unguided_scales",
    "sampling.downsampling", "refining.guidance", "refining.steps", "refining.strength",
    "text", "text_hash",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Everything that a worker, here or elsewhere, has to know beside its jobs.

    family:   name in FAMILIES
    model:    file of the model
    choices:  of the family
    dtype:    of the weights, or "auto"
    device:   for torch, or "auto"
    threads:  of a CPU; 0 leaves them to torch
    together: pictures, or frames of a film, in one call; 0 for as many as fill the device
    """

    family: str
    model: str
    choices: Any
    size: OutputSize
    settings: UpscaleSettings
    seed: int
    form: OutputFormat
    dtype: str = "auto"
    device: str = "auto"
    threads: int = 0
    together: int = 0

    def settings_hash(self, fingerprint: str) -> str:
        """Of all that the outputs depend on but the inputs; fingerprint: of the weights.

        Not on which machine, with how many threads and beside which others they are made: these
        may show in the last bits, and are no reason to restore again.

        Journals keep it. So names and values are written out: classes and fields may be renamed,
        and a setting that comes later is added only where it is not neutral.
        """
        settings, form = self.settings, self.form
        values = {
            "family": self.family,
            "choices": named_values(self.choices),
            "size": {"mode": self.size.mode, "value": self.size.value},
            "settings": {
                "tiling": {"mode": settings.tiling.mode, "overlap": settings.tiling.overlap},
                "color_fix": settings.color_fix,
                "color_strength": settings.color_strength,
                "feather": settings.feather,
            }
            | _later(settings, UpscaleSettings(), ("fidelity", "shrink_first", "steady")),
            "seed": self.seed,
            "form": {
                "picture": form.picture,
                "depth": form.depth,
                "quality": form.quality,
                "crf": form.crf,
            }
            | _later(form, OutputFormat(), ("video_codec", "audio", "deinterlace", "container")),
            "dtype": self.dtype,
        }
        text = json.dumps([values, fingerprint], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _later(chosen: Any, neutral: Any, names: Sequence[str]) -> dict[str, Any]:
    """Choices that came after 0.1.0, where they are not neutral."""
    values = {name: getattr(chosen, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(neutral, name)}


def named_values(choices: Any, within: str = "") -> dict[str, Any]:
    """Names and values of a dataclass, and of those in it, as they enter the hash."""
    values: dict[str, Any] = {}
    for field in fields(choices):
        name, value = within + field.name, getattr(choices, field.name)
        if field.metadata.get(PLACE):
            continue
        if is_dataclass(value):
            if inner := named_values(value, f"{name}."):
                values[field.name] = inner
        elif name in FIRST_CHOICES or value != field.default:
            values[field.name] = value
    return values
