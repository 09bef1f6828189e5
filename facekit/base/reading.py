"""Files of unknown origin, opened with care: regular files alone, bounded, and called what they are."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from facekit.base.files import note_inputs
from facekit.errors import FacekitError, printable

HEAD_BYTES = 512
ZIP_START = b"PK\x03\x04"  # of weights and arrays, too
TEXT_HEAD_BYTES = 4096

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"%PDF-", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
)


def open_regular(path: Path, limit_bytes: int = sys.maxsize) -> BinaryIO:
    """A regular file, opened for reading; a pipe or a device is never waited for.

    Raises OSError as open() does, and FacekitError for what is over limit_bytes, or no file at all.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(descriptor)
        for is_kind, name in _KINDS:
            if is_kind(found.st_mode):
                raise FacekitError(f"{path}: is {name}, not a file.")
        if found.st_size > limit_bytes:
            raise FacekitError(f"{path}: {found.st_size} bytes, more than the limit of {limit_bytes}.")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_file(path: Path, limit_bytes: int, remedy: str) -> BinaryIO:
    """open_regular, whose every failure is a FacekitError that ends with the remedy."""
    try:
        return open_regular(path, limit_bytes)
    except FacekitError as error:
        raise FacekitError(f"{error} {remedy}") from error
    except FileNotFoundError as error:
        raise FacekitError(f"{path}: there is no such file. {remedy}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise FacekitError(f"{shown(path)}: can't be read ({reason}). {remedy}") from error


def read_bytes(path: Path, limit_bytes: int, remedy: str) -> bytes:
    """All of a regular file. Raises FacekitError as open_file does, also for a file that grows over the limit."""
    with open_file(path, limit_bytes, remedy) as file:
        try:
            data = file.read(limit_bytes + 1)
        except OSError as error:
            raise FacekitError(f"{path}: can't be read ({error.strerror}). {remedy}") from error
    if len(data) > limit_bytes:
        raise FacekitError(f"{path}: more than the limit of {limit_bytes} bytes. {remedy}")
    return data


def open_input(path: Path, limit_bytes: int) -> BinaryIO:
    """open_file, noted as an input (see files.note_inputs): what a command reads and writes anew by design is opened
    otherwise. A file may still grow: read() at most limit_bytes of it, or by lines."""
    note_inputs([path])
    return open_file(path, limit_bytes, "Check the path.")


def read_input(path: Path, limit_bytes: int) -> bytes:
    """read_bytes, noted as open_input does."""
    note_inputs([path])
    return read_bytes(path, limit_bytes, "Check the path.")


def read_text(path: Path, limit_bytes: int, remedy: str) -> str:
    """All of a regular UTF-8 file. Raises FacekitError as read_bytes does, also for another encoding."""
    data = read_bytes(path, limit_bytes, remedy)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        utf_16 = ", it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise FacekitError(f"{path}: not UTF-8 text (byte {error.start}{utf_16}). {remedy}") from error


def file_sha256(path: Path) -> str:
    """In hexadecimal digits. Raises FacekitError for a file that can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FacekitError(f"{path}: can't be read ({error.strerror}). Check the path.") from error


def is_binary(path: Path) -> bool:
    """Whether there is a file whose head is no UTF-8 or holds a zero, as all pictures' and videos' do."""
    try:
        with open_regular(path) as file:
            head = file.read(TEXT_HEAD_BYTES) or b""
    except (OSError, FacekitError):
        return False
    try:  # the last letter may be cut in two
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < TEXT_HEAD_BYTES)
    except UnicodeDecodeError:
        return True
    return b"\0" in head


def stand_in(head: bytes) -> str | None:
    """What stands in the place of the file that was meant, by its first HEAD_BYTES, in words that end a sentence;
    None where nothing is recognised. Text that was saved for a binary file, such as an error page, is."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned"
    if head.startswith((b"/annex/objects/", b"../.git/annex/", b".git/annex/")):
        return "a git-annex pointer, not the file itself: run `git annex get` where it was cloned"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page, not the file itself: the download went wrong; save the file that the page offers"
    if start.startswith((b"<?xml", b"<error")) and b"<error>" in start:
        return "a server's error message, not the file itself: the download went wrong"
    return next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)


def stand_in_of_picture(head: bytes) -> str | None:
    """As stand_in(), for a picture or video, of which none is a zip."""
    return "a zip archive: unpack it first" if head.startswith(ZIP_START) else stand_in(head)


def shown(value: object, most: int = 60) -> str:
    """Text of unknown origin for a message: on one line, and short."""
    text = str(value)
    return printable(text if len(text) <= most else text[: most - 3] + "...")
