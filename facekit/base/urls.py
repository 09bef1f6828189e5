"""Addresses of files: looked at before anything is sent."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from facekit.base.reading import shown
from facekit.errors import ArgumentError


def check_url(url: str) -> None:
    """Raises ValueError, which says what is wrong, for anything but an https address of plain ASCII, with a host."""
    # Whatever is wrong with it, an address with a password must not be shown.
    if not url.startswith("https://"):
        raise ValueError("url must start with https://.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port  # each looks at its part, and raises ValueError
    except ValueError as error:
        raise ValueError(f"url has no host that can be read ({shown(error)}).") from error
    if "@" in parts.netloc:
        raise ValueError("url holds a user or a password, which would be published with the template. Take it out.")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("url must be ASCII without spaces: write others as %XX, a host's name in punycode (xn--...).")
    labels = host.split(".")
    if not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", label) for label in labels) or len(host) > 253:
        raise ValueError(f"url has the host '{shown(host)}', which is no name of a host.")


def is_address(name: str | os.PathLike[str]) -> bool:
    """Whether it is https://..., s3://... or the like, also once pathlib made one slash of the two; C:// is a drive."""
    begin = "(https?|s3|gs|rtsps?|rtmps?|ftps?|sftp|srt|hdfs):/" if isinstance(name, Path) else "[a-z][a-z0-9+.-]+://"
    return re.match(begin, os.fspath(name), re.IGNORECASE) is not None


def path_of(name: str | os.PathLike[str]) -> str:
    """The path that a file:// address stands for; other names as they are.

    Raises ArgumentError for a file of another machine.
    """
    text = os.fspath(name)
    if isinstance(name, Path):
        text = re.sub(r"^file:/(?!/)", "file:///", text)  # pathlib makes one slash of several
    if text[:7].lower() != "file://":
        return text
    host, slash, rest = text[7:].partition("/")
    path = slash + os.fsdecode(unquote_to_bytes(os.fsencode(rest)))
    if host.lower() not in ("", "localhost") or not slash or "\0" in path:
        raise ArgumentError(f"{shown(text, 300)}: expected file:///PATH, of this machine. Check the address.")
    return path
