"""What is wrong with a labelled set: pictures that can't be read, labels that can't be right, doubles, leaks.

Errors stop a training or make its figures wrong:
  missing-picture     labelled, but not on the disk
  unreadable-picture  no picture that can be decoded
  truncated-picture   the file's end is missing
  damaged-picture     a JPEG with foreign bytes among its pixels, which decodes to others from there on
  wrong-size          the labels give another size than the picture has
  bad-numbers         a box or landmark that is no finite number, or beyond 1e9 pixels
  empty-box           width or height of 0 or less
  box-outside         wholly outside the picture
  doubled-label       the same picture listed again
  leak                a copy of a picture of the other set (--against)
  box-in-fractions    all boxes of the set lie in 0..1: they are no pixels
  box-of-corners      boxes of the set are x1, y1, x2, y2 by their looks, where x, y, w, h should be
  shared-labels       beside a.jpg an a.png with the same faces: YOLO has one label file for both
  all-crowds          all faces of the set are crowds or difficult, which are ignored: none to learn
Warnings are worth a look, and training copes with them:
  box-in-per-cent     all boxes of the set lie in 0..100, of pictures that are far larger: they may be no pixels
  box-partly-outside  reaches more than a pixel beyond the picture
  landmarks-outside   a point is further outside its box than a quarter of the box's side (see
                      picture_labels.LANDMARK_SHARE); from half the longer side on (LOST_SHARE) readers take the face's
                      landmarks away, and it is learnt without
  landmarks-partial   some of the five points only: the face is learnt without landmarks
  landmarks-crossed   points contradict each other: sides exchanged, or the nose not between eyes and mouth
  no-face-at-all      not one picture of the set has a face: none to learn
  doubled-picture     a copy of another picture of the set, under another name (see duplicates.py)
  doubled-box         overlaps an earlier box of the picture with an IoU over 0.95
Information:
  no-faces            a picture without faces, which may well be meant
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.progress import progress_bar
from facekit.datasets.duplicates import Prints, find_copies, find_in, prints_of, thumbnail_of
from facekit.errors import FacekitError
from facekit.labels.keypoints import contradict
from facekit.labels.learnable import count_faces, why_nothing_to_learn
from facekit.labels.picture_labels import (
    MAX_COORDINATE,
    PictureLabels,
    are_corners,
    are_far_from_box,
    are_fractions,
    are_percentages,
    has_some_landmarks,
)
from facekit.ops.boxes import pairwise_iou
from facekit.pictures.read import is_cut_off, is_damaged, read_picture

log = logging.getLogger(__name__)

SEVERITIES = {
    "missing-picture": "error",
    "unreadable-picture": "error",
    "truncated-picture": "error",
    "damaged-picture": "error",
    "wrong-size": "error",
    "bad-numbers": "error",
    "empty-box": "error",
    "box-outside": "error",
    "doubled-label": "error",
    "leak": "error",
    "box-in-fractions": "error",
    "box-of-corners": "error",
    "shared-labels": "error",
    "all-crowds": "error",
    "box-in-per-cent": "warning",
    "box-partly-outside": "warning",
    "landmarks-outside": "warning",
    "landmarks-partial": "warning",
    "landmarks-crossed": "warning",
    "no-face-at-all": "warning",
    "doubled-picture": "warning",
    "doubled-box": "warning",
    "no-faces": "info",
}
WHOLE_SET = "the whole set"  # where a finding is of no one picture
EDGE_PX = 1.0  # annotators round: a pixel over the edge is nothing to report
DOUBLE_IOU = 0.95
SAME_PLACE_IOU = 0.2  # of two annotators' boxes of one face, with room
_IN_PROCESS = 64  # pictures for which starting processes takes longer than it saves


@dataclass(frozen=True)
class Finding:
    """One defect of one picture, or of one of its faces."""

    kind: str
    position: int  # of the picture in the set
    picture: str  # its name in the set
    face: int | None  # counted from 0 in the order of the labels
    expected: str
    got: str

    @property
    def severity(self) -> str:
        return SEVERITIES[self.kind]

    def __str__(self) -> str:
        face = "" if self.face is None else f", face {self.face}"
        return f"{self.picture}{face}: {self.got}; expected {self.expected}"


Task = tuple[Path, tuple[int, int] | None]  # a picture, and its size as it is labelled


class Inspected(NamedTuple):
    """What a picture's file is really like."""

    problem: str | None  # a kind that makes the file useless
    got: str
    size_wh: tuple[int, int] | None
    thumbnail: NDArray[np.uint8] | None


