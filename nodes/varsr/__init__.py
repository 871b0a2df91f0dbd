"""Nodes of VARSR."""

from comfy_api.latest import io

from .accelerate import Accelerate
from .class_to_image import ClassToImage
from .getting import GetModel
from .k2n import LoadK2N, PredictCoarse
from .loading import LoadModel
from .stages import Decode, DecodeScales, EncodePrefix, EncodeTokens, Refine, Sample
from .upscale import Upscale
from .upscale_model import AsUpscaleModel
from .video import UpscaleVideo

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    GetModel,
    Accelerate,
    EncodePrefix,
    EncodeTokens,
    Sample,
    Refine,
    Decode,
    DecodeScales,
    Upscale,
    AsUpscaleModel,
    UpscaleVideo,
    ClassToImage,
    LoadK2N,
    PredictCoarse,
]
