"""Under which names results are written."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import InputError
from .films.containers import CONTAINERS
from .jobs import Film, Picture
from .output_format import OutputFormat

FIELDS = ("stem", "suffix", "scale", "seed", "model")


@dataclass(frozen=True)
class Naming:
    """How results are named.

    folder:   that they are written below
    template: of names without suffix, with FIELDS
    fields:   what it is filled with, beside stem and suffix
    mask:     one picture for all, or a folder with a PNG of each input's stem; None for no masks
    """

    folder: Path
    template: str
    form: OutputFormat
    fields: dict[str, str] = field(default_factory=dict)
    mask: Path | None = None

    def job(self, source: Path, parent: PurePosixPath) -> Picture | Film:
        """parent: folder of the result below the output folder."""
        stem = self.template.format(
            stem=source.stem, suffix=source.suffix[1:].lower(), **self.fields
        )
        name = parent / (stem + self.form.suffix(source))
        mask = self.mask
        if mask is not None and mask.is_dir():
            mask = mask / parent / f"{source.stem}.png"
        kind = Film if source.suffix.lower() in CONTAINERS else Picture
        return kind(str(name), str(source), str(self.folder / name), str(mask or ""))


def check_template(template: str) -> None:
    """Refuses a template of names that is no single name. Raises InputError."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        filled = template.format(**dict.fromkeys(FIELDS, "x"))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(
            f"name {template!r} cannot be filled in ({error}); it may hold "
            f"{', '.join(f'{{{name}}}' for name in FIELDS)}"
        ) from None
    if not fields or any(mark in filled for mark in '/\\:*?"<>|\0') or filled.startswith("."):
        raise InputError(
            f"name {template!r} is no name of a file with a field such as {{stem}}; folders are "
            "kept as they are"
        )
