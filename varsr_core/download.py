"""Fetches the released weights, only when asked: python -m varsr_core.download --help."""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

from .errors import CheckpointError
from .files.atomic import held
from .files.hashing import sha256
from .files.tensors import check_space
from .varsr.family import FILES, REPOSITORY

logger = logging.getLogger(__name__)

LOCK_FILE = ".download.lock"
PARTIAL_FOLDER = ".download"  # unfinished files wait here, so that none has its final name early


def download(
    folder: Path, *, revision: str | None = None, endpoint: str | None = None
) -> list[Path]:
    """Fetches the released files into `folder`; those that are there already are left alone.

    revision: branch, tag or commit of the repository; None for its main branch
    endpoint: another server with the same interface, e.g. a mirror
    returns   the files
    Raises CheckpointError with what to do by hand, when huggingface_hub is missing or fails, and
    while another process does the same.
    """
    try:
        import huggingface_hub as hub
    except ImportError:
        raise CheckpointError(
            "the package huggingface_hub is not installed; install it, or fetch "
            f"{_by_hand(endpoint, folder)}"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / LOCK_FILE) as is_held:
        if not is_held:
            raise CheckpointError(f"another download into {folder} is under way; wait for it")
        _fetch(hub, folder, revision, endpoint)
    return [folder / name for name in FILES]


def _fetch(hub: ModuleType, folder: Path, revision: str | None, endpoint: str | None) -> None:
    partial = folder / PARTIAL_FOLDER
    for name in FILES:
        if (folder / name).is_file():
            logger.info("%s is there already", folder / name)
            continue
        try:
            url = hub.hf_hub_url(REPOSITORY, name, revision=revision, endpoint=endpoint)
            remote = hub.get_hf_file_metadata(url)
        except Exception as error:  # the library's own, and those of whatever carries its requests
            raise _failed(name, error, endpoint, folder) from error
        check_space(folder / name, remote.size or 0)
        try:
            fetched = hub.hf_hub_download(
                REPOSITORY, name, revision=revision, local_dir=partial, endpoint=endpoint
            )
        except Exception as error:
            raise _failed(name, error, endpoint, folder) from error
        _verify(Path(fetched), remote.etag)
        Path(fetched).replace(folder / name)
    shutil.rmtree(partial, ignore_errors=True)


def _verify(path: Path, etag: str | None) -> None:
    """Large files carry their sha256 as the server's tag; a wrong one is removed."""
    if etag is None or not re.fullmatch("[0-9a-f]{64}", etag):
        logger.warning("the server tells no sha256 of %s; it is not verified", path.name)
        return
    found = sha256(path)
    if found != etag:
        path.unlink()
        raise CheckpointError(
            f"{path.name} was damaged on the way: its sha256 is {found}, {etag} was expected. "
            "It is removed; try again"
        )


def _failed(name: str, error: Exception, endpoint: str | None, folder: Path) -> CheckpointError:
    reason = " ".join(str(error).split())
    return CheckpointError(
        f"{name} could not be fetched ({reason}); try again (it goes on where it stopped), "
        f"or fetch {_by_hand(endpoint, folder)}"
    )


def _by_hand(endpoint: str | None, folder: Path) -> str:
    address = f"{endpoint or 'https://huggingface.co'}/{REPOSITORY}"
    return f"{' and '.join(FILES)} from {address} by hand and put them into {folder}"


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m varsr_core.download",
        description=f"Fetches {' and '.join(FILES)} (15 GB) of {REPOSITORY}.",
    )
    parser.add_argument("folder", type=Path, help="usually ComfyUI/models/varsr")
    parser.add_argument("--revision", help="branch, tag or commit; default: the main branch")
    parser.add_argument("--endpoint", help="another server, e.g. a mirror")
    arguments = parser.parse_args()
    try:
        paths = download(arguments.folder, revision=arguments.revision, endpoint=arguments.endpoint)
    except (CheckpointError, OSError) as error:
        logger.error("%s", error)
        return 1
    logger.info(
        "Done. One file that loads faster and needs 1.7 GB, not 15: "
        "python -m varsr_core.convert %s -o %s",
        " ".join(str(path) for path in paths),
        arguments.folder / "varsr_bf16.safetensors",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
