"""Trains the small model that the pack carries, with VGG features as a further loss.

    python tools/nano/train.py pack-features FEATURES
    python tools/nano/train.py resize MODEL RUN --config CONFIG --data PICTURES
    python tools/nano/train.py deepen MODEL RUN --config CONFIG --pairs LOW TARGET --blocks 0 11 22
    python tools/nano/train.py train FEATURES --data CROPS --out RUN [--minutes 25]
    python tools/nano/train.py keep RUN MODEL STATE
    python tools/nano/train.py go-on STATE MODEL RUN --config CONFIG
    python tools/nano/train.py ship RUN varsr_core/assets/varsr_nano.safetensors

The first needs `pip install --no-deps stlpips_pytorch`; crops come from training_set.py. Training
resumes: the same command goes on where the last one stopped. `resize` begins a run with the
tokenizer and the prefix encoder of a model whose latent has other sizes, `deepen` with those of a
model of the same sizes and, as its deep prefix, blocks of the teacher (see deep_start.py). `keep`
writes what tokenizer and prefix encoder of a run have learned since it began with MODEL, in half
precision; `go-on` begins a run elsewhere with that. The features are those of that package
(shift-tolerant VGG-16), in half precision; the model's card must name them.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.nano.begin import deepen, go_on, keep, resize
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.training.config import read_config
from varsr_core.training.run import MODEL_FILE, Training
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.weights import build_model

PACKED = "stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth"
SLICES = ((0, 2), (6, 8), (12, 14, 16), (20, 22, 24))  # convolutions between the pools
POOLS = (None, 5, 11, 19)  # the blur that each slice begins with
# Of the transformer; one row a quality class.
CLASS_TABLES = ("class_embedding.weight", "modulation.weight")
WEIGHTS = (2.0, 4.0, 6.0, 8.0)  # of the slices: each then adds about as much to the loss


class VGGFeatures(nn.Module):
    """(N, 3, H, W) in [0, 1] -> feature maps of four slices, each position of length 1."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in weights.items():
            # Convolutions that learn nothing are a sixth faster on CPUs with channels last.
            layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            kept = tensor.float().contiguous(memory_format=layout)
            self.register_buffer(name.replace(".", "_"), kept)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        shift, scale = self.scaling_layer_shift, self.scaling_layer_scale
        x = (pictures * 2 - 1 - shift) / scale
        x = x.contiguous(memory_format=torch.channels_last)
        maps = []
        for number, (layers, pool) in enumerate(zip(SLICES, POOLS, strict=True), start=1):
            if pool is not None:
                blur = getattr(self, f"net_slice{number}_{pool}_filt")
                x = F.pad(F.max_pool2d(x, 2, stride=1), (1, 1, 1, 1), mode="reflect")
                x = F.conv2d(x, blur, stride=2, groups=x.shape[1])
            for layer in layers:
                weight = getattr(self, f"net_slice{number}_{layer}_weight")
                bias = getattr(self, f"net_slice{number}_{layer}_bias")
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            maps.append(F.normalize(x.float(), dim=1) * WEIGHTS[number - 1])
        return maps


