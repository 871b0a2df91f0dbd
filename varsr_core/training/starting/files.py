"""Files that a run starts from: read in parts, and brought under our names, whole or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import CheckpointError, InputError
from ...family import BROKEN, look_into, unknown
from ...files.lazy_tensor import StateDict
from ...files.soundness import check_finite
from ...varsr.family import CLASS_TO_IMAGE, COMPLETE, TOKENIZER, TRANSFORMER, VARSR_FAMILY
from ...varsr.weights import convert

POSITIONS = "pos_1LC"  # of each token, in a plain VAR alone


def read_parts(files: Sequence[Path]) -> dict[str, StateDict]:
    """The parts that files hold; files with one part first, as `load_checkpoint` takes them."""
    if not 1 <= len(files) <= 2:
        raise InputError(f"{len(files)} files to start from; one or two are expected")
    paths = VARSR_FAMILY.files(files[0]) if len(files) == 1 else list(files)
    found = []
    for path in paths:
        kind, parts, _, names = look_into(path, (VARSR_FAMILY,))
        if kind is None:
            raise unknown(path, (VARSR_FAMILY,), names)
        found.append(parts)
    together: dict[str, StateDict] = {}
    for parts in sorted(found, key=len):
        for part, tensors in parts.items():
            if part in together and len(parts) == 1:
                raise CheckpointError(f"{' and '.join(p.name for p in paths)} are both a {part}")
            together.setdefault(part, tensors)
    return together


def under_our_names(parts: dict[str, StateDict], names: list[str]) -> StateDict:
    """All there is, checked for what is no number; of VAR its POSITIONS under their own name.

    Raises InputError where tokenizer or transformer are missing.
    """
    if COMPLETE in parts:
        return _finite(parts[COMPLETE], names)
    transformers = [parts[part] for part in (TRANSFORMER, CLASS_TO_IMAGE) if part in parts]
    if len(transformers) != 1 or TOKENIZER not in parts:
        raise InputError(
            f"{' and '.join(names)}: {' and '.join(parts)}; a start is one transformer and its "
            "tokenizer. Give both files: VARSR.pth or VARSR_C2I.pth with VQVAE.pth, or a VAR such "
            "as var_d24.pth with vae_ch160v4096z32.pth"
        )
    transformer = {name: t for name, t in transformers[0].items() if name != POSITIONS}
    try:
        weights = convert({**parts[TOKENIZER], **transformer})
    except BROKEN as error:
        raise CheckpointError(f"{' and '.join(names)}: tensors of wrong shapes: {error}") from error
    if POSITIONS in transformers[0]:
        weights = {**weights, POSITIONS: transformers[0][POSITIONS]}
    return _finite(weights, names)


def _finite(weights: StateDict, names: list[str]) -> StateDict:
    try:
        check_finite(weights, "the file was damaged, or training failed. Download it again")
    except CheckpointError as error:
        raise CheckpointError(f"{' and '.join(names)}: {error}") from error
    return weights
