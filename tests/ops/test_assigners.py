from __future__ import annotations

import math

import pytest
import torch

from facekit.ops.assigners import Assignment, atss_assign, fcos_assign, max_iou_assign
from facekit.structures import Targets
from tests.ops.assigner_cases import (
    grid,
    predictions,
    sim_ota,
    targets_of,
)


def test_pairs_list_the_learning_priors() -> None:
    assignment = Assignment(torch.tensor([[-1, 1, 0], [-1, -1, -1], [2, -1, 2]]), torch.zeros(3, 3))
    positive, faces, columns = assignment.pairs()
    assert positive.tolist() == [[False, True, True], [False] * 3, [True, False, True]]
    assert faces.tolist() == [1, 0, 2, 2]
    assert columns.tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize("assign", ["max_iou", "atss", "fcos", "sim_ota"])
@pytest.mark.parametrize("seed", range(4))
def test_a_picture_alone_is_assigned_as_in_a_crowd(assign: str, seed: int) -> None:
    # In single precision, as in training.
    generator = torch.Generator().manual_seed(seed)
    centre = 640 * torch.rand(320, 2, generator=generator)
    half = 5 + 60 * torch.rand(320, 2, generator=generator)
    faces = torch.cat([centre - half, centre + half], dim=1).tolist()
    priors = grid(640, sizes=(2.0,), dtype=torch.float32)
    scores, boxes = predictions(priors, 2, seed)

    def assigned(targets: Targets, pictures: slice) -> Assignment:
        if assign == "max_iou":
            return max_iou_assign(targets, priors, positive_iou=0.4)
        if assign == "atss":
            return atss_assign(targets, priors, top_candidates=9)
        if assign == "fcos":
            return fcos_assign(targets, priors, ((0, 30), (30, 50), (50, math.inf)))
        return sim_ota(targets, scores[pictures], boxes[pictures], priors)

    alone = assigned(targets_of(faces[:20]), slice(0, 1))
    among = assigned(targets_of(faces[:20], faces[20:]), slice(0, 2))
    assert (alone.face_index >= 0).any()
    assert torch.equal(alone.face_index, among.face_index[:1])
    assert torch.equal(alone.overlap, among.overlap[:1])
