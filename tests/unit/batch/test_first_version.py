"""What version 0.1.0 left in an output folder goes on: nothing is restored twice.

Names, hashes and files are written out here as that version made them, not by today's code.
"""

import copy
import hashlib
import json
import os
import sqlite3
from dataclasses import fields, is_dataclass, make_dataclass, replace
from pathlib import Path

import pytest

from helpers import batch_files as files
from helpers import film_files as films
from varsr_core.batch.__main__ import INTERRUPTED
from varsr_core.batch.cli import parse
from varsr_core.batch.films.segment_file import read_table
from varsr_core.batch.model import Model
from varsr_core.checkpoint import FAMILIES, load_checkpoint
from varsr_core.runtime.defaults import resolved

FINGERPRINT = "0123456789abcdef"
EVERY_CHOICE = (
    "--size-by megapixels --target 2.5 --seed 7 --color-fix wavelet --color-strength 0.5 "
    "--tiling lock-step --overlap 0.375 --feather 3 --format tiff --depth 16 --quality 80 --crf 20 "
    "--dtype bf16 --guidance 4.5 --guidance-schedule quadratic --top-k 30 --top-p 0.9 "
    "--temperature 1.2 --refine-steps 5 --refine-strength 0.75"
)
OTHER_FAMILY = "--family nsarm --model x"
OTHER_CHOICES = "--temperature 0.8 --top-p 0.9 --guidance 2 --downsampling trilinear"
TEXT = {"text": "/texts/a.safetensors", "text_hash": "ab12"}
HASHES = (  # of options and of choices beside them
    ("", {}, "e736adcde036761abf604d4b106bac0d"),
    (EVERY_CHOICE, {}, "21a693f47c22bb710e1acfe5bae41d2b"),
    (OTHER_FAMILY, {}, "67f759dabe5e2b9ea017f62a24f192ef"),
    (f"{OTHER_FAMILY} {OTHER_CHOICES}", TEXT, "e8aea41a7a5d67d8e557415a55ba6c8b"),
)
SETTINGS = (  # what is hashed of --refine-steps 2 --dtype fp32
    '[{"choices": {"refining": {"guidance": 6.0, "steps": 2, "strength": 1.0}, "sampling": '
    '{"guidance": 6.0, "guidance_schedule": "linear", "quality_class": 0, "temperature": 1.0, '
    '"top_k": 1, "top_p": 1.0, "unguided_scales": 0}}, "dtype": "fp32", "family": "varsr", '
    '"form": {"crf": 16, "depth": "same", "picture": "same", "quality": 95}, "seed": 0, '
    '"settings": {"color_fix": "adain", "color_strength": 1.0, "feather": 16, "tiling": '
    '{"mode": "phased", "overlap": 0.25}}, "size": {"mode": "scale", "value": 4.0}}, "%s"]'
)
JOURNAL = ".varsr_batch.sqlite"
CREATE = """CREATE TABLE IF NOT EXISTS files (
    name TEXT PRIMARY KEY, source TEXT NOT NULL, settings TEXT NOT NULL, stamp TEXT NOT NULL,
    content_hash TEXT NOT NULL, bytes INTEGER NOT NULL, error TEXT NOT NULL
)"""
SEGMENTS, FRAMES = ".varsr_batch.segments", 48  # of a segment
TIME_NS = 1_700_000_000_123_456_789


def options_of(text=""):
    """As that version had them: its models had no defaults of their own."""
    found = parse(["in", "out", *text.split()]).options
    return resolved(found, FAMILIES[found.family].defaults)


def hashed(text, size):
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


@pytest.fixture
def options(micro_file):
    return ("--model", micro_file, *files.QUICK)


@pytest.fixture
def settings(micro_file):
    return hashed(SETTINGS % load_checkpoint([micro_file]).fingerprint, 16)


def test_settings_have_the_hashes_that_they_had():
    for text, choices, wanted in HASHES:
        found = options_of(text)
        found = replace(found, choices=replace(found.choices, **choices))
        assert found.settings_hash(FINGERPRINT) == wanted, text


def test_choice_that_comes_later_enters_only_where_it_is_not_neutral():
    found = options_of()
    known = {field.name: getattr(found.choices, field.name) for field in fields(found.choices)}
    bases = (type(found.choices),)
    later = make_dataclass("Later", [("sharpness", float, 0.0)], bases=bases, frozen=True)
    neutral = replace(found, choices=later(**known))
    assert neutral.settings_hash(FINGERPRINT) == found.settings_hash(FINGERPRINT)
    sharper = replace(found, choices=later(**known, sharpness=0.5))
    assert sharper.settings_hash(FINGERPRINT) != found.settings_hash(FINGERPRINT)


