"""The landmarks of a COCO json: five points by the names that the file's categories give them."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekit.labels.keypoints import (
    MAX_POINTS,
    as_seen,
    may_be_ours,
    order_by_names,
    say_nothing,
    say_taken_for_ours,
    warn_of_contradictions,
)
from facekit.labels.picture_labels import MAX_COORDINATE
from facekit.labels.values import as_number
from facekit.structures import LANDMARK_NAMES

log = logging.getLogger(__name__)

AS_SEEN = {"left_and_right": "as seen in the picture"}  # in the `info` of files that we write
UNLABELLED = [math.nan] * (2 * len(LANDMARK_NAMES))


class CocoPoints:
    """Reads `keypoints` of annotations; what is left out is counted by reason, and said once at the end."""

    def __init__(self, file: Path, info: Any, as_written: bool) -> None:
        self.file = file
        self._says_as_seen = isinstance(info, dict) and info.get("left_and_right") == AS_SEEN["left_and_right"]
        self._limit = math.inf if as_written else MAX_COORDINATE
        self._orders: dict[Any, tuple[int, list[int] | None]] = {}  # by category: how many points, which are ours
        self._named = False
        self._why_ours = ""  # the points of a category are taken to be in our order
        self._left_out: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def know_category(self, category_id: Any, names: Any) -> None:
        """The names of its points, if it has any; points that are but numbered, or counted, come in our order, and so
        do those of which nothing is known."""
        if not names or isinstance(names, int) or (isinstance(names, list) and say_nothing(names)):
            return
        if not isinstance(names, list):
            self._why_ours = "a category's keypoints are no list of names"
            return
        if order_by_names(names) is None and may_be_ours(names):
            self._why_ours = "the names in a category's keypoints aren't known"
            return
        self._named = True
        self._orders[category_id] = (len(names), order_by_names(names))

    def read(self, keypoints: Any, category_id: Any, where: str) -> list[float]:
        """x, y of the five; NaN where a point isn't labelled (v is 0), and of all where they can't be read."""
        if keypoints is None or keypoints == []:
            return UNLABELLED
        count, order = self._orders.get(category_id, (len(LANDMARK_NAMES), list(range(len(LANDMARK_NAMES)))))
        if order is None:
            return self._leave_out("with names other than the five landmarks'", where)
        if not isinstance(keypoints, list) or len(keypoints) not in (3 * count, 2 * count):
            size = len(keypoints) / 3 if isinstance(keypoints, list) else math.nan
            is_count = size.is_integer() and size <= MAX_POINTS
            what = f"{size:g} points a face, not {count}" if is_count else f"keypoints that are no x, y, v of {count}"
            return self._leave_out(what, where)
        values = [number for value in keypoints if (number := as_number(value)) is not None]
        if len(values) < len(keypoints) or not all(abs(value) <= self._limit for value in values):  # NaN too
            return self._leave_out("no finite numbers", where)
        step = len(values) // count
        points: list[float] = []
        for place in order:
            x, y, *visible = values[place * step : (place + 1) * step]
            is_labelled = visible[0] > 0 if visible else (x, y) not in ((0, 0), (-1, -1))
            points += (x, y) if is_labelled else (math.nan, math.nan)
        return points

    def finish(self, landmarks_xy: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """All faces' points, an array (N, 5, 2) a picture, with left and right as seen; says what was left out."""
        for reason, count in self._left_out.items():
            log.warning(
                "%s: %d faces are read without landmarks: %s (first: %s).", self.file, count, reason,
                self._first[reason],
            )  # fmt: skip
        whole = np.concatenate([np.empty((0, len(LANDMARK_NAMES), 2)), *landmarks_xy])
        if self._why_ours and np.isfinite(whole).any():
            say_taken_for_ours(self._why_ours, str(self.file))
        if self._named and not self._says_as_seen:
            whole = as_seen(whole, str(self.file))
        elif not self._named:
            warn_of_contradictions(whole, str(self.file))
        return np.split(whole, np.cumsum([len(points) for points in landmarks_xy])[:-1]) if landmarks_xy else []

    def _leave_out(self, reason: str, where: str) -> list[float]:
        self._left_out[reason] += 1
        self._first.setdefault(reason, where)
        return UNLABELLED
