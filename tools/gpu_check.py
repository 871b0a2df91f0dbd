"""Whether the pack is right on a graphics card, how fast it is there, and what memory it takes.

    python tools/gpu_check.py --out DIR [--steps 0-7] [--minutes 9] [--comfyui FOLDER]
                              [--model FILE]

Needs a card that torch sees, torch 2.11 or newer with numpy, einops and safetensors (ComfyUI's
Python has all of it), and nothing else running on the card.

    0 the card                                4 speed by stage
    1 beside the CPU, and other precisions    5 memory
    2 tiles at once, and what attends         6 a real ComfyUI, which --comfyui names
    3 compiled and recorded                   7 overflow

Each part runs in a process of its own, under its own time limit. DIR gets its findings as JSON as
soon as they are there, what it complained of as .log, and report.md, the whole as a table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def main() -> None:
    options = _options()
    if options.list_files:
        from tools.gpu.listing import listed

        print(*(path.as_posix() for path in listed(ROOT)), sep="\n")
    elif options.part:
        _run_part(options)
    else:
        _run_all(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--steps", default="0-7", help="such as 0-5 or 0,3 (default: %(default)s)")
    add("--minutes", type=float, default=9, help="for all of it (default: %(default)s)")
    add("--out", type=Path, metavar="DIR", help="a folder for what is found")
    add("--comfyui", type=Path, metavar="FOLDER", help="with ComfyUI's main.py, for step 6")
    add("--model", type=Path, metavar="FILE", help="a VARSR model for steps 1 and 7")
    add("--rehearse", action="store_true", help="in small, on the CPU")
    add("--list-files", action="store_true", help="what it reads of this folder")
    add("--part", help=argparse.SUPPRESS)  # of the processes that this one starts
    options = parser.parse_args()
    if not options.list_files and options.out is None:
        parser.error("--out is missing: name a folder for what is found")
    return options


def _run_all(options: argparse.Namespace) -> None:
    from tools.gpu.children import run_all
    from tools.gpu.cuda import Cuda
    from tools.gpu.parts import chosen
    from tools.gpu.report import report

    try:
        parts = chosen(options.steps)
    except ValueError as error:
        raise SystemExit(f"--steps {options.steps}: {error}") from None
    if not options.rehearse:
        Cuda()  # or it says what is missing
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(out)]
    for name in ("comfyui", "model"):
        path = getattr(options, name)
        command += [f"--{name}", str(path.resolve())] if path else []
    command += ["--rehearse"] if options.rehearse else []
    files = run_all(parts, command, out, options.minutes)
    text = report(files, " ".join(["python tools/gpu_check.py", *sys.argv[1:]]))
    (out / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nAll of it lies in {out}.")


def _run_part(options: argparse.Namespace) -> None:
    from tools.gpu.cuda import Cuda
    from tools.gpu.notes import Notes
    from tools.gpu.parts import PARTS

    part = next(one for one in PARTS if one.name == options.part)
    if options.rehearse:
        from tools.gpu.rehearsal import Rehearsal

        chip = Rehearsal()
    else:
        chip = Cuda()
    notes = Notes(part.file(options.out), part.name)
    part.run(chip, notes, vars(options))
    notes.end("done")


if __name__ == "__main__":
    main()
