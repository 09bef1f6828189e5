"""A look at predictions that score badly: are their four numbers another layout of boxes than x, y, w, h?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from facekit.metrics.matching import IOU_THRESHOLD
from facekit.metrics.wider import WiderGroundTruth, wider_ap
from facekit.ops.boxes import area, pairwise_iou

Boxes = NDArray[np.float64]
PICTURES_TRIED = 200  # evenly over the set; a layout shows in fewer
BOXES_TRIED = 100  # best-scored of each picture
UNIT_LIMIT, UNIT_SHARE = 1.5, 0.99  # boxes of 0..1 may reach a little outside, and a few be broken
FACTOR_STEP = 0.04  # of a factor's logarithm: faces are found by boxes that are so much too large
LEAST_GAIN = 0.1  # of the faces, and
LEAST_RATIO = 2.0  # how far another layout must find more of them
LEAST_FOUND, LEAST_PICTURES = 0.05, 10  # of the faces, in so many pictures or more, or something else is wrong
GOOD_AP, BACKWARDS_GAIN = 0.8, 0.1  # above which AP scores rank rightly; by which it is better the other way round


def _xywh(rows: Boxes) -> Boxes:
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)


def _centred(rows: Boxes) -> Boxes:
    return np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)


# What other detectors write, as functions from rows of five numbers to corners x1, y1, x2, y2.
LAYOUTS: dict[str, Callable[[Boxes], Boxes]] = {
    "x, y, w, h": _xywh,
    "corners x1, y1, x2, y2": lambda rows: rows[:, :4],
    "centre x, centre y, w, h": _centred,
    "corners y1, x1, y2, x2": lambda rows: rows[:, [1, 0, 3, 2]],
    "y, x, h, w": lambda rows: _xywh(rows[:, [1, 0, 3, 2]]),
    "corners x1, x2, y1, y2": lambda rows: rows[:, [0, 2, 1, 3]],
    "score first, then x, y, w, h": lambda rows: _xywh(rows[:, 1:5]),
    "score first, then corners x1, y1, x2, y2": lambda rows: rows[:, 1:5],
}
GIVEN = "x, y, w, h"


def likely_layout(predictions: Mapping[str, Boxes], ground_truth: WiderGroundTruth) -> str | None:
    """What the numbers seem to be, in words that end a sentence; None where x, y, w, h in pixels is as good as any.

    They are taken for shares of the picture where all lie in 0..1, and for another layout, or for pixels of smaller or
    larger pictures, where that finds at least twice as many faces of the ground truth (IoU 0.5), and a tenth of all
    more. Where none does and hardly a face is found, the words say that alone.

    Args:
        predictions: "EVENT/NAME" to (N, 5) rows, as `results.wider.read_predictions` gives them.
    """
    known = [rows for name in ground_truth.names if len(rows := predictions.get(name, np.empty((0, 5))))]
    if not known:
        return None
    every_row = np.concatenate(known)
    if np.quantile(every_row[:, :4].max(axis=1), UNIT_SHARE) <= UNIT_LIMIT:
        return "shares of the picture's width and height, 0..1: multiply x and w by its width, y and h by its height"
    pairs = _sample(predictions, ground_truth)
    factor = _likely_factor(pairs)
    scaled = f"x, y, w, h in pixels of pictures at {100 / factor:.0f} % of their size, not scaled back"
    layouts = LAYOUTS | {scaled: lambda rows: factor * _xywh(rows)}
    found = {name: _share_found(layout, pairs) for name, layout in layouts.items()}
    best = max(found, key=lambda name: found[name])
    if found[best] < found[GIVEN] + LEAST_GAIN or found[best] < LEAST_RATIO * found[GIVEN]:
        if found[GIVEN] < LEAST_FOUND and len(pairs) >= LEAST_PICTURES:
            return (
                f"something else (in per cent, or of pictures that were squeezed, padded or mirrored, or of other "
                f"pictures): they find {100 * found[GIVEN]:.0f} % of the faces in {len(pairs)} pictures"
            )
        return None
    return (
        f"{best}: read so, they find {100 * found[best]:.0f} % of the faces in {len(pairs)} pictures, and as {GIVEN} "
        f"{100 * found[GIVEN]:.0f} %"
    )


def doubtful_scores(predictions: Mapping[str, Boxes], ground_truth: WiderGroundTruth, best_ap: float) -> str | None:
    """Why the scores rank nothing, or backwards, as distances do; None where neither seems so.

    best_ap: of the subsets, as the scores are. The other order is tried only where that isn't good.
    """
    every_row = np.concatenate([np.empty((0, 5)), *predictions.values()])
    if len(every_row) > 1 and np.ptp(every_row[:, 4]) == 0:
        return f"all {len(every_row)} scores are {every_row[0, 4]:g}, so no box ranks before another"
    if not best_ap < GOOD_AP:  # NaN too
        return None
    turned = {name: np.concatenate([rows[:, :4], -rows[:, 4:]], axis=1) for name, rows in predictions.items()}
    best_turned = max(wider_ap(turned, ground_truth).values())
    if not best_turned >= best_ap + BACKWARDS_GAIN:
        return None
    return (
        f"the scores seem to rank backwards, as distances do: negated, the best AP would be {100 * best_turned:.0f} %, "
        f"not {100 * best_ap:.0f} %"
    )


def _sample(predictions: Mapping[str, Boxes], ground_truth: WiderGroundTruth) -> list[tuple[Boxes, Boxes]]:
    """The best rows (N, 5) and the faces' corners (M, 4) of some pictures that have both."""
    names = zip(ground_truth.names, ground_truth.boxes_xywh, strict=True)
    both = [(predictions[name], faces) for name, faces in names if len(faces) and len(predictions.get(name, ()))]
    chosen = both[:: max(1, len(both) // PICTURES_TRIED)]
    return [(rows[np.argsort(-rows[:, 4], kind="stable")[:BOXES_TRIED]], _xywh(faces)) for rows, faces in chosen]


def _likely_factor(pairs: Sequence[tuple[Boxes, Boxes]]) -> float:
    """By which boxes x, y, w, h would have to be multiplied, if all by the same: what most pairs of a box and a face
    want whose sizes and places agree on it; 1 where none does."""
    wanted = [np.empty(0)]
    for rows, faces_xyxy in pairs:
        boxes_xyxy = _xywh(rows[(rows[:, 2:4] > 0).all(axis=1)])
        ratio = np.sqrt(area(faces_xyxy)[:, None] / area(boxes_xyxy))
        middle = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 * ratio[..., None]
        agree = (middle > faces_xyxy[:, None, :2]) & (middle < faces_xyxy[:, None, 2:])
        wanted.append(ratio[agree.all(axis=2)])
    logarithms = np.log(np.concatenate(wanted).clip(1e-3, 1e3))
    steps, counts = np.unique(np.round(logarithms / FACTOR_STEP), return_counts=True)
    if not len(steps):
        return 1.0
    near = np.abs(logarithms - steps[counts.argmax()] * FACTOR_STEP) < FACTOR_STEP
    return float(np.exp(np.median(logarithms[near])))


def _share_found(layout: Callable[[Boxes], Boxes], pairs: Sequence[tuple[Boxes, Boxes]]) -> float:
    """Of the faces, 0..1. No more than a picture has boxes count, or a crowd's small faces would hide the rest."""
    found = total = 0
    for rows, faces_xyxy in pairs:
        best = pairwise_iou(faces_xyxy, layout(rows)).max(axis=1, initial=0.0)
        found += int(np.count_nonzero(best >= IOU_THRESHOLD))
        total += min(len(faces_xyxy), len(rows))
    return found / total if total else 0.0
