"""The command on Ray: two workers, one of which is killed half-way."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from helpers import batch_files as files
from helpers import film_files as films
from helpers.each import each
from varsr_core.batch import ray_pool
from varsr_core.batch.__main__ import INTERRUPTED, NOT_DONE, SOME_FAILED
from varsr_core.batch.cli import parse
from varsr_core.batch.films.plan import SEGMENT_FRAMES
from varsr_core.batch.films.unfinished import SEGMENTS
from varsr_core.batch.inputs import find_jobs
from varsr_core.batch.journal import NAME

TITLE = "ray::MapWorker"  # of the process of a worker
PICTURES, BROKEN = 24, 2


def workers_of(process):
    below = psutil.Process(process.pid).children(recursive=True)
    return [one for one in below if " ".join(one.cmdline()).startswith(TITLE)]


def noted(folder):
    """How many good files the journal knows."""
    with sqlite3.connect(folder / NAME) as journal:
        (count,) = journal.execute("SELECT count(*) FROM files WHERE error = ''").fetchone()
    return count


@pytest.mark.parametrize("together", [1, 3])
def test_killed_worker_changes_nothing_in_the_results(tmp_path, micro_file, together, capfd):
    files.make_mixed(tmp_path / "in", PICTURES, BROKEN)
    options = ("--model", micro_file, *files.QUICK, "--scale", "8")
    assert files.command(tmp_path / "in", tmp_path / "plain", *options) == 1
    wanted = files.hashes(tmp_path / "plain")
    assert len(wanted) == PICTURES
    done = []
    with files.started(
        tmp_path / "in", tmp_path / "out", *options, "--together", together, "--ray", "--workers", 2
    ) as process:
        for line in process.stdout:  # every one is JSON, whatever Ray has to say
            event = json.loads(line)
            done += [event] if event["event"] == "file" else []
            if event["event"] == "file" and len(done) == 6:
                victim, *others = workers_of(process)
                assert len(others) == 1
                os.kill(victim.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert files.hashes(tmp_path / "out") == wanted
    outputs = [event["output"] for event in done]
    assert len(outputs) == len(set(outputs)) == PICTURES + BROKEN
    assert sum(event["error"] is not None for event in done) == BROKEN
    assert files.left_behind(tmp_path / "out") == []
    assert noted(tmp_path / "out") == PICTURES


def test_ctrl_c_ends_a_run_and_ray_with_it_and_the_next_run_does_the_rest(tmp_path, micro_file):
    """As a terminal sends it: to all processes of the command at once.

    The workers have only a part of the pictures at hand when it comes: the command, which would
    give them more, is held while they are counted, and the last pictures take seconds.
    """
    large = 4
    pictures = 2 * PICTURES + large
    files.make_mixed(tmp_path / "in", pictures - large, BROKEN)
    for number in range(large):
        files.save(tmp_path / f"in/z{number}.png", files.pixels(40, 50, seed=number))
    options = ("--model", micro_file, *files.QUICK, "--scale", "8", "--together", 3)
    assert files.command(tmp_path / "in", tmp_path / "plain", *options) == SOME_FAILED
    call = (tmp_path / "in", tmp_path / "out", *options, "--ray", "--workers", 2)
    with files.started(*call, start_new_session=True, stderr=subprocess.PIPE) as process:
        while json.loads(process.stdout.readline()).get("error", "none yet") is not None:
            pass
        os.kill(process.pid, signal.SIGSTOP)
        started = psutil.Process(process.pid).children(recursive=True)
        assert workers_of(process)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGCONT)
        _, told = process.communicate()
    assert process.returncode == INTERRUPTED, told
    assert time.monotonic() - began < 60
    assert told.rstrip().endswith("Stopped. The same command goes on where it was.")
    assert "Traceback" not in told
    assert psutil.wait_procs(started, timeout=30)[1] == []
    assert files.left_behind(tmp_path / "out") == []
    before, wanted = files.hashes(tmp_path / "out"), files.hashes(tmp_path / "plain")
    assert len(before) < len(wanted) == pictures
    assert before.items() <= wanted.items()
    known = noted(tmp_path / "out")  # not those that a worker wrote and could not tell of
    assert 0 < known <= len(before)
    with files.started(*call) as process:
        lines, _ = process.communicate()
    assert process.returncode == SOME_FAILED
    assert files.hashes(tmp_path / "out") == wanted
    done = [event for event in files.events(lines, "file") if event["error"] is None]
    assert len(done) == pictures - known


def test_missing_ray_is_told_with_what_to_install(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert files.command(tmp_path, tmp_path / "out", "--ray") == NOT_DONE
    assert 'pip install "ray[data]' in caplog.text


@each(
    ("address", "error"),
    [
        ([], Exception("The current node timed out during startup.")),
        ([], TimeoutError("Timed out after 30 seconds")),
        ([], OSError("no port is free")),
        (["10.0.0.1:6379"], ConnectionError("nobody answers")),
    ],
)
def test_ray_that_does_not_start_is_told_in_a_sentence(
    tmp_path, micro_file, monkeypatch, caplog, address, error
):
    def start(**_):
        raise error

    files.save(tmp_path / "in/p.png", files.pixels())
    monkeypatch.setattr("ray.init", start)
    options = ("--model", micro_file, *files.QUICK, "--ray", *address)
    assert files.command(tmp_path / "in", tmp_path / "out", *options) == NOT_DONE
    assert str(error) in caplog.text
    assert "Traceback" not in caplog.text


def test_gpu_cannot_be_chosen_where_ray_hands_them_out(tmp_path, micro_file, caplog):
    files.save(tmp_path / "in/p.png", files.pixels())
    options = ("--model", micro_file, "--ray", "--device", "cuda:1")
    assert files.command(tmp_path / "in", tmp_path / "out", *options) == NOT_DONE
    assert "--device auto" in caplog.text


def test_worker_takes_and_gives_columns(tmp_path, micro_file):
    """As Ray hands them over, without Ray."""
    for number in range(2):
        files.save(tmp_path / f"in/p{number}.png", files.pixels(seed=number))
    found = parse(
        [str(tmp_path / "in"), str(tmp_path / "out"), "--model", str(micro_file), *files.QUICK]
    )
    jobs, _ = find_jobs(found.inputs, found.naming, set())
    groups = np.array([ray_pool.packed(jobs)])
    given = ray_pool.RayWorker(found.options)({"tasks": groups})
    assert given["name"] == ["p0.png", "p1.png"]
    assert given["error"] == ["", ""]
    assert len(files.hashes(tmp_path / "out")) == 2


def test_threads_of_ray_end_before_ray():
    """What is meant by nobody to end is not waited for."""
    slow, ended = threading.Event(), []

    def work():
        slow.wait(0.2)
        ended.append(True)

    others = threading.Thread(target=slow.wait, args=(30,), name="Prefetcher")
    for thread in (others, threading.Thread(target=work, name="StreamingExecutor-7")):
        thread.start()
    began = time.monotonic()
    ray_pool.wait_for_threads()
    assert ended
    assert time.monotonic() - began < 20
    slow.set()
    others.join()


def test_segments_of_one_film_are_restored_by_two_workers(tmp_path, micro_file):
    source = films.make_film(tmp_path / "clip.mp4", 5 * SEGMENT_FRAMES // 2)
    films.make_film(tmp_path / "short.mkv", 3)
    options = ("--model", micro_file, *files.QUICK)
    inputs = (source, tmp_path / "short.mkv")
    assert files.command(*inputs, tmp_path / "plain", *options) == 0
    makers, out = {}, tmp_path / "out"
    with files.started(*inputs, out, *options, "--ray", "--workers", 2) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.Error, OSError):  # of what ends while it is looked at
                for worker in workers_of(process):
                    if any(f"/{SEGMENTS}/" in file.path for file in worker.open_files()):
                        makers.setdefault(worker.pid, worker)
                # The first is held until the other, which may start later, has a segment too.
                for worker in makers.values():
                    worker.suspend() if len(makers) == 1 else worker.resume()
            time.sleep(0.05)
        output = process.stdout.read()
    assert process.returncode == 0
    assert len(makers) == 2
    assert files.hashes(out) == files.hashes(tmp_path / "plain")
    assert {Path(event["output"]).name for event in files.events(output, "file")} == {
        "clip.mp4", "short.mkv",
    }  # fmt: skip
    (end,) = files.events(output, "end")
    assert end["tiles"] == 5 * SEGMENT_FRAMES // 2 + 3
    assert files.left_behind(out) == []
