"""Makes a host with the probe pack slow in what can be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests

from helpers.comfyui.server import ComfyServer


@contextmanager
def slow(server: ComfyServer, seconds: float) -> Iterator[None]:
    """A context in which each look for Cancel takes so long."""
    _post(server, seconds)
    try:
        yield
    finally:
        _post(server, 0.0)


def _post(server: ComfyServer, seconds: float) -> None:
    address = f"{server.url}/probe/slowness"
    requests.post(address, json={"seconds": seconds}, timeout=60).raise_for_status()
