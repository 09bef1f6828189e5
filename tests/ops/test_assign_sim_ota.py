from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from facekit.ops.assigners import Assignment, sim_ota_assign
from facekit.structures import Targets
from tests.ops.assigner_cases import (
    CROWDS,
    Box,
    Expected,
    expect,
    grid,
    plain_iou,
    points_of,
    predictions,
    random_pictures,
    sim_ota,
    targets_of,
)


class TestSimOta:
    """Four priors of stride 8 in a row at y = 10, the last far away; a centre region reaches 2.5 * 8 = 20 pixels."""

    PRIORS = points_of((10, 10, 8), (18, 10, 8), (26, 10, 8), (200, 200, 8))

    def assign(self, targets: Targets, scores: Tensor, boxes: Tensor) -> Assignment:
        return sim_ota(targets, scores, boxes, self.PRIORS)

    @pytest.mark.parametrize("pictures", [1, 2])
    def test_no_faces_at_all(self, pictures: int) -> None:
        assignment = self.assign(targets_of(*([[]] * pictures)), torch.rand(pictures, 4), torch.rand(pictures, 4, 4))
        expect(assignment, [[-1] * 4] * pictures, [[0.0] * 4] * pictures)

    def test_one_face_by_hand(self) -> None:
        # Face centre (14, 10). Prior 0 and 1 lie inside; prior 2 (x = 26 > 24) only within 20 of the centre; prior 3
        # in neither, so that it is no candidate although its box is perfect.
        # IoUs of the candidates: 1, 0.5, 1: k = int(2.5) = 2.
        # Costs: -log sqrt(0.25) + 3 * 0 = 0.693; -log sqrt(0.81) + 3 * log 2 = 2.185; 1e5. The first two are taken.
        face = [4, 4, 24, 16]
        boxes = torch.tensor([[face, [4, 4, 14, 16], face, face]]).float()
        scores = torch.tensor([[0.25, 0.81, 1.0, 1.0]])
        expect(self.assign(targets_of([face]), scores, boxes), [[0, 0, -1, -1]], [[1, 0.5, 0, 0]])

    def test_k_is_rounded_down_and_cost_weighs_score_and_overlap(self) -> None:
        # IoUs 1, 0.5 and (far) 0.25: k = int(1.75) = 1. Prior 0 costs -log sqrt(s); prior 1 costs 3 log 2 = 2.079.
        # -log sqrt(s) > 2.079 where s < 2^-6 = 0.0156.
        face = [4, 4, 24, 16]
        boxes = torch.tensor([[face, [4, 4, 14, 16], [4, 4, 9, 16], face]]).float()
        low, high = torch.tensor([[0.0150, 1.0, 1.0, 1.0]]), torch.tensor([[0.0165, 1.0, 1.0, 1.0]])
        expect(self.assign(targets_of([face]), low, boxes), [[-1, 0, -1, -1]], [[0, 0.5, 0, 0]])
        expect(self.assign(targets_of([face]), high, boxes), [[0, -1, -1, -1]], [[1, 0, 0, 0]])

    def test_at_least_one_prior_even_without_overlap(self) -> None:
        # All boxes miss: equal overlap costs, the best score inside the face wins (prior 2 lies outside).
        boxes = torch.tensor([500.0, 500, 510, 510]).expand(1, 4, 4)
        scores = torch.tensor([[0.2, 0.6, 0.9, 0.9]])
        expect(self.assign(targets_of([[4, 4, 24, 16]]), scores, boxes), [[-1, 0, -1, -1]], [[0.0] * 4])

    def test_wanted_by_two_goes_to_the_cheaper(self) -> None:
        # Face 0 about (14, 10) holds priors 0 and 1, face 1 about (22, 10) holds 1 and 2; all scores are 1.
        # IoUs with face 0: 1, 204 / 276, 144 / 336: k = int(2.168) = 2: priors 0 and 1 (3 * 0.302 = 0.907).
        # IoUs with face 1: 144 / 336, 180 / 300, 1: k = int(2.029) = 2: priors 2 and 1 (3 * 0.511 = 1.532).
        face_0, face_1 = [4, 4, 24, 16], [12, 4, 32, 16]
        boxes = torch.tensor([[face_0, [7, 4, 27, 16], face_1, face_1]]).float()
        assignment = self.assign(targets_of([face_0, face_1]), torch.ones(1, 4), boxes)
        expect(assignment, [[0, 0, 1, -1]], [[1, 204 / 276, 1, 0]])
        assignment = self.assign(targets_of([face_1, face_0]), torch.ones(1, 4), boxes)
        expect(assignment, [[1, 1, 0, -1]], [[1, 204 / 276, 1, 0]])

    def test_wanted_by_two_goes_to_a_third_that_it_costs_less(self) -> None:
        # IoUs of prior 0's box with the faces: 1, 100 / 160, 100 / 180; of prior 1's: 100 / 110, 110 / 160, 110 / 180:
        # k = 1 for each. Face 0 takes prior 0, the two larger ones both want prior 1; but face 0 costs it least.
        faces = [[10, 5, 20, 15], [10, 5, 26, 15], [10, 5, 28, 15]]
        boxes = torch.tensor([[faces[0], [10, 5, 21, 15]]]).float()
        assignment = sim_ota_assign(
            targets_of(faces), torch.ones(1, 2), boxes, points_of((16, 10, 8), (18, 10, 8)), centre_radius=2.5,
            top_candidates=10, score_weight=1.0, overlap_weight=3.0,
        )  # fmt: skip
        expect(assignment, [[0, 0]], [[1, 100 / 110]])

    def test_wanted_alike_by_two_goes_to_the_first(self) -> None:
        # Three perfect boxes for each of two equal faces: both want 0, 1 and 2 at the same costs.
        face = [4.0, 4, 24, 16]
        boxes = torch.tensor(face).expand(1, 4, 4)
        assignment = self.assign(targets_of([face, face]), torch.full((1, 4), 0.5), boxes)
        expect(assignment, [[0, 0, 0, -1]], [[1, 1, 1, 0]])

    def test_small_face_between_the_cells_takes_one_of_its_centre_region(self) -> None:
        # No prior inside; 0 and 1 are within reach: both cost 1e5 more, which leaves their order alone.
        face = [12, 8, 16, 12]
        boxes = torch.tensor([[[12, 8, 16, 10], face, [0, 0, 1, 1], face]]).float()
        expect(self.assign(targets_of([face]), torch.full((1, 4), 0.5), boxes), [[-1, 0, -1, -1]], [[0, 1, 0, 0]])

    def test_face_without_candidates_gets_none(self) -> None:
        boxes = torch.tensor([4.0, 4, 24, 16]).expand(2, 4, 4)
        targets = targets_of([[500, 500, 510, 510]], [])
        expect(self.assign(targets, torch.ones(2, 4), boxes), [[-1] * 4] * 2, [[0.0] * 4] * 2)

    def test_face_without_candidates_takes_what_its_picture_leaves(self) -> None:
        # Face 1 takes its two perfect boxes. Face 0, far from all, must take one of the picture's three candidates: the
        # one of the best score, as all cost 1e5 + 3 * 16.1 more.
        face = [4, 4, 24, 16]
        boxes = torch.tensor([[face, face, [30, 30, 31, 31], face]]).float()
        scores = torch.tensor([[0.9, 0.8, 0.95, 1.0]])
        targets = targets_of([[500, 500, 510, 510], face])
        expect(self.assign(targets, scores, boxes), [[1, 1, 0, -1]], [[1, 1, 0, 0]])

    def test_pictures_without_faces_stay_background(self) -> None:
        face = [4, 4, 24, 16]
        boxes = torch.tensor([face]).float().expand(3, 4, 4)
        scores = torch.tensor([0.9, 0.8, 0.7, 0.6]).expand(3, 4)
        # Three perfect candidates: k = 3, all taken, also the one outside.
        expected = [[0, 0, 0, -1], [-1] * 4, [1, 1, 1, -1]]
        assignment = self.assign(targets_of([face], [], [face]), scores, boxes)
        expect(assignment, expected, [[float(index >= 0) for index in row] for row in expected])

    def test_ten_best_candidates_at_most(self) -> None:
        # Twelve priors inside with perfect boxes: the sum stops at ten overlaps, the ten best scores are taken.
        priors = points_of(*((44.0 + x, 50.0, 8.0) for x in range(12)))
        scores = torch.tensor([[0.5, 0.9, 0.1, 0.8, 0.7, 0.6, 0.2, 0.95, 0.85, 0.75, 0.65, 0.55]])
        face = [0.0, 0, 100, 100]
        assignment = sim_ota(targets_of([face]), scores, torch.tensor(face).expand(1, 12, 4), priors)
        assert (assignment.face_index[0] < 0).nonzero().flatten().tolist() == [2, 6]

    def test_gradients_stop(self) -> None:
        face = [4.0, 4, 24, 16]
        scores = torch.full((1, 4), 0.5, requires_grad=True)
        boxes = torch.tensor(face).repeat(1, 4, 1).requires_grad_()
        assignment = self.assign(targets_of([face]), scores, boxes)
        assert not assignment.overlap.requires_grad

    def test_score_of_zero_is_costly_but_finite(self) -> None:
        # 100 each, so that the overlaps (0.5, 1 and 0.25: k = 1) still decide.
        face = [4, 4, 24, 16]
        boxes = torch.tensor([[[4, 4, 14, 16], face, [4, 4, 9, 16], face]]).float()
        assignment = self.assign(targets_of([face]), torch.zeros(1, 4), boxes)
        expect(assignment, [[-1, 0, -1, -1]], [[0, 1, 0, 0]])

    @pytest.mark.parametrize("counts", CROWDS)
    @pytest.mark.parametrize("seed", range(4))
    def test_agrees_with_a_slow_reference(self, counts: tuple[int, ...], seed: int) -> None:
        # Doubles: in single precision the penalty of 1e5 swallows the differences between far pairs.
        priors, pictures = grid(128), random_pictures(counts, seed)
        scores, boxes = predictions(priors, len(pictures), seed)
        assignment = sim_ota(targets_of(*pictures, dtype=torch.float64), scores, boxes, priors)
        centres, strides = priors.cxcywh[:, :2].tolist(), priors.strides.tolist()
        expect(assignment, *slow_sim_ota(pictures, scores.tolist(), boxes.tolist(), centres, strides))
        assert (assignment.face_index >= 0).any() == (sum(counts) > 0)


