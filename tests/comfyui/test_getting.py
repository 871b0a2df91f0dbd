"""Get VARSR Model on real hosts, against a server on this machine that answers as the Hub does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers.comfyui.graphs import Graph
from helpers.comfyui.pictures import dumped, failing, restore, structured_picture
from helpers.comfyui.run import Event, Run
from helpers.comfyui.server import HOST_VERSIONS, ONE_THREAD, ComfyServer
from helpers.comfyui.slowness import slow
from helpers.hub import Hub, served
from tools.random_checkpoint import Sizes, write_release
from varsr_core.varsr.family import CONVERTED_FILE, FILES

PROBE_PACK = Path(__file__).resolve().parent / "probe_pack"
PATIENCE = 3.0  # seconds from Cancel to the end
LOOK = 0.05  # seconds that a look for Cancel takes, so that a file is not whole when it arrives
TOKENIZER, TRANSFORMER = FILES
# Large enough for a conversion of a second, small enough for a picture in one.
MEDIUM = Sizes(384, 12, 6, 64, (1, 2, 3, 4), (32,) * 5, 32, (32, 32, 32, 32, 384), 384, 6)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    paths = write_release(tmp_path_factory.mktemp("release"), MEDIUM)
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def module_hub(release: dict[str, bytes]) -> Iterator[Hub]:
    with served(release) as running:
        yield running


@pytest.fixture
def hub(module_hub: Hub) -> Hub:
    module_hub.let_go()
    module_hub.forget()
    return module_hub


Boot = Callable[..., ComfyServer]


@pytest.fixture(scope="module")
def boot(
    pack_dir: Path, module_hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Boot]:
    """Starts hosts that take the server for Hugging Face; `models`: those of another one."""
    running: list[ComfyServer] = []

    def start(host: Path, models: Path | None = None, **env: str) -> ComfyServer:
        base = tmp_path_factory.mktemp("getting")
        extra = []
        if models is not None:
            config = base / "extra.yaml"
            config.write_text(f"other:\n  base_path: {models}\n  is_default: true\n  varsr: .\n")
            extra = ["--extra-model-paths-config", str(config)]
        env = {**ONE_THREAD, "HF_ENDPOINT": module_hub.endpoint, **env}
        packs = [PROBE_PACK]
        running.append(
            ComfyServer(host, pack_dir, base, extra_packs=packs, extra_args=extra, env=env)
        )
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module", params=HOST_VERSIONS)
def running(request: pytest.FixtureRequest, hosts: dict[str, Path], boot: Boot) -> ComfyServer:
    return boot(hosts[request.param])


@pytest.fixture
def folder(running: ComfyServer) -> Path:
    """models/varsr of the host, which is not there yet."""
    folder = running.base / "models" / "varsr"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def graph_of(server: ComfyServer, number: int, **choices: bool) -> Graph:
    graph = Graph()
    picture = graph.picture(server.upload(structured_picture(12, 10), "got.png"))
    result = graph.upscale(graph.get_model(number=number, **choices), picture, scale=2.0)
    graph.dump(result)
    graph.save(result)
    return graph


def bring(hub: Hub, folder: Path) -> None:
    """All that could be fetched, by other means."""
    folder.mkdir()
    for name, content in hub.files.items():
        (folder / name).write_bytes(content)


def names_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("keep", [True, False])
def test_one_run_fetches_converts_and_restores(
    running: ComfyServer, hub: Hub, folder: Path, keep: bool
) -> None:
    graph = graph_of(running, 10 + keep, keep_pickles=keep)
    run = restore(running, graph)
    assert names_of(folder) == sorted([CONVERTED_FILE, *FILES] if keep else [CONVERTED_FILE])
    bar = run.progress("get")
    size = sum(map(len, hub.files.values()))
    assert bar[0] == (0, 1), "nothing is known yet"
    assert (size, size) in bar
    assert bar[-1][0] == bar[-1][1] < size, "what is written in the end"
    texts = [text for node, text in run.texts if node == "get"]
    for stage in (*(f"fetching {name}" for name in FILES), f"writing {CONVERTED_FILE}"):
        assert any(text.startswith(f"{stage}: ") for text in texts), texts
    assert any("MB/s" in text and "left" in text for text in texts)

    hub.forget()
    again = restore(running, graph)
    assert again.executed_nodes == []
    other = restore(running, graph_of(running, 20 + keep, download=False))
    assert "get" in other.executed_nodes
    assert not hub.requests
    loaded = Graph(graph)
    loaded.load(CONVERTED_FILE, node="get")
    np.testing.assert_array_equal(dumped(run), dumped(restore(running, loaded)))


def test_nothing_is_fetched_while_download_is_off(
    running: ComfyServer, hub: Hub, folder: Path
) -> None:
    graph = graph_of(running, 30, download=False)
    message = failing(running, graph, "VARSR_GetModel", "CheckpointError")
    for word in (*FILES, "15.1 GB", "https://huggingface.co/qyp2000/VARSR", "turn on download"):
        assert word in message
    assert not hub.requests
    assert not folder.exists()


def test_replaced_file_is_loaded_again(
    running: ComfyServer, hub: Hub, folder: Path, checkpoints: Path
) -> None:
    graph = graph_of(running, 40)
    first = restore(running, graph)
    shutil.copy(checkpoints / "micro.safetensors", folder / "new")
    (folder / "new").replace(folder / CONVERTED_FILE)
    second = restore(running, graph)
    assert "get" in second.executed_nodes
    assert np.abs(dumped(first) - dumped(second)).max() > 0.01


def test_files_that_are_there_are_converted_without_being_asked(
    running: ComfyServer, hub: Hub, folder: Path
) -> None:
    bring(hub, folder)
    restore(running, graph_of(running, 50, download=False, keep_pickles=False))
    assert names_of(folder) == sorted([CONVERTED_FILE, *FILES])
    assert not hub.requests


@pytest.mark.parametrize(
    ("phase", "number"), [(TOKENIZER, 60), (TRANSFORMER, 61), (CONVERTED_FILE, 62)]
)
def test_cancelled_run_stops_at_once_and_the_next_goes_on(
    running: ComfyServer, hub: Hub, folder: Path, phase: str, number: int
) -> None:
    graph = graph_of(running, number)
    if phase in FILES:
        hub.stops[phase] = len(hub.files[phase]) // 2
        run, seconds = cancelled(running, graph, hub.stopped.is_set)
    else:
        bring(hub, folder)
        with slow(running, LOOK):
            run, seconds = cancelled(running, graph, lambda: True)
    assert run.interrupted, run.error or "the run went on to its end"
    assert seconds < PATIENCE
    done = FILES[: (*FILES, CONVERTED_FILE).index(phase)]
    visible = [name for name in names_of(folder) if not name.startswith(".")]
    assert visible == sorted(done)
    hub.let_go()
    hub.forget()
    run = restore(running, graph)
    assert names_of(folder) == sorted([CONVERTED_FILE, *FILES])
    assert "get" in run.executed_nodes
    if phase in FILES:
        assert hub.asked[0] == (phase, len(hub.files[phase]) // 2)
    else:
        assert not hub.requests


def cancelled(server: ComfyServer, graph: Graph, reached: Callable[[], bool]) -> tuple[Run, float]:
    """A run that is interrupted while a file is fetched or written; seconds until it had ended.

    reached: asked at every step of the bar
    """
    pressed: list[float] = []

    def when(event: Event) -> bool:
        steps = event.type == "progress" and event.data["node"] == "get" and event.data["max"] > 1
        if steps and reached():
            pressed.append(time.monotonic())
        return bool(pressed)

    run = server.run(graph, interrupt_when=when)
    return run, time.monotonic() - pressed[0]


def test_error_is_a_sentence_and_the_next_run_tries_again(
    running: ComfyServer, hub: Hub, folder: Path
) -> None:
    graph = graph_of(running, 70)
    hub.damaged.add(TOKENIZER)
    assert "damaged on the way" in error_of(running, graph)
    hub.let_go()
    kept = hub.files.pop(TRANSFORMER)
    message = error_of(running, graph)
    hub.files[TRANSFORMER] = kept
    assert f"{TRANSFORMER} could not be fetched (404" in message
    assert message.strip().count("\n") == 0
    restore(running, graph)
    assert names_of(folder) == sorted([CONVERTED_FILE, *FILES])


def error_of(server: ComfyServer, graph: Graph) -> str:
    run = server.run(graph)
    assert run.error is not None, "the run went on to its end"
    assert run.error["exception_type"] == "varsr_core.errors.CheckpointError"
    return run.error["exception_message"]


def test_search_finds_it_by_what_people_type(running: ComfyServer) -> None:
    if running.stats()["system"]["comfyui_version"] == "0.3.75":
        return  # which knows no such words
    known = running.object_info("VARSR_GetModel")["search_aliases"]
    assert {"download", "released model", "pretrained", "huggingface"} <= set(known)


def test_offline_host_says_so(hosts: dict[str, Path], boot: Boot, hub: Hub) -> None:
    server = boot(hosts[HOST_VERSIONS[0]], HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in error_of(server, graph_of(server, 90))
    assert not hub.requests
    server.stop()


def test_two_hosts_with_one_folder_and_one_that_is_killed(
    hosts: dict[str, Path], boot: Boot, hub: Hub
) -> None:
    first = boot(hosts[HOST_VERSIONS[0]])
    folder = first.base / "models" / "varsr"
    second = boot(hosts[HOST_VERSIONS[1]], models=folder)
    half = len(hub.files[TRANSFORMER]) // 2
    hub.stops[TRANSFORMER] = half
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(first.run, graph_of(first, 0))
        assert hub.stopped.wait(60)
        assert "another download" in error_of(second, graph_of(second, 0))
        first.process.kill()
        assert isinstance(running.exception(), RuntimeError)
    assert TRANSFORMER not in names_of(folder)
    hub.let_go()
    hub.forget()
    run = restore(second, graph_of(second, 0, keep_pickles=False))
    assert hub.asked == [(TRANSFORMER, half)]
    assert names_of(folder) == sorted([CONVERTED_FILE, TOKENIZER]), "that was to be kept"
    assert "get" in run.executed_nodes
    second.stop()
