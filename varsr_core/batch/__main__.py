"""Restores folders of pictures, and films: python -m varsr_core.batch --help."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from ..errors import CheckpointError, InputError
from .cli import Command, parse
from .ray_pool import RayPool
from .report import BarReport, JSONReport
from .run import one_by_one, run_batch
from .streams import ReaderGone, flush_all, open_all

SOME_FAILED, NOT_DONE, INTERRUPTED, READER_GONE = 1, 2, 130, 141

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code, see help_texts.DESCRIPTION."""
    open_all()
    try:
        try:
            return _code(arguments)
        finally:
            flush_all()
    except ReaderGone:
        return READER_GONE


def _code(arguments: Sequence[str] | None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return _run(parse(sys.argv[1:] if arguments is None else arguments))
    except (CheckpointError, InputError) as error:
        logger.error("%s", error)
        return NOT_DONE
    except KeyboardInterrupt:
        logger.error("Stopped. The same command goes on where it was.")
        return INTERRUPTED


def _run(command: Command) -> int:
    report = (JSONReport if command.as_json else BarReport)(remote=command.ray is not None)
    pool = one_by_one if command.ray is None else RayPool(command.ray, command.workers)
    result = run_batch(
        command.inputs, command.naming, command.options, pool, report, command.overwrite
    )
    return SOME_FAILED if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
