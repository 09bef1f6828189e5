"""The lines of YOLO's label files, whatever their columns mean: decided over a whole set, by the numbers themselves.

Behind the class stand, in fractions of the picture:
  4 numbers               a box: centre x, centre y, width, height
  box and points          x y of five landmarks (yolov5-face, -1: not labelled), x y v of them (Ultralytics' pose), or
                          of other points (KNOWN_COUNTS), whose boxes are read and whose points are left out
  3 points and more       a polygon, x y each: its box is read
  and one more            a confidence, or a track's number, read over
A number of columns can be both box and points or a polygon (15: five landmarks, or seven corners). data.yaml's
kpt_shape decides where there is one, and then nothing is a polygon. Else they are points if in most such lines they lie
in or near their box, are spread over it, and are no outline: of a face's points and its centre some lie inside the
others, and its width and height, read as a corner, lie far from them. Lines of many lengths are contours.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError, counted
from facekit.labels.formats.text_lines import malformed, read_lines
from facekit.labels.keypoints import (
    MAX_POINTS,
    as_seen,
    may_be_ours,
    order_by_names,
    say_nothing,
    say_taken_for_ours,
    warn_of_contradictions,
)
from facekit.labels.picture_labels import FAR_OUTSIDE, LEAST_CORNERS, NEARLY_ALL
from facekit.structures import LANDMARK_NAMES

log = logging.getLogger(__name__)

COLUMNS = "class cx cy w h in 0..1, or those with x y or x y v of points, or class and x y of a polygon's corners"
MAX_FRACTION = 2.0  # boxes may reach outside; what is farther away is in pixels
MAX_COLUMNS = 3 * MAX_POINTS + 6
NEAR_SHARE = 0.25  # of a box's sides, by which its points may lie outside
BOX_COLUMNS = 6  # of a box with its class, and a confidence
KNOWN_COUNTS = (5, 6, 17, 21, 68, 98, 106)  # of points without v: of faces, and of persons
SPREAD = 0.25  # of a box's width or height, over which its points are spread
OUTLINE_SHARE = 0.8  # of points, from which on their hull they are an outline
ROUNDED = 0.01  # by which corners may lie outside the picture
OUTSIDE = 0.1  # by which a polygon's corners may lie outside the picture
SAMPLE = 2000  # lines of one number of columns that are looked at for outlines
UNLABELLED = [-1.0] * (2 * len(LANDMARK_NAMES))

Row = list[float]  # class, then as many numbers as the line has


class Meaning(NamedTuple):
    """Of the numbers behind the class."""

    points: int  # 0: a polygon or a box alone
    values_a_point: int  # 2 or 3
    is_polygon: bool
    has_confidence: bool


def read_rows(file: Path) -> list[tuple[int, Row]]:
    """Line and numbers of each face. Raises FacekitError with the line for what are no such numbers."""
    rows = []
    for line, text in read_lines(file):
        if not text:
            continue
        fields = text.split(maxsplit=MAX_COLUMNS)
        numbers: Row = []
        # float() alone would also take 1_0 and digits of other scripts.
        if 5 <= len(fields) <= MAX_COLUMNS and text.isascii() and "_" not in text:
            try:
                numbers = list(map(float, fields))
            except ValueError:
                numbers = []
        if not numbers:
            raise malformed(file, line, COLUMNS, text)
        fractions = numbers[1:5] if len(numbers) == 6 else numbers[1:]
        is_class = numbers[0] >= 0 and numbers[0].is_integer()
        if not is_class or not all(abs(value) <= MAX_FRACTION for value in fractions) or not math.isfinite(numbers[-1]):
            remedy = "Divide pixels by the size."
            if len(numbers) == BOX_COLUMNS + 1 and all(abs(value) <= MAX_FRACTION for value in numbers[1:-1]):
                remedy = (
                    f"{len(numbers)} columns are class and three corners: behind a box only one of confidence and "
                    f"track's number is read over, so leave the other out."
                )
            raise malformed(file, line, f"{COLUMNS}; the class a whole number", text, remedy)
        rows.append((line, numbers))
    return rows


def faces_of(
    files: Sequence[Path], numbered: Sequence[Sequence[tuple[int, Row]]], kpt_shape: tuple[int, int] | None,
    where: str, kpt_names: Sequence[Any] = (), as_written: bool = False,
) -> list[NDArray[np.float64]]:  # fmt: skip
    """An array (N, 15) a file: class, box (centre and size) and x, y of the five landmarks, -1 for those that aren't
    labelled. kpt_shape: how many points and values a point, of data.yaml; kpt_names: what the points are called there,
    if they are. Says once what was not read as it stands.

    Raises FacekitError with the line for a number of columns that nothing explains, and for confidences before boxes,
    which as_written is only said.
    """
    groups: dict[int, list[tuple[Path, int, Row]]] = {}
    for file, rows in zip(files, numbered, strict=True):
        for line, row in rows:
            groups.setdefault(len(row), []).append((file, line, row))
    # Contours have now so many corners and now so many; faces' points have one number.
    longer = {columns: len(group) for columns, group in groups.items() if columns > BOX_COLUMNS}
    are_contours = len(longer) > 2 and max(longer.values()) < 0.5 * sum(longer.values())
    read: dict[int, NDArray[np.float64]] = {}
    said: Counter[str] = Counter()
    for columns, group in groups.items():
        values = np.array([row for _, _, row in group], np.float64)
        if columns == BOX_COLUMNS and is_confidence_first(values[:, 1:]):
            text = (
                f"{where}: as class, box and confidence many boxes would reach outside their pictures, and nearly "
                f"all lie in them if the confidence stands before the box. Write it behind: class cx cy w h confidence."
            )
            if not as_written:
                raise FacekitError(text)
            log.warning("%s", text)
        meaning = meaning_of(values[:, 1:], kpt_shape, are_contours)
        wrong = np.ones(len(values), bool) if meaning is None else _no_polygons(values, meaning)
        if meaning is None or wrong.any():
            file, line, row = group[int(wrong.argmax())]
            shape = "" if kpt_shape is None else f" (kpt_shape: {kpt_shape[0]} points of {kpt_shape[1]} values)"
            raise malformed(file, line, COLUMNS + shape, " ".join(f"{value:g}" for value in row))
        read[columns] = _faces(values, meaning, said, is_sure=kpt_shape is not None)
    for what, count in said.items():
        log.warning("%s: %d lines %s.", where, count, what)
    place = dict.fromkeys(read, 0)
    faces = []
    for rows in numbered:
        picked = np.empty((len(rows), 5 + len(UNLABELLED)))
        for number, (_, row) in enumerate(rows):
            picked[number] = read[len(row)][place[len(row)]]
            place[len(row)] += 1
        faces.append(picked)
    whole = np.concatenate([np.empty((0, 15)), *faces])
    points = whole[:, 5:].reshape(-1, 5, 2)
    points = np.where((points == -1).all(axis=2, keepdims=True), np.nan, points)
    if kpt_names and not say_nothing(kpt_names):
        whole[:, 5:] = np.nan_to_num(_by_names(points, kpt_names, where), nan=-1).reshape(-1, 10)
        return np.split(whole, np.cumsum([len(each) for each in faces])[:-1]) if faces else []
    warn_of_contradictions(points, where)
    return faces


def _by_names(points: NDArray[np.float64], names: Sequence[Any], where: str) -> NDArray[np.float64]:
    """(N, 5, 2) points of those names as the five landmarks; NaN where the names are other parts'."""
    order = order_by_names(names)
    if len(names) == points.shape[1] and order is not None:
        return as_seen(points[:, order], where)
    count = int(np.isfinite(points).all(axis=(1, 2)).sum())
    if may_be_ours(names):
        if count:
            say_taken_for_ours("the names in kpt_names aren't known", where)
        warn_of_contradictions(points, where)
        return points
    if count:
        what = "read without landmarks: kpt_names aren't the five landmarks'"
        log.warning("%s: %s %s.", where, counted(count, "face"), what)
    return np.full_like(points, np.nan)


