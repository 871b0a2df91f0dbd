"""Errors that are the user's to mend: each says what was found, what was expected, what to do."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A model file that cannot be used."""


class InputError(ValueError):
    """A picture, a setting or a combination of stages that cannot be worked on."""
