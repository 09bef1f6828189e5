"""One detector for all runtimes: a picture in, its faces out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.machine.memory import give_back_freed_memory
from facekit.ops.fusion import fuse
from facekit.ops.nms import select_detections
from facekit.pictures.read import as_uint8
from facekit.structures import FLIPPED_LANDMARKS, Decoded, Detections
from facekit.targets import Backend, open_backend
from facekit.template import TEMPLATES_DIR, Template, find_template, load_template

# Larger pictures go through the network in tiles, or the memory would grow with them. A box is taken from the tile
# whose core holds its centre; what a network sees of a face reaches hardly farther than the margin (YuNet's priors see
# 257 pixels around them, SCRFD's 389, its outermost at next to no weight), so the boxes are those of the whole picture.
WHOLE_PIXELS = 3_200_000  # half a gigabyte of YuNet's activations
TILE_CORE = 768  # pixels; TILE_CORE - TILE_MARGIN is a multiple of every network's coarsest stride, as TILE_CORE is
TILE_MARGIN = 320

FUSION_IOU = 0.55
BUNDLED_WEIGHTS = TEMPLATES_DIR / "yunet-n" / "facekit.pth"


@dataclass(frozen=True)
class Passes:
    """How often a picture is looked at: at sizes that are multiples of the protocol's, and mirrored. More than one
    pass is merged by weighted box fusion."""

    factors: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.factors or not 0.1 <= min(self.factors) <= max(self.factors) <= 8:
            raise FacekitError(
                f"--multi-scale: expected factors from 0.1 to 8, got {', '.join(map(str, self.factors)) or 'none'}. "
                f"Give some like 0.5,1,2."
            )

    def __len__(self) -> int:
        return len(self.factors) * (1 + self.flip)

    def words(self) -> str:
        """To stand in a protocol; empty for a single plain pass."""
        parts = []
        if self.factors != (1.0,):
            parts.append("scales " + ", ".join(f"x{factor:g}" for factor in self.factors))
        if self.flip:
            parts.append("mirrored too")
        if len(self) > 1:
            parts.append(f"merged by box fusion at IoU {FUSION_IOU:g}")
        return ", ".join(parts)


Scale = tuple[float, float]  # x and y: from pixels of the network's input to the picture's


class Detector:
    """Follows the template's evaluation protocol: resize or padding, thresholds, suppression."""

    def __init__(self, backend: Backend, template: Template, passes: Passes | None = None) -> None:
        self.backend = backend
        self.template = template
        self.passes = passes or Passes()
        if self.passes.factors != (1.0,) and backend.fixed_size_hw is not None:
            height, width = backend.fixed_size_hw
            raise FacekitError(
                f"--multi-scale: the exported graph takes {width}x{height} pictures alone. Measure the .pth instead."
            )

    @classmethod
    def open(
        cls,
        weights: str | Path,
        template: str | Path | Template,
        device: str | None = None,
        passes: Passes | None = None,
    ) -> Detector:
        """Loads .pth, .onnx, .xml or .bin weights of a template (its name, its file, or a work dir).

        Raises FacekitError for weights that are missing, damaged or of another detector.
        """
        if not isinstance(template, Template):
            template = load_template(find_template(str(template)))
        return cls(open_backend(Path(weights), template, device), template, passes)

    @classmethod
    def bundled(cls, device: str | None = None, passes: Passes | None = None) -> Detector:
        """The detector that comes with facekit: a yunet-n that it trained itself, see MODEL_CARD.md beside the file."""
        return cls.open(BUNDLED_WEIGHTS, BUNDLED_WEIGHTS.parent, device, passes)

    def protocol(self) -> str:
        """How pictures are measured, in words, to stand beside every figure."""
        return "; ".join(filter(None, (self.template.protocol(), self.passes.words())))

    def detect(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """(H, W, 3) BGR uint8 -> faces over the template's score threshold, in the picture's own pixels."""
        return self.detect_batch([image_bgr])[0]

    def detect_batch(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """detect() for several pictures: those that the protocol brings to one size go through the network together.

        Raises FacekitError where an exported graph takes one picture at a time.
        """
        passes = [self._one_pass(images_bgr, factor) for factor in self.passes.factors]
        if self.passes.flip:
            mirrored = [as_uint8(cv2.flip(image_bgr, 1)) for image_bgr in images_bgr]
            for factor in self.passes.factors:
                found = self._one_pass(mirrored, factor)
                passes.append([mirror(faces, image.shape[1]) for faces, image in zip(found, mirrored, strict=True)])
        if len(passes) == 1:
            return passes[0]
        rule = self.template.evaluation
        return [fuse(of_one_picture, FUSION_IOU, rule.max_detections) for of_one_picture in zip(*passes, strict=True)]

    def _one_pass(self, images_bgr: Sequence[NDArray[np.uint8]], factor: float) -> list[Detections]:
        found: dict[int, Detections] = {}
        alike: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8], Scale]]] = {}
        for index, image_bgr in enumerate(images_bgr):
            fed, scale_xy = scaled(image_bgr, self.template, factor)
            if fed.shape[0] * fed.shape[1] > WHOLE_PIXELS and not self.template.evaluation.feeds_one_size:
                found[index] = self._select(self._in_tiles(fed), 0, fed.shape, scale_xy)
                continue
            fed = padded(fed, self.template, factor)
            alike.setdefault(fed.shape, []).append((index, fed, scale_xy))
        for shape, group in alike.items():
            decoded = self.backend(np.stack([fed for _, fed, _ in group]))
            for place, (index, _, scale_xy) in enumerate(group):
                found[index] = self._select(decoded, place, shape, scale_xy)
        return [found[index] for index in range(len(images_bgr))]

    def _select(self, decoded: Decoded, picture: int, shape: tuple[int, ...], scale_xy: Scale) -> Detections:
        rule = self.template.evaluation
        return select_detections(
            decoded,
            picture,
            score_threshold=rule.score_threshold,
            nms_iou_threshold=rule.nms_iou_threshold,
            max_candidates=rule.max_candidates,
            max_detections=rule.max_detections,
            union_slack=rule.nms_union_slack * shape[0] * shape[1],
            scale_xy=scale_xy,
        )

    def _in_tiles(self, image_bgr: NDArray[np.uint8]) -> Decoded:
        """The candidates of a large picture, before suppression."""
        threshold = self.template.evaluation.score_threshold
        boxes, scores, landmarks = [], [], []
        for core_xyxy, tile_xyxy in tiles(image_bgr.shape[:2]):
            left, top, right, bottom = tile_xyxy
            # Tiles begin at multiples of what is padded to: only those at the far edges are padded, as the whole is.
            tile_bgr = padded(image_bgr[top:bottom, left:right], self.template)
            decoded = self.backend(np.ascontiguousarray(tile_bgr[None]))
            corner = decoded.boxes_xyxy.new_tensor((left, top))
            boxes_xyxy = decoded.boxes_xyxy[0] + corner.tile(2)
            centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
            low, high = (corner.new_tensor(point) for point in (core_xyxy[:2], core_xyxy[2:]))
            keep = (decoded.scores[0] > threshold) & (centres >= low).all(1) & (centres < high).all(1)
            boxes.append(boxes_xyxy[keep])
            scores.append(decoded.scores[0, keep])
            if decoded.landmarks_xy is not None:
                landmarks.append(decoded.landmarks_xy[0, keep] + corner.tile(5))
            give_back_freed_memory()
        return Decoded(
            torch.cat(boxes)[None], torch.cat(scores)[None], torch.cat(landmarks)[None] if landmarks else None
        )


