"""Where things lie that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
DATA = ROOT / "tests" / "data"
KITTEN = DATA / "kitten.png"
NANO = ROOT / "varsr_core" / "training" / "recipes" / "nano.json"
INSIDE = ROOT / "tests" / "helpers" / "inside"  # scripts that run as ComfyUI
