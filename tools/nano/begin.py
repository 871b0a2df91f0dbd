"""Ways in which a run of the embedded model begins, and what is kept of it: see train.py."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tools.nano.deep_start import deep_start, tiles
from tools.nano.teacher import load_teacher
from varsr_core.checkpoint import Checkpoint, fingerprint, load_checkpoint, save_checkpoint
from varsr_core.files.lazy_tensor import StateDict
from varsr_core.training.closed_form.resized_tokenizer import resized_tokenizer
from varsr_core.training.config import TrainingConfig
from varsr_core.training.data.pictures import PictureFolder, batches
from varsr_core.training.run import MODEL_FILE, RESIZED_FILE
from varsr_core.training.starting.new_model import config_from_json, new_model
from varsr_core.varsr.family import VARSR_FAMILY
from varsr_core.varsr.model import VARSR
from varsr_core.varsr.weights import sized_weights

KEPT = (
    "encoder.",
    "decoder.",
    "pre_quantizer.",
    "post_quantizer.",
    "quantizer.",
    "prefix_encoder.",
)
DEEPENING = 768  # tiles from which the layers around the teacher's blocks are found
RESIZING = 384  # crops from which the layers next to a new latent and its codes are found


def resize(old: VARSR, run: Path, config: TrainingConfig, data: list[Path]) -> None:
    """Begins a run: what `old` has learned is kept as far as the new sizes allow."""
    new = new_model(config_from_json(config.sizes), config.seed)
    folder = PictureFolder(data, [], new.config.tile_size, negative_share=0, zoom=config.zoom)
    pictures, _ = next(batches(folder, RESIZING, config.seed))
    generator = torch.Generator().manual_seed(config.seed)
    left = resized_tokenizer(old, new, pictures, generator)
    _begin(run, sized_weights(new))
    print(f"{run / MODEL_FILE}: its tokens leave out {left:.1%} of a latent's energy")


def deepen(
    tensors: StateDict, run: Path, config: TrainingConfig, pairs: list[Path], blocks: list[int]
) -> None:
    """Begins a run with all but the transformer and the refiner, which are new."""
    new = _taking(tensors, config)
    low, target = pairs
    batches = list(tiles(low, target, new.config.tile_size, DEEPENING))
    left = deep_start(new, load_teacher(), blocks, batches)
    _begin(run, sized_weights(new))
    print(f"{run / MODEL_FILE}: its prefix leaves {left:.1%} of the latent's energy")


def keep(run: Path, model: Path, state: Path) -> None:
    """Of tokenizer and prefix encoder what is no longer, or was not, in the model it began with."""
    before = load_checkpoint([model], VARSR_FAMILY).tensors
    after = load_checkpoint([run / MODEL_FILE], VARSR_FAMILY).tensors
    kept = {
        name: tensor.half().contiguous()
        for name, tensor in after.items()
        if name.startswith(KEPT)
        and not (name in before and torch.equal(tensor.float(), before[name].float()))
    }
    save_file(kept, state)
    print(f"{state}: {len(kept)} tensors, {state.stat().st_size / 1e6:.1f} MB")


def go_on(state: Path, model: Path, run: Path, config: TrainingConfig) -> None:
    """Begins a run with a model and what `keep` wrote of another that had begun with it."""
    tensors = {**load_checkpoint([model], VARSR_FAMILY).tensors, **load_file(state)}
    _begin(run, sized_weights(_taking(tensors, config)))


def _taking(tensors: StateDict, config: TrainingConfig) -> VARSR:
    """A new model with the tokenizer and the prefix encoder that are given."""
    new = new_model(config_from_json(config.sizes), config.seed)
    kept = {name: t.float() for name, t in tensors.items() if name.startswith(KEPT)}
    new.load_state_dict(kept, strict=False)
    return new


def _begin(run: Path, tensors: dict[str, Tensor]) -> None:
    """A run whose tokenizer and prefix encoder are not to be solved for."""
    run.mkdir(parents=True)  # one that is there has been begun already
    made = Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})
    save_checkpoint(made, run / MODEL_FILE, torch.float32, metadata={})
    (run / RESIZED_FILE).touch()
