"""What is looked at: files, folders, globs, lists of millions, addresses, standard input, videos, cameras, streams."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from facekit.base.download import fetch
from facekit.base.files import note_inputs, real_path
from facekit.base.reading import open_file, read_bytes
from facekit.base.urls import path_of
from facekit.errors import FacekitError, Loss, masked
from facekit.pictures.headers import MAX_PIXELS
from facekit.pictures.listing import VIDEO_SUFFIXES, Listing, fixed_part, list_pictures
from facekit.pictures.multipage import frames_left_out
from facekit.pictures.read import MAX_PICTURE_BYTES, PICTURE_SUFFIXES, decode_picture, picture_size

STREAM_SUFFIXES = (*VIDEO_SUFFIXES, ".m3u8", ".mpd", ".mjpg", ".mjpeg", ".sdp")
ADDRESS_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "udp", "tcp", "srt", "rtp")
MAX_LIST_BYTES = 1 << 36
MAX_LINE_BYTES = 1 << 16  # of a list
ADDRESS_BYTES = 64 << 20  # of a picture that an address names
ADDRESS_S = 60.0  # until it is there
MOST_LOOKED_AT = 100_000  # of a list's names, before the work
UNKNOWN_BYTES = 12 << 20  # that a picture from elsewhere than a file is taken to have, decoded: 4 megapixels

Kind = Literal["file", "address", "stdin", "video"]


@dataclass(frozen=True)
class Input:
    """A picture, or a video, camera or stream."""

    kind: Kind
    place: str  # what is opened
    below: str  # a relative path, with /, for what is written of it

    @property
    def source(self) -> str:
        """What rows and messages call it: `place` without a password."""
        return masked(self.place) if "://" in self.place else self.place


@dataclass(frozen=True)
class Inputs:
    """What names and a list stand for, in their order. May be gone through several times, but for a list on standard
    input."""

    named: list[Input]
    list_file: Path | None
    total: int | None  # of pictures and videos; None: not known beforehand
    losses: list[Loss] = field(default_factory=list)  # names that stand for nothing
    left_out: list[Loss] = field(default_factory=list)  # of folders and globs: what could be given by name

    def __iter__(self) -> Iterator[Input]:
        return chain(self.named, () if self.list_file is None else _listed(self.list_file))

    @property
    def files(self) -> list[Path]:
        """Those that are known by name and lie on a disk; a list's are not among them."""
        found = [Path(item.place) for item in self.named if item.kind in ("file", "video") and "://" not in item.place]
        return found + ([] if self.list_file is None or str(self.list_file) == "-" else [self.list_file])

    def listed_in(self, folders: Sequence[Path]) -> list[Path]:
        """Files of the list's beginning that lie in one of these folders: what is written there could take their place
        before they are read."""
        if self.list_file is None or str(self.list_file) == "-" or not folders:
            return []
        tops = [real_path(folder) for folder in folders]

        @cache
        def is_below(folder: str) -> bool:
            return any(real_path(Path(folder)).is_relative_to(top) for top in tops)

        places = (item.place for item in islice(_listed(self.list_file), MOST_LOOKED_AT))
        return [Path(place) for place in places if "://" not in place and is_below(place.rpartition("/")[0])]


def find_inputs(names: Sequence[str], list_file: Path | None = None, output: Path | None = None) -> Inputs:
    """Of files, folders with all below, globs, addresses, cameras and `-`; each name's pictures sorted, each once.

    list_file: a path or an address a line; `-` for standard input. Its pictures are neither looked for nor compared.
    output: a folder that may lie in one of these: what is in it is no input.
    Raises FacekitError where there is nothing at all.
    """
    found: list[Input] = []
    losses: list[Loss] = []
    listed: list[tuple[str, Listing]] = []
    passed: list[Loss] = []
    missing: list[Input] = []  # rows will say that they can't be read
    taken: set[Path] = set()
    for given in names:
        name = given
        try:
            name = path_of(given)
            new, listing = _named(name, output)
            if listing is not None:
                losses += listing.losses
                listed.append((name, listing))
        except FacekitError as error:
            why = str(error).removeprefix("`inputs` ").removeprefix(f"{masked(name)}: ")
            losses.append(Loss(masked(name), why))
            if not Path(name).is_dir() and not glob.has_magic(name) and "://" not in name:
                missing.append(Input("file", name, relative_name(name)))
                found.append(missing[-1])
            continue
        for item in new:
            if item.kind == "file" and len(names) > 1:
                place = Path(item.place).resolve()
                if place in taken:
                    continue
                taken.add(place)
            found.append(item)
    total = len(found)
    if listed := [(name, listing) for name, listing in listed if listing.nameable]:
        named = {real_path(Path(item.place)) for item in found if item.kind in ("file", "video")}
        passed = [loss for name, listing in listed for loss in listing.left_out(name, named)]
    if list_file is not None:
        lines = None if str(list_file) == "-" else sum(1 for _ in _listed(list_file))
        if lines == 0 and not found:
            raise FacekitError(f"{list_file}: names no picture; expected a path or an address a line.")
        return Inputs(found, list_file, None if lines is None else total + lines, _other(losses, missing), passed)
    if len(found) == len(missing):
        raise FacekitError("\n".join(map(str, losses)) or "`inputs`: expected pictures or a video, got none.")
    return Inputs(found, None, total, _other(losses, missing), passed)


def _other(losses: list[Loss], missing: list[Input]) -> list[Loss]:
    told = {masked(item.place) for item in missing}
    return [loss for loss in losses if loss.what not in told]


