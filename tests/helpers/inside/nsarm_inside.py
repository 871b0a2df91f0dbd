"""What only the inside of ComfyUI shows of NSARM; see comfy_inside.py.

    python nsarm_inside.py HOST PACK BASE

Prints one JSON object; see test_nsarm_inside.py for what is expected of it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from comfy_card import CARD, copies_by_room
from comfy_inside import load_pack
from torch import Tensor

CPU = torch.device("cpu")


def main() -> None:
    inside = Inside(load_pack(*sys.argv[1:]))
    measured = {
        "partial load": {
            file: inside.partial_load(file) for file in ("micro_fp32", "micro_bf16", "micro_fp8")
        },
        "out of memory": inside.out_of_memory(),
        "parts": inside.parts(),
        "copies": {file: inside.copies(file) for file in ("micro_bf16", "micro_fp8")},
    }
    sys.stdout.write(json.dumps(measured))


class Inside:
    """The pack as ComfyUI has loaded it; package: its name."""

    def __init__(self, package: str) -> None:
        self.package = package

    def module(self, name: str) -> Any:
        return import_module(f"{self.package}.{name}")

    def load(self, file: str = "micro_fp32", dtype: str = "fp32") -> Any:
        return self.module("nodes.nsarm.loading").load(f"{file}.safetensors", dtype)

    def restore(self, loaded: Any, *, at_once: int = 1, restorer: Any = None) -> Tensor:
        """A picture of six tiles, none waiting for another, through the nodes' own execution."""
        settings = self.module("varsr_core.nsarm.sampling").SampleSettings(temperature=0)
        execution = self.module("nodes.host").execution(loaded.sampling(settings, None))
        if at_once > 1:
            execution = replace(execution, prepare=lambda: at_once)
        image = torch.rand(1, 3, 48, 72, generator=torch.Generator().manual_seed(0))
        core = self.module("varsr_core.upscaling")
        tiling = self.module("varsr_core.tiling.consistency").Tiling("independent")
        return core.upscale(
            image,
            4.0,
            restorer or loaded.restorer(settings),
            settings=core.UpscaleSettings(tiling),
            execution=execution,
        )

    def partial_load(self, file: str) -> dict[str, Any]:
        """The model when ComfyUI has room for none of its layers, and when it has room for all."""
        loaded = self.load(file)
        whole = self.restore(loaded)
        flagged = []
        for patcher in loaded.parts.values():
            patcher.detach()
            patcher.load(CPU, lowvram_model_memory=1)
            flagged.append(patcher.model.model_lowvram)
        modules = {
            name: module
            for name, module in loaded.network.named_modules()
            if list(module.parameters(recurse=False))
        }
        kinds = {
            type(m).__name__ for m in modules.values() if not getattr(m, "comfy_cast_weights", 0)
        }
        return {
            "partial": flagged,
            "with children": [name for name, m in modules.items() if list(m.children())],
            "not cast": sorted(kinds),
            "buffers": [name for name, _ in loaded.network.named_buffers()],
            "difference": (self.restore(loaded) - whole).abs().max().item(),
        }

    def copies(self, file: str) -> dict[str, Any]:
        """How weights come to a card that holds none or half of them; see comfy_card.py."""
        network = self.load(file, "bf16").network
        restorer = self.module("varsr_core.nsarm.restorer").NSARMRestorer(
            network, self.module("varsr_core.nsarm.sampling").SampleSettings(temperature=0)
        )
        seeds = [self.module("varsr_core.tiling.noise").TileSeed(0, 0)]

        def work() -> None:
            side = network.config.lq_size
            state = restorer.start(torch.empty(1, 3, side, side, device=CARD), seeds)
            for k in range(restorer.steps):
                restorer.step(state, k)
            network.decode(state.latent)

        return copies_by_room(network, work)

    def out_of_memory(self) -> dict[str, Any]:
        """A run in which only `fitting` tiles fit into memory, after more were tried."""
        loaded = self.load()
        expected = self.restore(loaded)
        error = import_module("comfy.model_management").OOM_EXCEPTION
        found = {}
        for fitting in (2, 1):
            tried: list[int] = []
            encode = loaded.network.encode

            def encode_if_fitting(
                tiles: Tensor,
                fitting: int = fitting,
                tried: list[int] = tried,
                encode: Any = encode,
            ) -> Tensor:
                tried.append(len(tiles))
                if len(tiles) > fitting:
                    raise error("not enough memory")
                return encode(tiles)

            loaded.network.encode = encode_if_fitting
            result = self.restore(loaded, at_once=4)
            loaded.network.encode = encode
            difference = (result - expected).abs().mean().item()
            found[str(fitting)] = {"tried": tried, "difference": difference}
        return found

    def parts(self) -> dict[str, Any]:
        """Which parts ComfyUI is asked for in a run, and whether they share any weights."""
        loaded = self.load()
        management = import_module("comfy.model_management")
        asked, real = [], management.load_models_gpu
        names = {id(patcher): part for part, patcher in loaded.parts.items()}

        def load_models_gpu(patchers: list[Any], *args: Any, **kwargs: Any) -> Any:
            asked.extend(names[id(patcher)] for patcher in patchers)
            return real(patchers, *args, **kwargs)

        management.load_models_gpu = load_models_gpu
        self.restore(loaded)
        management.load_models_gpu = real
        held = [{id(p) for p in patcher.model.parameters()} for patcher in loaded.parts.values()]
        return {
            "asked": asked,
            "all": sum(map(len, held)) == len(list(loaded.network.parameters())),
            "apart": len(set.union(*held)) == sum(map(len, held)),
        }


if __name__ == "__main__":
    main()
