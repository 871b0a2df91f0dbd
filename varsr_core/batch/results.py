"""Whether results can be written where they are to go, and what they would replace there."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from pathlib import Path

from ..errors import InputError
from .disk import Entries, check_place, existing, folded, identities, told_apart
from .jobs import Film, Job, Picture

Jobs = list[Picture | Film]
Refused = list[tuple[Job, InputError]]


def check_results(
    jobs: Sequence[Picture | Film], sources: set[Path], entries: Entries
) -> tuple[Jobs, Refused]:
    """Jobs whose results can be written, and those whose cannot.

    sources: entries of all inputs
    Raises InputError for results of one name and for those over an input or a mask.
    """
    inputs = {one for path in sources for one in identities(path)}
    named = set(sources)
    for mask in {job.mask for job in jobs if job.mask}:
        inputs |= identities(Path(mask))
        named.add(entries.of(Path(mask)))
    alike: dict[str, list[tuple[Path, Job]]] = {}
    fitting: Jobs = []
    refused: Refused = []
    folders: dict[Path, Path] = {}  # that are there, by folders of results
    for job in jobs:
        path = Path(job.output)
        place = entries.of(path)
        if place in named or not inputs.isdisjoint(identities(path)):
            raise InputError(
                f"{job.source} would be written over {place}, an input; choose another output "
                "folder or another --name"
            )
        others = alike.setdefault(folded(str(place)), [])
        for other, before in others:
            if not told_apart(other, place):
                raise InputError(_one_name(before, job))
        others.append((place, job))
        if place.parent not in folders:
            folders[place.parent] = existing(place.parent)
        try:
            check_place(path, folders[place.parent])
        except InputError as error:
            refused.append((job, error))
        else:
            fitting.append(job)
    return fitting, refused


def _one_name(first: Job, second: Job) -> str:
    suffixes = {Path(job.source).suffix.lower() for job in (first, second)}
    by_name = (
        "tell them apart by --name, e.g. '{stem}_{suffix}'"
        if len(suffixes) > 1
        else ("rename one of them")
    )
    return (
        f"{first.source} and {second.source} would both become {second.name}; {by_name}, or give "
        "each folder an output of its own"
    )


def without_foreign(jobs: Jobs, own: Container[str], lost: bool) -> tuple[Jobs, Refused]:
    """Jobs whose place is free or holds an earlier result, and those that would replace what this
    command did not write.

    own:  names of results that runs have written, or were about to
    lost: whether the journal was not there
    """
    free: Jobs = []
    refused: Refused = []
    for job in jobs:
        if job.name in own or not os.path.lexists(job.output):
            free.append(job)
            continue
        why = (
            "the journal of this folder is missing, so results of earlier runs count as well"
            if lost
            else "the journal of this folder does not know it (after one was lost, that goes for "
            "results of earlier runs as well)"
        )
        error = (
            f"{job.output} is in the result's place and would be lost; {why}; move it, choose "
            "another --name or output folder, or replace it by --overwrite"
        )
        refused.append((job, InputError(error)))
    return free, refused
