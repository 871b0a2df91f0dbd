"""A file can only fail by itself: names that are no text, pipes, loops of links, odd metadata."""

import os
import socket
import subprocess
from pathlib import Path

import av
import pytest

from helpers import batch_files as files
from helpers import film_files as films
from helpers.each import each
from varsr_core.batch import __main__ as program
from varsr_core.batch.cli import parse
from varsr_core.batch.inputs import find_jobs
from varsr_core.batch.naming import Naming
from varsr_core.batch.output_format import OutputFormat
from varsr_core.batch.ray_pool import RayWorker, _off_wire, packed
from varsr_core.errors import InputError

BYTES = os.fsdecode(b"b\xff\xe9")  # no UTF-8


@pytest.fixture
def run(micro_file, capsys):
    def done(*arguments):
        options = ("--model", micro_file, *files.QUICK, "--json")
        code = files.command(*arguments, *options)
        output = capsys.readouterr().out
        told = files.events(output, "file")
        errors = {os.path.basename(event["output"]): event["error"] for event in told}
        return code, errors, files.events(output, "end")

    return done


@pytest.fixture
def folder(tmp_path):
    files.save(tmp_path / "in/a.png", files.pixels())
    return tmp_path / "in"


def names_of(inputs, output, others=None):
    naming = Naming(output, "{stem}", OutputFormat())
    jobs, refused = find_jobs([str(one) for one in inputs], naming, set(), others)
    assert not refused
    return [job.name for job in jobs]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_metadata_of_a_film_need_be_no_text(suffix, folder, tmp_path, run):
    film = films.make_film(folder / f"clip{suffix}", 3)
    with av.open(str(film)) as read, av.open(str(tmp_path / f"t{suffix}"), "w") as written:
        written.metadata["title"] = "QQQQ"
        streams = {s.index: written.add_stream_from_template(s) for s in read.streams}
        for stream in streams.values():
            stream.metadata["title"] = "RRRR"
        for packet in read.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    data = (tmp_path / f"t{suffix}").read_bytes()
    assert b"QQQQ" in data
    film.write_bytes(data.replace(b"QQQQ", b"Q\xff\xe9Q").replace(b"RRRR", b"R\xff\xe9R"))
    code, told, _ = run(folder, tmp_path / "out")
    assert (code, told) == (0, {"a.png": None, film.name: None})
    assert b"Q\xff\xe9Q" in (tmp_path / "out" / film.name).read_bytes()


def test_names_need_be_no_text(folder, tmp_path, run):
    files.save(folder / f"{BYTES}.png", files.pixels())
    (folder / f"{BYTES}2.png").write_text("broken")
    films.make_film(tmp_path / "clip.mp4", 3).rename(folder / f"{BYTES}.mp4")
    good = {"a.png": None, f"{BYTES}.png": None, f"{BYTES}.mp4": None}
    for wanted in (good, {}):
        code, told, _ = run(folder, tmp_path / "out")
        assert code == program.SOME_FAILED
        assert "no PNG" in told.pop(f"{BYTES}2.png")
        assert told == wanted
    assert sorted(files.hashes(tmp_path / "out")) == sorted(good)
    (folder / "list.txt").write_bytes(b"b\xff\xe9.png\n")
    assert run(folder / "list.txt", tmp_path / "other")[:2] == (0, {f"{BYTES}.png": None})


def test_people_read_names_that_are_no_text_as_marks(folder, tmp_path, micro_file, caplog):
    (folder / f"{BYTES}\x1b[2J.png").write_text("broken")
    assert files.command(folder, tmp_path / "out", "--model", micro_file, *files.QUICK) == 1
    assert "b\\udcff\\udce9\\x1b[2J.png: this is no PNG" in caplog.text


