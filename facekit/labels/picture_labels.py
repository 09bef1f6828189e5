"""What every label format is read into."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError, counted
from facekit.pictures.read import picture_size

log = logging.getLogger(__name__)

WIDER_ATTRIBUTES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")
MAX_COORDINATE = 1e9  # pixels; anything beyond is a mistake, and would overflow later
MAX_NAME_BYTES = 255  # of a file or folder
MAX_PATH_BYTES = 3000  # below the data root
LEAST_CORNERS = 10  # boxes, from which on their numbers tell what they are
FAR_OUTSIDE = 0.1  # of the picture's side
NEARLY_ALL = 0.95
# Boxes end at the forehead and chin, and in profile the far eye or mouth corner falls on the edge or beyond it, as do
# guesses on faces cut off by the picture's border. A quarter of the side lets them pass; landmarks of another face,
# or in another scale, lie further away. Two pixels, as small faces are labelled to the pixel.
LANDMARK_SHARE = 0.25
LOST_SHARE = 0.5  # of the longer side, from which on they are taken away: boxes that the border cuts are narrow
LANDMARK_PX = 2.0
PERCENT = 101.0  # per cent, with a rounding over the edge
LEAST_PERCENT_PICTURES = 3  # of which boxes in per cent are told from faces in one corner of large pictures

# (position of the picture, position of the face) -> where its label stands; no face: where the picture is named
Locate = Callable[[int, int | None], str]
Tally = Counter[str]  # faces that were left out, by reason


@dataclass(frozen=True)
class PictureLabels:
    """One picture and its N faces, in the picture's pixels, as the annotators wrote them."""

    path: Path
    size_wh: tuple[int, int] | None  # as the label file says; None: it doesn't
    boxes_xywh: NDArray[np.float64]  # (N, 4): left, top, width, height
    landmarks_xy: NDArray[np.float64]  # (N, 5, 2) in the order of structures.LANDMARK_NAMES; NaN: not labelled
    # (N,): a region of many faces, neither learnt nor counted as missed. WIDER's "invalid" faces are ordinary here.
    is_crowd: NDArray[np.bool_]
    attributes: NDArray[np.int8] | None = None  # (N, 6) in the order of WIDER_ATTRIBUTES; None: the format has none
    name: str | None = None  # the picture's path in its data set, with /
    source: str = ""  # the labels that it was read from
    is_labelled: bool = True  # False: its faces are unknown, as for a teacher to mark

    @property
    def boxes_xyxy(self) -> NDArray[np.float64]:
        """(N, 4) corners."""
        return np.concatenate([self.boxes_xywh[:, :2], self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:]], axis=1)

    def take(self, keep: NDArray[np.bool_]) -> PictureLabels:
        """The same picture with only the faces where keep (N,) is true."""
        return replace(
            self,
            boxes_xywh=self.boxes_xywh[keep],
            landmarks_xy=self.landmarks_xy[keep],
            is_crowd=self.is_crowd[keep],
            attributes=None if self.attributes is None else self.attributes[keep],
        )


