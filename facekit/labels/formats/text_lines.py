"""Text label files: lines with their numbers, rows of figures, and errors that name the line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekit.errors import FacekitError
from facekit.labels.picture_labels import (
    MAX_COORDINATE,
    WIDER_ATTRIBUTES,
    PictureLabels,
    Tally,
    finish_reading,
    picture_path,
)
from facekit.pictures.read import PICTURE_SUFFIXES
from facekit.structures import LANDMARK_NAMES

MAX_LABEL_BYTES = 1 << 30
HEAD_BYTES = 1 << 16  # what recognising a format may look at


def malformed(file: Path, line: int, expected: str, got: str, remedy: str = "Mend the line.") -> FacekitError:
    return FacekitError(f"{file}:{line}: expected {expected}, got {shorten(got)}. {remedy}")


def shorten(text: str) -> str:
    text = repr(text)
    return text if len(text) <= 80 else text[:77] + "..."


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without blanks at its ends; any line ends, with or without a byte order mark.

    Raises FacekitError for a file that can't be read, is too large, or has a line that is no UTF-8.
    """
    try:
        with file.open("rb") as stream:
            if file.stat().st_size > MAX_LABEL_BYTES:
                raise FacekitError(f"{file}: over {MAX_LABEL_BYTES >> 20} MiB, too large for labels. Split the file.")
            for number, raw in enumerate(stream, 1):
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    remedy = "Save the file as UTF-8."
                    raise malformed(file, number, "UTF-8 text", repr(raw[error.start :][:20]), remedy) from error
                yield number, (text.removeprefix("\ufeff") if number == 1 else text).strip()
    except OSError as error:
        raise FacekitError(f"{file}: the label file can't be read ({error.strerror}). Check the path.") from error


def first_lines(file: Path, count: int = 3) -> list[str]:
    """The first lines that aren't blank, for recognising; [] for what can't be read."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return []
    lines = (line.strip() for line in head.decode("utf-8-sig", errors="replace").splitlines())
    return list(itertools.islice((line for line in lines if line), count))


def is_picture_name(text: str) -> bool:
    return text.lower().endswith(PICTURE_SUFFIXES)


def find_picture(folder: Path, stem: str, suffixes: Sequence[str] = ()) -> str:
    """stem with the suffix that a file in the folder has: one of these, or of PICTURE_SUFFIXES, in small letters or
    capitals; with .jpg where there is none."""
    known = [*suffixes, *PICTURE_SUFFIXES, *map(str.upper, PICTURE_SUFFIXES)]
    return next((stem + suffix for suffix in known if (folder / (stem + suffix)).is_file()), f"{stem}.jpg")


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


def guess_data_root(label_file: Path, name: str) -> Path:
    """The folder above the pictures where nobody gave one: where the published layouts have it, if `name` is there."""
    here = label_file.parent
    roots = [here, here / "images"]
    for above in label_file.parents[1:3]:
        roots += [above, above / "images", above / "WIDER_train" / "images", above / "WIDER_val" / "images"]
    roots += [above / "originalPics" for above in label_file.parents[:2]]  # FDDB's
    return next((root for root in roots if (root / name).is_file()), here)


class LabelCollector:
    """Gathers the pictures of one text file, and turns them into PictureLabels at its end."""

    def __init__(self, file: Path, data_root: Path | None, as_written: bool) -> None:
        self.file = file
        self.data_root = data_root
        self.as_written = as_written
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
        if self.data_root is None:
            picture_path(Path(), name, f"{self.file}:{line}")
            self.data_root = guess_data_root(self.file, name)
        path = picture_path(self.data_root, name, f"{self.file}:{line}")
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
                path.relative_to(self.data_root).as_posix(),
            )
        )  # fmt: skip

    def finish(self, dropped: Tally | None) -> list[PictureLabels]:
        """The pictures in the file's order; raises FacekitError where there is none, or they aren't on the disk."""
        if not self._pictures or self.data_root is None:
            raise FacekitError(f"{self.file}: no picture is listed; there is nothing to train or to measure on.")
        if self.as_written:
            return self._pictures
        return finish_reading(self._pictures, self.file, self.data_root, self._locate, dropped)

    def _locate(self, picture: int, face: int | None) -> str:
        line = list(self._first_line.values())[picture] if face is None else self._lines[picture][face]
        return f"{self.file}:{line}"

    def _check_numbers(self, rows: NDArray[np.float64], lines: Sequence[int]) -> None:
        bad = ~(np.abs(rows) <= MAX_COORDINATE).all(axis=1)  # NaN too
        if bad.any() and not self.as_written:
            first = int(bad.argmax())
            raise malformed(self.file, lines[first], "finite numbers of pixels", str(rows[first].tolist()))
