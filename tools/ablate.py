"""Switches parts of the method off, one at a time, and shows what each is worth.

    python tools/ablate.py FOLDER [--references DIR] [--out DIR] [OPTIONS]

Restores every picture of FOLDER as it is (OPTIONS are those of `python -m varsr_core.batch`, so any
model, size and seed), then with one thing changed: the prefix encoder's estimate of the latent
alone, the same quantized (what the transformer has to be better than), refiner off, guidance 0, 3
and 6, the first scales only (the refiner off), each way of matching colours. What a family or a
model has not is left out. There is one table (means over the pictures, and seconds of the model for
one picture), one contact sheet, and in --out the pictures of each variant with their scores, which
`tools/evaluate.py compare` tests against each other.

With --try OPTIONS, once or more, these take the place of the switches: any way of sampling beside
as it is. --best MEASURE then tells what it would be to choose among them picture by picture.

With --references measures against these, else such as need none: `tools/evaluate.py score --help`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.ablation.making import made
from tools.ablation.sheet import Cell, sheet
from tools.ablation.variants import Switches, Variant
from tools.metrics import artefacts, scoring
from tools.metrics.case import BORDER
from tools.metrics.catalogue import LOW, MODEL, REFERENCE, Metric, named
from tools.metrics.folders import opened, pictures
from tools.metrics.sets import Picture, gathered, score_set
from varsr_core.batch.__main__ import NOT_DONE
from varsr_core.errors import CheckpointError, InputError

METRICS = ("psnr", "ssim", "lr-psnr", "st-lpips", "niqe", "grid", "noise")
SECONDS = "seconds"
SHEET, CROP = "sheet.png", 256
SHOWN = 2  # measures below a picture of the sheet


def restore(
    variants: Sequence[Variant], inputs: dict[str, Path], switches: Switches, out: Path
) -> dict[str, float]:
    """Writes all pictures; the seconds of one picture, by variant."""
    seconds = dict.fromkeys((variant.label for variant in variants), 0.0)
    for number, (name, path) in enumerate(inputs.items(), 1):
        for variant, one in zip(
            variants, made(variants, opened(path), switches.options), strict=True
        ):
            place = (out / variant.folder / name).with_suffix(".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            one.picture.save(place)
            seconds[variant.label] += one.seconds / len(inputs)
        print(f"{number} of {len(inputs)}: {name}", file=sys.stderr, flush=True)
    return seconds


def noise_of(variants: Sequence[Variant], switches: Switches) -> dict[str, float]:
    grey = artefacts.noisy_grey()
    results = made(variants, grey, switches.options)
    return {
        variant.label: artefacts.noise_left(one.picture)
        for variant, one in zip(variants, results, strict=True)
    }


def shown(
    variants: Sequence[Variant],
    sets: dict[str, dict[str, Picture]],
    scores: dict[str, dict[str, scoring.Row]],
    crop: int,
) -> Image.Image:
    blocks = []
    for name, first in next(iter(sets.values())).items():
        result = opened(first.result)
        assert first.low is not None
        plain = opened(first.low).resize(result.size, Image.Resampling.BICUBIC)
        cells = [Cell(name, "input, enlarged bicubically", plain)]
        if first.reference:
            cells.append(Cell("reference", "", opened(first.reference)))
        for variant in variants:
            row = list(scores[variant.label][name].items())[:SHOWN]
            figures = ", ".join(f"{title} {value:.3g}" for title, value in row if value is not None)
            cells.append(Cell(variant.label, figures, opened(sets[variant.label][name].result)))
        blocks.append(cells)
    return sheet(blocks, crop)


def best_of(scores: dict[str, dict[str, scoring.Row]], by: Metric) -> scoring.Row:
    """Means of the variants that are best by one measure, chosen for each picture."""
    sign, variants = 1 if by.more else -1, list(scores.values())
    worst = -sign * math.inf

    def worth(row: scoring.Row) -> float:
        found = row[by.title]
        return sign * (worst if found is None else found)

    names = variants[0].keys() - {scoring.MEAN}
    return scoring.means(
        {name: max((rows[name] for rows in variants), key=worth) for name in names}
    )


def run(chosen: argparse.Namespace, options: list[str]) -> None:
    inputs = pictures(chosen.folder)
    out = chosen.out or chosen.folder.with_name(chosen.folder.resolve().name + "_ablation")
    if out.resolve().is_relative_to(chosen.folder.resolve()):
        raise InputError(
            f"{out} lies in {chosen.folder}; results would become inputs: choose --out"
        )
    given = {LOW, MODEL} | ({REFERENCE} if chosen.references else set())
    lenient = chosen.metrics is None
    names = list(METRICS if lenient else chosen.metrics)
    best = named(chosen.best) if chosen.best else None
    names += [chosen.best] if best else []
    loaded = scoring.load(names, given, lenient=lenient, fetch=chosen.fetch)
    switches = Switches(str(chosen.folder), options)
    if switches.options.threads:
        torch.set_num_threads(switches.options.threads)
    first = opened(next(iter(inputs.values())))
    variants = switches.tried(chosen.tried) if chosen.tried else switches.all(first)
    print(switches.described())
    seconds = restore(variants, inputs, switches, out)
    of_model = {one.metric.title for one in loaded if one.run is None}
    noise = noise_of(variants, switches) if of_model else {}
    scores, sets = {}, {}
    for variant in variants:
        found = gathered(out / variant.folder, chosen.references, chosen.folder, inputs)
        model_values = dict.fromkeys(of_model, noise.get(variant.label, 0.0))
        rows = score_set(found, loaded, chosen.border, model_values)
        scoring.write(rows, out / f"{variant.folder}.json")
        scores[variant.label], sets[variant.label] = rows, found
    means = {
        label: rows[scoring.MEAN] | {SECONDS: seconds[label]} for label, rows in scores.items()
    }
    titles = list(next(iter(means.values())))
    if best:
        means[f"best by {best.title}"] = best_of(scores, best)
    print(scoring.table(means, titles=titles))
    shown(variants, sets, scores, chosen.crop).save(out / SHEET)
    print(f"{out / SHEET}; scores of each variant: {out}/VARIANT.json")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="low-quality pictures")
    parser.add_argument("--references", type=Path, metavar="DIR", help="what they should become")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: FOLDER_ablation")
    parser.add_argument(
        "--try",
        dest="tried",
        action="append",
        metavar="OPTIONS",
        help='of the command, as one text: --try="--top-k 20 --seed 3"; may be given several times',
    )
    parser.add_argument(
        "--best",
        metavar="MEASURE",
        help="adds a row: for each picture the variant that is best by this",
    )
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="default: those that can be had"
    )
    parser.add_argument("--border", type=int, default=BORDER, help="see tools/evaluate.py --help")
    parser.add_argument("--fetch", action="store_true", help="weights of networks may be fetched")
    parser.add_argument(
        "--crop", type=int, default=CROP, help="side of what the sheet shows; 0: all (%(default)s)"
    )
    chosen, options = parser.parse_known_args(arguments)
    try:
        run(chosen, options)
    except (InputError, CheckpointError) as error:
        print(error)
        return NOT_DONE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
