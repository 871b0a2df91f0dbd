"""What arrives at the inputs of a node: any node of any pack may be behind a wire, and may err."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real

from comfy_api.latest import Input, io

from ..varsr_core.errors import InputError
from ..varsr_core.images.check import check_tensor, described

LAYOUTS = {"IMAGE": ("(B, H, W, C)",), "MASK": ("(B, H, W)", "(H, W)", "(B, 1, H, W)")}
HOST_CLASSES = {"VIDEO": Input.Video}  # of sockets that name no class themselves
PLAIN = {int: Integral, float: Real}  # numpy's are numbers too
HINT = "Check the node that is connected to it."

Execute = Callable[..., io.NodeOutput]


def socket(io_type: str, kind: type) -> type[io.ComfyTypeIO]:
    """A type of wire whose values are of this class."""
    made = io.Custom(io_type)
    made.Type = kind
    return made


def checked(execute: Execute) -> Execute:
    """For a node's `execute`: InputError for what its schema does not allow, before any work."""

    @wraps(execute)
    def run(cls: type[io.ComfyNode], **given: object) -> io.NodeOutput:
        for declared in cls.define_schema().inputs:
            if declared.id in given:
                _check(declared, given[declared.id])
        return execute(cls, **given)

    return run


def _check(declared: io.Input, value: object) -> None:
    if value is None and declared.optional and not isinstance(declared, io.WidgetInput):
        return  # nothing is connected
    kind = str(declared.io_type)
    if kind in LAYOUTS:
        check_tensor(value, declared.id, *LAYOUTS[kind], real=kind == "IMAGE", hint=HINT)
        fits = kind == "IMAGE" or value.ndim < 4 or value.shape[1] == 1
    else:
        expected = HOST_CLASSES.get(kind) or PLAIN.get(declared.Type, declared.Type)
        fits = isinstance(value, expected)
        fits = fits and (not isinstance(value, Real) or math.isfinite(value))
    if not fits:
        found = value if isinstance(value, Real) else described(value)
        raise InputError(f"{declared.id} is {found}; {kind} is expected: {declared.tooltip} {HINT}")