def meaning_of(
    values: NDArray[np.float64], kpt_shape: tuple[int, int] | None = None, are_contours: bool = False
) -> Meaning | None:
    """Of (N, M) numbers behind the class, N over 0; None where nothing explains them. are_contours: the set's lines are
    of so many lengths that x y are corners."""
    columns = values.shape[1]
    if columns in (4, 5):
        return Meaning(0, 2, is_polygon=False, has_confidence=columns == 5)
    confident = bool(((values[:, -1] >= 0) & (values[:, -1] <= 1)).all())
    for has_confidence in (False, True):
        for each in (2, 3):
            count, rest = divmod(columns - 4 - has_confidence, each)
            if rest or (has_confidence and not confident):
                continue
            is_likely = not are_contours and (count in KNOWN_COUNTS if each == 2 else count >= 3)
            if (count, each) == kpt_shape or (kpt_shape is None and is_likely and _are_points(values, count, each)):
                return Meaning(count, each, is_polygon=False, has_confidence=has_confidence)
    if kpt_shape is None and columns >= 6 and (columns % 2 == 0 or confident):
        return Meaning(0, 2, is_polygon=True, has_confidence=columns % 2 == 1)
    return None


def are_corners(boxes: NDArray[np.float64]) -> bool:
    """Whether what was read as (N, 4) fractions cx, cy, w, h is x1, y1, x2, y2: nearly all lie in the picture as
    corners, so that they would be wider and higher than their centres lie from its left and top, as in a set of huge
    faces alone; and over a third would reach far outside, or a tenth where over a third would not be that huge."""
    if len(boxes) < LEAST_CORNERS:
        return False
    first, second = boxes[:, :2], boxes[:, 2:]
    as_corners = ((second > first) & (first >= -ROUNDED) & (second <= 1 + ROUNDED)).all(axis=1)
    far = ((first + second / 2 > 1 + FAR_OUTSIDE) | (first - second / 2 < -FAR_OUTSIDE)).any(axis=1).mean()
    are_some_small = (second < 0.5).any(axis=1).mean() > 1 / 3
    return bool(as_corners.mean() > NEARLY_ALL and (far > 1 / 3 or (far >= 0.1 and are_some_small)))