def test_every_name_works_in_every_locale(folder, tmp_path, micro_file):
    """What one locale restored, the next knows again."""
    files.save(folder / "é.png", files.pixels())
    files.save(folder / f"{BYTES}.png", files.pixels())
    films.make_film(tmp_path / "é.mp4", 3).rename(folder / "é.mp4")
    options = ("--model", micro_file, *files.QUICK)
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    for locale, skipped in ((plain, 0), ({"LC_ALL": "C"}, 4), ({"LC_ALL": "C.UTF-8"}, 4)):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONUTF8"}
        process = files.started(
            folder, tmp_path / "out", *options,
            env={**environment, **locale}, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, told = process.communicate()
        assert process.returncode == 0, told
        (end,) = files.events(output, "end")
        assert (end["skipped"], end["restored"]) == (skipped, 4 - skipped)
    assert len(files.hashes(tmp_path / "out")) == 4


def test_workers_of_ray_tell_of_names_that_are_no_text(folder, tmp_path, micro_file):
    (folder / "a.png").rename(folder / f"{BYTES}.png")
    found = parse([str(folder), str(tmp_path / "out"), "--model", str(micro_file), *files.QUICK])
    jobs, _ = find_jobs(found.inputs, found.naming, set())
    given = RayWorker(found.options)({"tasks": [packed(jobs)]})
    given["name"][0].encode()
    assert _off_wire(given["name"][0]) == f"{BYTES}.png"


def test_what_is_no_file_is_refused_and_never_opened(folder, tmp_path, run):
    for name in ("pipe.png", "pipe.mp4"):
        os.mkfifo(folder / name)
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket.png"))
    inputs = (folder / "*.*", folder, folder / "pipe.png")
    code, told, _ = run(*inputs, tmp_path / "out")
    assert code == program.SOME_FAILED
    assert told.pop("a.png") is None
    said = {"pipe": "a named pipe", "device": "a device", "socket": "a socket"}
    for name, error in told.items():
        assert said.get(Path(name).stem, "") in error
    assert len(told) == 6


def test_pipe_is_no_mask(folder, tmp_path, run):
    os.mkfifo(tmp_path / "mask.png")
    code, told, _ = run(folder, tmp_path / "out", "--mask", tmp_path / "mask.png")
    assert code == program.SOME_FAILED
    assert "a named pipe" in told["a.png"]


@each("pattern", ["**", "**/*.png", "**/**/*", "*/../**/*.png", "**/in/**/*.png"])
def test_loops_of_links_give_every_picture_once(pattern, tmp_path):
    folder = tmp_path / "".join(filter(str.isalpha, pattern)) / str(len(pattern)) / "in"
    for name in ("a.png", "sub/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in ("loop", "loop2", "sub/up", "asub"):
        target = {"sub/up": "..", "asub": "sub"}.get(name, ".")
        (folder / name).symlink_to(target)
    above = folder.parent if pattern == "**/in/**/*.png" else folder
    prefix = "in/" if above != folder else ""
    output = tmp_path / "out"
    assert names_of([above / pattern], output) == [f"{prefix}a.png", f"{prefix}sub/b.png"]
    assert names_of([folder], output) == ["a.png", "sub/b.png"]


def test_linked_folder_is_followed_once_but_not_into_the_results(folder, tmp_path):
    for path in (tmp_path / "else/c.png", folder / "out/old.png"):
        path.parent.mkdir()
        path.touch()
    for name, target in (("1", "else"), ("2", "else"), ("3", "in/out"), ("4", "in"), ("5", "")):
        (folder / name).symlink_to(tmp_path / target)
    assert names_of([folder], folder / "out") == ["a.png", "1/c.png"]


def test_files_of_other_kinds_are_counted(folder, tmp_path, run, micro_file, caplog):
    for name in ("a.gif", "b.GIF", "notes", ".hidden.gif"):
        (folder / name).touch()
    assert run(folder, tmp_path / "out")[2][0]["other_kinds"] == 3
    assert run(folder / "*", tmp_path / "out")[2][0]["other_kinds"] == 3
    caplog.set_level("INFO")
    files.command(folder, tmp_path / "out", "--model", micro_file, *files.QUICK)
    assert "Left out: 3 files of other kinds (.gif, no suffix)" in caplog.text
    (folder / "a.png").unlink()
    for source in (folder, folder / "*"):
        with pytest.raises(InputError, match=r"3 files of other kinds \(\.gif, no suffix\)"):
            names_of([source], tmp_path / "out")


def test_jfif_is_a_jpeg(folder, tmp_path, run):
    files.save(folder / "b.jpg", files.pixels()).rename(folder / "b.jfif")
    assert run(folder, tmp_path / "out")[:2] == (0, {"a.png": None, "b.jfif": None})


@each("data", [b"\xff\xfea\0.\0p\0n\0g\0", b"a.png\0\n"])
def test_list_that_is_none_is_told(data, folder, tmp_path):
    (folder / "list.txt").write_bytes(data)
    with pytest.raises(InputError, match="cannot be read as a list"):
        names_of([folder / "list.txt"], tmp_path / "out")
