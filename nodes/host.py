"""Every service of ComfyUI that the nodes use: files, memory, devices, progress, image layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import comfy.lora
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import folder_paths
import torch
from comfy_api.latest import io
from torch import Tensor

from .. import varsr_core as core
from ..varsr_core.checkpoint import FAMILIES, read_model
from ..varsr_core.nn.parameters import weight_bytes
from ..varsr_core.runtime.execution import (
    Execution,
    halved_to_fit,
    is_out_of_memory,
    tiles_at_once,
)
from ..varsr_core.runtime.kept import kept_bytes
from ..varsr_core.runtime.progress import ProgressFn
from ..varsr_core.tiling.restorer import Restorer
from .dtypes import pick_dtype, wide_dtype
from .progress import NodeProgress, honouring_cancel, previews_wanted

CATEGORY = "image/upscaling/VARSR"
MODEL_EXTENSIONS = {".safetensors", ".sft", ".pth", ".pt", ".ckpt"}
# Folders of downloads under way, and of pieces that version 0.1.0 was joining when it was killed.
UNFINISHED = re.compile(r"(^|[/\\])\.(download|joined-\w{8})[/\\]")
Patcher = comfy.model_patcher.ModelPatcher
SPARE_SHARE = 0.8  # of free system memory that may be filled
MAX_SEED = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class LoadedModel:
    """A network under ComfyUI's memory management.

    network:    what runs; shares its layers with the patcher's, if it is not the same
    tile_bytes: memory that work on one tile takes beside the weights
    sides:      of its token maps, coarse to fine
    """

    network: torch.nn.Module
    patcher: comfy.model_patcher.ModelPatcher
    tile_bytes: int
    sides: tuple[int, ...]


def managed(network: torch.nn.Module, *, stays: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Hands a network to ComfyUI, which loads, offloads and frees it from now on.

    stays: whether all weights are to keep their places on the card from one run to the next
    """
    kind = comfy.model_patcher.ModelPatcher if stays else core_patcher()
    return kind(network, load_device=device(), offload_device=mm.unet_offload_device())


def core_patcher() -> type[comfy.model_patcher.ModelPatcher]:
    """What has ComfyUI's own models: with dynamic VRAM, what knows how to use that.

    Looked up at each call: main.py puts another one in its place once it has seen the card.
    """
    patchers = comfy.model_patcher
    return getattr(patchers, "CoreModelPatcher", patchers.ModelPatcher)  # older ones have one kind


def is_dynamic(patcher: comfy.model_patcher.ModelPatcher) -> bool:
    """Whether weights come to the card as layers run, and leave it as others need the memory."""
    return getattr(patcher, "is_dynamic", lambda: False)()


def load_model(path: Path, family: str, dtype: str, **options: object) -> Restorer:
    """The core's, made of ComfyUI's layers; it is brought to a device when it runs."""
    return core.load_model(path, family=family, device=None, **_layers(family, dtype), **options)


def load_network(path: Path, family: str, dtype: str, **options: object) -> torch.nn.Module:
    """The same without what restores pictures with it, which not every network can."""
    return read_model(path, family).build(**_layers(family, dtype), **options)


def _layers(family: str, dtype: str) -> dict[str, object]:
    return {
        "dtype": pick_dtype(dtype, FAMILIES[family].dtypes),
        "wide_dtype": wide_dtype(),
        "operations": operations(),
    }


def bring(patcher: Patcher, tile_bytes: int, tiles: int, beside: Sequence[Patcher] = ()) -> None:
    """Moves a network to its device, and those that work beside it.

    ComfyUI unloads other models to make room for work on so many tiles beside it. Where that is not
    enough, weights still stay on the card as long as there is room for one tile.
    """
    # What recordings keep is there for this run; asked for again, it would drive weights out.
    there = kept_bytes(patcher.load_device)
    mm.load_models_gpu(
        [patcher, *beside],
        memory_required=max(0, tile_bytes * tiles - there),
        minimum_memory_required=max(0, tile_bytes - there),
    )


def at_once(model: LoadedModel, tile_bytes: int | None = None) -> int:
    """How many tiles are worked on at once where memory suffices; see tiles_at_once().

    tile_bytes: if not the model's own
    """
    device = model.patcher.load_device
    card = None if mm.is_device_cpu(device) else mm.get_total_memory(device)
    if mm.is_device_mps(device):
        card //= 2  # of memory that it shares with all other programs
    return tiles_at_once(tile_bytes or model.tile_bytes, weight_bytes(model.network), card)


def _free_bytes(patcher: Patcher, beside: Sequence[Patcher] = ()) -> int | None:
    """Of the device, beside the weights of networks that were brought there; None for a CPU."""
    device = patcher.load_device
    if mm.is_device_cpu(device):
        return None
    # With dynamic VRAM weights fill the card, and make room when somebody needs it: newer patchers
    # know how much. They count these weights in.
    free = getattr(patcher, "get_free_memory", mm.get_free_memory)(device)
    free += kept_bytes(device)
    return free - sum(one.model_size() for one in (patcher, *beside) if is_dynamic(one))


