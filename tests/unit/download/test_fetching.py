"""The real download code against a server on this machine that answers as the Hub does."""

import errno
import os
import resource
import subprocess
import sys
import time

import pytest

from helpers.each import each
from helpers.paths import ROOT
from varsr_core.download import fetching, remote
from varsr_core.download.fetching import PARTIAL_FOLDER, Source
from varsr_core.download.release import LOCK_FILE, download
from varsr_core.errors import CheckpointError
from varsr_core.files.atomic import held
from varsr_core.files.progress import silent
from varsr_core.varsr.family import FILES, REPOSITORY

TOKENIZER, TRANSFORMER = FILES
MIDDLE = 100_000  # bytes, of 180,000


class StopError(Exception):
    """As the cancel button raises one."""


def fetched(hub, folder, on_progress=silent):
    return download(folder, Source(endpoint=hub.endpoint), on_progress)


def stopping(name, byte):
    """A FileProgressFn that stops once so much of a file is there."""

    def on_progress(progress):
        before = 180_000 if name == TRANSFORMER else 0
        if progress.stage == f"fetching {name}" and progress.done - before >= byte:
            raise StopError

    return on_progress


def names_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def assert_complete(hub, folder):
    assert names_of(folder) == sorted(FILES)
    assert all((folder / name).read_bytes() == hub.files[name] for name in FILES)


def test_download_gives_the_servers_files_and_nothing_else(hub, tmp_path):
    paths = fetched(hub, tmp_path / "varsr")
    assert paths == [tmp_path / "varsr" / name for name in FILES]
    assert_complete(hub, tmp_path / "varsr")


def test_download_asks_for_the_revision(hub, tmp_path):
    download(tmp_path, Source("v1", hub.endpoint))
    asked = [request for request in hub.requests if "/resolve/" in request]
    assert asked
    assert all("/resolve/v1/" in request for request in asked)


def test_present_files_are_not_fetched_again(hub, tmp_path):
    (tmp_path / TOKENIZER).write_bytes(b"mine")
    fetched(hub, tmp_path)
    assert (tmp_path / TOKENIZER).read_bytes() == b"mine"
    assert not any(TOKENIZER in request for request in hub.requests)


def test_files_that_are_there_need_no_server_and_no_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for name in FILES:
        (tmp_path / name).write_bytes(b"mine")
    download(tmp_path, Source(endpoint="http://127.0.0.1:9"))
    assert names_of(tmp_path) == sorted(FILES)


def test_damaged_file_never_gets_its_final_name(hub, tmp_path):
    hub.damaged.add(TRANSFORMER)
    with pytest.raises(CheckpointError, match="damaged on the way"):
        fetched(hub, tmp_path)
    assert (tmp_path / TOKENIZER).is_file()
    assert [name for name in names_of(tmp_path) if TRANSFORMER in name] == []
    hub.let_go()
    fetched(hub, tmp_path)
    assert_complete(hub, tmp_path)


def test_second_download_into_a_folder_is_refused_while_the_first_goes_on(hub, tmp_path):
    with held(tmp_path / LOCK_FILE), pytest.raises(CheckpointError, match="is under way"):
        fetched(hub, tmp_path)
    assert not hub.requests
    (tmp_path / LOCK_FILE).touch()  # a download that was killed holds nothing
    fetched(hub, tmp_path)
    assert_complete(hub, tmp_path)


def test_full_disk_is_told_before_the_transfer(hub, tmp_path, monkeypatch):
    size = sum(map(len, hub.files.values()))
    free = {"free": size - 1}
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), free)())
    with pytest.raises(CheckpointError, match=r"the released model in .* make room"):
        fetched(hub, tmp_path)
    assert not hub.asked
    free["free"] = size
    fetched(hub, tmp_path)


def test_what_is_there_of_a_file_needs_no_room_again(hub, tmp_path, monkeypatch):
    with pytest.raises(StopError):
        fetched(hub, tmp_path, stopping(TRANSFORMER, MIDDLE))
    (part,) = (tmp_path / PARTIAL_FOLDER).iterdir()
    usage = type("Usage", (), {"free": 180_000 - part.stat().st_size})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    fetched(hub, tmp_path)
    assert_complete(hub, tmp_path)