def _named(name: str, output: Path | None) -> tuple[list[Input], Listing | None]:
    """The inputs, and how they were looked for where they were."""
    path = Path(name)
    if glob.has_magic(name) and not path.exists() and path.suffix.lower() in VIDEO_SUFFIXES:
        videos = sorted(glob.glob(name, recursive=True))  # noqa: PTH207
        if not videos:
            raise FacekitError("no video there: the glob fits none.")
        return [Input("video", video, PurePosixPath(video).name) for video in videos], None
    single = input_of(name)
    if single.kind == "video" and path.is_file():
        return [replace(single, below=path.name)], None
    if single.kind != "file":
        return [single], None
    listing = list_pictures([name], output, flag="`inputs`")
    listing.say()
    top = path if path.is_dir() else fixed_part(path) if not path.exists() else None
    found = [
        Input("file", str(picture), picture.name if top is None else _below(picture, top))
        for picture in listing.pictures
    ]
    return found, listing


def _below(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name


def input_of(name: str) -> Input:
    """What a single name stands for, by its looks alone: nothing is opened."""
    name = path_of(name)
    if name == "-":
        return Input("stdin", name, "stdin.jpg")
    if "://" in name:
        return _address(name)
    if re.fullmatch(r"[0-9]{1,3}|/dev/video[0-9]+", name) and not Path(name).is_file():
        return Input("video", name, f"camera_{name.removeprefix('/dev/video')}.mp4")
    kind: Kind = "video" if Path(name).suffix.lower() in VIDEO_SUFFIXES else "file"
    return Input(kind, name, relative_name(name))


def relative_name(path: str) -> str:
    """The path as one below a folder: without a root, a drive and `..`."""
    parts = [part for part in re.split(r"[\\/]", path) if part not in ("", ".", "..") and not part.endswith(":")]
    return "/".join(parts) or "picture"


def _address(name: str) -> Input:
    try:
        parts = urlsplit(name)
        host, path = parts.hostname or "", unquote(parts.path)
    except ValueError as error:
        raise FacekitError(f"{name}: no address that can be read. Check it.") from error
    told = masked(f"{parts.scheme}://{host}{path}").partition("://")[2]  # files' names, too, tell no password
    below = relative_name("/".join(re.sub(r"[^\w.-]", "_", part) for part in told.split("/") if part))
    suffix = PurePosixPath(path).suffix.lower()
    if parts.scheme in ("http", "https") and suffix not in STREAM_SUFFIXES:
        return Input("address", name, below if suffix in PICTURE_SUFFIXES else f"{below}.jpg")
    if parts.scheme not in ADDRESS_SCHEMES:
        raise FacekitError(f"{name}: {parts.scheme}:// is not read. Give a path, http(s)://, or a stream's rtsp://.")
    return Input("video", name, str(PurePosixPath(below).with_suffix(".mp4")))


def _listed(list_file: Path) -> Iterator[Input]:
    """One a line that isn't empty; names of any bytes."""
    if str(list_file) == "-":
        yield from _lines(sys.stdin.buffer, "-")
        return
    note_inputs([list_file])
    with open_file(list_file, MAX_LIST_BYTES, "Give a list of pictures, one a line.") as stream:
        yield from _lines(stream, str(list_file))


def _lines(stream: BinaryIO, where: str) -> Iterator[Input]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES or b"\0" in line:
            raise FacekitError(f"{where}:{number}: expected a path or an address a line, got other bytes.")
        text = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip("\r\n")
        if not text.strip():
            continue
        try:
            item = input_of(text)
        except FacekitError:
            item = Input("file", text, relative_name(text))  # its row will say that it can't be read
        yield item


class PictureReader:
    """Reads pictures: (H, W, 3) BGR uint8, turned as a viewer shows them; raises FacekitError. Several threads may.

    on_white: see decode_picture.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, on_white: bool = False) -> None:
        self._max_pixels, self._on_white = max_pixels, on_white
        self._left_out: dict[str, str] = {}  # of what can't be looked at again

    def __call__(self, item: Input) -> NDArray[np.uint8]:
        if item.kind == "file":
            data = read_bytes(Path(item.place), MAX_PICTURE_BYTES, "Check the path, or leave it out.")
        elif item.kind == "address":
            data, _ = fetch(item.place, ADDRESS_BYTES, ADDRESS_S)
        else:
            data = sys.stdin.buffer.read(MAX_PICTURE_BYTES + 1)
            if len(data) > MAX_PICTURE_BYTES:
                raise FacekitError(f"-: over {MAX_PICTURE_BYTES >> 20} MiB on standard input, which are not read.")
        if item.kind != "file" and (left_out := frames_left_out(data)) is not None:
            self._left_out[item.source] = left_out
        name = item.place if item.kind == "file" else item.source
        return decode_picture(name, data, max_pixels=self._max_pixels, on_white=self._on_white)

    def left_out(self, item: Input) -> str | None:
        """Of one that was read: what frames_left_out() says."""
        return frames_left_out(Path(item.place)) if item.kind == "file" else self._left_out.get(item.source)


def file_state(item: Input) -> tuple[int, int] | None:
    """Bytes and time of change in nanoseconds of a file, by which to know it again; None for what is none."""
    if item.kind not in ("file", "video"):
        return None
    try:
        state = Path(item.place).stat()
    except (OSError, ValueError):
        return None
    return state.st_size, state.st_mtime_ns


def decoded_bytes(item: Input) -> int:
    """About how much memory the picture takes, by its header where it is a file."""
    if item.kind != "file":
        return UNKNOWN_BYTES
    try:
        width, height = picture_size(Path(item.place))
    except FacekitError:  # reading it will say so, in its turn
        return 0
    return 3 * width * height
