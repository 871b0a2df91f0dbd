"""All measuring of time, memory and agreement, in one command.

python tools/benchmarks COMMAND [OPTIONS]      # COMMAND --help says more
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

COMMANDS = {
    "agreement": "how often a faster precision chooses the same tokens",
    "bench": "where the time of a picture goes, against what the chip can do",
    "canvas_cost": "memory and time against the size of the canvas",
    "ceilings": "what the chip can do at most",
    "choices": "what faster choices cost in time and picture",
    "contact_sheet": "pictures of several folders side by side",
    "default_cost": "the built-in model in a real ComfyUI",
    "full_size": "the whole way of a full-size release in a real ComfyUI",
    "full_size_classes": "the same of the class-to-image model, on both hosts",
    "k2n_cost": "what K2N adds to a tile of the released model",
    "nsarm_agreement": "the same as agreement, of NSARM",
    "preview_cost": "live previews in a real ComfyUI",
    "progress": "how far the bar is from the time",
    "seams": "how far neighbouring tiles disagree",
    "soak": "memory, handles and interruptions over many prompts in a real ComfyUI",
    "steady": "what steady frames gain and cost in films",
    "tiles": "a picture of four tiles beside one of a single tile",
}
IN_COMFYUI = ("default_cost", "full_size", "full_size_classes", "preview_cost", "soak")


def main() -> None:
    shown = "\n".join(f"    {name:18} {told}" for name, told in COMMANDS.items())
    listing = argparse.ArgumentParser(
        prog="python tools/benchmarks",
        description=f"{__doc__}\n{shown}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    name = listing.parse_args(sys.argv[1:2]).command
    if name in IN_COMFYUI:
        from tools.host import in_environment

        in_environment()
    command = import_module(f"tools.benchmarks.{name}")
    parser = argparse.ArgumentParser(
        prog=f"python tools/benchmarks {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_options(parser)
    command.run(parser.parse_args(sys.argv[2:]))


if __name__ == "__main__":
    main()
