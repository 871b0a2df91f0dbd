"""Damage to the bytes of a file, and files that are none."""

from __future__ import annotations

import io
import os
import random
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tools.fuzzing.model_files import join_safetensors, split_safetensors

Change = Callable[[random.Random, bytes], bytes]


def _place(rng: random.Random, data: bytes) -> int:
    """In the head, the end or anywhere."""
    limit = rng.choice((8, 64, 4096, len(data), len(data)))
    place = rng.randrange(max(1, min(limit, len(data))))
    return len(data) - 1 - place if rng.random() < 0.3 else place


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 20))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwritten(rng: random.Random, data: bytes) -> bytes:
    place, length = _place(rng, data), rng.choice((1, 8, 512, 5000))
    filling = rng.choice((b"\0" * length, b"\xff" * length, rng.randbytes(length)))
    return data[:place] + filling + data[place + length :]


def _removed(rng: random.Random, data: bytes) -> bytes:
    place = _place(rng, data)
    return data[:place] + data[place + rng.choice((1, 8, 4096)) :]


def _inserted(rng: random.Random, data: bytes) -> bytes:
    place = _place(rng, data)
    return data[:place] + rng.randbytes(rng.choice((1, 8, 4096))) + data[place:]


def _longer(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((b"\0", b"\0" * 4096, b"PK\5\6" + b"\0" * 18, data[:1000], data))


BYTE_DAMAGE: dict[str, Change] = {
    "cut": _cut, "bits flipped": _flipped, "overwritten": _overwritten, "bytes removed": _removed,
    "bytes inserted": _inserted, "longer": _longer,
}  # fmt: skip


def header_length(rng: random.Random, data: bytes) -> bytes:
    """Another length before the header of a safetensors file."""
    told = int.from_bytes(data[:8], "little")
    length = rng.choice((0, 1, told - 1, told + 1, told + 8, len(data), len(data) - 8, 10**8,
                         10**8 + 1, 2**31, 2**63 - 1, 2**64 - 1))  # fmt: skip
    return length.to_bytes(8, "little") + data[8:]


def header_entry(rng: random.Random, data: bytes) -> bytes:
    """Another dtype, shape or place of a tensor in the header."""
    header, body = split_safetensors(data)
    name = rng.choice(list(header))
    if name == "__metadata__":
        return metadata(rng, data)
    entry = header[name]
    begin, end = entry["data_offsets"]
    changes: list[dict[str, Any]] = [
        {"dtype": rng.choice(("F64", "F16", "BF16", "I8", "BOOL", "F8_E5M2", "F4", "C64", "", 7))},
        {"shape": rng.choice(([], [0], [-1], [2**62, 4], [2**32, 2**32], [1.5], None, [[1]], "3",
                              [*entry["shape"], 1], entry["shape"][::-1], [2**64]))},
        {"data_offsets": rng.choice(([begin, end + 4], [end, begin], [0, 0], [begin - 4, end],
                                     [0, 2**63], [begin], None, [begin + 1, end + 1],
                                     [len(body), len(body) + end - begin], [-8, 0]))},
        {"more": 1},
    ]  # fmt: skip
    header[name] = {**entry, **rng.choice(changes)}
    if rng.random() < 0.15:
        del header[name][rng.choice(list(header[name]))]
    if rng.random() < 0.1:
        header[name] = rng.choice((None, 1, [], "x"))
    return join_safetensors(header, body)


def header_text(rng: random.Random, data: bytes) -> bytes:
    """A header that is no JSON, or none of its kind."""
    told = int.from_bytes(data[:8], "little")
    text, body = data[8 : 8 + told], data[8 + told :]
    first = text[1 : text.index(b"}", text.index(b"data_offsets")) + 1]
    text = rng.choice((
        b"", b"{}", b"[]", b"null", b"{", b"[" * 5000, b'{"a":' * 5000, b"\xff\xfe" + text,
        b" " * 8 + text, text[:-20], text.replace(b":", b"=", 1), b"\xef\xbb\xbf" + text,
        b"{" + first + b"," + text[1:], text.replace(b'"F32"', b"NaN", 1),
        text.decode().encode("utf-16"),
        b'{"__metadata__":{"a":"b"},' + text[1:],
    ))  # fmt: skip
    return len(text).to_bytes(8, "little") + text + body


def metadata(rng: random.Random, data: bytes) -> bytes:
    """Of another file, of another version, or none at all."""
    header, body = split_safetensors(data)
    told = header.get("__metadata__", {})
    odd = ("", "0" * 32, "0" * 64, "2", "-1", "nsarm", "varsr", "ü" * 1000, "{", "\0")
    names = ("format_version", "family", "fingerprint", "contents", "sources", "more", "")
    changed: Any = {**told, rng.choice(names): rng.choice(odd)}
    if rng.random() < 0.25:
        changed = rng.choice((None, [], "x", {"a": 1}, {"a": None}, {}, {"a": {"b": "c"}}))
    header["__metadata__"] = changed
    return join_safetensors(header, body)


SAFETENSORS_DAMAGE: dict[str, Change] = {
    "header length": header_length, "header entry": header_entry, "header text": header_text,
    "metadata": metadata,
}  # fmt: skip

TWICE = b")q\x01" + b"".join(b"h%c\x86q%c" % (i, i + 1) for i in range(1, 100))
WIDE = b")q\x01" + b"".join(b"(" + b"h%c" % i * 300 + b"tq%c" % (i + 1) for i in range(1, 9))
BODIES = (
    b"}" + TWICE + b"K\x01s", b"}" + WIDE + b"K\x01s", b"}K\x01" + TWICE + b"\x85Qs",
    b"}K\x01" + TWICE + b")Rs", b"cos\nsystem\n(S'touch canary'\ntR", b"cbuiltins\nexit\n)R",
    b"(" * 10**5, b"\x8a\xff" + b"\0" * 300, b"I" + b"9" * 10**5 + b"\n", b"h\xff", b"0" * 9, b"t",
    b"ctorch._utils\n_rebuild_tensor_v2\n)R", b"ctorch\nStorage\n.", b"}q\0h\0h\0s",
    b"ctorch._utils\n_rebuild_parameter\n(NNNtR", b"ccollections\nOrderedDict\n)R}K\x01b",
)  # fmt: skip


def opcodes(rng: random.Random, data: bytes) -> bytes:
    """A pickle with other opcodes in the place of the checkpoint."""
    body = b"\x80\x02" + rng.choice(BODIES) + b"."
    if not data.startswith(b"PK"):
        start = data.index(b"\x80\x02", 30)  # behind the magic number and the version
        return data[: rng.choice((0, start))] + body + data[start:]
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as read, zipfile.ZipFile(made, "w") as written:
        for part in read.infolist():
            pickled = part.filename.endswith("data.pkl")
            written.writestr(zipfile.ZipInfo(part.filename), body if pickled else read.read(part))
    return made.getvalue()


def _png() -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (64, 64)).save(made, "PNG")
    return made.getvalue()


