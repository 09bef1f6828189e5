"""One detector for all runtimes: a picture in, its faces out. No PyTorch unless the weights are .pth."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import ArgumentError, FacekitError, Loss
from facekit.feed import (
    LARGE_FACE,
    LEAST_COPY,
    candidates,
    fitted,
    is_large,
    joined,
    pad,
    padded,
    reduced,
    scaled,
    smaller_copies,
    tiles,
    within_core,
)
from facekit.machine.memory import give_back_freed_memory
from facekit.ops.fusion import fuse, unite
from facekit.ops.head import declared_head
from facekit.ops.nms import select_detections
from facekit.pictures.arrays import Picture, as_bgr
from facekit.structures import Activated, Decoded, Detections, mirrored_boxes, mirrored_landmarks
from facekit.targets import MOST_THREADS, Backend, Stream, open_backend, pictures_at_once, streaming
from facekit.template import TEMPLATES_DIR, Template, find_template, load_template

log = logging.getLogger(__name__)

_DEVICE = re.compile(r"(cpu|tensorrt|mps|(cuda|xpu)(:\d{1,3})?)")

FUSION_IOU = 0.55
BROKEN = (
    "a score is no number from 0 to 1, or a box or landmark none at all: no faces there. Look for a diverged training, "
    "or a broken export."
)
BUNDLED_WEIGHTS = TEMPLATES_DIR / "yunet-n" / "facekit.onnx"
BUNDLED_INT8 = BUNDLED_WEIGHTS.with_name("facekit-int8.xml")  # the same in OpenVINO, layers rounded to INT8


@dataclass(frozen=True)
class Passes:
    """How often a picture is looked at: at sizes that are multiples of the protocol's, and mirrored. More than one
    pass is merged by weighted box fusion. longest_side: of detectors that take pictures at their own size, larger ones
    are scaled down to it first. large_faces: such detectors miss faces that are over some 400 pixels wide; pictures
    over 640 pixels are looked at in smaller copies, too."""

    factors: tuple[float, ...] = (1.0,)
    flip: bool = False
    longest_side: int | None = None  # pixels
    large_faces: bool = False

    def __post_init__(self) -> None:
        try:
            is_right = bool(self.factors) and all(0.1 <= factor <= 8 for factor in self.factors)
        except TypeError:  # no list, or not of numbers
            is_right = False
        if not is_right:
            raise ArgumentError(
                f"`multi_scale`: expected factors from 0.1 to 8, got {self.factors!r:.80}. Give some like (0.5, 1, 2)."
            )

        side = self.longest_side
        is_number = isinstance(side, int | np.integer) and not isinstance(side, bool)
        if side is not None and not (is_number and 32 <= side <= 1 << 15):
            raise ArgumentError(f"`longest_side`: expected 32 to {1 << 15} pixels, got {side!r:.80}.")
        for name in ("flip", "large_faces"):
            if not isinstance(value := getattr(self, name), bool | np.bool_):
                raise ArgumentError(f"`{name}`: expected true or false, got {value!r:.80}.")

    def __len__(self) -> int:
        return len(self.factors) * (1 + self.flip)

    def words(self) -> str:
        """To stand in a protocol; empty for a single plain pass."""
        parts = []
        if self.longest_side is not None:
            parts.append(f"longest side at most {self.longest_side}")
        if self.factors != (1.0,):
            parts.append("scales " + ", ".join(f"x{factor:g}" for factor in self.factors))
        if self.flip:
            parts.append("mirrored too")
        if self.large_faces:
            parts.append(f"over {2 * LEAST_COPY} pixels in smaller copies too")
        if len(self) > 1:
            parts.append(f"merged by box fusion at IoU {FUSION_IOU:g}")
        return ", ".join(parts)


class Detector:
    """Follows the template's evaluation protocol: resize or padding, thresholds, suppression."""

    _broken = 0  # candidates so far that are no faces

    def __init__(self, backend: Backend, template: Template | None = None, passes: Passes | None = None) -> None:
        self.backend = backend
        if not isinstance(passes, Passes | None):
            raise ArgumentError(
                f"`passes`: expected facekit.detector.Passes, or None, got {passes!r:.80}. Give one such as "
                f"Passes(factors=(0.5, 1.0)), or leave it out."
            )
        self.passes = passes or Passes()
        self.template = fitted(template or backend.template, backend.fixed_size_hw)
        if self.passes.factors != (1.0,) and backend.fixed_size_hw is not None:
            height, width = backend.fixed_size_hw
            raise FacekitError(
                f"`multi_scale`: the exported graph takes {width}x{height} pictures alone. Measure the .pth instead."
            )
        if self.passes.longest_side is not None and self.template.evaluation.resize != "none":
            raise FacekitError(
                f"`longest_side`: {self.template.name} looks at every picture at a size of its own "
                f"({self.template.protocol()}). Leave it out, or take a detector of any size, such as yunet-n."
            )
        if self.template.evaluation.resize != "none":  # faces of all sizes are fitted into its input
            self.passes = replace(self.passes, large_faces=False)
        self.head = declared_head(self.template.model)
        self._priors = lru_cache(maxsize=8)(self.head.priors)
        # Most runtimes keep a picture between two calls: another thread's would take its place.
        self._turn: AbstractContextManager[object] = nullcontext() if backend.is_parallel else threading.Lock()

    @classmethod
    def open(
        cls,
        weights: str | Path,
        template: str | Path | Template | None = None,
        device: str | None = None,
        passes: Passes | None = None,
        threads: int | None = None,
        backend: str | None = None,
        layout: str | None = None,
        mode: Literal["latency", "throughput"] = "latency",
    ) -> Detector:
        """Loads .pth weights, a file that export writes, or one of others' as it is; `bundled` as bundled() does.

        `template`: a name, a file or a work dir; None where the file names its own, as facekit's do, or where its
        outputs tell what it is. `layout`: for others' files that can't tell, a name of LAYOUTS in
        facekit.targets.reading.layouts, such as centerface. `device`: PyTorch's; of .onnx also tensorrt; what runs on
        the CPU alone warns of others. `threads`: 1 to 1024, None for the cores that this process may use. `backend`: a
        name of facekit.targets.BACKENDS, such as onnx or openvino; `auto` for the fastest that is installed and reads
        the file; None for the file's own.
        `mode`: throughput keeps several of detect_batch()'s pictures on their way at once, in OpenVINO.
        Raises FacekitError for weights that are missing, damaged or of another detector, ArgumentError for what is no
        path or no number.
        """
        if not isinstance(weights, str | os.PathLike):
            raise ArgumentError(f"`weights`: expected a path, got {weights!r:.80}. Without one: Detector.bundled().")
        is_number = isinstance(threads, int | np.integer) and threads is not True
        if threads is not None and not (is_number and 1 <= threads <= MOST_THREADS):
            raise ArgumentError(
                f"`threads`: expected a whole number of 1 to {MOST_THREADS}, or None, got {threads!r:.80}."
            )
        if device is not None and not (isinstance(device, str) and _DEVICE.fullmatch(device)):
            raise ArgumentError(f"`device`: expected cpu, cuda, cuda:1 or the like, or tensorrt, got {device!r:.80}.")
        is_bundled = str(weights) == "bundled" and not Path(weights).exists() and layout is None
        if is_bundled:
            weights, template = BUNDLED_WEIGHTS, template or BUNDLED_WEIGHTS.parent
            passes = Passes(large_faces=True) if passes is None else passes
        if template is not None and not isinstance(template, Template):
            template = load_template(find_template(str(template)))
        if is_bundled and template is not None and template.name != BUNDLED_WEIGHTS.parent.name:
            raise ArgumentError(
                f"`weights=bundled` is a {BUNDLED_WEIGHTS.parent.name}, not a {template.name}. Leave `template` out."
            )
        opened = open_backend(Path(weights), template, device, threads, backend, layout)
        if mode not in ("latency", "throughput"):
            raise ArgumentError(f"`mode`: expected latency or throughput, got {mode!r:.80}.")
        if mode == "throughput":
            opened = streaming(opened, Path(weights))
        return cls(opened, template, passes)

    @classmethod
    def bundled(
        cls,
        device: str | None = None,
        passes: Passes | None = None,
        threads: int | None = None,
        backend: str | None = None,
        int8: bool = False,
    ) -> Detector:
        """The detector that comes with facekit: a yunet-n that it trained itself, see MODEL_CARD.md beside the file.

        `passes`: None for such as find large faces, too, as the commands do; open() follows the template's protocol
        alone, as evaluation does.
        `int8`: with layers in INT8, by OpenVINO: a sixth less time, at most 0.3 points of AP less (MODEL_CARD.md).
        """
        if not isinstance(int8, bool | np.bool_):
            raise ArgumentError(f"`int8`: expected True or False, got {int8!r:.80}.")
        weights = BUNDLED_INT8 if int8 else BUNDLED_WEIGHTS
        passes = Passes(large_faces=True) if passes is None else passes
        return cls.open(weights, weights.parent, device, passes, threads, backend)

    def losses(self) -> list[Loss]:
        """What was left out of the pictures so far, as commands tell it behind their work."""
        return [Loss(self.template.name, f"{self._broken} candidates: {BROKEN}")] if self._broken else []

    def protocol(self) -> str:
        """How pictures are measured, in words, to stand beside every figure."""
        return "; ".join(filter(None, (self.template.protocol(), self.passes.words())))

    def detect(self, picture: Picture) -> Detections:
        """A picture's faces over the template's score threshold, best first, in its own pixels.

        `picture`: (H, W, 3) BGR uint8, as cv2.imread gives; or the path of a file. Grey, BGRA and 16-bit arrays are
        turned into that. Raises TypeError or ValueError for arrays whose meaning is not sure.
        """
        return self.detect_batch([picture])[0]

    def detect_batch(self, pictures: Iterable[Picture]) -> list[Detections]:
        """detect() for several pictures: those that the protocol brings to one size go through the network together,
        where it takes more than one, and where that is faster (on a CPU only small ones). Raises ArgumentError for a
        single path or picture."""
        images_bgr = [as_bgr(picture) for picture in _several(pictures)]
        passes = [self._at_sizes(images_bgr, factor) for factor in self.passes.factors]
        if self.passes.flip:
            mirrored = [np.asarray(cv2.flip(image_bgr, 1), dtype=np.uint8) for image_bgr in images_bgr]
            for factor in self.passes.factors:
                found = self._at_sizes(mirrored, factor)
                passes.append([mirror(faces, image.shape[1]) for faces, image in zip(found, mirrored, strict=True)])
        if len(passes) == 1:
            return passes[0]
        rule = self.template.evaluation
        return [fuse(of_one_picture, FUSION_IOU, rule.max_detections) for of_one_picture in zip(*passes, strict=True)]

    def detect_each(self, pictures: Iterable[Picture]) -> list[Detections | FacekitError]:
        """detect_batch(), where one picture that can't be read, is none, or that the network or its runtime can't take
        costs the others nothing: in its place stands why."""
        pictures = _several(pictures)
        errors: dict[int, FacekitError] = {}
        images_bgr = []
        for index, picture in enumerate(pictures):
            try:
                images_bgr.append(as_bgr(picture))
            except FacekitError as error:
                errors[index] = error
            except (TypeError, ValueError) as error:
                errors[index] = FacekitError(error)
        found = iter(self._detect_each(images_bgr))
        return [errors[index] if index in errors else next(found) for index in range(len(pictures))]

    def _detect_each(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Detections | FacekitError]:
        if not images_bgr:
            return []
        try:
            return list(self.detect_batch(images_bgr))
        except FacekitError as error:
            if len(images_bgr) == 1:
                return [error]
        return [found for image_bgr in images_bgr for found in self._detect_each([image_bgr])]

    def _at_sizes(self, images_bgr: Sequence[NDArray[np.uint8]], factor: float) -> list[Detections]:
        """_one_pass(), and where large faces are asked for, of large pictures in smaller copies, too."""
        found = self._one_pass(images_bgr, factor)
        if not self.passes.large_faces:
            return found
        copies_bgr, places = [], []
        for index, image_bgr in enumerate(images_bgr):
            longest, finer = max(image_bgr.shape[:2]), factor * self._shrink(image_bgr)
            for side in smaller_copies(round(longest * finer)):
                copy_bgr, scale_xy = reduced(image_bgr, side / longest)
                copies_bgr.append(copy_bgr)
                places.append((index, scale_xy, LARGE_FACE / 2 / finer))
                finer = side / longest
        looks = [[faces] for faces in found]
        for faces, (index, scale_xy, least) in zip(self._one_pass(copies_bgr, 1.0), places, strict=True):
            looks[index].append(
                enlarged(faces, scale_xy).at_least(least)
            )  # smaller ones are better seen in finer looks
        rule = self.template.evaluation
        return [
            each[0] if len(each) == 1 else
            unite(each, rule.nms_iou_threshold, LARGE_FACE / factor / self._shrink(image_bgr), rule.max_detections)
            for each, image_bgr in zip(looks, images_bgr, strict=True)
        ]  # fmt: skip

    def _one_pass(self, images_bgr: Sequence[NDArray[np.uint8]], factor: float) -> list[Detections]:
        if hasattr(self.backend, "many") and len(images_bgr) > 1:
            return self._streamed(cast(Stream, self.backend), images_bgr, factor)
        found: dict[int, Detections] = {}
        alike: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8], tuple[float, float]]]] = {}
        for index, image_bgr in enumerate(images_bgr):
            fed, scale_xy = scaled(image_bgr, self.template, factor * self._shrink(image_bgr))
            if is_large(fed.shape, self.template, self.backend.most_side):
                found[index] = self._select(self._in_tiles(fed), fed.shape, scale_xy)
                continue
            fed = self._padded(fed, factor)  # of any size: to multiples alone
            alike.setdefault(fed.shape, []).append((index, fed, scale_xy))
        for shape, group in alike.items():
            at_once = pictures_at_once(self.backend, (shape[0], shape[1]))
            for first in range(0, len(group), at_once):
                part = group[first : first + at_once]
                decoded = self._look([fed for _, fed, _ in part])
                for boxes, (index, _, scale_xy) in zip(decoded, part, strict=True):
                    found[index] = self._select(boxes, shape, scale_xy)
        return [found[index] for index in range(len(images_bgr))]

    def _streamed(self, stream: Stream, images_bgr: Sequence[NDArray[np.uint8]], factor: float) -> list[Detections]:
        """_one_pass() with pictures prepared and faces selected while others are in the network."""
        found: dict[int, Detections] = {}
        large: dict[int, tuple[NDArray[np.uint8], tuple[float, float]]] = {}
        on_their_way: deque[tuple[int, tuple[int, int], tuple[float, float]]] = deque()

        def prepared() -> Iterator[NDArray[np.uint8]]:
            for index, image_bgr in enumerate(images_bgr):
                fed, scale_xy = scaled(image_bgr, self.template, factor * self._shrink(image_bgr))
                if is_large(fed.shape, self.template, self.backend.most_side):
                    large[index] = fed, scale_xy
                    continue
                fed = self._padded(fed, factor)
                on_their_way.append((index, (fed.shape[0], fed.shape[1]), scale_xy))
                yield np.ascontiguousarray(fed)[None]

        with self._turn:
            for said in stream.many(prepared()):
                index, size_hw, scale_xy = on_their_way.popleft()
                (boxes,) = self._candidates(said, 1, size_hw)
                found[index] = self._select(boxes, size_hw, scale_xy)
        for index, (fed, scale_xy) in large.items():
            found[index] = self._select(self._in_tiles(fed), fed.shape, scale_xy)
        return [found[index] for index in range(len(images_bgr))]

    def _shrink(self, image_bgr: NDArray[np.uint8]) -> float:
        longest = max(image_bgr.shape[:2])
        return 1.0 if self.passes.longest_side is None else min(1.0, self.passes.longest_side / longest)

    def _padded(self, image_bgr: NDArray[np.uint8], factor: float = 1.0) -> NDArray[np.uint8]:
        """padded(), and to the shortest side that the network takes."""
        fed = padded(image_bgr, self.template, factor)
        bottom, right = (max(0, self.backend.least_side - side) for side in fed.shape[:2])
        return pad(fed, bottom, right)

    def _look(self, fed: Sequence[NDArray[np.uint8]]) -> list[Decoded]:
        """The candidates of pictures of one size, before suppression."""
        batch = np.ascontiguousarray(fed[0])[None] if len(fed) == 1 else np.stack(fed)
        with self._turn:
            said = self.backend(batch)
        return self._candidates(said, len(fed), (batch.shape[1], batch.shape[2]))

    def _candidates(self, said: Activated | Decoded, pictures: int, size_hw: tuple[int, int]) -> list[Decoded]:
        priors = self._priors(size_hw)
        threshold = self.template.evaluation.score_threshold
        looks = [candidates(said, picture, self.head, priors, threshold) for picture in range(pictures)]
        broken = sum(count for _, count in looks)
        if broken and not self._broken:  # once a detector
            log.warning("%d candidates of a picture: %s", broken, BROKEN)
        self._broken += broken
        return [boxes for boxes, _ in looks]

    def _select(self, boxes: Decoded, shape: tuple[int, ...], scale_xy: tuple[float, float]) -> Detections:
        rule = self.template.evaluation
        return select_detections(
            boxes,
            score_threshold=rule.score_threshold,
            nms_iou_threshold=rule.nms_iou_threshold,
            max_candidates=rule.max_candidates,
            max_detections=rule.max_detections,
            union_slack=rule.nms_union_slack * shape[0] * shape[1],
            scale_xy=scale_xy,
        )

    def _in_tiles(self, image_bgr: NDArray[np.uint8]) -> Decoded:
        """The candidates of a large picture, before suppression."""
        parts = []
        for tile in tiles(image_bgr.shape[:2]):
            left, top, right, bottom = tile.tile_xyxy
            # Tiles begin at multiples of what is padded to: only those at the far edges are padded, as the whole is.
            (boxes,) = self._look([self._padded(image_bgr[top:bottom, left:right])])
            parts.append(within_core(boxes, tile))
            give_back_freed_memory()
        return joined(parts)


