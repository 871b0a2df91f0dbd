"""Folders that nobody should have: good pictures and films among all that can lie beside them."""

from __future__ import annotations

import os
import random
import socket
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import batch_files, film_files
from varsr_core.batch.part_files import ENDING, NAME

Rng = random.Random

BYTES = os.fsdecode(b"b\xff\xe9")  # no UTF-8
STEMS = (
    "a", "A", "ß", "ss", "é", unicodedata.normalize("NFD", "é"), BYTES, "new\nline", "-dash", "a b",
    "a[1]", "star*", "{stem}", "..", "a.b.c", "con", "q'uo\"te", "%s", "\x1b[2J", "n" * 250,
    "é" * 124,
    "tab\t", "~", "$HOME", "日本", "trailing ",
)  # fmt: skip
SUFFIXES = ("png", "PNG", "jpg", "jpeg", "jfif", "webp", "tif", "TIFF")
FILMS = ("mp4", "mkv", "mov", "webm", "m4v")
PLACES = ("", "", "sub", "sub/deep", "ä", BYTES, "-x", "a b")


@dataclass
class Folders:
    """A world below one folder: in/ with what is to be restored, elsewhere/ with the rest.

    good:    that a run over all of in/ has to restore
    may_go:  files of killed runs, and what may be replaced
    """

    top: Path
    good: list[Path] = field(default_factory=list)
    may_go: set[Path] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def inside(self) -> Path:
        return self.top / "in"

    @property
    def elsewhere(self) -> Path:
        return self.top / "elsewhere"


def make_folders(rng: Rng, top: Path) -> Folders:
    made = Folders(top)
    for folder in (made.inside, made.elsewhere / "sub"):
        folder.mkdir(parents=True)
    _picture(rng, made.elsewhere / "c.png")
    _picture(rng, made.elsewhere / "sub" / "d.png")
    for _ in range(rng.choice((1, 2, 4))):
        _good(rng, made)
    for _ in range(rng.choice((0, 2, 4, 7))):
        hazard = rng.choice(HAZARDS)
        try:
            hazard(rng, made)
        except FileExistsError:
            continue
        made.notes.append(hazard.__name__.strip("_"))
    return made


def _free(rng: Rng, made: Folders, suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """A name that is not taken, in some folder of in/. Raises FileExistsError."""
    folder = made.inside / rng.choice(PLACES)
    path = folder / f"{rng.choice(STEMS)}.{rng.choice(suffixes)}"
    folder.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        raise FileExistsError(path)
    return path


def _picture(rng: Rng, path: Path) -> None:
    channels = rng.choice((1, 3, 3, 4)) if path.suffix.lower() in (".png", ".webp") else 3
    size = rng.choice((8, 12)), rng.choice((8, 11))
    values = batch_files.pixels(*size, channels=channels, seed=rng.randrange(99))
    if path.suffix == ".png" and rng.random() < 0.3:
        batch_files.save_png16(path, values.astype(np.uint16) * 257)
        return
    kind = {"jpg": "JPEG", "jfif": "JPEG", "tif": "TIFF"}
    suffix = path.suffix.lower()[1:]
    Image.fromarray(values.squeeze()).save(path, kind.get(suffix, suffix.upper()))


def _good(rng: Rng, made: Folders) -> None:
    try:
        path = _free(rng, made)
    except FileExistsError:
        return
    _picture(rng, path)
    if not path.name.startswith("."):
        made.good.append(path)


def _film(rng: Rng, made: Folders) -> None:
    path = _free(rng, made, FILMS)
    plain = made.top / f"film{path.suffix}"
    film_files.make_film(plain, rng.choice((1, 3)), sound=rng.random() < 0.5)
    plain.rename(path)
    if not path.name.startswith("."):
        made.good.append(path)


def _broken(rng: Rng, made: Folders) -> None:
    path = _free(rng, made, SUFFIXES + FILMS)
    kind = rng.choice(("empty", "text", "half", "bomb", "flipped", "other kind", "list"))
    plain = made.top / "plain.png"
    _picture(rng, plain)
    data = bytearray(plain.read_bytes())
    plain.unlink()
    if kind == "bomb":
        batch_files.save_bomb(path)
        return
    if kind == "flipped":
        for _ in range(3):
            data[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes({
        "empty": b"", "text": b"no picture", "half": bytes(data[: len(data) // 2]),
        "flipped": bytes(data), "other kind": b"GIF89a" + bytes(99),
        "list": b"ffconcat version 1.0\nfile '../elsewhere/c.png'\n",
    }[kind])  # fmt: skip


def _half_film(rng: Rng, made: Folders) -> None:
    path = _free(rng, made, FILMS)
    plain = made.top / f"film{path.suffix}"
    data = film_files.make_film(plain, 3, sound=False).read_bytes()
    plain.unlink()
    path.write_bytes(data[: rng.randrange(len(data))])


def _link(rng: Rng, made: Folders) -> None:
    path = _free(rng, made)
    targets = (path.name, "nowhere.png", made.elsewhere / "c.png", "/dev/zero", "/dev/null", "..",
               made.good[0] if made.good else "gone", "/proc/self/mem")  # fmt: skip
    path.symlink_to(rng.choice(targets))


def _folder_link(rng: Rng, made: Folders) -> None:
    folder = made.inside / rng.choice(PLACES)
    folder.mkdir(parents=True, exist_ok=True)
    targets = (
        ".",
        "..",
        made.inside,
        made.elsewhere,
        made.top,
        "loop",
        made.top / "out",
        "/proc/self/fd",
    )
    (folder / rng.choice(("link", "loop", "aa", "zz"))).symlink_to(rng.choice(targets))


def _hard_link(rng: Rng, made: Folders) -> None:
    path = _free(rng, made)
    os.link(made.elsewhere / "c.png", path)


def _pipe(rng: Rng, made: Folders) -> None:
    os.mkfifo(_free(rng, made, SUFFIXES + FILMS))


def _socket(rng: Rng, made: Folders) -> None:
    before = Path.cwd()
    os.chdir(made.inside)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket.png")
    except OSError:
        raise FileExistsError from None
    finally:
        os.chdir(before)


def _folder_named_as_a_picture(rng: Rng, made: Folders) -> None:
    path = _free(rng, made)
    path.mkdir()
    _picture(rng, path / "inner.png")
    made.good.append(path / "inner.png")


def _not_readable(rng: Rng, made: Folders) -> None:
    """For all but root."""
    path = _free(rng, made)
    _picture(rng, path)
    path.chmod(0)
    if rng.random() < 0.5:
        folder = made.inside / "closed"
        folder.mkdir()
        _picture(rng, folder / "a.png")
        folder.chmod(0)


def _other_kinds(rng: Rng, made: Folders) -> None:
    for name in rng.sample(("a.gif", "notes", "b.txt", ".hidden.png", "x.svg", ".png"), 3):
        (made.inside / name).write_bytes(b"x")


def _result_folder(rng: Rng, made: Folders) -> None:
    """Of another run, which may still be at work."""
    folder = made.inside / "earlier"
    folder.mkdir()
    (folder / NAME).write_bytes(b"")
    (folder / f".0123{ENDING}").write_bytes(b"at work")
    _picture(rng, folder / "r.png")
    made.good.append(folder / "r.png")


HAZARDS: tuple[Callable[[Rng, Folders], None], ...] = (
    _good, _film, _broken, _broken, _half_film, _link, _link, _folder_link, _folder_link,
    _hard_link, _pipe, _socket, _folder_named_as_a_picture, _not_readable, _other_kinds,
    _result_folder,
)  # fmt: skip
