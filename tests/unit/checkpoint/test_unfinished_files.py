"""Files in the making: each its writer's own, and nothing of a killed writer stays."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from helpers.each import each
from helpers.paths import ROOT
from helpers.release_files import save_converted
from tools.random_nsarm import MICRO, write_release
from varsr_core.checkpoint import load_checkpoint, save_checkpoint
from varsr_core.convert import convert_files
from varsr_core.errors import CheckpointError
from varsr_core.files.atomic import held, remove_abandoned, unfinished_file
from varsr_core.files.split_files import joined_pieces

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="forks, and kills with SIGKILL")
MODEL_SUFFIXES = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft", ""}


def split(path, folder, count=3):
    """Pieces of a file, as the release of NSARM comes."""
    content = path.read_bytes()
    size = -(-len(content) // count)
    pieces = [folder / f"{path.stem}_part_a{letter}" for letter in "abcdefgh"[:count]]
    for number, piece in enumerate(pieces):
        piece.write_bytes(content[number * size : (number + 1) * size])
    return pieces


def copied(path, folder):
    return Path(shutil.copy(path, folder))


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Pieces of NSARM.pth, and the autoencoder."""
    folder = tmp_path_factory.mktemp("release")
    transformer, autoencoder = write_release(folder, MICRO)
    pieces = split(transformer, folder)
    transformer.unlink()
    return [*pieces, autoencoder]


def other(tensors):
    return {n: t + 1 if t.is_floating_point() else t for n, t in tensors.items()}