def _several(pictures: Iterable[Picture]) -> list[Picture]:
    """Raises ArgumentError for one picture, or its path, which would be taken for several."""
    is_picture = (
        isinstance(pictures, np.ndarray)
        and pictures.dtype != object
        and (pictures.ndim == 2 or (pictures.ndim == 3 and pictures.shape[-1] in (1, 3, 4)))
    )
    items = None
    if not (is_picture or isinstance(pictures, str | bytes | os.PathLike)):
        with suppress(TypeError):  # of what has no items
            items = iter(pictures)
    if items is None:
        got = f"an array of shape {pictures.shape}" if isinstance(pictures, np.ndarray) else repr(pictures)[:80]
        raise ArgumentError(f"`pictures`: expected several, got {got}. Give a list, or call detect().")
    return list(items)


def mirror(faces: Detections, width: int) -> Detections:
    """The faces of a mirrored picture of that width, as they lie in the picture itself."""
    landmarks_xy = None if faces.landmarks_xy is None else mirrored_landmarks(faces.landmarks_xy, width)
    return Detections(mirrored_boxes(faces.boxes_xyxy, width), faces.scores, landmarks_xy)


def enlarged(faces: Detections, scale_xy: tuple[float, float]) -> Detections:
    """The faces of a smaller copy, in the picture's own pixels."""
    scale = np.array(scale_xy, np.float32)
    landmarks_xy = None if faces.landmarks_xy is None else faces.landmarks_xy * scale
    return Detections(faces.boxes_xyxy * np.tile(scale, 2), faces.scores, landmarks_xy)
