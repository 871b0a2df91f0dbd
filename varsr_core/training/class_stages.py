"""The stages of a class-to-image model's run, in their order; a restorer's: stage_table.py."""

from __future__ import annotations

from ..errors import InputError
from ..varsr.kinds import num_labels
from .data.loading import TrainingData
from .stage_table import STAGES, Context, Stage
from .stages.class_to_image import ClassToImageLoss


def class_loss(context: Context) -> ClassToImageLoss:
    """Raises InputError where the data would take another row for the null class than the model.

    Pictures whose class is dropped get the row behind all classes, and the data may know fewer
    classes than the model has rows for.
    """
    config = context.config
    loss = ClassToImageLoss(context.model, config.diffusion_weight, blocks=config.blocks)
    labels, told = num_labels(context.model), config.data.num_classes
    if told != labels:
        raise InputError(
            f"data.num_classes is {told}; the model has {labels:,} classes and the null class "
            f'behind them. Write "data": {{"num_classes": {labels}}} in the configuration'
        )
    return loss


CLASS_STAGES = (
    *(stage for stage in STAGES if stage.name == "tokenizer"),
    Stage(name="class_to_image", loss=class_loss, data=TrainingData.classes),
)
