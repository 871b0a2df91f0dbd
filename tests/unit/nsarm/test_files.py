"""NSARM's files: read in every form, converted tensor by tensor, refused when wrong."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.each import each
from helpers.nsarm_goldens import SIDES, reference
from helpers.paths import ROOT
from tools.random_nsarm import MICRO, QUARTER, write_release
from varsr_core.checkpoint import load_checkpoint
from varsr_core.convert import DTYPES, convert_files
from varsr_core.errors import CheckpointError, InputError
from varsr_core.files.lazy_tensor import LazyTensor
from varsr_core.nsarm.config import infer_config
from varsr_core.nsarm.model import build_model
from varsr_core.nsarm.restorer import NSARMRestorer
from varsr_core.nsarm.results import TextFeatures
from varsr_core.nsarm.row_scaled import RowScaled, pack
from varsr_core.nsarm.sampling import SampleSettings
from varsr_core.nsarm.text_files import load_text, save_text
from varsr_core.nsarm.weights import convert
from varsr_core.upscaling import upscale

BLOCK = "transformer.blocks.0"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """NSARM.pth, the autoencoder."""
    return list(write_release(tmp_path_factory.mktemp("release"), MICRO))


@pytest.fixture(scope="module")
def expected(release):
    return made(load_checkpoint(release).tensors)


def made(tensors):
    return {name: tensor.detach() for name, tensor in tensors.items()}


def test_sizes_whose_tiles_do_not_divide_are_refused(expected):
    """An autoencoder that lost its levels would make tiles of other cells than the maps'."""
    config = infer_config(expected)
    with pytest.raises(ValueError, match="pixels"):
        replace(config, vae=replace(config.vae, widths=config.vae.widths[-1:]))


def parts_of(release):
    transformer = torch.load(release[0], weights_only=True)["trainer"]["gpt_fsdp"]
    return transformer, torch.load(release[1], weights_only=True)["vae"]


def assert_same(checkpoint, expected):
    assert checkpoint.family.name == "nsarm"
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in made(checkpoint.tensors).items():
        assert torch.equal(tensor, expected[name]), name


@each("turned", [False, True])
def test_release_loads_in_any_order(release, expected, turned):
    assert_same(load_checkpoint(release[::-1] if turned else release), expected)


