"""A shard's pictures, decoded while the network works on those before; bytes that wait are bounded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from facekit.cluster import archives, tables
from facekit.cluster.shards import Shard
from facekit.cluster.stores import Entry, is_store, read_bytes
from facekit.cluster.trials import Trial
from facekit.errors import FacekitError
from facekit.pictures.headers import read_header
from facekit.pictures.inputs import Input, PictureReader, decoded_bytes, input_of
from facekit.pictures.multipage import frames_left_out
from facekit.pictures.read import HEAD_BYTES, MAX_PICTURE_BYTES, decode_picture
from facekit.pictures.read_ahead import ahead

FETCHERS = 8  # threads: a store answers after tens of milliseconds
DECODERS = 2
UNKNOWN_BYTES = 1 << 20  # of a file in a store whose size nobody told

# Name, picture or why it can't be had, and what of its file is left out (see frames_left_out).
Found = tuple[str, NDArray[np.uint8] | FacekitError, str | None]
_Raw = tuple[str, bytes | Input | FacekitError]


def pictures_of(shard: Shard, max_pixels: int, trial: Trial) -> Generator[Found, None, None]:
    """Name and picture, (H, W, 3) BGR uint8, in order; in the place of one that can't be had, the reason; and what of
    its file is left out.

    In a careful trial each is read when it is asked for, and noted before; suspects of the trial are left out.
    """
    read_input = PictureReader(max_pixels)

    def decode(raw: _Raw) -> NDArray[np.uint8]:
        name, content = raw
        if isinstance(content, FacekitError):
            raise content
        if isinstance(content, Input):
            return read_input(content)
        return decode_picture(name, content, max_pixels=max_pixels)

    raws = _raws(shard)
    if trial.is_careful:
        with closing(raws):
            yield from _one_by_one(raws, decode, trial, read_input)
        return
    decoded = ahead(raws, decode, _decoded_bytes, DECODERS)
    with closing(raws), closing(decoded):
        for raw, image_bgr in decoded:
            yield raw[0], image_bgr, _left_out(raw, read_input)


def _left_out(raw: _Raw, read_input: PictureReader) -> str | None:
    content = raw[1]
    if isinstance(content, Input):
        return read_input.left_out(content)
    return frames_left_out(content) if isinstance(content, bytes) else None


def _one_by_one(
    raws: Iterator[_Raw], decode: Callable[[_Raw], NDArray[np.uint8]], trial: Trial, read_input: PictureReader
) -> Generator[Found, None, None]:
    for number, raw in enumerate(raws):
        what = f"{number} {raw[0]}"  # names may come twice
        if what in trial.suspects:
            yield (
                raw[0],
                FacekitError("Processes ended while they looked at this picture, again and again: left out."),
                None,
            )
            continue
        trial.note(what)
        try:
            yield raw[0], decode(raw), _left_out(raw, read_input)
        except FacekitError as error:
            yield raw[0], error, None


def _raws(shard: Shard) -> Generator[_Raw, None, None]:
    if shard.kind == "tar":
        yield from archives.pictures_in(shard.entries[0])
    elif shard.kind == "parquet":
        assert shard.row_groups is not None
        yield from tables.pictures_in(shard.entries[0], shard.row_groups)
    elif any(is_store(entry.name) for entry in shard.entries):
        fetched = ahead(shard.entries, _fetch, lambda entry: entry.size or UNKNOWN_BYTES, FETCHERS)
        with closing(fetched):
            for entry, content in fetched:
                yield entry.name, content
    else:
        for entry in shard.entries:
            yield _local(entry)


def _local(entry: Entry) -> _Raw:
    item = input_of(entry.name)
    return item.source, item


def _fetch(entry: Entry) -> bytes | Input:
    return read_bytes(entry, MAX_PICTURE_BYTES) if is_store(entry.name) else _local(entry)[1]  # type: ignore[return-value]


def _decoded_bytes(raw: _Raw) -> int:
    """As the picture's header says, before it is decoded."""
    _, content = raw
    if isinstance(content, FacekitError):
        return 0
    if isinstance(content, Input):
        return decoded_bytes(content)
    header = read_header(content[:HEAD_BYTES])
    return 3 * (header.pixels or 0) if header is not None else 0
