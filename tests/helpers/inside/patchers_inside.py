"""How the pack's networks lie in ComfyUI's hands, by both of its kinds of patchers, without a card.

    python patchers_inside.py HOST PACK BASE

Prints one JSON object; see test_patchers_inside.py for what is expected of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from comfy_card import CARD, Stream
from comfy_inside import load_pack

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NANO, NSARM, TEXT = "varsr_nano (built in)", "micro_fp32.safetensors", "t5_tiny.safetensors"
NSARM_FP8 = "micro_fp8.safetensors"
GIGABYTE = 10**9


def main() -> None:
    inside = Inside(load_pack(*sys.argv[1:]))
    measured = {
        "kinds": inside.kinds(),
        "recorded": {kind: inside.recorded(dynamic=kind == "dynamic") for kind in ("dynamic", "")},
        "room": inside.room(),
        "beside dynamic": inside.beside_dynamic(),
    }
    if os.environ.get("DYNAMIC_VRAM"):
        with replaced(*pretended()):
            measured["dynamic"] = inside.dynamic()
    sys.stdout.write(json.dumps(measured))


@contextmanager
def replaced(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Members of modules, given up again; missing ones too."""
    missing = object()
    before = [(place, name, getattr(place, name, missing)) for place, name, _ in changes]
    for place, name, value in changes:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            delattr(place, name) if value is missing else setattr(place, name, value)


