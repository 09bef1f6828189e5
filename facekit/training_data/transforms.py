"""Training augmentation: picture, boxes and landmarks move together. All randomness comes from the given generator."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.pictures.read import as_uint8
from facekit.structures import mirrored_boxes, mirrored_landmarks
from facekit.template import (
    AugmentationSettings,
    FaceSizedCrop,
    InputSettings,
    JitteredSquareCrop,
    MinIouCrop,
    Photometric,
    SquareCrop,
    WholeFaceCrop,
)

MIN_IOU_CROP_ATTEMPTS = 50
NO_COLOUR = (0, 0, 0)
SHRINKS = (8, 4, 2)  # by which JPEGs can be decoded smaller

Colour = tuple[int, int, int]  # 0..255


class Window(NamedTuple):
    """What a crop takes of a picture, in whole pixels; it may reach outside."""

    left: int
    top: int
    width: int
    height: int
    fill_bgr: Colour = NO_COLOUR  # of what lies outside

    def shrink_for(self, size_hw: tuple[int, int]) -> int:
        """By how much the picture may be shrunk so that the window still has the pixels of size_hw: 1, 2, 4 or 8."""
        height, width = size_hw
        return next((by for by in SHRINKS if self.height >= by * height and self.width >= by * width), 1)


@dataclass
class LabelledImage:
    """A picture in memory with its N faces; transforms return a new one and leave theirs alone."""

    image_bgr: NDArray[np.uint8]  # (H, W, 3)
    boxes_xyxy: NDArray[np.float32]  # (N, 4) pixels
    landmarks_xy: NDArray[np.float32]  # (N, 5, 2) pixels; NaN: not labelled
    is_labelled: bool = True  # False: the faces are unknown; of what a data set gives, not kept by transforms
    # (M, 4) pixels: regions that are neither face nor background
    ignored_xyxy: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))

    def take(self, keep: NDArray[np.bool_]) -> LabelledImage:
        """With only the faces where keep (N,) is true; regions stay."""
        return replace(self, boxes_xyxy=self.boxes_xyxy[keep], landmarks_xy=self.landmarks_xy[keep])


def mean_colour_bgr(settings: InputSettings) -> Colour:
    """The colour that the network sees as zeros, to the nearest that a picture can hold."""
    first, second, third = (min(max(round(value), 0), 255) for value in settings.mean)
    return (third, second, first) if settings.colour_order == "rgb" else (first, second, third)


def augment(
    sample: LabelledImage,
    window: Window,
    settings: AugmentationSettings,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    shrink: int = 1,
) -> LabelledImage:
    """What the network is trained on: the window that draw_window gave, stretched to size_hw, mirrored, distorted.

    shrink: what the picture was divided by when it was decoded (of sides that don't divide, the last pixel is part of
    one); window, boxes and landmarks are in the pixels of the whole picture all the same.
    """
    sample = resize(crop(sample, *window), size_hw) if shrink == 1 else _cut_shrunk(sample, window, size_hw, shrink)
    if rng.random() < settings.flip_probability:
        sample = flip(sample)
    if settings.photometric is not None:
        # After the resize: there are fewer pixels to touch, and none of the four depends on size.
        sample = replace(sample, image_bgr=distort(sample.image_bgr, settings.photometric, rng))
    return sample


def _cut_shrunk(sample: LabelledImage, window: Window, size_hw: tuple[int, int], shrink: int) -> LabelledImage:
    """resize(crop(sample, *window), size_hw) of a picture of which only a shrunk copy is there."""
    height, width = size_hw
    step_x, step_y = window.width / width / shrink, window.height / height / shrink
    # From the middle of a pixel of the input to its place in the shrunk picture, whose middles lie at whole numbers.
    from_input = np.array(
        [
            [step_x, 0, window.left / shrink + step_x / 2 - 0.5],
            [0, step_y, window.top / shrink + step_y / 2 - 0.5],
        ]
    )
    image_bgr = cv2.warpAffine(
        sample.image_bgr, from_input, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=window.fill_bgr,
    )  # fmt: skip
    faces = cut_faces(sample, window, size_hw)
    return replace(faces, image_bgr=as_uint8(image_bgr))


def cut_faces(sample: LabelledImage, window: Window, size_hw: tuple[int, int]) -> LabelledImage:
    """The window's faces and regions as they lie in it once it is stretched to size_hw; the picture stays."""
    return _scale_faces(_crop_faces(sample, window), window, size_hw)