def slow_sim_ota(
    pictures: Sequence[Sequence[Box]],
    scores: Sequence[Sequence[float]],
    boxes: Sequence[Sequence[Box]],
    centres: Sequence[Sequence[float]],
    strides: Sequence[float],
) -> Expected:
    """YOLOX, section 2.3, picture by picture and face by face."""
    face_rows, overlap_rows, first = [], [], 0
    for faces, picture_scores, picture_boxes in zip(pictures, scores, boxes, strict=True):
        inside = [[x1 < x < x2 and y1 < y < y2 for x, y in centres] for x1, y1, x2, y2 in faces]
        near = [
            [
                abs(x - (x1 + x2) / 2) < 2.5 * stride and abs(y - (y1 + y2) / 2) < 2.5 * stride
                for (x, y), stride in zip(centres, strides, strict=True)
            ]
            for x1, y1, x2, y2 in faces
        ]
        candidates = [
            prior
            for prior in range(len(centres))
            if any(inside[face][prior] or near[face][prior] for face in range(len(faces)))
        ]
        claims: dict[int, list[tuple[float, int, float]]] = {}
        offers: dict[int, list[tuple[float, int, float]]] = {prior: [] for prior in candidates}
        for face, box in enumerate(faces):
            overlap = {prior: plain_iou(picture_boxes[prior], box) for prior in candidates}
            cost = {
                prior: -math.log(math.sqrt(picture_scores[prior]))
                + 3 * -math.log(overlap[prior] + 1e-7)
                + (0 if inside[face][prior] and near[face][prior] else 1e5)
                for prior in candidates
            }
            for prior in candidates:
                offers[prior].append((cost[prior], face, overlap[prior]))
            wanted = max(1, int(sum(sorted(overlap.values(), reverse=True)[:10])))
            for prior in sorted(candidates, key=lambda prior: cost[prior])[:wanted]:
                claims.setdefault(prior, []).append((cost[prior], face, overlap[prior]))
        face_row, overlap_row = [-1] * len(centres), [0.0] * len(centres)
        for prior, bids in claims.items():
            # Contested: the cheapest of all faces has it, as in YOLOX's code, be it among those that claim it or not.
            _, face, iou = min(offers[prior] if len(bids) > 1 else bids)
            face_row[prior], overlap_row[prior] = face + first, iou
        face_rows.append(face_row)
        overlap_rows.append(overlap_row)
        first += len(faces)
    return face_rows, overlap_rows
