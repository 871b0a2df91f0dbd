"""From latents to pixels: VARSR's decoder as `tiling/decode.py` sees it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..nn.work import coarse_parts, fine_parts
from ..runtime.work import Calls
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
        model = self.model
        latent = model.post_quantizer(latent.to(model.tokenizer_dtype))
        return model.decoder.coarse(latent, self._windows(*latent.shape[2:]))

    def fine(self, features: Tensor, norm: NormFn) -> Tensor:
        return self.model.to_picture(self.model.decoder.fine(features, norm)).clamp(0, 1)

    def coarse_parts(self, height: int, width: int) -> list[Calls]:
        return coarse_parts(self.model.decoder, height, width, self._windows(height, width))

    def fine_parts(self, height: int, width: int) -> list[Calls]:
        return fine_parts(self.model.decoder, height, width)

    def _windows(self, height: int, width: int) -> list[TileGrid]:
        """Of attention, for each coarse level of a canvas of so many cells, coarsest first."""
        windows = []
        decoder = self.model.decoder
        for scale in (2**i for i in range(len(decoder.up) - decoder.split)):
            side = self.cells * scale
            windows.append(
                TileGrid(height * scale, width * scale, side, overlap=side // WINDOW_OVERLAP)
            )
        return windows
