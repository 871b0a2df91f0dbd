"""Damaged and hostile model files: a CheckpointError with their name, or a model that works."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tools.fuzzing import byte_damage, tensor_damage
from tools.fuzzing.common import Outcome, draw, said, watched
from tools.fuzzing.model_files import (
    FAMILIES,
    FILES,
    WRAPPERS,
    converted,
    legacy_bytes,
    pieces,
    release,
    safetensors_bytes,
    tensors_of,
    zip_bytes,
)
from varsr_core.checkpoint import load_model
from varsr_core.convert import DTYPES, convert_files
from varsr_core.errors import CheckpointError, InputError
from varsr_core.files.soundness import Contents
from varsr_core.upscaling import upscale

CPU_SECONDS = 5
MEMORY = 3 * 2**30  # bytes; of which torch and the pack take half a GiB
CANARY = "canary"  # there, if a file had its way

Tensors = dict[str, torch.Tensor]
Load = Callable[..., Any]


@dataclass
class Case:
    """Files to load and to convert, and how. damaged: what was done to them."""

    files: list[Path]
    family: str | None
    dtype: str
    only_converter: bool = False
    damaged: list[str] = field(default_factory=list)
    layout: str = ""

    @property
    def what(self) -> str:
        done = ", ".join(self.damaged) or "sound"
        return f"{self.layout}, {done}; family {self.family}, {self.dtype}"


def trial(seed: int, number: int, folder: Path, load: Load = load_model) -> Outcome:
    torch.set_num_threads(1)
    before = Path.cwd()
    os.chdir(folder)  # where canaries sing
    try:
        rng = draw("loader", seed, number)
        case = make_case(rng, folder)
        there = _listing(folder)
        with watched(CPU_SECONDS * 3) as spent:
            kind, fault = _tried(case, load, convert=case.only_converter or rng.random() < 0.25)
    finally:
        os.chdir(before)
    new = sorted(_listing(folder) - there)
    if new:
        fault = f"what is in a file was run, or files were left over: {new}"
    elif spent.seconds > CPU_SECONDS:
        fault = fault or f"{spent.seconds:.1f} s of CPU time, at most {CPU_SECONDS} are expected"
    elif spent.bytes > MEMORY:
        fault = fault or f"{spent.bytes / 2**30:.1f} GiB of memory"
    elif not case.damaged and kind != "a picture":
        fault = fault or f"a sound file ended in {kind}"
    return Outcome(number, kind, case.what, fault, spent.seconds)


def _listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _tried(case: Case, load: Load, *, convert: bool) -> tuple[str, str]:
    """Kind of outcome, and the fault."""
    names = {path.name for path in case.files}
    if case.only_converter:  # the pieces of a file are joined to one of this name
        names |= set(FILES["varsr"] + FILES["nsarm"])
    kind, fault = "converted", ""
    if not case.only_converter:
        kind, fault = _used(lambda: _picture(case.files[-1], case, load), names)
    if convert and not fault:
        output = case.files[-1].with_name("output")
        output.mkdir()
        made = output / "made.safetensors"

        def work() -> str:
            convert_files(case.files, made, DTYPES[case.dtype.replace("auto", "bf16")])
            return _picture(made, case, load)

        again, fault = _used(work, names | {made.name, str(output)})
        if fault:
            fault = f"converter: {fault}"
        made.unlink(missing_ok=True)
        if not any(output.iterdir()):
            output.rmdir()
        kind = again if case.only_converter else kind
    return kind, fault


def _used(work: Callable[[], str], names: set[str]) -> tuple[str, str]:
    try:
        return work(), ""
    except CheckpointError as error:
        named = any(name in str(error) for name in names) or isinstance(error, InPicture)
        return "CheckpointError", "" if named else f"no file is named by {said(error)}"
    except BaseException as error:
        return type(error).__name__, said(error)


class InPicture(CheckpointError):
    """Of weights that overflow: it is about a tile."""


def _picture(path: Path, case: Case, load: Load) -> str:
    """Restores a tiny picture."""
    restorer = load(path, family=case.family, device="cpu", dtype=case.dtype)
    image = torch.linspace(0, 1, 3 * 12 * 10).reshape(1, 3, 12, 10)
    try:
        result = upscale(image, 1.0, restorer)
    except (CheckpointError, InputError) as error:
        raise InPicture(*error.args) from error
    if result.shape != image.shape or not bool(result.isfinite().all()):
        raise ArithmeticError(f"a picture of shape {tuple(result.shape)} that is not finite")
    if result.min() < 0 or result.max() > 1:
        raise ArithmeticError(f"values from {result.min():.3g} to {result.max():.3g}")
    return "a picture"


def make_case(rng: random.Random, folder: Path) -> Case:
    family = rng.choice(FAMILIES)
    wanted = rng.choice((None, None, family))
    case = Case([], wanted, rng.choice(("fp32", "fp32", "bf16", "fp16", "auto")))
    layout = rng.choice(("converted", "converted", "release", "release", "flat", "pieces"))
    forms = ("zip", "legacy") if layout == "pieces" else ("zip", "legacy", "safetensors")
    form = rng.choice(forms)
    left = rng.choices((0, 1, 2, 3), (1, 14, 4, 1))[0]
    if layout == "converted" and form == "safetensors":
        made = _converted(rng, family, case, left)
    else:
        made = _pickled(rng, family, layout, form, case, left)
    case.layout = f"{family} {layout} {form}"
    left -= len(case.damaged)
    for name, sound in made:
        data = sound
        chosen = name == made[0][0] if rng.random() < 0.3 else name == made[-1][0]
        path = folder / name
        if left > 0 and chosen:
            data = _bytes(rng, data, case)
        path.write_bytes(data)
        case.files.append(path)
    if left > 0 and rng.random() < 0.1:
        case.damaged.append(byte_damage.no_file(rng, rng.choice(case.files)))
    return case


def _converted(rng: random.Random, family: str, case: Case, left: int) -> list[tuple[str, bytes]]:
    """A file of ours, as it was written or written again with other tensors."""
    dtypes = [torch.float32, torch.float32, torch.bfloat16, torch.float16]
    data = converted(family, rng.choice(dtypes))
    if left and rng.random() < 0.55:
        tensors, metadata = tensors_of(data)
        _tensors(rng, tensors, case)
        contents = rng.choice(("kept", "none", "none", "anew", "anew"))
        if contents != "kept":
            del metadata[Contents.KEY]
        if contents == "anew":
            found = Contents(metadata)
            for name, tensor in tensors.items():
                found.add(name, tensor)
            metadata[Contents.KEY] = found.hexdigest()
        case.damaged[-1] += f" (hash {contents})"
        data = safetensors_bytes(tensors, metadata)
    return [(rng.choice(("model.safetensors", "model.safetensors", "model.sft")), data)]


def _tensors(rng: random.Random, tensors: Tensors, case: Case) -> None:
    name = rng.choice(list(tensor_damage.TENSOR_DAMAGE))
    tensor_damage.TENSOR_DAMAGE[name](rng, tensors)
    case.damaged.append(name)


def _pickled(
    rng: random.Random, family: str, layout: str, form: str, case: Case, left: int
) -> list[tuple[str, bytes]]:
    """Files of a release, of all its tensors in one, in pieces, or of converted tensors."""
    if layout == "converted":
        parts = [tensors_of(converted(family))[0]]
    else:
        parts = [dict(part) for part in release(family)]
        parts = [parts[0] | parts[1]] if layout == "flat" else parts
    if left and rng.random() < 0.45:
        _tensors(rng, rng.choice(parts), case)
    contents: list[Any] = list(parts)
    if form == "safetensors":
        case.only_converter = len(parts) > 1  # the other file is found beside a pickle alone
        return _in_pieces(layout, [
            (Path(name).with_suffix(".safetensors").name, safetensors_bytes(part, {}))
            for name, part in zip(FILES[family][-len(parts):], parts, strict=True)
        ], case)  # fmt: skip
    if len(case.damaged) < left and rng.random() < 0.2:
        tensor_damage.odd_tensors(rng, rng.choice(parts))
        case.damaged.append("odd tensor")
    for number, part in enumerate(parts):
        wrapper = WRAPPERS[family][number]
        nested = ({wrapper: part}, {"epoch": 0, "trainer": {wrapper: part}}, part)
        contents[number] = rng.choice(nested)
    if len(case.damaged) < left and rng.random() < 0.4:
        kind = rng.choice(list(tensor_damage.HELD_BESIDE))
        beside = tensor_damage.HELD_BESIDE[kind](rng, Path(CANARY).absolute())
        place = rng.randrange(len(contents))
        alone = rng.random() < 0.2
        contents[place] = beside if alone else {"beside": beside, "trainer": contents[place]}
        case.damaged.append(f"{kind}{' alone' if alone else ''}")
    write = zip_bytes if form == "zip" else legacy_bytes
    names = FILES[family] if len(parts) == 2 else [f"model{rng.choice(('.pth', '.pt', '.ckpt'))}"]
    return _in_pieces(layout, list(zip(names, map(write, contents), strict=True)), case)


def _in_pieces(layout: str, files: list[tuple[str, bytes]], case: Case) -> list[tuple[str, bytes]]:
    if layout != "pieces":
        return files
    case.only_converter = True
    *rest, (name, data) = files
    cut = pieces(data, 3)
    return [*rest, *((f"{Path(name).stem}_part_a{'abc'[n]}", one) for n, one in enumerate(cut))]


def _bytes(rng: random.Random, data: bytes, case: Case) -> bytes:
    """One kind of damage that goes with the file."""
    kinds = dict(byte_damage.BYTE_DAMAGE)
    if data[8:9] == b"{":
        kinds = {**kinds, **byte_damage.SAFETENSORS_DAMAGE} if rng.random() < 0.3 else (
            byte_damage.SAFETENSORS_DAMAGE
        )  # fmt: skip
    elif rng.random() < 0.3 and (data.startswith(b"PK") or b"\x80\x02" in data[30:60]):
        kinds = {"opcodes": byte_damage.opcodes}
    name = rng.choice(list(kinds))
    try:
        changed = kinds[name](rng, data)
    except Exception:  # it is damaged already, or a piece
        name, changed = "cut", data[: len(data) // 2]
    case.damaged.append(name)
    return changed
