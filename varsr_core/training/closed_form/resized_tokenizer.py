"""A tokenizer of other sizes out of a trained one: fewer channels, other codes, the same networks.

How many channels a latent has, and how many codes there are, decides what tokens can say. Whoever
wants to change that need not train anew: the latent's principal components are kept, the layers
next to it are fitted to them by least squares, and codes are found by Lloyd's algorithm on what the
quantizer is given, scale after scale. A few hundred steps then settle it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.autoencoder import activate
from ...nn.least_squares import LeastSquares
from ...varsr.model import VARSR, to_network
from ...varsr.quantizer import Quantizer
from ..stages.prefix import estimate_channels
from ..stages.tokenizer import assign
from .layers import bias_of, pass_through

LLOYD_STEPS = 8
AT_ONCE = 16  # pictures that networks see together


@torch.no_grad()
def resized_tokenizer(
    old: VARSR, new: VARSR, pictures: Tensor, generator: torch.Generator
) -> float:
    """Sets the tokenizer of `new`, whose networks have the sizes of `old`'s but for the latent, and
    its prefix encoder, where that has the same sizes too.

    pictures:  (N, 3, tile, tile) in [0, 1], some hundred, of the kind it is for
    generator: draws the first codes
    returns    the share of the latent's energy that the new tokens leave out
    """
    _copy_networks(old, new)
    parts = pictures.split(AT_ONCE)
    latent = torch.cat([old.encode_latent(part) for part in parts])
    basis = principal_basis(latent, new.config.tokenizer.latent_channels)
    for layer in (new.pre_quantizer, new.post_quantizer):
        pass_through(layer, basis.shape[1])
    features = [_before_last(old, part) for part in parts]
    kept = torch.einsum("nchw,cd->ndhw", latent, basis)
    _fit(new.encoder.conv_out, features, kept.split(AT_ONCE))
    wanted = [old.decoder.conv_in(old.post_quantizer(part)) for part in latent.split(AT_ONCE)]
    _fit(new.decoder.conv_in, kept.split(AT_ONCE), wanted)
    for ours, theirs in zip(new.quantizer.phi, old.quantizer.phi, strict=True):
        ours.weight.copy_(torch.einsum("ac,abyx,bd->cdyx", basis, theirs.weight, basis))
        bias_of(ours).copy_(basis.T @ bias_of(theirs))
    ours, theirs = new.config.transformer, old.config.transformer
    if ours.prefix_widths == theirs.prefix_widths and theirs.deep_prefix in (0, ours.deep_prefix):
        _turn_prefix(old, new, basis)
    return find_codes(new.quantizer, kept, generator)


def principal_basis(latent: Tensor, channels: int) -> Tensor:
    """(C, channels) orthonormal: the directions in which a latent (N, C, S, S) is largest."""
    rows = latent.movedim(1, -1).flatten(0, 2).double()
    _, directions = torch.linalg.eigh(rows.T @ rows)
    return directions.flip(1)[:, :channels].float()


@torch.no_grad()
def find_codes(quantizer: Quantizer, latent: Tensor, generator: torch.Generator) -> float:
    """Lloyd's algorithm on the tokens of all scales; each step quantizes with the codes so far.

    latent:  (N, C, S, S) float32, of more tokens than there are codes
    returns  the share of the latent's energy that the tokens leave out
    """
    codes = quantizer.codebook.weight
    tokens = quantizer.downsample(latent, -1).flatten(0, 1)
    codes.copy_(tokens[_drawn(len(tokens), len(codes), generator)])
    # Later scales are given rests, which are smaller than latents.
    codes.mul_(torch.rand(len(codes), 1, generator=generator))
    for _ in range(LLOYD_STEPS):
        ids, tokens, _ = _assign(quantizer, latent)
        counts = ids.bincount(minlength=len(codes))
        sums = torch.zeros_like(codes).index_add_(0, ids, tokens)
        codes.copy_(sums / counts.clamp(min=1)[:, None])
        unused = (counts == 0).nonzero().flatten()
        codes[unused] = tokens[_drawn(len(tokens), len(unused), generator)]
    _, _, rest = _assign(quantizer, latent)
    return (rest.square().mean() / latent.square().mean()).item()


def _assign(quantizer: Quantizer, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As assign(), a few pictures at a time: distances to all codes are many numbers."""
    parts = [assign(quantizer, part) for part in latent.split(AT_ONCE)]
    ids, tokens, rests = (torch.cat(kind) for kind in zip(*parts, strict=True))
    return ids, tokens, rests


def _drawn(among: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(among, (count,), generator=generator)


def _copy_networks(old: VARSR, new: VARSR) -> None:
    """Encoder and decoder but for the layers that touch the latent."""
    for theirs, ours in ((old.encoder, new.encoder), (old.decoder, new.decoder)):
        _copy_fitting(theirs, ours)


def _copy_fitting(theirs: nn.Module, ours: nn.Module) -> None:
    """All tensors whose names and shapes agree."""
    known = ours.state_dict()
    fitting = {k: v for k, v in theirs.state_dict().items() if known[k].shape == v.shape}
    ours.load_state_dict(fitting, strict=False)


def _turn_prefix(old: VARSR, new: VARSR, basis: Tensor) -> None:
    """The same prefix encoder; its estimate is of the new latent."""
    theirs, ours = old.prefix_encoder, new.prefix_encoder
    _copy_fitting(theirs, ours)
    before, after = estimate_channels(old.config), estimate_channels(new.config)
    layers = [(theirs.conv_out, ours.conv_out)]
    if theirs.deep is not None and ours.deep is not None:
        layers.append((theirs.deep.conv_out, ours.deep.conv_out))
    for old_layer, new_layer in layers:
        for name in ("weight", "bias"):
            rows = getattr(old_layer, name)[before]
            getattr(new_layer, name)[after] = torch.einsum("cd,c...->d...", basis, rows)


def _before_last(model: VARSR, pictures: Tensor) -> Tensor:
    """What the encoder's last convolution is given."""
    encoder = model.encoder
    x = encoder.conv_in(to_network(pictures, model.tokenizer_dtype))
    for level in encoder.down:
        x = level.shrink(level(x))
    return activate(encoder.norm_out(encoder.middle(x)))


def _fit(layer: nn.Conv2d, inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """The 3x3 convolution that comes closest from maps to maps, batch by batch."""
    squares = LeastSquares(layer.weight[0].numel(), layer.out_channels)
    for x, wanted in zip(inputs, targets, strict=True):
        rows = F.unfold(x.float(), 3, padding=1).transpose(1, 2).flatten(0, 1)
        squares.add(rows, wanted.movedim(1, -1).flatten(0, 2))
    weight, bias = squares.solve()
    layer.weight.copy_(weight.reshape(layer.weight.shape))
    bias_of(layer).copy_(bias)
