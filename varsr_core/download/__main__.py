"""Fetches the released model, only when asked: python -m varsr_core.download --help."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from ..checkpoint import read_model
from ..errors import CheckpointError
from ..varsr.family import CONVERTED_FILE, FILES, REPOSITORY
from ..varsr.k2n.kind import read_k2n
from .fetching import Source
from .release import download, released_model
from .releases import K2N

logger = logging.getLogger(__name__)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _parser().parse_args()
    try:
        _run(arguments)
    except (CheckpointError, OSError) as error:
        logger.error("%s", error)
        return 1
    except KeyboardInterrupt:
        logger.error("stopped; the same command goes on")
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> None:
    folder, source = arguments.folder, Source(arguments.revision, arguments.endpoint)
    if arguments.convert:
        keep = not arguments.remove_pickles
        with released_model([folder], may_fetch=True, keep_pickles=keep, source=source) as path:
            read_model(path, "varsr")  # what is not as it was written is refused
        logger.info("Done: %s", path)
    else:
        download(folder, source)
        logger.info(
            "One file that loads faster and needs 1.7 GB, not 15: "
            "python -m varsr_core.download %s --convert",
            folder,
        )
    if arguments.k2n:
        _fetch_k2n(arguments)


def _fetch_k2n(arguments: argparse.Namespace) -> None:
    folder, keep = arguments.folder, not (arguments.convert and arguments.remove_pickles)
    source = Source(None, arguments.endpoint)  # the revision is of the other repository
    if not arguments.convert:
        logger.info("Done: %s", *download(folder, source, release=K2N))
        return
    with released_model(
        [folder], may_fetch=True, keep_pickles=keep, source=source, release=K2N
    ) as path:
        read_k2n(path)
    logger.info("Done: %s", path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m varsr_core.download",
        description=f"Fetches {' and '.join(FILES)} (15 GB) of {REPOSITORY}. The same command goes "
        "on where it was stopped.",
    )
    parser.add_argument("folder", type=Path, help="usually ComfyUI/models/varsr")
    parser.add_argument(
        "--convert",
        action="store_true",
        help=f"make one file of them that loads fast, {CONVERTED_FILE} (1.7 GB); where that is, "
        "nothing is fetched",
    )
    parser.add_argument(
        "--remove-pickles",
        action="store_true",
        help="with --convert: remove the files that were fetched once the one made of them has "
        "loaded; not those that were there",
    )
    parser.add_argument(
        "--k2n",
        action="store_true",
        help=f"also {' and '.join(K2N.files)} of {K2N.repository}, which predicts the first "
        f"scales; with --convert {K2N.converted_files[0]} is made of it",
    )
    parser.add_argument("--revision", help="branch, tag or commit; default: the main branch")
    parser.add_argument("--endpoint", help="another server, e.g. a mirror")
    return parser


if __name__ == "__main__":
    sys.exit(main())