def resize(sample: LabelledImage, size_hw: tuple[int, int]) -> LabelledImage:
    """Stretches to size_hw, whatever the shape."""
    height, width = sample.image_bgr.shape[:2]
    image_bgr = as_uint8(cv2.resize(sample.image_bgr, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR))
    return replace(_scale_faces(sample, Window(0, 0, width, height), size_hw), image_bgr=image_bgr)


def _scale_faces(sample: LabelledImage, window: Window, size_hw: tuple[int, int]) -> LabelledImage:
    """Faces of a window of that size as it is stretched; the picture stays."""
    scale = np.array([size_hw[1] / window.width, size_hw[0] / window.height], dtype=np.float32)
    twice = np.tile(scale, 2)
    return LabelledImage(
        sample.image_bgr, sample.boxes_xyxy * twice, sample.landmarks_xy * scale,
        ignored_xyxy=sample.ignored_xyxy * twice,
    )  # fmt: skip


def flip(sample: LabelledImage) -> LabelledImage:
    """Mirrors left and right; left landmarks become right ones."""
    width = sample.image_bgr.shape[1]
    return LabelledImage(
        as_uint8(cv2.flip(sample.image_bgr, 1)),
        mirrored_boxes(sample.boxes_xyxy, width),
        mirrored_landmarks(sample.landmarks_xy, width),
        ignored_xyxy=mirrored_boxes(sample.ignored_xyxy, width),
    )


def crop(
    sample: LabelledImage, left: int, top: int, width: int, height: int, fill_bgr: Colour = NO_COLOUR
) -> LabelledImage:
    """The window, filled where it reaches outside; faces whose centre lies outside are gone, the others are clipped."""
    image_height, image_width = sample.image_bgr.shape[:2]
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = max(min(left + width, image_width), x1), max(min(top + height, image_height), y1)
    inside = sample.image_bgr[y1:y2, x1:x2]
    if not inside.size:
        inside = np.full((height, width, 3), fill_bgr, dtype=np.uint8)
    elif (x2 - x1, y2 - y1) != (width, height):
        # Far faster than to fill an array with a colour, which took two fifths of a worker's time.
        inside = as_uint8(cv2.copyMakeBorder(
            inside, y1 - top, top + height - y2, x1 - left, left + width - x2, cv2.BORDER_CONSTANT, value=fill_bgr
        ))  # fmt: skip
    return replace(_crop_faces(sample, Window(left, top, width, height)), image_bgr=inside)


def _crop_faces(sample: LabelledImage, window: Window) -> LabelledImage:
    """The window's faces, moved and clipped, and of each region the part within; the picture stays."""
    kept = sample.take(centres_inside(sample.boxes_xyxy, *window[:4]))
    offset = np.array([window.left, window.top], dtype=np.float32)
    limit = np.array([window.width, window.height], dtype=np.float32)
    boxes_xyxy, regions_xyxy = (
        np.clip(moved_xyxy - np.tile(offset, 2), 0, np.tile(limit, 2))
        for moved_xyxy in (kept.boxes_xyxy, sample.ignored_xyxy)
    )
    within = (regions_xyxy[:, 2:] > regions_xyxy[:, :2]).all(axis=1)
    return LabelledImage(
        sample.image_bgr, boxes_xyxy, kept.landmarks_xy - offset, ignored_xyxy=regions_xyxy[within]
    )  # fmt: skip


def centres_inside(boxes_xyxy: NDArray[np.float32], left: int, top: int, width: int, height: int) -> NDArray[np.bool_]:
    """(N, 4) -> (N,) whether the box's centre lies in the window."""
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    x, y = centres.T
    inside: NDArray[np.bool_] = (x > left) & (x < left + width) & (y > top) & (y < top + height)
    return inside


