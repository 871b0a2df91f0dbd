"""Several processes that train one model: who writes, who takes which samples, who keeps what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ...errors import InputError

PARALLEL = ("auto", "replicas", "shards")
SHARD_FROM = 100_000_000  # learning weights; fewer are quicker where every GPU has them all


def place() -> tuple[int, int]:
    """Number of this process, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def leads() -> bool:
    """Whether this process writes files: the only one, or the first of several."""
    return place()[0] == 0


def shares(count: int, parts: int) -> list[range]:
    """`count` samples in `parts` runs, as equal as can be."""
    edges = [count * i // parts for i in range(parts + 1)]
    return [range(a, b) for a, b in zip(edges, edges[1:], strict=False)]


def own_share(batch: int) -> range:
    """Which samples of every batch are this process's. Raises InputError."""
    rank, processes = place()
    if batch < processes:
        raise InputError(
            f"a batch of {batch} cannot be shared by {processes} processes; enlarge it, or start "
            "fewer"
        )
    return shares(batch, processes)[rank]


def agreed(decision: bool) -> bool:
    """What the first process decides, in all of them: clocks differ, steps are taken together."""
    if place()[1] == 1:
        return decision
    told = torch.tensor(float(decision), device=_exchange_device())
    distributed.broadcast(told, 0)
    return bool(told.item())


def summed(values: Sequence[float]) -> list[float]:
    """Numbers, added up over all processes."""
    if place()[1] == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=_exchange_device())
    distributed.all_reduce(total)
    return total.tolist()


def _exchange_device() -> str:
    """Where processes can exchange tensors."""
    return "cuda" if "nccl" in distributed.get_backend() else "cpu"


def of_all_processes(samples: Tensor) -> Tensor:
    """The samples (N, ...) of all processes, in their order."""
    processes = place()[1]
    if processes == 1:
        return samples
    parts: list[Tensor | None] = [None] * processes
    distributed.all_gather_object(parts, samples.cpu())
    return torch.cat([part for part in parts if part is not None]).to(samples.device)


def parallel(module: nn.Module, shards: Sequence[nn.Module], wanted: str = "auto") -> nn.Module:
    """The module as several processes train it; itself where there is one.

    shards: parts that are shared out one by one, inner ones first; see Loss.shards()
    wanted: "replicas" (DistributedDataParallel: every process has all weights), "shards" (FSDP2:
            weights, gradients and the optimiser's state are shared out), or "auto": shards on
            several GPUs, where many weights learn
    """
    if place()[1] == 1:
        return module
    device = next(p.device.type for p in module.parameters() if p.requires_grad)
    if shares_weights(module, shards, wanted, device, place()[1]):
        return _shard(module, shards, device)
    return DistributedDataParallel(module, find_unused_parameters=True)


def shares_weights(
    module: nn.Module, shards: Sequence[nn.Module], wanted: str, device: str, processes: int
) -> bool:
    """Whether parallel() shares weights out: arguments as it has them, and the kind of device."""
    if processes == 1 or not shards:
        return False
    learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
    many = device == "cuda" and learning >= SHARD_FROM
    return wanted == "shards" or (wanted == "auto" and many)


def _shard(module: nn.Module, shards: Sequence[nn.Module], device: str) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    _equal_everywhere(module)
    mesh = init_device_mesh(device, (place()[1],))
    # What does not learn is used outside of forward() too, to encode targets.
    still = {p for p in module.parameters() if not p.requires_grad}
    for part in shards:
        fully_shard(part, mesh=mesh, ignored_params=still)
    fully_shard(module, mesh=mesh, ignored_params=still)
    return module


@torch.no_grad()
def _equal_everywhere(module: nn.Module) -> None:
    """The first process's weights, as DistributedDataParallel sees to by itself."""
    for tensor in (*module.parameters(), *module.buffers()):
        distributed.broadcast(tensor, 0)


def is_sharded(parameters: Iterable[Tensor]) -> bool:
    """Whether other processes keep parts of these weights."""
    return any(hasattr(parameter, "full_tensor") for parameter in parameters)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process may keep a part; every process is to ask."""
    full = getattr(tensor, "full_tensor", None)
    return tensor.detach() if full is None else full().detach()


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process keeps of a whole tensor, if it is kept like another one."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    tensor = tensor.to(like.device)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def gathered(modules: Sequence[nn.Module]) -> Iterator[None]:
    """A context in which parts have all their weights, to be saved, not to be run."""
    kept = [
        (owner, name, parameter)
        for module in modules
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if is_sharded([parameter])
    ]
    for owner, name, parameter in kept:
        owner._parameters[name] = nn.Parameter(whole(parameter), requires_grad=False)
    try:
        yield
    finally:
        for owner, name, parameter in kept:
            owner._parameters[name] = parameter


@contextmanager
def synchronised(module: nn.Module, last: bool) -> Iterator[None]:
    """A context of one pass; replicas wait for the last one of a step to share gradients.

    Shards share them at once: what waits would be the gradient of all weights, on every GPU.
    """
    if last or not isinstance(module, DistributedDataParallel):
        yield
        return
    with module.no_sync():
        yield
