"""Counts the bytes of tensors alive at once, on any device, the meta device included."""

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Of what was made while the context lasted, `peak` is the most that was alive at once.

    alive: what is there now, or a little more: what is gone is only looked for at new peaks
    """

    def __init__(self):
        super().__init__()
        self.made = {}
        self.alive = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given:
                self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                self.alive += storage.nbytes()
        if self.alive > self.peak:
            self.count()
        return result

    def count(self):
        self.made = {key: made for key, made in self.made.items() if not made[0].expired()}
        self.alive = sum(size for _, size in self.made.values())
        self.peak = max(self.peak, self.alive)


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
