"""What exported graphs take and give, whichever runtime runs them: recognised by names where they are ours, by shapes
and types where they are others', never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.ops.head import Head, declared_head
from facekit.structures import Activated, Decoded
from facekit.template import InputSettings, Template

Arrays = Mapping[str, NDArray[Any]]
MAX_SIDE = 16384  # pixels of an input of fixed size


def planes(images_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, H, W, 3) BGR uint8 -> (B, 3, H, W) float32, the pixels as they are."""
    batch, height, width, _ = images_bgr.shape
    blob = np.empty((batch, 3, height, width), dtype=np.uint8)
    for image_bgr, into in zip(images_bgr, blob, strict=True):
        cv2.split(image_bgr, tuple(into))  # half the time of NumPy's transpose
    return blob.astype(np.float32)


class GraphInput:
    """The one input of a graph: (batch, 3, height, width) float32."""

    def __init__(self, shapes: Sequence[Sequence[int | None]], types: Sequence[str], source: str) -> None:
        """`shapes`: of each input, None where a side is free; `types`: "float32" and the like."""
        expected = "one input, float32 (batch, 3, height, width)"
        text = ", ".join(f"{kind} {tuple('?' if side is None else side for side in shape)}" for kind, shape in
                         zip(types, shapes, strict=True)) or "none"  # fmt: skip
        refusal = FacekitError(f"{source}: a detector has {expected}; this graph has {text}.")
        if len(shapes) != 1 or len(shapes[0]) != 4 or types[0] != "float32" or shapes[0][1] not in (3, None):
            raise refusal
        batch, _, *sides = shapes[0]
        fixed = [side for side in sides if side is not None]
        if batch not in (None, 1) or len(fixed) == 1 or any(not 1 <= side <= MAX_SIDE for side in fixed):
            raise refusal
        self.fixed_batch = batch
        self.fixed_size_hw = (fixed[0], fixed[1]) if fixed else None


