"""How large what a pickle describes is, told from its opcodes before anything is made of it.

A few hundred bytes can describe tuples that hold each other twice, sixty deep. Such a thing is
small in memory, but to hash it as a key, or to print it in an error, takes for ever.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

MAX_SIZE = 10**7  # objects, those that are shared counted as often as they are met
LEADING_PICKLES = 5  # of the older form, before the numbers: the fourth is the checkpoint

ZIP = b"PK\x03\x04"

Node = list[Any]
"""What an object holds: other nodes, or None for what holds nothing."""

MARK = "mark"
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
ADDED = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
ADDED_TO_MARK = ("APPENDS", "SETITEMS", "ADDITEMS")
PUTS = ("BINPUT", "LONG_BINPUT", "PUT")
GETS = ("BINGET", "LONG_BINGET", "GET")


def is_endless(path: Path) -> bool:
    """Whether a pickle of torch.save() describes more than any checkpoint has."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:  # as torch tells them apart
            file.seek(0)
            return any(_size_above(_nodes(file)) for _ in range(LEADING_PICKLES))
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                if part.filename.endswith("data.pkl"):
                    with archive.open(part) as file:
                        if _size_above(_nodes(file)):
                            return True
    except Exception:  # of damaged archives, whatever it is: torch says what is wrong with them
        return False
    return False


def _nodes(file: IO[bytes]) -> list[Node]:
    """All containers that one pickle makes, as far as it can be read; the rest is for torch."""
    made: list[Node] = []
    try:
        for node in _run(file):
            made.append(node)
    except Exception:  # of damaged pickles, as above
        return made
    return made


def _run(file: IO[bytes]) -> Iterator[Node]:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "MARK":
            stack.append(MARK)
        elif name in TUPLES or name == "TUPLE":
            node = _popped(stack, TUPLES.get(name))
            stack.append(node)
            yield node
        elif name.startswith("EMPTY_"):
            empty: Node = []
            stack.append(empty)
            yield empty
        elif name in ADDED or name in ADDED_TO_MARK:
            items = _popped(stack, ADDED.get(name))
            if stack[-1] is not None:
                stack[-1].extend(items)
        elif name in PUTS:
            memo[int(argument or 0)] = stack[-1]
        elif name in GETS:
            stack.append(memo[int(argument or 0)])
        elif opcode.stack_before:
            return  # STOP, or what torch refuses
        elif opcode.stack_after:
            stack.append(None)


def _popped(stack: list[Any], count: int | None) -> Node:
    """The last few objects, or all behind the last mark."""
    if count is None:
        count = next(i for i, one in enumerate(reversed(stack)) if one is MARK)
        items = stack[len(stack) - count :]
        del stack[len(stack) - count - 1 :]
        return items
    items = stack[len(stack) - count :]
    if count > len(stack) or any(one is MARK for one in items):
        raise ValueError("a pickle that takes more than there is")
    del stack[len(stack) - count :]
    return items


def _size_above(nodes: list[Node]) -> bool:
    """Whether any of them holds more than MAX_SIZE."""
    sizes: dict[int, int] = {}
    for start in nodes:
        waiting = [(start, False)]
        while waiting:
            node, entered = waiting.pop()
            if entered:
                sizes[id(node)] = 1 + sum(1 if n is None else sizes[id(n)] for n in node)
                if sizes[id(node)] > MAX_SIZE:
                    return True
            elif id(node) not in sizes:
                sizes[id(node)] = 0  # while what it holds is counted, for such as hold themselves
                waiting.append((node, True))
                waiting.extend((n, False) for n in node if n is not None and id(n) not in sizes)
    return False
