from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from facekit.ops.assigners import Assignment, max_iou_assign, sim_ota_assign
from facekit.structures import Targets

Box = Sequence[float]


def targets_of(*pictures: Sequence[Box], dtype: torch.dtype = torch.float32) -> Targets:
    """The faces of each picture."""
    counts = torch.tensor([len(faces) for faces in pictures], dtype=torch.int64)
    boxes = torch.tensor([face for faces in pictures for face in faces], dtype=dtype).reshape(-1, 4)
    index = torch.repeat_interleave(torch.arange(len(pictures)), counts)
    return Targets(boxes, index, torch.zeros(len(boxes), 10), torch.zeros(len(boxes), dtype=torch.bool), len(pictures))


def priors_of(*boxes: Box, dtype: torch.dtype = torch.float32) -> Tensor:
    rows = torch.tensor(boxes, dtype=dtype)
    return torch.cat([(rows[:, :2] + rows[:, 2:]) / 2, rows[:, 2:] - rows[:, :2]], dim=1)


def plain_iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def expect(assignment: Assignment, faces: Sequence[Sequence[int]], overlaps: Sequence[Sequence[float]]) -> None:
    assert assignment.face_index.dtype == torch.int64
    assert assignment.face_index.tolist() == [list(row) for row in faces]
    torch.testing.assert_close(assignment.overlap, torch.tensor(overlaps, dtype=assignment.overlap.dtype))