def draw_window(
    size_wh: tuple[int, int],
    boxes_xyxy: NDArray[np.float32],
    settings: MinIouCrop | SquareCrop | JitteredSquareCrop | WholeFaceCrop | FaceSizedCrop,
    rng: np.random.Generator,
    fill_bgr: Colour,
    size_hw: tuple[int, int],
) -> Window:
    """What is cropped of a picture of that size with those faces (N, 4): known before the picture is decoded.

    `fill_bgr` is what the whole-face crop pads with, the others pad with zeros; `size_hw`: of the input.
    """
    if isinstance(settings, FaceSizedCrop):
        return draw_face_sized(size_wh, boxes_xyxy, settings, rng, size_hw)
    if isinstance(settings, MinIouCrop):
        return draw_min_iou(size_wh, boxes_xyxy, settings, rng)
    if isinstance(settings, WholeFaceCrop):
        return draw_whole_face(size_wh, boxes_xyxy, settings, rng, fill_bgr)
    return draw_square(size_wh, boxes_xyxy, settings, rng)


def draw_square(
    size_wh: tuple[int, int],
    boxes_xyxy: NDArray[np.float32],
    settings: SquareCrop | JitteredSquareCrop,
    rng: np.random.Generator,
) -> Window:
    """A square of a random multiple of the short side, anywhere; tried again until it holds a face's centre, unless
    the picture has none or a crop as it comes was asked for."""
    width, height = size_wh
    # No number is drawn where none is needed: the draws of templates without such crops stay as they are.
    as_it_comes = settings.empty_crop_probability > 0 and rng.random() < settings.empty_crop_probability
    left = top = side = 0
    for _ in range(settings.attempts):
        side = max(1, int(_draw_scale(settings, rng) * min(height, width)))
        left = _offset(width, side, rng)
        top = _offset(height, side, rng)
        if as_it_comes or not len(boxes_xyxy) or centres_inside(boxes_xyxy, left, top, side, side).any():
            break
    return Window(left, top, side, side)


def _draw_scale(settings: SquareCrop | JitteredSquareCrop, rng: np.random.Generator) -> float:
    if isinstance(settings, SquareCrop):
        return float(rng.choice(settings.scales))
    return _draw_octave(settings.least, settings.most, rng)


def _offset(length: int, side: int, rng: np.random.Generator) -> int:
    """Where a window starts: within the picture, or with the picture within it where it is the larger."""
    low, high = sorted((0, length - side))
    return int(rng.integers(low, high + 1))


def draw_face_sized(
    size_wh: tuple[int, int],
    boxes_xyxy: NDArray[np.float32],
    settings: FaceSizedCrop,
    rng: np.random.Generator,
    size_hw: tuple[int, int],
) -> Window:
    """The window of the input's shape in which a face has the drawn size: any of those whose zoom is allowed then, or,
    where there are none, any at the nearest zoom that is. It lies within the picture, or the picture within it, and
    holds the face's centre."""
    zoom = _draw_octave(settings.least_zoom, settings.most_zoom, rng)
    wanted = _draw_octave(settings.least, settings.most, rng)
    is_anywhere = rng.random() < settings.empty_crop_probability
    face = None
    if len(boxes_xyxy):
        sides = np.sqrt((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)).clip(min=1)
        zooms = wanted / sides
        fits = np.flatnonzero((zooms >= settings.least_zoom) & (zooms <= settings.most_zoom))
        chosen = rng.choice(fits) if len(fits) else rng.integers(len(zooms))
        face = boxes_xyxy[chosen]
        zoom = min(max(float(zooms[chosen]), settings.least_zoom), settings.most_zoom)
    width, height = (max(1, round(side / zoom)) for side in reversed(size_hw))
    corner = []
    for axis, (length, side) in enumerate(zip(size_wh, (width, height), strict=True)):
        low, high = sorted((0, length - side))
        if face is not None and not is_anywhere and length > side:
            centre = float(face[axis] + face[axis + 2]) / 2
            low, high = max(low, math.ceil(centre) - side), min(high, math.floor(centre))
        corner.append(int(rng.integers(low, max(low, high) + 1)))
    return Window(corner[0], corner[1], width, height)


def _draw_octave(least: float, most: float, rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(least), math.log(most)))


