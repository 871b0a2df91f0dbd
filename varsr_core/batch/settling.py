"""What is left to the model, settled before the work: as is best for it, or as a run began."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..family import Checkpoint
from ..runtime.defaults import resolved
from .films.unfinished import UnfinishedFilms
from .jobs import Film, Picture
from .journal import Journal
from .options import Options

logger = logging.getLogger(__name__)


def settled(
    options: Options,
    model: Checkpoint,
    journal: Journal,
    folder: Path,
    jobs: Sequence[Picture | Film],
) -> tuple[Options, str]:
    """Options that leave nothing to the model, and their hash.

    Earlier versions knew no defaults of a model's own. A folder that holds results, or segments of
    films, by the defaults that all models had is gone on with by these, and that is said.
    folder: of the results
    """
    weights = journal.weights(model.fingerprint)
    today, first = (
        resolved(options, defaults) for defaults in (model.defaults, model.family.defaults)
    )
    if first != today:
        earlier = first.settings_hash(weights)
        films = UnfinishedFilms(folder, earlier, first)
        if journal.knows(earlier) or any(films.has(job) for job in jobs if isinstance(job, Film)):
            logger.warning(
                "%s holds results by %s, the defaults of earlier versions: this run goes on with "
                "them. To have today's, give the options or another folder",
                folder,
                _told(first, today),
            )
            return first, earlier
    return today, today.settings_hash(weights)


def _told(first: Options, today: Options) -> str:
    """The values that differ, under the names of the options."""
    pairs = {
        "--guidance": (first.choices.sampling.guidance, today.choices.sampling.guidance),
        "--color-fix": (first.settings.color_fix, today.settings.color_fix),
        "--fidelity": (first.settings.fidelity, today.settings.fidelity),
    }
    return ", ".join(f"{name} {old}" for name, (old, new) in pairs.items() if old != new)
