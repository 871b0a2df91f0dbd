"""Files of a repository on Hugging Face: the only module of the pack that asks a network.

huggingface_hub knows the server, the proxy and the token, and whether the user wants none of it.
The bytes are read here: what it reads itself, it begins anew after an interruption.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..files.hashing import HASH_CHUNK
from ..runtime.background import BackgroundError, in_background

TIMEOUT_S = 10  # of a server that says nothing
TRIES = 5  # in a row, none of which brings a byte
PAUSE_S = 1.0  # between them
PIECE = 2**16  # bytes read at once, where that has to be said
SHA256 = re.compile("[0-9a-f]{64}")
NOT_TO_BE_TRIED_AGAIN = {*range(400, 500)} - {408, 429}  # answers of a server
LONGEST_REASON = 300  # characters

Wait = Callable[[], None]


class FetchError(Exception):
    """Why a file did not come, and what helps: the beginning of a sentence."""

    def __init__(
        self, reason: str, remedy: str = "try again (it goes on where it stopped)"
    ) -> None:
        super().__init__(f"{reason}; {remedy}")


@dataclass(frozen=True)
class RemoteFile:
    """size: in bytes; sha256: as the server tells it, or empty"""

    name: str
    url: str
    size: int
    sha256: str


class Repository:
    """Raises FetchError where huggingface_hub is missing or has been told to stay offline.

    name:     owner and name
    revision: branch, tag or commit; None for the main branch
    endpoint: a server with the same interface; None for that of HF_ENDPOINT, or Hugging Face
    """

    def __init__(self, name: str, revision: str | None = None, endpoint: str | None = None) -> None:
        try:
            import huggingface_hub
            from huggingface_hub import constants, utils
        except ImportError:
            raise FetchError("the package huggingface_hub is not installed", "install it") from None
        if constants.HF_HUB_OFFLINE:
            raise FetchError(
                "nothing is fetched while HF_HUB_OFFLINE is set", "unset it and start again"
            )
        self.name, self.revision, self.endpoint = name, revision, endpoint
        self.hub, self.utils = huggingface_hub, utils
        self.address = f"{endpoint or constants.ENDPOINT}/{name}"

    def look_up(self, name: str, on_wait: Wait) -> RemoteFile:
        """Size and hash of a file. Raises FetchError, and whatever on_wait raises."""
        url = self.hub.hf_hub_url(self.name, name, revision=self.revision, endpoint=self.endpoint)
        try:
            (found,) = in_background(
                lambda: [self.hub.get_hf_file_metadata(url, timeout=TIMEOUT_S)], on_wait
            )
        except BackgroundError as error:
            raise FetchError(f"{name} could not be fetched ({_reason(error)})") from error
        if not found.size:
            raise FetchError(f"{name} could not be fetched (the server does not tell its size)")
        tag = found.etag or ""
        return RemoteFile(name, url, found.size, tag if SHA256.fullmatch(tag) else "")

    def fetch(self, file: RemoteFile, part: Path, on_bytes: Callable[[int], None]) -> str:
        """Fetches a file into `part`, going on where that ends, and returns its sha256.

        on_bytes: called with the bytes that are there, several times a second and while nothing
                  comes, too; what it raises ends the call, and the next goes on from there
        Raises FetchError.
        """
        digest, there = hashlib.sha256(), 0
        try:
            with part.open("a+b") as out:
                if out.tell() > file.size:
                    out.truncate(0)
                out.seek(0)
                while known := out.read(HASH_CHUNK):
                    digest.update(known)
                    there += len(known)
                    on_bytes(there)
                with closing(self._rest(file, there, lambda: on_bytes(there))) as rest:
                    for piece in rest:
                        out.write(piece)
                        digest.update(piece)
                        there += len(piece)
        except OSError as error:
            raise FetchError(
                f"{part} could not be written ({error.strerror or error})",
                "make room there and try again (it goes on where it stopped)",
            ) from error
        on_bytes(there)
        return digest.hexdigest()

    def _rest(self, file: RemoteFile, there: int, on_wait: Wait) -> Generator[bytes, None, None]:
        """All that follows the first bytes, in as many tries as it takes."""
        tries = 0
        while there < file.size:
            tries, failure = tries + 1, None
            read = partial(self._read, file, there)
            try:
                with closing(in_background(read, on_wait)) as pieces:
                    for piece in pieces:
                        there += len(piece)
                        if there > file.size:
                            raise FetchError(
                                f"{file.name} has more than the {file.size:,} bytes that the "
                                "server told of"
                            )
                        tries = 0 if piece else tries
                        yield piece
            except BackgroundError as error:
                failure = error
            if there < file.size:
                if tries >= TRIES or _status(failure) in NOT_TO_BE_TRIED_AGAIN:
                    raise FetchError(
                        f"{file.name} could not be fetched ({_reason(failure)})"
                    ) from failure
                _pause(on_wait)

    def _read(self, file: RemoteFile, there: int) -> Iterator[bytes]:
        """What one connection brings of a file from a byte on."""
        headers = self.utils.build_hf_headers()
        headers |= {"Accept-Encoding": "identity", "Range": f"bytes={there}-"}
        session = self.utils.get_session()
        wanted: dict[str, Any] = {"headers": headers, "timeout": TIMEOUT_S}
        if callable(getattr(session, "stream", None)):  # httpx, since huggingface_hub 1.0
            with session.stream("GET", file.url, follow_redirects=True, **wanted) as answer:
                self.utils.hf_raise_for_status(answer)
                yield from _from(there, answer, answer.iter_raw())
        else:
            with session.get(file.url, stream=True, **wanted) as answer:
                self.utils.hf_raise_for_status(answer)
                yield from _from(there, answer, answer.iter_content(PIECE))


def _from(there: int, answer: Any, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Bytes of an answer from `there` on; a server that knows no ranges sends those before, too."""
    sent = answer.headers.get("Content-Range", "")
    if answer.status_code == 206 and not sent.startswith(f"bytes {there}-"):
        raise ConnectionError(f"the server sent {sent!r} when asked for what follows {there}")
    before = 0 if answer.status_code == 206 else there
    for piece in pieces:
        yield piece[before:]
        before = max(before - len(piece), 0)


def _pause(on_wait: Wait) -> None:
    until = time.monotonic() + PAUSE_S
    while time.monotonic() < until:
        on_wait()
        time.sleep(0.1)


def _status(error: BackgroundError | None) -> int | None:
    """The server's answer, if an answer is the error."""
    return getattr(getattr(error and error.error, "response", None), "status_code", None)


def _reason(error: BackgroundError | None) -> str:
    """One line, without what only the server's operators understand."""
    if error is None:
        return "the server broke off"
    said = re.sub(r"\(Request ID:[^)]*\)", "", str(error.error))
    line = ", ".join(part.strip(" .") for part in said.splitlines() if part.strip(" ."))
    return line[:LONGEST_REASON] or type(error.error).__name__
