"""The released model as one file: found, made of files that are there, or fetched if it may be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from helpers.each import each
from helpers.paths import ROOT
from varsr_core.checkpoint import read_model
from varsr_core.convert import convert_files
from varsr_core.download import release as release_module
from varsr_core.download.fetching import PARTIAL_FOLDER, Source
from varsr_core.download.release import LOCK_FILE, released_model
from varsr_core.errors import CheckpointError
from varsr_core.files.atomic import held
from varsr_core.files.progress import silent
from varsr_core.varsr.family import CONVERTED_FILE, EARLIER_FILE, FILES

TOKENIZER, TRANSFORMER = FILES
PHASES = (f"fetching {TOKENIZER}", f"fetching {TRANSFORMER}", f"writing {CONVERTED_FILE}")
NOWHERE = Source(endpoint="http://127.0.0.1:9")


class StopError(Exception):
    """As the cancel button raises one."""


@pytest.fixture(scope="module")
def converted(release, tmp_path_factory):
    """The bytes that the command makes of the release."""
    path = tmp_path_factory.mktemp("converted") / CONVERTED_FILE
    convert_files(release, path)
    return path.read_bytes()


def got(
    folders, source=NOWHERE, *, may_fetch=False, keep=True, on_progress=silent, load=read_model
):
    with released_model(
        folders if isinstance(folders, list) else [folders],
        may_fetch=may_fetch,
        keep_pickles=keep,
        source=source,
        on_progress=on_progress,
    ) as path:
        load(path)
    return path


def fetched(hub, folder, **options):
    return got(folder, Source(endpoint=hub.endpoint), may_fetch=True, **options)


def copied(release, folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for path in release:
        if path.name in (names or FILES):
            shutil.copy(path, folder)
    return folder


def stop_in(phase):
    """A FileProgressFn that stops in the middle of a phase."""
    begun = None

    def on_progress(progress):
        nonlocal begun
        if progress.stage == phase:
            begun = progress.done if begun is None else begun
            if progress.done > begun:
                raise StopError

    return on_progress


def names_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@each("keep", [True, False])
def test_model_is_fetched_and_converted(model_hub, converted, tmp_path, keep):
    folder = tmp_path / str(keep)
    path = fetched(model_hub, folder, keep=keep)
    assert path == folder / CONVERTED_FILE
    assert path.read_bytes() == converted
    assert names_of(folder) == sorted([CONVERTED_FILE, *FILES] if keep else [CONVERTED_FILE])
    for name in FILES if keep else ():
        assert (folder / name).read_bytes() == model_hub.files[name]


def test_second_time_nothing_is_asked_for(model_hub, tmp_path):
    fetched(model_hub, tmp_path, keep=False)
    model_hub.forget()
    before = (tmp_path / CONVERTED_FILE).stat()
    fetched(model_hub, tmp_path, keep=False)
    assert not model_hub.requests
    assert (tmp_path / CONVERTED_FILE).stat().st_mtime_ns == before.st_mtime_ns


def test_file_that_an_earlier_version_made_is_taken(release, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    convert_files(release, second / EARLIER_FILE, torch.bfloat16)
    assert got([first, second]) == second / EARLIER_FILE
    assert names_of(first) == []
    convert_files(release, second / CONVERTED_FILE)
    assert got([first, second]) == second / CONVERTED_FILE


def test_hashes_of_what_was_fetched_are_in_the_file(model_hub, release, tmp_path):
    seen = []
    path = fetched(model_hub, tmp_path, on_progress=seen.append)
    with safe_open(path, framework="pt") as file:
        sources = json.loads(file.metadata()["sources"])
    assert sources == json.loads(sources_of_command(release, tmp_path))
    assert not [one for one in seen if "hashing" in one.stage], "they are known"


def sources_of_command(release, folder):
    convert_files(release, folder / "other.safetensors", torch.float32)
    with safe_open(folder / "other.safetensors", framework="pt") as file:
        return file.metadata()["sources"]


def test_nothing_is_fetched_that_may_not_be(tmp_path):
    with pytest.raises(CheckpointError) as raised:
        got(tmp_path / "varsr")
    told = str(raised.value)
    for word in (*FILES, "15.1 GB", "https://huggingface.co/qyp2000/VARSR", "turn on download"):
        assert word in told
    assert "\n" not in told
    assert not (tmp_path / "varsr").exists()


def test_only_what_is_missing_is_told(release, tmp_path):
    copied(release, tmp_path, TOKENIZER)
    with pytest.raises(CheckpointError, match=r"to fetch VARSR.pth \(13.7 GB\)"):
        got(tmp_path)


def test_files_that_are_there_are_converted_without_a_network(
    release, converted, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    copied(release, tmp_path)
    seen = []
    got(tmp_path, keep=False, on_progress=seen.append)
    assert (tmp_path / CONVERTED_FILE).read_bytes() == converted
    assert names_of(tmp_path) == sorted([CONVERTED_FILE, *FILES]), "nobody else's are removed"
    stages = list(dict.fromkeys(one.stage for one in seen))
    reading = f"reading {TOKENIZER} and {TRANSFORMER}"
    assert stages == [reading, *(f"hashing {name}" for name in FILES), PHASES[-1]]
    assert all(0 < one.done <= one.total for one in seen if one.stage != reading)
    assert seen[-1].done == seen[-1].total


def test_only_files_that_were_fetched_are_removed(model_hub, release, tmp_path):
    copied(release, tmp_path, TOKENIZER)
    fetched(model_hub, tmp_path, keep=False)
    assert names_of(tmp_path) == sorted([CONVERTED_FILE, TOKENIZER])


def test_pickles_stay_until_the_model_has_loaded(model_hub, converted, tmp_path):
    def fail(path):
        assert path.read_bytes() == converted
        raise StopError

    with pytest.raises(StopError):
        fetched(model_hub, tmp_path, keep=False, load=fail)
    assert {Path(name).name for name in names_of(tmp_path)} > set(FILES)
    model_hub.forget()
    fetched(model_hub, tmp_path, keep=False)  # now it loads
    assert names_of(tmp_path) == [CONVERTED_FILE]
    assert not model_hub.requests


def test_pickles_that_cannot_be_removed_are_told_and_no_error(
    model_hub, tmp_path, monkeypatch, caplog
):
    def refuse(path, **kwargs):
        raise PermissionError(13, "Permission denied")

    def load(path):
        monkeypatch.setattr(Path, "unlink", refuse)

    fetched(model_hub, tmp_path, keep=False, load=load)
    monkeypatch.undo()
    assert caplog.text.count("could not be removed (Permission denied)") == len(FILES)
    assert (tmp_path / CONVERTED_FILE).is_file()


def test_model_of_any_folder_is_taken(release, converted, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    (second / CONVERTED_FILE).write_bytes(converted)
    copied(release, first)
    assert got([first, second]) == second / CONVERTED_FILE
    assert names_of(first) == sorted(FILES)


def test_released_files_of_any_folder_are_converted_into_the_first(release, converted, tmp_path):
    first, second = tmp_path / "first", copied(release, tmp_path / "second")
    assert got([first, second], keep=False) == first / CONVERTED_FILE
    assert names_of(first) == [CONVERTED_FILE]
    assert names_of(second) == sorted(FILES)
    assert (first / CONVERTED_FILE).read_bytes() == converted


def test_files_of_one_folder_are_taken_together(release, converted, tmp_path):
    """Not a stray one of another model beside them."""
    first, second = tmp_path / "first", copied(release, tmp_path / "second")
    first.mkdir()
    (first / TOKENIZER).write_bytes(b"another")
    got([first, second])
    assert (first / CONVERTED_FILE).read_bytes() == converted


@each(("phase", "keep"), [(phase, keep) for phase in PHASES for keep in (True, False)])
def test_stopped_run_goes_on_and_leaves_no_half_file(model_hub, converted, tmp_path, phase, keep):
    folder = tmp_path / f"{phase} {keep}"
    model_hub.pause = 0.01
    with pytest.raises(StopError):
        fetched(model_hub, folder, keep=keep, on_progress=stop_in(phase))
    here = {path.name: path for path in folder.iterdir() if path.is_file()}
    whole = FILES[: PHASES.index(phase)] if keep else ()
    assert sorted(here) == sorted(whole)
    assert all(path.read_bytes() == model_hub.files[name] for name, path in here.items())
    model_hub.pause = 0
    model_hub.forget()
    fetched(model_hub, folder, keep=keep)
    assert (folder / CONVERTED_FILE).read_bytes() == converted
    assert names_of(folder) == sorted([CONVERTED_FILE, *FILES] if keep else [CONVERTED_FILE])
    assert [name for name, _ in model_hub.asked] == [*FILES[PHASES.index(phase) :]]
    begun = dict(model_hub.asked)
    assert phase == PHASES[-1] or begun[phase.removeprefix("fetching ")] > 0


def test_choice_to_keep_them_may_change_after_a_stop(model_hub, tmp_path):
    for first, second in ((True, False), (False, True)):
        folder = tmp_path / str(first)
        with pytest.raises(StopError):
            fetched(model_hub, folder, keep=first, on_progress=stop_in(PHASES[-1]))
        model_hub.forget()
        got(folder, keep=second)  # nothing has to be fetched
        # What was to be kept once is somebody's now.
        assert names_of(folder) == sorted([CONVERTED_FILE, *FILES])
    assert not model_hub.requests


def test_wrong_hash_is_told_and_nothing_is_converted(model_hub, tmp_path):
    model_hub.damaged.add(TRANSFORMER)
    with pytest.raises(CheckpointError, match="damaged on the way"):
        fetched(model_hub, tmp_path)
    assert names_of(tmp_path) == sorted([PARTIAL_FOLDER, TOKENIZER])


def test_room_is_looked_for_before_anything_is_fetched(model_hub, tmp_path, monkeypatch):
    size = sum(map(len, model_hub.files.values()))
    usage = type("Usage", (), {"free": size + int(release_module.VARSR.converted_bytes) - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(CheckpointError, match=r"needs 1\.7\d GB.*make room"):
        fetched(model_hub, tmp_path)
    assert not model_hub.asked


def test_another_process_that_is_at_it_is_told_of(model_hub, release, tmp_path):
    copied(release, tmp_path)
    with held(tmp_path / LOCK_FILE), pytest.raises(CheckpointError, match="is under way"):
        fetched(model_hub, tmp_path)
    assert names_of(tmp_path) == sorted(FILES)


def test_what_another_process_made_meanwhile_is_taken(model_hub, converted, tmp_path, monkeypatch):
    """It was done, and had removed its pickles, between the look and the lock."""
    look = release_module._check_allowed

    def meanwhile(*asked):
        look(*asked)
        (tmp_path / CONVERTED_FILE).write_bytes(converted)

    monkeypatch.setattr(release_module, "_check_allowed", meanwhile)
    fetched(model_hub, tmp_path)
    assert not model_hub.requests


def test_model_in_a_folder_that_cannot_be_written_is_taken(release, converted, tmp_path):
    folder = tmp_path / "varsr"
    folder.mkdir()
    (folder / CONVERTED_FILE).write_bytes(converted)
    folder.chmod(0o555)
    try:
        got(folder)
    finally:
        folder.chmod(0o755)
    assert names_of(folder) == [CONVERTED_FILE]


WAITING = """
import sys, time
from pathlib import Path
from varsr_core.checkpoint import read_model
from varsr_core.download.fetching import Source
from varsr_core.download.release import released_model

