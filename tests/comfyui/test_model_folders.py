"""Where the Load node looks for files, on a server that has none at first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.comfyui.graphs import upscale_graph
from helpers.comfyui.pictures import restore, structured_picture
from helpers.comfyui.server import HOST_VERSIONS, ONE_THREAD, ComfyServer

NANO = "varsr_nano (built in)"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that extra_model_paths.yaml names."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def bare_server(
    hosts: dict[str, Path],
    pack_dir: Path,
    elsewhere: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComfyServer]:
    """Without models/varsr, as after installation."""
    base = tmp_path_factory.mktemp("bare")
    config = base / "extra_model_paths.yaml"
    config.write_text(f"shared:\n  base_path: {elsewhere.parent}\n  varsr: {elsewhere.name}\n")
    extra = ["--extra-model-paths-config", str(config)]
    host = hosts[HOST_VERSIONS[0]]
    with ComfyServer(host, pack_dir, base, extra_args=extra, env=ONE_THREAD) as running:
        yield running


def offered(server: ComfyServer) -> list[str]:
    return server.object_info("VARSR_LoadModel")["input"]["required"]["checkpoint"][1]["options"]


def test_the_built_in_model_is_there_without_any_file(bare_server: ComfyServer) -> None:
    assert offered(bare_server) == [NANO]
    picture = bare_server.upload(structured_picture(16, 16), "small.png")
    graph = upscale_graph(picture, NANO)
    graph.pop("dump")
    restore(bare_server, graph)


def test_files_of_both_folders_are_offered_and_load(
    bare_server: ComfyServer, elsewhere: Path, checkpoints: Path
) -> None:
    shutil.copy(checkpoints / "micro.safetensors", elsewhere / "there.safetensors")
    own = bare_server.base / "models" / "varsr"
    own.mkdir()
    shutil.copy(checkpoints / "micro.safetensors", own / "here.safetensors")
    first, *others = offered(bare_server)
    assert first == NANO
    assert set(others) == {"there.safetensors", "here.safetensors"}
    picture = bare_server.upload(structured_picture(16, 16), "small.png")
    for name in ("there.safetensors", "here.safetensors"):
        graph = upscale_graph(picture, name)
        graph.pop("dump")
        restore(bare_server, graph)
