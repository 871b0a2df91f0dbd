"""Makes the results of one commit; `same_bits.py` runs it with that commit's modules.

python child.py ROOT RESULTS [PATTERN]
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import command_results  # noqa: F401
import nsarm_results  # noqa: F401
import torch
import training_results  # noqa: F401
import varsr_results  # noqa: F401
from materials import Materials
from registry import RESULTS, save


def main(root: Path, results: Path, pattern: str = "*") -> int:
    """root: of the commit's files; what cannot be made leaves a note with its traceback."""
    spec = find_spec("varsr_core")
    if spec is None or not str(spec.origin).startswith(str(root)):
        raise ImportError(f"varsr_core would be taken from {spec and spec.origin}, not from {root}")
    torch.set_num_threads(1)
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        materials = Materials(root, Path(folder))
        for name, make in RESULTS.items():
            if not fnmatch(name, pattern):
                continue
            began = time.perf_counter()
            torch.manual_seed(0)
            try:
                count = save(results, name, make(materials))
            except Exception:
                (results / f"{name}.error").write_text(traceback.format_exc())
                count = 0
            print(f"  {time.perf_counter() - began:6.1f} s  {count:3}  {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), *sys.argv[3:4]))
