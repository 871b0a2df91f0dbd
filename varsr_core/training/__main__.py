"""Trains or fine-tunes a model: python -m varsr_core.training --help."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from pathlib import Path

import torch
from torch import distributed

from ..errors import CheckpointError, InputError
from ..runtime.threads import use_threads
from .config import read_config
from .run import MODEL_FILE, Training


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
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
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="good pictures")
    parser.add_argument("--low-quality", type=Path, nargs="*", default=[], help="bad pictures")
    parser.add_argument("--start", type=Path, help="checkpoint to fine-tune; default: a new model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop and save after these")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    use_threads()
    try:
        training = Training(
            read_config(arguments.config),
            arguments.out,
            arguments.data,
            arguments.low_quality,
            arguments.start,
            _device(arguments.device),
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
