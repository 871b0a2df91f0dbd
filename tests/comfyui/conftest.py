"""Both ComfyUI hosts, each booted once a session with the pack as users would get it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from helpers.comfyui.checkpoints import write_checkpoints
from helpers.comfyui.page import ComfyPage, launched, opened
from helpers.comfyui.pictures import structured_picture
from helpers.comfyui.server import HOST_VERSIONS, ONE_THREAD, ComfyServer
from helpers.comfyui.workflows import EXAMPLE
from helpers.paths import KITTEN, ROOT

HERE = Path(__file__).resolve().parent
PACK_NAME = "ComfyUI-VARSR"
PROBE_PACK = HERE / "probe_pack"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A missing host stops the session: skipping would look like a pass."""
    if not any(item.path.is_relative_to(HERE) for item in items):
        return
    missing = [version for version in HOST_VERSIONS if version not in _hosts()]
    if missing:
        raise pytest.UsageError(
            f"{HERE.name}: ComfyUI {', '.join(missing)} not named in COMFYUI_HOSTS. "
            "Run these tests with: python3 tools/test.py"
        )
    left_out = [item for item in items if _is_early_canvas(item)]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            # A frame of a page that is drawn without a GPU may come late: once more, and told.
            item.add_marker(pytest.mark.flaky(reruns=1))


def _is_early_canvas(item: pytest.Item) -> bool:
    """Nodes 2.0 as the oldest ComfyUI has it, an experiment of its time: pages take long to open,
    and the classic canvas is what runs there. The newest is tried on both."""
    return HOST_VERSIONS[-1] in item.name and "nodes 2.0" in item.name


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


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder models/varsr full of files, see write_checkpoints()."""
    folder = tmp_path_factory.mktemp("checkpoints") / "models" / "varsr"
    write_checkpoints(folder)
    return folder


@pytest.fixture(scope="session", params=HOST_VERSIONS)
def server(
    request: pytest.FixtureRequest,
    hosts: dict[str, Path],
    pack_dir: Path,
    checkpoints: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComfyServer]:
    """Shared by all tests of a host, so results of an earlier test may be in its cache: what a
    test wants to see executed needs a seed no other test uses."""
    base = tmp_path_factory.mktemp(f"comfyui-{request.param}")
    shutil.copytree(checkpoints, base / "models" / "varsr")
    host = hosts[request.param]
    with ComfyServer(host, pack_dir, base, extra_packs=[PROBE_PACK], env=ONE_THREAD) as running:
        yield running


@pytest.fixture(scope="session", params=HOST_VERSIONS)
def fresh(
    request: pytest.FixtureRequest,
    hosts: dict[str, Path],
    pack_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComfyServer]:
    """As installed a minute ago: no model, and no picture but the one that comes with ComfyUI."""
    base, host = tmp_path_factory.mktemp(f"fresh-{request.param}"), hosts[request.param]
    (base / "input").mkdir()
    shutil.copy(host / "input" / EXAMPLE, base / "input")
    with ComfyServer(host, pack_dir, base, env=ONE_THREAD) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = os.environ.get("COMFYUI_BROWSER")
    if not found:
        pytest.fail("COMFYUI_BROWSER names no browser. Run these tests with: python3 tools/test.py")
    with launched(found) as browser:
        yield browser


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes 2.0"])
def page(
    request: pytest.FixtureRequest, browser: Browser, server: ComfyServer
) -> Iterator[ComfyPage]:
    """Errors count at the end, whatever test they happened in."""
    server.upload(Image.open(KITTEN), KITTEN.name)
    with opened(browser, server, vue=request.param) as page:
        page.mode = f"{server.host.parent.name}_{'vue' if request.param else 'classic'}"
        yield page
        assert page.errors == []
        assert page.failed == []


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """The picture that most tests restore: not square, six tiles when four times larger."""
    return structured_picture(40, 28)


@pytest.fixture
def uploaded(server: ComfyServer, photo: Image.Image) -> str:
    """The photo as a LoadImage node names it."""
    return server.upload(photo, "photo.png")


def _hosts() -> dict[str, Path]:
    named = json.loads(os.environ.get("COMFYUI_HOSTS", "{}"))
    return {version: Path(folder) for version, folder in named.items()}


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