class Inside:
    """The pack as ComfyUI has loaded it; package: its name."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.patchers = import_module("comfy.model_patcher")
        self.management = import_module("comfy.model_management")
        self.host = self.module("nodes.host")

    def module(self, name: str) -> Any:
        return import_module(f"{self.package}.{name}")

    def varsr(self, dtype: str = "bf16") -> Any:
        return self.module("nodes.varsr.loading").load(NANO, dtype)

    def accelerated(self, loaded: Any, method: str, weights: str) -> Any:
        node = self.module("nodes.varsr.accelerate").Accelerate
        return node.execute(model=loaded, method=method, weights=weights, unguided_scales=0)[0]

    def kinds(self) -> dict[str, list[str]]:
        """Kinds of patchers by node: as ComfyUI is, and with a kind that came after the pack."""
        return {"own": self._kinds(), "named later": self._kinds_named(), "at last": self._kinds()}

    def _kinds_named(self) -> list[str]:
        class Named(self.patchers.ModelPatcher):
            pass

        with replaced((self.patchers, "CoreModelPatcher", Named)):
            return self._kinds()

    def _kinds(self) -> list[str]:
        made, load = [], self.management.load_models_gpu

        def load_models_gpu(patchers: list[Any], *args: Any, **choices: Any) -> None:
            made.extend(patchers)
            load(patchers, *args, **choices)

        varsr = self.varsr()
        made += [varsr.patcher, self.accelerated(varsr, "off", "fp8").patcher]
        made += self.module("nodes.nsarm.loading").load(NSARM, "fp32").parts.values()
        with replaced((self.management, "load_models_gpu", load_models_gpu)):
            self.module("nodes.nsarm.text").encode(TEXT, "a picture")
        return [type(patcher).__name__ for patcher in made]

    def recorded(self, *, dynamic: bool) -> dict[str, Any]:
        """What Accelerate's graphs are recorded of, where a patcher says what it is."""

        class Said(self.patchers.ModelPatcher):
            def is_dynamic(self) -> bool:
                return dynamic

        loaded = self.varsr()
        found = {}
        for weights in ("as loaded", "fp8", "fp8 before"):
            before = self.accelerated(loaded, "off", "fp8") if weights == "fp8 before" else loaded
            patcher = Said(before.network, load_device=CUDA, offload_device=CPU)
            with replaced(
                (self.host, "device", lambda: CUDA), (self.patchers, "CoreModelPatcher", Said)
            ):
                fast = self.accelerated(
                    replace(before, patcher=patcher), "graphs", weights.removesuffix(" before")
                )
            ours = {id(module) for module in fast.network.transformer.blocks.modules()}
            found[weights] = {
                "kind": type(fast.patcher).__name__,
                "loads what runs": fast.patcher.model.transformer.blocks
                is fast.network.transformer.blocks,
                "shares layers": bool(ours & {id(m) for m in before.network.modules()}),
                "fp8": any(p.dtype == torch.float8_e4m3fn for p in fast.network.parameters()),
                "recorder": fast.network.transformer.run_blocks.recorder is not None,
            }
        return found

    def room(self) -> dict[str, Any]:
        """Tiles at once on a card of 24 GB, and whether another model had to leave it."""
        cases = {
            "empty card": (1, 14, False),
            "other model, one tile": (1, 1, True),
            "other model": (1, 14, True),
            "other programs": (14, 14, False),
            "other programs, few tiles": (14, 4, False),
            "no room": (23.5, 14, False),
        }
        return {name: self._room(*case) for name, case in cases.items()}

    def beside_dynamic(self) -> float:
        """Gigabytes for tiles where weights of 5 GB may be counted among the 20 that can be had."""

        class Said(self.patchers.ModelPatcher):
            def is_dynamic(self) -> bool:
                return True

            def get_free_memory(self, device: torch.device) -> int:
                return 20 * GIGABYTE

        network = torch.nn.Linear(4, 4, device=CARD)
        return self.host._free_bytes(Said(network, CARD, CARD, size=5 * GIGABYTE)) / GIGABYTE

    def _room(self, taken: float, tiles: int, beside: bool) -> dict[str, Any]:
        """taken: gigabytes of other programs; beside: whether another model of 12 GB lies there."""
        network, large = (torch.nn.Sequential(torch.nn.Linear(4, 4, device=CARD)) for _ in "ab")
        patcher, told = self.patchers.ModelPatcher(network, CARD, CARD), Told()
        loaded = self.host.LoadedModel(network, patcher, int(1.2 * GIGABYTE), ())
        other = self.patchers.ModelPatcher(large, CARD, CARD, size=12 * GIGABYTE)
        listed = self.management.current_loaded_models

        def free(device: torch.device, torch_free_too: bool = False) -> Any:
            found = (24 - taken) * GIGABYTE - sum(one.model_loaded_memory() for one in listed)
            return (found, 0) if torch_free_too else found

        with replaced(
            (self.management, "get_free_memory", free),
            (self.management, "get_total_memory", lambda device: 24 * GIGABYTE),
            (self.management, "vram_state", self.management.VRAMState.NORMAL_VRAM),
        ):
            if beside:
                self.management.load_models_gpu([other], force_full_load=True)
            logger = logging.getLogger(f"{self.package}.varsr_core.runtime.execution")
            logger.addHandler(told)
            execution = self.host.execution(loaded, watch=lambda _: None)
            found = {"at once": execution.prepare(), "fit": execution.make_room(tiles)}
            logger.removeHandler(told)
            found["other stays"] = any(one.model is other for one in listed)
            listed.clear()
        return found | {"told": told.lines}

    def dynamic(self) -> dict[str, dict[str, Any]]:
        """Models by the patcher of dynamic VRAM, on a card without numbers."""
        varsr, nsarm = self.varsr(), self.module("nodes.nsarm.loading").load(NSARM_FP8, "bf16")
        small = self.accelerated(self.varsr(), "off", "fp8")
        return {
            "VARSR": self._dynamic(varsr, [varsr.network], self._run_varsr),
            "VARSR fp8": self._dynamic(small, [small.network], self._run_varsr),
            "NSARM fp8": self._dynamic(
                nsarm, [patcher.model for patcher in nsarm.parts.values()], self._run_nsarm
            ),
        }

    def _dynamic(
        self, loaded: Any, parts: list[Any], run: Callable[[Any], torch.device]
    ) -> dict[str, Any]:
        """parts: networks that have a patcher each"""
        kind = self.host.core_patcher()
        held = [kind(part, load_device=CARD, offload_device=CPU) for part in parts]
        expected = {name: weight.clone() for name, weight in loaded.network.state_dict().items()}
        before = {name: weight.clone() for name, weight in parts[-1].state_dict().items()}
        last = replace(loaded, network=parts[-1], patcher=held[-1])
        stream = Stream()
        found: dict[str, Any] = {"dynamic": all(map(self.host.is_dynamic, held))}

        def look(when: str) -> None:
            with (
                replaced((self.management, "get_offload_stream", lambda device: stream)),
                torch.inference_mode(),
            ):
                runs = run(loaded.network) == CARD
            weights = same(self.host.own_weights(last), before)
            found[when] = {"runs": runs, "own weights": weights, **places(loaded.network)}

        for patcher in held:
            patcher.partially_load(CARD)
        look("loaded")
        for patcher in held:
            patcher.partially_unload(CPU, 1e32)  # as for another model
        look("made room")
        for patcher in held:
            patcher.partially_load(CARD)
        look("back")
        for patcher in held:
            patcher.detach()
        found["given back"] = same(loaded.network.state_dict(), expected)
        return found

    def _run_varsr(self, network: Any) -> torch.device:
        """Every stage, where an operation fails that is given tensors of both devices."""
        restorer = self.module("varsr_core.varsr.restorer").VARSRRestorer(network)
        lq = torch.empty(1, 3, restorer.tile_size, restorer.tile_size, device=CARD)
        network.encode_latent(lq)
        return self._run(restorer, lq)

    def _run_nsarm(self, network: Any) -> torch.device:
        settings = self.module("varsr_core.nsarm.sampling").SampleSettings(temperature=0)
        restorer = self.module("varsr_core.nsarm.restorer").NSARMRestorer(network, settings)
        side = network.config.lq_size
        return self._run(restorer, torch.empty(1, 3, side, side, device=CARD))

    def _run(self, restorer: Any, lq: torch.Tensor) -> torch.device:
        state = restorer.start(lq, [self.module("varsr_core.tiling.noise").TileSeed(0, 0)])
        for k in range(restorer.steps):
            restorer.step(state, k)
        return restorer.model.decode(state.latent).device


