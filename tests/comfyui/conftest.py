"""Both ComfyUI hosts, each booted once a session with the pack as users would get it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_server import ComfyServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACK_NAME = "ComfyUI-VARSR"
HOST_VERSIONS = ("0.30.0", "0.3.75")  # newest and oldest supported


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A missing host stops the session: skipping would look like a pass."""
    if not any(item.path.is_relative_to(HERE) for item in items):
        return
    missing = [version for version in HOST_VERSIONS if version not in _hosts()]
    if missing:
        raise pytest.UsageError(
            f"{HERE.name}: ComfyUI {', '.join(missing)} not named in COMFYUI_HOSTS. "
            "Run these tests with: python3 tools/test.py"
        )


@pytest.fixture(scope="session")
def hosts() -> dict[str, Path]:
    """ComfyUI version -> its folder."""
    return _hosts()


@pytest.fixture(scope="session")
def pack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack as git would hand it out: a file that was never added is missing here too.

    Taken from the last commit plus the changes to tracked and staged files; "stash create"
    writes such a commit without touching the index, the work tree or the list of stashes.
    """
    commit = _git("stash", "create").decode().strip() or "HEAD"
    place = tmp_path_factory.mktemp("pack") / PACK_NAME
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
        archive.extractall(place, filter="data")
    return place


@pytest.fixture(scope="session", params=HOST_VERSIONS)
def server(
    request: pytest.FixtureRequest,
    hosts: dict[str, Path],
    pack_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComfyServer]:
    """Shared by all tests of a host: use graphs and file names no other test uses."""
    base = tmp_path_factory.mktemp(f"comfyui-{request.param}")
    with ComfyServer(hosts[request.param], pack_dir, base) as running:
        yield running


def _hosts() -> dict[str, Path]:
    named = json.loads(os.environ.get("COMFYUI_HOSTS", "{}"))
    return {version: Path(folder) for version, folder in named.items()}


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
