"""Restores a folder of pictures and scores the results against what they should be; scores what is
there already; compares two runs.

    pip install -r tools/requirements-evaluate.txt
    python tools/evaluate.py LOW_QUALITY REFERENCES RESULTS [SCORING] [OPTIONS]
    python tools/evaluate.py score RESULTS [--references DIR] [--low DIR] [--grey PICTURE] [SCORING]
    python tools/evaluate.py compare FIRST SECOND [--references DIR] [--low DIR] [SCORING]
    python tools/evaluate.py grey PICTURE.png

    SCORING: [--metrics NAME...] [--border 4] [--fetch] [--scores FILE.json]

The first form restores; OPTIONS are those of `python -m varsr_core.batch`: a second call only
scores, and --ray spreads the work. FIRST and SECOND are files that --scores wrote, or folders of
results. A result belongs to the picture of the same place and stem, or of a stem that differs
in all by one ending (0801 and 0801x4); it must have the size of its reference, see --scale.

"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.metrics import artefacts, scoring
from tools.metrics.case import BORDER
from tools.metrics.catalogue import DEFAULT, LOW, MODEL, REFERENCE
from tools.metrics.comparing import comparison
from tools.metrics.folders import matched, opened, pictures, size_of
from tools.metrics.sets import Picture, gathered, score_set
from tools.metrics.texts import HELP
from varsr_core.batch.__main__ import NOT_DONE
from varsr_core.batch.__main__ import main as restore
from varsr_core.batch.cli import parse
from varsr_core.errors import InputError
from varsr_core.images.output_size import OutputSize

FORMS = ("score", "compare", "grey")
OF_RESULTS = (*DEFAULT, "niqe", "grid")  # where nothing is asked for


def restorable(low: Path, references: Path, size: OutputSize) -> dict[str, tuple[Path, Path]]:
    """Inputs and references, checked before anything is restored. Raises InputError."""
    inputs, wanted = pictures(low), pictures(references)
    partners = matched(inputs, wanted, references)
    found = {}
    for name, path in inputs.items():
        reference = wanted[partners[name]]
        width, height = size_of(reference)
        own_height, own_width = size.of(*size_of(path)[::-1])
        if (own_height, own_width) != (height, width):
            raise InputError(
                f"{path}: the result would be {own_width}x{own_height}, and its reference is "
                f"{width}x{height}; choose another --scale"
            )
        found[name] = path, reference
    return found


def noise_of_model(options: list[str], size: OutputSize) -> float:
    """What a model leaves of the noise of a grey picture, with the same options. InputError."""
    with tempfile.TemporaryDirectory() as folder:
        low, made = Path(folder, "low"), Path(folder, "made")
        low.mkdir()
        grey = artefacts.noisy_grey()
        grey.save(low / "grey.png")
        if restore([str(low), str(made), *options]):
            raise InputError("the noisy grey could not be restored; leave noise out of --metrics")
        result = opened(next(iter(pictures(made).values())))
        expected = size.of(*grey.size)[::-1]
        assert result.size == expected, f"{result.size}, not {expected}"
        return artefacts.noise_left(result)


def run_restoring(arguments: list[str]) -> int:
    parser = _parser()
    for name in ("low_quality", "references", "results"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    _add_scoring(parser)
    chosen, options = parser.parse_known_args(arguments)
    command = parse([str(chosen.low_quality), str(chosen.results), *options])
    found = restorable(chosen.low_quality, chosen.references, command.options.size)
    loaded = _load(chosen, DEFAULT, {REFERENCE, LOW, MODEL}, command.options.device)
    code = restore([str(chosen.low_quality), str(chosen.results), *options])
    if code:
        return code
    of_model = {}
    for one in loaded:
        if one.run is None:
            of_model[one.metric.title] = noise_of_model(options, command.options.size)
    made = pictures(chosen.results)
    partners = matched(found, made, chosen.results)
    whole = {
        name: Picture(made[partners[name]], reference, low)
        for name, (low, reference) in found.items()
    }
    _report(score_set(whole, loaded, chosen.border, of_model), chosen.scores)
    return 0


def run_score(arguments: list[str]) -> int:
    parser = _parser()
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument(
        "--grey", type=Path, metavar="PICTURE", help="what the model made of the noisy grey"
    )
    _add_folders(parser)
    chosen = parser.parse_args(arguments)
    found = gathered(chosen.results, chosen.references, chosen.low)
    _report(_scores_of(chosen, found), chosen.scores)
    return 0


def run_compare(arguments: list[str]) -> int:
    parser = _parser()
    for name in ("first", "second"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    _add_folders(parser)
    chosen = parser.parse_args(arguments)
    chosen.grey = None
    runs = []
    for path in (chosen.first, chosen.second):
        if path.is_dir():
            found = gathered(path, chosen.references, chosen.low)
            runs.append(_scores_of(chosen, found))
        else:
            runs.append(scoring.read(path))
    text, record = comparison((runs[0], runs[1]), (str(chosen.first), str(chosen.second)))
    print(text)
    if chosen.scores:
        scoring.write(record, chosen.scores)
    return 0


def run_grey(arguments: list[str]) -> int:
    parser = _parser()
    parser.add_argument("picture", type=Path, metavar="PICTURE.png")
    artefacts.noisy_grey().save(parser.parse_args(arguments).picture)
    return 0


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=f"{__doc__}{HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
    )


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--references", type=Path, metavar="DIR", help="what results should be")
    parser.add_argument("--low", type=Path, metavar="DIR", help="what results were made of")
    parser.add_argument("--device", default="auto", help="of networks, for torch (default: auto)")
    _add_scoring(parser)


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="see above")
    parser.add_argument(
        "--border",
        type=int,
        default=BORDER,
        help="pixels that PSNR-Y and SSIM-Y leave out; papers: 0 (default: %(default)s)",
    )
    parser.add_argument("--fetch", action="store_true", help="weights of networks may be fetched")
    parser.add_argument("--scores", type=Path, metavar="FILE.json", help="scores are written there")


def _load(
    chosen: argparse.Namespace, default: tuple[str, ...], given: set[str], device: str
) -> list[scoring.Loaded]:
    if chosen.border < 0:
        raise InputError(f"border is {chosen.border}; 0 pixels or more are expected")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    lenient = chosen.metrics is None
    names = default if lenient else chosen.metrics
    return scoring.load(names, given, lenient=lenient, fetch=chosen.fetch, device=device)


def _scores_of(chosen: argparse.Namespace, found: dict[str, Picture]) -> dict[str, scoring.Row]:
    ways = {REFERENCE: chosen.references, LOW: chosen.low, MODEL: chosen.grey}
    given = {kind for kind, way in ways.items() if way is not None}
    loaded = _load(chosen, OF_RESULTS, given, chosen.device)
    of_model = {
        one.metric.title: artefacts.noise_left(opened(chosen.grey))
        for one in loaded
        if one.run is None
    }
    return score_set(found, loaded, chosen.border, of_model)


def _report(rows: dict[str, scoring.Row], path: Path | None) -> None:
    print(scoring.table(rows))
    if path:
        scoring.write(rows, path)


def main(arguments: list[str]) -> int:
    form = arguments[0] if arguments and arguments[0] in FORMS else ""
    runs = {"score": run_score, "compare": run_compare, "grey": run_grey}
    try:
        return runs[form](arguments[1:]) if form else run_restoring(arguments)
    except InputError as error:
        print(error)
        return NOT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
