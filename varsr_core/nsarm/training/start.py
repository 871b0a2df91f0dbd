"""An NSARM to be trained: a whole one, or Infinity with a new map network; and how it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import CheckpointError, InputError
from ...family import BROKEN, Checkpoint, assembled, look_into
from ...files.fingerprint import fingerprint
from ...files.lazy_tensor import StateDict
from ...nn.map_network import MapConfig
from ...nn.schedule import whole_numbers
from ...training.config import TrainingConfig, from_plain
from ...training.map_networks import init_layers
from ...training.starting.sources import Sources
from ..config import FORCED, MAP_HEADS, PATCH, SCHEDULE, SIDES, is_packed
from ..family import AUTOENCODER, MAPS, NSARM_FAMILY, TRANSFORMER, model_files
from ..map_network import MapNetwork
from ..model import NSARM, build_model
from ..weights import convert

NEEDS = (
    "an NSARM is trained from NSARM.pth, from a transformer of Infinity 8B, the autoencoder beside "
    "it, or from a file of an earlier run; name it with --start"
)


@dataclass(frozen=True)
class MapSizes:
    """Of a new map network; defaults are the released ones. Heads are the same in all.

    side: of the low-quality picture's latent
    """

    side: int = 32
    extractor: tuple[int, ...] = (64, 128)
    widths: tuple[int, ...] = (64, 128, 256, 384, 512, 768, 1024)
    layers: tuple[int, ...] = (4, 6, 8, 10, 12, 14, 16)


def started(config: TrainingConfig, sources: Sources) -> NSARM:
    """The model of a file, in float32; a plain Infinity gets a map network of config.sizes."""
    if sources.start is None:
        raise InputError(NEEDS)
    parts, metadata = _parts(model_files(sources.start))
    names = sources.start.name
    if TRANSFORMER in parts and MAPS not in parts and AUTOENCODER in parts:
        parts = {NSARM_FAMILY.complete: _with_new_maps(config, parts, names)}
    weights = assembled(NSARM_FAMILY, parts, metadata, names).tensors
    if is_packed(weights):
        raise InputError(f"{names} is in fp8, which cannot learn; name a file in another dtype")
    # Copies: the tensors are mapped from the file, which is written again.
    return build_model({name: tensor.detach().clone() for name, tensor in weights.items()})


def _parts(paths: list[Path]) -> tuple[dict[str, StateDict], dict[str, str]]:
    """What the files of a model hold, those with one part first."""
    found: dict[str, StateDict] = {}
    metadata: dict[str, str] = {}
    files = [(path, *look_into(path, (NSARM_FAMILY,))) for path in paths]
    for path, kind, parts, told, _ in sorted(files, key=lambda file: len(file[2])):
        if kind is None:
            raise CheckpointError(f"{path.name} holds no NSARM and no Infinity. {NEEDS}")
        metadata |= told
        found = parts | found
    return found, metadata


def _with_new_maps(config: TrainingConfig, parts: Mapping[str, StateDict], names: str) -> StateDict:
    """Infinity and its autoencoder under our names, and a map network."""
    try:
        weights = convert({**parts[AUTOENCODER], **parts[TRANSFORMER]})
    except BROKEN as error:
        raise CheckpointError(f"{names}: tensors of the wrong shape: {error}") from error
    return {**weights, **_new_maps(config, weights)}


def _new_maps(config: TrainingConfig, weights: StateDict) -> dict[str, Tensor]:
    """Drawn weights of a map network under our names; the global random state stays as it was."""
    channels = weights["vae.encoder.conv_out.weight"].shape[0]
    sides = whole_numbers(weights, SCHEDULE, 1) if SCHEDULE in weights else SIDES
    try:
        maps = configured_maps(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = MapNetwork(maps, channels, tuple(PATCH * side for side in sides[:FORCED]))
            init_layers(network)
    except ValueError as error:
        raise InputError(f"sizes: {error}") from error
    return {f"maps.{name}": tensor for name, tensor in network.state_dict().items()}


def configured_maps(config: TrainingConfig) -> MapConfig:
    """Sizes of a new map network. Raises InputError."""
    sizes = from_plain(MapSizes, config.sizes, "sizes")
    return MapConfig(sizes.side, sizes.extractor, sizes.widths, sizes.layers, MAP_HEADS)


def checkpoint(model: NSARM) -> Checkpoint:
    """As Load NSARM Model takes it."""
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if model.config.schedule.sides != SIDES:
        tensors[SCHEDULE] = torch.tensor(model.config.schedule.sides)
    return Checkpoint(NSARM_FAMILY, tensors, fingerprint(tensors), {})