TEXTS = (
    b"", b"\0", b"Not Found", b"version https://git-lfs.github.com/spec/v1\n", b"{}" * 100,
    b"PK\3\4",
    b"\x80\x02}.", b"\x1f\x8b\b" + b"\0" * 50, b"GGUF" + b"\0" * 100, b"\0" * 5000, b"ustar" * 200,
)  # fmt: skip


def no_file(rng: random.Random, path: Path) -> str:
    """Puts something else in the place of a file; says what."""
    data = path.read_bytes()
    kind = rng.choice(("text", "picture", "folder", "pipe", "socket", "loop", "gone", "device",
                       "not readable", "sparse", "link", "missing"))  # fmt: skip
    if kind == "not readable":
        path.chmod(0)  # which hinders all but root
        return kind
    path.unlink()
    if kind == "text":
        path.write_bytes(rng.choice(TEXTS))
    elif kind == "picture":
        path.write_bytes(_png())
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(path))
    elif kind in ("loop", "gone", "device"):
        path.symlink_to({"loop": path.name, "gone": "nowhere", "device": "/dev/zero"}[kind])
    elif kind == "sparse":
        with path.open("wb") as file:
            file.write(data[: rng.choice((0, 8, len(data)))])
            file.truncate(2**40)
    elif kind == "link":
        kept = path.with_name("kept")
        kept.write_bytes(data)
        path.symlink_to(kept)
    return kind
