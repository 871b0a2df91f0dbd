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
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from .. import varsr_core as core
from ..varsr_core.errors import InputError
from ..varsr_core.images.check import check_pixels
from ..varsr_core.runtime.dtypes import cpu_dtype, named_dtype
from ..varsr_core.runtime.execution import FREE_SHARE, Execution, is_out_of_memory, tiles_at_once
from ..varsr_core.tiling.restorer import Restorer
from .progress import NodeProgress, previews_wanted

CATEGORY = "image/upscaling/VARSR"
MODEL_EXTENSIONS = {".safetensors", ".sft", ".pth", ".pt", ".ckpt"}
# Folders of downloads under way, and of pieces that version 0.1.0 was joining when it was killed.
UNFINISHED = re.compile(r"(^|[/\\])\.(download|joined-\w{8})[/\\]")
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


def managed(network: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    """Hands a network to ComfyUI, which loads, offloads and frees it from now on."""
    return comfy.model_patcher.ModelPatcher(
        network, load_device=device(), offload_device=mm.unet_offload_device()
    )


def load_model(path: Path, family: str, dtype: str, **options: object) -> Restorer:
    """The core's, made of ComfyUI's layers; it is brought to a device when it runs."""
    options = {"dtype": pick_dtype(dtype), "operations": operations(), **options}
    return core.load_model(path, family=family, device=None, **options)


def bring(patcher: comfy.model_patcher.ModelPatcher, needed: int) -> None:
    """Moves a network to its device, with room for this many bytes of work beside it."""
    mm.load_models_gpu([patcher], memory_required=needed)


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


def execution(model: LoadedModel) -> Execution:
    """How the core runs on ComfyUI: its device, its memory, its progress bar, its interrupt."""
    device = model.patcher.load_device

    def prepare() -> int:
        mm.throw_exception_if_processing_interrupted()
        bring(model.patcher, model.tile_bytes)
        free = None if mm.is_device_cpu(device) else mm.get_free_memory(device)
        return tiles_at_once(model.tile_bytes, free)

    return Execution(
        device=device,
        prepare=prepare,
        on_progress=NodeProgress(model.sides),
        is_out_of_memory=lambda error: (
            isinstance(error, mm.OOM_EXCEPTION) or is_out_of_memory(error)
        ),
        free_memory=mm.soft_empty_cache,
        pictures=previews_wanted(),
        spare_bytes=lambda: int(mm.get_free_memory(torch.device("cpu")) * FREE_SHARE),
    )


def device() -> torch.device:
    """Where ComfyUI computes."""
    return mm.get_torch_device()


def pick_dtype(choice: str) -> torch.dtype:
    """The dtype for a user's choice; `auto` takes what the device computes fast and safely."""
    named = named_dtype(choice)  # older versions of ComfyUI do not check the choice
    if named is not None:
        return named
    if mm.is_device_cpu(device()):
        return cpu_dtype()
    if mm.should_use_bf16(device()):
        return torch.bfloat16
    return torch.float16 if mm.should_use_fp16(device()) else torch.float32


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


def model_folder(folder: str) -> Path:
    return Path(folder_paths.folder_names_and_paths[folder][0][0])


def versions(paths: Sequence[Path]) -> str:
    """Changes when one of some files is replaced."""
    found = [(path, path.stat()) for path in paths if path.is_file()]
    return "; ".join(f"{path} {stat.st_mtime_ns} {stat.st_size}" for path, stat in found)


def to_core(image: Tensor, alpha: Tensor | None = None) -> Tensor:
    """IMAGE (B, H, W, C) -> (B, C, H, W) float32; with a MASK of transparency, RGB and alpha."""
    image = image.movedim(-1, 1).float()
    if alpha is None or image.shape[1] not in (1, 3) or image.numel() == 0:
        return image
    transparency = mask_to_core(alpha)
    check_pixels(transparency, "alpha")
    if len(transparency) not in (1, len(image)):
        raise InputError(
            f"alpha has {len(transparency)} masks and image {len(image)} pictures; one mask for "
            "all, or one for each, is expected"
        )
    size = image.shape[2:]
    if transparency.shape[2:] != size:  # Load Image's, of 64 x 64, for a picture without one
        transparency = F.interpolate(transparency, size, mode="bilinear", align_corners=False)
    opacity = 1 - transparency.expand(image.shape[0], -1, -1, -1).to(image)
    return torch.cat((image.expand(-1, 3, -1, -1), opacity), dim=1)


def mask_to_core(mask: Tensor | None) -> Tensor | None:
    """MASK (B, H, W), (H, W) or (B, 1, H, W) -> (B, 1, H, W) float32."""
    if mask is None or mask.ndim == 4:
        return None if mask is None else mask.float()
    return mask.float()[None, None] if mask.ndim == 2 else mask.float()[:, None]


def to_comfy(image: Tensor) -> Tensor:
    """(B, C, H, W) -> IMAGE (B, H, W, C), where and as ComfyUI keeps pictures between nodes."""
    return _keep(image.movedim(1, -1).contiguous())


def to_comfy_with_alpha(image: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """IMAGE, with its alpha if `keep`, and MASK (B, H, W), 1 where it is transparent."""
    has_alpha = image.shape[1] == 4
    mask = 1 - image[:, 3] if has_alpha else image.new_zeros(image[:, 0].shape)
    return to_comfy(image if keep else image[:, :3]), _keep(mask)


def _keep(tensor: Tensor) -> Tensor:
    dtype = getattr(mm, "intermediate_dtype", lambda: torch.float32)()
    return tensor.to(mm.intermediate_device(), dtype)


def schema(**arguments: object) -> io.Schema:
    """io.Schema of the pack's category, without the fields this ComfyUI does not know yet."""
    known = {field.name for field in fields(io.Schema)}
    arguments = {"category": CATEGORY, **arguments}
    return io.Schema(**{name: value for name, value in arguments.items() if name in known})


def advanced(widget: io.Input) -> io.Input:
    """Folds an input away where ComfyUI can; older versions have no argument for it."""
    widget.extra_dict["advanced"] = True
    return widget