class TestMaxIou:
    # Priors 10 x 10 that don't touch each other.
    FAR_APART = priors_of([0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10])

    def assign(self, targets: Targets, priors: Tensor) -> Assignment:
        return max_iou_assign(targets, priors, positive_iou=0.4)

    def test_no_faces_at_all(self) -> None:
        expect(self.assign(targets_of([], []), self.FAR_APART), [[-1] * 3] * 2, [[0.0] * 3] * 2)

    def test_threshold_is_reached_at_equality(self) -> None:
        # IoU of the face with the three: 40 / 100, 1 (its best), 40 / 103.
        priors = priors_of([0, 0, 10, 10], [0, 0, 10, 4], [0, 0, 10, 10.3])
        expect(self.assign(targets_of([[0, 0, 10, 4]]), priors), [[0, 0, -1]], [[0.4, 1, 0]])

    def test_best_prior_whatever_the_overlap(self) -> None:
        # 2 * 10 / 100 = 0.2 is all there is.
        expect(self.assign(targets_of([[20, 0, 30, 2]]), self.FAR_APART), [[-1, 0, -1]], [[0, 0.2, 0]])

    def test_last_of_two_faces_has_the_best_prior_of_both(self) -> None:
        # Face 0 is the prior itself (IoU 1), face 1 its upper half (IoU 0.5): face 0 goes without.
        both = [[0, 0, 10, 10], [0, 0, 10, 5]]
        expect(self.assign(targets_of(both), self.FAR_APART), [[1, -1, -1]], [[0.5, 0, 0]])
        expect(self.assign(targets_of(both[::-1]), self.FAR_APART), [[1, -1, -1]], [[1, 0, 0]])

    def test_prior_good_for_two_takes_the_better(self) -> None:
        # Each face has a prior of its own; the third lies 0.5 beside face 0 and 1.5 beside face 1:
        # 9.5 / 10.5 = 0.905 and 8.5 / 11.5 = 0.739.
        priors = priors_of([0, 0, 10, 10], [2, 0, 12, 10], [0.5, 0, 10.5, 10])
        faces = [[0, 0, 10, 10], [2, 0, 12, 10]]
        expect(self.assign(targets_of(faces), priors), [[0, 1, 0]], [[1, 1, 9.5 / 10.5]])
        expect(self.assign(targets_of(faces[::-1]), priors), [[1, 0, 1]], [[1, 1, 9.5 / 10.5]])

    def test_forced_prior_leaves_its_better_face(self) -> None:
        # Prior 0 is good for face 0 (100 / 120), which has a better one, prior 1. It is all that face 1 touches: they
        # share 20 of 120 + 24 - 20.
        priors = priors_of([0, 0, 10, 12], [0, 0, 10, 10])
        faces = [[0, 0, 10, 10], [0, 10, 10, 12.4]]
        expect(self.assign(targets_of(faces), priors), [[1, 0]], [[20 / 124, 1]])

    def test_middle_picture_without_faces(self) -> None:
        targets = targets_of([[20, 0, 30, 10]], [], [[0, 0, 10, 8], [40, 0, 50, 10]])
        expect(
            self.assign(targets, self.FAR_APART),
            [[-1, 0, -1], [-1, -1, -1], [1, -1, 2]],
            [[0, 1, 0], [0, 0, 0], [0.8, 0, 1]],
        )

    def test_pictures_do_not_mix(self) -> None:
        same = [[0, 0, 10, 10]]
        expect(self.assign(targets_of(same, same), self.FAR_APART), [[0, -1, -1], [1, -1, -1]], [[1, 0, 0]] * 2)

    def test_face_that_no_prior_touches_gets_none(self) -> None:
        expect(self.assign(targets_of([[500, 500, 510, 510]]), self.FAR_APART), [[-1] * 3], [[0.0] * 3])
        touched_too = targets_of([[0, 0, 10, 10], [500, 500, 510, 510]])
        expect(self.assign(touched_too, self.FAR_APART), [[0, -1, -1]], [[1, 0, 0]])

    @pytest.mark.parametrize("seed", range(10))
    def test_agrees_with_a_slow_reference(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        priors = random_boxes(120, generator)
        pictures = [random_boxes(count, generator).tolist() for count in (5, 0, 1, 30)]
        assignment = self.assign(
            targets_of(*pictures, dtype=torch.float64), priors_of(*priors.tolist(), dtype=torch.float64)
        )
        faces, overlaps = slow_max_iou(pictures, priors.tolist(), 0.4)
        assert sum(face >= 0 for row in faces for face in row) > 30
        expect(assignment, faces, overlaps)


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    corner, size = torch.rand(2, count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([corner * 90, corner * 90 + 3 + size * 40], dim=1)


def slow_max_iou(
    pictures: Sequence[Sequence[Box]], priors: Sequence[Box], positive_iou: float
) -> tuple[list[list[int]], list[list[float]]]:
    """The description, picture by picture and face by face."""
    face_rows, overlap_rows, first = [], [], 0
    for faces in pictures:
        table = [[plain_iou(face, prior) for prior in priors] for face in faces]
        chosen = [-1] * len(priors)
        for prior in range(len(priors)):
            for face in range(len(faces)):
                if table[face][prior] >= positive_iou and (
                    chosen[prior] < 0 or table[face][prior] > table[chosen[prior]][prior]
                ):
                    chosen[prior] = face
        for face, row in enumerate(table):
            if max(row) > 0:
                chosen[row.index(max(row))] = face
        face_rows.append([face + first if face >= 0 else -1 for face in chosen])
        overlap_rows.append([table[face][prior] if face >= 0 else 0.0 for prior, face in enumerate(chosen)])
        first += len(faces)
    return face_rows, overlap_rows


class TestSimOta:
    """Four priors of stride 8 in a row at y = 10, the last far away; a centre region reaches 2.5 * 8 = 20 pixels."""

    CENTRES = torch.tensor([[10.0, 10], [18, 10], [26, 10], [200, 200]])
    STRIDES = torch.full((4,), 8.0)

    def assign(self, targets: Targets, scores: Tensor, boxes: Tensor) -> Assignment:
        return sim_ota(targets, scores, boxes, self.CENTRES, self.STRIDES)

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

    def test_small_face_between_the_cells_takes_one_of_its_centre_region(self) -> None:
        # No prior inside; 0 and 1 are within reach: both cost 1e5 more, which leaves their order alone.
        face = [12, 8, 16, 12]
        boxes = torch.tensor([[[12, 8, 16, 10], face, [0, 0, 1, 1], face]]).float()
        expect(self.assign(targets_of([face]), torch.full((1, 4), 0.5), boxes), [[-1, 0, -1, -1]], [[0, 1, 0, 0]])

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
        centres = torch.stack([torch.arange(12.0) + 44, torch.full((12,), 50.0)], dim=1)
        scores = torch.tensor([[0.5, 0.9, 0.1, 0.8, 0.7, 0.6, 0.2, 0.95, 0.85, 0.75, 0.65, 0.55]])
        face = [0.0, 0, 100, 100]
        boxes = torch.tensor(face).expand(1, 12, 4)
        assignment = sim_ota(targets_of([face]), scores, boxes, centres, torch.full((12,), 8.0))
        assert (assignment.face_index[0] < 0).nonzero().flatten().tolist() == [2, 6]

    def test_gradients_stop(self) -> None:
        face = [4.0, 4, 24, 16]
        scores = torch.full((1, 4), 0.5, requires_grad=True)
        boxes = torch.tensor(face).repeat(1, 4, 1).requires_grad_()
        assignment = self.assign(targets_of([face]), scores, boxes)
        assert not assignment.overlap.requires_grad

    def test_score_of_zero_is_costly_but_finite(self) -> None:
        face = [4.0, 4, 24, 16]
        boxes = torch.tensor(face).expand(1, 4, 4)
        assignment = self.assign(targets_of([face]), torch.zeros(1, 4), boxes)
        expect(assignment, [[0, 0, 0, -1]], [[1, 1, 1, 0]])

    @pytest.mark.parametrize("seed", range(12))
    def test_agrees_with_a_slow_reference(self, seed: int) -> None:
        # Doubles: in single precision the penalty of 1e5 swallows the differences between far pairs.
        generator = torch.Generator().manual_seed(seed)
        centres, strides = grid_of_priors(128)
        pictures = [random_boxes(count, generator).tolist() for count in (1, 0, 30, 4)]
        shape = (len(pictures), len(centres))
        scores = torch.rand(shape, generator=generator, dtype=torch.float64)
        # Boxes about each prior's centre, jittered, of the size of faces: overlaps of all kinds.
        middle = centres + 6 * torch.randn(*shape, 2, generator=generator, dtype=torch.float64)
        half = 2 + 18 * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
        boxes = torch.cat([middle - half, middle + half], dim=-1)
        assignment = sim_ota(targets_of(*pictures, dtype=torch.float64), scores, boxes, centres, strides)
        faces, overlaps = slow_sim_ota(pictures, scores.tolist(), boxes.tolist(), centres.tolist(), strides.tolist())
        assert sum(face >= 0 for row in faces for face in row) > 30
        expect(assignment, faces, overlaps)


def sim_ota(targets: Targets, scores: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor) -> Assignment:
    return sim_ota_assign(
        targets,
        scores,
        boxes,
        prior_centres_xy=centres,
        prior_strides=strides,
        centre_radius=2.5,
        top_candidates=10,
        score_weight=1.0,
        overlap_weight=3.0,
    )


def grid_of_priors(side: int) -> tuple[Tensor, Tensor]:
    rows = [
        ((x + 0.5) * stride, (y + 0.5) * stride, stride)
        for stride in (8, 16, 32)
        for y in range(side // stride)
        for x in range(side // stride)
    ]
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, :2], table[:, 2]


def slow_sim_ota(
    pictures: Sequence[Sequence[Box]],
    scores: Sequence[Sequence[float]],
    boxes: Sequence[Sequence[Box]],
    centres: Sequence[Sequence[float]],
    strides: Sequence[float],
) -> tuple[list[list[int]], list[list[float]]]:
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
        for face, box in enumerate(faces):
            overlap = {prior: plain_iou(picture_boxes[prior], box) for prior in candidates}
            cost = {
                prior: -math.log(math.sqrt(picture_scores[prior]))
                + 3 * -math.log(overlap[prior] + 1e-7)
                + (0 if inside[face][prior] and near[face][prior] else 1e5)
                for prior in candidates
            }
            wanted = max(1, int(sum(sorted(overlap.values(), reverse=True)[:10])))
            for prior in sorted(candidates, key=lambda prior: cost[prior])[:wanted]:
                claims.setdefault(prior, []).append((cost[prior], face, overlap[prior]))
        face_row, overlap_row = [-1] * len(centres), [0.0] * len(centres)
        for prior, bids in claims.items():
            _, face, iou = min(bids)
            face_row[prior], overlap_row[prior] = face + first, iou
        face_rows.append(face_row)
        overlap_rows.append(overlap_row)
        first += len(faces)
    return face_rows, overlap_rows
