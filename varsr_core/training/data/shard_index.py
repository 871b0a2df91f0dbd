"""Where the samples of a tar file lie, found in one pass over its headers and kept beside it.

Samples are laid out as WebDataset has it: members that follow each other and share their name up
to the first dot of the file's name. Of KEY.ext are read

    KEY.jpg .png .webp ...       the picture
    KEY.low.png KEY.high.png     both of a pair
    KEY.cls                      its class as a number
    KEY.json                     its class too, as {"class": number}

The pass reads a header of 512 bytes for each member, and small members with a class; of the rest
only how long it is. The index takes 52 bytes a sample, in NAME.tar.index.npz.
"""

from __future__ import annotations

import json
import logging
import tarfile
import zipfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...errors import InputError
from ...files.atomic import unfinished_file, whole_file

logger = logging.getLogger(__name__)

INDEX_SUFFIX = ".index.npz"
FORMAT = 1  # of the index
PICTURES = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff")
LOW, HIGH = "low", "high"
NO_CLASS = NO_MEMBER = -1
CLASS_BYTES = 1 << 20  # a longer .json or .cls is no class
ROW = np.dtype(
    [
        ("start", "<i8"),  # of the picture's header
        ("offset", "<i8"),  # of its bytes
        ("size", "<i8"),
        ("low_start", "<i8"),  # the same of the low-quality picture of a pair
        ("low_offset", "<i8"),
        ("low_size", "<i8"),
        ("label", "<i4"),
    ]
)


class Summary(NamedTuple):
    """samples: how many; unlabelled: of them without a class; classes: 1 more than the highest"""

    samples: int
    unlabelled: int
    classes: int


@dataclass(frozen=True)
class ShardIndex:
    """rows: one ROW for each sample, in the tar file's order; faults: what was wrong with it"""

    rows: np.ndarray
    faults: list[str] = field(default_factory=list)

    @property
    def summary(self) -> Summary:
        labels = self.rows["label"]
        return Summary(
            len(labels), int((labels < 0).sum()), int(labels.max()) + 1 if len(labels) else 0
        )


def read_summary(path: Path) -> Summary | None:
    """From the index beside a tar file; None where there is none, or one of another file."""
    found = _stored(path, "summary")
    return None if found is None else Summary(*map(int, found))


def read_rows(path: Path) -> np.ndarray | None:
    """The samples, from the same."""
    return _stored(path, "rows")


def write_index(path: Path, index: ShardIndex) -> None:
    """Beside a tar file. Raises OSError where its folder cannot be written to."""
    beside = index_file(path)
    with unfinished_file(beside.parent) as part, whole_file(beside, part), part.open("wb") as file:
        np.savez(file, stamp=_stamp(path), summary=np.array(index.summary), rows=index.rows)


def index_file(path: Path) -> Path:
    return path.with_name(path.name + INDEX_SUFFIX)


def _stamp(path: Path) -> np.ndarray:
    """Tells an index of this tar file from one of another."""
    known = path.stat()
    return np.array([FORMAT, known.st_size, known.st_mtime_ns])


def _stored(path: Path, name: str) -> np.ndarray | None:
    try:
        with np.load(index_file(path)) as stored:
            return stored[name] if np.array_equal(stored["stamp"], _stamp(path)) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.debug("%s is made anew: %s", index_file(path), error)
        return None


def index_shard(path: Path) -> ShardIndex:
    """One pass over a tar file; raises InputError for what is none.

    A file that breaks off, or whose headers do, gives the samples before that, and a fault.
    """
    faults: list[str] = []
    rows = array("q")  # 8 bytes a number, where a list takes 40
    no_class, no_picture = _Tally("classes that are none"), _Tally("keys without a picture")
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            group = _Group()
            for member in _members(tar, path, faults):
                key, extension = split_name(member.name)
                if key != group.key or extension in group.members:
                    group.finish(rows, no_picture)
                    group = _Group(key)
                group.add(extension, member, file, no_class)
            group.finish(rows, no_picture)
    except tarfile.ReadError as error:
        raise InputError(
            f"{path} is no tar file that can be read in parts: {error}. Expected is an "
            "uncompressed .tar; pictures are compressed already."
        ) from error
    if not rows:
        raise InputError(
            f"{path} has no picture: expected are members KEY.jpg, .png or .webp, or pairs "
            "KEY.low.png and KEY.high.png"
        )
    faults += [f"{path} has {tally}" for tally in (no_class, no_picture) if tally.count]
    names = ROW.names or ()
    columns = np.frombuffer(rows, dtype=np.int64).reshape(-1, len(names)).T
    table = np.empty(columns.shape[1], dtype=ROW)
    for name, column in zip(names, columns, strict=True):
        table[name] = column
    return ShardIndex(table, faults)


