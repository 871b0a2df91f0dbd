"""Evaluation on the way: pictures that nothing is learned from, restored and measured.

The measures are those of tools/evaluate.py that need no network. They belong to a checkout of the
repository, not to an installed pack.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import InputError
from ...tiling.restorer import Restorer
from ...upscaling import upscale
from ..data.pictures import find_pictures, load_picture, picture_size
from .log import StepLog

logger = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation.csv"
MEASURES = ("psnr", "ssim", "niqe")
ROOT = Path(__file__).parents[3]


class Evaluation:
    """Measures what a model makes of low-quality pictures, against what it should.

    low, high: folders with files of the same names, whatever their suffixes; each high picture's
               sides are the same whole multiple of its low one's

    Raises InputError for files that do not fit, and where there are no measures.
    """

    def __init__(self, low: Path, high: Path) -> None:
        self.files = _matched(low, high)
        self.scoring, self.case = _metrics()
        self.measures = self.scoring.load(MEASURES, {"reference"}, lenient=False, fetch=False)

    def __call__(self, restorer: Restorer) -> dict[str, float]:
        """Means over all pictures, by name; NaN for what no picture is large enough for."""
        cases = {name: partial(self._case, restorer, name) for name in self.files}
        found = self.scoring.score(self.measures, cases)[self.scoring.MEAN]
        return {
            name: float("nan") if found[one.metric.title] is None else found[one.metric.title]
            for name, one in zip(MEASURES, self.measures, strict=True)
        }

    def _case(self, restorer: Restorer, name: str) -> Any:
        low, high, scale = self.files[name]
        picture = torch.from_numpy(load_picture(low)).permute(2, 0, 1)[None].float().div(255)
        made = upscale(picture.to(restorer.device), float(scale), restorer)[0].permute(1, 2, 0)
        pixels = made.mul(255).round().byte().cpu().numpy()
        return self.case(_image(pixels), _image(load_picture(high)), _image(load_picture(low)))


class EvaluationLog:
    """Means by step, in evaluation.csv of a stage's folder and for TensorBoard."""

    def __init__(self, folder: Path, step: int) -> None:
        """step: of the stage's state, from which it goes on"""
        self.log = StepLog(folder, EVALUATION_FILE)
        self.log.cut(step)

    def due(self, step: int) -> bool:
        """Whether nothing was measured at this step yet."""
        return step not in self.log.steps()

    def add(self, step: int, means: dict[str, float]) -> None:
        """Also says them."""
        self.log.add({"step": step, **means})
        told = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
        logger.info("step %d: %s", step, told)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels)


def _metrics() -> tuple[Any, Any]:
    """The module that measures, and what it calls a picture that is measured."""
    there = ROOT / "tools" / "metrics" / "scoring.py"
    lacking = InputError(
        f"evaluation needs the measures of tools/metrics, which a clone of the repository has and "
        f"an installed pack has not: no {there}. Run from a clone, or without --evaluate"
    )
    if not there.is_file():
        raise lacking
    try:
        from tools.metrics import scoring
        from tools.metrics.case import Case
    except ImportError as error:
        raise lacking from error
    if Path(scoring.__file__ or "").resolve() != there.resolve():
        raise lacking
    return scoring, Case


def _matched(low: Path, high: Path) -> dict[str, tuple[Path, Path, int]]:
    """Both files of every name, and how much larger the second is."""
    lows, highs = ({path.stem: path for path in find_pictures([f])} for f in (low, high))
    alone = sorted(lows.keys() ^ highs.keys())
    if alone or not lows:
        raise InputError(
            f"evaluation takes files of the same names in {low} and {high}; "
            + (f"{alone[0]!r} and {len(alone) - 1} others are in one alone" if alone else "none is")
        )
    return {name: (lows[name], highs[name], _scale(lows[name], highs[name])) for name in lows}


def _scale(low: Path, high: Path) -> int:
    """How much larger the sides of a picture are."""
    small, large = picture_size(low), picture_size(high)
    scale = large[0] // small[0]
    if scale < 1 or large != (small[0] * scale, small[1] * scale):
        raise InputError(
            f"{high} has {large[1]}x{large[0]} pixels, {low} {small[1]}x{small[0]}: its sides are "
            "to be a whole multiple"
        )
    return scale
