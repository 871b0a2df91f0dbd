"""Tensors on their way between system memory and a card, while the card goes on working.

A plain copy holds the program up until the card has done all that is queued, and then the card
idles until there is something new to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CPU = torch.device("cpu")
# Types of devices that copy from and to page-locked memory by themselves.
ALONE = ["cuda", "xpu"]


def brought(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; what is done there next has it, and nobody waits."""
    if tensor.device.type != "cpu" or device.type not in ALONE:
        return tensor.to(device)
    try:
        locked = tensor.pin_memory()
    except RuntimeError:  # systems limit how much may be locked
        return tensor.to(device)
    return locked.to(device, non_blocking=True)


def fetched(tensor: Tensor) -> Callable[[], Tensor]:
    """Begins to bring a tensor to system memory; the call of what is returned waits for it."""
    if tensor.device.type not in ALONE:
        there = tensor.to(CPU)
        return lambda: there
    there = tensor.to(CPU, non_blocking=True)
    module = getattr(torch, tensor.device.type)
    queued = module.Event()
    queued.record(module.current_stream(tensor.device))

    def wait() -> Tensor:
        queued.synchronize()
        return there

    return wait


class Arriving:
    """What is made block by block on a card and wanted elsewhere: the results of one block come
    while the next is worked on.

    put:  is called with the numbers of a block and what was made of them
    home: where it is wanted; what is made there is put at once
    """

    def __init__(self, put: Callable[[Sequence[int], Tensor], None], home: torch.device) -> None:
        self.put, self.home = put, home
        self.coming: tuple[Sequence[int], Callable[[], Tensor]] | None = None

    def come(self, numbers: Sequence[int], made: Tensor) -> None:
        if made.device == self.home:
            self.put(numbers, made)
            return
        coming = numbers, fetched(made)
        self.finish()
        self.coming = coming

    def finish(self) -> None:
        """Waits for the last of them."""
        if self.coming is not None:
            numbers, wait = self.coming
            self.put(numbers, wait())
            self.coming = None
