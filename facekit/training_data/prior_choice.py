"""Prior sizes chosen for a data set: its faces as training sees them, clustered, and what the clusters reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from facekit.base.files import write_text
from facekit.base.progress import progress_bar
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.ops.coders import DistanceCoder
from facekit.ops.head import Head, declared_head
from facekit.ops.prior_clusters import best_prior_iou, cluster_sizes, refine_sizes
from facekit.template import Template, parse_template
from facekit.training_data.training_set import TrainingSet
from facekit.training_data.transforms import mean_colour_bgr

MAX_FACES = 10_000  # that are looked at; more change the sizes by less than another seed does
MAX_PASSES = 20  # over the pictures, each with crops of its own
RECALL_IOUS = (0.35, 0.5)

PriorSizes = tuple[tuple[tuple[float, float], ...], ...]  # width and height in pixels of the input, a list a level


@dataclass(frozen=True)
class PriorFit:
    """How near the priors of a grid come to faces."""

    recalls: tuple[float, ...]  # 0..1: share of faces whose best prior reaches each of RECALL_IOUS
    mean_iou: float  # 0..1: of the faces with their best priors


@dataclass(frozen=True)
class PriorChoice:
    """Sizes for a template's priors, and what the old and the new ones reach."""

    sizes_wh: PriorSizes
    before: PriorFit
    after: PriorFit
    faces: int  # that were looked at
    distinct: int  # of their sizes

    def text(self) -> str:
        """The comparison, and the lines for the template."""
        rows = [("", *(f"IoU {iou:g}" for iou in RECALL_IOUS), "mean IoU")]
        for name, fit in (("before", self.before), ("after", self.after)):
            rows.append((name, *(f"{recall:.1%}" for recall in fit.recalls), f"{fit.mean_iou:.3f}"))
        table = [f"{name:<8}" + "".join(f"{cell:>10}" for cell in cells) for name, *cells in rows]
        count = sum(map(len, self.sizes_wh))
        doubled = (
            [f"The faces have {self.distinct} sizes, fewer than the {count} priors: the largest is repeated."]
            if self.distinct < count
            else []
        )
        return "\n".join([
            f"Share of {self.faces} faces, cropped and scaled as in training, whose best prior of the grid reaches",
            *table, *doubled, "", "  prior_sizes_wh:", *(f"    - {_flow(level)}" for level in self.sizes_wh),
        ])  # fmt: skip


def choose_priors(template: Template, pictures: Sequence[PictureLabels], seed: int) -> PriorChoice:
    """As many sizes as the template has, the smallest to its finest level. The same seed gives the same sizes.

    Raises FacekitError for a detector without prior sizes to choose, and where there is no face to train on.
    """
    head = declared_head(template.model)
    if has_points(head):
        raise FacekitError(
            f"{template.name} learns from one point a cell and its priors are the cells themselves: there are no sizes "
            f"to choose, and none are missed. Give a template with prior boxes, such as face-detection-0200."
        )
    boxes_xyxy = training_boxes(template, pictures, seed)
    sizes_wh = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    size_hw = template.input.size_hw
    level_of = torch.arange(len(head.strides)).repeat_interleave(torch.tensor(head.priors_a_cell))
    clusters_wh = cluster_sizes(sizes_wh, len(level_of), seed)
    refined_wh = refine_sizes(boxes_xyxy, clusters_wh, level_of, head.priors(size_hw).tensors())
    chosen = tuple(
        tuple(sorted(((round(width, 2), round(height, 2)) for width, height in level.tolist()), key=math.prod))
        for level in refined_wh.split(head.priors_a_cell)
    )
    return PriorChoice(
        chosen,
        before=prior_fit(boxes_xyxy, head, size_hw),
        after=prior_fit(boxes_xyxy, replace(head, prior_sizes_wh=chosen), size_hw),
        faces=len(boxes_xyxy),
        distinct=len(sizes_wh.unique(dim=0)),
    )


def has_points(head: Head) -> bool:
    """Whether boxes are regressed from points, or from cells, whose sizes are no one's choice."""
    cells = tuple(((float(stride), float(stride)),) for stride in head.strides)
    return isinstance(head.coder, DistanceCoder) or head.prior_sizes_wh == cells


def training_boxes(template: Template, pictures: Sequence[PictureLabels], seed: int) -> Tensor:
    """(N, 4) boxes in pixels of the template's input, as its augmentation cuts and scales them; at most MAX_FACES.

    Small sets are gone through several times, as training does. Raises FacekitError where no face is trained on.
    """
    faces = TrainingSet(
        pictures, template.augmentation, template.input.size_hw, mean_colour_bgr(template.input), 1, seed
    )
    found: list[np.ndarray] = []
    for number in range(MAX_PASSES):
        faces.epoch.fill_(number)
        found += [faces.boxes_of(index) for index in progress_bar(range(len(faces)), delay_s=2, desc="faces")]
        if sum(map(len, found)) >= MAX_FACES or not any(map(len, found)):
            break
    boxes_xyxy = np.concatenate([np.empty((0, 4), np.float32), *found])
    if not len(boxes_xyxy):
        raise FacekitError(
            f"{len(pictures)} pictures hold no face that {template.name} trains on: it leaves out faces under "
            f"{template.augmentation.min_face_size:g} pixels (augmentation.min_face_size). Give labels with larger."
        )
    order = np.random.default_rng(seed).permutation(len(boxes_xyxy))[:MAX_FACES]
    return torch.from_numpy(boxes_xyxy[order])


def prior_fit(boxes_xyxy: Tensor, head: Head, size_hw: tuple[int, int]) -> PriorFit:
    """Of (N, 4) boxes, N over 0, in pixels of an input of that size, with all priors of the head's grid."""
    best = best_prior_iou(boxes_xyxy, head.priors(size_hw).tensors())
    return PriorFit(tuple(float((best >= iou).double().mean()) for iou in RECALL_IOUS), float(best.double().mean()))


def write_template(source: Path, sizes_wh: PriorSizes, output: Path) -> None:
    """The template of the file `source` with these priors and all else as it stands there, comments too; but without
    snapshot and metrics, which belong to the old priors. Raises FacekitError where the disk refuses."""
    text = source.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None
    priors = _value(_value(root, "model"), "prior_sizes_wh")
    replaced = [_value(root, "metrics"), _value(root, "snapshot"), priors]
    # From the end, for the places before to stay.
    for node in sorted(replaced, key=lambda node: -node.start_mark.index):
        if node is not priors:
            # A list a line an entry may stand at a line's start, brackets may not.
            value = "[]" if node.start_mark.column else " []"
        elif isinstance(node, yaml.SequenceNode) and node.flow_style:
            value = _flow(sizes_wh)
        else:
            value = ("\n" + " " * node.start_mark.column).join(f"- {_flow(level)}" for level in sizes_wh)
        text = text[: node.start_mark.index] + value + text[_end(node) :]
    written = parse_template(text, output)
    assert written.model.prior_sizes_wh == sizes_wh
    write_text(output, text)


def _value(node: yaml.Node, name: str) -> yaml.Node:
    assert isinstance(node, yaml.MappingNode)
    found: yaml.Node = next(value for key, value in node.value if key.value == name)
    return found


def _end(node: yaml.Node) -> int:
    """Where the node's text ends: the mark of a list a line an entry stands at what follows, behind the comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _flow(value: object) -> str:
    """Lists of numbers in YAML's brackets."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return f"{value:g}"
