"""Nodes for the fuzzer of graphs: pictures and masks of any form, and a look at what comes out."""

import torch

from .ending import Ending

SHAPES = {
    "picture": (1, 12, 10, 3), "two": (2, 12, 10, 3), "grey": (1, 12, 10, 1),
    "alpha": (1, 12, 10, 4), "channels 2": (1, 12, 10, 2), "channels 7": (1, 12, 10, 7),
    "pixel": (1, 1, 1, 3), "line": (1, 1, 40, 3), "tall": (1, 70, 2, 3), "none": (0, 12, 10, 3),
    "no rows": (1, 0, 10, 3), "no channels": (1, 12, 10, 0), "1 dimension": (30,),
    "2 dimensions": (12, 10), "3 dimensions": (12, 10, 3), "5 dimensions": (1, 2, 12, 10, 3),
    "0 dimensions": (), "mask": (1, 12, 10), "two masks": (2, 12, 10), "64": (1, 64, 64),
    "three masks": (3, 5, 5), "mask 4": (1, 1, 12, 10), "no mask": (0, 12, 10),
    "flat mask": (1, 0, 0),
}  # fmt: skip
FILLS = ("gradient", "gradient", "0", "1", "0.5", "NaN", "inf", "-1", "255")
DTYPES = ("float32", "float32", "float16", "bfloat16", "float64", "uint8", "int64", "bool",
          "complex64")  # fmt: skip


class Tensor:
    """An IMAGE and a MASK of any shape, as no node should make them."""

    @classmethod
    def INPUT_TYPES(cls):
        choices = {"shape": SHAPES, "fill": FILLS, "dtype": DTYPES}
        return {"required": {name: (list(dict.fromkeys(c)),) for name, c in choices.items()}}

    RETURN_TYPES = ("IMAGE", "MASK")
    FUNCTION = "run"
    CATEGORY = "probe"

    def run(self, shape, fill, dtype):
        size = torch.Size(SHAPES[shape])
        if fill == "gradient":
            values = torch.linspace(0, 1, max(1, size.numel()))[: size.numel()].reshape(size)
        else:
            values = torch.full(size, float(fill))
        values = values.nan_to_num(0, 9, -9) if dtype in ("uint8", "int64") else values
        values = values.to(getattr(torch, dtype))
        return values, values


class Look(Ending):
    """Shows the shape of a picture, and whether it is one."""

    def run(self, image):
        return {"ui": {"shape": list(image.shape), "finite": [bool(image.isfinite().all())]}}


NODES = {"PROBE_Tensor": Tensor, "PROBE_Look": Look}