@each("name", FILES)
def test_stopped_download_goes_on_where_it_was(hub, tmp_path, name):
    folder = tmp_path / name
    hub.stops[name] = MIDDLE  # so that no more is on the way
    with pytest.raises(StopError):
        fetched(hub, folder, stopping(name, MIDDLE))
    assert not (folder / name).exists()
    hub.let_go()
    hub.forget()
    fetched(hub, folder)
    assert (name, MIDDLE) in hub.asked
    assert hub.sent[name] == 180_000 - MIDDLE
    assert_complete(hub, folder)


def test_server_that_breaks_off_is_asked_for_the_rest(hub, tmp_path):
    hub.breaks = dict.fromkeys(FILES, 40_000)
    fetched(hub, tmp_path)
    assert hub.asked == [(name, at) for name in FILES for at in range(0, 180_000, 40_000)]
    assert_complete(hub, tmp_path)


def test_server_that_knows_no_ranges_gives_the_same_bytes(hub, tmp_path):
    hub.ranges = False
    hub.stops[TRANSFORMER] = MIDDLE
    with pytest.raises(StopError):
        fetched(hub, tmp_path, stopping(TRANSFORMER, MIDDLE))
    hub.let_go()
    fetched(hub, tmp_path)
    assert hub.asked[-1] == (TRANSFORMER, 0)
    assert_complete(hub, tmp_path)


def test_part_of_a_file_that_was_replaced_on_the_server_is_dropped(hub, tmp_path):
    with pytest.raises(StopError):
        fetched(hub, tmp_path, stopping(TRANSFORMER, MIDDLE))
    hub.files[TRANSFORMER] = b"new" * 50_000
    hub.forget()
    fetched(hub, tmp_path)
    assert hub.asked == [(TRANSFORMER, 0)]
    assert_complete(hub, tmp_path)


def test_part_that_is_too_long_is_begun_anew(hub, tmp_path):
    with pytest.raises(StopError):
        fetched(hub, tmp_path, stopping(TRANSFORMER, MIDDLE))
    (part,) = (tmp_path / PARTIAL_FOLDER).iterdir()
    part.write_bytes(bytes(200_000))
    fetched(hub, tmp_path)
    assert_complete(hub, tmp_path)


def test_what_earlier_versions_left_unfinished_is_removed(hub, tmp_path):
    old = tmp_path / PARTIAL_FOLDER / ".cache" / "huggingface" / "VARSR.pth.incomplete"
    old.parent.mkdir(parents=True)
    old.touch()
    fetched(hub, tmp_path)
    assert_complete(hub, tmp_path)


def test_file_without_a_hash_is_fetched_anew_and_a_warning_tells(hub, tmp_path, caplog):
    hub.hashless.add(TRANSFORMER)
    with pytest.raises(StopError):
        fetched(hub, tmp_path, stopping(TRANSFORMER, MIDDLE))
    hub.forget()
    fetched(hub, tmp_path)
    assert hub.asked == [(TRANSFORMER, 0)]
    assert f"no sha256 of {TRANSFORMER}" in caplog.text
    assert_complete(hub, tmp_path)


def test_more_than_the_server_told_of_is_not_written(hub, tmp_path, monkeypatch):
    told = remote.Repository.look_up

    def less(self, name, on_wait):
        found = told(self, name, on_wait)
        return remote.RemoteFile(found.name, found.url, 50_000, found.sha256)

    monkeypatch.setattr(remote.Repository, "look_up", less)
    with pytest.raises(CheckpointError, match="has more than the 50,000 bytes"):
        fetched(hub, tmp_path)
    assert all(path.stat().st_size <= 50_000 for path in tmp_path.rglob("*.part"))


@each("name", FILES)
def test_stopping_does_not_wait_for_a_server_that_says_nothing(hub, tmp_path, name):
    hub.stops[name] = MIDDLE
    silent_since = None

    def on_progress(progress):
        nonlocal silent_since
        if hub.stopped.is_set():
            silent_since = silent_since or time.monotonic()
            if time.monotonic() > silent_since + 0.5:
                raise StopError

    with pytest.raises(StopError):
        fetched(hub, tmp_path / name, on_progress)
    assert time.monotonic() - silent_since < 1.5
    hub.let_go()
    fetched(hub, tmp_path / name)
    assert_complete(hub, tmp_path / name)


