"""What results are made of: pictures from formulas, and models from the commit's own data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from names import find
from safetensors.torch import load_file
from torch import Tensor

GOLDEN_SIDES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)  # of the model that numbers were recorded with
SMALL_SIDES = (1, 2, 3, 4)  # the same weights on tiles of 64 pixels: a hundredth of the time
NSARM_SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32)  # 512 pixels
NSARM_DATA = ("nsarm_tiny.safetensors", "nsarm_tiny_vae.safetensors")
VARSR_RELEASE = ("VQVAE.pth", "VARSR.pth")
NSARM_RELEASE = ("NSARM.pth", "infinity_vae_d56_f8_14_patchify.pth")


def picture(
    height: int, width: int, *, channels: int = 3, images: int = 1, seed: int = 0
) -> Tensor:
    """Gratings, a disc and noise: (images, channels, height, width) float32 in [0, 1]."""
    random = np.random.default_rng([seed, height, width, channels, images])
    y, x = np.mgrid[0:height, 0:width] / 24
    speed = random.uniform(-1.5, 1.5, (2, images, channels, 1, 1))
    phase = random.uniform(0, 6, (images, channels, 1, 1))
    values = 0.5 + 0.3 * np.sin(2 * np.pi * (speed[0] * x + speed[1] * y) + phase)
    disc = (x - x.max() / 2) ** 2 + (y - y.max() / 2) ** 2 < (min(y.max(), x.max()) / 3) ** 2
    values = np.where(disc, values[..., ::-1, :] ** 2, values)
    values += random.normal(0, 0.03, values.shape)
    return torch.from_numpy(np.clip(values, 0, 1).astype(np.float32))


def pixels(height: int, width: int, *, channels: int = 3, seed: int = 0) -> np.ndarray:
    """(height, width, channels) uint8."""
    values = picture(height, width, channels=channels, seed=seed)[0]
    return (values.movedim(0, -1) * 255).round().byte().numpy()


class Materials:
    """Everything is made once, when it is first asked for.

    root:        of the commit's files
    folder:      for files that commands read and write
    environment: of these commands
    """

    def __init__(
        self, root: Path, folder: Path, environment: Mapping[str, str] = os.environ
    ) -> None:
        self.root, self.data, self.folder = root, root / "tests" / "data", folder
        self.environment = environment

    def start(self, module: str, *arguments: object) -> subprocess.Popen[str]:
        """One of the commands of the commit, in a process of its own."""
        call = [sys.executable, "-m", module, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            call, cwd=self.root, env=self.environment, stdout=pipe, stderr=pipe, text=True
        )

    def run(self, module: str, *arguments: object) -> str:
        """Runs it to its end; returns what it printed."""
        running = self.start(module, *arguments)
        printed, said = running.communicate()
        if running.returncode:
            raise RuntimeError(f"{module} ended with {running.returncode}: {said[-2000:]}")
        return printed

    def place(self, name: str) -> Path:
        """A new folder."""
        made = self.folder / name
        made.mkdir(parents=True)
        return made

    @cached_property
    def nano_file(self) -> Path:
        return self.root / "varsr_core" / "assets" / "varsr_nano.safetensors"

    @cached_property
    def nano(self) -> Any:
        """The model that comes with the pack."""
        read = find("load_checkpoint")([self.nano_file])
        return find("varsr.build_model")(read.tensors, fingerprint=read.fingerprint)

    @cached_property
    def golden(self) -> Any:
        """VARSR as its numbers were recorded."""
        return self._varsr(GOLDEN_SIDES)

    @cached_property
    def small(self) -> Any:
        """VARSR with the same networks and fewer, smaller scales."""
        return self._varsr(SMALL_SIDES)

    def _varsr(self, sides: tuple[int, ...]) -> Any:
        reference = {k: t for part in self.varsr_parts(sides).values() for k, t in part.items()}
        with torch.inference_mode(False):
            weights = find("varsr.convert")(reference)
            identity = find("fingerprint")(weights)
            return find("varsr.build_model")(weights, fingerprint=identity)

    def varsr_parts(self, sides: tuple[int, ...]) -> dict[str, dict[str, Tensor]]:
        """Tensors by the released names, in the parts that the manifest has them in."""
        recipe = _module(next(self.root.glob("tests/*/weight_recipe.py")))
        manifest = json.loads((self.data / "varsr_tiny_manifest.json").read_text())
        return {
            part: {
                name: _varsr_tensor(recipe, name, shape, sides)
                for name, (shape, _) in tensors.items()
            }
            for part, tensors in manifest.items()
        }

    @cached_property
    def nsarm_reference(self) -> dict[str, Tensor]:
        """Tensors by the released names."""
        return {k: t for file in NSARM_DATA for k, t in load_file(self.data / file).items()}

    @cached_property
    def nsarm(self) -> Any:
        with torch.inference_mode(False):
            weights = find("nsarm.convert")(self.nsarm_reference)
            identity = find("fingerprint")(weights)
            return find("nsarm.build_model")(weights, sides=NSARM_SIDES, fingerprint=identity)

    @cached_property
    def text(self) -> Tensor:
        """(n, text width) features of a prompt."""
        return load_file(self.data / "nsarm_trace.safetensors")["in.text_features"]

    @cached_property
    def varsr_release(self) -> list[Path]:
        """Files as VARSR's authors hand them out, of the model with few scales."""
        place = self.place("varsr_release")
        parts = list(self.varsr_parts(SMALL_SIDES).values())
        for name, key, tensors in zip(
            VARSR_RELEASE, ("vae_local", "var_wo_ddp"), parts, strict=True
        ):
            torch.save({"trainer": {key: tensors}}, place / name)
        return [place / name for name in VARSR_RELEASE]

    @cached_property
    def nsarm_release(self) -> list[Path]:
        """Files as NSARM's authors hand them out, with sides of their own."""
        place = self.place("nsarm_release")
        network, autoencoder = (dict(load_file(self.data / file)) for file in NSARM_DATA)
        network["schedule"] = torch.tensor(NSARM_SIDES)
        torch.save({"trainer": {"gpt_fsdp": network}}, place / NSARM_RELEASE[0])
        torch.save({"vae": autoencoder}, place / NSARM_RELEASE[1])
        return [place / name for name in NSARM_RELEASE]

    @cached_property
    def nsarm_file(self) -> Path:
        """The same as one file, by the converter."""
        made = self.folder / "nsarm.safetensors"
        self.run("varsr_core.convert", *self.nsarm_release, "-o", made, "--dtype", "fp32")
        return made


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be read")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _varsr_tensor(
    recipe: ModuleType, name: str, shape: list[int], sides: tuple[int, ...]
) -> Tensor:
    """One tensor of the recipe; those whose shape depends on the scales get that of `sides`."""
    prefix, tokens = sides[-1] ** 2, sum(side * side for side in sides)
    if name == "lvl_1L":
        counts = [prefix, *(side * side for side in sides)]
        numbers = np.repeat([0, *range(len(sides))], counts)
        return torch.from_numpy(numbers)[None]
    if name == "attn_bias_for_masking":
        return torch.zeros(1, 1, 1, 1).expand(1, 1, prefix + tokens, prefix + tokens)
    if name == "pos_start":
        shape = [1, prefix + 1, shape[2]]
    if name == "lvl_embed.weight":
        shape = [len(sides), shape[1]]
    values = recipe.tensor(name, shape, 0)
    return torch.from_numpy(np.asarray(values).reshape(shape))