Rectangle = tuple[float, float, float, float]


def tiles(size_hw: tuple[int, ...]) -> Iterator[tuple[Rectangle, tuple[int, int, int, int]]]:
    """The cores that a picture is divided into, and the tiles around them, x1, y1, x2, y2 in pixels. The cores at the
    picture's edges reach beyond it without end: boxes may."""

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
            yield (x1, y1, x2, y2), (left, top, right, bottom)


def mirror(faces: Detections, width: int) -> Detections:
    """The faces of a mirrored picture of that width, as they lie in the picture itself."""
    boxes_xyxy = faces.boxes_xyxy.copy()
    boxes_xyxy[:, [0, 2]] = width - boxes_xyxy[:, [2, 0]]
    landmarks_xy = faces.landmarks_xy
    if landmarks_xy is not None:
        landmarks_xy = landmarks_xy[:, FLIPPED_LANDMARKS].copy()
        landmarks_xy[..., 0] = width - landmarks_xy[..., 0]
    return Detections(boxes_xyxy, faces.scores, landmarks_xy)


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
        return as_uint8(cv2.resize(image_bgr, (input_width, input_height))), scale_xy
    if rule.resize == "none" and factor == 1:
        return image_bgr, (1.0, 1.0)
    scale = 1 / factor if rule.resize == "none" else max(height / input_height, width / input_width)
    size_wh = (max(1, round(width / scale)), max(1, round(height / scale)))
    # One factor for both, also where rounding to whole pixels has bent the shape a little.
    return as_uint8(cv2.resize(image_bgr, size_wh)), (scale, scale)


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
    return np.pad(image_bgr, ((0, bottom), (0, right), (0, 0)))
