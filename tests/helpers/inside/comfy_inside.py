"""What only the inside of ComfyUI shows, measured in a process that is ComfyUI without its server.

    python comfy_inside.py HOST PACK BASE

HOST: folder with ComfyUI's main.py; PACK: folder of the pack; BASE: base directory with models.
Prints one JSON object; see test_inside_comfyui.py for what is expected of it. Modules of ComfyUI
and of the pack are imported late, once HOST is on the path and its options are set.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from comfy_card import CARD, copies_by_room
from torch import Tensor

CHECKPOINT = "micro.safetensors"
KERNELS = ("attention_basic", "attention_split", "attention_sub_quad", "attention_pytorch")

# rows, heads, queries, keys, head_dim: first and later scales, more keys than queries
ATTENTION_SHAPES = ((1, 2, 17, 17, 16), (2, 4, 16, 33, 16), (2, 3, 81, 400, 64))


def main() -> None:
    inside = Inside(load_pack(*sys.argv[1:]))
    measured = {
        "attention": inside.attention(),
        "partial load": inside.partial_load(),
        "out of memory": inside.out_of_memory(),
        "overflow": inside.overflow(),
        "as upscale model": inside.as_upscale_model(),
        "acceleration": inside.acceleration(),
        "recorded": inside.recorded(),
        "copies": {weights: inside.copies(weights) for weights in ("as loaded", "fp8")},
    }
    sys.stdout.write(json.dumps(measured))


def load_pack(host: str, pack: str, base: str) -> str:
    """Turns this process into ComfyUI on the CPU; returns the name it gives the pack's package."""
    sys.path.insert(0, host)
    options = import_module("comfy.cli_args").args
    options.cpu, options.base_directory = True, base
    if os.environ.get("DYNAMIC_VRAM"):  # which main.py turns on where there is a card
        import_module("comfy.memory_management").aimdo_enabled = True
        patchers = import_module("comfy.model_patcher")
        patchers.CoreModelPatcher = patchers.ModelPatcherDynamic
    import_module("utils.extra_config")  # as main.py does, before nodes.py puts comfy/ in front
    asyncio.run(import_module("nodes").load_custom_node(pack))
    return pack.replace(".", "_x_")


