"""K2N in the command: the same bits as the core, folders that are not mixed, faults told early."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import batch_files as files
from helpers import k2n_files
from tools import random_checkpoint, random_k2n
from varsr_core.checkpoint import load_checkpoint
from varsr_core.convert import convert_files
from varsr_core.settings import UpscaleSettings
from varsr_core.upscaling import upscale
from varsr_core.varsr.k2n.coarse import Coarse
from varsr_core.varsr.k2n.kind import read_k2n
from varsr_core.varsr.restorer import VARSRRestorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """varsr.safetensors and what K2N is for it: K2NSR.pth."""
    made = tmp_path_factory.mktemp("models")
    release = random_checkpoint.write_release(made, k2n_files.MICRO)
    convert_files(list(release), made / "varsr.safetensors", torch.float32)
    random_k2n.write_release(made, random_k2n.SIZES["micro"])
    return made


@pytest.fixture
def run(tmp_path, folder, capsys):
    """Restores one picture; returns the exit code, the picture made and files that were done."""
    files.save(tmp_path / "in" / "a.png", files.pixels(40, 30))
    fixed = ("--threads", "1", "--dtype", "fp32", "--scale", "2", "--json", "--seed", "3")

    def done(*options, model="varsr.safetensors"):
        chosen = ("--model", folder / model)
        code = files.command(tmp_path / "in", tmp_path / "out", *chosen, *fixed, *options)
        events = files.events(capsys.readouterr().out, "file")
        made = tmp_path / "out" / "a.png"
        picture = np.asarray(Image.open(made)) if made.exists() else None
        return code, picture, [event["error"] for event in events]

    return done


def as_core(folder, scales):
    model = load_checkpoint([folder / "varsr.safetensors"]).build()
    coarse = Coarse(read_k2n(folder / "K2NSR.pth").build(), scales)
    pixels = torch.from_numpy(files.pixels(40, 30).astype(np.float32) / 255).movedim(-1, 0)[None]
    restorer, settings = VARSRRestorer(model, coarse=coarse), UpscaleSettings()
    result = upscale(pixels, 2.0, restorer, seed=3, settings=settings)[0]
    return np.clip(255.0 * result.movedim(0, -1).numpy(), 0, 255).astype(np.uint8)


def test_result_is_what_the_core_computes_and_a_folder_without_it_is_done_again(run, folder):
    plain = run()
    assert plain[0] == 0
    k2n = ("--k2n", folder / "K2NSR.pth")
    code, made, errors = run(*k2n, "--k2n-scales", "2")
    assert (code, errors) == (0, [None])
    np.testing.assert_array_equal(made, as_core(folder, 2))
    assert not np.array_equal(made, plain[1])
    assert run(*k2n, "--k2n-scales", "2")[2] == []
    assert run(*k2n)[2] == [None]  # three scales are another result
    assert run()[2] == [None]


def test_where_the_file_lies_and_its_conversion_are_no_reason_to_do_it_again(run, folder, tmp_path):
    assert run("--k2n", folder / "K2NSR.pth")[2] == [None]
    convert_files([folder / "K2NSR.pth"], tmp_path / "k2n.safetensors", torch.float32)
    assert run("--k2n", tmp_path / "k2n.safetensors")[2] == []


def test_faults_are_told_before_the_work(run, folder, tmp_path, caplog):
    assert run("--k2n", folder / "K2NSR.pth", "--k2n-scales", "4")[0] == 2
    assert "this K2N file gives 1 to 3" in caplog.text
    assert run("--k2n", folder / "varsr.safetensors")[0] == 2
    assert "varsr.safetensors is no checkpoint of K2N" in caplog.text
    micro = files.write_micro(tmp_path / "micro.safetensors")
    assert run("--k2n", folder / "K2NSR.pth", model=micro)[0] == 2
    assert "this VARSR model does not suit K2N" in caplog.text
    alone = shutil.copy(folder / "K2NSR.pth", tmp_path)
    assert run(model=alone)[0] == 2
    assert "which only helps another model" in caplog.text
