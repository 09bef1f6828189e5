"""WIDER FACE easy, medium and hard: the official protocol (Yang et al., CVPR 2016, section 5; tool `eval_tools`)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facekit.base.extras import optional_packages
from facekit.base.reading import shown
from facekit.errors import FacekitError, Loss
from facekit.labels.picture_labels import WIDER_ATTRIBUTES
from facekit.metrics.curves import area_under_envelope
from facekit.metrics.overlaps import intersection_areas, ratio_of
from facekit.results.wider import checked_xywhs

SUBSETS = ("easy", "medium", "hard")
FACES_FILE = "wider_face_val.mat"
ATTRIBUTE_LISTS = tuple(f"{attribute}_label_list" for attribute in WIDER_ATTRIBUTES)
SUBSET_FILES = {subset: f"wider_{subset}_val.mat" for subset in SUBSETS}

VALIDATION_PICTURES, VALIDATION_FACES = 3226, 39708
# SHA-256 of the names EVENT/NAME of the validation pictures, sorted, a line each.
VALIDATION_SHA256 = "a4dd60fa56066252505f48d1aeaf0775804c9b7814f4216ce7a78907d216b6d5"
VALIDATION_SLACK = 0.01  # of the faces: readers leave out boxes without area

IOU_THRESHOLD = 0.5
THRESHOLDS = 1 - np.arange(1, 1001) / 1000  # of the normalised score, from 0.999 down to 0


@dataclass(frozen=True)
class WiderGroundTruth:
    """All faces of the validation pictures, and which of them count in which subset."""

    names: tuple[str, ...]  # "EVENT/NAME" without .jpg
    boxes_xywh: tuple[NDArray[np.float64], ...]  # (N, 4) a picture, pixels; a few annotated sizes are negative
    counting: Mapping[str, tuple[NDArray[np.bool_], ...]]  # easy, medium, hard: (N,) a picture
    # (N, 6) a picture in the order of WIDER_ATTRIBUTES; None where wider_face_val.mat carries no such lists
    attributes: tuple[NDArray[np.int8], ...] | None = None

    def counts(self, subset: str) -> NDArray[np.bool_]:
        """(F,) which faces of all pictures, in one row, count in easy, medium or hard."""
        return np.concatenate([np.empty(0, dtype=np.bool_), *self.counting[subset]])

    def losses(self) -> list[Loss]:
        """The subsets in which no face counts."""
        empty = [subset for subset in SUBSETS if not self.counts(subset).any()]
        return [Loss(SUBSET_FILES[subset], f"no face counts: the AP of {subset} has no value") for subset in empty]


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one subset at THRESHOLDS, strictest first."""

    precision: NDArray[np.float64]  # (1000,) in 0..1; 0 where nothing was proposed
    recall: NDArray[np.float64]  # (1000,) in 0..1, never falling; 0 if no face counts
    faces: int  # that count

    @property
    def ap(self) -> float:
        """Area under the envelope of the curve, 0..1; NaN if no face counts."""
        if self.faces == 0:
            return math.nan
        return area_under_envelope(self.recall, self.precision)


@dataclass(frozen=True)
class Matches:
    """The P predictions of all pictures with faces in one row, and what they hit; the same for every subset."""

    rank: NDArray[np.int64]  # (P,) index of the first of THRESHOLDS that the normalised score reaches
    picture: NDArray[np.int64]  # (P,) index into the ground truth's pictures
    face: NDArray[np.int64]  # (P,) index into the faces of all pictures, -1 for none
    is_first: NDArray[np.bool_]  # (P,) the best-scored prediction of its face

    def take(self, keep: NDArray[np.bool_]) -> Matches:
        """Only the predictions where keep (P,) is true."""
        return Matches(self.rank[keep], self.picture[keep], self.face[keep], self.is_first[keep])


def is_validation_set(names: Iterable[str], faces: int) -> bool:
    """Whether pictures of these names, EVENT/NAME without .jpg, with so many faces are the whole WIDER FACE validation
    set, which published figures are of; not a part of it, and not one with other labels."""
    digest = hashlib.sha256("\n".join(sorted(names)).encode(errors="surrogatepass")).hexdigest()
    return digest == VALIDATION_SHA256 and abs(faces - VALIDATION_FACES) <= VALIDATION_SLACK * VALIDATION_FACES


def find_wider_ground_truth(folder: Path) -> Path:
    """The folder that holds the four official .mat files: `folder` itself, its `ground_truth`, its
    `eval_tools/ground_truth` or its `labelv2/val/gt`. Raises FacekitError with the missing files where none does."""
    below = ("", "ground_truth", "eval_tools/ground_truth", "labelv2/val/gt")
    places = tuple(folder / name for name in below)
    missing = [
        [name for name in (FACES_FILE, *SUBSET_FILES.values()) if not (place / name).is_file()] for place in places
    ]
    fewest = min(range(len(places)), key=lambda index: len(missing[index]))
    if missing[fewest]:
        raise FacekitError(
            f"WIDER FACE ground truth: {', '.join(missing[fewest])} missing in {places[fewest]}; "
            f"looked in {', '.join(map(str, places))}. "
            "Unpack the official eval_tools.zip and give its ground_truth folder as `wider_gt`."
        )
    return places[fewest]


