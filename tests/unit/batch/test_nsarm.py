"""NSARM in the command: the same bits as the core, its own choices, its own faults."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import batch_files as files
from tools.random_nsarm import MICRO, write_release
from varsr_core.checkpoint import load_checkpoint
from varsr_core.convert import convert_files
from varsr_core.nsarm.model import build_model
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.sampling import SampleSettings
from varsr_core.upscaling import upscale


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nsarm")
    release = list(write_release(folder, MICRO))
    convert_files(release, folder / "micro.safetensors", torch.float32)
    return folder / "micro.safetensors"


@pytest.fixture
def run(tmp_path, model_file, capsys):
    """Restores one picture; returns the exit code, the picture made and files that were done."""
    files.save(tmp_path / "in" / "a.png", files.pixels(40, 30))
    fixed = ("--family", "nsarm", "--threads", "1", "--dtype", "fp32", "--scale", "2", "--json")

    def done(*options, model=model_file):
        chosen = ("--model", model) if model else ()
        code = files.command(tmp_path / "in", tmp_path / "out", *chosen, *fixed, *options)
        events = files.events(capsys.readouterr().out, "file")
        made = tmp_path / "out" / "a.png"
        picture = np.asarray(Image.open(made)) if made.exists() else None
        return code, picture, [event["error"] for event in events]

    return done


def as_core(model_file, sampling, features=None):
    network = build_model(load_checkpoint([model_file]).tensors)
    pixels = torch.from_numpy(files.pixels(40, 30).astype(np.float32) / 255).movedim(-1, 0)[None]
    result = upscale(pixels, 2.0, NSARMRestorer(network, sampling, features), seed=3)[0]
    return np.clip(255.0 * result.movedim(0, -1).numpy(), 0, 255).astype(np.uint8)


def text_file(path, value=0.1):
    features = torch.full((5, MICRO.text), value).cumsum(0)
    save_file({"text_features": features}, path)
    return features


def test_result_is_what_the_core_computes_to_the_bit(run, model_file):
    code, made, errors = run("--seed", "3", "--temperature", "0.8", "--downsampling", "trilinear")
    assert (code, errors) == (0, [None])
    sampling = SampleSettings(temperature=0.8, downsampling="trilinear")
    np.testing.assert_array_equal(made, as_core(model_file, sampling))


def test_saved_text_is_used_and_another_text_is_a_reason_to_do_all_again(run, model_file, tmp_path):
    path = tmp_path / "text.safetensors"
    features = text_file(path)
    options = ("--seed", "3", "--guidance", "2", "--text", path)
    made = run(*options)[1]
    np.testing.assert_array_equal(made, as_core(model_file, SampleSettings(guidance=2), features))
    assert run(*options)[2] == []
    text_file(path, -0.2)
    assert run(*options)[2] == [None]


def test_there_is_no_default_model(run, caplog):
    assert run(model=None)[0] == 2
    assert "no model of nsarm comes with the pack; name its file with --model" in caplog.text


def test_file_without_features_is_told_before_the_work(run, tmp_path, caplog):
    save_file({"other": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert run("--text", tmp_path / "x.safetensors")[0] == 2
    assert "x.safetensors holds no 'text_features'" in caplog.text


def test_model_of_the_other_family_is_refused(run, tmp_path, caplog):
    assert run(model=files.write_micro(tmp_path / "varsr.safetensors"))[0] == 2
    assert "choose --family varsr" in caplog.text
