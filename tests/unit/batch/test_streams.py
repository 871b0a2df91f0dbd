"""Streams that nobody reads, that are closed or full: no traceback, and a code that tells."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from helpers import batch_files as files
from helpers.each import each
from helpers.paths import ROOT
from varsr_core.batch import __main__ as program

NOTED = ".varsr_batch.sqlite"


@pytest.fixture
def shell(tmp_path, micro_file):
    """Runs the command, on three pictures and a broken one, with what a shell does to streams."""
    for number in range(3):
        files.save(tmp_path / f"in/p{number}.png", files.pixels(seed=number))
    (tmp_path / "in/text.png").write_text("no")
    numbers = iter(range(100))

    def run(*options, streams=""):
        out = tmp_path / f"out{next(numbers)}"
        call = [sys.executable, "-m", "varsr_core.batch", tmp_path / "in", out]
        call += ["--model", micro_file, *files.QUICK, *options]
        line = f"{shlex.join(map(str, call))} {streams}"
        script = f"set -o pipefail; {line}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, start_new_session=True
        )
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert files.left_behind(out) == []
        return done, out

    return run


@each(
    ("options", "streams"),
    [
        (("--json",), "| head -1"),
        (("--json",), "2>/dev/null | head -c 10"),
        ((), "2> >(head -c 1 >/dev/null)"),
        (("--help",), "| true"),
    ],
)
def test_reader_that_went_ends_the_run(options, streams, shell):
    done, out = shell(*options, streams=streams)
    assert done.returncode in (program.READER_GONE, 0 if "--help" in options else 141)
    assert len(files.hashes(out)) < 4 if out.exists() else True


@each(
    ("options", "streams"),
    [
        (("--json",), ">&-"),
        ((), "2>&-"),
        ((), "<&- >&- 2>&-"),
        (("--json",), "<&- >&- 2>&-"),
        (("--json",), ">/dev/full"),
        ((), ">/dev/full 2>&1"),
    ],
)
def test_streams_that_cannot_be_written_change_nothing_in_the_files(options, streams, shell):
    done, out = shell(*options, streams=streams)
    assert done.returncode == program.SOME_FAILED
    assert sorted(files.hashes(out)) == ["p0.png", "p1.png", "p2.png"]
    for path in out.glob("*.png"):
        assert files.read(path).shape == (48, 40, 3)


def test_report_is_whole_where_the_other_stream_is_closed(shell):
    done, _ = shell("--json", streams="2>&-")
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert (events[0], events[-1], events.count("file")) == ("start", "end", 4)


def test_run_whose_reader_went_goes_on(tmp_path, shell, micro_file):
    _, out = shell("--json", streams="| head -1")
    call = (tmp_path / "in", out, "--model", micro_file, *files.QUICK)
    assert files.command(*call) == program.SOME_FAILED
    assert len(files.hashes(out)) == 3
    assert os.path.exists(out / NOTED)
