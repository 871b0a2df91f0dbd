"""Classes of pictures from a table with the header `file,class`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError
from .tables import Places, read_table

NUMBER = re.compile("[0-9]{1,10}")


def read_classes(
    table: Path, folders: Sequence[str | Path], num_classes: int = 0
) -> dict[Path, int]:
    """Pictures that are there, and their classes from 0, in the table's order.

    num_classes: all classes are below it; 0 for any

    Files that are missing are counted and passed over. Raises InputError that names the line.
    """
    places = Places(table, folders)
    found: dict[Path, int] = {}
    limit = num_classes or 2**31
    wanted = f"a whole number from 0 to {limit - 1}" if num_classes else "a whole number from 0"
    for where, (name, value) in read_table(table, ("file", "class")):
        if not (NUMBER.fullmatch(value) and int(value) < limit):
            raise InputError(f"{where}: found class {value!r}, expected {wanted}")
        path = places.find(name)
        if path is None:
            continue
        if found.setdefault(path, int(value)) != int(value):
            raise InputError(
                f"{where}: found class {value} for {name}, expected {found[path]} as on an "
                "earlier line"
            )
    places.check()
    return found