InspectAll = Callable[[Sequence[Task]], Sequence[Inspected]]


@dataclass(frozen=True)
class Checked:
    """A set, what is wrong with it, and the size that each picture really has (None: it can't be read)."""

    pictures: list[PictureLabels]
    sizes_wh: list[tuple[int, int] | None]
    findings: list[Finding]

    def counts(self) -> dict[str, int]:
        """Findings by kind, the severe ones first; kinds that were not found are left out."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in SEVERITIES if found[kind]}

    def has(self, severity: str) -> bool:
        return any(finding.severity == severity for finding in self.findings)


def check(
    pictures: Sequence[PictureLabels],
    against: Sequence[PictureLabels] = (),
    workers: int = 2,
    inspect_all: InspectAll | None = None,
    is_yolo: bool = False,
) -> Checked:
    """Looks for all kinds of defects in the labels, as they are written, and in their pictures.

    `against` is a set that must have no picture in common with this one. workers 0 decodes in this process;
    inspect_all: or others do so. is_yolo: whether pictures of one name but for the suffix have one label file.
    """
    tasks = list(dict.fromkeys((picture.path, picture.size_wh) for picture in [*pictures, *against]))
    inspected = dict(zip(tasks, inspect_all(tasks), strict=True)) if inspect_all else _inspect_all(tasks, workers)
    of_pictures = [inspected[picture.path, picture.size_wh] for picture in pictures]
    sizes_wh = [found.size_wh for found in of_pictures]
    names = [name_of(picture) for picture in pictures]

    findings: list[Finding] = []
    for position, (picture, found) in enumerate(zip(pictures, of_pictures, strict=True)):
        findings += _file_findings(position, names[position], picture, found)
        findings += _face_findings(position, names[position], picture, found.size_wh or picture.size_wh)
    findings += _doubled_labels(pictures, names)
    findings += _of_the_whole_set(pictures, sizes_wh, is_yolo)
    copies = list(_copies(pictures, names, of_pictures, [(p, inspected[p.path, p.size_wh]) for p in against]))
    copied = {finding.position for finding in copies if finding.kind == "doubled-picture"}
    findings += copies
    if is_yolo:
        findings += _shared_labels(pictures, names, of_pictures, copied)
    kinds = list(SEVERITIES)
    findings.sort(key=lambda finding: (kinds.index(finding.kind), finding.position))
    return Checked(list(pictures), sizes_wh, findings)


def name_of(picture: PictureLabels) -> str:
    """Its path in its data set."""
    return picture.name or picture.path.name


def face_defects(picture: PictureLabels, size_wh: tuple[int, int] | None) -> dict[str, NDArray[np.bool_]]:
    """(N,) faces by kind of defect. A face has at most one of the kinds of its box, the worst."""
    boxes, points = picture.boxes_xywh, picture.landmarks_xy
    with np.errstate(all="ignore"):  # numbers that are none overflow
        bad_box = ~(np.abs(boxes) <= MAX_COORDINATE).all(axis=1)
        bad_points = (np.abs(points) > MAX_COORDINATE).any(axis=(1, 2))
        x, y, w, h = boxes.T
        empty = ~bad_box & ((w <= 0) | (h <= 0))
        outside = partly = np.zeros_like(empty)
        usable = ~bad_box & ~empty
        if size_wh is not None:
            width, height = size_wh
            outside = usable & ((x + w <= 0) | (y + h <= 0) | (x >= width) | (y >= height))
            over = (x < -EDGE_PX) | (y < -EDGE_PX) | (x + w > width + EDGE_PX) | (y + h > height + EDGE_PX)
            partly = usable & ~outside & over
        strays = are_far_from_box(boxes, points)
    usable &= ~outside
    crossed = usable & ~bad_points & ~strays & contradict(points)
    return {
        "bad-numbers": bad_box | bad_points,
        "empty-box": empty,
        "box-outside": outside,
        "box-partly-outside": partly,
        "landmarks-outside": usable & ~bad_points & strays,
        "landmarks-partial": usable & ~bad_points & ~strays & has_some_landmarks(points),
        "landmarks-crossed": crossed,
        "doubled-box": _doubled_boxes(picture, usable),
    }


def _doubled_boxes(picture: PictureLabels, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) usable boxes that repeat an earlier one that isn't doubled itself."""
    doubled = np.zeros(len(usable), dtype=bool)
    rows = np.flatnonzero(usable)
    # By left edge, only boxes that begin close to each other can overlap so much: no need to compare all pairs.
    rows = rows[np.argsort(picture.boxes_xywh[rows, 0], kind="stable")]
    with np.errstate(all="ignore"):  # the boxes that are left aside may be endless
        boxes, left = picture.boxes_xyxy[rows], picture.boxes_xywh[rows, 0]
    ends = np.searchsorted(left, left + (1 - DOUBLE_IOU) * picture.boxes_xywh[rows, 2], side="right")
    pairs = []
    for first, end in enumerate(ends.tolist()):
        near = boxes[first + 1 : end]
        sides = np.minimum(near[:, 2:], boxes[first, 2:]) - np.maximum(near[:, :2], boxes[first, :2])
        shared = np.maximum(sides, 0).prod(axis=1)
        areas = (near[:, 2:] - near[:, :2]).prod(axis=1) + (boxes[first, 2:] - boxes[first, :2]).prod()
        for other in (first + 1 + np.flatnonzero(shared > DOUBLE_IOU * (areas - shared))).tolist():
            pairs.append((int(max(rows[first], rows[other])), int(min(rows[first], rows[other]))))
    for later, earlier in sorted(pairs):
        if not doubled[earlier] and picture.is_crowd[later] == picture.is_crowd[earlier]:
            doubled[later] = True
    return doubled


