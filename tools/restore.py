"""Restores every picture of a folder with the core library, without ComfyUI.

    python tools/restore.py IN OUT [--model FILE] [--scale 4] [--guidance 3] [--refine 1] [--seed 0]

Without --model, the small model that comes with the pack. Results are PNGs of the inputs' names.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from varsr_core.checkpoint import load_checkpoint
from varsr_core.upscale import UpscaleSettings, upscale
from varsr_core.varsr.release import NANO_FILE
from varsr_core.varsr.restorer import VARSRRestorer
from varsr_core.varsr.sample import RefineSettings, SampleSettings
from varsr_core.varsr.weights import build_model

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def restorer(arguments: argparse.Namespace) -> VARSRRestorer:
    model = build_model(load_checkpoint([arguments.model]).tensors)
    guidance = arguments.guidance
    sampling = SampleSettings(guidance, top_k=arguments.top_k, temperature=arguments.temperature)
    return VARSRRestorer(model, sampling, RefineSettings(guidance, strength=arguments.refine))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=NANO_FILE)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--guidance", type=float, default=SampleSettings.guidance)
    parser.add_argument("--top-k", type=int, default=SampleSettings.top_k)
    parser.add_argument("--temperature", type=float, default=SampleSettings.temperature)
    parser.add_argument("--refine", type=float, default=RefineSettings.strength)
    parser.add_argument("--color-fix", default=UpscaleSettings.color_fix)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = restorer(arguments)
    settings = UpscaleSettings(color_fix=arguments.color_fix)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(p for p in arguments.folder.iterdir() if p.suffix.lower() in SUFFIXES):
        start = time.perf_counter()
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
        image = pixels.permute(2, 0, 1)[None].float() / 255
        result = upscale(image, arguments.scale, chosen, seed=arguments.seed, settings=settings)
        rows = result[0].permute(1, 2, 0).mul(255).round().byte().numpy()
        Image.fromarray(rows).save(arguments.out / f"{path.stem}.png")
        print(f"{path.name}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
