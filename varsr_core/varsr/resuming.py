"""Checks of a run that stops early, or goes on from the first scales of other tokens."""

from __future__ import annotations

from ..errors import InputError
from ..tiling.stages import check_made_by
from .model import VARSR
from .results import TokenPyramid


def check_model(model: VARSR, fingerprint: str, name: str) -> None:
    """Refuses what another model made: its numbers would mean nothing to this one."""
    check_made_by(fingerprint, name, model.fingerprint, "Load VARSR Model")


def check_scales(model: VARSR, first: int, stop: int) -> int:
    """Refuses scales that are not there; returns how many maps the result has.

    first: how many are kept; stop: how many there are to be, 0 for all
    """
    total = model.config.schedule.num_scales
    stop = stop or total
    if not 0 < stop <= total:
        raise InputError(f"stop_scale {stop} is beyond the {total} scales of this model")
    if not 0 <= first < stop:
        raise InputError(
            f"first_scale {first} leaves nothing to sample; this run ends after {stop} of the "
            f"{total} scales, so at most {stop - 1} can be kept"
        )
    return stop


def check_kept(model: VARSR, tokens: TokenPyramid | None, first: int, sampler: str) -> TokenPyramid:
    """Tokens of which `first` scales are kept. sampler: the node for an earlier run"""
    if tokens is None:
        raise InputError(
            f"first_scale {first} keeps {first} scales of tokens, but tokens is not connected; "
            f"connect VARSR Encode Image to Tokens or an earlier {sampler}"
        )
    check_model(model, tokens.fingerprint, "tokens")
    if tokens.num_scales < first:
        raise InputError(
            f"first_scale {first} keeps {first} scales, but tokens stop after {tokens.num_scales}"
        )
    return tokens