def test_progress_counts_the_bytes_of_all_files_and_what_was_there(hub, tmp_path):
    seen = []
    hub.pause = 0.03
    with pytest.raises(StopError):
        fetched(hub, tmp_path, stopping(TRANSFORMER, MIDDLE))
    fetched(hub, tmp_path, seen.append)
    asking = f"asking {hub.endpoint}/{REPOSITORY}"
    assert seen[0].stage == asking
    told = [one for one in seen if one.stage != asking]  # which takes a busy machine longer
    assert {(one.stage, one.total) for one in told} == {(f"fetching {TRANSFORMER}", 180_000)}
    done = [one.done for one in told]
    assert done == sorted(done)
    assert done[0] >= MIDDLE
    assert done[-1] == 180_000
    (tmp_path / TOKENIZER).unlink()
    (tmp_path / TRANSFORMER).unlink()
    fetched(hub, tmp_path, seen.append)
    assert {one.total for one in seen if one.stage == f"fetching {TRANSFORMER}"} >= {360_000}


def test_missing_file_on_the_server_tells_the_way_by_hand(hub, tmp_path):
    del hub.files[TRANSFORMER]
    with pytest.raises(CheckpointError, match=f"{TRANSFORMER} could not be fetched.*by hand"):
        fetched(hub, tmp_path)
    assert not hub.asked, "nothing is fetched where a file cannot be"


def test_unreachable_server_tells_the_way_by_hand(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not be fetched.*by hand") as raised:
        download(tmp_path, Source(endpoint="http://127.0.0.1:9"))
    assert "\n" not in str(raised.value)


def test_server_that_dies_is_told_in_a_sentence_and_what_came_stays(hub, tmp_path):
    def die(progress):
        if progress.stage == f"fetching {TRANSFORMER}" and progress.done > 180_000:
            hub.files.clear()

    hub.breaks[TRANSFORMER] = MIDDLE
    with pytest.raises(CheckpointError, match=rf"{TRANSFORMER} could not be fetched \(404") as told:
        fetched(hub, tmp_path, die)
    assert "\n" not in str(told.value)
    assert "Request ID" not in str(told.value)
    (part,) = (tmp_path / PARTIAL_FOLDER).iterdir()
    assert part.stat().st_size == MIDDLE


def test_silent_server_is_given_up(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT_S", 0.3)
    hub.stops[TRANSFORMER] = MIDDLE
    with pytest.raises(CheckpointError, match=r"could not be fetched .*goes on where it stopped"):
        fetched(hub, tmp_path)
    assert len([one for one in hub.asked if one[0] == TRANSFORMER]) == remote.TRIES + 1


def test_offline_asks_nothing_and_names_the_variable(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        fetched(hub, tmp_path)
    assert not hub.requests


def test_without_the_library_the_error_tells_repository_files_and_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError) as raised:
        download(tmp_path)
    assert all(word in str(raised.value) for word in (*FILES, REPOSITORY, str(tmp_path)))
    assert not (tmp_path / PARTIAL_FOLDER).exists()


def test_folder_that_cannot_be_written_is_told_before_anything_is_asked(hub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        fetched(hub, tmp_path / "file" / "varsr")
    assert not hub.requests


def test_disk_that_fills_up_meanwhile_is_told_and_what_is_written_stays(hub, tmp_path, monkeypatch):
    def no_space(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(fetching, "flush", no_space)
        with pytest.raises(CheckpointError, match=r"could not be written \(No space left"):
            fetched(hub, tmp_path)
    hub.forget()
    fetched(hub, tmp_path)
    assert not [one for one in hub.asked if one[0] == TOKENIZER]
    assert_complete(hub, tmp_path)


def command(hub, folder, *options, **kwargs):
    line = [sys.executable, "-m", "varsr_core.download", str(folder), "--endpoint", hub.endpoint]
    return subprocess.run(
        [*line, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, **kwargs
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_file_that_cannot_grow_is_told_without_a_traceback(hub, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIDDLE, MIDDLE))

    done = command(hub, tmp_path, preexec_fn=limit)
    assert done.returncode == 1
    assert "could not be written (File too large); make room there" in done.stderr
    assert "Traceback" not in done.stderr
    assert command(hub, tmp_path).returncode == 0
    assert_complete(hub, tmp_path)


def test_command_downloads_and_tells_the_next_step(hub, tmp_path):
    done = command(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--convert" in done.stderr
    assert_complete(hub, tmp_path)