def _file_findings(position: int, name: str, picture: PictureLabels, found: Inspected) -> Iterator[Finding]:
    if found.problem is not None:
        expected = f"a file {picture.path}" if found.problem == "missing-picture" else "a whole picture"
        yield Finding(found.problem, position, name, None, expected, found.got)
    elif picture.size_wh is not None and found.size_wh != picture.size_wh:
        labelled = f"{picture.size_wh[0]}x{picture.size_wh[1]} as labelled"
        yield Finding("wrong-size", position, name, None, labelled, found.got)
    if not len(picture.boxes_xywh):
        yield Finding("no-faces", position, name, None, "a face", "none")


def _face_findings(
    position: int, name: str, picture: PictureLabels, size_wh: tuple[int, int] | None
) -> Iterator[Finding]:
    within = "a box in the picture" if size_wh is None else f"a box within {size_wh[0]}x{size_wh[1]}"
    expected = {
        "bad-numbers": f"finite numbers up to {MAX_COORDINATE:g}",
        "empty-box": "a box with an area",
        "box-outside": within,
        "box-partly-outside": within,
        "landmarks-outside": "landmarks in or near their box",
        "landmarks-partial": "all five landmarks, or none",
        "landmarks-crossed": "left eye, right eye, nose, left and right mouth corner as seen",
        "doubled-box": "each face once",
    }
    for kind, mask in face_defects(picture, size_wh).items():
        for face in np.flatnonzero(mask).tolist():
            got = f"x, y, w, h = {_rounded(picture.boxes_xywh[face])}"
            if (kind == "bad-numbers" or kind.startswith("landmarks-")) and not np.isnan(
                picture.landmarks_xy[face]
            ).all():
                got += f" with landmarks {_rounded(picture.landmarks_xy[face].ravel())}"
            yield Finding(kind, position, name, face, expected[kind], got)


