"""What exported graphs give back, whichever runtime runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.head import Head
from facekit.structures import Activated, Decoded
from facekit.template import Template


class ExportedOutputs:
    """Recognises a graph by its outputs' names and turns them into Decoded.

    Known: `boxes`, `scores` (and `landmarks`), decoded in the graph; `cls_S`, `obj_S`, `bbox_S`, `kps_S` a stride S,
    the layout of cv2.FaceDetectorYN; and the one `detection_out` of the Open Model Zoo, suppressed in the graph.
    """

    def __init__(self, names: list[str], template: Template, source: str) -> None:
        self.head: Head = cast(DetectorNetwork, build_model(template)).head
        self.priors = lru_cache(maxsize=8)(self.head.priors)
        self.source = source
        per_level = self.head.level_names
        if {"boxes", "scores"} <= set(names):
            self.names, self.read = ["boxes", "scores", *(["landmarks"] if "landmarks" in names else [])], self._decoded
        elif set(names) == set(per_level):
            self.names, self.read = per_level, self._per_level
        elif names == ["detection_out"]:
            self.names, self.read = names, self._detection_out
        else:
            raise FacekitError(
                f"{source}: outputs {', '.join(names)} are none that {template.name} exports. "
                f"Export the weights with this work dir's export.py, or use the template that they were made with."
            )

    def __call__(self, outputs: Mapping[str, NDArray[Any]], size_hw: tuple[int, int]) -> Decoded:
        """Arrays by output name, for an input of size_hw pixels."""
        return self.read([torch.from_numpy(np.array(outputs[name])) for name in self.names], size_hw)

    def _decoded(self, tensors: list[torch.Tensor], size_hw: tuple[int, int]) -> Decoded:
        boxes, scores = tensors[:2]
        if scores.dim() != 2 or boxes.shape != (*scores.shape, 4):  # other makers use the same names
            raise FacekitError(
                f"{self.source}: outputs boxes {tuple(boxes.shape)} and scores {tuple(scores.shape)}, expected "
                f"(batch, priors, 4) and (batch, priors): not a graph that facekit exported. Import the maker's .pth, "
                f"and export that."
            )
        return Decoded(*tensors)

    def _per_level(self, tensors: list[torch.Tensor], size_hw: tuple[int, int]) -> Decoded:
        levels = len(self.head.strides)
        kinds = [torch.cat(tensors[first : first + levels], dim=1) for first in range(0, len(tensors), levels)]
        classes = kinds.pop(0)
        objectness = kinds.pop(0).squeeze(-1) if self.head.has_objectness else None
        return self.head.decode(Activated(classes, kinds.pop(0), objectness, *kinds), self.priors(size_hw))

    def _detection_out(self, tensors: list[torch.Tensor], size_hw: tuple[int, int]) -> Decoded:
        rows = tensors[0].reshape(-1, 7)  # picture, label, score, x1, y1, x2, y2 in 0..1; picture -1 ends the list
        boxes_xyxy = rows[:, 3:] * torch.tensor([size_hw[1], size_hw[0]] * 2)
        scores = torch.where((rows[:, 0].cummin(0).values >= 0), rows[:, 2], 0.0)
        return Decoded(boxes_xyxy[None], scores[None])


def fixed_input_size(size_hw: Sequence[int | str | None], template: Template, weights: Path) -> tuple[int, int] | None:
    """A graph's height and width where both are fixed, else None.

    Raises FacekitError for a graph of a fixed size that the template's protocol doesn't feed.
    """
    fixed = tuple(side for side in size_hw if isinstance(side, int))
    if len(fixed) < 2:
        return None
    feeds_one_size = template.evaluation.feeds_one_size
    if fixed != template.input.size_hw or not feeds_one_size:
        wanted = f"{template.input.size_hw[1]}x{template.input.size_hw[0]}"
        raise FacekitError(
            f"{weights}: takes {size_hw[1]}x{size_hw[0]} pictures, template {template.name!r} feeds "
            f"{wanted if feeds_one_size else 'pictures of any size'}. Use the template that it was exported with."
        )
    return fixed[0], fixed[1]
