"""Errors that are the user's to mend: each says what was found, what was expected, what to do."""

from __future__ import annotations

# ComfyUI imports the pack under the path of its folder, and tells every client where an error's
# class is from: a name of their own keeps the path of a user's disk out of it.


class CheckpointError(ValueError):
    """A model file that cannot be used."""

    __module__ = "varsr_core.errors"


class InputError(ValueError):
    """A picture, a setting or a combination of stages that cannot be worked on."""

    __module__ = "varsr_core.errors"