class Inside:
    """The pack as ComfyUI has loaded it; package: its name."""

    def __init__(self, package: str) -> None:
        self.package = package

    def module(self, name: str) -> Any:
        return import_module(f"{self.package}.{name}")

    def attention(self) -> dict[str, Any]:
        """Kernel of ComfyUI -> largest difference between it and the core's attention."""
        ours = self.module("nodes.attention")
        core = self.module("varsr_core.varsr.transformer").attention
        kernels = import_module("comfy.ldm.modules.attention")
        chosen = kernels.optimized_attention
        differences = {}
        for name in KERNELS:
            kernels.optimized_attention = getattr(kernels, name)
            differences[name] = max(
                _largest_difference(ours.host_attention(*qkv), core(*qkv))
                for qkv in map(_attention_input, ATTENTION_SHAPES)
            )
        kernels.optimized_attention = chosen
        return {"differences": differences, "cpu takes the core's": ours.pick_attention() is core}

    def partial_load(self) -> dict[str, Any]:
        """The model when ComfyUI has room for none of its layers, and when it has room for all."""
        loaded = self.load()
        whole = self.restore(loaded)
        cpu = torch.device("cpu")
        loaded.patcher.detach()
        loaded.patcher.load(cpu, lowvram_model_memory=1)
        parametrised = {
            name: module
            for name, module in loaded.network.named_modules()
            if list(module.parameters(recurse=False))
        }
        return {
            "partial": loaded.network.model_lowvram,
            "modules": len(parametrised),
            "with children": [name for name, m in parametrised.items() if list(m.children())],
            "not cast": sorted(
                {
                    type(module).__name__
                    for module in parametrised.values()
                    if not getattr(module, "comfy_cast_weights", False)
                }
            ),
            "buffers": [name for name, _ in loaded.network.named_buffers()],
            "difference": _largest_difference(self.restore(loaded), whole),
        }

    def out_of_memory(self) -> dict[str, Any]:
        """A run in which only `fitting` tiles fit into memory, after more were tried."""
        loaded = self.load()
        expected = self.restore(loaded)
        error = import_module("comfy.model_management").OOM_EXCEPTION
        found = {}
        for fitting in (2, 1):
            tried: list[int] = []
            encode = loaded.network.encode_prefix

            def encode_if_fitting(
                tiles: Tensor,
                fitting: int = fitting,
                tried: list[int] = tried,
                encode: Callable[[Tensor], Tensor] = encode,
            ) -> Tensor:
                tried.append(len(tiles))
                if len(tiles) > fitting:
                    raise error("not enough memory")
                return encode(tiles)

            loaded.network.encode_prefix = encode_if_fitting
            result = self.restore(loaded, at_once=4)
            loaded.network.encode_prefix = encode
            difference = _largest_difference(result, expected)
            found[str(fitting)] = {"tried": tried, "difference": difference}
        return found

    def overflow(self) -> dict[str, Any]:
        """A model whose numbers are too large for float16, against the same weights in float32."""
        half, exact = self.load("fp16"), self.load("fp32")
        large = half.network.transformer.blocks[1].fc2.weight
        large.data *= 5e4 / large.abs().max().item()
        kept = dict(half.network.named_parameters())
        for name, parameter in exact.network.named_parameters():
            parameter.data = kept[name].data.to(parameter.dtype)
        told = self.module("varsr_core.tiling.overflow")._tell_once
        found = self.restore(half)
        return {
            "difference": _largest_difference(found, self.restore(exact)),
            "dtype": str(half.network.dtype),
            "told": told.cache_info().currsize,
        }

    def as_upscale_model(self) -> dict[str, Any]:
        """ComfyUI's node for upscale models while memory is short: once, then always."""
        loaded, encode = self.load(), self.load().network.encode_prefix
        node = self.module("nodes.varsr.upscale_model").AsUpscaleModel
        choices = {d.id: d.default for d in node.define_schema().inputs if hasattr(d, "default")}
        wrapped = node.execute(model=loaded, **choices).result[0]
        core = import_module("comfy_extras.nodes_upscale_model").ImageUpscaleWithModel
        error, image = import_module("comfy.model_management").OOM_EXCEPTION, torch.rand(1, 9, 8, 3)
        plain, tried = core.execute(wrapped, image).result[0], []

        def failing(times: int) -> Callable[[Tensor], Tensor]:
            def run(tiles: Tensor) -> Tensor:
                tried.append(len(tiles))
                if len(tried) <= times:
                    raise error("not enough memory")
                return encode(tiles)

            return run

        loaded.network.encode_prefix = failing(1)
        again = core.execute(wrapped, image).result[0]
        tried.clear()
        loaded.network.encode_prefix = failing(1000)
        try:
            core.execute(wrapped, image)
            told = ""
        except error as told_error:
            told = str(told_error)
        return {"difference": _largest_difference(again, plain), "told": told, "tries": len(tried)}

    def acceleration(self) -> dict[str, Any]:
        """A model run another way, and in 8 bits, while patches (as of a LoRA) come and go."""
        loaded = self.load()
        core = self.module("varsr_core.varsr.acceleration")
        compiler = self.module("varsr_core.runtime.compile").Compiler(lambda plain, **_: plain)
        fast = replace(loaded, network=core.accelerated(loaded.network, compiler=compiler))
        name = "transformer.blocks.0.fc1.weight"
        delta = torch.randn(loaded.network.state_dict()[name].shape).mul_(0.5)
        patched = loaded.patcher.clone()
        patched.add_patches({name: ("diff", (delta,))})
        plain = self.restore(loaded)
        runs = {"plain": _largest_difference(self.restore(fast), plain)}
        expected = self.restore(replace(loaded, patcher=patched))
        runs["changed by patches"] = _largest_difference(expected, plain)
        runs["patched"] = _largest_difference(
            self.restore(replace(fast, patcher=patched)), expected
        )
        return runs | {
            "unpatched": _largest_difference(self.restore(fast), plain),
            "own weights": self.own_weights(replace(loaded, patcher=patched), name, delta),
            "partial": self.partial_float8(loaded),
        }

    def recorded(self) -> dict[str, Any]:
        """Recordings after each run, the plain model's between, and what unloading leaves."""
        sys.path.append(str(Path(__file__).parents[1]))
        tapes, cpu = import_module("tapes").Tapes, torch.device("cpu")
        node = self.module("nodes.varsr.accelerate")
        recorder = self.module("varsr_core.runtime.cuda_graphs").Recorder(tapes, device="cpu")
        loaded, kept = self.load(), (node.Recorder, node._can_record)
        node.Recorder, node._can_record = lambda: recorder, lambda: True
        fast = self.accelerated(loaded, "as loaded", "graphs")
        dynamic = replace(loaded, patcher=loaded.patcher.clone())
        dynamic.patcher.is_dynamic = lambda: True
        placed = self.accelerated(dynamic, "as loaded", "graphs")
        node.Recorder, node._can_record = kept
        plain, runs = self.restore(loaded), []
        for model in (fast, fast, fast, loaded, fast):
            difference = _largest_difference(self.restore(model), plain)
            runs.append([recorder.recordings, tapes.recordings, difference])
        found = {"runs": runs, "kept": recorder.kept_bytes(cpu)}
        import_module("comfy.model_management").unload_all_models()
        found["unloaded"] = [recorder.recordings, recorder.kept_bytes(cpu)]
        blocks = (model.network.transformer.blocks[0] for model in (placed, loaded))
        return found | {
            "dynamic": self.module("nodes.host").is_dynamic(placed.patcher),
            "apart": len({*blocks}) == 2,
            "difference": _largest_difference(self.restore(placed), plain),
        }

    def own_weights(self, patched: Any, name: str, delta: Tensor) -> list[float]:
        """Error of the weights that fp8 is made of, before, while and after a patch is put in."""
        runtime = self.module("nodes.host")
        patched.patcher.detach()
        expected = patched.network.state_dict()[name] + delta
        errors = []
        for loaded in (False, True, False):
            if loaded:
                self.restore(patched)
            else:
                patched.patcher.detach()
            errors.append(_largest_difference(runtime.own_weights(patched)[name], expected))
        return errors

    def partial_float8(self, loaded: Any) -> float:
        """Difference that it makes to a model in 8 bits to be loaded partially."""
        small = self.accelerated(loaded, "fp8")
        whole = self.restore(small)
        small.patcher.detach()
        small.patcher.load(torch.device("cpu"), lowvram_model_memory=1)
        return _largest_difference(self.restore(small), whole)

    def copies(self, weights: str) -> dict[str, Any]:
        """How weights come to a card that holds none or half of them; see comfy_card.py."""
        network = self.accelerated(self.load("bf16"), weights).network
        restorer = self.module("varsr_core.varsr.restorer").VARSRRestorer(network)
        seeds = [self.module("varsr_core.tiling.noise").TileSeed(0, 0)]

        def work() -> None:
            lq = torch.empty(1, 3, restorer.tile_size, restorer.tile_size, device=CARD)
            network.encode_latent(lq)
            state = restorer.start(lq, seeds)
            for k in range(restorer.steps):
                restorer.step(state, k)
            network.decode(state.latent)

        return copies_by_room(network, work)

    def accelerated(self, loaded: Any, weights: str, method: str = "off") -> Any:
        node = self.module("nodes.varsr.accelerate").Accelerate
        return node.execute(model=loaded, method=method, weights=weights, unguided_scales=0)[0]

    def load(self, dtype: str = "fp32") -> Any:
        return self.module("nodes.varsr.loading").load(CHECKPOINT, dtype)

    def restore(self, loaded: Any, *, at_once: int = 1) -> Tensor:
        """A picture of six tiles, none waiting for another, through the nodes' own execution."""
        execution = self.module("nodes.host").execution(loaded)
        if at_once > 1:
            execution = replace(execution, prepare=lambda: at_once)
        restorer = self.module("varsr_core.varsr.restorer").VARSRRestorer(loaded.network)
        image = torch.rand(1, 3, 28, 40, generator=torch.Generator().manual_seed(0))
        tiling = self.module("varsr_core.tiling.consistency").Tiling("independent")
        core = self.module("varsr_core.upscaling")
        settings = core.UpscaleSettings(tiling)
        return core.upscale(image, 4.0, restorer, settings=settings, execution=execution)


def _attention_input(shape: tuple[int, int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """q and k normalised, each head of q scaled as far as the model may learn: up to 100."""
    rows, heads, queries, keys, width = shape
    generator = torch.Generator().manual_seed(0)

    def random(length: int) -> Tensor:
        return torch.randn(rows, heads, length, width, generator=generator)

    q, k = (torch.nn.functional.normalize(random(length), dim=-1) for length in (queries, keys))
    scales = torch.linspace(1, 100, heads)[:, None, None]
    return q * scales, k, random(keys)


def _largest_difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


if __name__ == "__main__":
    main()
