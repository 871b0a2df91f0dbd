"""Nodes of VARSR."""

from comfy_api.latest import io

from .accelerate import Accelerate
from .loading import LoadModel
from .stages import Decode, DecodeScales, EncodePrefix, EncodeTokens, Refine, Sample
from .upscale import Upscale

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    Accelerate,
    EncodePrefix,
    EncodeTokens,
    Sample,
    Refine,
    Decode,
    DecodeScales,
    Upscale,
]
