"""Model files for the server: tiny random models, and files that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tools.random_checkpoint import (
    MICRO,
    SMALL,
    random_weights,
    tokenizer_shapes,
    transformer_shapes,
    write_release,
)
from varsr_core.convert import convert_files

MARKER = "executed"  # appears beside the files when a malicious one had its way
OTHER_SEED = 7


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.marker), "w")


def write_checkpoints(folder: Path) -> None:
    """VARSR.pth and VQVAE.pth with 64-pixel tiles; the same as micro.safetensors; other.safetensors
    of the same sizes; small.safetensors with 512-pixel tiles; classes.safetensors, a class-to-image
    model; and the folder "broken"."""
    convert_files(list(write_release(folder, MICRO)), folder / "micro.safetensors", torch.float32)
    for name, sizes, seed in (("other", MICRO, OTHER_SEED), ("small", SMALL, 0)):
        release = write_release(folder.parent / name, sizes, seed)
        convert_files(list(release), folder / f"{name}.safetensors", torch.float32)
    release = write_release(folder.parent / "classes", MICRO, with_prefix=False)
    convert_files(list(release), folder / "classes.safetensors", torch.float32)
    broken = folder / "broken"
    broken.mkdir()
    _write_damaged(folder, broken)
    _write_malicious(broken, folder / MARKER)
    _write_parts(broken)
    _write_foreign(broken)


def _write_damaged(folder: Path, broken: Path) -> None:
    for whole in ("VARSR.pth", "micro.safetensors"):
        content = (folder / whole).read_bytes()
        (broken / f"truncated{Path(whole).suffix}").write_bytes(content[: len(content) // 2])
    (broken / "text.ckpt").write_text("Not Found")
    for name in ("empty.pth", "empty.safetensors"):
        (broken / name).touch()

    def rewrite(name: str, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
        with safe_open(folder / "micro.safetensors", framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata())
        del metadata["contents"]  # of the tensors as they were
        change(tensors, metadata)
        save_file(tensors, broken / name, metadata)

    head = "transformer.head.bias"
    rewrite("shape.safetensors", lambda t, _: t.update({head: torch.zeros(3)}))
    rewrite("incomplete.safetensors", lambda t, _: t.pop(head))
    rewrite("newer.safetensors", lambda _, metadata: metadata.update(format_version="2"))


def _write_malicious(broken: Path, marker: Path) -> None:
    content = {"trainer": Malicious(marker)}
    torch.save(content, broken / "malicious.pth")
    torch.save(content, broken / "malicious.ckpt", _use_new_zipfile_serialization=False)


def _write_parts(broken: Path) -> None:
    """Halves of a release, and two halves of different releases."""
    transformer = random_weights(transformer_shapes(MICRO), MICRO)
    torch.save(transformer, broken / "transformer.pth")
    class_to_image = transformer_shapes(MICRO, with_prefix=False)
    torch.save(random_weights(class_to_image, MICRO), broken / "class-to-image.pth")
    mixed = broken / "mixed"
    mixed.mkdir()
    torch.save(transformer, mixed / "VARSR.pth")
    torch.save(random_weights(tokenizer_shapes(SMALL), SMALL), mixed / "VQVAE.pth")


def _write_foreign(broken: Path) -> None:
    weight = torch.zeros(1)
    names = {
        "stable-diffusion.safetensors": "model.diffusion_model.input_blocks.0.0.weight",
        "unknown.safetensors": "layers.0.weight",
    }
    for file, name in names.items():
        save_file({name: weight}, broken / file)
    torch.save({"model.1.sub.0.RDB1.conv1.0.weight": weight}, broken / "esrgan.pth")
    torch.save({"module": {"map_transformer.0.weight": weight}}, broken / "nsarm.pth")