def is_confidence_first(values: NDArray[np.float64]) -> bool:
    """Whether (N, 5) numbers behind the class are a confidence and a box, as DeepStream has them: over a third of the
    boxes would reach outside if they came first, and nearly all lie in the picture if they come last."""
    if len(values) < LEAST_CORNERS:
        return False
    first, last = values[:, :4], values[:, 1:]
    is_far = (np.abs(first[:, :2] - 0.5) + first[:, 2:] / 2 > 0.5 + ROUNDED).any(axis=1)
    is_inside = ((np.abs(last[:, :2] - 0.5) + last[:, 2:] / 2 <= 0.5 + ROUNDED) & (last[:, 2:] > 0)).all(axis=1)
    are_shares = ((values[:, 0] >= 0) & (values[:, 0] <= 1)).all()
    return bool(are_shares and is_far.mean() > 1 / 3 and is_inside.mean() > NEARLY_ALL)


def _are_points(values: NDArray[np.float64], count: int, each: int) -> bool:
    """Whether (N, M) numbers of most lines are a box and as many points."""
    points = values[:, 4 : 4 + count * each].reshape(len(values), count, each)
    if (count, each) == (len(LANDMARK_NAMES), 2) and _unlabelled(points).any():  # no polygon's corners
        return True
    if each == 3 and np.isin(points[..., 2], (0, 1, 2)).all(axis=1).mean() > 0.5:
        return True
    near = _near(values[:, :4], points[..., :2])
    if near.mean() <= 0.5:
        return False
    sample = np.flatnonzero(near)[:SAMPLE]
    return float(np.mean([_is_outline(values[row, : 4 + count * each]) for row in sample])) <= 0.5


def _unlabelled(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, K, 2) -> (N, K): points that some tools write for none: -1 -1, or 0 0 for all of a line's."""
    return np.asarray((points == -1).all(axis=2) | (points == 0).all(axis=(1, 2))[:, None])