def pack_features(out: Path) -> None:
    """Takes what VGGFeatures needs from the installed package."""
    spec = importlib.util.find_spec("stlpips_pytorch")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps stlpips_pytorch first")
    path = Path(spec.origin).parent.parent / PACKED
    stored = torch.load(path, map_location="cpu", weights_only=True)
    kept = {
        name: tensor.half().contiguous()
        for name, tensor in stored.items()
        if name.startswith(("scaling_layer", *(f"net.slice{n}." for n in range(1, 5))))
    }
    save_file(kept, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def train(arguments: argparse.Namespace) -> None:
    deadline = time.monotonic() + 60 * arguments.minutes
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = VGGFeatures(load_file(arguments.features)).to(device)
    training = Training(
        read_config(arguments.config),
        arguments.out,
        arguments.data,
        [],
        None,
        device,
        features,
        tuple(arguments.pairs) if arguments.pairs else None,
    )
    done = training.run(deadline)
    print("done" if done else "stopped; the same command goes on")


def ship(run: Path, out: Path, distance: float, share: float) -> None:
    """The model of a run in half precision.

    distance: of the negative class from the positive, as a share of what was learned; guidance g
              then does about what distance * g did
    share:    of the decoder's way through the last stage. That stage makes pictures truer and
              smoother; less than 0 goes the other way, to sharper and rougher ones
    """
    out.parent.mkdir(exist_ok=True)
    checkpoint = load_checkpoint([run / MODEL_FILE])
    before = load_checkpoint([run / "isr" / MODEL_FILE]).tensors
    tensors = dict(checkpoint.tensors)
    for name in (name for name in tensors if name.startswith(("decoder.", "post_quantizer."))):
        tensors[name] = torch.lerp(before[name], tensors[name], share)
    own = (name for name in checkpoint.tensors if name.startswith("transformer."))
    for name in (name for name in own if name.endswith(CLASS_TABLES)):
        good, bad = tensors[name]
        tensors[name] = torch.stack((good, torch.lerp(good, bad, distance)))
    made = Checkpoint(checkpoint.family, tensors, fingerprint(tensors), {})
    save_checkpoint(made, out, torch.float16, metadata={})
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def commands_of() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack-features")
    pack.add_argument("features", type=Path)
    run = commands.add_parser("train")
    run.add_argument("features", type=Path)
    run.add_argument("--data", type=Path, nargs="+", required=True)
    run.add_argument("--pairs", type=Path, nargs=2, metavar=("LOW", "TARGET"))
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--config", type=Path, default=Path("nano"))
    run.add_argument("--minutes", type=float, default=math.inf)
    begin = commands.add_parser("resize")
    begin.add_argument("model", type=Path)
    begin.add_argument("run", type=Path)
    begin.add_argument("--config", type=Path, required=True)
    begin.add_argument("--data", type=Path, nargs="+", required=True)
    deeper = commands.add_parser("deepen")
    deeper.add_argument("model", type=Path)
    deeper.add_argument("run", type=Path)
    deeper.add_argument("--config", type=Path, required=True)
    deeper.add_argument("--pairs", type=Path, nargs=2, metavar=("LOW", "TARGET"), required=True)
    deeper.add_argument("--blocks", type=int, nargs="+", required=True)
    keeping = commands.add_parser("keep")
    keeping.add_argument("run", type=Path)
    keeping.add_argument("model", type=Path)
    keeping.add_argument("state", type=Path)
    going = commands.add_parser("go-on")
    going.add_argument("state", type=Path)
    going.add_argument("model", type=Path)
    going.add_argument("run", type=Path)
    going.add_argument("--config", type=Path, required=True)
    shipping = commands.add_parser("ship")
    shipping.add_argument("run", type=Path)
    shipping.add_argument("out", type=Path)
    shipping.add_argument("--class-distance", type=float, default=1.0)
    shipping.add_argument("--decoder-share", type=float, default=1.0)
    return parser


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = commands_of().parse_args()
    if arguments.command == "pack-features":
        pack_features(arguments.features)
    elif arguments.command == "train":
        train(arguments)
    elif arguments.command == "resize":
        old = build_model(load_checkpoint([arguments.model], VARSR_FAMILY).tensors).float()
        resize(old, arguments.run, read_config(arguments.config), arguments.data)
    elif arguments.command == "deepen":
        tensors = load_checkpoint([arguments.model], VARSR_FAMILY).tensors
        config = read_config(arguments.config)
        deepen(tensors, arguments.run, config, arguments.pairs, arguments.blocks)
    elif arguments.command == "keep":
        keep(arguments.run, arguments.model, arguments.state)
    elif arguments.command == "go-on":
        config = read_config(arguments.config)
        go_on(arguments.state, arguments.model, arguments.run, config)
    else:
        ship(arguments.run, arguments.out, arguments.class_distance, arguments.decoder_share)


if __name__ == "__main__":
    main()
