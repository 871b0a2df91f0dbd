"""The real download code against a server on this machine that answers as the Hub does."""

import hashlib
import http.server
import subprocess
import sys
import threading

import pytest

from helpers.paths import ROOT
from varsr_core.download import LOCK_FILE, PARTIAL_FOLDER, download
from varsr_core.errors import CheckpointError
from varsr_core.files.atomic import held
from varsr_core.varsr.family import FILES, REPOSITORY

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Serves /<repository>/resolve/<revision>/<file>."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = {name: name.encode() * 1000 for name in FILES}
        self.damaged: set[str] = set()
        self.requests: list[str] = []

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.server.requests.append(f"{self.command} {self.path}")
        content = self.server.files.get(self.path.rsplit("/", 1)[-1])
        if content is None or f"/{REPOSITORY}/resolve/" not in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            damaged = self.path.rsplit("/", 1)[-1] in self.server.damaged
            self.wfile.write(bytes(len(content)) if damaged else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_download_gives_the_servers_files_and_nothing_else(hub, tmp_path):
    paths = download(tmp_path / "varsr", endpoint=hub.endpoint)
    assert [path.read_bytes() for path in paths] == [hub.files[name] for name in FILES]
    assert sorted(p.name for p in (tmp_path / "varsr").iterdir()) == sorted(FILES)


def test_download_asks_for_the_revision(hub, tmp_path):
    download(tmp_path, revision="v1", endpoint=hub.endpoint)
    assert all("/resolve/v1/" in request for request in hub.requests)


def test_present_files_are_not_fetched_again(hub, tmp_path):
    (tmp_path / FILES[0]).write_bytes(b"mine")
    download(tmp_path, endpoint=hub.endpoint)
    assert (tmp_path / FILES[0]).read_bytes() == b"mine"
    assert not any(FILES[0] in request for request in hub.requests)


def test_damaged_file_never_gets_its_final_name(hub, tmp_path):
    hub.damaged.add(FILES[1])
    with pytest.raises(CheckpointError, match="damaged on the way"):
        download(tmp_path, endpoint=hub.endpoint)
    assert (tmp_path / FILES[0]).is_file()
    assert not (tmp_path / FILES[1]).exists()
    hub.damaged.clear()
    assert download(tmp_path, endpoint=hub.endpoint)[1].read_bytes() == hub.files[FILES[1]]


def test_second_download_into_a_folder_waits_its_turn(hub, tmp_path):
    with held(tmp_path / LOCK_FILE), pytest.raises(CheckpointError):
        download(tmp_path, endpoint=hub.endpoint)
    assert not hub.requests
    (tmp_path / LOCK_FILE).touch()  # a download that was killed holds nothing
    download(tmp_path, endpoint=hub.endpoint)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FILES)


def test_full_disk_is_told_before_the_transfer(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(CheckpointError, match="make room"):
        download(tmp_path, endpoint=hub.endpoint)
    assert not any(request.startswith("GET") for request in hub.requests)


def test_missing_file_on_the_server_tells_the_way_by_hand(hub, tmp_path):
    del hub.files[FILES[1]]
    with pytest.raises(CheckpointError, match=f"{FILES[1]} could not be fetched.*by hand"):
        download(tmp_path, endpoint=hub.endpoint)


def test_unreachable_server_tells_the_way_by_hand(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not be fetched.*by hand"):
        download(tmp_path, endpoint="http://127.0.0.1:9")


def test_without_the_library_the_error_tells_repository_files_and_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError) as raised:
        download(tmp_path)
    assert all(word in str(raised.value) for word in (*FILES, REPOSITORY, str(tmp_path)))
    assert not (tmp_path / PARTIAL_FOLDER).exists()


def test_command_downloads_and_tells_the_next_step(hub, tmp_path):
    command = [sys.executable, "-m", "varsr_core.download", str(tmp_path)]
    done = subprocess.run(
        [*command, "--endpoint", hub.endpoint], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "varsr_core.convert" in done.stderr
    assert (tmp_path / FILES[1]).is_file()