def _near(boxes: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, 4) centre and size, (N, K, 2) -> (N,): whether all points lie in or near the box."""
    reach = boxes[:, None, 2:] * (0.5 + NEAR_SHARE)
    near = (np.abs(points - boxes[:, None, :2]) <= reach).all(axis=(1, 2))
    return np.asarray(near & (boxes[:, 2:] > 0).all(axis=1))


def _are_as_in_a_face(numbers: NDArray[np.float64]) -> bool:
    """Whether five points lie in the box as those of an upright face: eyes, nose and mouth each at its height."""
    height = (numbers[5::2] - numbers[1]) / numbers[3]  # -0.5 at the box's top, 0.5 at its foot
    eyes, nose, mouth = height[:2], height[2], height[3:]
    return bool(
        (np.abs(eyes + 0.15) < 0.2).all() and abs(nose - 0.06) < 0.2 and (np.abs(mouth - 0.26) < 0.2).all()
        and eyes.max() + 0.03 < nose < mouth.min() - 0.03
        and max(np.ptp(eyes), np.ptp(mouth)) < 0.6 * (mouth.mean() - eyes.mean())
    )  # fmt: skip


def _is_outline(numbers: NDArray[np.float64]) -> bool:
    """Whether the numbers, taken as x, y of corners, all but lie on their own hull, or are a heap somewhere in the box
    that they would begin with."""
    corners = numbers[: len(numbers) // 2 * 2].reshape(-1, 2)
    others = np.delete(corners, 1, axis=0)
    low, high = others.min(axis=0), others.max(axis=0)
    extent = float((high - low).max())
    # A small face's width and height lie far from its centre and points: no polygon has one corner so far out.
    if np.maximum(low - corners[1], corners[1] - high).max() > extent:
        return False
    if len(corners) == 2 + len(LANDMARK_NAMES) and _are_as_in_a_face(numbers[: 2 * len(corners)]):
        return False
    corners = np.unique(corners, axis=0).astype(np.float32)
    if len(corners) < OUTLINE_SHARE * (len(numbers) // 2):
        return False
    if (np.ptp(numbers[4 : len(numbers) // 2 * 2].reshape(-1, 2), axis=0) <= SPREAD * numbers[2:4]).all():
        return True
    hull = cv2.convexHull(corners)
    slack = 0.03 * extent
    on_hull = [cv2.pointPolygonTest(hull, (float(x), float(y)), True) <= slack for x, y in corners]
    return sum(on_hull) >= OUTLINE_SHARE * len(corners)


def _no_polygons(values: NDArray[np.float64], meaning: Meaning) -> NDArray[np.bool_]:
    """(N, 1 + M) -> (N,): which lines are polygons with a corner far outside the picture, and so are none."""
    if not meaning.is_polygon:
        return np.zeros(len(values), bool)
    corners = values[:, 1 : len(values[0]) - meaning.has_confidence]
    return np.asarray((corners.min(axis=1) < -OUTSIDE) | (corners.max(axis=1) > 1 + OUTSIDE))


def _faces(
    values: NDArray[np.float64], meaning: Meaning, said: Counter[str], is_sure: bool
) -> NDArray[np.float64]:  # fmt: skip
    """(N, 1 + M) -> (N, 15); `said` counts lines by what was not read as it stands. is_sure: data.yaml says what the
    points are, wherever they lie."""
    faces = np.full((len(values), 5 + len(UNLABELLED)), -1.0)
    faces[:, :5] = values[:, :5]
    if meaning.has_confidence:
        said["end with a confidence or a track's number, which is read over"] += len(values)
    if meaning.is_polygon:
        corners = values[:, 1 : len(values[0]) - meaning.has_confidence].reshape(len(values), -1, 2)
        low, high = corners.min(axis=1), corners.max(axis=1)
        faces[:, 1:5] = np.concatenate([(low + high) / 2, high - low], axis=1)
        said["are polygons, of which the boxes around them are read"] += len(values)
        return faces
    if meaning.points != len(LANDMARK_NAMES):
        if meaning.points:
            said[f"have {meaning.points} points, not the five landmarks: read without landmarks"] += len(values)
        return faces
    each = meaning.values_a_point
    points = values[:, 5 : 5 + meaning.points * each].reshape(len(values), meaning.points, each)
    unlabelled = (points[..., 2] <= 0) if each == 3 else _unlabelled(points)
    places = np.where(unlabelled[..., None], values[:, None, 1:3], points[..., :2])  # the centre is always near
    far = ~_near(values[:, 1:5], places) & (values[:, 3:5] > 0).all(axis=1) & (each == 2 and not is_sure)
    if far.any():
        said["have landmarks far from their box, which are left out"] += int(far.sum())
    labelled = ~unlabelled & ~far[:, None]
    faces[:, 5:] = np.where(labelled[..., None], points[..., :2], -1.0).reshape(len(values), -1)
    return faces
