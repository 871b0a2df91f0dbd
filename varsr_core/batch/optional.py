"""Packages that only some runs need."""

from __future__ import annotations

from types import ModuleType

from ..errors import InputError


def import_av(purpose: str) -> ModuleType:
    """PyAV, which ComfyUI installs. Raises InputError where it is missing."""
    try:
        import av
        import av.error
    except ImportError:
        raise InputError(
            f"{purpose} need the package av (PyAV), which ComfyUI installs: pip install av"
        ) from None
    return av


def import_ray() -> ModuleType:
    """Ray with Ray Data. Raises InputError where it is missing."""
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError:
        raise InputError(
            'Ray Data is not installed: pip install "ray[data]==2.60.*", on every machine the same'
        ) from None
    return ray