def read_wider_ground_truth(folder: Path) -> WiderGroundTruth:
    """Reads the four official .mat files from wherever `find_wider_ground_truth` finds them.

    Raises:
        FacekitError: a file is missing, damaged, or doesn't agree with wider_face_val.mat.
    """
    folder = find_wider_ground_truth(folder)
    path = folder / FACES_FILE
    load_mat = _mat_reader()
    with _explained(path):
        content = load_mat(path, variable_names=["event_list", "file_list", "face_bbx_list", *ATTRIBUTE_LISTS])
        names = _names(content)
        boxes = [np.asarray(cell, dtype=np.float64).reshape(-1, 4) for cell in _pictures(content["face_bbx_list"])]
        if len(boxes) != len(names):
            raise ValueError(f"boxes of {len(boxes)} pictures, names of {len(names)}")
        attributes = _read_attributes(content, [len(faces) for faces in boxes])
    counting = {
        subset: _read_counting(folder / file, names, [len(faces) for faces in boxes])
        for subset, file in SUBSET_FILES.items()
    }
    return WiderGroundTruth(tuple(names), tuple(boxes), counting, attributes)


def wider_ap(predictions: Mapping[str, NDArray[np.floating]], ground_truth: WiderGroundTruth) -> dict[str, float]:
    """Average precision, 0..1, for the keys easy, medium and hard; NaN if no face counts. See `wider_curves`."""
    return {subset: curve.ap for subset, curve in wider_curves(predictions, ground_truth).items()}


def wider_curves(predictions: Mapping[str, NDArray[np.floating]], ground_truth: WiderGroundTruth) -> dict[str, Curve]:
    """Precision and recall of a run, for the keys easy, medium and hard.

    Args:
        predictions: "EVENT/NAME" to (N, 5) x, y, w, h, score in the picture's pixels, in any order; equal scores
            are taken in the order given. Scores are min-max normalised over every row of the mapping, those of
            pictures that the ground truth doesn't have too; those pictures are otherwise left out.
        ground_truth: as read from the official files.

    Raises:
        FacekitError: a picture has no entry, or rows with values that are not finite or with negative sizes.
        ValueError: an entry is not (N, 5).
    """
    matches = match_predictions(predictions, ground_truth)
    return {subset: curve_of(matches, ground_truth.counts(subset)) for subset in SUBSETS}


