"""Restores a folder of pictures and scores the results against what they should be, in one command.

    pip install -r tools/requirements-evaluate.txt
    python tools/evaluate.py LOW_QUALITY REFERENCES RESULTS [--scores FILE.json] [OPTIONS]

OPTIONS are those of `python -m varsr_core.batch`, which does the restoring: a second call only
scores, and --ray spreads the work. A result belongs to the picture of the same place and stem in
REFERENCES, whose size it must have; see --scale.

PSNR-Y and SSIM-Y: of luma (BT.601), without the outermost 4 pixels; LR-PSNR: of luma, of the result
brought back to the size of its input, against the input: faithfulness. Of these and HaarPSI more is
better, of GMSD and ST-LPIPS (LPIPS that forgives shifts) less. A measure is left out where its
package is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from varsr_core.batch.__main__ import NOT_DONE
from varsr_core.batch.__main__ import main as restore
from varsr_core.batch.cli import parse
from varsr_core.batch.pictures.formats import PICTURE_FORMATS
from varsr_core.errors import InputError
from varsr_core.images.output_size import OutputSize

BORDER = 4  # pixels; what lies there is mostly guessed
LUMA = (65.481, 128.553, 24.966)  # of red, green and blue in [0, 1]; BT.601, beginning at 16
STLPIPS_NETS = ("alex", "vgg")


@dataclass(frozen=True)
class Case:
    """One picture: what was made of what, and what it should be."""

    low: Image.Image
    result: Image.Image
    reference: Image.Image


Measure = Callable[[Case], float]


def luma(picture: Image.Image) -> Tensor:
    """(1, 1, H, W) float64, 16 to 235."""
    values = np.asarray(picture, np.float64) / 255 @ np.array(LUMA)
    return torch.from_numpy(values + 16)[None, None]


def inner(picture: Image.Image) -> Tensor:
    return luma(picture)[..., BORDER:-BORDER, BORDER:-BORDER]


def colors(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 255).movedim(-1, 0)[None]


def psnr(ours: Tensor, theirs: Tensor) -> float:
    return float(10 * torch.log10(255**2 / (ours - theirs).square().mean().clamp(min=1e-10)))


def lr_psnr(case: Case) -> float:
    back = case.result.resize(case.low.size, Image.Resampling.BICUBIC)
    return psnr(luma(back), luma(case.low))


def measures() -> dict[str, Measure]:
    """Those whose packages are installed."""
    found: dict[str, Measure] = {
        "PSNR-Y": lambda case: psnr(inner(case.result), inner(case.reference)),
        "LR-PSNR": lr_psnr,
    }
    for add in (_add_piq, _add_stlpips):
        try:
            add(found)
        except ImportError as error:
            print(f"left out: {error}; pip install -r tools/requirements-evaluate.txt")
    return found


def _add_piq(found: dict[str, Measure]) -> None:
    import piq

    def ssim(case: Case) -> float:
        pair = inner(case.result), inner(case.reference)
        return float(piq.ssim(*(p / 255 for p in pair), data_range=1.0, downsample=False))

    found["SSIM-Y"] = ssim
    for name, measure in (("GMSD", piq.gmsd), ("HaarPSI", piq.haarpsi)):
        found[name] = lambda case, measure=measure: float(
            measure(colors(case.result), colors(case.reference), data_range=1.0)
        )


def _add_stlpips(found: dict[str, Measure]) -> None:
    from stlpips_pytorch import stlpips

    for name in STLPIPS_NETS:
        net = stlpips.LPIPS(net=name, variant="shift_tolerant", verbose=False)
        found[f"ST-LPIPS {name}"] = lambda case, net=net: float(
            net(colors(case.result), colors(case.reference), normalize=True)
        )


def pictures(folder: Path) -> dict[str, Path]:
    """All below a folder, by place and stem."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURE_FORMATS and not path.name.startswith(".")
    }


def pairs(low: Path, references: Path, size: OutputSize) -> dict[str, tuple[Path, Path]]:
    """Inputs and references, checked before anything is restored. Raises InputError."""
    wanted, found = pictures(references), {}
    for name, path in pictures(low).items():
        if name not in wanted:
            raise InputError(f"{path}: there is no {name} in {references}; use the same stems")
        width, height = Image.open(wanted[name]).size
        own_height, own_width = size.of(*Image.open(path).size[::-1])
        if (own_height, own_width) != (height, width):
            raise InputError(
                f"{path}: the result would be {own_width}x{own_height}, and its reference is "
                f"{width}x{height}; choose another --scale"
            )
        found[name] = path, wanted[name]
    if not found:
        raise InputError(f"{low} holds no pictures")
    return found


@torch.inference_mode()
def score(found: dict[str, tuple[Path, Path]], results: Path) -> dict[str, dict[str, float]]:
    """All measures of all pictures, and their means."""
    known, made, rows = measures(), pictures(results), {}
    for name, (low, reference) in found.items():
        opened = (Image.open(path).convert("RGB") for path in (low, made[name], reference))
        case = Case(*opened)
        rows[name] = {title: measure(case) for title, measure in known.items()}
    means = {title: float(np.mean([row[title] for row in rows.values()])) for title in known}
    return rows | {"mean": means}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name in ("low_quality", "references", "results"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    parser.add_argument("--scores", type=Path, metavar="FILE.json", help="scores are written there")
    chosen, options = parser.parse_known_args(arguments)
    options = [str(chosen.low_quality), str(chosen.results), *options]
    try:
        found = pairs(chosen.low_quality, chosen.references, parse(options).options.size)
    except InputError as error:
        print(error)
        return NOT_DONE
    code = restore(options)
    if code:
        return code
    warnings.simplefilter("ignore")  # of the packages, about their own imports
    rows = score(found, chosen.results)
    width = max(map(len, rows))
    print(" " * width, *rows["mean"], sep="  ")
    for name, row in rows.items():
        cells = (f"{value:.4g}".rjust(len(title)) for title, value in row.items())
        print(name.ljust(width), *cells, sep="  ")
    if chosen.scores:
        chosen.scores.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
