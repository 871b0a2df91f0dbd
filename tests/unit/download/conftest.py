"""A server of released files, whole ones and such that are no model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.hub import Hub, served
from tools.random_checkpoint import MICRO, write_release
from varsr_core.download import remote


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.05)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with served() as running:
        yield running


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A tiny model as it is released."""
    return list(write_release(tmp_path_factory.mktemp("release"), MICRO))


@pytest.fixture
def model_hub(release: list[Path]) -> Iterator[Hub]:
    with served({path.name: path.read_bytes() for path in release}) as running:
        yield running
