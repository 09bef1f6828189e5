"""Rows as CSV (RFC 4180): a line a face, and one with empty columns for a picture without faces."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from facekit.base.reading import open_file, shown
from facekit.errors import FacekitError
from facekit.results.row import NO_FACES, Row, Run, as_unicode, from_unicode
from facekit.structures import LANDMARK_NAMES, Detections

POINTS = tuple(f"{name}_{axis}" for name in LANDMARK_NAMES for axis in "xy")
COLUMNS = (
    "source", "frame", "time_s", "width", "height", "face", "x1", "y1", "x2", "y2", "score", *POINTS, "track",
    "interpolated", "error",
)  # fmt: skip
MAX_BYTES = 1 << 36


class _Lines(list[str]):
    """What csv.writer writes, a row at a time, its end as on Unix."""

    def write(self, row: str) -> None:
        self.append(row.removesuffix("\r\n") + "\n")


def csv_text(rows: Iterable[Row], run: Run) -> Iterator[str]:
    """`face` counts from 0 within a picture. `source` stands as as_unicode() has it."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")  # with "\n" it wouldn't quote a name that holds "\r"

    def taken() -> str:
        text = "".join(lines)
        lines.clear()
        return text.encode("utf-8", "backslashreplace").decode()

    writer.writerow(COLUMNS)
    yield taken()
    for row in rows:
        writer.writerows(_lines(row))
        yield taken()


def _lines(row: Row) -> Iterator[list[Any]]:
    width, height = row.size_wh or ("", "")
    start = [as_unicode(row.source), row.frame, row.time_s, width, height]
    error = row.error
    if not len(row.faces):
        yield [*start, *[""] * (len(COLUMNS) - len(start) - 1), error]
    for number, face in enumerate(row.faces.to_dicts()):
        points = face.get("landmarks_xy")
        places = [""] * 10 if points is None else [value for name in LANDMARK_NAMES for value in points[name]]
        between = face.get("interpolated")
        yield [
            *start, number, *face["box_xyxy"], face["score"], *places, face.get("track"),
            "" if between is None else int(between), error,
        ]  # fmt: skip


def read_csv(path: Path) -> Iterator[Row]:
    """Rows as they were written. Raises FacekitError with the line for what is none."""
    with open_file(path, MAX_BYTES, "Check the path.") as raw, io.TextIOWrapper(raw, "utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or tuple(reader.fieldnames) != COLUMNS:
            raise FacekitError(f"{path}:1: expected the columns {','.join(COLUMNS)}. Write it again.")
        group: list[dict[str, str]] = []
        try:
            for line in reader:
                if group and line["face"] in ("", "0"):
                    yield _row(group)
                    group = []
                group.append(line)
            if group:
                yield _row(group)
        except (ValueError, csv.Error, KeyError, TypeError) as error:
            raise FacekitError(f"{path}:{reader.line_num}: no row of facekit's ({shown(error)}).") from error


def _row(lines: list[dict[str, str]]) -> Row:
    first = lines[0]
    faces = NO_FACES
    if first["face"]:
        faces = Detections.from_dicts([_face(line) for line in lines])
    return Row(
        from_unicode(first["source"]),
        (int(first["width"]), int(first["height"])) if first["width"] else None,
        faces,
        first["error"] or None,
        int(first["frame"]) if first["frame"] else None,
        float(first["time_s"]) if first["time_s"] else None,
    )


def _face(line: dict[str, str]) -> dict[str, Any]:
    face: dict[str, Any] = {"box_xyxy": [float(line[name]) for name in ("x1", "y1", "x2", "y2")],
                            "score": float(line["score"])}  # fmt: skip
    if line["left_eye_x"]:
        face["landmarks_xy"] = {name: [float(line[f"{name}_x"]), float(line[f"{name}_y"])] for name in LANDMARK_NAMES}
    if line["track"]:
        face["track"] = int(line["track"])
    if line["interpolated"]:
        face["interpolated"] = line["interpolated"] == "1"
    return face
