"""Nodes of NSARM."""

from comfy_api.latest import io

from .loading import LoadModel
from .stages import Decode, Prefix, Sample
from .text import EncodeText
from .upscale import Upscale

NODES: list[type[io.ComfyNode]] = [LoadModel, EncodeText, Prefix, Sample, Decode, Upscale]
