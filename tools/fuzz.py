"""Hunts for faults with random hostile cases; prints what came of them, and how to repeat each.

    python tools/fuzz.py loader --cases 2000 --seed 1    # damaged and hostile model files
    python tools/fuzz.py nodes  --cases 500 --seed 1     # graphs on a real ComfyUI
    python tools/fuzz.py batch  --cases 100 --seed 1     # hostile folders for the command
    python tools/fuzz.py kill   --cases 60 --seed 1      # kill -9 of the command and the converter
    python tools/fuzz.py loader --seed 1 --only 17       # one case again

A case is made from nothing but (seed, number). What may come of it is told by kinds of errors and
by what lies on the disk afterwards, never by the words of a message. Exit code: 0 no fault, 1 some.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

Outcomes = Iterator["Outcome"]

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.fuzzing.children import in_children
from tools.fuzzing.common import Outcome, Report
from tools.host import NEWEST, OLDEST, in_environment


def main() -> int:
    arguments = _parse()
    in_environment()  # starts this again where torch is
    only = [] if arguments.only is None else [arguments.only]
    numbers = only or range(arguments.cases)
    report = Report(arguments.fuzzer, arguments.seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for outcome in _outcomes(arguments, numbers, folder.resolve()):
            report.add(outcome)
    return report.end()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fuzzer", choices=("loader", "nodes", "batch", "kill"))
    parser.add_argument("--cases", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one case alone")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once, of loader and batch")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="the files of all cases stay there"
    )
    hosts = (NEWEST, OLDEST)
    parser.add_argument("--host", choices=hosts, default=NEWEST, help="ComfyUI, for nodes")
    parser.add_argument(
        "--of", choices=("command", "converter", "both"), default="both", help="what to kill"
    )
    return parser.parse_args()


def _outcomes(arguments: argparse.Namespace, numbers: Sequence[int], folder: Path) -> Outcomes:
    """Only what one fuzzer needs is imported."""
    seed = arguments.seed
    if arguments.fuzzer == "nodes":
        from tools.fuzzing import nodes

        host = in_environment().hosts[arguments.host]
        return nodes.outcomes(host, seed, numbers, folder)
    if arguments.fuzzer == "kill":
        from tools.fuzzing import kill

        return kill.outcomes(arguments.of, seed, numbers, folder)
    trial = import_module(f"tools.fuzzing.{arguments.fuzzer}").trial
    keep = arguments.keep is not None
    return in_children(trial, seed, numbers, folder, jobs=arguments.jobs, keep=keep)


if __name__ == "__main__":
    sys.exit(main())
