"""One descriptor says all that the rest of the pack must know of a model family."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from .errors import CheckpointError, InputError
from .files.fingerprint import Fingerprint, fingerprint, sampled
from .files.lazy_tensor import LazyTensor, StateDict
from .files.soundness import Contents, check_finite, check_plain, contents_of, is_rounded
from .files.tensors import read_tensors
from .images.color_fix import check_mode
from .images.fidelity import check_fidelity
from .nn.float8 import FLOAT8
from .runtime.defaults import ModelDefaults
from .runtime.dtypes import NEAREST
from .tiling.restorer import Restorer

# What work on tensors of impossible shapes and dtypes ends in, where no check names the fault.
BROKEN = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

FORMAT_VERSION = "1"  # of our files; raised when an older pack could not read them

# In the metadata of a choice's field: it says where something lies, and another what that is.
PLACE = "place"
CUSTOM = "custom"  # the preset that sets nothing
Preset = Mapping[str, float | str]
"""Values of settings, by the names that nodes and the command give them."""


def as_they_are(weights: StateDict, dtype: torch.dtype) -> StateDict:
    """`pack` of a family whose files hold no fp8."""
    if dtype == FLOAT8:
        raise CheckpointError("fp8 is offered for larger models only; choose another dtype")
    return weights


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """Files of one kind of network, and how they become one.

    name:      as written in the metadata of our files
    title:     as people know it

    Files:
    files:     all files of a model, given the one that the user named
    complete:  the part that is a whole converted model; other parts are pieces of a release
    split:     the parts found in a group of named tensors, by the family's own names for them;
               empty when the group is another family's
    assemble:  parts -> our names; raises CheckpointError when one is missing
    fix_dtype: dtype of a tensor of ours in a file of a given dtype
    pack:      our names -> what a file of a given dtype holds; raises CheckpointError for a dtype
               that is not offered
    prepare:   for kinds whose files may hold only their first scales: a checkpoint, the file it
               came from and how many scales (None for the usual number) -> what is converted

    Running:
    build:     a network from our names; takes dtype, wide_dtype (in which what float16 cannot hold
               is computed), attention, operations, fingerprint, defaults
    dtypes:    what `auto` tries in turn, until one is fast on the device; the first is that of
               converted files
    defaults:  of its models whose files say none

    Training:
    training:  names of models that a run may train -> imports its TrainedKind (see
               training/trained_kind.py), which lies above everything else, when a run asks for it
    """

    name: str
    title: str
    files: Callable[[Path], list[Path]]
    complete: str
    split: Callable[[StateDict], dict[str, StateDict]]
    assemble: Callable[[Mapping[str, StateDict]], StateDict]
    fix_dtype: Callable[[str, Tensor | LazyTensor, torch.dtype], torch.dtype]
    build: Callable[..., nn.Module]
    defaults: ModelDefaults
    pack: Callable[[StateDict, torch.dtype], StateDict] = as_they_are
    dtypes: Sequence[torch.dtype] = NEAREST
    prepare: Callable[[Checkpoint, Path, int | None], Checkpoint] | None = None
    training: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

    @property
    def loader(self) -> str:
        """The node for its files."""
        return f"Load {self.title} Model"


def any_choice(weights: StateDict, choices: Any) -> None:
    """`check` of a family whose choices suit every model."""


@dataclass(frozen=True, kw_only=True)
class Family(ModelKind):
    """One model family: networks that restore pictures.

    Running:
    default:   of the model that comes with the pack, or None
    restorer:  a network and choices (None for the defaults) -> what `upscale()` takes
    presets:   from keeping close to the input to inventing most

    The command:
    add_to:    adds the options of the family
    choices:   the user's values of these options, checked, as one frozen dataclass
    check:     raises InputError where choices do not suit the model of these weights
    """

    default: Path | None
    restorer: Callable[[Any, Any], Restorer[Any]]
    add_to: Callable[[ArgumentParser], None]
    choices: Callable[[Namespace], Any]
    presets: Mapping[str, Preset] = field(default_factory=dict)
    check: Callable[[StateDict, Any], None] = any_choice


Kind = TypeVar("Kind", bound=ModelKind)


@dataclass(frozen=True)
class Checkpoint(Generic[Kind]):
    """A whole model under our names, in the dtype of its file.

    fingerprint: of the weights before any cast, so a model and its conversions count as one
    metadata:    of the file it came from, or empty
    files:       names of the files it came from, for people
    """

    family: Kind
    tensors: StateDict
    fingerprint: Fingerprint
    metadata: Mapping[str, str]
    files: str = ""

    @property
    def defaults(self) -> ModelDefaults:
        """What the model is best run with. Raises CheckpointError where the file says nonsense."""
        found = self.family.defaults.of_file(self.metadata)
        try:
            check_mode(found.color_fix)
            check_fidelity(found.fidelity)
        except InputError as error:
            raise CheckpointError(f"the defaults in its metadata: {error}") from error
        return found

    def build(self, **options: Any) -> nn.Module:
        """The network; options as the family's `build` takes them, e.g. dtype, operations."""
        try:
            return self.family.build(
                self.tensors, fingerprint=self.fingerprint, defaults=self.defaults, **options
            )
        except CheckpointError as error:
            raise CheckpointError(f"{self.files}: {error}" if self.files else str(error)) from error


