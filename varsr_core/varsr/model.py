"""All networks of a VARSR model in one module, and the two ways through the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from ..nn.autoencoder import Decoder, Encoder
from ..nn.kv_cache import allocate
from ..nn.shells import in_dtype
from ..runtime.defaults import ModelDefaults
from .config import PAPER, VARSRConfig
from .prefix_encoder import PrefixEncoder
from .quantizer import Quantizer
from .refiner import Refiner
from .transformer import AttentionFn, Transformer, attention, run_blocks

RunFn = Callable[[Callable[..., Tensor], Sequence[Tensor], nn.Module, int, Hashable], Tensor]
"""Does work on some tensors; beside them it is told which part of the network that runs, on how
many tokens in all rows, and all else the work depends on."""


def as_written(work: Callable[..., Tensor], inputs: Sequence[Tensor], *_: object) -> Tensor:
    """A RunFn."""
    return work(*inputs)


class VARSR(nn.Module):
    """Tokenizer, prefix encoder, transformer and refiner; class-to-image without prefix encoder.

    dtype:           of the matrix products in prefix encoder, transformer and refiner
    tokenizer_dtype: of the tokenizer's convolutions; not float16
    operations:      where layers come from; ComfyUI passes its own, which cast and offload
    fingerprint:     of the weights; what one model made is refused by another
    defaults:        what it is best run with
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
        defaults: ModelDefaults = PAPER,
    ) -> None:
        super().__init__()
        self.fingerprint, self.defaults = fingerprint, defaults
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
        if not config.transformer.class_to_image:
            sizes = config.transformer
            self.prefix_encoder = PrefixEncoder(
                sizes.prefix_widths, width, sizes.deep_prefix, operations
            )
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
        self.run_part: RunFn = as_written

    def widened(self) -> VARSR | None:
        """The same model in a dtype in which nothing overflows, run plainly; None if it is in one.

        Its weights are this one's, so it runs while they are cast: see `CastWeights`.
        """
        if self.dtype != torch.float16:
            return None
        wider = in_dtype(self, self.tokenizer_dtype)
        # What is compiled or recorded is in float16.
        wider.run_part = as_written
        wider.transformer.run_blocks, wider.transformer.allocate = run_blocks, allocate
        return wider

    def encode_prefix(self, lq: Tensor) -> Tensor:
        """(N, 3, tile, tile) in [0, 1] -> (N, S * S, D), all the transformer knows of a tile."""
        encoder, tokens = self.prefix_encoder, len(lq) * self.config.prefix_tokens
        return self.run_part(encoder, (to_network(lq, self.dtype),), encoder, tokens, None)

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
