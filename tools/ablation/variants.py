"""The switches of the method: each variant leaves out or sets one thing, the rest as it is."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from torch import Tensor

from tools.ablation.restorers import PrefixEstimate, QuantizedEstimate, Stopped, estimate_error
from tools.metrics.case import colors
from varsr_core.batch.cli import parse
from varsr_core.batch.model import Model
from varsr_core.batch.options import Options
from varsr_core.checkpoint import FAMILIES
from varsr_core.images.color_fix import COLOR_MODES
from varsr_core.runtime.defaults import resolved
from varsr_core.settings import UpscaleSettings
from varsr_core.tiling.canvas import Canvas
from varsr_core.varsr.restorer import VARSRRestorer

AS_IT_IS = "as it is"
GUIDANCES = (0, 3, 6)
REFINER_OFF = ("--refine-strength", "0")


@dataclass(frozen=True)
class Variant:
    """A way to restore: by whom, and what is done to its pictures."""

    label: str
    restorer: Any
    settings: UpscaleSettings
    seed: int

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.=-]+", "-", self.label.replace("/", "-of-"))


class Switches:
    """All variants of one command, for a model that is loaded once."""

    def __init__(self, inputs: str, options: Sequence[str]) -> None:
        """options: of `python -m varsr_core.batch`. Raises InputError, CheckpointError."""
        self._arguments = [inputs, "results", *options]
        self.options = self._parsed()
        self.family = FAMILIES[self.options.family]
        self.restorer: Any = Model(self.options).restorer
        off = self._knows(REFINER_OFF)
        self.plain = self._variant("", REFINER_OFF).restorer if off else self.restorer
        self.scales: int = self.plain.steps

    def all(self, picture: Image.Image) -> list[Variant]:
        """picture: one of those that will be restored"""
        whole = self._variant(AS_IT_IS)
        found = [whole, *self._estimates(whole, colors(picture))]
        if self._knows(REFINER_OFF):
            found.append(replace(whole, label="refiner off", restorer=self.plain))
        for guidance in GUIDANCES:
            flags = ("--guidance", str(guidance))
            if self._knows(flags):
                found.append(self._variant(f"guidance {guidance}", flags))
        kept = sorted({self.scales // 2, self.scales - 2, self.scales - 1})
        for count in (count for count in kept if 0 < count < self.scales):
            stopped = Stopped(self.plain, count)
            label = f"scales {count}/{self.scales}"
            found.append(replace(whole, label=label, restorer=stopped))
        for mode in COLOR_MODES:
            found.append(self._variant(f"color {mode}", ("--color-fix", mode)))
        return found

    def tried(self, each: Sequence[str]) -> list[Variant]:
        """As it is, and with further options of the command, of the model that is loaded."""
        return [self._variant(AS_IT_IS), *(self._variant(one, shlex.split(one)) for one in each)]

    def described(self) -> str:
        """What the model's own defaults come to."""
        settings = resolved(self.options.settings, self.restorer.defaults)
        parts = [f"color {settings.color_fix}", f"fidelity {settings.fidelity:g}"]
        sampling = getattr(self.restorer, "sampling", None)
        if sampling is not None:
            parts.insert(0, f"guidance {sampling.guidance:g}")
        return f"{AS_IT_IS}: {', '.join(parts)}"

    def _estimates(self, whole: Variant, image: Tensor) -> list[Variant]:
        found = self.restorer
        if not isinstance(found, VARSRRestorer):
            return []
        tiling = whole.settings.tiling
        canvas = Canvas.of(image, self.options.size, found.tile_size, found.align, tiling)
        corner = canvas.enlarge(image)[..., : found.tile_size, : found.tile_size]
        if estimate_error(found, corner.to(found.device)) >= 1:
            print("left out: prefix estimate; this model's prefix tokens do not hold one")
            return []
        kinds = (("prefix estimate", PrefixEstimate), ("prefix quantized", QuantizedEstimate))
        return [
            replace(whole, label=label, restorer=kind(found.model, found.sampling, found.refining))
            for label, kind in kinds
        ]

    def _knows(self, flags: Sequence[str]) -> bool:
        parser = ArgumentParser(add_help=False, allow_abbrev=False)
        self.family.add_to(parser)
        return not parser.parse_known_args(list(flags))[1]

    def _variant(self, label: str, flags: Sequence[str] = ()) -> Variant:
        options = self._parsed(flags)
        restorer = self.family.restorer(self.restorer.model, options.choices)
        return Variant(label, restorer, options.settings, options.seed)

    def _parsed(self, flags: Sequence[str] = ()) -> Options:
        return parse([*self._arguments, *flags]).options  # the last of equal flags counts
