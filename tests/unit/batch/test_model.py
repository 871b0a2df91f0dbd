"""The model of a run: read once, and known by later runs for what it is."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers import batch_files as files
from helpers import models
from helpers.release_files import save_converted
from varsr_core.batch import model, run
from varsr_core.checkpoint import load_checkpoint
from varsr_core.convert import convert_files


@pytest.fixture
def folder(tmp_path):
    files.save(tmp_path / "in/a.png", files.pixels())
    return tmp_path


@pytest.fixture
def skipped(folder, capsys):
    """Runs with a model; whether the picture was there already."""

    def run(path):
        arguments = ("--model", path, *files.QUICK, "--json")
        assert files.command(folder / "in", folder / "out", *arguments) == 0
        return not files.events(capsys.readouterr().out, "file")

    return run


def older(path, dtype, change=lambda tensor: tensor):
    """A file as version 0.1.0 converted it, of weights that may be others since."""
    made = save_converted(path, models.converted_weights(), dtype)
    with safe_open(made, framework="pt") as file:
        metadata = {n: text for n, text in file.metadata().items() if n != "contents"}
    tensors = load_file(made)
    name = "transformer.head.weight"
    save_file({**tensors, name: change(tensors[name])}, made, metadata)
    return made


def test_model_is_read_once_where_the_worker_is_in_the_same_process(
    folder, skipped, monkeypatch, micro_file
):
    calls = []
    monkeypatch.setattr(
        model, "load_checkpoint", lambda paths: calls.append(paths) or load_checkpoint(paths)
    )
    assert not skipped(micro_file)
    assert len(calls) == 1
    assert skipped(micro_file)
    assert len(calls) == 2


def test_model_is_read_with_the_threads_of_the_run(folder, micro_file, monkeypatch):
    """The last bits of tables that a release lacks may depend on it."""
    before, seen = torch.get_num_threads(), []

    def read(options):
        seen.append(torch.get_num_threads())
        return model.read_model(options)

    monkeypatch.setattr(run, "read_model", read)
    try:
        for threads in (1, 2):
            options = ("--model", micro_file, *files.QUICK, "--threads", threads)
            assert files.command(folder / "in", folder / "out", *options) == 0
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]


def test_older_file_of_other_weights_under_a_known_fingerprint_is_another_model(folder, skipped):
    sound = older(folder / "a.safetensors", torch.bfloat16)
    odd = older(folder / "b.safetensors", torch.bfloat16, lambda tensor: -tensor)
    half = older(folder / "c.safetensors", torch.float16)
    assert not skipped(sound)
    first = files.hashes(folder / "out")
    assert skipped(sound)
    assert skipped(half), "another conversion of one model"
    assert not skipped(odd)
    assert files.hashes(folder / "out") != first
    assert skipped(odd)
    assert not skipped(sound)
    assert files.hashes(folder / "out") == first


def test_file_that_carries_its_hash_is_not_taken_for_an_older_one_of_other_weights(folder, skipped):
    odd = older(folder / "b.safetensors", torch.bfloat16, lambda tensor: -tensor)
    new = save_converted(folder / "n.safetensors", models.converted_weights(), torch.bfloat16)
    assert not skipped(odd)
    assert not skipped(new)
    assert skipped(new)


def test_conversions_that_carry_their_hashes_are_one_model(folder, skipped):
    """Even in one dtype, where one of them was rounded on the way."""
    paths = [folder / f"{name}.safetensors" for name in "ab"]
    for path, dtypes in zip(paths, ([torch.float32], [torch.bfloat16, torch.float32]), strict=True):
        save_converted(path, models.converted_weights())
        for dtype in dtypes:
            convert_files([path], path, dtype)
    assert not skipped(paths[0])
    assert skipped(paths[1])
