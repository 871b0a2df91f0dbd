"""An NSARM of the released sizes, to tell what its training takes without its 35 GB."""

from __future__ import annotations

from ...errors import InputError
from ...training.config import TrainingConfig
from ..config import NSARMConfig, TransformerConfig, VAEConfig
from ..model import NSARM
from .start import configured_maps

VAE = VAEConfig(widths=(128, 256, 512, 512), encoder_blocks=2, decoder_blocks=3, latent_channels=14)
TRANSFORMER = TransformerConfig(
    width=3584, depth=40, heads=28, mlp_width=14336, text_width=2048, text_heads=16, levels=15
)


def released_sizes(config: TrainingConfig) -> NSARM:
    """A model with the configured map network; its weights are no good. Raises InputError."""
    try:
        return NSARM(NSARMConfig(VAE, configured_maps(config), TRANSFORMER))
    except ValueError as error:
        raise InputError(f"sizes: {error}") from error
