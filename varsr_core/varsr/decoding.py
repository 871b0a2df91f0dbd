"""From latents to pixels: VARSR's decoder as `tiled_decode.py` sees it, and a preview of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..nn.linear_preview import LinearPreview, fit_preview
from ..tiling.grid import TileGrid
from ..tiling.group_norm import NormFn
from .model import VARSR

WINDOW_OVERLAP = 4  # a window of attention overlaps the next by its side divided by this


@dataclass(frozen=True)
class VARSRDecoder:
    model: VARSR

    @property
    def cells(self) -> int:
        return self.model.config.schedule.final_side

    @property
    def features(self) -> int:
        return self.model.decoder.cells_per_feature

    @property
    def pixels(self) -> int:
        return self.model.config.tokenizer.downsampling

    @property
    def context(self) -> int:
        return self.model.decoder.context

    def decode(self, latent: Tensor) -> Tensor:
        return self.model.decode(latent)

    def coarse(self, latent: Tensor) -> Tensor:
        """Attention sees as much at once as it does in a tile."""
        model, (height, width) = self.model, latent.shape[2:]
        windows = []
        for scale in (2**i for i in range(len(model.decoder.up) - model.decoder.split)):
            side = self.cells * scale
            windows.append(
                TileGrid(height * scale, width * scale, side, overlap=side // WINDOW_OVERLAP)
            )
        return model.decoder.coarse(model.post_quantizer(latent.to(model.tokenizer_dtype)), windows)

    def fine(self, features: Tensor, norm: NormFn) -> Tensor:
        return self.model.to_picture(self.model.decoder.fine(features, norm)).clamp(0, 1)


def linear_preview(model: VARSR) -> LinearPreview:
    """Fitted when it is first wanted; the model must be on its device by then."""
    if model.preview is None:
        device = next(model.quantizer.parameters()).device
        model.preview = fit_preview(model.encode_latent, device)
    return model.preview