def look_into(
    path: Path, kinds: Iterable[Kind]
) -> tuple[Kind | None, dict[str, StateDict], dict[str, str], list[str]]:
    """The first kind that knows a file, the parts it finds there, the file's metadata, and the
    names of all tensors. Raises CheckpointError for what cannot be read."""
    groups, metadata = read_tensors(path)
    version = metadata.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path.name} has format version {version}, this pack reads {FORMAT_VERSION}; "
            "update the pack, or convert the released files again"
        )
    for kind in kinds:
        parts: dict[str, StateDict] = {}
        for group in groups:
            for part, tensors in kind.split(group).items():
                parts.setdefault(part, tensors)
        if parts:
            try:
                for tensors in parts.values():
                    check_plain(tensors)
            except CheckpointError as error:
                raise CheckpointError(f"{path.name}: {error}") from None
            return kind, parts, metadata, []
    return None, {}, metadata, [name for group in groups for name in group]


def unknown(path: Path, kinds: Iterable[ModelKind], names: Sequence[str]) -> CheckpointError:
    """For a file that none of these kinds knows; names: of its tensors"""
    titles = " or ".join(kind.title for kind in kinds)
    return CheckpointError(
        f"{path.name} is no checkpoint of {titles}: none of "
        f"its {len(names)} tensors tells a known model"
        + (f" (the first is {names[0]!r})" if names else "")
    )


def assembled(
    kind: Kind, parts: Mapping[str, StateDict], metadata: Mapping[str, str], names: str
) -> Checkpoint[Kind]:
    """A whole model of what `split` found; names: of its files. Raises CheckpointError."""
    try:
        tensors = kind.assemble(parts)
        check_finite(tensors, "the file was damaged, or training failed. Download or convert again")
    except CheckpointError as error:
        raise CheckpointError(f"{names}: {error}") from error
    except BROKEN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{names}: its tensors do not make up a {kind.title} model ({reason}); download or "
            "convert the files again"
        ) from error
    return Checkpoint(kind, tensors, _identity(tensors, metadata), metadata, names)


def _identity(tensors: StateDict, metadata: Mapping[str, str]) -> Fingerprint:
    """The fingerprint that the metadata tells, unless the tensors show that it is another's."""
    told = metadata.get("fingerprint")
    if told and Contents.KEY in metadata:  # both were checked when the file was read
        return Fingerprint(told, sampled(tensors), metadata[Contents.KEY])
    found = fingerprint(tensors)
    if told in (None, found) or not is_rounded(tensors):
        return found
    # Of weights that were cast, what they were before is not to be found any more.
    return Fingerprint(told, found.samples, contents_of(tensors, metadata), checked=False)


def count_numbered(weights: StateDict, pattern: str) -> int:
    """How many consecutive numbers, from 0, make `pattern` the name of a tensor."""
    count = 0
    while pattern.format(count) in weights:
        count += 1
    if count == 0:
        raise KeyError(pattern.format(0))
    return count
