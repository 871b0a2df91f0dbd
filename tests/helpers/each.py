"""One case for all values that a rule holds for."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def each(names: str | tuple[str, ...], values: Iterable[Any]) -> Callable[[Any], Any]:
    """Like pytest.mark.parametrize, but in one case: a failure says for which values.

    For seeds, sizes and numbers that go through the same lines; fixtures are shared by all.
    """
    chosen = (names,) if isinstance(names, str) else names
    rows = [(value,) if isinstance(names, str) else tuple(value) for value in values]
    assert rows, f"no values for {names}"

    def loop(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def every(**fixtures: Any) -> None:
            for row in rows:
                given = dict(zip(chosen, row, strict=True))
                try:
                    test(**fixtures, **given)
                except (Exception, pytest.fail.Exception) as error:
                    said = ", ".join(f"{name} = {reprlib.repr(v)}" for name, v in given.items())
                    raise AssertionError(f"with {said}") from error

        signature = inspect.signature(test)
        left = [p for name, p in signature.parameters.items() if name not in chosen]
        every.__signature__ = signature.replace(parameters=left)  # what pytest is to give
        return every

    return loop
