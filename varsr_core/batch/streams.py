"""The standard streams of the command: closed, broken, or without a terminal behind them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

STREAMS = ("stdin", "stdout", "stderr")


class ReaderGone(BaseException):
    """Nobody reads any longer what the command says; as Ctrl-C, it is no failure of a file."""


def open_all() -> None:
    """Puts something in the place of streams that are closed, before a file of the run gets the
    number of one of them and is written to by whoever has something to say."""
    for number, name in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 (until the end)
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def telling(stream: TextIO) -> Iterator[None]:
    """For what is written to `stream`. Raises ReaderGone where it was read by a program that has
    ended; where it cannot be written for another reason, nothing more is said there."""
    try:
        yield
    except OSError as error:
        silence(stream)
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None


def flush_all() -> None:
    """Raises ReaderGone. Without it Python would, when it ends, with words of its own."""
    for stream in (sys.stdout, sys.stderr):
        with telling(stream):
            stream.flush()


def silence(stream: TextIO) -> None:
    """What is still to be written goes nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
