"""Files by what they are on the disk, whatever names and links lead to them."""

from __future__ import annotations

import os
import stat
import unicodedata
import uuid
from pathlib import Path

from ..errors import InputError
from .part_files import ENDING

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
NAME_BYTES = 255  # of a name, where the file system does not say
SHORTEST_PART = 40  # bytes that the name of a part takes in its folder, more or less


def regular_stat(path: Path) -> os.stat_result:
    """Of a file that can be read to its end. Raises InputError for a pipe, a device, a folder,
    which opening alone might wait for, and OSError for what is not there."""
    found = path.stat()
    for is_kind, words in KINDS:
        if is_kind(found.st_mode):
            raise InputError(f"{path} is {words}, not a file; leave it out")
    return found


def absolute(path: Path) -> Path:
    """As `os.path.abspath`, but where `..` follows a link it is the folder above the link's
    target, as the system has it."""
    plain = Path(os.path.abspath(path))
    if ".." not in path.parts:
        return plain
    try:
        if plain.samefile(path):
            return plain
    except OSError:
        pass
    if path.name == "..":
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent), path.name)


def as_bytes(text: str) -> bytes:
    """A name as the file system has it: of names that are no UTF-8, the same in every locale."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def portable(text: str) -> str:
    """The same in every locale; bytes that are no UTF-8 stay, as lone surrogates."""
    return as_bytes(text).decode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    """For a terminal: bytes that are no text, and what would steer it, are written out."""
    return "".join(
        mark if mark.isprintable() or mark == "\n" else mark.encode("unicode_escape").decode()
        for mark in portable(text)
    )


class Entries:
    """Places of files in their folders, links on the way resolved: what writing would replace."""

    def __init__(self) -> None:
        self.folders: dict[Path, Path] = {}

    def of(self, path: Path) -> Path:
        parent = path.parent
        if parent not in self.folders:
            self.folders[parent] = Path(os.path.realpath(parent))
        return self.folders[parent] / path.name


def identities(path: Path) -> set[tuple[int, int]]:
    """Of a file and of the link that it may be reached by; empty for what is not there."""
    found = set()
    for look in (os.lstat, os.stat):
        try:
            status = look(path)
        except (OSError, ValueError):
            continue
        if status.st_ino:  # some file systems have no numbers
            found.add((status.st_dev, status.st_ino))
    return found


def folded(name: str) -> str:
    """The same for all names that some file system takes for one."""
    plain = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", plain)


def told_apart(first: Path, second: Path) -> bool:
    """Whether two files can lie beside each other. The file system is asked: on one machine there
    may be several, that fold upper case, composed letters, or nothing."""
    if first == second:
        return False
    pairs = zip(first.parts, second.parts, strict=False)
    if len(first.parts) != len(second.parts):
        return True
    probe = existing(first.parent) / f".{uuid.uuid4().hex[:16]}{ENDING}"
    try:
        probe.mkdir()
    except OSError:
        return False
    try:
        return any(_differ(probe, *pair) for pair in pairs if pair[0] != pair[1])
    finally:
        probe.rmdir()


def _differ(folder: Path, first: str, second: str) -> bool:
    try:
        (folder / first).touch()
        try:
            return not os.path.lexists(folder / second)
        finally:
            (folder / first).unlink()
    except OSError:
        return False


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def check_place(path: Path, folder: Path) -> None:
    """Refuses a result that could not be written, before it is made. Raises InputError.

    folder: that is there, in the file system where the result goes
    """
    name = len(as_bytes(path.name))
    most = _limit(folder, "PC_NAME_MAX", NAME_BYTES)
    if name > most:
        raise InputError(
            f"the name of the result has {name} bytes and may have {most}; choose a shorter --name"
        )
    most = _limit(folder, "PC_PATH_MAX", 0)
    longest = len(as_bytes(str(path))) + max(0, SHORTEST_PART - name)
    if most and longest >= most:
        raise InputError(
            f"the path of the result has {longest} bytes and may have {most - 1}; choose an output "
            "folder nearer to the root"
        )
    above = existing(path.parent)
    if not above.is_dir():
        raise InputError(f"{above} is in the way of the result's folder; move it")
    if path.is_dir() and not path.is_symlink():
        raise InputError(f"a folder is in the result's place, {path}; move it")


def _limit(folder: Path, name: str, otherwise: int) -> int:
    try:
        return os.pathconf(folder, name)
    except (AttributeError, OSError, ValueError):  # Windows has no such call
        return otherwise
