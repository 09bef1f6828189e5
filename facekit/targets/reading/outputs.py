"""What exported graphs take and give, whichever runtime runs them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.ops.head import Head, declared_head
from facekit.structures import Activated, Decoded
from facekit.targets.reading.packings import (
    Arrays,
    Find,
    Packing,
    deltas,
    detection_output,
    fractions,
    levels,
    our_boxes,
    our_faces,
    our_levels,
    scored_boxes,
)
from facekit.template import InputSettings, Template

# In this order: ours go by name.
FINDS: tuple[Find, ...] = (our_boxes, our_faces, our_levels, fractions, detection_output, scored_boxes, levels, deltas)
MAX_SIDE = 16384  # pixels of an input of fixed size
GRAPH_SUFFIXES = (".onnx", ".xml", ".bin")  # whose outputs are looked at
TEMPLATE_KEY = "facekit_template"  # of an .onnx file's metadata
FOREIGN = "foreign"  # architecture of a file that only its outputs' layout is known of; no key of facekit.models.MODELS


def planes(images_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, H, W, 3) BGR uint8 -> (B, 3, H, W) float32, the pixels as they are."""
    batch, height, width, _ = images_bgr.shape
    blob = np.empty((batch, 3, height, width), dtype=np.uint8)
    for image_bgr, into in zip(images_bgr, blob, strict=True):
        cv2.split(image_bgr, tuple(into))  # half the time of NumPy's transpose
    return blob.astype(np.float32)


class GraphInput:
    """The one input of a graph: (batch, 3, height, width) float32, or pictures: (batch, height, width, 3) uint8."""

    def __init__(self, shapes: Sequence[Sequence[int | None]], types: Sequence[str], source: str) -> None:
        """`shapes`: of each input, None where a side is free; `types`: "float32" and the like."""
        expected = "one input, float32 (batch, 3, height, width)"
        text = ", ".join(f"{kind} {tuple('?' if side is None else side for side in shape)}" for kind, shape in
                         zip(types, shapes, strict=True)) or "none"  # fmt: skip
        refusal = FacekitError(f"{source}: a detector has {expected}; this graph has {text}.")
        self.is_uint8 = len(shapes) == 1 and len(shapes[0]) == 4 and types[0] == "uint8" and shapes[0][3] == 3
        if len(shapes) != 1 or len(shapes[0]) != 4:
            raise refusal
        if not self.is_uint8 and (types[0] != "float32" or shapes[0][1] not in (3, None)):
            raise refusal
        batch, *sides = [shapes[0][axis] for axis in ((0, 1, 2) if self.is_uint8 else (0, 2, 3))]
        fixed = [side for side in sides if side is not None]
        if batch not in (None, 1) or len(fixed) == 1 or any(not 1 <= side <= MAX_SIDE for side in fixed):
            raise refusal
        self.fixed_batch = batch
        self.fixed_size_hw = (fixed[0], fixed[1]) if fixed else None


class GraphOutputs:
    """Turns the arrays of a template's graph into Activated or Decoded, whichever of the packings they have."""

    def __init__(self, template: Template, source: str, finds: Sequence[Find] = FINDS) -> None:
        self.head = declared_head(template.model)
        self.template = template
        self.source = source
        self.finds = finds
        self.packing: Packing | None = None

    @property
    def names(self) -> list[str]:
        """Of the arrays that are read."""
        return self.packing.names if self.packing else []

    @property
    def is_ours(self) -> bool:
        """Whether the graph is facekit's, or laid out like it."""
        return self.packing is not None and self.packing.is_ours

    @property
    def suppresses(self) -> bool:
        """Whether the graph drops boxes itself, so that no other thresholds can be asked of it than its own."""
        return self.packing is not None and self.packing.is_suppressed

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
        for find in self.finds:
            self.packing = find(outputs, size_hw, self.head)
            if self.packing is not None:
                return
        boxes, scores = outputs.get("boxes"), outputs.get("scores")
        if boxes is not None and scores is not None:
            wanted = "boxes (batch, priors, 4) and scores (batch, priors), float32"
        else:
            wanted = f"{', '.join(self.head.level_names)} or boxes and scores, float32"
        raise FacekitError(
            f"{self.source}: its outputs are none that {self.template.name} exports: expected {wanted}; got "
            f"{described(outputs)}. Use the template that the file was made with, or export the weights again."
        )

    def __call__(self, outputs: Arrays, size_hw: tuple[int, int]) -> Activated | Decoded:
        """Arrays by output name, for an input of size_hw pixels."""
        assert self.packing is not None, "recognise comes first"
        return self.packing.read([outputs[name] for name in self.packing.names], size_hw)

    def feed(self, images_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the graph is fed: raw pixels where it is ours or the Open Model Zoo's, which normalise inside; others'
        leave that to the caller."""
        blob = planes(images_bgr)
        takes_raw = self.packing is not None and self.packing.takes_raw and not is_foreign(self.template)
        return blob if takes_raw else normalised(blob, self.template.input)


def is_foreign(template: Template) -> bool:
    """Whether it says how a foreign file is read (facekit.targets.reading.layouts), and no more."""
    return template.model.architecture == FOREIGN


def described(outputs: Arrays) -> str:
    """Names, types and shapes, for people."""
    return "; ".join(f"{name} {array.dtype}{array.shape}" for name, array in outputs.items()) or "none"


def normalised(blob_bgr: NDArray[np.float32], settings: InputSettings) -> NDArray[np.float32]:
    """(B, 3, H, W) BGR pixels -> (pixel - mean) / std in the template's channel order."""
    blob = blob_bgr[:, ::-1] if settings.colour_order == "rgb" else blob_bgr
    if not any(settings.mean) and set(settings.std) == {1}:
        return np.ascontiguousarray(blob)
    mean, std = (np.array(values, dtype=np.float32).reshape(1, 3, 1, 1) for values in (settings.mean, settings.std))
    return np.ascontiguousarray((blob - mean) / std)


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
