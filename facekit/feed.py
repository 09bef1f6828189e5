"""From a picture to what a network is fed, and from what it says to candidates: the only such path."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.ops.arrays import as_numpy
from facekit.ops.head import Head
from facekit.structures import Activated, Decoded, Priors
from facekit.template import Template

# Larger pictures go through the network in tiles, or the memory would grow with them. A box is taken from the tile
# whose core holds its centre; what a network sees of a face reaches hardly farther than the margin (YuNet's priors see
# 257 pixels around them, SCRFD's 389, its outermost at next to no weight), so the boxes are those of the whole picture.
WHOLE_PIXELS = 3_200_000  # half a gigabyte of YuNet's activations
TILE_CORE = 768  # pixels; TILE_CORE - TILE_MARGIN is a multiple of every network's coarsest stride, as TILE_CORE is
TILE_MARGIN = 320
# A network that takes any size knows faces up to some size. Of 25 faces, enlarged, yunet-n finds 23 to 25 where they
# are 140 to 410 pixels long, 21 at 560, 11 at 700, 2 at 890.
LARGE_FACE = 400  # pixels
LEAST_COPY = 320  # pixels of the longest side: no face in such a copy is too large
MOST_STEP = 6.0  # from a copy to the next: what is too large in one is still 60 pixels wide in the next
SCORE_SLACK = 0.01  # by which rounding, of INT8 graphs too, may leave 0..1

Scale = tuple[float, float]  # x and y: from pixels of the network's input to the picture's
Rectangle = tuple[float, float, float, float]


class Tile(NamedTuple):
    """A part of a picture, x1, y1, x2, y2 in pixels. A core at the picture's edge reaches beyond it without end: boxes
    may."""

    core_xyxy: Rectangle
    tile_xyxy: tuple[int, int, int, int]


def fitted(template: Template, fixed_size_hw: tuple[int, int] | None) -> Template:
    """The template as a graph of one size is fed by, None for any: one that was exported of a detector of any size gets
    pictures that are fitted into it."""
    if fixed_size_hw is None or (template.evaluation.feeds_one_size and template.input.size_hw == fixed_size_hw):
        return template
    rule = dataclasses.replace(template.evaluation, resize="letterbox")
    settings = dataclasses.replace(template.input, size_hw=fixed_size_hw)
    return dataclasses.replace(template, evaluation=rule, input=settings)


def prepare(image_bgr: NDArray[np.uint8], template: Template) -> tuple[NDArray[np.uint8], Scale]:
    """The picture as the template's protocol feeds it, and the factors (x, y) that lead back to its own pixels."""
    image_bgr, scale_xy = scaled(image_bgr, template)
    return padded(image_bgr, template), scale_xy


def scaled(image_bgr: NDArray[np.uint8], template: Template, factor: float = 1.0) -> tuple[NDArray[np.uint8], Scale]:
    """The picture at `factor` times the protocol's size, not padded, and the factors (x, y) that lead back."""
    rule = template.evaluation
    height, width = image_bgr.shape[:2]
    input_height, input_width = _input_size(template, factor)
    if rule.resize == "stretch":
        scale_xy = (width / input_width, height / input_height)
        return _resized(image_bgr, (input_width, input_height)), scale_xy
    if rule.resize == "none" and factor == 1:
        return image_bgr, (1.0, 1.0)
    scale = 1 / factor if rule.resize == "none" else max(height / input_height, width / input_width)
    size_wh = (max(1, round(width / scale)), max(1, round(height / scale)))
    # One factor for both, also where rounding to whole pixels has bent the shape a little.
    return _resized(image_bgr, size_wh), (scale, scale)


def _resized(image_bgr: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image_bgr, size_wh), dtype=np.uint8)


def padded(image_bgr: NDArray[np.uint8], template: Template, factor: float = 1.0) -> NDArray[np.uint8]:
    """A scaled picture with the zeros right and bottom that the protocol asks for."""
    rule = template.evaluation
    height, width = image_bgr.shape[:2]
    if rule.resize == "letterbox":
        input_height, input_width = _input_size(template, factor)
        return pad(image_bgr, input_height - height, input_width - width)
    return pad(image_bgr, -height % rule.size_multiple, -width % rule.size_multiple)


def _input_size(template: Template, factor: float) -> tuple[int, int]:
    height, width = template.input.size_hw
    return max(1, round(height * factor)), max(1, round(width * factor))


def pad(image_bgr: NDArray[np.uint8], bottom: int, right: int) -> NDArray[np.uint8]:
    """That many rows and columns of zeros more."""
    if not bottom and not right:
        return image_bgr
    return np.asarray(cv2.copyMakeBorder(image_bgr, 0, bottom, 0, right, cv2.BORDER_CONSTANT), dtype=np.uint8)


def smaller_copies(longest: float) -> list[float]:
    """The longest sides of the copies in which a picture of that longest side is looked at for large faces, ever
    smaller, in equal steps. Together they have at most a quarter of its pixels, mostly less than a tenth."""
    if longest <= 2 * LEAST_COPY:
        return []
    steps = math.ceil(math.log(longest / LEAST_COPY, MOST_STEP))
    return [longest * (LEAST_COPY / longest) ** (step / steps) for step in range(1, steps + 1)]


