"""The steps of the check, in the order in which they run, and how long each may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from tools.gpu.chip import Chip
from tools.gpu.notes import Notes

SLOWER = 2  # times what a fast card takes is a part's limit
# torch 2.9 took the device's name out of this variable's.
ALLOCATORS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@dataclass(frozen=True)
class Part:
    """What runs in a process of its own.

    seconds: on a fast card, with the start of Python; variant: which of those that a step has
    takes:   what it is given of the command's options
    """

    step: int
    module: str
    seconds: int
    variant: str = ""
    takes: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.step} {self.module} {self.variant}".strip()

    @property
    def limit(self) -> float:
        """Seconds after which it is stopped."""
        return self.seconds * SLOWER

    def file(self, folder: Path) -> Path:
        """Of what it finds."""
        return folder / f"{self.name.replace(',', '').replace(' ', '_')}.json"

    def run(self, chip: Chip, notes: Notes, given: Mapping[str, Path | None]) -> None:
        method = self.variant.partition(",")[0]
        options = ([method] if method else []) + ([given[self.takes]] if self.takes else [])
        import_module(f"tools.gpu.{self.module}").run(chip, notes, *options)


PARTS = (
    Part(0, "facts", 15),
    Part(1, "parity", 60, takes="model"),
    Part(2, "at_once", 30),
    Part(3, "acceleration", 25, "off"),
    Part(3, "acceleration", 60, "compile"),
    Part(3, "acceleration", 25, "graphs"),
    Part(3, "acceleration", 45, "both"),
    Part(
        3,
        "acceleration",
        25,
        "graphs, cudaMallocAsync",
        environment=dict.fromkeys(ALLOCATORS, "backend:cudaMallocAsync"),
    ),
    Part(4, "speed", 60),
    Part(5, "memory", 60),
    Part(6, "comfyui", 120, takes="comfyui"),
    Part(7, "overflow", 20, takes="model"),
)
STEPS = range(PARTS[-1].step + 1)


def chosen(text: str) -> list[Part]:
    """Of steps as users write them: 0-5, 7. Raises ValueError."""
    steps: set[int] = set()
    for item in text.split(","):
        first, _, last = item.partition("-")
        wanted = range(int(first), int(last or first) + 1)
        if not wanted or wanted[0] not in STEPS or wanted[-1] not in STEPS:
            raise ValueError(f"{item.strip()!r} is no step; 0 to {STEPS[-1]} are expected")
        steps.update(wanted)
    return [part for part in PARTS if part.step in steps]
