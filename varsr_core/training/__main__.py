"""Trains or fine-tunes a model: python -m varsr_core.training --help."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from ..errors import CheckpointError, InputError
from ..runtime.threads import use_threads
from .config import TrainingConfig, read_config
from .memory.table import memory_table
from .record.evaluation import Evaluation
from .run import MODEL_FILE, Training
from .starting.sources import Sources

SOURCES = "good pictures: folders, or tar files as shards/{000..127}.tar"


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    deadline = time.monotonic() + 60 * arguments.minutes
    use_threads()
    try:
        config = read_config(arguments.config)
        if arguments.memory:
            files = arguments.start or []
            first = files[0] if files else None
            sources = Sources(first, arguments.base, arguments.texts, tuple(files[1:]))
            told = memory_table(config, arguments.config.stem, sources)
            logging.getLogger(__name__).info("%s", told)
            return 0
        evaluation = Evaluation(*arguments.evaluate) if arguments.evaluate else None
        training = Training(
            _with_tables(config, arguments),
            arguments.out,
            arguments.data,
            arguments.low_quality,
            arguments.start,
            _device(arguments.device),
            paired=tuple(arguments.pairs) if arguments.pairs else None,
            evaluation=evaluation,
            base=arguments.base,
            texts=arguments.texts,
        )
        done = training.run(deadline)
    except (CheckpointError, InputError) as error:
        logging.getLogger(__name__).error("%s", error)
        return 1
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    logging.getLogger(__name__).info(
        "%s: %s",
        "done" if done else "stopped; the same command goes on",
        arguments.out / MODEL_FILE,
    )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m varsr_core.training",
        description="Trains a model on folders of pictures, or goes on where it stopped. Several "
        "GPUs: torchrun --nproc-per-node N -m varsr_core.training ...",
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        help="JSON, see training/config.py; or the name of a recipe in training/recipes: nano",
    )
    parser.add_argument("--data", type=Path, nargs="+", default=[], help=SOURCES)
    parser.add_argument("--low-quality", type=Path, nargs="*", default=[], help="bad ones, alike")
    for name, columns in (("class", "file,class"), ("score", "file,score,set")):
        told = f"CSV or TSV with the header {columns}; goes before {name}_table of the config"
        parser.add_argument(f"--{name}-table", type=Path, help=told)
    parser.add_argument(
        "--pairs",
        type=Path,
        nargs=2,
        metavar=("LOW", "TARGET"),
        help="folders of low-quality pictures and of what they should become, by name; default: "
        "made of the good pictures",
    )
    parser.add_argument(
        "--start",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="checkpoint to fine-tune; or VARSR.pth, VARSR_C2I.pth or a VAR, and its tokenizer, to "
        "take what fits of; default: a new model",
    )
    _add_sources(parser)
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop and save after these")
    parser.add_argument(
        "--evaluate",
        type=Path,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="folders of pictures to restore on the way, and of what they should become, by name: "
        "PSNR-Y, SSIM-Y and NIQE in evaluation.csv; needs a clone of the repository",
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="says what each stage takes on graphics cards of several sizes, and trains nothing",
    )
    arguments = parser.parse_args()
    if not arguments.memory and not (arguments.data and arguments.out):
        parser.error("the following arguments are required: --data, --out")
    return arguments


def _with_tables(config: TrainingConfig, arguments: argparse.Namespace) -> TrainingConfig:
    given = {"class_table": arguments.class_table, "score_table": arguments.score_table}
    changes = {name: str(path) for name, path in given.items() if path is not None}
    return replace(config, data=replace(config.data, **changes))


def _add_sources(parser: argparse.ArgumentParser) -> None:
    """Files of which only some models know."""
    parser.add_argument(
        "--base",
        type=Path,
        help="the VARSR model that K2N is to be trained for; it stays as it is",
    )
    parser.add_argument(
        "--texts",
        type=Path,
        help="features of prompts, for models that read a text: one file, or a folder with a file "
        "of the name of each picture; default: no text",
    )


def _device(name: str | None) -> torch.device:
    """The device of this process; joins the others where torchrun started several."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if distributed.is_available() and distributed.is_torchelastic_launched():
        distributed.init_process_group()
        if name == "cuda":
            index = distributed.get_rank() % torch.cuda.device_count()
            torch.cuda.set_device(index)
            return torch.device("cuda", index)
    return torch.device(name)


if __name__ == "__main__":
    sys.exit(main())
