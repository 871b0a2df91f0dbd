"""VARSR Accelerate: compiled or recorded arithmetic, weights in 8 bits, less guidance."""

from __future__ import annotations

import logging
from dataclasses import replace

from comfy.patcher_extension import CallbacksMP
from comfy_api.latest import io

from ...varsr_core.runtime.compile import Compiler
from ...varsr_core.runtime.cuda_graphs import Recorder
from ...varsr_core.varsr.acceleration import (
    accelerated,
    in_float8,
    is_in_float8,
    is_recorded,
    rebuilt,
)
from ...varsr_core.varsr.memory import tile_bytes
from ...varsr_core.varsr.sampling import SampleSettings
from .. import host
from ..fp8_linear import OffloadableFloat8Linear
from ..host import schema
from ..sockets import checked
from .inputs import MAX_SCALES, model
from .sockets import LoadedVARSR, VARSRModel

METHODS = ("off", "compile", "graphs", "compile + graphs")
WEIGHTS = ("as loaded", "fp8")

logger = logging.getLogger(__name__)


class Accelerate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_Accelerate",
            display_name="VARSR Accelerate",
            description="Makes a VARSR model faster or smaller for the nodes behind this one; "
            "everything is off at first, and other branches keep the plain model.",
            search_aliases=["torch compile", "cuda graph", "fp8", "quantize", "speed", "fast"],
            inputs=[
                model(),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="off",
                    tooltip="compile: fuses arithmetic with torch.compile, slow to start, needs a "
                    "C++ compiler; graphs: replays recorded CUDA graphs, for NVIDIA, and keeps "
                    "memory for them; or both. Where one cannot be had, the model runs without it.",
                ),
                io.Combo.Input(
                    "weights",
                    options=list(WEIGHTS),
                    default="as loaded",
                    tooltip="fp8 halves the memory of most weights, for GPUs that multiply in 8 "
                    "bits faster than in 16; the picture changes a little. Slower elsewhere.",
                ),
                io.Int.Input(
                    "unguided_scales",
                    default=SampleSettings.unguided_scales,
                    min=0,
                    max=MAX_SCALES,
                    tooltip="Guidance stops before this many last scales, and the refiner goes "
                    "without: saves half of their work, the finest detail comes out softer; "
                    "0 guides all of them.",
                ),
            ],
            outputs=[
                VARSRModel.Output(
                    display_name="model", tooltip="The same model, to be run as chosen here."
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, method, weights, unguided_scales) -> io.NodeOutput:
        unguided = max(model.unguided_scales, unguided_scales)  # of another node before this one
        model = replace(model, unguided_scales=unguided)
        graphs = "graphs" in method and _can_record()
        if weights == "fp8" and not is_in_float8(model.network):
            model = _in_float8(model)
        if "compile" in method:
            model = replace(model, network=accelerated(model.network, compiler=Compiler()))
        return io.NodeOutput(_recorded(model) if graphs else model)


def _can_record() -> bool:
    device = host.device()
    if device.type != "cuda":
        logger.warning("CUDA graphs need CUDA and this is %s: the model runs without", device)
    return device.type == "cuda"


def _in_float8(model: LoadedVARSR) -> LoadedVARSR:
    """A model of its own: ComfyUI loads and unloads it apart from the one it was made of."""
    network = in_float8(
        host.own_weights(model), model.network, host.operations(), OffloadableFloat8Linear
    )
    patcher = host.managed(network, stays=is_recorded(network))
    return replace(model, network=network, patcher=patcher)


def _recorded(model: LoadedVARSR) -> LoadedVARSR:
    """Gives its recordings up when ComfyUI unloads the model, wherever its weights then lie."""
    if host.is_dynamic(model.patcher):
        model = _staying(model)
    recorder = Recorder()

    def detached(_: object, unloaded: bool) -> None:
        """Also called whenever the same model, or a clone, is about to run."""
        if unloaded:
            recorder.forget()

    patcher = model.patcher.clone()
    patcher.add_callback(CallbacksMP.ON_DETACH, detached)
    network = accelerated(model.network, recorder=recorder)
    return replace(model, network=network, patcher=patcher, tile_bytes=tile_bytes(network))


def _staying(model: LoadedVARSR) -> LoadedVARSR:
    """A model of its own whose weights stay where they are, as recordings need.

    With dynamic VRAM they come to the card layer by layer, and nobody knows where.
    """
    network = rebuilt(
        host.own_weights(model), model.network, host.operations(), OffloadableFloat8Linear
    )
    return replace(model, network=network, patcher=host.managed(network, stays=True))