class GraphOutputs:
    """Turns a graph's arrays into Activated or Decoded.

    Ours, known by their names: `boxes`, `scores` (and `landmarks`), decoded in the graph; `cls_S`, `obj_S`, `bbox_S`,
    `kps_S` a stride S, the layout of cv2.FaceDetectorYN. Others': the one DetectionOutput of the Open Model Zoo;
    its boxes with scores in a fifth column beside labels; levels under other names, told apart by their rows and
    columns; Ultra-Light's scores and boxes in fractions of the picture.
    """

    def __init__(self, template: Template, source: str) -> None:
        self.head = declared_head(template.model)
        self.template = template
        self.source = source
        self.names: list[str] = []
        self.read: Callable[[list[NDArray[Any]], tuple[int, int]], Activated | Decoded] | None = None
        self.is_ours = True

    def example_size(self, fixed_size_hw: tuple[int, int] | None) -> tuple[int, int]:
        """The size of the picture to recognise a graph with."""
        if fixed_size_hw is not None:
            return fixed_size_hw
        if not self.head.any_size:
            return self.template.input.size_hw
        coarsest = self.head.strides[-1]
        return 2 * coarsest, 3 * coarsest

    def recognise(self, outputs: Arrays, size_hw: tuple[int, int]) -> None:
        """Looks at what a picture of that size gave. Raises FacekitError for what no detector of the template's gives,
        with what was expected and got."""
        got = "; ".join(f"{name} {array.dtype}{array.shape}" for name, array in outputs.items())
        for find in (self._find_ours, self._find_boxes_in_fractions, self._find_rows, self._find_levels):
            if find(outputs, size_hw):
                return
        boxes, scores = outputs.get("boxes"), outputs.get("scores")
        if boxes is not None and scores is not None:
            wanted = "boxes (batch, priors, 4) and scores (batch, priors), float32"
        else:
            wanted = f"{', '.join(self.head.level_names)} or boxes and scores, float32"
        raise FacekitError(
            f"{self.source}: its outputs are none that {self.template.name} exports: expected {wanted}; got {got}. "
            f"Use the template that the file was made with, or export the weights again."
        )

    def __call__(self, outputs: Arrays, size_hw: tuple[int, int]) -> Activated | Decoded:
        """Arrays by output name, for an input of size_hw pixels."""
        assert self.read is not None, "recognise comes first"
        return self.read([outputs[name] for name in self.names], size_hw)

    def _take(self, names: list[str], read: Callable[[list[NDArray[Any]], tuple[int, int]], Activated | Decoded],
              is_ours: bool) -> bool:  # fmt: skip
        self.names, self.read, self.is_ours = names, read, is_ours
        return True

    def _find_ours(self, outputs: Arrays, size_hw: tuple[int, int]) -> bool:
        priors = sum(rows * columns * n for (rows, columns), n in zip(self.head.cells(size_hw),
                     self.head.priors_a_cell, strict=True))  # fmt: skip
        if {"boxes", "scores"} <= set(outputs):
            names = ["boxes", "scores", *(["landmarks"] if "landmarks" in outputs else [])]
            shapes = [(1, priors, 4), (1, priors), (1, priors, 10)][: len(names)]
            fits = all(outputs[name].shape == shape for name, shape in zip(names, shapes, strict=True))
            if fits and _all_float([outputs[name] for name in names]):
                return self._take(names, self._read_decoded, is_ours=True)
            return False
        names = self.head.level_names
        if set(outputs) != set(names) or not _all_float(list(outputs.values())):
            return False
        kinds = list(self.head.level_kinds.values())
        rows = self._rows_of_levels(size_hw)
        expected = [(1, count, columns) for columns in kinds for count in rows]
        if [outputs[name].shape for name in names] != expected:
            return False
        return self._take(names, self._read_levels(tuple(self.head.level_kinds)), is_ours=True)

    def _rows_of_levels(self, size_hw: tuple[int, int]) -> list[int]:
        cells = self.head.cells(size_hw)
        return [rows * columns * n for (rows, columns), n in zip(cells, self.head.priors_a_cell, strict=True)]

    def _find_levels(self, outputs: Arrays, size_hw: tuple[int, int]) -> bool:
        """Levels under others' names, without a batch's dimension or with: SCRFD's six and nine outputs."""
        if not self.head.any_size or self.head.has_objectness or not _all_float(list(outputs.values())):
            return False  # class and objectness look alike: only their names tell them apart
        rows, kinds = self._rows_of_levels(size_hw), self.head.level_kinds
        if len(set(rows)) != len(rows):
            return False
        by_shape = {}
        for name, array in outputs.items():
            if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[0] != 1):
                return False
            by_shape[array.shape[-2:]] = name
        if len(by_shape) != len(outputs):
            return False
        present = [kind for kind in kinds if kind != "kps" or (rows[0], kinds["kps"]) in by_shape]
        wanted = [(count, kinds[kind]) for kind in present for count in rows]
        if set(by_shape) != set(wanted):
            return False
        return self._take([by_shape[shape] for shape in wanted], self._read_levels(tuple(present)), is_ours=False)

    def _find_rows(self, outputs: Arrays, size_hw: tuple[int, int]) -> bool:
        """What the Open Model Zoo's graphs have suppressed themselves."""
        arrays = list(outputs.items())
        if len(arrays) == 1 and _is_detection_output(arrays[0][1]):
            return self._take([arrays[0][0]], self._read_detection_output, is_ours=True)
        boxes = [(name, array) for name, array in arrays if array.ndim == 2 and array.shape[1] == 5]
        labels = [(name, array) for name, array in arrays if array.ndim == 1 and array.dtype.kind in "iu"]
        if len(arrays) != 2 or len(boxes) != 1 or len(labels) != 1:
            return False
        name, rows = boxes[0]
        if not _all_float([rows]) or len(rows) != len(labels[0][1]):
            return False
        return self._take([name], self._read_scored_boxes, is_ours=True)

    def _find_boxes_in_fractions(self, outputs: Arrays, size_hw: tuple[int, int]) -> bool:
        priors = sum(self._rows_of_levels(size_hw))
        by_shape = {array.shape: name for name, array in outputs.items()}
        if self.head.any_size or len(outputs) != 2 or not _all_float(list(outputs.values())):
            return False
        if set(by_shape) != {(1, priors, 2), (1, priors, 4)}:
            return False
        names = [by_shape[1, priors, 4], by_shape[1, priors, 2]]
        return self._take(names, self._read_fractions, is_ours=False)

    def _read_decoded(self, arrays: list[NDArray[Any]], size_hw: tuple[int, int]) -> Decoded:
        return Decoded(*arrays)

    def _read_levels(
        self, kinds: tuple[str, ...]
    ) -> Callable[[list[NDArray[Any]], tuple[int, int]], Activated | Decoded]:
        levels = len(self.head.strides)

        def read(arrays: list[NDArray[Any]], size_hw: tuple[int, int]) -> Activated:
            arrays = [array if array.ndim == 3 else array[None] for array in arrays]
            whole = [np.concatenate(arrays[first : first + levels], axis=1) for first in range(0, len(arrays), levels)]
            of_kind = dict(zip(kinds, whole, strict=True))
            objectness = of_kind["obj"][..., 0] if "obj" in of_kind else None
            return Activated(of_kind["cls"], of_kind["bbox"], objectness, of_kind.get("kps"))

        return read

    def _read_detection_output(self, arrays: list[NDArray[Any]], size_hw: tuple[int, int]) -> Decoded:
        rows = arrays[0].reshape(-1, 7)  # picture, label, score, x1, y1, x2, y2 in 0..1; picture -1 ends the list
        ended = np.minimum.accumulate(rows[:, 0]) < 0
        height, width = size_hw
        boxes_xyxy = rows[:, 3:] * np.array([width, height] * 2, dtype=np.float32)
        return Decoded(boxes_xyxy[None], np.where(ended, np.float32(0), rows[:, 2])[None])

    def _read_scored_boxes(self, arrays: list[NDArray[Any]], size_hw: tuple[int, int]) -> Decoded:
        return Decoded(arrays[0][None, :, :4], arrays[0][None, :, 4])

    def _read_fractions(self, arrays: list[NDArray[Any]], size_hw: tuple[int, int]) -> Decoded:
        height, width = size_hw
        boxes, scores = arrays
        return Decoded(boxes * np.array([width, height] * 2, dtype=np.float32), scores[..., self.head.face_column])

    def feed(self, images_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the graph is fed: raw pixels where it is ours or the Open Model Zoo's, which normalise inside; others'
        leave that to the caller."""
        blob = planes(images_bgr)
        return blob if self.is_ours else normalised(blob, self.template.input)


def normalised(blob_bgr: NDArray[np.float32], settings: InputSettings) -> NDArray[np.float32]:
    """(B, 3, H, W) BGR pixels -> (pixel - mean) / std in the template's channel order."""
    blob = blob_bgr[:, ::-1] if settings.colour_order == "rgb" else blob_bgr
    mean, std = (np.array(values, dtype=np.float32).reshape(1, 3, 1, 1) for values in (settings.mean, settings.std))
    return np.ascontiguousarray((blob - mean) / std)


def _is_detection_output(array: NDArray[Any]) -> bool:
    return array.ndim == 4 and array.shape[:2] == (1, 1) and array.shape[3] == 7 and _all_float([array])


def _all_float(arrays: Sequence[NDArray[Any]]) -> bool:
    return all(array.dtype == np.float32 for array in arrays)


def check_size(fixed_size_hw: tuple[int, int] | None, template: Template, source: str) -> None:
    """Raises FacekitError for a graph of a fixed size whose priors the template would misread: those that are fed one
    size alone have priors for it."""
    rule, wanted = template.evaluation, template.input.size_hw
    if fixed_size_hw is None or fixed_size_hw == wanted or not rule.feeds_one_size:
        return
    head: Head = declared_head(template.model)
    if head.any_size and rule.resize == "letterbox":
        return  # fitted into whatever size the graph has
    raise FacekitError(
        f"{source}: takes {fixed_size_hw[1]}x{fixed_size_hw[0]} pictures, template {template.name!r} feeds "
        f"{wanted[1]}x{wanted[0]}. Use the template that it was exported with."
    )
