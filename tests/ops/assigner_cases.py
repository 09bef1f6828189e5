"""Faces, priors and plain geometry that the tests of all assigners use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facekit.ops.assigners import Assignment, sim_ota_assign
from facekit.structures import Priors, Targets

Box = Sequence[float]
Expected = tuple[list[list[int]], list[list[float]]]  # face of each prior of each picture, and their overlap
CROWDS = [(5, 0, 1, 30), (0, 300, 0, 2), (0, 0), (1,)]  # faces of each picture


def targets_of(*pictures: Sequence[Box], dtype: torch.dtype = torch.float32) -> Targets:
    """The faces of each picture."""
    counts = torch.tensor([len(faces) for faces in pictures], dtype=torch.int64)
    boxes = torch.tensor([face for faces in pictures for face in faces], dtype=dtype).reshape(-1, 4)
    index = torch.repeat_interleave(torch.arange(len(pictures)), counts)
    return Targets(boxes, index, torch.zeros(len(boxes), 10), torch.zeros(len(boxes), dtype=torch.bool), len(pictures))


def priors_of(*boxes: Box, strides: Sequence[float] | None = None, dtype: torch.dtype = torch.float32) -> Priors:
    """Priors that cover these boxes; all of one level unless strides say otherwise."""
    rows = torch.tensor(boxes, dtype=dtype)
    cxcywh = torch.cat([(rows[:, :2] + rows[:, 2:]) / 2, rows[:, 2:] - rows[:, :2]], dim=1)
    return Priors(cxcywh, torch.tensor(strides or [8] * len(rows), dtype=dtype), (1000, 1000))


def points_of(*points: tuple[float, float, float]) -> Priors:
    """Cells by x and y of their centre and by stride."""
    return priors_of(
        *([x - s / 2, y - s / 2, x + s / 2, y + s / 2] for x, y, s in points), strides=[s for *_, s in points]
    )


def grid(side: int, sizes: Sequence[float] = (1,), dtype: torch.dtype = torch.float64) -> Priors:
    """Strides 8, 16 and 32, in each cell a square prior of each of the sizes, in strides."""
    rows = [
        ((x + 0.5) * stride, (y + 0.5) * stride, size * stride, size * stride, stride)
        for stride in (8, 16, 32)
        for y in range(side // stride)
        for x in range(side // stride)
        for size in sizes
    ]
    table = torch.tensor(rows, dtype=dtype)
    return Priors(table[:, :4], table[:, 4], (side, side))


def random_boxes(count: int, generator: torch.Generator) -> list[Box]:
    corner, size = torch.rand(2, count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([corner * 90, corner * 90 + 3 + size * 40], dim=1).tolist()


def random_pictures(counts: Sequence[int], seed: int) -> list[list[Box]]:
    generator = torch.Generator().manual_seed(seed)
    return [random_boxes(count, generator) for count in counts]


def plain_iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def area_of(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def expect(assignment: Assignment, faces: Sequence[Sequence[int]], overlaps: Sequence[Sequence[float]]) -> None:
    assert assignment.face_index.dtype == torch.int64
    assert assignment.face_index.tolist() == [list(row) for row in faces]
    torch.testing.assert_close(assignment.overlap, torch.tensor(overlaps, dtype=assignment.overlap.dtype))


def numbered(pictures: Sequence[Sequence[Box]], chosen: list[list[int]], priors: Sequence[Box]) -> Expected:
    """Faces counted within their picture -> counted over the batch, and their overlaps with the priors."""
    faces, overlaps, first = [], [], 0
    for boxes, row in zip(pictures, chosen, strict=True):
        faces.append([face + first if face >= 0 else -1 for face in row])
        overlaps.append([plain_iou(boxes[face], priors[p]) if face >= 0 else 0.0 for p, face in enumerate(row)])
        first += len(boxes)
    return faces, overlaps


def sim_ota(targets: Targets, scores: Tensor, boxes: Tensor, priors: Priors) -> Assignment:
    return sim_ota_assign(
        targets,
        scores,
        boxes,
        priors,
        centre_radius=2.5,
        top_candidates=10,
        score_weight=1.0,
        overlap_weight=3.0,
    )


def predictions(priors: Priors, pictures: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scores, and boxes about each prior's centre, jittered, of the size of faces: overlaps of all kinds."""
    generator = torch.Generator().manual_seed(seed)
    shape, dtype = (pictures, len(priors.cxcywh)), priors.cxcywh.dtype
    middle = priors.cxcywh[:, :2] + 6 * torch.randn(*shape, 2, generator=generator, dtype=dtype)
    half = 2 + 18 * torch.rand(*shape, 2, generator=generator, dtype=dtype)
    return torch.rand(shape, generator=generator, dtype=dtype), torch.cat([middle - half, middle + half], dim=-1)
