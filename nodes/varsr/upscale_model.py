"""VARSR as Upscale Model: what every node of every pack takes that takes an UPSCALE_MODEL."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_management as mm
import comfy.model_patcher
import torch
from comfy_api.latest import io
from torch import Tensor, nn

from ...varsr_core.images.output_size import OutputSize
from ...varsr_core.runtime.defaults import AUTO
from ...varsr_core.runtime.progress import silent
from ...varsr_core.upscaling import UpscaleSettings, upscale
from ...varsr_core.varsr.presets import PRESETS
from ...varsr_core.varsr.restorer import VARSRRestorer
from .. import host, inputs
from ..host import schema
from ..sockets import checked
from .inputs import PRESET_SETS, all_stages, model, upscale_choices
from .sockets import LoadedVARSR

SCALE = 4
# Of VARSR Upscale's widgets those that this node has not; they have no effect.
OTHERS = {"scale": SCALE, "size_by": OutputSize.mode, "target": 1.0, "feather": 0}


@dataclass(frozen=True)
class UpscaleModel:
    """A model with its settings, as ComfyUI's nodes use an upscale model.

    What they read, in ComfyUI's nodes_upscale_model.py: `scale`; `model`, whose size they count;
    `patcher`, which they load (newer ones) or do not know (older ones); `to`; and the call.
    """

    loaded: LoadedVARSR
    restorer: VARSRRestorer
    settings: UpscaleSettings
    seed: int
    scale: int = SCALE
    input_channels: int = 3
    output_channels: int = 3

    @property
    def model(self) -> nn.Module:
        return self.loaded.network

    @property
    def patcher(self) -> comfy.model_patcher.ModelPatcher:
        return self.loaded.patcher

    def to(self, *_: object, **__: object) -> UpscaleModel:
        """Moves nothing: where the weights are is ComfyUI's to say, through the patcher."""
        return self

    def eval(self) -> UpscaleModel:
        return self

    def __call__(self, image: Tensor) -> Tensor:
        """(B, 1, 3 or 4, h, w) in [0, 1] -> (B, 3, SCALE * h, SCALE * w), on the same device.

        Worked on where VARSR Upscale has its pictures, so that both give the same bits.
        """
        restored = upscale(
            image.float().to(mm.intermediate_device()),
            SCALE,
            self.restorer,
            seed=self.seed,
            settings=self.settings,
            execution=host.execution(self.loaded, watch=silent),
        )
        with torch.inference_mode(False):  # callers may go on with it in any mode
            return restored[:, :3].to(image.device, copy=True)


class AsUpscaleModel(io.ComfyNode):
    PRESETS = PRESETS

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VARSR_AsUpscaleModel",
            display_name="VARSR as Upscale Model",
            description="Gives VARSR to any node that takes an upscale model, at 4 times the size: "
            "Upscale Image (using Model), tiled upscalers, detailers. For a picture on its own, "
            "VARSR Upscale is better: its tiles agree.",
            search_aliases=["upscale model", "esrgan", "spandrel", "ultimate sd upscale"],
            inputs=[
                model(),
                *all_stages(),
                inputs.preset(PRESETS, PRESET_SETS),
                inputs.fidelity(optional=True, least=AUTO),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    display_name="upscale_model",
                    tooltip="For Upscale Image (using Model) and nodes of other packs.",
                )
            ],
        )

    @classmethod
    @checked
    def execute(cls, model, seed, **choices) -> io.NodeOutput:
        choices["unguided_scales"] = model.unguided_scales
        _, settings, sampling, refining = upscale_choices(OTHERS | choices)
        restorer = VARSRRestorer(model.network, sampling, refining)
        return io.NodeOutput(UpscaleModel(model, restorer, settings, seed))
