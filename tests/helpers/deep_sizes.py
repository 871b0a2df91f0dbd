"""Sizes of a tiny model whose prefix encoder has a deep part."""

from __future__ import annotations

from typing import Any


def deep_sizes(blocks: int, levels: int = 4) -> dict[str, Any]:
    """Each of the levels halves the sides."""
    widths = [16, 24, 32, 40][:levels]
    return {
        "tokenizer": {
            "widths": widths,
            "encoder_blocks": 1,
            "decoder_blocks": 1,
            "attention_levels": [],
            "latent_channels": 4,
            "codebook_size": 16,
            "phi_count": 4,
            "norm_groups": 8,
        },
        "transformer": {
            "width": 32,
            "depth": 1,
            "heads": 2,
            "mlp_width": 64,
            "prefix_widths": widths,
            "num_classes": 2,
            "deep_prefix": blocks,
        },
        "refiner": {"width": 16, "depth": 1, "frequencies": 8},
        "schedule": [1, 2, 4],
    }