def _of_the_whole_set(
    pictures: Sequence[PictureLabels], sizes_wh: Sequence[tuple[int, int] | None], is_yolo: bool
) -> Iterator[Finding]:
    if are_fractions(pictures):
        yield Finding("box-in-fractions", 0, WHOLE_SET, None, "boxes in pixels", "all of them from 0 to 1")
    boxes_xywh = [picture.boxes_xywh for picture in pictures]
    if not is_yolo and are_percentages(boxes_xywh, sizes_wh):
        yield Finding("box-in-per-cent", 0, WHOLE_SET, None, "boxes in pixels", "all of them from 0 to 100")
    if are_corners(boxes_xywh, sizes_wh):
        yield Finding("box-of-corners", 0, WHOLE_SET, None, "x, y, width, height", "x1, y1, x2, y2, by their looks")
    counts = count_faces(pictures)
    reason = why_nothing_to_learn(counts) if pictures else None
    if reason is not None:
        kind = "all-crowds" if counts.crowds else "no-face-at-all"
        yield Finding(kind, 0, WHOLE_SET, None, "a face to learn", reason.rstrip("."))


def _doubled_labels(pictures: Sequence[PictureLabels], names: Sequence[str]) -> Iterator[Finding]:
    first: dict[Path, int] = {}
    for position, picture in enumerate(pictures):
        if first.setdefault(picture.path, position) != position:
            got = f"again after picture {first[picture.path]}"
            yield Finding("doubled-label", position, names[position], None, "each picture listed once", got)


def _shared_labels(
    pictures: Sequence[PictureLabels], names: Sequence[str], inspected: Sequence[Inspected], copied: set[int]
) -> Iterator[Finding]:
    """Pictures of one name but for the suffix, with the same faces; those that are copies have them rightly."""
    alike: dict[Path, list[int]] = {}
    for position, picture in enumerate(pictures):
        if position not in copied and len(picture.boxes_xywh):
            alike.setdefault(picture.path.with_suffix(""), []).append(position)
    for positions in alike.values():
        first, *others = ((n, pictures[n].path, _in_fractions(pictures[n], inspected[n])) for n in positions)
        for other in others:
            if first[1] == other[1] or first[2].shape != other[2].shape or not np.allclose(first[2], other[2]):
                continue
            for one, beside in ((first[0], other[0]), (other[0], first[0])):
                got = f"those of {names[beside]}"
                yield Finding("shared-labels", one, names[one], None, "labels of its own", got)


def _copies(
    pictures: Sequence[PictureLabels],
    names: Sequence[str],
    inspected: Sequence[Inspected],
    against: Sequence[tuple[PictureLabels, Inspected]],
) -> Iterator[Finding]:
    """Doubled pictures and leaks; each path is looked at once."""
    first = {picture.path: position for position, picture in reversed(list(enumerate(pictures)))}
    seen = np.array([p for p in sorted(first.values()) if inspected[p].thumbnail is not None], dtype=np.int64)
    prints = _prints([inspected[position] for position in seen])
    # Of several copies the one with the most faces is the original.
    faces = np.array([len(pictures[position].boxes_xywh) for position in seen])
    for row, other in enumerate(find_copies(prints, np.argsort(-faces, kind="stable")).tolist()):
        position, original = int(seen[row]), int(seen[other])
        if other >= 0 and _show_the_same(
            (pictures[position], inspected[position]), (pictures[original], inspected[original])
        ):
            got = f"a copy of {names[original]}"
            yield Finding("doubled-picture", position, names[position], None, "each picture once", got)
    readable = [(picture, found) for picture, found in against if found.thumbnail is not None]
    if len(readable) < len(against):
        log.warning("%d pictures of the other set can't be read and are not compared.", len(against) - len(readable))
    for row, other in enumerate(find_in(prints, _prints([found for _, found in readable])).tolist()):
        position = int(seen[row])
        if other >= 0 and _show_the_same((pictures[position], inspected[position]), readable[other]):
            path = readable[other][0].path
            yield Finding("leak", position, names[position], None, "a picture of this set alone", f"a copy of {path}")


