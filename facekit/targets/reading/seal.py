"""A digest behind a model file's own bytes: for runtimes that a damaged file can take down with the process. And one of
a .bin, in the file that belongs to it.

Flatbuffers are read from their start, so whatever runs the file passes over it. It tells damage, not forgery.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from facekit.base.reading import file_sha256, open_file
from facekit.errors import FacekitError
from facekit.targets.reading.about import KEY

log = logging.getLogger(__name__)

_START = f"\n{KEY}-sha256:".encode()
_LENGTH = len(_START) + hashlib.sha256().digest_size * 2


def sealed(content: bytes) -> bytes:
    """The content, and its seal behind it."""
    return content + _seal(content)


def check_seal(path: Path, limit_bytes: int) -> None:
    """Of a file that facekit wrote; those that don't name facekit at all are passed over.

    Raises FacekitError for one whose bytes are not those that were written, or whose end is missing.
    """
    with open_file(path, limit_bytes, "Check the path.") as file:
        content = file.read()
    if KEY.encode() not in content:
        return
    seal = content[-_LENGTH:]
    if not seal.startswith(_START):
        raise FacekitError(f"{path}: is cut off: the end that `facekit export` writes is missing. Bring it again.")
    if seal != _seal(memoryview(content)[:-_LENGTH]):
        raise FacekitError(f"{path}: is damaged: its bytes are not those that were exported. Bring it again.")


def warn_of_another_bin(binary: Path, digest: str | None, main: Path) -> None:
    """Where the .bin beside `main` is not the one whose digest stands there; None: none does. No refusal, as others'
    tools change a .bin and keep what facekit wrote into the .xml."""
    if digest is not None and file_sha256(binary) != digest:
        log.warning(
            "%s: is not the one that facekit wrote with %s: changed or mixed up since, and its faces may be wrong.",
            binary, main.name,
        )  # fmt: skip


def _seal(content: bytes | memoryview) -> bytes:
    return _START + hashlib.sha256(content).hexdigest().encode()
