"""How VARSR itself is trained, and its class-to-image model: anew or from what files hold."""

from __future__ import annotations

import logging
from dataclasses import replace

from ...family import Checkpoint
from ...files.fingerprint import fingerprint
from ...training.class_stages import CLASS_STAGES
from ...training.closed_form import closed_form_starts
from ...training.config import TrainingConfig
from ...training.stage_table import STAGES
from ...training.starting.modulation import described, folded_weights, save_layers
from ...training.starting.sources import Sources
from ...training.starting.starts import fresh_model, resumed_model, started_model
from ...training.steps.processes import leads
from ...training.trained_kind import TrainedKind
from ..family import VARSR_FAMILY
from ..model import VARSR

logger = logging.getLogger(__name__)


def started(config: TrainingConfig, sources: Sources) -> VARSR:
    """A new model of the configured sizes, the run's own, or one that takes what files hold."""
    model = _model(config, sources)
    logger.info("modulation: %s", described(model))
    return model


def _model(config: TrainingConfig, sources: Sources) -> VARSR:
    if sources.start is None:
        return fresh_model(config)
    if sources.resumed:
        return resumed_model(config, sources.start)
    model, listing = started_model(config, [sources.start, *sources.further])
    if leads():
        listing.log()
        if sources.folder is not None:
            listing.write(sources.folder)
    return model


def checkpoint(model: VARSR) -> Checkpoint:
    tensors = folded_weights(model)
    return Checkpoint(VARSR_FAMILY, tensors, fingerprint(tensors), {})


TRAINED = TrainedKind(
    stages=STAGES,
    model=started,
    tile_size=lambda model: model.config.tile_size,
    checkpoint=checkpoint,
    starts=lambda model: closed_form_starts(model.config),
    beside=save_layers,
    takes=frozenset({"further"}),
)
CLASSES_TRAINED = replace(TRAINED, stages=CLASS_STAGES)
