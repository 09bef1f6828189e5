"""What a network's numbers mean: its priors, its coder, its scoring; and the one decode path of all runtimes.

Arrays are torch tensors or NumPy arrays: decoding goes by the array API standard, so training, the exported graph and
every runtime run these same lines, the runtimes without PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from facekit.base.schema import place
from facekit.errors import FacekitError
from facekit.ops.boxes import clip_to
from facekit.ops.coders import Coder, DeltaCoder, DistanceCoder, SigmoidCoder
from facekit.structures import Activated, Array, Decoded, Priors, RawOutputs
from facekit.template import DeltaCoding, DistanceCoding, HeadSettings, ModelSettings


@dataclass(frozen=True)
class Head:
    """The meaning of RawOutputs, as the template's model.head declares it."""

    strides: tuple[int, ...]  # finest level first
    prior_sizes_wh: tuple[tuple[tuple[float, float], ...], ...]  # pixels, a list a level
    cell_offset: float  # prior centres at (cell + cell_offset) * stride
    coder: Coder
    # softmax over face and background, or sigmoid of one class; times the sigmoid of objectness where there is one
    scoring: Literal["softmax", "sigmoid"]
    face_column: int = 0
    has_objectness: bool = False  # or centre-ness
    has_landmarks: bool = False
    # Cells share the input's sides evenly instead of lying a stride apart (they differ where the stride does not
    # divide the input), and priors are clipped to the input, component by component (Ultra-Light).
    fits_cells: bool = False
    clips_boxes: bool = False  # decoded boxes end at the input's border
    floors_cells: bool = False  # no cell where less than a stride is left at the border
    any_size: bool = False  # exported level by level, for inputs of any size; else decoded in the graph, for one size

    @property
    def priors_a_cell(self) -> tuple[int, ...]:
        """How many priors share a cell, a level."""
        return tuple(len(sizes_wh) for sizes_wh in self.prior_sizes_wh)

    @property
    def level_kinds(self) -> dict[str, int]:
        """The quantities that a graph gives level by level, in their order, and their columns."""
        kinds = {"cls": 2 if self.scoring == "softmax" else 1, "bbox": 4}
        if self.has_objectness:
            kinds["obj"] = 1
        if self.has_landmarks:
            kinds["kps"] = 10
        return {kind: kinds[kind] for kind in ("cls", "obj", "bbox", "kps") if kind in kinds}

    @property
    def level_names(self) -> list[str]:
        """Names of the tensors of each level, quantity by quantity: cls_8, cls_16, ..., bbox_8, ..."""
        return [f"{kind}_{stride}" for kind in self.level_kinds for stride in self.strides]

    def cells(self, size_hw: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows and columns of each level for an input of that size."""
        height, width = size_hw
        if self.floors_cells:
            return [(height // s, width // s) for s in self.strides]
        # Not -(-side // stride): ONNX divides towards zero, also where a graph computes its cells.
        return [((height + s - 1) // s, (width + s - 1) // s) for s in self.strides]

    def priors(self, size_hw: tuple[int, int]) -> Priors:
        """The A priors of an input of that size, as NumPy arrays: level by level, row by row, cell by cell."""
        height, width = size_hw
        levels, strides = [], []
        for stride, sizes_wh, (rows, columns) in zip(
            self.strides, self.prior_sizes_wh, self.cells(size_hw), strict=True
        ):
            step_x, step_y = (width / columns, height / rows) if self.fits_cells else (stride, stride)
            level = np.empty((rows, columns, len(sizes_wh), 4), dtype=np.float32)
            level[..., 0] = ((np.arange(columns, dtype=np.float32) + self.cell_offset) * np.float32(step_x))[:, None]
            level[..., 1] = ((np.arange(rows, dtype=np.float32) + self.cell_offset) * np.float32(step_y))[:, None, None]
            level[..., 2:] = sizes_wh
            levels.append(level.reshape(-1, 4))
            strides.append(np.full(len(levels[-1]), stride, dtype=np.float32))
        cxcywh = np.concatenate(levels)
        if self.fits_cells:
            cxcywh = np.minimum(cxcywh, np.array([width, height, width, height], dtype=np.float32))
        return Priors(cxcywh, np.concatenate(strides), size_hw)

    def activate(self, raw: RawOutputs) -> Activated:
        """A network's logits to probabilities."""
        softmax = self.scoring == "softmax"
        probabilities = raw.class_logits.softmax(dim=-1) if softmax else raw.class_logits.sigmoid()
        objectness = None if raw.objectness_logits is None else raw.objectness_logits.sigmoid()
        return Activated(probabilities, raw.box_deltas, objectness, raw.landmark_deltas)

    def scores(self, activated: Activated) -> Array:
        """(...) in 0..1: how sure the network is of a face at each prior."""
        scores = activated.class_probabilities[..., self.face_column]
        return scores if activated.objectness is None else scores * activated.objectness

    def decode(self, activated: Activated, priors: Priors) -> Decoded:
        """Probabilities and deltas to scores, boxes and landmarks in pixels of the input."""
        boxes_xyxy = self.coder.decode(activated.box_deltas, priors)
        if self.clips_boxes:
            boxes_xyxy = clip_to(boxes_xyxy, priors.size_hw)
        landmarks_xy = None
        if activated.landmark_deltas is not None:
            landmarks_xy = self.coder.decode_points(activated.landmark_deltas, priors)
        return Decoded(boxes_xyxy, self.scores(activated), landmarks_xy)


def declared_head(
    settings: ModelSettings,
    strides: tuple[int, ...] | None = None,
    scoring: Literal["softmax", "sigmoid"] | None = None,
    gives: tuple[str, ...] = (),
    one_prior_a_cell: bool = False,
) -> Head:
    """The head that a template declares; no network is built for it.

    A network says what it has: `strides` of its levels, and with them the `scoring` that its class columns are for,
    what it `gives` besides (objectness, landmarks), and whether it has channels for one prior a cell alone. Raises
    FacekitError where the template's differ from them, or from its lists of priors.
    """
    head = settings.head
    assert head is not None, "load_template fills it in"
    counts = [len(level) for level in settings.prior_sizes_wh]
    if strides is not None:
        _check_head(settings, head, strides, scoring, gives)
        if one_prior_a_cell and set(counts) != {1}:
            raise _misfit(settings, "prior_sizes_wh", f"{settings.architecture} has one prior a level, got {counts}.")
    if len(head.strides) != len(counts):
        raise _misfit(
            settings,
            "head.strides",
            f"{len(head.strides)} levels, but model.prior_sizes_wh has {len(counts)} lists. Give each level its list "
            f"of priors.",
        )
    coder: Coder
    if isinstance(head.coder, DeltaCoding):
        coder = DeltaCoder(head.coder.centre_variance, head.coder.size_variance)
    elif isinstance(head.coder, DistanceCoding):
        coder = DistanceCoder(head.coder.in_strides)
    else:
        coder = SigmoidCoder()
    return Head(
        strides=head.strides,
        prior_sizes_wh=settings.prior_sizes_wh,
        cell_offset=head.cell_offset,
        coder=coder,
        scoring=head.scoring,
        face_column=head.face_column,
        has_objectness=head.has_objectness,
        has_landmarks=head.has_landmarks,
        fits_cells=head.fits_cells,
        clips_boxes=head.clips_boxes,
        floors_cells=head.floors_cells,
        any_size=head.export_layout == "per_level",
    )


def _check_head(
    settings: ModelSettings,
    head: HeadSettings,
    strides: tuple[int, ...],
    scoring: str | None,
    gives: tuple[str, ...],
) -> None:
    if head.strides != strides:
        levels = f"levels of strides {list(strides)}, got {list(head.strides)}"
        raise _misfit(settings, "head.strides", f"{settings.architecture} has {levels}.")
    if scoring is not None and head.scoring != scoring:
        raise _misfit(settings, "head.scoring", f"{settings.architecture} is scored by {scoring}, got {head.scoring}.")
    for kind, given in (("objectness", head.has_objectness), ("landmarks", head.has_landmarks)):
        if scoring is not None and given != (kind in gives):
            has = "has" if kind in gives else "has no"
            raise _misfit(settings, f"head.has_{kind}", f"{settings.architecture} {has} {kind}.")


def _misfit(settings: ModelSettings, key: str, problem: str) -> FacekitError:
    return FacekitError(f"{place(settings.options.file, f'model.{key}')}: {problem}")