def match_predictions(predictions: Mapping[str, NDArray[np.floating]], ground_truth: WiderGroundTruth) -> Matches:
    """What every prediction hits, whichever faces count: the costly part, to be done once for all subsets. Arguments
    and errors as in `wider_curves`."""
    missing = [name for name in ground_truth.names if name not in predictions]
    if missing and predictions and len(missing) == len(ground_truth.names):
        raise FacekitError(
            f"predictions: none is of a picture of the WIDER FACE ground truth: the first is called "
            f"{shown(min(predictions))}, there it is {missing[0]}. Call them EVENT/NAME, or give the ground truth of "
            f"your pictures."
        )
    if missing:
        raise FacekitError(
            f"predictions: {len(missing)} of the {len(ground_truth.names)} pictures of the WIDER FACE ground truth "
            f"have no entry: {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}. "
            "Run the detector on all of them; an empty entry says that nothing was found."
        )
    xywhs = {name: checked_xywhs(rows, name) for name, rows in predictions.items()}
    every_score = np.concatenate([np.empty(0), *(rows[:, 4] for rows in xywhs.values())])
    scores, faces, pictures = [np.empty(0)], [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    first_face = 0
    for index, (name, faces_xywh) in enumerate(zip(ground_truth.names, ground_truth.boxes_xywh, strict=True)):
        rows = xywhs[name]
        if len(faces_xywh):
            rows = rows[np.argsort(-rows[:, 4], kind="stable")]
            best, iou = _best_face(rows[:, :4], faces_xywh)
            scores.append(rows[:, 4])
            faces.append(np.where(iou >= IOU_THRESHOLD, best + first_face, -1))
            pictures.append(np.full(len(rows), index))
        first_face += len(faces_xywh)
    face = np.concatenate(faces)
    is_first = np.zeros(len(face), dtype=np.bool_)
    is_first[np.unique(face, return_index=True)[1]] = True
    rank = _ranks(_normalised(np.concatenate(scores), every_score))
    return Matches(rank, np.concatenate(pictures), face, is_first & (face >= 0))


def curve_of(matches: Matches, counts: NDArray[np.bool_]) -> Curve:
    """Precision and recall where only some faces count.

    Args:
        matches: what takes part; hits on faces that don't count are left out of the proposals here.
        counts: (F,) over the faces of all pictures, in the ground truth's order.
    """
    hits_counting = np.append(counts, False)[matches.face]  # the last for the face -1 of predictions that hit none
    proposals = _at_thresholds(matches.rank[hits_counting | (matches.face < 0)])
    hits = _at_thresholds(matches.rank[hits_counting & matches.is_first])
    precision = np.divide(hits, proposals, out=np.zeros(len(THRESHOLDS)), where=proposals > 0)
    faces = int(np.count_nonzero(counts))
    # No hits without faces that count, so 1 only keeps 0 / 0 away.
    return Curve(precision, hits / max(faces, 1), faces)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # scipy and the cells inside fail in too many ways to list
        raise FacekitError(
            f"{path}: can't be read as a WIDER FACE ground truth file ({type(error).__name__}: {error}). "
            "Unpack the official eval_tools.zip again and give its ground_truth folder as `wider_gt`."
        ) from error


def _mat_reader() -> Callable[..., dict[str, Any]]:
    """scipy's, looked for only by those who have such files."""
    with optional_packages():
        from scipy.io import loadmat
    return cast(Callable[..., dict[str, Any]], loadmat)


def _pictures(cells: NDArray[Any]) -> list[NDArray[Any]]:
    """MATLAB keeps a cell of pictures in a cell of events, both (n, 1)."""
    return [picture for event in cells.ravel() for picture in event.ravel()]


def _names(content: Mapping[str, Any]) -> list[str]:
    """EVENT/NAME of each picture that the file lists."""
    events = [event.item() for event in content["event_list"].ravel()]
    files = [event.ravel() for event in content["file_list"].ravel()]
    return [f"{event}/{cell.item()}" for event, cells in zip(events, files, strict=True) for cell in cells]


def _in_order(cells: list[NDArray[Any]], content: Mapping[str, Any], names: list[str]) -> list[NDArray[Any]]:
    """The cells of the pictures of these names, where the file lists its own: they may stand in another order."""
    if "event_list" not in content or "file_list" not in content:
        return cells
    by_name = dict(zip(_names(content), cells, strict=True))
    if (missing := next((name for name in names if name not in by_name), None)) is not None:
        raise ValueError(f"doesn't list {missing}, which {FACES_FILE} does")
    known = set(names)
    if (other := next((name for name in by_name if name not in known), None)) is not None:
        raise ValueError(f"lists {other}, which {FACES_FILE} doesn't")
    return [by_name[name] for name in names]


def _read_counting(path: Path, names: list[str], sizes: list[int]) -> tuple[NDArray[np.bool_], ...]:
    load_mat = _mat_reader()
    with _explained(path):
        content = load_mat(path, variable_names=["event_list", "file_list", "gt_list"])
        # One-based and of the smallest unsigned type that holds them, so widened before anything is subtracted.
        cells = [cell.ravel().astype(np.int64) - 1 for cell in _pictures(content["gt_list"])]
        cells = _in_order(cells, content, names)
        masks = []
        for name, indices, size in zip(names, cells, sizes, strict=True):
            if ((indices < 0) | (indices >= size)).any():
                raise ValueError(f"{name}: face {indices.max() + 1} of {size}")
            mask = np.zeros(size, dtype=np.bool_)
            mask[indices] = True
            masks.append(mask)
    return tuple(masks)


def _read_attributes(content: Mapping[str, Any], sizes: list[int]) -> tuple[NDArray[np.int8], ...] | None:
    if not all(name in content for name in ATTRIBUTE_LISTS):
        return None
    columns = [_pictures(content[name]) for name in ATTRIBUTE_LISTS]
    rows = zip(sizes, *columns, strict=True)
    return tuple(
        np.stack([column.ravel() for column in picture], axis=1).reshape(size, len(columns)).astype(np.int8)
        for size, *picture in rows
    )


def _best_face(
    boxes_xywh: NDArray[np.float64], faces_xywh: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index (N,) and IoU (N,) of each box's best face, the first of equals; widths and heights are one pixel more."""
    boxes_xyxy, faces_xyxy = (
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1) for xywh in (boxes_xywh, faces_xywh)
    )
    box_areas, face_areas = (np.prod(xyxy[:, 2:] - xyxy[:, :2] + 1, axis=1) for xyxy in (boxes_xyxy, faces_xyxy))
    shared = intersection_areas(boxes_xyxy, faces_xyxy, pixel=1.0)
    iou = ratio_of(shared, box_areas[:, None] + face_areas - shared)
    best = iou.argmax(axis=1)
    return best, iou[np.arange(len(iou)), best]


def _normalised(scores: NDArray[np.float64], every_score: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(every_score) == 0:
        return scores
    low, high = every_score.min(), every_score.max()
    # A run with a single score has one point on its curve, whatever the threshold.
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """(P,) index of the first of THRESHOLDS that each score reaches; the last of them, 0, is reached by all."""
    return len(THRESHOLDS) - np.searchsorted(THRESHOLDS[::-1], scores, side="right")


def _at_thresholds(rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """(1000,) how many of the predictions reach each of THRESHOLDS."""
    return np.cumsum(np.bincount(rank, minlength=len(THRESHOLDS)))
