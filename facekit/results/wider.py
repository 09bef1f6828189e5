"""Prediction files for WIDER FACE: the official folder of text files, or one .npz."""

from __future__ import annotations

import itertools
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.base.files import check_ours, is_passed_over, sync_disk, write_text
from facekit.base.reading import open_file, read_text, shown
from facekit.errors import FacekitError, Loss, is_printable
from facekit.metrics.overlaps import as_rows
from facekit.results.names import Names
from facekit.results.row import Row

COLUMNS = "x y w h score"
MAX_BYTES = 256 << 20  # of an .npz, and of each of its arrays unpacked
MAX_UNPACKED = 200  # times the archive's own size
MAX_TEXT_BYTES = 16 << 20  # of a result file
MOST_LOOKED_AT = 1000  # files, before the work
MAX_ROWS = 8_000_000  # boxes of all pictures together


def checked_xywhs(xywhs: ArrayLike, where: str) -> NDArray[np.float64]:
    """Rows of x, y, w, h, score as float64 (N, 5); `where` names the picture.

    Raises:
        ValueError: another shape.
        FacekitError: a value that is not finite, or a negative width or height.
    """
    rows = as_rows(xywhs, 5, where)
    if (rows[:, 2:4] < 0).any():
        first = np.argmax((rows[:, 2:4] < 0).any(axis=1))
        raise FacekitError(
            f"{where}: row {first} has the width and height {rows[first, 2]:g}, {rows[first, 3]:g}, expected 0 or "
            f"more. Rows are {COLUMNS}; check that they aren't corners."
        )
    return rows


def read_predictions(path: Path) -> dict[str, NDArray[np.float64]]:
    """Reads predictions: "EVENT/NAME" to (N, 5) x, y, w, h, score, sorted by name.

    Args:
        path: a folder of official result files (EVENT/NAME.txt: the name, the count, then a row a line), or a .npz
            with the arrays names (n,), offsets (n + 1,) and xywhs (rows, 5). Names may have .jpg behind them.

    Raises:
        FacekitError: missing, unreadable or malformed, with the file and the line or array at fault.
    """
    if path.is_dir():
        files = {f"{file.parent.name}/{file.stem}": file for file in path.glob("*/*.txt") if not is_passed_over(file)}
        if not files:
            raise FacekitError(f"{path}: no result files, expected EVENT/NAME.txt. Give the folder above the events.")
        return _read_folder(path, files)
    if path.suffix != ".npz" or not path.exists():
        raise FacekitError(f"{path}: expected a folder of EVENT/NAME.txt files or a .npz. Check the path.")
    return _read_npz(path)


def write_predictions(folder: Path, predictions: Mapping[str, ArrayLike]) -> None:
    """Writes official result files, `folder`/EVENT/NAME.txt, each of them whole or not at all. Numbers are written in
    full, so reading gives the same float64. Files of pictures that aren't in `predictions` are left alone.

    Args:
        folder: made if missing.
        predictions: "EVENT/NAME" to (N, 5) x, y, w, h, score, written in the order given.

    Raises:
        FacekitError: a name that isn't EVENT/NAME or would leave the folder, rows as in `checked_xywhs`, or a file
            that can't be written. Names and rows are all checked before anything is written.
        ValueError: an entry is not (N, 5).
    """
    checked = {}
    for name, rows in predictions.items():
        check_name(name)
        checked[name] = checked_xywhs(rows, name)
    for name, xywhs in checked.items():
        _write(folder / f"{name}.txt", xywhs)
    sync_disk()


def write_wider(
    folder: Path, rows: Iterable[Row], numbered: Mapping[str, str] = MappingProxyType({})
) -> list[Loss]:  # fmt: skip
    """As write_predictions(), of detections as they come. EVENT is the folder that a picture lies in below the one
    given, `pictures` where there is none; names are made to fit. Pictures that could not be read have no file.

    numbered: rows' names that another picture's is like, and that one (Names.numbered). Returns the pictures whose
    file is called otherwise than they are. Raises FacekitError for a file in the way of another detector's.
    """
    names, losses = Names(), []
    for row in rows:
        if row.size_wh is None:
            continue
        place = PurePosixPath(row.name).with_suffix("")
        event = "_".join(place.parent.parts).strip() or "pictures"
        name = names.of(f"{event}/{place.name.strip() or '_'}.txt").removesuffix(".txt")
        check_name(name)
        boxes = row.faces.boxes_xyxy.astype(np.float64)
        corner, size = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clip(0)
        xywhs = np.concatenate([corner, size, row.faces.scores[:, None].astype(np.float64)], axis=1)
        _check_own(folder / f"{name}.txt")
        _write(folder / f"{name}.txt", checked_xywhs(xywhs, name))
        if row.name in numbered or f"{name}.txt" in names.numbered:
            why = f"its boxes are in {name}.txt, as another picture has its name without suffix. Rename one of them"
            losses.append(Loss(row.source, why))
    sync_disk()
    return losses


