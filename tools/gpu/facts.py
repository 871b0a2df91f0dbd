"""Step 0: the card, what drives it, and whether a model of full size is made on it."""

from __future__ import annotations

from tools.gpu.chip import Chip
from tools.gpu.networks import DTYPES, released
from tools.gpu.notes import Notes
from varsr_core.runtime.device import pick_dtype
from varsr_core.varsr.memory import tile_bytes


def run(chip: Chip, notes: Notes) -> None:
    notes.add("chip", chip.facts())
    names = {dtype: name for name, dtype in DTYPES.items()}
    notes.add("choices", {"auto": names[pick_dtype("auto", chip.device)]})

    def make() -> dict[str, object]:
        with chip.memory() as memory:
            network = released(chip, "bf16")
        weights = sum(parameter.nbytes for parameter in network.parameters())
        return {
            "weights GB": weights / 1e9,
            "peak GB": memory.peak / 1e9,
            "estimate of a tile GB": tile_bytes(network) / 1e9,
        }

    notes.attempt("random weights", make)
