"""Text label files: lines with their numbers, rows of figures, and errors that name the line."""

from __future__ import annotations

import errno
import itertools
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.base.files import is_passed_over
from facekit.base.reading import open_input, read_input
from facekit.errors import FacekitError
from facekit.labels.picture_labels import (
    MAX_COORDINATE,
    WIDER_ATTRIBUTES,
    PictureLabels,
    Tally,
    finish_reading,
)
from facekit.labels.picture_paths import PictureFinder, guesses_beside
from facekit.pictures.read import PICTURE_SUFFIXES
from facekit.structures import LANDMARK_NAMES

MAX_LABEL_BYTES = 1 << 30
MAX_LINE_BYTES = 1 << 20
HEAD_BYTES = 1 << 16  # what recognising a format may look at
# What a file is that is no label file, by its first bytes; the longer ones first.
_SIGNS = (
    (b"\x00\x00\xfe\xff", "UTF-32 text"), (b"\xff\xfe\x00\x00", "UTF-32 text"), (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"), (b"PK\x03\x04", "a ZIP archive"), (b"\x1f\x8b", "a gzip archive"),
    (b"\xff\xd8\xff", "a JPEG picture"), (b"\x89PNG", "a PNG picture"), (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet table"), (b"SQLite format 3", "an SQLite data base"), (b"\x80\x02", "a pickle"),
    (b"version https://git-lfs", "a pointer of Git LFS (`git lfs pull` brings the file)"),
)  # fmt: skip


def foreign_content(head: bytes) -> str | None:
    """What a file is, by its first bytes, that is no UTF-8 text of labels; None where nothing speaks against that."""
    named = next((name for sign, name in _SIGNS if head.startswith(sign)), None)
    if named is not None or b"\0" not in head[:64]:
        return named
    # ASCII in wider characters has its zeros at regular places.
    start = head[:64].ljust(4, b"x")
    if all(not any(start[place::4]) for place in (0, 1, 2)) or all(not any(start[place::4]) for place in (1, 2, 3)):
        return "UTF-32 text"
    if not any(start[0::2]) or not any(start[1::2]):
        return "UTF-16 text"
    return None


def refuse_foreign(file: Path, head: bytes) -> None:
    """Raises FacekitError for a file that foreign_content names."""
    content = foreign_content(head)
    if content is not None:
        remedy = "Save it as UTF-8" if content.startswith("UTF") else "Give the label file itself"
        raise FacekitError(f"{file}: expected UTF-8 text, got {content}. {remedy}.")


def read_text(file: Path, max_bytes: int) -> str:
    """The whole text, without a byte order mark. Raises FacekitError as read_lines."""
    data = read_input(file, max_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse_foreign(file, data)
        line = data.count(b"\n", 0, error.start) + 1
        got = repr(data[error.start : error.start + 20])
        raise malformed(file, line, "UTF-8 text", got, "Save the file as UTF-8.") from error


def malformed(file: Path, line: int, expected: str, got: str, remedy: str = "Mend the line.") -> FacekitError:
    return FacekitError(f"{file}:{line}: expected {expected}, got {shorten(got)}. {remedy}")


def shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without blanks at its ends; any line ends, with or without a byte order mark.

    Raises FacekitError for a file that can't be read, is no regular one, is over MAX_LABEL_BYTES, or has a line that is
    no UTF-8 or over MAX_LINE_BYTES.
    """
    try:
        with open_input(file, MAX_LABEL_BYTES) as stream:
            number, left = 0, MAX_LABEL_BYTES
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number, left = number + 1, left - len(raw)
                if number == 1:
                    refuse_foreign(file, raw)
                if len(raw) > MAX_LINE_BYTES or left < 0:
                    limit = f"a line of up to {MAX_LINE_BYTES >> 20} MiB in a file of up to {MAX_LABEL_BYTES >> 20} MiB"
                    raise malformed(file, number, limit, f"{len(raw)} bytes and more")
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    remedy = "Save the file as UTF-8."
                    raise malformed(file, number, "UTF-8 text", repr(raw[error.start :][:20]), remedy) from error
                yield number, (text.removeprefix("\ufeff") if number == 1 else text).strip()
    except OSError as error:
        raise FacekitError(f"{file}: the label file can't be read ({error.strerror}). Check the path.") from error


def first_lines(file: Path, count: int = 3) -> list[str]:
    """The first lines that aren't blank, for recognising. Raises FacekitError for what is no regular file of text."""
    with open_input(file, sys.maxsize) as stream:
        head = stream.read(HEAD_BYTES)
    refuse_foreign(file, head)
    lines = (line.strip() for line in head.decode("utf-8-sig", errors="replace").splitlines())
    return list(itertools.islice((line for line in lines if line), count))


def is_picture_name(text: str) -> bool:
    return text.lower().endswith(PICTURE_SUFFIXES)


def find_picture(folder: Path, stem: str, suffixes: Sequence[str] = ()) -> str:
    """stem with the suffix that a file in the folder has: one of these, or of PICTURE_SUFFIXES, in small letters or
    capitals; with .jpg where there is none."""
    known = [*suffixes, *PICTURE_SUFFIXES, *map(str.upper, PICTURE_SUFFIXES)]
    return next((stem + suffix for suffix in known if is_file(folder / (stem + suffix))), f"{stem}.jpg")


def is_file(path: Path) -> bool:
    """As Path's own, which raises for a name that no disk holds."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def label_files_below(folder: Path, suffix: str) -> Iterator[Path]:
    """Files with this suffix in small letters or capitals, in any order."""
    pattern = "".join(f"[{letter}{letter.upper()}]" for letter in suffix)
    return (file for file in folder.rglob(f"*{pattern}") if file.is_file() and not is_passed_over(file))


def in_any_letters(file: Path) -> Path:
    """The file, or that with its suffix in capitals where there is only that."""
    capitals = file.with_suffix(file.suffix.upper())
    return capitals if not is_file(file) and is_file(capitals) else file


def parse_row(file: Path, line: int, text: str, counts: Sequence[int], columns: str) -> list[float]:
    """The numbers of a line, as many as one of `counts`; `columns` says in an error what they are."""
    fields = text.split()
    # float() alone would also take 1_0 and digits of other scripts.
    if len(fields) in counts and text.isascii() and "_" not in text:
        try:
            return list(map(float, fields))
        except ValueError:
            pass
    raise malformed(file, line, f"{columns} ({' or '.join(map(str, counts))} numbers)", text)


def format_number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return str(int(value)) if value == int(value) else repr(value)


class LabelCollector:
    """Gathers the pictures of one text file, and turns them into PictureLabels at its end; `finder` knows where they
    are."""

    def __init__(self, file: Path, data_root: Path | None, as_written: bool) -> None:
        self.file = file
        self.as_written = as_written
        self.finder = PictureFinder(file, data_root, guesses_beside(file))
        self._first_line: dict[Path, int] = {}
        self._pictures: list[PictureLabels] = []
        self._lines: list[Sequence[int]] = []

    def add(
        self,
        line: int,
        name: str,
        size_wh: tuple[int, int] | None,
        lines: Sequence[int],
        boxes_xywh: NDArray[np.float64],
        points_xyv: NDArray[np.float64] | None = None,
        attributes: ArrayLike | None = None,
    ) -> None:
        """One picture, named in `line`; `lines` are those of its N faces, points_xyv (N, 5, 3) with v < 0 or x, y of
        -1 for points that aren't labelled."""
        path, below = self.finder.find(name, f"{self.file}:{line}")
        if path in self._first_line:
            remedy = "Put all its faces in one place."
            expected = f"a picture that line {self._first_line[path]} hasn't listed yet"
            raise malformed(self.file, line, expected, name, remedy)
        self._first_line[path] = line
        landmarks_xy = np.full((len(boxes_xywh), len(LANDMARK_NAMES), 2), np.nan)
        self._check_numbers(boxes_xywh, lines)
        if points_xyv is not None:
            self._check_numbers(points_xyv.reshape(-1, 15), lines)
            labelled = (points_xyv[..., 2] >= 0) & (points_xyv[..., :2] != -1).any(axis=2)
            landmarks_xy[labelled] = points_xyv[..., :2][labelled]
        self._lines.append(lines)
        self._pictures.append(
            PictureLabels(
                path, size_wh, boxes_xywh, landmarks_xy, np.zeros(len(boxes_xywh), bool),
                None if attributes is None else np.asarray(attributes, np.int8).reshape(-1, len(WIDER_ATTRIBUTES)),
                below,
            )
        )  # fmt: skip

    def finish(self, dropped: Tally | None) -> list[PictureLabels]:
        """The pictures in the file's order; raises FacekitError where there is none, or they aren't on the disk."""
        if not self._pictures:
            raise FacekitError(f"{self.file}: no picture is listed; there is nothing to train or to measure on.")
        self.finder.finish()
        return finish_reading(
            self._pictures, self.file, self.finder.root, self._locate, dropped, self.as_written, self.finder.looked_in
        )

    def _locate(self, picture: int, face: int | None) -> str:
        line = list(self._first_line.values())[picture] if face is None else self._lines[picture][face]
        return f"{self.file}:{line}"

    def _check_numbers(self, rows: NDArray[np.float64], lines: Sequence[int]) -> None:
        bad = ~(np.abs(rows) <= MAX_COORDINATE).all(axis=1)  # NaN too
        if bad.any() and not self.as_written:
            first = int(bad.argmax())
            raise malformed(self.file, lines[first], "finite numbers of pixels", str(rows[first].tolist()))


def pictures_beside(folders: Iterable[Path], known: Container[Path]) -> list[Path]:
    """Those in the folders that labels beside them don't name."""
    files = (file for folder in folders for file in folder.iterdir())
    return sorted(
        file for file in files if is_picture_name(file.name) and not is_passed_over(file) and file not in known
    )