class Told(logging.Handler):
    """Lines of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Pages:
    """Stands for what dynamic VRAM keeps weights in, on the card or pinned."""

    size = 0

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def alloc(self, count: int) -> tuple[Pages, int, int]:
        return self, 0, count

    def loaded_size(self) -> int:
        return 0

    def free_memory(self, count: float) -> int:
        return 0

    def prioritize(self) -> None: ...


def pretended() -> list[tuple[Any, str, Any]]:
    """What dynamic VRAM asks the driver for, on a card that holds every layer once it has come."""
    vbar, memory = import_module("comfy_aimdo.model_vbar"), import_module("comfy_aimdo.torch")
    buffers, arguments = import_module("comfy_aimdo.host_buffer"), import_module("comfy.cli_args")
    return [
        (vbar, "ModelVBAR", Pages),
        (vbar, "vbar_fault", id),
        (vbar, "vbar_signature_compare", lambda a, b: a == b),
        (vbar, "vbar_unpin", lambda pages: None),
        (buffers, "HostBuffer", Pages),
        (
            memory,
            "aimdo_to_tensor",
            lambda pages, device: torch.empty(pages[2], dtype=torch.uint8, device=device),
        ),
        (arguments.args, "disable_pinned_memory", True),
    ]


def places(network: Any) -> dict[str, list[str]]:
    """Kinds of modules by where their weights lie."""
    found: dict[str, set[str]] = {"there": set(), "elsewhere": set()}
    for module in network.modules():
        for weight in module.parameters(recurse=False):
            found["there" if weight.device == CARD else "elsewhere"].add(type(module).__name__)
    return {place: sorted(kinds) for place, kinds in found.items()}


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name].float(), tensor.float()) for name, tensor in expected.items()
    )


if __name__ == "__main__":
    main()