@pytest.mark.parametrize("nesting", ["flat", "wrapped", "one safetensors", "two safetensors"])
def test_tensors_load_however_they_are_nested(release, expected, tmp_path, nesting):
    transformer, vae = parts_of(release)
    if nesting == "flat":
        torch.save(transformer, tmp_path / "a.pth")
        torch.save(vae, tmp_path / "b.pth")
    elif nesting == "wrapped":
        torch.save({f"module.{n}": t for n, t in transformer.items()}, tmp_path / "a.pth")
        torch.save({"vae": vae, "ema": {}, "epoch": 1}, tmp_path / "b.pth")
    elif nesting == "one safetensors":
        save_file({n: t.contiguous() for n, t in {**transformer, **vae}.items()},
                  tmp_path / "a.safetensors")  # fmt: skip
    else:
        save_file(transformer, tmp_path / "a.safetensors")
        save_file(vae, tmp_path / "b.safetensors")
    assert_same(load_checkpoint(sorted(tmp_path.iterdir())), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversion_keeps_the_fingerprint_and_the_model(release, tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    convert_files(release, path, DTYPES[dtype])
    found = load_checkpoint([path])
    assert found.fingerprint == load_checkpoint(release).fingerprint
    model = build_model(found.tensors, dtype=torch.bfloat16 if dtype == "fp8" else DTYPES[dtype])
    assert model.config.schedule.sides == MICRO.sides
    result = upscale(torch.rand(1, 3, 32, 32), 4.0, NSARMRestorer(model))
    assert result.isfinite().all()
    again = tmp_path / "again.safetensors"
    convert_files([path], again, DTYPES[dtype])
    assert again.read_bytes() == path.read_bytes()


def test_float32_file_gives_the_bits_of_the_release(release, tmp_path):
    convert_files(release, tmp_path / "model.safetensors", torch.float32)
    first, second = (
        build_model(load_checkpoint(files).tensors)
        for files in (release, [tmp_path / "model.safetensors"])
    )
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(*(upscale(image, 4.0, NSARMRestorer(model)) for model in (first, second)))


def test_fp8_file_holds_the_blocks_matrices_in_eight_bits_and_keeps_the_rest(release, tmp_path):
    path = tmp_path / "model.safetensors"
    convert_files(release, path, DTYPES["fp8"])
    tensors = load_file(path)
    packed = {n for n, t in tensors.items() if t.dtype == torch.float8_e4m3fn}
    layers = ("qkv", "projection", "cross_query", "cross_kv", "cross_projection", "fc1", "fc2")
    assert packed == {
        f"transformer.blocks.{i}.{layer}.matrix.weight" for i in range(2) for layer in layers
    }
    for kept in ("cross_norm.weight", "modulation.weight", "query_scale.weight"):
        assert tensors[f"{BLOCK}.{kept}"].dtype == torch.float32
    assert tensors["maps.branches.0.out.weight"].dtype == torch.bfloat16
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["family"] == "nsarm"


@each("spread", [1e-3, 1.0, 40.0])
def test_matrix_in_eight_bits_is_exact_to_its_three_bits_of_mantissa(spread):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 48, generator=generator) * spread
    weight *= torch.logspace(-3, 0, 64)[:, None]  # rows of very different size
    weight[5] = 0
    bias = torch.randn(64, generator=generator) * spread
    packed = made(pack({f"{BLOCK}.fc1.weight": weight, f"{BLOCK}.fc1.bias": bias}, DTYPES["fp8"]))
    layer = RowScaled(48, 64)
    names = {n.removeprefix(f"{BLOCK}.fc1."): t for n, t in packed.items()}
    layer.load_state_dict(names, assign=True)
    scales = names["scale.weight"]
    assert torch.equal(scales, torch.exp2(torch.log2(scales).round())), "powers of two"
    restored = names["matrix.weight"].float() * scales[:, None]
    assert ((restored - weight).abs() <= weight.abs() / 16 + scales[:, None] * 2.0**-10).all()
    x = torch.randn(7, 48, generator=generator)
    torch.testing.assert_close(layer(x), x @ restored.T + bias, rtol=1e-4, atol=1e-5 * spread)


def test_fp8_of_the_recorded_model_leaves_logits_close():
    """Against float32, through all scales of the small recorded model."""
    weights = convert(reference())
    full = build_model(weights, sides=SIDES)
    packed = build_model(made(pack(weights, DTYPES["fp8"])), sides=SIDES)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, full.config.transformer.text_width, generator=generator)
    codes = [torch.sign(torch.randn(1, 14, 2 * s, 2 * s, generator=generator)) / 14**0.5
             for s in SIDES[:7]]  # fmt: skip
    found = []
    for model in (full, packed):
        restorer = NSARMRestorer(model, SampleSettings(temperature=0), features)
        with torch.inference_mode():
            state = restorer.start_from(codes, [])
            restorer.step(state, 0)
            hidden = state.caches[0].storage[..., : state.caches[0].length, :]
        found.append(hidden)
    error = (found[0] - found[1]).norm() / found[0].norm()
    assert 1e-4 < error < 0.1


def test_fp8_cannot_be_undone(release, tmp_path):
    convert_files(release, tmp_path / "a.safetensors", DTYPES["fp8"])
    with pytest.raises(CheckpointError, match="in fp8 already"):
        convert_files([tmp_path / "a.safetensors"], tmp_path / "b.safetensors", DTYPES["bf16"])


