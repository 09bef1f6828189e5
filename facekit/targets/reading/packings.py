"""How a graph's numbers lie in its outputs: recognised by names where they are ours, by shapes, types and values where
they are others'. Each function looks for one way, and says how such arrays are read; none guesses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekit.ops.coders import DeltaCoder, SigmoidCoder
from facekit.ops.head import Head
from facekit.structures import Activated, Decoded

Arrays = Mapping[str, NDArray[Any]]
SizeHw = tuple[int, int]
Reader = Callable[[list[NDArray[Any]], SizeHw], Activated | Decoded]

NEAR_PRIORS = 0.9  # share of decoded boxes that lie at their priors; deltas read as boxes don't
WITHIN_CELLS = 0.9  # share of offsets that lie in their cell, with half a cell beside it


@dataclass(frozen=True)
class Packing:
    """One way that was found."""

    names: list[str]  # of the arrays, in the order that `read` takes them
    read: Reader
    is_ours: bool = False  # of all priors, from any number of pictures
    takes_raw: bool = False  # BGR pixels 0..255, as all graphs do that are ours or the Open Model Zoo's
    is_suppressed: bool = False  # by the graph itself, at thresholds of its own
    unsure: str = ""  # what shapes and values leave open, if anything


Find = Callable[[Arrays, SizeHw, Head], Packing | None]


def rows_of_levels(head: Head, size_hw: SizeHw) -> list[int]:
    """How many priors each level has."""
    cells = head.cells(size_hw)
    return [rows * columns * n for (rows, columns), n in zip(cells, head.priors_a_cell, strict=True)]


def all_float(arrays: Sequence[NDArray[Any]]) -> bool:
    """Whether runtimes gave float32."""
    return all(array.dtype == np.float32 for array in arrays)


def our_boxes(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """Ours, decoded: `boxes`, `scores`, `landmarks` by name."""
    if not {"boxes", "scores"} <= set(outputs):
        return None
    priors = sum(rows_of_levels(head, size_hw))
    names = ["boxes", "scores", *(["landmarks"] if "landmarks" in outputs else [])]
    shapes = [(1, priors, 4), (1, priors), (1, priors, 10)][: len(names)]
    fits = all(outputs[name].shape == shape for name, shape in zip(names, shapes, strict=True))
    if not fits or not all_float([outputs[name] for name in names]):
        return None
    return Packing(names, lambda arrays, _: Decoded(*arrays), is_ours=True, takes_raw=True)


def our_faces(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """Ours, suppressed in the graph: `boxes` (N, 4), `scores` (N,), `landmarks` (N, 10) by name."""
    names = ["boxes", "scores", *(["landmarks"] if "landmarks" in outputs else [])]
    if set(outputs) != set(names) or not all_float(list(outputs.values())):
        return None
    count = len(outputs["scores"])
    if [outputs[name].shape for name in names] != [(count, 4), (count,), (count, 10)][: len(names)]:
        return None

    def read(arrays: list[NDArray[Any]], _: SizeHw) -> Decoded:
        return Decoded(*(array[None] for array in arrays))

    return Packing(names, read, takes_raw=True, is_suppressed=True)


def our_levels(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """Ours, level by level: cls_S, obj_S, bbox_S, kps_S by name, the layout of cv2.FaceDetectorYN."""
    names = head.level_names
    if set(outputs) != set(names) or not all_float(list(outputs.values())):
        return None
    rows = rows_of_levels(head, size_hw)
    expected = [(1, count, columns) for columns in head.level_kinds.values() for count in rows]
    if [outputs[name].shape for name in names] != expected:
        return None
    return Packing(names, _level_reader(head, tuple(head.level_kinds)), is_ours=True, takes_raw=True)


def levels(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """One array a level and quantity under whatever names, with a batch's dimension or without: SCRFD's six or nine,
    YuNet's twelve. Class and objectness look alike there, and may: the score is their product."""
    rows, kinds = rows_of_levels(head, size_hw), head.level_kinds
    if not head.any_size or len(set(rows)) != len(rows) or not all_float(list(outputs.values())):
        return None
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, array in outputs.items():
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[0] != 1):
            return None
        by_shape.setdefault(array.shape[-2:], []).append(name)
    present = [kind for kind in kinds if kind != "kps" or head.has_objectness or (rows[0], kinds["kps"]) in by_shape]
    names = []
    for kind in present:
        for count in rows:
            found = by_shape.get((count, kinds[kind]))
            if not found:
                return None
            names.append(found.pop(0))
    if any(by_shape.values()):
        return None
    return Packing(names, _level_reader(head, tuple(present)))