def check_wider_folder(folder: Path) -> None:
    """Asked before any work: raises FacekitError where boxes lie that facekit did not write. Other texts may lie there,
    as long as none is in the way."""
    for path in itertools.islice(folder.glob("*/*.txt"), MOST_LOOKED_AT):
        if _boxes(path) is not None:
            _check_own(path)


def _boxes(path: Path) -> NDArray[np.float64] | None:
    """None of what is no result file."""
    try:
        return _read_text(path)
    except FacekitError:
        return None


def _check_own(path: Path) -> None:
    check_ours(path, _is_own, "holds another detector's boxes")


def _is_own(path: Path) -> bool:
    """Spelt as facekit would, and of float32 scores: those of others end after some decimals, which few float32 do. A
    file without boxes is nobody's."""
    xywhs = _boxes(path)
    if xywhs is None or not len(xywhs):
        return xywhs is not None
    is_spelt_alike = read_text(path, MAX_TEXT_BYTES, "Choose another folder.") == _text(path, xywhs)
    return is_spelt_alike and bool((xywhs[:, 4] == xywhs[:, 4].astype(np.float32)).all())


def _write(target: Path, xywhs: NDArray[np.float64]) -> None:
    write_text(target, _text(target, xywhs), sync=False)


def _text(file: Path, xywhs: NDArray[np.float64]) -> str:
    rows = (" ".join(map(repr, row)) for row in xywhs.tolist())
    return "\n".join([file.stem, str(len(xywhs)), *rows]) + "\n"


def check_name(name: str) -> None:
    """Raises FacekitError for a name that no result file may have."""
    parts = name.split("/")
    if (
        len(parts) != 2
        or any(part in ("", ".", "..") or part != part.strip() for part in parts)
        or "\\" in name
        or not is_printable(name)
        or any(PureWindowsPath(part).drive for part in parts)
    ):
        raise FacekitError(
            f"predictions: the picture name {name!r} isn't EVENT/NAME, so no file is written for it. "
            f"Rename the picture or its folder."
        )


def _read_folder(path: Path, files: Mapping[str, Path]) -> dict[str, NDArray[np.float64]]:
    found, rows = {}, 0
    for name in sorted(files):
        found[name] = _read_text(files[name])
        rows += len(found[name])
        if rows > MAX_ROWS:
            raise FacekitError(f"{path}: over {MAX_ROWS} boxes in all, which are not read. Raise the score threshold.")
    return found


def _read_text(file: Path) -> NDArray[np.float64]:
    lines = _read_lines(file)
    if len(lines) < 2:
        raise _malformed(file, len(lines) + 1, "the picture's name and then the number of boxes", "the end of the file")
    # Some writers put the event before the name, and some .jpg behind it.
    name = PurePosixPath(lines[0].strip().replace("\\", "/")).name
    if name not in (file.stem, f"{file.stem}.jpg"):
        raise _malformed(file, 1, f"the picture's name, {file.stem}", repr(lines[0]))
    count, rows = lines[1].strip(), lines[2:]
    if not (count.isascii() and count.isdigit() and len(count) < 10):
        raise _malformed(file, 2, "the number of boxes", repr(lines[1]))
    if int(count) != len(rows):
        raise _malformed(file, 2, f"the number of boxes, {len(rows)} lines follow", count)
    try:
        values = np.array([row.split() for row in rows], dtype=np.float64)
        return checked_xywhs(values.reshape(len(rows), 5), str(file))
    except (ValueError, FacekitError):
        return _read_row_by_row(file, rows)


def _read_lines(file: Path) -> list[str]:
    # Editors on Windows put a mark in front that isn't part of the name.
    text = read_text(file, MAX_TEXT_BYTES, "Write the result file again.").removeprefix("\ufeff")
    return text.rstrip().split("\n")


