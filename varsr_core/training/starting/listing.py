"""What a run has taken of the files it starts from, tensor by tensor."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

LISTING_FILE = "start.json"
TAKEN, CUT, FOLDED, NEW, LEFT = "taken", "cut", "folded", "new", "left out"


@dataclass(frozen=True)
class Listing:
    """What became of every tensor, and how many parameters each has.

    files:      that the run starts from
    modulation: how it is trained
    taken:      as it is
    cut:        its first rows
    folded:     computed from taken and cut ones: tables of modulation
    new:        drawn
    left_out:   of the files, for which the model has no place
    """

    files: list[str]
    modulation: str
    taken: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    folded: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, dict[str, int]]:
        return {TAKEN: self.taken, CUT: self.cut, FOLDED: self.folded, NEW: self.new,
                LEFT: self.left_out}  # fmt: skip

    def log(self) -> None:
        """A line for each kind, with the parts that its tensors belong to."""
        logger.info("start: %s; modulation: %s", " and ".join(self.files), self.modulation)
        for kind, tensors in self.kinds.items():
            if tensors:
                parts = Counter(".".join(name.split(".")[:2]) for name in tensors)
                shown = "" if kind == TAKEN else f": {', '.join(sorted(parts))}"
                count = sum(tensors.values())
                logger.info("%s: %s parameters in %d tensors%s", kind, f"{count:,}", len(tensors),
                            shown)  # fmt: skip

    def write(self, folder: Path) -> None:
        """As LISTING_FILE."""
        folder.mkdir(parents=True, exist_ok=True)
        parameters = {kind: sum(tensors.values()) for kind, tensors in self.kinds.items()}
        content = {
            "files": self.files,
            "modulation": self.modulation,
            "parameters": parameters,
            "tensors": self.kinds,
        }
        (folder / LISTING_FILE).write_text(json.dumps(content, indent=1) + "\n")