@pytest.mark.parametrize("count", [1, 3, 30])
def test_pieces_are_joined_and_leave_nothing(release, expected, tmp_path, count):
    content = release[0].read_bytes()
    size = -(-len(content) // count)
    names = [f"NSARM_part_{a}{b}" for a in "ab" for b in "abcdefghijklmnopqrstuvwxyz"]
    pieces = [tmp_path / name for name in names[:count]]
    for number, piece in enumerate(pieces):
        piece.write_bytes(content[number * size : (number + 1) * size])
    target = tmp_path / "out" / "model.safetensors"
    target.parent.mkdir()
    convert_files([*reversed(pieces), release[1]], target, torch.float32)
    assert_same(load_checkpoint([target]), expected)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("ab", "the first after NSARM_part_aa"),
        ("aa", "the first before NSARM_part_ab"),
        ("ad", "NSARM.pth .* is truncated or no checkpoint"),
    ],
)
def test_a_missing_piece_is_told(release, tmp_path, left_out, message):
    content = release[0].read_bytes()
    size = -(-len(content) // 4)
    pieces = []
    for number, letters in enumerate(("aa", "ab", "ac", "ad")):
        pieces.append(tmp_path / f"NSARM_part_{letters}")
        pieces[-1].write_bytes(content[number * size : (number + 1) * size])
    given = [piece for piece in pieces if not piece.name.endswith(left_out)]
    with pytest.raises(CheckpointError, match=message):
        convert_files([*given, release[1]], tmp_path / "model.safetensors", torch.float32)
    assert sorted(tmp_path.iterdir()) == pieces


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (("block_chunks.", "text_", "cfg"), "plain Infinity checkpoint.*no map network"),
        (("map_transformer.",), "only a part of the transformer"),
        (("",), "only the transformer .*infinity_vae_d56_f8_14_patchify.pth"),
    ],
)
def test_part_of_a_model_is_refused_by_name(release, tmp_path, kept, message):
    transformer, _ = parts_of(release)
    path = tmp_path / "part.pth"
    torch.save({n: t for n, t in transformer.items() if n.startswith(kept)}, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint([path])


def test_autoencoder_alone_is_refused(release):
    with pytest.raises(CheckpointError, match=r"only the autoencoder.*choose the transformer"):
        load_checkpoint([release[1]])


@pytest.mark.parametrize("name", [f"{BLOCK}.fc1.weight", "vae.decoder.conv_out.bias"])
def test_converted_file_that_lacks_a_tensor_is_refused(expected, tmp_path, name):
    left = {n: t.contiguous() for n, t in expected.items() if n != name}
    save_file(left, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint([tmp_path / "model.safetensors"])


MEASURE = """
import sys, threading, time
from pathlib import Path
import torch
from varsr_core.convert import DTYPES, convert_files
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024
*files, dtype = sys.argv[1:]
peak, done = [before := anonymous()], threading.Event()
def watch():
    while not done.is_set():
        peak.append(anonymous())
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
convert_files([Path(file) for file in files[:-1]], Path(files[-1]), DTYPES[dtype])
done.set()
watcher.join()
sys.stdout.write(str(max(peak) - before))
"""


def measured(release, target, dtype):
    """Most anonymous memory that a conversion takes, in bytes.

    Of tensors as large as these, glibc may keep what was freed; of those of a release it does not,
    nor here with a fixed threshold.
    """
    command = [sys.executable, "-c", MEASURE, *release, target, dtype]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    run = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment
    )
    return int(run.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux' own count")
def test_conversion_holds_few_tensors_at_a_time(release, tmp_path):
    """A quarter as wide as the release; what is reordered alone would be 77 MB."""
    larger = write_release(tmp_path, replace(QUARTER, blocks=8, per_chunk=5))
    largest = 4 * 6 * 896 * 896  # bytes, of the shared modulation
    assert larger[0].stat().st_size > 20 * largest
    target = tmp_path / "out.safetensors"
    growth = measured(larger, target, "fp8") - measured(release, target, "fp8")
    assert growth < 4 * largest


def test_deferred_tensor_is_made_when_wanted_and_not_kept():
    calls = []
    deferred = LazyTensor((2, 3), torch.float32, lambda: calls.append(1) or torch.ones(2, 3))
    assert (deferred.shape, deferred.numel(), deferred.is_floating_point()) == ((2, 3), 6, True)
    assert not calls
    assert torch.equal(deferred.to(torch.float64), torch.ones(2, 3, dtype=torch.float64))
    assert torch.equal(deferred.detach(), torch.ones(2, 3))
    assert len(calls) == 2


def test_text_is_read_back_as_it_was_saved(tmp_path):
    text = TextFeatures(torch.randn(9, 64), "Ein Haus — a house")
    save_text(text, tmp_path / "house.safetensors")
    found = load_text(tmp_path / "house.safetensors")
    assert torch.equal(found.features, text.features)
    assert found.prompt == text.prompt


def test_files_and_features_that_are_no_text_are_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="holds no 'text_features'"):
        load_text(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="NaN or infinite features"):
        save_text(TextFeatures(torch.full((2, 4), torch.nan)), tmp_path / "nan.safetensors")