def _read_row_by_row(file: Path, rows: list[str]) -> NDArray[np.float64]:
    """The slow way, to say which line is at fault."""
    values = np.empty((len(rows), 5))
    for index, row in enumerate(rows):
        try:
            values[index] = checked_xywhs([[float(field) for field in row.split()]], f"{file}:{index + 3}")[0]
        except (ValueError, FacekitError) as error:
            expected = f"{COLUMNS}: five finite numbers, w and h 0 or more"
            raise _malformed(file, index + 3, expected, repr(row)) from error
    return values


def _malformed(file: Path, line: int, expected: str, got: str) -> FacekitError:
    return FacekitError(f"{file}:{line}: expected {expected}, but got {shown(got, 100)}. Write the result file again.")


def _read_npz(path: Path) -> dict[str, NDArray[np.float64]]:
    try:
        with open_file(path, MAX_BYTES, "Check the path.") as file, zipfile.ZipFile(file) as archive:
            names, offsets, xywhs = (
                _read_array(archive, key, file.seek(0, 2)) for key in ("names", "offsets", "xywhs")
            )
    except KeyError as error:
        raise FacekitError(f"{path}: {error.args[0]}; expected the arrays names, offsets and xywhs.") from error
    except _UNREADABLE as error:
        raise FacekitError(
            f"{path}: can't be read as .npz ({shown(error, 200)}). Write it again with numpy.savez."
        ) from error
    if names.ndim != 1 or names.dtype.kind != "U":
        raise FacekitError(f"{path}: names: expected strings (n,), but got {names.dtype} {names.shape}.")
    # As in text files, whose writers put backslashes before names, and .jpg behind them.
    names = np.array([str(name).replace("\\", "/").removesuffix(".jpg") for name in names], dtype=np.str_)
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) != len(names):
        raise FacekitError(f"{path}: names: {unique[counts > 1][0]} stands there twice. Give each picture one entry.")
    if offsets.shape != (len(names) + 1,) or offsets.dtype.kind not in "iu":
        raise FacekitError(
            f"{path}: offsets: expected integers ({len(names) + 1},) for {len(names)} names, "
            f"but got {offsets.dtype} {offsets.shape}."
        )
    if xywhs.ndim != 2 or xywhs.shape[1] != 5 or xywhs.dtype.kind not in "fiu":
        raise FacekitError(f"{path}: xywhs: expected numbers (_, 5), {COLUMNS}, but got {xywhs.dtype} {xywhs.shape}.")
    if len(xywhs) > MAX_ROWS:
        raise FacekitError(f"{path}: xywhs: {len(xywhs)} rows, expected at most {MAX_ROWS}.")
    bounds = offsets.astype(np.int64)
    if bounds[0] != 0 or bounds[-1] != len(xywhs) or (np.diff(bounds) < 0).any():
        raise FacekitError(f"{path}: offsets: expected to rise from 0 to the {len(xywhs)} rows of xywhs, but don't.")
    return {
        str(names[index]): checked_xywhs(xywhs[bounds[index] : bounds[index + 1]], f"{path}: {names[index]}")
        for index in np.argsort(names)
    }


# A damaged archive trips zipfile, zlib and numpy's reader of headers in all these ways.
_UNREADABLE = (
    OSError, ValueError, TypeError, EOFError, SyntaxError, RuntimeError, NotImplementedError, struct.error,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OverflowError, MemoryError,
)  # fmt: skip


def _read_array(archive: zipfile.ZipFile, key: str, archive_bytes: int) -> NDArray[Any]:
    """An array, after its size in the archive's directory and in its own header have been held against each other."""
    if f"{key}.npy" not in archive.namelist():
        raise KeyError(f"{key} is not a file in the archive")
    entry = archive.getinfo(f"{key}.npy")
    if entry.file_size > min(MAX_BYTES, MAX_UNPACKED * archive_bytes):
        raise ValueError(f"{key}: {entry.file_size} bytes unpacked, of an archive of {archive_bytes}")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{key}: a header of the version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if any(side < 0 for side in shape) or dtype.hasobject or dtype.kind not in "Ufiu":
            raise ValueError(f"{key}: {dtype} {shape}, expected texts or numbers")
        claimed = math.prod(shape) * dtype.itemsize
        if claimed != entry.file_size - file.tell():
            raise ValueError(f"{key}: {claimed} bytes by its header, {entry.file_size - file.tell()} in the archive")
    with archive.open(entry) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
