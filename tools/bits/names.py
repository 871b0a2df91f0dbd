"""Where the things that results are made with live, in every layout that can be compared.

This table is all that `same_bits.py` knows of the project's modules. Whoever moves or renames one
adds the new place in front; the old one stays for as long as commits that have it are compared.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PLACES: dict[str, tuple[str, ...]] = {  # of each name: "module:attribute", newest first
    # The core
    "load_model": ("varsr_core:load_model",),
    "upscale": ("varsr_core.upscaling:upscale", "varsr_core.upscale:upscale"),
    "upscale_each": ("varsr_core.upscaling:upscale_each", "varsr_core.upscale:upscale_each"),
    "match_image_colors": (
        "varsr_core.images.reference:match_image_colors",
        "varsr_core.upscaling:match_image_colors",
        "varsr_core.images.color_fix:match_image_colors",
        "varsr_core.upscale:match_image_colors",
    ),
    "UpscaleSettings": (
        "varsr_core.upscaling:UpscaleSettings",
        "varsr_core.upscale:UpscaleSettings",
    ),
    "Tiling": ("varsr_core.tiling.consistency:Tiling", "varsr_core.agreement:Tiling"),
    "OutputSize": ("varsr_core.images.output_size:OutputSize", "varsr_core.output_size:OutputSize"),
    "Execution": ("varsr_core.runtime.execution:Execution", "varsr_core.execution:Execution"),
    "to_lab": ("varsr_core.images.cielab:to_lab", "varsr_core.cielab:to_lab"),
    "to_rgb": ("varsr_core.images.cielab:to_rgb", "varsr_core.cielab:to_rgb"),
    "load_checkpoint": ("varsr_core.checkpoint:load_checkpoint",),
    "save_checkpoint": ("varsr_core.checkpoint:save_checkpoint",),
    "fingerprint": ("varsr_core.checkpoint:fingerprint",),
    # VARSR
    "varsr.convert": ("varsr_core.varsr.weights:convert",),
    "varsr.build_model": (
        "varsr_core.varsr.weights:build_model",
        "varsr_core.varsr.model:build_model",
    ),
    "varsr.Restorer": ("varsr_core.varsr.restorer:VARSRRestorer",),
    "varsr.SampleSettings": (
        "varsr_core.varsr.sampling:SampleSettings",
        "varsr_core.varsr.sample:SampleSettings",
    ),
    "varsr.RefineSettings": (
        "varsr_core.varsr.sampling:RefineSettings",
        "varsr_core.varsr.refiner:RefineSettings",
        "varsr_core.varsr.sample:RefineSettings",
    ),
    "varsr.encode_prefix": ("varsr_core.varsr.stages:encode_prefix",),
    "varsr.encode_tokens": ("varsr_core.varsr.stages:encode_tokens",),
    "varsr.sample_tokens": ("varsr_core.varsr.stages:sample_tokens",),
    "varsr.refine_tokens": ("varsr_core.varsr.stages:refine_tokens",),
    "varsr.decode_tokens": ("varsr_core.varsr.stages:decode_tokens",),
    "varsr.decode_scales": ("varsr_core.varsr.stages:decode_scales",),
    # NSARM
    "nsarm.convert": ("varsr_core.nsarm.weights:convert",),
    "nsarm.build_model": (
        "varsr_core.nsarm.weights:build_model",
        "varsr_core.nsarm.model:build_model",
    ),
    "nsarm.Restorer": ("varsr_core.nsarm.restorer:NSARMRestorer",),
    "nsarm.SampleSettings": (
        "varsr_core.nsarm.sampling:SampleSettings",
        "varsr_core.nsarm.sample:SampleSettings",
    ),
    "nsarm.encode_prefix": ("varsr_core.nsarm.stages:encode_prefix",),
    "nsarm.sample": ("varsr_core.nsarm.stages:sample_bits", "varsr_core.nsarm.stages:sample"),
    "nsarm.decode": ("varsr_core.nsarm.stages:decode",),
    # Training
    "degrade": (
        "varsr_core.training.data.degradation:degrade",
        "varsr_core.training.degradation:degrade",
    ),
    "DegradationSettings": (
        "varsr_core.training.data.degradation:DegradationSettings",
        "varsr_core.training.degradation:DegradationSettings",
    ),
    "make_pair": (
        "varsr_core.training.data.pictures:make_pair",
        "varsr_core.training.data.pairs:make_pair",
        "varsr_core.training.data:make_pair",
    ),
}


def find(name: str) -> Any:
    """What the commit at hand calls `name`. Raises LookupError where no place has it."""
    for place in PLACES[name]:
        module, _, attribute = place.partition(":")
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            # What is missing is the module itself, and not something that it needs.
            if not f"{module}.".startswith(f"{error.name}."):
                raise
            continue
        if hasattr(found, attribute):
            return getattr(found, attribute)
    raise LookupError(f"{name} is at none of {', '.join(PLACES[name])}; add its place to names.py")


def has(name: str) -> bool:
    """Whether the commit at hand has it."""
    try:
        find(name)
    except LookupError:
        return False
    return True
