"""A card with little room for weights, or none, without a card.

Work runs on torch's device `meta`, which knows shapes and no numbers, while weights stay in
system memory. As on a GPU, an operation fails that is given a tensor of each; and ComfyUI decides
by the device whether a layer's weights are copied on a stream of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import torch

CARD = torch.device("meta")


class Stream:
    """Counts how often its copies are waited for, after which ComfyUI may make others."""

    def __init__(self) -> None:
        self.done = 0

    def as_context(self, stream: Stream) -> AbstractContextManager:
        return nullcontext()

    def wait_stream(self, other: Any) -> None:
        self.done += 1


def half_there(network: torch.nn.Module) -> None:
    """Has ComfyUI move about half of a network's weights to the card, where they are lost."""
    patcher = import_module("comfy.model_patcher").ModelPatcher(network, CARD, torch.device("cpu"))
    patcher.load(CARD, lowvram_model_memory=sum(p.nbytes for p in network.parameters()) // 2)


def copies_by_room(network: torch.nn.Module, work: Callable[[], object]) -> dict[str, Any]:
    """`copies` on a card without any of the weights, then on one with half of them."""
    nothing = copies(network, work)
    half_there(network)
    return {"nothing there": nothing, "half there": copies(network, work)}


def copies(network: torch.nn.Module, work: Callable[[], object]) -> dict[str, Any]:
    """How the layers of a network get their weights while `work` runs on the card.

    layers:           that ran
    left out:         that did not run
    there:            those of them that have their weights on the card already
    without a stream: kinds of the others that did not ask for one stream each time they ran
    for nothing:      layers that asked for one with their weights there
    unfinished:       streams that were asked for, and not given back
    """
    management = import_module("comfy.model_management")
    stream, ran, asked = Stream(), Counter(), Counter()
    running = [""]
    layers = {n: m for n, m in network.named_modules() if list(m.parameters(recurse=False))}

    def note(name: str) -> None:
        running[0] = name
        ran[name] += 1

    def get_offload_stream(device: torch.device) -> Stream:
        asked[running[0]] += 1
        return stream

    hooks = [
        layer.register_forward_pre_hook(lambda *_, name=name: note(name))
        for name, layer in layers.items()
    ]
    real, management.get_offload_stream = management.get_offload_stream, get_offload_stream
    try:
        with torch.inference_mode():
            work()
    finally:
        management.get_offload_stream = real
        for hook in hooks:
            hook.remove()
        getattr(management, "STREAM_CAST_BUFFERS", {}).pop(stream, None)
    there = {n for n in ran if all(p.device == CARD for p in layers[n].parameters())}
    waiting = ran.keys() - there
    return {
        "layers": len(ran),
        "left out": sorted(layers.keys() - ran.keys()),
        "there": len(there),
        "without a stream": sorted(
            {type(layers[n]).__name__ for n in waiting if asked[n] != ran[n]}
        ),
        "for nothing": sorted(there & asked.keys()),
        "unfinished": asked.total() - stream.done,
    }


def room(
    network: torch.nn.Module, free: float, working: int, bring: Callable[[Any, int, int], None]
) -> dict[str, int]:
    """What ComfyUI puts onto the card of a network whose weights are on `meta`, too.

    free:    bytes of the card before anything is loaded
    working: bytes that the work on one tile takes
    bring:   of the nodes; is asked for more tiles than there may be room for
    returns  bytes of all weights, of those on the card and of those left, counted from the layers
    """
    management = import_module("comfy.model_management")
    patcher = import_module("comfy.model_patcher").ModelPatcher(network, CARD, CARD)
    kept = {name: getattr(management, name) for name in ("get_free_memory", "NUM_STREAMS")}
    management.get_free_memory = lambda device, torch_free_too=False: (
        (free, 0) if torch_free_too else free
    )
    management.NUM_STREAMS, state = 2, management.vram_state  # as on NVIDIA
    management.vram_state = management.VRAMState.NORMAL_VRAM
    try:
        bring(patcher, working, 16)
        loaded = [m for m in network.modules() if getattr(m, "comfy_patched_weights", False)]
    finally:
        management.vram_state = state
        for name, value in kept.items():
            setattr(management, name, value)
    whole = sum(p.nbytes for p in network.parameters())
    there = sum(p.nbytes for m in loaded for p in m.parameters(recurse=False))
    patcher.detach()
    management.current_loaded_models.clear()
    return {"whole": whole, "there": there}
