"""Nodes that the tests need inside ComfyUI: pictures no core node makes, and a look at results.

A pack of its own, in the old style that every version reads.
"""

import tempfile

import comfy.model_management
import folder_paths
import numpy as np
import torch

from . import fuzz, slowness  # noqa: F401, the second for what it adds
from .ending import Ending

FAULTS = {
    "NaN": lambda image: _with_pixel(image, float("nan")),
    "infinity": lambda image: _with_pixel(image, float("inf")),
    "too bright": lambda image: image * 255,
    "negative": lambda image: image * 2 - 1,
    "no picture": lambda image: image[:0],
}
STRANGE = {  # what a careless node may send, whatever the type of its output
    "nothing": lambda image: None,
    "a list": lambda image: [image],
    "a text": lambda image: "a text",
    "2 dimensions": lambda image: image[0, :, :, 0],
    "3 dimensions": lambda image: image[0],
    "5 dimensions": lambda image: image[None],
    "1 dimension": lambda image: image.flatten(),
    "whole numbers": lambda image: (image * 255).to(torch.uint8),
    "true or false": lambda image: image > 0.5,
    "complex": lambda image: image.to(torch.complex64),
    "no rows": lambda image: image[:, :0],
    "mask of 4 channels": lambda image: image[..., :1].expand(-1, -1, -1, 4),
    "mask of 1 channel": lambda image: image[..., :1].movedim(-1, 1),
    "picture": lambda image: image,
}


class AnyType(str):
    """Fits every socket, as packs with switches and reroutes have it."""

    __slots__ = ()

    def __ne__(self, other):
        return False


class Strange:
    """Something else than the socket behind this node takes."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "kind": (list(STRANGE),)}}

    RETURN_TYPES = (AnyType("*"),)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, image, kind):
        return (STRANGE[kind](image),)


class Name:
    """A text that fits a list of choices, as packs with selectors have it."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("STRING", {})}}

    RETURN_TYPES = (AnyType("*"),)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, value):
        return (value,)


class Spoil:
    """A picture that another node failed to make."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "fault": (list(FAULTS),)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, image, fault):
        return (FAULTS[fault](image),)


class Channels:
    """The first channels of a picture, the last of them repeated where it has fewer."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "channels": ("INT", {"min": 1, "max": 8})}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, image, channels):
        last = image.shape[-1] - 1
        return (image[..., [min(channel, last) for channel in range(channels)]],)


class Dump(Ending):
    """Writes the very numbers of an IMAGE, which a PNG rounds; shows the name of the file."""

    def run(self, image):
        folder = folder_paths.get_output_directory()
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
            np.save(file, image.numpy())
        return {"ui": {"file": [file.name]}}


class SizeList:
    """Pieces of a picture in several sizes, as ComfyUI's list of pictures."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, image):
        return ([image, image[:, :9, :30], image[:, :1, :1]],)


class LoadedModels:
    """Shows how many models ComfyUI holds; runs every time."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    RETURN_TYPES = ()
    FUNCTION = "run"
    OUTPUT_NODE = True
    CATEGORY = "probe"

    def run(self):
        return {"ui": {"count": [len(comfy.model_management.current_loaded_models)]}}


def _with_pixel(image: torch.Tensor, value: float) -> torch.Tensor:
    spoiled = image.clone()
    spoiled[0, 0, 0, 0] = value
    return spoiled


NODE_CLASS_MAPPINGS = {
    "PROBE_Name": Name,
    "PROBE_Spoil": Spoil,
    "PROBE_Channels": Channels,
    "PROBE_Strange": Strange,
    "PROBE_Dump": Dump,
    "PROBE_SizeList": SizeList,
    "PROBE_LoadedModels": LoadedModels,
}
NODE_CLASS_MAPPINGS |= fuzz.NODES
