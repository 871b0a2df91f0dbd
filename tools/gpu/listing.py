"""The files of the tree that the check reads, so that they alone can be brought to a machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LARGEST = 44e6  # bytes that they may have together
READ = (
    "tools/__init__.py",
    "tools/gpu_check.py",
    "tools/gpu/*.py",
    "tools/random_checkpoint.py",
    "tools/random_nsarm.py",
    *(f"tools/benchmarks/{name}.py" for name in (
        "agreement", "bench", "ceilings", "common", "plain_varsr", "stage_clock"
    )),
    "varsr_core/**/*.py",
    "varsr_core/assets/*.safetensors",
    "tests/helpers/__init__.py",
    "tests/helpers/models.py",
    "tests/helpers/live_bytes.py",
    "tests/data/nsarm*_manifest.json",
    "tests/data/*.png",
)  # fmt: skip
READ_BY_COMFYUI = (
    "__init__.py",
    "nodes/**/*.py",
    "web/**/*",
    "locales/**/*",
    "example_workflows/api/*.json",
    "tools/host.py",
    "tools/environment.py",
    "tests/helpers/comfyui/*.py",
    "tests/helpers/paths.py",
    "pyproject.toml",
)


def listed(root: Path) -> Iterator[Path]:
    """Relative to the root of the tree, each once."""
    found = {
        path.relative_to(root)
        for pattern in (*READ, *READ_BY_COMFYUI)
        for path in root.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    yield from sorted(found)
