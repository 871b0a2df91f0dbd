"""All networks of a VARSR model in one module, and the two ways through the tokenizer."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from ..nn.autoencoder import Decoder, Encoder
from ..nn.linear_preview import LinearPreview
from .config import VARSRConfig
from .prefix_encoder import PrefixEncoder
from .quantizer import Quantizer
from .refiner import Refiner
from .transformer import AttentionFn, Transformer, attention


class VARSR(nn.Module):
    """Tokenizer, prefix encoder, transformer and refiner.

    dtype:           of the matrix products in prefix encoder, transformer and refiner
    tokenizer_dtype: of the tokenizer's convolutions
    operations:      where layers come from; ComfyUI passes its own, which cast and offload
    fingerprint:     of the weights; what one model made is refused by another
    """

    def __init__(
        self,
        config: VARSRConfig,
        *,
        dtype: torch.dtype = torch.float32,
        tokenizer_dtype: torch.dtype = torch.float32,
        attention: AttentionFn = attention,
        operations: ModuleType = nn,
        fingerprint: str = "",
    ) -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.preview: LinearPreview | None = None  # see decoding.py
        tokenizer, width = config.tokenizer, config.transformer.width
        channels = tokenizer.latent_channels
        self.config = config
        self.dtype = dtype
        self.tokenizer_dtype = tokenizer_dtype
        self.encoder = Encoder(tokenizer, operations)
        self.pre_quantizer = operations.Conv2d(channels, channels, 3, padding=1)
        self.quantizer = Quantizer(
            tokenizer.codebook_size, channels, tokenizer.phi_count, config.schedule, operations
        )
        self.post_quantizer = operations.Conv2d(channels, channels, 3, padding=1)
        self.decoder = Decoder(tokenizer, operations)
        self.prefix_encoder = PrefixEncoder(config.transformer.prefix_widths, width, operations)
        self.word_embed = operations.Linear(channels, width)
        self.transformer = Transformer(
            config.transformer,
            tokenizer.codebook_size,
            config.schedule,
            dtype=dtype,
            attention=attention,
            operations=operations,
        )
        self.refiner = Refiner(config.refiner, width, channels, dtype=dtype, operations=operations)

    def encode_prefix(self, lq: Tensor) -> Tensor:
        """(N, 3, tile, tile) in [0, 1] -> (N, S * S, D), all the transformer knows of a tile."""
        return self.prefix_encoder(to_network(lq, self.dtype))

    def encode_latent(self, image: Tensor) -> Tensor:
        """(N, 3, tile, tile) in [0, 1] -> (N, C, S, S) float32, not yet quantized."""
        return self.pre_quantizer(self.encoder(to_network(image, self.tokenizer_dtype))).float()

    def decode(self, latent: Tensor) -> Tensor:
        """(N, C, S, S) -> (N, 3, tile, tile) float32 in [0, 1]."""
        return self.decode_unclamped(latent).clamp(0, 1)

    def decode_unclamped(self, latent: Tensor) -> Tensor:
        """The same without the clamp, through which training could not see."""
        return self.to_picture(self.decoder(self.post_quantizer(latent.to(self.tokenizer_dtype))))

    def to_picture(self, decoded: Tensor) -> Tensor:
        """From the networks' [-1, 1] to [0, 1], float32."""
        return decoded.float().add(1).div(2)

    def embed_words(self, tokens: Tensor) -> Tensor:
        """(..., C) latent or codebook vectors -> (..., D)."""
        return self.word_embed(tokens.to(self.dtype))


def to_network(image: Tensor, dtype: torch.dtype) -> Tensor:
    """From [0, 1] to the networks' [-1, 1]."""
    image = image * 2 - 1
    if dtype == torch.float32:  # in the order of the published numbers, which it then meets
        return image
    return image.to(dtype, memory_format=torch.channels_last)  # fastest for half precision