def draw_whole_face(
    size_wh: tuple[int, int],
    boxes_xyxy: NDArray[np.float32],
    settings: WholeFaceCrop,
    rng: np.random.Generator,
    fill_bgr: Colour,
) -> Window:
    """RetinaFace's: a square within the picture that wholly holds at least one face, or any square of a picture
    without faces; where none was found, a square of the long side with the whole picture in its top left corner."""
    width, height = size_wh
    for _ in range(settings.attempts):
        side = max(1, int(rng.choice(settings.scales) * min(height, width)))
        left = _offset(width, side, rng)
        top = _offset(height, side, rng)
        low, high = (left, top), (left + side, top + side)
        whole = (boxes_xyxy[:, :2] >= low) & (boxes_xyxy[:, 2:] <= high)
        if not len(boxes_xyxy) or whole.all(axis=1).any():
            return Window(left, top, side, side)
    return Window(0, 0, max(height, width), max(height, width), fill_bgr)


def draw_min_iou(
    size_wh: tuple[int, int], boxes_xyxy: NDArray[np.float32], settings: MinIouCrop, rng: np.random.Generator
) -> Window:
    """SSD's crop: the whole picture, or a window whose IoU with every face is at least a random minimum.

    Follows the templates' training: the mode is drawn among the minima, no minimum, and the whole picture; a window's
    sides are drawn freely with an aspect ratio of 0.5 to 2; a window in which no face's centre lies is tried again.
    """
    width, height = size_wh
    while True:
        mode = rng.integers(len(settings.min_ious) + 2)
        if mode == 0:
            return Window(0, 0, width, height)
        min_iou = 0.0 if mode == 1 else settings.min_ious[mode - 2]
        for _ in range(MIN_IOU_CROP_ATTEMPTS):
            crop_width = int(rng.uniform(settings.min_scale, 1) * width)
            crop_height = int(rng.uniform(settings.min_scale, 1) * height)
            if crop_width < 1 or crop_height < 1 or not 0.5 <= crop_height / crop_width <= 2:
                continue
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            if not len(boxes_xyxy):
                return Window(left, top, crop_width, crop_height)
            window = np.array([left, top, left + crop_width, top + crop_height], dtype=np.float32)
            if _iou(boxes_xyxy, window).min() < min_iou:
                continue
            if centres_inside(boxes_xyxy, left, top, crop_width, crop_height).any():
                return Window(left, top, crop_width, crop_height)


def _iou(boxes_xyxy: NDArray[np.float32], window_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) against one window (4,) -> (N,)."""
    sides = np.minimum(boxes_xyxy[:, 2:], window_xyxy[2:]) - np.maximum(boxes_xyxy[:, :2], window_xyxy[:2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1) + (window_xyxy[2:] - window_xyxy[:2]).prod()
    iou: NDArray[np.float32] = shared / (areas - shared)
    return iou


def distort(image_bgr: NDArray[np.uint8], settings: Photometric, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast, saturation and hue, each with probability 0.5 (Liu et al., SSD, section 2.2)."""
    gain, offset = 1.0, 0.0
    if rng.random() < 0.5:
        offset = rng.uniform(-settings.brightness_delta, settings.brightness_delta)
    if rng.random() < 0.5:
        gain = rng.uniform(*settings.contrast)
    if (gain, offset) != (1.0, 0.0):
        # One table for both: (pixel + offset) * gain.
        table = np.clip((np.arange(256) + offset) * gain, 0, 255).round().astype(np.uint8)
        image_bgr = as_uint8(cv2.LUT(image_bgr, table))
    change_saturation, change_hue = rng.random(2) < 0.5
    if change_saturation or change_hue:
        hue, saturation, value = cv2.split(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2HSV))
        if change_saturation:
            table = np.clip(np.arange(256) * rng.uniform(*settings.saturation), 0, 255).round().astype(np.uint8)
            saturation = cv2.LUT(saturation, table)
        if change_hue:
            # OpenCV's 8-bit hue counts in steps of two degrees, 0..179.
            turn = rng.uniform(-settings.hue_delta, settings.hue_delta) / 2
            hue = cv2.LUT(hue, ((np.arange(256) + turn).round() % 180).astype(np.uint8))
        image_bgr = as_uint8(cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2BGR))
    return image_bgr