def _members(tar: Any, path: Path, faults: list[str]) -> Iterator[tarfile.TarInfo]:
    """Files in a tar file, one at a time: a TarFile would keep them all in `members`."""
    length = path.stat().st_size
    try:
        while (member := tar.next()) is not None:
            tar.members.clear()
            if member.offset_data + member.size > length:
                faults.append(f"{path} breaks off within {shown(member.name)}")
                return
            if member.isreg() and not member.issparse():
                yield member
    except (tarfile.TarError, ValueError, OverflowError) as error:
        faults.append(f"{path} cannot be read beyond byte {tar.offset} of {length}: {error}")
        return
    with path.open("rb") as file:  # for tarfile a broken header is like the end
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            faults.append(f"{path} has no header at byte {tar.offset} of {length}")


def split_name(name: str) -> tuple[str, str]:
    """a/b.low.png -> (a/b, low.png); the extension in small letters."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def shown(name: str) -> str:
    """A member's name as text that every log can take."""
    return name.encode("utf-8", "replace").decode()


class _Tally:
    """What is wrong with many members, told once: how many, and the first."""

    def __init__(self, what: str) -> None:
        self.what, self.count, self.first = what, 0, ""

    def add(self, one: str) -> None:
        self.first = self.first or one
        self.count += 1

    def __str__(self) -> str:
        return f"{self.count} {self.what}, the first is {self.first}"


class _Group:
    """The members of one sample."""

    def __init__(self, key: str | None = None) -> None:
        self.key = key
        self.members: dict[str, tuple[int, int, int]] = {}
        self.labels: dict[str, int] = {}

    def add(
        self, extension: str, member: tarfile.TarInfo, file: IO[bytes], no_class: _Tally
    ) -> None:
        self.members[extension] = member.offset, member.offset_data, member.size
        if extension in ("cls", "json"):
            file.seek(member.offset_data)
            try:
                if member.size > CLASS_BYTES:
                    raise ValueError(f"it has {member.size} bytes")
                label = read_class(file.read(member.size), extension)
            except (ValueError, RecursionError) as error:
                no_class.add(f"{shown(member.name)}: {error}")
            else:
                self.labels.update({} if label is None else {extension: label})

    def finish(self, rows: array[int], no_picture: _Tally) -> None:
        """Adds the row of this sample, if it is one."""
        picture = self._picture("") or self._picture(HIGH)
        if picture is not None:
            low = self._picture(LOW) or (NO_MEMBER,) * 3
            label = self.labels.get("cls", self.labels.get("json", NO_CLASS))
            rows.extend((*picture, *low, label))
        elif self.members:
            no_picture.add(f"{shown(self.key or '')} with {', '.join(self.members)}")

    def _picture(self, role: str) -> tuple[int, int, int] | None:
        names = (f"{role}.{suffix}".lstrip(".") for suffix in PICTURES)
        return next((self.members[name] for name in names if name in self.members), None)


def read_class(content: bytes, extension: str) -> int | None:
    """The class in a member; None for a .json without one. Raises ValueError."""
    text = content.decode("utf-8-sig").strip()
    if extension == "cls":
        label = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else text[:40]
    else:
        found = json.loads(text)
        if not isinstance(found, dict) or "class" not in found:
            return None
        label = found["class"]
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < 2**31:
        raise ValueError(f"found {label!r}, expected a whole number from 0")
    return label