def own_weights(model: LoadedModel) -> dict[str, Tensor]:
    """Weights as ComfyUI would run them, its patches put in, by name: copies or views on the CPU.

    Whether the model is loaded, and with which of its patches, makes no difference.
    """
    patcher = model.patcher
    weights = patcher.model.state_dict()
    for name in weights:
        kept = patcher.backup.get(name)  # as it was before patches were put in for a run
        weights[name] = (weights[name] if kept is None else kept.weight).detach().cpu()
    for name, patches in patcher.patches.items():
        changed = weights[name].clone()
        weights[name] = comfy.lora.calculate_weight(patches, changed, name).to(changed)
    return weights


def execution(
    model: LoadedModel, *, watch: ProgressFn | None = None, beside: Sequence[Patcher] = ()
) -> Execution:
    """How the core runs on ComfyUI: its device, its memory, its progress bar, its interrupt.

    watch:  told instead of the node's bar, which the caller moves or leaves to another node
    beside: of networks that work together with the model's
    """
    device = model.patcher.load_device

    def prepare() -> int:
        mm.throw_exception_if_processing_interrupted()
        return at_once(model)

    def make_room(tiles: int) -> int:
        bring(model.patcher, model.tile_bytes, tiles, beside)
        return halved_to_fit(tiles, model.tile_bytes, _free_bytes(model.patcher, beside))

    return Execution(
        device=device,
        prepare=prepare,
        make_room=make_room,
        on_progress=NodeProgress(model.sides) if watch is None else honouring_cancel(watch),
        is_out_of_memory=lambda error: (
            isinstance(error, mm.OOM_EXCEPTION) or is_out_of_memory(error)
        ),
        free_memory=mm.soft_empty_cache,
        pictures=watch is None and previews_wanted(),
        spare_bytes=lambda: int(mm.get_free_memory(torch.device("cpu")) * SPARE_SHARE),
    )


def device() -> torch.device:
    """Where ComfyUI computes."""
    return mm.get_torch_device()


def operations() -> type:
    """Layers that ComfyUI can offload and cast."""
    return comfy.ops.manual_cast


def register_model_folder(folder: str) -> None:
    """Adds models/<folder> beside those that extra_model_paths.yaml may have named already."""
    default = str(Path(folder_paths.models_dir) / folder)
    paths, extensions = folder_paths.folder_names_and_paths.get(folder, ([], set()))
    if default not in paths:
        paths = [*paths, default]
    folder_paths.folder_names_and_paths[folder] = (paths, set(extensions) | MODEL_EXTENSIONS)


def model_files(folder: str) -> list[str]:
    """As the host lists them, but for files in the making, where such lie in hidden folders."""
    register_model_folder(folder)
    listed = folder_paths.get_filename_list(folder)
    return [name for name in listed if not UNFINISHED.search(name)]


def listed_path(name: str, folder: str, listed: Sequence[str]) -> Path | None:
    """Where a file of the host's list lies; None for a name that is not in it.

    Not every version of ComfyUI checks a choice, none a text that is wired to it; a name may then
    be a path to anywhere. As the host lists it, it is one of the user's models.
    """
    found = folder_paths.get_full_path(folder, name) if name in listed else None
    return Path(found) if found else None


def model_path(name: str, folder: str) -> Path | None:
    return listed_path(name, folder, model_files(folder))


def files_of(path: Path | None, model_files: Callable[[Path], list[Path]]) -> list[Path]:
    """All files of a model, of which `path` is one; none where there is no such model."""
    return [] if path is None else model_files(path)


def model_folders(folder: str) -> list[Path]:
    """All that the host looks into; new files go into the first."""
    register_model_folder(folder)
    return [Path(path) for path in folder_paths.folder_names_and_paths[folder][0]]


def model_folder(folder: str) -> Path:
    return model_folders(folder)[0]


def versions(paths: Sequence[Path]) -> str:
    """Changes when one of some files is replaced."""
    found = [(path, path.stat()) for path in paths if path.is_file()]
    return "; ".join(f"{path} {stat.st_mtime_ns} {stat.st_size}" for path, stat in found)


def schema(**arguments: object) -> io.Schema:
    """io.Schema of the pack's category, without the fields this ComfyUI does not know yet."""
    known = {field.name for field in fields(io.Schema)}
    arguments = {"category": CATEGORY, **arguments}
    return io.Schema(**{name: value for name, value in arguments.items() if name in known})


def advanced(widget: io.Input) -> io.Input:
    """Folds an input away where ComfyUI can; older versions have no argument for it."""
    widget.extra_dict["advanced"] = True
    return widget