def reduced(image_bgr: NDArray[np.uint8], share: float) -> tuple[NDArray[np.uint8], Scale]:
    """The copy with that share of each side, below 1, every pixel a mean; and the factors (x, y) that lead back."""
    height, width = image_bgr.shape[:2]
    size_wh = (max(1, round(width * share)), max(1, round(height * share)))
    copy_bgr = np.asarray(cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return copy_bgr, (width / size_wh[0], height / size_wh[1])


def is_large(size_hw: tuple[int, ...], template: Template, most_side: int | None = None) -> bool:
    """Whether a picture of that size goes through the network in tiles. `most_side`: in pixels, the longest that the
    network takes, None for any."""
    is_too_long = most_side is not None and max(size_hw[:2]) > most_side
    return (is_too_long or size_hw[0] * size_hw[1] > WHOLE_PIXELS) and not template.evaluation.feeds_one_size


def tiles(size_hw: tuple[int, ...]) -> Iterator[Tile]:
    """The cores that a picture is divided into, and the tiles around them."""

    def stretches(length: int) -> Iterator[tuple[float, float, int, int]]:
        starts = range(0, max(length - TILE_MARGIN, 1), TILE_CORE)  # no core for a rest that the margin holds
        for start in starts:
            end = start + TILE_CORE
            is_last = start == starts[-1]
            yield (
                start if start else -np.inf,
                np.inf if is_last else end,
                max(start - TILE_MARGIN, 0),
                length if is_last else min(end + TILE_MARGIN, length),
            )

    for y1, y2, top, bottom in stretches(size_hw[0]):
        for x1, x2, left, right in stretches(size_hw[1]):
            yield Tile((x1, y1, x2, y2), (left, top, right, bottom))


def candidates(
    found: Activated | Decoded, picture: int, head: Head, priors: Priors, score_threshold: float
) -> tuple[Decoded, int]:
    """The boxes of one picture of a batch that score over the threshold, as NumPy arrays in the order of the priors;
    and how many had no number for a score, from 0 to 1, or in their box or landmarks, and are no faces. Only what
    scores is decoded. `priors`: of the network's input."""
    if isinstance(found, Decoded):
        of_picture = found.of(picture)
        chosen, broken = _scoring(as_numpy(of_picture.scores), score_threshold)
        return _whole(Decoded(*(None if part is None else as_numpy(part[chosen]) for part in of_picture)), broken)
    said = found.of(picture)
    with np.errstate(all="ignore"):  # of a broken graph: counted here
        chosen, broken = _scoring(as_numpy(head.scores(said)), score_threshold)
        said = Activated(*(None if part is None else as_numpy(part[chosen]) for part in said))
        return _whole(head.decode(said, priors.at(chosen)), broken)


def _whole(boxes: Decoded, broken: int) -> tuple[Decoded, int]:
    """Those whose boxes and landmarks are numbers, and how many are broken with the others."""
    is_whole = np.isfinite(boxes.boxes_xyxy).all(axis=1)
    if boxes.landmarks_xy is not None:
        is_whole &= np.isfinite(boxes.landmarks_xy).all(axis=1)
    if is_whole.all():
        return boxes, broken
    kept = Decoded(*(None if part is None else part[is_whole] for part in boxes))
    return kept, broken + int(np.count_nonzero(~is_whole))


def _scoring(scores: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.int64], int]:
    """Where (A,) scores are over the threshold, and how many are no numbers from 0 to 1: these are no faces."""
    if not len(scores) or (scores.min() >= -SCORE_SLACK and scores.max() <= 1 + SCORE_SLACK):  # false with a NaN among
        return np.flatnonzero(scores > threshold), 0
    is_score = (scores >= -SCORE_SLACK) & (scores <= 1 + SCORE_SLACK)
    return np.flatnonzero((scores > threshold) & is_score), int(np.count_nonzero(~is_score))


def within_core(boxes: Decoded, tile: Tile) -> Decoded:
    """A tile's candidates whose centres lie in its core, in pixels of the whole picture."""
    corner = np.array(tile.tile_xyxy[:2], dtype=np.float32)
    boxes_xyxy = boxes.boxes_xyxy + np.tile(corner, 2)
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    keep = (centres >= tile.core_xyxy[:2]).all(axis=1) & (centres < tile.core_xyxy[2:]).all(axis=1)
    landmarks = None if boxes.landmarks_xy is None else (boxes.landmarks_xy + np.tile(corner, 5))[keep]
    return Decoded(boxes_xyxy[keep], boxes.scores[keep], landmarks)


def joined(parts: list[Decoded]) -> Decoded:
    """The candidates of several tiles as one picture's."""
    has_landmarks = all(part.landmarks_xy is not None for part in parts)
    return Decoded(
        np.concatenate([part.boxes_xyxy for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.landmarks_xy for part in parts]) if has_landmarks else None,
    )