def test_every_setting_enters_but_how_it_is_done():
    """A setting that comes later and is forgotten in the hash would leave old results in place."""

    def left_out(options, inside, path=""):
        for field in fields(inside):
            value, name = getattr(inside, field.name), path + field.name
            if is_dataclass(value):
                yield from left_out(options, value, f"{name}.")
                continue
            before = options.settings_hash(FINGERPRINT)
            object.__setattr__(inside, field.name, "another")
            if options.settings_hash(FINGERPRINT) == before:
                yield name
            object.__setattr__(inside, field.name, value)

    # Of files it is not the place that counts, but what is in them.
    for text, places in (("", ["choices.coarse.k2n"]), (OTHER_FAMILY, [])):
        found = copy.deepcopy(options_of(text))
        expected = ["model", *places, "device", "threads", "together"]
        assert list(left_out(found, found)) == expected


def test_pictures_of_its_journal_are_not_restored_again(tmp_path, options, settings, capsys):
    """One as it was, one that was only moved, one with a mask; one more is new."""
    out = tmp_path / "out"
    out.mkdir()
    mask = files.save(tmp_path / "mask.png", files.pixels(channels=1))
    with sqlite3.connect(out / JOURNAL) as journal:
        journal.execute(CREATE)
        for number, name in enumerate(("same.png", "moved.png")):
            source = files.save(tmp_path / "in" / name, files.pixels(seed=number))
            os.utime(source, ns=(1, TIME_NS))
            os.utime(mask, ns=(1, TIME_NS))
            stamp = " ".join(f"{path.stat().st_size}:{TIME_NS}" for path in (source, mask))
            content = source.read_bytes() + mask.read_bytes()
            content_hash = hashlib.blake2b(content, digest_size=16).hexdigest()
            (out / name).write_bytes(b"restored")
            row = (name, str(source), settings, stamp, content_hash, len(b"restored"), "")
            if name == "moved.png":
                row = (name, "/elsewhere/moved.png", settings, "1:2 3:4", content_hash, *row[5:])
            journal.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    journal.close()
    files.save(tmp_path / "in" / "new.png", files.pixels(seed=2))
    assert files.command(tmp_path / "in", out, *options, "--mask", mask, "--json") == 0
    output = capsys.readouterr().out
    assert files.events(output, "start")[0]["skipped"] == 2
    assert [Path(done["output"]).name for done in files.events(output, "file")] == ["new.png"]
    assert (out / "same.png").read_bytes() == (out / "moved.png").read_bytes() == b"restored"


def test_segments_of_a_film_are_not_restored_again(tmp_path, options, settings, monkeypatch):
    """Two of three are there, in its folder and under its names."""
    restored, stop_at, restore = [], 2 * FRAMES + 5, Model.restore

    def counted(model, pixels, mask, on_progress):
        if len(restored) == stop_at:
            raise KeyboardInterrupt
        restored.extend(pixels)
        return restore(model, pixels, mask, on_progress)

    monkeypatch.setattr(Model, "restore", counted)
    source = films.make_film(tmp_path / "clip.mp4", 3 * FRAMES)
    os.utime(source, ns=(1, TIME_NS))
    stamp = f"{source.stat().st_size}:{TIME_NS}"
    made_from = json.dumps([str(source), "", stamp, settings, FRAMES])
    folder = Path(SEGMENTS, f"{hashed('clip.mp4', 8)}.{hashed(made_from, 8)}")
    today, old = tmp_path / "today", tmp_path / "old"
    assert files.command(source, today, *options) == INTERRUPTED
    (old / folder).mkdir(parents=True)
    for name in ("00000", "00001"):
        path = today / folder / name
        table = read_table(path)
        end = {"header": table.header, "sought": table.sought, "packets": table.packets}
        text = json.dumps(end).encode()
        data = path.read_bytes()[: sum(packet[4] for packet in table.packets)]
        (old / folder / name).write_bytes(data + text + len(text).to_bytes(8, "little"))
        assert (old / folder / name).read_bytes() == path.read_bytes()
    restored.clear()
    stop_at = -1
    assert files.command(source, old, *options) == 0
    assert len(restored) == FRAMES
    assert not (old / SEGMENTS).exists()
    assert films.shown(old / "clip.mp4")[0] == films.shown(source)[0]