def _show_the_same(first: tuple[PictureLabels, Inspected], second: tuple[PictureLabels, Inspected]) -> bool:
    """Of two pictures that look alike, by their labels: frames of a standing camera have faces elsewhere. Without faces
    in both nothing is known but the look."""
    boxes = [_in_fractions(picture, found) for picture, found in (first, second)]
    fewer, more = sorted(boxes, key=len)
    if not len(fewer):
        return True
    with np.errstate(all="ignore"):  # boxes may be anything here
        return bool((pairwise_iou(fewer, more).max(axis=1) >= SAME_PLACE_IOU).mean() >= 0.5)


def _in_fractions(picture: PictureLabels, found: Inspected) -> NDArray[np.float64]:
    """(N, 4) corners of the faces in fractions of the picture: a copy may have another size."""
    size_wh = found.size_wh or picture.size_wh or (1, 1)
    return picture.take(~picture.is_crowd).boxes_xyxy / np.array([*size_wh, *size_wh], np.float64)


def _prints(inspected: Sequence[Inspected]) -> Prints:
    thumbnails = [found.thumbnail for found in inspected if found.thumbnail is not None]
    return prints_of(np.array(thumbnails, dtype=np.uint8).reshape(-1, 32, 32))


def inspect(task: Task) -> Inspected:
    """Decodes a picture as training would: turned as its EXIF says, unless only the unturned one has the labels' size.

    Pictures of another size than labelled are no problem here; the size is told.
    """
    path, labelled_wh = task
    if not path.is_file():
        return Inspected("missing-picture", "none", None, None)
    try:
        image_bgr = read_picture(path)
    except FacekitError as error:
        return Inspected(*_why_unreadable(path, error), None, None)
    if is_damaged(path.read_bytes()):
        return Inspected("damaged-picture", "foreign bytes among its pixels", None, None)
    width, height = image_bgr.shape[1::-1]
    if labelled_wh not in (None, (width, height)):
        try:
            image_bgr = read_picture(path, labelled_wh)
            width, height = image_bgr.shape[1::-1]
        except FacekitError:
            pass  # really of another size
    return Inspected(None, f"{width}x{height}", (width, height), thumbnail_of(image_bgr))


def _why_unreadable(path: Path, error: FacekitError) -> tuple[str, str]:
    try:
        data = path.read_bytes() if "too large" not in str(error) else b""
    except OSError:
        data = b""
    if is_cut_off(data):
        return "truncated-picture", f"{len(data)} bytes without the end"
    return "unreadable-picture", str(error).removeprefix(f"{path}: ").split(". ")[0]


def _inspect_all(tasks: Sequence[Task], workers: int) -> dict[Task, Inspected]:
    if workers == 0 or len(tasks) <= _IN_PROCESS:
        return _collect(tasks, map(inspect, tasks))
    # Not by fork: a child of a process that has used OpenCV's threads waits for them without end.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        return _collect(tasks, pool.map(inspect, tasks, chunksize=8))
    except BrokenProcessPool as error:
        raise FacekitError(
            "A process that reads pictures was ended by the system, perhaps for want of memory. Try `workers=1`."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    cv2.setNumThreads(1)


def _collect(tasks: Sequence[Task], results: Iterable[Inspected]) -> dict[Task, Inspected]:
    bar = progress_bar(results, total=len(tasks), desc="pictures", unit="picture")
    return dict(zip(tasks, bar, strict=True))


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 2) for value in values]
