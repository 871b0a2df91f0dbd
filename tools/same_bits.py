"""Shows that two commits make the same numbers: results of both, by hash, and what differs.

    python tools/same_bits.py OLD NEW [--only PATTERN] [--expect NAME:TOLERANCE] [--keep DIR]
    python tools/same_bits.py OLD NEW --journals

Both commits are checked out beside each other and make the same results: float32, one thread, the
same pictures. What a result is, tools/bits/*_results.py say; where its parts live in a commit,
tools/bits/names.py. Changes that are not committed have a name as well: `git stash create`.

--expect  results that may differ: by at most the tolerance; NAME may be a pattern
--journals  instead: whether NEW goes on with what OLD left behind, and does nothing of it again

Exit code: 0 all is equal or as expected, 1 something differs or could not be made.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BITS = Path(__file__).resolve().parent / "bits"
HASH_DIGITS = 10
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Pair:
    """One result of both commits. A file that is not there has no hash."""

    name: str
    old: Path
    new: Path

    @property
    def hashes(self) -> tuple[str, str]:
        return _hash(self.old), _hash(self.new)

    @property
    def equal(self) -> bool:
        old, new = self.hashes
        return old == new != ""

    @property
    def difference(self) -> float | None:
        """The largest; None where the two cannot be compared."""
        if not (self.old.exists() and self.new.exists()):
            return None
        old, new = np.load(self.old), np.load(self.new)
        if old.shape != new.shape or old.dtype != new.dtype:
            return None
        away = np.abs(old.astype(np.float64) - new.astype(np.float64))
        return float(away.max(initial=0.0)) if np.isfinite(away).all() else None


def _hash(path: Path) -> str:
    """Of the bytes of an array, with its shape and type before them."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:HASH_DIGITS] if path.exists() else ""


def main() -> int:
    arguments = _parse()
    try:
        with checkouts(arguments.old, arguments.new) as (old, new):
            if arguments.journals:
                sys.path.insert(0, str(BITS))
                from journals import continued

                return continued(old, new, environment)
            with tempfile.TemporaryDirectory() as folder:
                results = arguments.keep or Path(folder)
                for name, root in (("old", old), ("new", new)):
                    _make(root, results / name, arguments.only)
                return _report(results, arguments.expect)
    except subprocess.CalledProcessError as error:
        print(error.stderr or error, file=sys.stderr)
        return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="OLD", help="a commit of this repository")
    parser.add_argument("new", metavar="NEW", help="another one")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="results, e.g. 'nsarm.*'")
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        type=_expected,
        metavar="NAME:TOLERANCE",
        help="of a result that may differ by so much; can be given several times",
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keeps the arrays of both there")
    parser.add_argument("--journals", action="store_true", help="compares no numbers: see above")
    return parser.parse_args()


def _expected(text: str) -> tuple[str, float]:
    name, _, tolerance = text.rpartition(":")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:TOLERANCE")
    return name, float(tolerance)


@contextmanager
def checkouts(*commits: str) -> Iterator[list[Path]]:
    """The files of each commit in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        made: list[Path] = []
        try:
            for number, commit in enumerate(commits):
                place = Path(folder).resolve() / f"{number}"
                _git("worktree", "add", "--detach", "--quiet", str(place), commit)
                made.append(place)
            yield made
        finally:
            for place in made:
                _git("worktree", "remove", "--force", str(place))


def _git(*arguments: str) -> None:
    call = ["git", "-C", str(ROOT), *arguments]
    subprocess.run(call, check=True, capture_output=True, text=True)


def environment(root: Path) -> Mapping[str, str]:
    """Of all that runs with the modules of a checkout."""
    fixed = dict.fromkeys(ONE_THREAD, "1")
    fixed |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    return {**os.environ, **fixed, "CUDA_VISIBLE_DEVICES": ""}


def _make(root: Path, results: Path, pattern: str) -> None:
    if any(results.glob("*.*")):
        sys.exit(f"{results} is not empty; give another folder with --keep")
    print(f"{results.name}: seconds, arrays, result", flush=True)
    call = [sys.executable, str(BITS / "child.py"), str(root), str(results.resolve()), pattern]
    subprocess.run(call, check=True, cwd=root, env=environment(root))


def _report(results: Path, expected: list[tuple[str, float]]) -> int:
    """Prints the table; returns the exit code."""
    names = sorted({path.stem for path in results.glob("*/*.npy")})
    pairs = [Pair(n, results / "old" / f"{n}.npy", results / "new" / f"{n}.npy") for n in names]
    width = max((len(name) for name in names), default=0)
    failed = 0
    print(f"\n{'result':{width}}  {'old':{HASH_DIGITS}}  {'new':{HASH_DIGITS}}")
    for pair in pairs:
        said, good = _verdict(pair, expected)
        failed += not good
        old, new = (text or "-" for text in pair.hashes)
        print(f"{pair.name:{width}}  {old:{HASH_DIGITS}}  {new:{HASH_DIGITS}}  {said}")
    errors = sorted(results.glob("*/*.error"))
    for path in errors:
        print(f"\n{path.parent.name}: {path.stem} could not be made\n{path.read_text()}")
    equal = sum(pair.equal for pair in pairs)
    made = {path.parent.name for path in results.glob("*/*.npy")}
    print(f"\n{len(pairs)} arrays: {equal} equal, {failed} not as expected; {len(errors)} errors")
    return 0 if made == {"old", "new"} and not failed and not errors else 1


def _verdict(pair: Pair, expected: list[tuple[str, float]]) -> tuple[str, bool]:
    """In words, and whether it is good."""
    if pair.equal:
        return "equal", True
    difference = pair.difference
    if difference is None:
        return "DIFFERS, in shape or kind, or one is missing", False
    allowed = [tolerance for name, tolerance in expected if fnmatch(pair.name, name)]
    if allowed and difference <= max(allowed):
        return f"differs by {difference:.3g}, as expected", True
    return f"DIFFERS by {difference:.3g}", False


if __name__ == "__main__":
    sys.exit(main())