endpoint, folder, phase, keep = sys.argv[1:]

begun = []

def on_progress(progress):
    if progress.stage == phase:
        begun.append(progress.done)
        if begun[-1] > begun[0]:
            wait()

def wait():
    print("there", flush=True)
    time.sleep(1000)

with released_model([Path(folder)], may_fetch=True, keep_pickles=keep == "True",
                    source=Source(endpoint=endpoint), on_progress=on_progress) as path:
    read_model(path)
    if phase == "loading":
        wait()
"""


@pytest.fixture
def waiting(model_hub, tmp_path):
    """Starts processes that wait in the middle of a phase; they are killed in the end."""
    started = []

    def start(folder, phase, keep):
        command = [sys.executable, "-c", WAITING, model_hub.endpoint, str(folder), phase, str(keep)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "there\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="kills with SIGKILL")
@pytest.mark.parametrize(
    ("phase", "keep"),
    [
        (PHASES[0], True),
        (PHASES[1], False),
        *((p, k) for p in (PHASES[2], "loading") for k in (True, False)),
    ],
)
def test_killed_process_holds_nobody_up(waiting, model_hub, converted, tmp_path, phase, keep):
    folder = tmp_path / "varsr"
    model_hub.pause = 0.01
    process = waiting(folder, phase, keep)
    if phase == "loading":
        got(folder)  # it is there for others, too
    else:
        with pytest.raises(CheckpointError, match="is under way"):
            fetched(model_hub, folder, keep=keep)
    process.kill()
    process.wait()
    visible = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert visible <= {CONVERTED_FILE, *FILES}
    model_hub.pause = 0
    model_hub.forget()
    fetched(model_hub, folder, keep=keep)
    assert (folder / CONVERTED_FILE).read_bytes() == converted
    assert set(names_of(folder)) - {LOCK_FILE} == {CONVERTED_FILE, *(FILES if keep else ())}
    if phase in PHASES[:2]:
        assert dict(model_hub.asked)[phase.removeprefix("fetching ")] > 0, "it went on"
    else:
        assert not model_hub.requests


@each("keep", [True, False])
def test_command_fetches_converts_and_removes(model_hub, converted, tmp_path, keep):
    folder = tmp_path / str(keep)
    options = ["--convert", *([] if keep else ["--remove-pickles"])]
    command = [sys.executable, "-m", "varsr_core.download", str(folder)]
    for _ in range(2 if keep else 1):
        done = subprocess.run(
            [*command, "--endpoint", model_hub.endpoint, *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert f"Done: {folder / CONVERTED_FILE}" in done.stderr
    assert (folder / CONVERTED_FILE).read_bytes() == converted
    assert names_of(folder) == sorted([CONVERTED_FILE, *FILES] if keep else [CONVERTED_FILE])
    assert [name for name, _ in model_hub.asked] == [*FILES]
    model_hub.forget()
