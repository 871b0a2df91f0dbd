"""How far neighbouring tiles disagree, and whether a seam can be measured, for each tiling mode.

    python tools/benchmarks seams [--model FILE] [--overlap 0.25] [--sheet SHEET.png]
                                 [--modes MODE... --] PICTURE...

Without --model a random model of the size the recorded numbers were made with. For each mode:
disagreement  mean difference of two tiles' pixels where they overlap. Each is decoded on the canvas
              with its own latents on top of the others', so nothing is blended
border        gradient energy of the picture across lines where tiles end, divided by that across
              all other borders of cells, since a decoder's steps from cell to cell are no seams
variance      local variance (5x5) inside overlaps divided by elsewhere
Both relative to the enlarged input's, so that what the picture shows there does not count. For that
the scale must divide a cell's pixels: others enlarge one line differently from the next.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from helpers.models import reference_weights
from tools.benchmarks.common import SIZES, read_picture
from varsr_core import load_model
from varsr_core.images.output_size import OutputSize
from varsr_core.runtime.execution import Execution, Session
from varsr_core.tiling.canvas import Canvas
from varsr_core.tiling.consistency import TILING_MODES, Overlaps, Tiling
from varsr_core.tiling.decode import Decoding, composite, decode_canvas
from varsr_core.tiling.grid import TileGrid
from varsr_core.tiling.restorer import RestoringWork
from varsr_core.tiling.scheduler import TileLoop
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.weights import build_model, convert


@dataclass(frozen=True)
class Seams:
    """What one picture shows in one mode; see above."""

    disagreement: float
    border: float
    variance: float
    picture: Tensor


@torch.inference_mode()
def measure(restorer: VARSRRestorer, image: Tensor, scale: float, tiling: Tiling) -> Seams:
    """image: (1, 3, H, W) in [0, 1]."""
    size = OutputSize("scale", scale)
    canvas = Canvas.of(image, size, restorer.tile_size, restorer.align, tiling)
    session = Session(Execution())
    enlarged = canvas.enlarge(image)
    work = RestoringWork(restorer, [canvas.grid], enlarged, seed=0, device=session.device)
    cells = canvas.grid.cells()
    latents = TileLoop(work, [cells], tiling.mode, session).run()[-1]
    rgb = torch.zeros_like(enlarged)
    Decoding(restorer.decoder, [canvas.grid], canvas.blended).run(
        latents, range(len(canvas.grid)), session, rgb
    )
    return Seams(
        _disagreement(restorer, canvas.grid, latents, session),
        _border(rgb, canvas.grid) / _border(enlarged, canvas.grid),
        _variance(rgb, enlarged, canvas.grid),
        rgb,
    )


def _disagreement(
    restorer: VARSRRestorer, grid: TileGrid, latents: Tensor, session: Session
) -> float:
    cells, around = grid.cells(), Overlaps(grid)
    common = composite(latents, cells)
    own = []
    for index in range(len(grid)):
        canvas = common.clone()
        canvas[(..., *cells.area(index))] = latents[index]
        rgb = torch.zeros(3, grid.height, grid.width)
        decode_canvas(canvas, restorer.decoder, session, rgb)
        own.append(rgb)
    differences = []
    for index in range(len(grid)):
        for other in around.neighbours(index):
            if other > index:
                rows, columns = (
                    slice(max(a.start, b.start), min(a.stop, b.stop))
                    for a, b in zip(grid.area(index), grid.area(other), strict=True)
                )
                both = (picture[:, rows, columns] for picture in (own[index], own[other]))
                differences.append(float((next(both) - next(both)).abs().mean()))
    return sum(differences) / len(differences)


def _overlaps(grid: TileGrid) -> Tensor:
    """(height, width) true where more than one tile lies."""
    count = torch.zeros(grid.height, grid.width)
    for index in range(len(grid)):
        count[grid.area(index)] += 1
    return count > 1


def _border(rgb: Tensor, grid: TileGrid) -> float:
    """Energy of steps across lines where a tile begins or ends, relative to all other lines."""
    ratios = []
    for dim, starts in ((2, grid.rows), (3, grid.columns)):
        lines = sorted(set(starts[1:]) | {s + grid.tile for s in starts[:-1]})
        if lines:
            energy = rgb.diff(dim=dim).square().mean(dim=(0, 1, 5 - dim))
            at = torch.zeros(len(energy), dtype=torch.bool)
            at[[line - 1 for line in lines]] = True
            elsewhere = torch.zeros_like(at)
            elsewhere[grid.align - 1 :: grid.align] = True  # what lies on borders of cells too
            ratios.append(float(energy[at].mean() / energy[elsewhere & ~at].mean()))
    return sum(ratios) / max(len(ratios), 1)


def _variance(rgb: Tensor, enlarged: Tensor, grid: TileGrid) -> float:
    inside = _overlaps(grid)
    values = []
    for picture in (rgb, enlarged):
        mean = F.avg_pool2d(picture, 5, 1, 2, count_include_pad=False)
        squares = F.avg_pool2d(picture.square(), 5, 1, 2, count_include_pad=False)
        values.append((squares - mean.square()).clamp(min=0).mean(dim=(0, 1)))
    local, expected = values
    return float(
        (local[inside].mean() / local[~inside].mean())
        / (expected[inside].mean() / expected[~inside].mean())
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--overlap", type=float, default=Tiling.overlap)
    parser.add_argument("--modes", nargs="+", choices=TILING_MODES, default=TILING_MODES)
    parser.add_argument("--sheet", type=Path)


def run(arguments: argparse.Namespace) -> None:
    if arguments.model:
        restorer = load_model(arguments.model, device=None, dtype="fp32")
    else:
        restorer = VARSRRestorer(build_model(convert(reference_weights(SIZES["small"]))))
    rows = []
    for mode in arguments.modes:
        tiling = Tiling(mode, arguments.overlap)
        found = [
            measure(restorer, read_picture(path), arguments.scale, tiling)
            for path in arguments.pictures
        ]
        rows.append(torch.cat([seams.picture for seams in found], dim=2))
        figures = [
            sum(getattr(seams, name) for seams in found) / len(found)
            for name in ("disagreement", "border", "variance")
        ]
        print(mode, *(f"{figure:.4f}" for figure in figures), flush=True)
    if arguments.sheet:
        sheet = torch.cat(rows, dim=3)[0].mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(sheet).save(arguments.sheet)