def _level_reader(head: Head, kinds: tuple[str, ...]) -> Reader:
    count = len(head.strides)

    def read(arrays: list[NDArray[Any]], _: SizeHw) -> Activated:
        arrays = [array if array.ndim == 3 else array[None] for array in arrays]
        whole = [np.concatenate(arrays[first : first + count], axis=1) for first in range(0, len(arrays), count)]
        of_kind = dict(zip(kinds, whole, strict=True))
        objectness = of_kind["obj"][..., 0] if "obj" in of_kind else None
        return Activated(of_kind["cls"], of_kind["bbox"], objectness, of_kind.get("kps"))

    return read


def detection_output(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """The one (1, 1, N, 7) of a DetectionOutput, suppressed already: picture, label, score, corners in 0..1."""
    arrays = list(outputs.items())
    if len(arrays) != 1:
        return None
    name, array = arrays[0]
    if array.ndim != 4 or array.shape[:2] != (1, 1) or array.shape[3] != 7 or not all_float([array]):
        return None

    def read(arrays: list[NDArray[Any]], size_hw: SizeHw) -> Decoded:
        rows = arrays[0].reshape(-1, 7)  # picture -1 ends the list
        ended = np.minimum.accumulate(rows[:, 0]) < 0
        height, width = size_hw
        boxes_xyxy = rows[:, 3:] * np.array([width, height] * 2, dtype=np.float32)
        return Decoded(boxes_xyxy[None], np.where(ended, np.float32(0), rows[:, 2])[None])

    return Packing([name], read, takes_raw=True, is_suppressed=True)


def scored_boxes(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """Boxes in pixels with a score in their fifth column, suppressed already, beside labels."""
    arrays = list(outputs.items())
    boxes = [(name, array) for name, array in arrays if array.ndim == 2 and array.shape[1] == 5]
    labels = [array for _, array in arrays if array.ndim == 1 and array.dtype.kind in "iu"]
    if len(arrays) != 2 or len(boxes) != 1 or len(labels) != 1:
        return None
    name, rows = boxes[0]
    if not all_float([rows]) or len(rows) != len(labels[0]):
        return None

    def read(arrays: list[NDArray[Any]], _: SizeHw) -> Decoded:
        return Decoded(arrays[0][None, :, :4], arrays[0][None, :, 4])

    return Packing([name], read, takes_raw=True, is_suppressed=True)


def _columns(outputs: Arrays, *columns: int) -> list[str] | None:
    """The names of float arrays of these columns, (A, C) or (1, A, C), of one A; None where they are other ones."""
    shapes = {name: array.shape for name, array in outputs.items()}
    if not all_float(list(outputs.values())) or any(
        len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1) for shape in shapes.values()
    ):
        return None
    by_columns = {shape[-1]: name for name, shape in shapes.items()}
    if len(shapes) != len(columns) or set(by_columns) != set(columns) or len({s[-2] for s in shapes.values()}) != 1:
        return None
    return [by_columns[count] for count in columns]


def fractions(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """Two classes, and boxes decoded to fractions of the picture's sides (Ultra-Light)."""
    names = _columns(outputs, 4, 2)
    priors = head.priors(size_hw)
    if names is None or head.any_size or outputs[names[0]].shape[-2] != len(priors.cxcywh):
        return None
    height, width = size_hw
    boxes_xyxy = outputs[names[0]].reshape(-1, 4) * np.array([width, height] * 2, dtype=np.float32)
    apart = np.abs((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 - priors.cxcywh[:, :2])
    if np.mean((apart <= priors.cxcywh[:, 2:]).all(axis=1)) < NEAR_PRIORS:
        return None

    def read(arrays: list[NDArray[Any]], size_hw: SizeHw) -> Decoded:
        height, width = size_hw
        boxes, scores = (_batched(array) for array in arrays)
        return Decoded(boxes * np.array([width, height] * 2, dtype=np.float32), scores[..., head.face_column])

    return Packing(names, read)


def deltas(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """Two classes, deltas of boxes, and of landmarks if any, each of all levels in one array: RetinaFace, Ultra-Light
    without its post-processing. Logits get their softmax."""
    names = _columns(outputs, 4, 2, 10) if len(outputs) == 3 else _columns(outputs, 4, 2)
    if not isinstance(head.coder, DeltaCoder) or head.scoring != "softmax" or head.has_objectness or names is None:
        return None
    if outputs[names[0]].shape[-2] != sum(rows_of_levels(head, size_hw)) or (len(names) == 3) != head.has_landmarks:
        return None
    if _are_decoded(outputs[names[0]].reshape(-1, 4), size_hw, head):
        return None
    as_probabilities = _softmax_of(outputs[names[1]])

    def read(arrays: list[NDArray[Any]], _: SizeHw) -> Activated:
        boxes, classes, *points = (_batched(array) for array in arrays)
        return Activated(as_probabilities(classes), boxes, None, points[0] if points else None)

    return Packing(names, read)


def _are_decoded(boxes: NDArray[Any], size_hw: SizeHw, head: Head) -> bool:
    """Whether (A, 4) numbers are boxes already, which lie at their priors, be they corners or centre and size, x or y
    first, in fractions or pixels. Deltas, read so, don't."""
    priors = head.priors(size_hw).cxcywh
    scales_xy = (np.array([size_hw[1], size_hw[0]], np.float32), np.ones(2, np.float32))
    for centres in ((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, :2]):
        for centres_xy in (centres, centres[:, ::-1]):
            for scale_xy in scales_xy:
                apart = np.abs(centres_xy * scale_xy - priors[:, :2])
                if np.mean((apart <= priors[:, 2:]).all(axis=1)) >= NEAR_PRIORS:
                    return True
    return False


def deltas_and_overlaps(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """Deltas of boxes and landmarks in 14 columns, two classes, a predicted IoU: OpenCV's YuNet of 2022."""
    names = _columns(outputs, 14, 2, 1)
    if names is None or outputs[names[0]].shape[-2] != sum(rows_of_levels(head, size_hw)):
        return None
    as_probabilities = _softmax_of(outputs[names[1]])

    def read(arrays: list[NDArray[Any]], _: SizeHw) -> Activated:
        places, classes, overlaps = (_batched(array) for array in arrays)
        objectness = np.clip(overlaps[..., 0], 0, 1)  # a regression: it may leave its range
        return Activated(as_probabilities(classes), places[..., :4], objectness, places[..., 4:])

    return Packing(names, read)


def anchor_maps(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """YOLO5Face's maps before the sigmoid, (1, priors, H, W, 16) or (1, 16 priors, H, W) a level: box, objectness, five
    points, class."""
    if not isinstance(head.coder, SigmoidCoder) or not all_float(list(outputs.values())):
        return None
    cells, counts = head.cells(size_hw), head.priors_a_cell
    by_shape = {array.shape: name for name, array in outputs.items()}
    for kind in ("five", "four"):
        shapes = [
            (1, n, rows, columns, 16) if kind == "five" else (1, 16 * n, rows, columns)
            for (rows, columns), n in zip(cells, counts, strict=True)
        ]
        if len(outputs) == len(shapes) and set(by_shape) == set(shapes):
            return Packing([by_shape[shape] for shape in shapes], _read_anchor_maps)
    return None


def _read_anchor_maps(arrays: list[NDArray[Any]], _: SizeHw) -> Activated:
    rows = []
    for array in arrays:
        by_prior = array.reshape(len(array), -1, 16, *array.shape[2:]) if array.ndim == 4 else array
        order = (0, 3, 4, 1, 2) if array.ndim == 4 else (0, 2, 3, 1, 4)
        rows.append(by_prior.transpose(order).reshape(len(array), -1, 16))
    whole = np.concatenate(rows, axis=1)
    with np.errstate(over="ignore"):
        sure = 1 / (1 + np.exp(-whole[..., [4, 15]]))
    return Activated(sure[..., 1:], whole[..., :4], sure[..., 0], whole[..., 5:15])


def anchor_boxes(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """The same decoded, (1, A, 16): centre and size in pixels, objectness, five points in pixels, class."""
    arrays = list(outputs.items())
    priors = sum(rows_of_levels(head, size_hw))
    if len(arrays) != 1 or arrays[0][1].shape != (1, priors, 16) or not all_float([arrays[0][1]]):
        return None
    name, array = arrays[0]
    points = array[0, :, 5:15]
    if np.mean((points >= 0) & (points <= 1)) > 0.5:  # eleven classes of a YOLO, which is no face detector's
        return None

    def read(arrays: list[NDArray[Any]], _: SizeHw) -> Decoded:
        rows = arrays[0]
        centre, half = rows[..., :2], rows[..., 2:4] / 2
        boxes_xyxy = np.concatenate([centre - half, centre + half], axis=-1)
        return Decoded(boxes_xyxy, rows[..., 4] * rows[..., 15], rows[..., 5:15])

    return Packing([name], read)


def centre_maps(outputs: Arrays, size_hw: SizeHw, head: Head) -> Packing | None:
    """CenterFace's (1, C, H/4, W/4): heat, logarithms of height and width, offsets y and x, points y and x from the
    box's corner in its sizes. Size and offset look alike; offsets lie in their cells, which sizes don't."""
    (rows, columns), *others = head.cells(size_hw)
    by_channels: dict[int, list[str]] = {}
    for name, array in outputs.items():
        if array.ndim != 4 or array.shape[0] != 1 or array.shape[2:] != (rows, columns):
            return None
        by_channels.setdefault(array.shape[1], []).append(name)
    counts = {channels: len(names) for channels, names in by_channels.items()}
    if others or counts != {1: 1, 2: 2, 10: 1} or not all_float(list(outputs.values())):
        return None
    first, second = by_channels[2]
    is_offset = [_lies_in_cells(outputs[name]) for name in (first, second)]
    sizes, offsets = (second, first) if is_offset == [True, False] else (first, second)  # as published: sizes first
    unsure = "" if is_offset.count(True) == 1 else "which of its two (1, 2, H, W) outputs is the size"
    return Packing([*by_channels[1], sizes, offsets, *by_channels[10]], _read_centre_maps, unsure=unsure)


def _lies_in_cells(array: NDArray[Any]) -> bool:
    return bool(np.mean((array >= -0.5) & (array <= 1.5)) >= WITHIN_CELLS)


def _read_centre_maps(arrays: list[NDArray[Any]], _: SizeHw) -> Activated:
    heat, sizes, offsets, points = (array.reshape(*array.shape[:2], -1).transpose(0, 2, 1) for array in arrays)
    boxes = np.concatenate([offsets[..., ::-1], sizes[..., ::-1]], axis=-1)  # x before y
    # From the corner in sizes of the box -> from the prior's centre in sizes of the prior, as the coder has it.
    points_xy = points.reshape(*points.shape[:2], 5, 2)[..., ::-1]
    with np.errstate(over="ignore", invalid="ignore"):
        in_priors = boxes[..., None, :2] + (points_xy - 0.5) * np.exp(boxes[..., None, 2:])
    return Activated(heat, boxes, None, in_priors.reshape(points.shape))


def _batched(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.ndim == 3 else array[None]


def _softmax_of(classes: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What makes probabilities of a graph's two classes: nothing where their sum is one."""
    if np.abs(classes.sum(axis=-1) - 1).max(initial=0) < 1e-3 and classes.min(initial=0) >= 0:
        return lambda array: array

    def softmax(array: NDArray[Any]) -> NDArray[Any]:
        raised = np.exp(array - array.max(axis=-1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=-1, keepdims=True))

    return softmax