@each(("first", "second"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_of_two_converters_into_one_output_the_last_whole_file_stays(
    tmp_path, expected, first, second
):
    """The second begins when the first has written a few tensors, and is done before it."""
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    sources = [save_converted(tmp_path / f"{n}.safetensors", t)
               for n, t in (("a", expected), ("b", other(expected)))]  # fmt: skip
    alone, target = tmp_path / "alone.safetensors", tmp_path / "out.safetensors"
    convert_files(sources[:1], alone, dtypes[first])
    seen = []

    def meanwhile(size):
        seen.append(size)
        if len(seen) == 10:
            convert_files(sources[1:], target, dtypes[second])
            assert load_checkpoint([target]).fingerprint == load_checkpoint(sources[1:]).fingerprint

    read = load_checkpoint([alone])
    save_checkpoint(read, target, dtypes[first], metadata=read.metadata, on_written=meanwhile)
    assert target.read_bytes() == alone.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([*sources, alone, target])


def test_what_a_living_process_holds_is_left_alone_and_what_nobody_holds_is_removed(tmp_path):
    kept = tmp_path / ".0123456789abcdef.varsr-unfinished.pth"  # whose name only begins alike
    kept.touch()
    with unfinished_file(tmp_path) as part:
        part.write_bytes(b"a")
        holding = set(tmp_path.iterdir())
        with unfinished_file(tmp_path) as second:
            second.write_bytes(b"b")
            remove_abandoned(tmp_path)
            assert {part, second} < set(tmp_path.iterdir())
        assert set(tmp_path.iterdir()) == holding
    (tmp_path / ".0123456789abcdef.varsr-lock").touch()
    (tmp_path / ".0123456789abcdef.varsr-unfinished").write_bytes(b"c")
    with unfinished_file(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [kept]


def test_lock_is_held_by_one_at_a_time_and_leaves_nothing(tmp_path):
    lock = tmp_path / ".lock"
    for _ in range(2):
        with held(lock) as first, held(lock) as second:
            assert (first, second) == (True, False)
        assert list(tmp_path.iterdir()) == []
    lock.touch()  # of a process that was killed
    with held(lock) as first:
        assert first


def test_files_in_the_making_are_in_no_list_of_models(release, tmp_path):
    with joined_pieces(release, tmp_path) as files, unfinished_file(tmp_path) as part:
        part.touch()
        found = [path for path in tmp_path.iterdir() if path.suffix in MODEL_SUFFIXES]
        assert not found
        assert len(list(tmp_path.iterdir())) == 4
        assert sorted(files.values()) == sorted(["NSARM.pth", release[-1].name])
    assert list(tmp_path.iterdir()) == []


# Kills the command at its first operation on a file of the output's folder, then, after another
# run, three later, and so on. Forked, so that torch is imported once.
KILLED = """
import hashlib, json, os, signal, sys
from pathlib import Path
import torch._dynamo  # which torch else imports in every fork
from varsr_core.convert import main
target = Path(sys.argv[sys.argv.index("-o") + 1])
events = ("open", "os.listdir", "os.scandir", "os.remove", "os.rename", "fcntl.flock")
def run(last):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [last]
    def watch(event, arguments):
        if event in events and (event == events[-1] or str(target.parent) in str(arguments[0])):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
    sys.addaudithook(watch)
    os._exit(main())
last, code = 0, None
while code != 0:
    code = run(last)
    left = sorted(os.listdir(target.parent))
    again = run(-1)
    names = sorted(os.listdir(target.parent))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    target.unlink()
    print(json.dumps([code, left, again, names, digest]))
    last += 3
"""


@POSIX
def test_converter_killed_at_any_moment_leaves_nothing_after_another_run(release, tmp_path):
    alone, target = tmp_path / "alone.safetensors", tmp_path / "out" / "model.safetensors"
    target.parent.mkdir()
    convert_files(release, alone, torch.bfloat16)
    digest = hashlib.sha256(alone.read_bytes()).hexdigest()
    command = [sys.executable, "-c", KILLED, *release, "-o", target]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) > 10
    assert [code for code, *_ in found] == [-signal.SIGKILL] * (len(found) - 1) + [0]
    assert sum(len(left) > 1 for _, left, *_ in found) > 5, "kills that leave something"
    for _, _, again, names, made in found:
        assert (again, names, made) == (0, [target.name], digest)


@each("damage", ["empty", "short", "a folder", "gone"])
def test_damaged_piece_is_named_and_nothing_is_left(release, tmp_path, damage):
    folder = tmp_path / damage
    folder.mkdir()
    pieces = [copied(piece, folder) for piece in release]
    broken = pieces[1]
    content = broken.read_bytes()
    broken.unlink()
    if damage in ("empty", "short"):
        broken.write_bytes(content[:-1] if damage == "short" else b"")
    elif damage == "a folder":
        broken.mkdir()
    with pytest.raises(CheckpointError, match=broken.name):
        convert_files(pieces, folder / "out.safetensors", torch.bfloat16)
    assert {path.name for path in folder.iterdir()} <= {piece.name for piece in pieces}


def test_whole_that_is_no_checkpoint_goes_by_its_released_name(release, tmp_path):
    pieces = [copied(piece, tmp_path) for piece in release]
    pieces[0].write_bytes(bytes(pieces[0].stat().st_size))
    with pytest.raises(CheckpointError) as raised:
        convert_files(pieces, tmp_path / "out.safetensors", torch.bfloat16)
    assert "NSARM.pth" in str(raised.value)
    assert ".varsr-" not in str(raised.value)


@contextmanager
def small_files(limit):
    """A limit on the size of files, for a disk that fills up while it is written."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@each("pieces", [True, False])
def test_disk_that_fills_up_is_told_and_leaves_nothing(release, tmp_path, pieces):
    """While pieces are joined, and while the result is written."""
    whole, target = tmp_path / "whole.safetensors", tmp_path / "out.safetensors"
    convert_files(release, whole, torch.float32)
    before = set(tmp_path.iterdir())
    with small_files(50_000), pytest.raises(CheckpointError, match="NSARM" if pieces else "out"):
        convert_files(release if pieces else [whole], target, torch.bfloat16)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_and_pieces_without_permission_are_sentences(release, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with pytest.raises(CheckpointError, match="closed"):
        convert_files(release, closed / "out.safetensors", torch.bfloat16)
    pieces = [copied(piece, tmp_path) for piece in release]
    pieces[1].chmod(0)
    with pytest.raises(CheckpointError, match=pieces[1].name):
        convert_files(pieces, tmp_path / "out.safetensors", torch.bfloat16)


@each("name", ["none/out.safetensors", "out.pth", "folder.safetensors"])
def test_place_that_cannot_be_written_is_refused_before_pieces_are_joined(release, tmp_path, name):
    (tmp_path / "folder.safetensors").mkdir(exist_ok=True)
    with pytest.raises(CheckpointError):
        convert_files(release, tmp_path / name, torch.bfloat16)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]
