"""Measures that are networks, of the package pyiqa; and how they come to their weights.

pyiqa fetches weights wherever they are missing, from several places. Here it may do so only when
that is asked for: otherwise every connection is refused while a measure is built, so that nothing
is fetched unasked, and what would have been is known by name.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from tools.metrics.case import Case, Measure, colors
from varsr_core.errors import InputError

REQUIREMENTS = "tools/requirements-metrics.txt"
OFFLINE_ERRORS = {"OfflineModeIsEnabled", "LocalEntryNotFoundError"}  # of huggingface_hub
LICENSE = (
    "pyiqa may be used for noncommercial purposes only (PolyForm Noncommercial 1.0.0, parts under "
    "the S-Lab License 1.0; its weights under CC BY-NC-SA 4.0)"
)


def load(names: Sequence[str], fetch: bool, device: str) -> dict[str, Any]:
    """pyiqa's measures of these names. Raises InputError, which names all that are missing."""
    if not names:
        return {}
    try:
        import pyiqa
    except ImportError as error:
        raise InputError(
            f"{', '.join(names)}: of the package pyiqa, which cannot be imported ({error}); "
            f"pip install -r {REQUIREMENTS}. {LICENSE}"
        ) from error
    known = pyiqa.list_models()
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"pyiqa has no {', '.join(unknown)}; it has {', '.join(known)}")
    found, missing = {}, {}
    for name in names:
        refused: list[str] = []
        try:
            with contextlib.nullcontext() if fetch else _refusing(refused):
                found[name] = pyiqa.create_metric(name, device=torch.device(device))
        except Exception as error:  # of many packages below pyiqa, each with its own
            if not fetch and _told_offline(error):
                refused.append("from huggingface.co")
            if not refused and not fetch:
                raise InputError(f"{name}: pyiqa could not build it: {error}") from error
            missing[name] = f"{name} ({refused[0]})" if refused else f"{name} ({error})"
    if missing and fetch:
        raise InputError(f"could not be fetched or built: {'; '.join(missing.values())}")
    if missing:
        raise InputError(
            f"weights of {len(missing)} measures are not on this machine: "
            f"{', '.join(missing.values())}. With --fetch they are fetched, once; leave these "
            f"measures out of --metrics to go on without. {LICENSE}"
        )
    return found


@contextlib.contextmanager
def _refusing(refused: list[str]) -> Iterator[None]:
    """No connection can be made; hosts that were asked for are added to the list."""

    def lookup(host: Any, *_rest: Any, **_more: Any) -> None:
        refused.append(f"from {host}")
        raise socket.gaierror(socket.EAI_NONAME, "connections are refused without --fetch")

    def connect(_socket: socket.socket, address: Any) -> None:
        lookup(address[0] if isinstance(address, tuple) else address)

    kept = socket.getaddrinfo, socket.socket.connect
    socket.getaddrinfo, socket.socket.connect = lookup, connect
    try:
        with _hub_offline():
            yield
    finally:
        socket.getaddrinfo, socket.socket.connect = kept


@contextlib.contextmanager
def _hub_offline() -> Iterator[None]:
    """Hugging Face's client does not try five times, over half a minute, what is refused."""
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    kept, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = kept


def _told_offline(error: BaseException | None) -> bool:
    """Whether an error came of that client, which then did not ask for a connection."""
    while error is not None:
        if type(error).__name__ in OFFLINE_ERRORS:
            return True
        error = error.__cause__ or error.__context__
    return False


def of_pair(metric: Any) -> Measure:
    """A measure of a result and its reference."""

    def measure(case: Case) -> float:
        assert case.reference is not None
        return float(_repeatable(metric)(colors(case.result), colors(case.reference)))

    return measure


def of_result(metric: Any) -> Measure:
    return lambda case: float(_repeatable(metric)(colors(case.result)))


def of_set(metric: Any) -> Callable[[Iterable[Case]], float]:
    """A measure of all results and all references, of which it is given two folders."""

    def measure(cases: Iterable[Case]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            results, references = Path(folder, "results"), Path(folder, "references")
            for place in (results, references):
                place.mkdir()
            for number, case in enumerate(cases):
                assert case.reference is not None
                case.result.convert("RGB").save(results / f"{number:06}.png")
                case.reference.convert("RGB").save(references / f"{number:06}.png")
            return float(_repeatable(metric)(str(results), str(references)))

    return measure


def _repeatable(metric: Any) -> Any:
    """Some of them look at crops drawn at random."""
    torch.manual_seed(0)
    return metric
