"""What the commands make: pictures, a film, converted weights; and colours, in passing."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from materials import Materials, picture, pixels
from media import read_film, read_picture, save_film, save_picture
from names import find
from registry import Made, result
from safetensors import safe_open
from training_results import trained

FIXED = ("--threads", "1", "--dtype", "fp32", "--device", "cpu", "--seed", "3")
METADATA = ("family", "format_version", "fingerprint")


def make_pictures(folder: Path) -> Path:
    """Of several kinds and sizes, in two folders."""
    for name, channels in (("rgb", 3), ("grey", 1), ("inner/alpha", 4)):
        save_picture(folder / f"{name}.png", pixels(14, 10 + channels, channels=channels))
    save_picture(folder / "photo.jpg", pixels(12, 18, seed=1))
    deep = pixels(9, 13, seed=2).astype(np.uint16) * 251 + 97
    save_picture(folder / "deep.png", deep)
    return folder


def restored(m: Materials, name: str, *options: object) -> Path:
    """The folder of the results."""
    place = m.place(name)
    make_pictures(place / "in")
    m.run("varsr_core.batch", place / "in", place / "out", *FIXED, *options)
    return place / "out"


def read_pictures(folder: Path) -> dict[str, Any]:
    found = sorted(path for path in folder.rglob("*.*") if path.is_file())
    return {
        path.relative_to(folder).as_posix().replace("/", "_"): read_picture(path)
        for path in found
        if not path.name.startswith(".")
    }


@result("command.pictures")
def pictures(m: Materials) -> Made:
    model = trained(m, "drawn")
    return read_pictures(restored(m, "pictures", "--model", model, "--scale", "2"))


@result("command.options")
def options(m: Materials) -> Made:
    """As many of them as go together."""
    mask = save_picture(m.folder / "mask.png", pixels(8, 8, channels=1))
    chosen = {
        "model": trained(m, "drawn"), "size-by": "longer side", "target": 40, "color-fix": "lab",
        "color-strength": 0.7, "tiling": "lock-step", "overlap": 0.4, "feather": 4, "mask": mask,
        "guidance": 3, "guidance-schedule": "constant", "top-k": 0, "top-p": 0.8,
        "temperature": 1.2, "refine-steps": 4, "refine-strength": 0.8, "together": 3,
        "format": "png", "depth": "16", "name": "{stem}_{suffix}_{seed}",
    }  # fmt: skip
    given = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    return read_pictures(restored(m, "options", *given))


@result("command.default_model")
def default_model(m: Materials) -> Made:
    place = m.place("default_model")
    save_picture(place / "in" / "a.png", pixels(24, 32))
    m.run("varsr_core.batch", place / "in", place / "out", *FIXED)
    return read_pictures(place / "out")


@result("command.nsarm")
def nsarm(m: Materials) -> Made:
    place = m.place("nsarm")
    save_picture(place / "in" / "a.png", pixels(24, 32))
    chosen = ("--family", "nsarm", "--model", m.nsarm_file, "--temperature", "0.8")
    m.run("varsr_core.batch", place / "in", place / "out", *FIXED, *chosen)
    return read_pictures(place / "out")


@result("command.film")
def film(m: Materials) -> Made:
    place = m.place("film")
    source = save_film(place / "in" / "clip.mkv", frames=6, height=32, width=32)
    chosen = ("--model", trained(m, "drawn"), "--scale", "1.25", "--crf", "0")
    m.run("varsr_core.batch", source, place / "out", *FIXED, *chosen)
    return read_film(place / "out" / "clip.mkv")


def tensors(path: Path) -> np.ndarray:
    """A hash in each row: of each tensor with its name, type and shape, and of the metadata that
    other files are recognised by. (tensors + 1, 32) uint8"""
    rows = []
    with safe_open(path, "np") as file:
        names = sorted(file.keys())
        said = file.metadata()
        layout = {name: file.get_slice(name) for name in names}
        about = [f"{n} {layout[n].get_dtype()} {layout[n].get_shape()}" for n in names]
    content = _contents(path)
    for name, text in zip(names, about, strict=True):
        rows.append(hashlib.sha256(text.encode() + content[name]).digest())
    rows.append(hashlib.sha256(repr([said[key] for key in METADATA]).encode()).digest())
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32)


def _contents(path: Path) -> dict[str, bytes]:
    """The bytes of all tensors, also of types that NumPy lacks."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    spans = {name: entry["data_offsets"] for name, entry in header.items() if name[0] != "_"}
    return {name: data[start + begin : start + end] for name, (begin, end) in spans.items()}


def _converted(family: str, dtype: str, m: Materials) -> Made:
    release = m.varsr_release if family == "varsr" else m.nsarm_release
    made = m.folder / f"{family}_{dtype}.safetensors"
    m.run("varsr_core.convert", *release, "-o", made, "--dtype", dtype)
    found = tensors(made)
    made.unlink()
    return found


for _family, _dtype in (("varsr", "bf16"), ("varsr", "fp32"), ("nsarm", "fp16"), ("nsarm", "fp8")):
    result(f"convert.{_family}.{_dtype}")(partial(_converted, _family, _dtype))


@result("convert.again")
def converted_again(m: Materials) -> Made:
    """A converted file, in another type."""
    made = m.folder / "again.safetensors"
    m.run("varsr_core.convert", m.nano_file, "-o", made, "--dtype", "fp16")
    return tensors(made)


@result("colors.lab")
def lab(m: Materials) -> Made:
    found = find("to_lab")(picture(20, 30))
    return {"to": found, "back": find("to_rgb")(found * 1.1)}


@result("colors.matched")
def matched(m: Materials) -> Made:
    """To a picture of another size, as the node does it."""
    match = find("match_image_colors")
    image, reference = picture(30, 40, channels=4), picture(17, 23, channels=1, seed=5)
    return {mode: match(image, reference, mode, 0.8) for mode in ("adain", "wavelet", "lab")}