def picture_path(root: Path, file_name: str, where: str) -> Path:
    """root / file_name, refused where it would leave the root (label files may come from anybody)."""
    relative = PurePosixPath(file_name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or has_drive(file_name):
        raise FacekitError(
            f"{where}: file_name {file_name!r} leaves the data root. Write file names relative to it, "
            f"and give the folder above all pictures as data root."
        )
    check_name_length(file_name, where)
    return root / relative


def has_drive(file_name: str) -> bool:
    """Whether it starts as Windows' C:/ does."""
    return re.match(r"[A-Za-z]:([/\\]|$)", file_name) is not None


def check_name_length(file_name: str, where: str) -> None:
    """Raises FacekitError for a path that no disk holds: asking for it would fail in another way than a missing one."""
    sizes = [len(part.encode(errors="surrogatepass")) for part in file_name.replace("\\", "/").split("/")]
    if max(sizes) > MAX_NAME_BYTES or sum(sizes) > MAX_PATH_BYTES:
        raise FacekitError(f"{where}: file_name {file_name[:40]!r}... is longer than a disk holds. Mend the name.")


def check_pictures_exist(pictures: Sequence[PictureLabels], where: str, locate: Locate, remedy: str) -> None:
    """Raises FacekitError that counts the pictures that the labels name and the disk lacks."""
    missing = [number for number, picture in enumerate(pictures) if not picture.path.is_file()]
    if missing:
        names = ", ".join(str(pictures[number].path) for number in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FacekitError(
            f"{where}: {len(missing)} of {len(pictures)} pictures are not on the disk: {names}{more} "
            f"(first: {locate(missing[0], None)}). {remedy}"
        )


def where_to_look(data_root: Path, looked_in: str) -> str:
    """The remedy for pictures that are missing."""
    return (
        f"Give the folder that holds them as data root (now {data_root}), by --data-root or the command's own flag for "
        f"data roots; looked in {looked_in or data_root}."
    )


def finish_reading(
    pictures: Sequence[PictureLabels], source: Path, data_root: Path, locate: Locate, dropped: Tally | None,
    as_written: bool = False, looked_in: str = "", were_fractions: bool = False,
) -> list[PictureLabels]:  # fmt: skip
    """What every reader does last, unless as_written: pictures must exist, landmarks be whole and boxes usable.
    looked_in: the folders where pictures were looked for. were_fractions: the format's boxes are, so none are in per
    cent."""
    if as_written:
        return list(pictures)
    check_pictures_exist(pictures, str(source), locate, where_to_look(data_root, looked_in))
    if are_fractions(pictures):
        raise FacekitError(
            f"{source}: no box reaches beyond the first pixel of its picture: they are fractions of it, from 0 to 1. "
            f"Write them in pixels, times the picture's width and height."
        )
    near = _without_far_landmarks(pictures, str(source), locate)
    whole = _without_partial_landmarks(near, str(source), locate)
    return drop_unusable_boxes(whole, str(source), locate, dropped, True, were_fractions)


def are_fractions(pictures: Iterable[PictureLabels]) -> bool:
    """Whether the boxes, which should be in pixels, are in fractions of their pictures: all of them end at 1 or before,
    and not all are of whole numbers."""
    boxes = [picture.boxes_xywh for picture in pictures if len(picture.boxes_xywh)]
    if not boxes or boxes[0].max() > 2:  # mostly the first tells
        return False
    xywh = np.concatenate(boxes)
    return bool(((xywh[:, :2] + xywh[:, 2:]).max() <= 1 + 1e-3) and (xywh != xywh.round()).any())


def are_percentages(boxes_xywh: Sequence[NDArray[np.float64]], sizes_wh: Sequence[tuple[int, int] | None]) -> bool:
    """Whether the boxes of pictures, an array each, may be in per cent of their pictures, not pixels: all of several
    pictures that are far larger end at 100 or before, some in the far half of that, and not all are whole numbers."""
    pairs = [(boxes, size) for boxes, size in zip(boxes_xywh, sizes_wh, strict=True) if size is not None and len(boxes)]
    if len(pairs) < LEAST_PERCENT_PICTURES or min(min(size) for _, size in pairs) < 2 * PERCENT:
        return False
    if pairs[0][0].max() > PERCENT:  # mostly the first tells
        return False
    xywh = np.concatenate([boxes for boxes, _ in pairs])
    with np.errstate(all="ignore"):  # for checks, numbers may be anything
        ends = xywh[:, :2] + xywh[:, 2:]
    is_within = bool(xywh[:, :2].min() >= -1 and ends.max() <= PERCENT and (ends.max(axis=0) > PERCENT / 2).all())
    return len(xywh) >= LEAST_CORNERS and is_within and bool((xywh != xywh.round()).any())


def are_corners(boxes_xywh: Sequence[NDArray[np.float64]], sizes_wh: Sequence[tuple[int, int] | None]) -> bool:
    """Whether what was read as x, y, w, h is x1, y1, x2, y2: over a third would reach far outside the pictures, of
    which each array is one's boxes, and nearly all lie in them as corners."""
    pairs = [(boxes, size_wh) for boxes, size_wh in zip(boxes_xywh, sizes_wh, strict=True) if size_wh is not None]
    count = sum(len(boxes) for boxes, _ in pairs)
    if count < LEAST_CORNERS:  # a few large faces at the edge look the same
        return False
    boxes = np.concatenate([boxes for boxes, _ in pairs])
    sizes = np.repeat(np.array([size_wh for _, size_wh in pairs], np.float64), [len(boxes) for boxes, _ in pairs], 0)
    first, second = boxes[:, :2], boxes[:, 2:]
    with np.errstate(all="ignore"):  # for checks, numbers may be anything
        far = (first + second > (1 + FAR_OUTSIDE) * sizes).any(axis=1)
        as_corners = ((first >= -1) & (second > first) & (second <= sizes + 1)).all(axis=1)
    return bool(far.mean() > 1 / 3 and as_corners.mean() > NEARLY_ALL)


def check_listed_once(pictures: Sequence[PictureLabels], where: str) -> None:
    """Raises FacekitError for a picture that is listed with other faces than before: those of one entry would be the
    background of the other. With the same faces it counts as often as it is listed, which is said."""
    first: dict[Path, PictureLabels] = {}
    again = []
    for picture in pictures:
        before = first.setdefault(picture.path.absolute(), picture)
        if before is picture:
            continue
        again.append(picture)
        if not np.array_equal(before.boxes_xywh, picture.boxes_xywh):
            sources = " and ".join(dict.fromkeys(each.source or where for each in (before, picture)))
            raise FacekitError(
                f"{picture.path}: listed twice, with other faces, by {sources}: those of one entry would be "
                f"background in the other. `facekit data check LABELS --fix NEW.json` joins them."
            )
    if again:
        log.warning(
            "%s: %d pictures are listed again, with the same faces: they count as often (first: %s).",
            where, len(again), again[0].path,
        )  # fmt: skip


def has_some_landmarks(landmarks_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) faces of (N, 5, 2) landmarks that have some of the points, not all."""
    labelled = np.isfinite(landmarks_xy).all(axis=2).sum(axis=1)
    return np.asarray((labelled > 0) & (labelled < landmarks_xy.shape[1]))


def are_far_from_box(boxes_xywh: NDArray[np.float64], landmarks_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N, 4), (N, 5, 2) -> (N,): whether a landmark lies further outside its box than faces have them."""
    return _are_outside(boxes_xywh, landmarks_xy, LANDMARK_SHARE * boxes_xywh[:, 2:])


def _are_outside(
    boxes_xywh: NDArray[np.float64], landmarks_xy: NDArray[np.float64], slack: NDArray[np.float64]
) -> NDArray[np.bool_]:
    with np.errstate(all="ignore"):  # for checks, numbers may be anything
        slack = np.maximum(LANDMARK_PX, slack)[:, None]
        near, far = boxes_xywh[:, None, :2] - slack, boxes_xywh[:, None, :2] + boxes_xywh[:, None, 2:] + slack
        return np.asarray(((landmarks_xy < near) | (landmarks_xy > far)).any(axis=(1, 2)))


def _without_far_landmarks(pictures: Sequence[PictureLabels], where: str, locate: Locate) -> list[PictureLabels]:
    """Unlabels the faces whose landmarks are another face's, in fractions, or counted from the box's corner."""
    boxes = [picture.boxes_xywh for picture in pictures]
    slacks = [LOST_SHARE * boxes_xywh[:, 2:].max(axis=1, keepdims=True) for boxes_xywh in boxes]
    points = [picture.landmarks_xy for picture in pictures]
    far = [_are_outside(*each) for each in zip(boxes, points, slacks, strict=True)]
    what = "with landmarks far from the box: are these in the picture's pixels? Read without landmarks"
    return _unlabel(pictures, far, where, what, locate)


def _without_partial_landmarks(pictures: Sequence[PictureLabels], where: str, locate: Locate) -> list[PictureLabels]:
    """Unlabels the faces that have some of the five points only: losses and metrics know all or none."""
    partial = [has_some_landmarks(picture.landmarks_xy) for picture in pictures]
    what = "with some of the five landmarks only: read without landmarks"
    return _unlabel(pictures, partial, where, what, locate)


def _unlabel(
    pictures: Sequence[PictureLabels], masks: Sequence[NDArray[np.bool_]], where: str, what: str, locate: Locate
) -> list[PictureLabels]:
    """Takes the landmarks off the faces of the masks (N,), one a picture, and warns of how many there are `what`."""
    kept, count, first = [], 0, ""
    for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        if mask.any():
            first = first or locate(number, int(mask.argmax()))
            count += int(mask.sum())
            picture = replace(picture, landmarks_xy=np.where(mask[:, None, None], np.nan, picture.landmarks_xy))
        kept.append(picture)
    if count:
        log.warning("%s: %s %s (first: %s).", where, counted(count, "face"), what, first)
    return kept


def drop_unusable_boxes(
    pictures: Iterable[PictureLabels], where: str, locate: Locate | None = None, dropped: Tally | None = None,
    reads_sizes: bool = False, were_fractions: bool = False,
) -> list[PictureLabels]:  # fmt: skip
    """Takes out the faces that no detector could learn or find: boxes without area, or wholly outside their picture.

    Says how many and names the first, as a warning, and adds them to `dropped`; boxes partly outside stay (training
    clips them) and are counted. reads_sizes: from the pictures where the labels have none, so that what is left out
    doesn't depend on the format. Raises FacekitError where the boxes are corners by their looks; where they may be in
    per cent, unless they were_fractions, it is said.
    """
    pictures = list(pictures)
    sizes_wh = [
        _header_size(picture) if picture.size_wh is None and reads_sizes else picture.size_wh for picture in pictures
    ]
    boxes_xywh = [picture.boxes_xywh for picture in pictures]
    if not were_fractions and are_percentages(boxes_xywh, sizes_wh):
        log.warning(
            "%s: all boxes lie in the first 100 pixels of their pictures, which are far larger: are they in per cent? "
            "Then write them in pixels, times the picture's width and height / 100.", where,
        )  # fmt: skip
    _check_no_corners(boxes_xywh, sizes_wh, where)
    kept = []
    counts = {"have no area": 0, "lie wholly outside their picture": 0, "reach outside their picture": 0}
    first: dict[str, str] = {}
    for number, (picture, size_wh) in enumerate(zip(pictures, sizes_wh, strict=True)):
        x, y, w, h = picture.boxes_xywh.T
        empty = (w <= 0) | (h <= 0)
        outside = partly = np.zeros_like(empty)
        if size_wh is not None:
            width, height = size_wh
            outside = ~empty & ((x + w <= 0) | (y + h <= 0) | (x >= width) | (y >= height))
            # Annotators round: a pixel over the edge is nothing to report.
            over = (x < -1) | (y < -1) | (x + w > width + 1) | (y + h > height + 1)
            partly = ~empty & ~outside & over
        for reason, mask in zip(counts, (empty, outside, partly), strict=True):
            counts[reason] += int(mask.sum())
            if mask.any() and reason not in first:
                box = [float(round(value, 2)) for value in picture.boxes_xywh[mask][0]]
                place = f", {locate(number, int(mask.argmax()))}" if locate else ""
                first[reason] = f"{picture.path.name}: x, y, w, h = {box}{place}"
        unusable = empty | outside
        kept.append(picture.take(~unusable) if unusable.any() else picture)
    for reason, count in counts.items():
        if count:
            left_out = not reason.startswith("reach")
            fate = "left out" if left_out else "clipped to the picture in training"
            log.warning("%s: %d boxes %s: %s (first: %s).", where, count, reason, fate, first[reason])
            if left_out and dropped is not None:
                dropped[reason] += count
    return kept


def _check_no_corners(
    boxes_xywh: Sequence[NDArray[np.float64]], sizes_wh: Sequence[tuple[int, int] | None], where: str
) -> None:
    if are_corners(boxes_xywh, sizes_wh):
        raise FacekitError(
            f"{where}: as x, y, width, height over a third of the boxes would reach far outside their pictures, as "
            f"x1, y1, x2, y2 nearly all lie in them: are they corners? Write x, y, width, height. If they are just "
            f"that, `facekit data check LABELS --fix NEW.json` clips them."
        )


def _header_size(picture: PictureLabels) -> tuple[int, int] | None:
    """None where no box needs it, or the picture can't be read, which is said when it is."""
    try:
        return picture_size(picture.path) if len(picture.boxes_xywh) else None
    except FacekitError:
        return None
