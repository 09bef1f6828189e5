from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest
import torch

from facekit.ops.assigners import atss_assign
from facekit.ops.boxes import cxcywh_to_xyxy
from tests.ops.assigner_cases import (
    CROWDS,
    Box,
    Expected,
    expect,
    grid,
    numbered,
    plain_iou,
    points_of,
    priors_of,
    random_pictures,
    targets_of,
)


class TestAtss:
    # Priors that don't touch each other. A face on one of them has IoUs (q, 0, 0) with its three candidates: mean
    # q / 3, sample deviation sqrt((4 + 1 + 1) / 9 / 2) q = q / sqrt(3), so that it takes that one: 0.911 q < q.
    FAR_APART = priors_of([0, 0, 10, 10], [100, 0, 110, 10], [200, 0, 210, 10])

    def test_no_faces_at_all(self) -> None:
        expect(atss_assign(targets_of([], []), self.FAR_APART, 9), [[-1] * 3] * 2, [[0.0] * 3] * 2)

    def test_two_levels_by_hand(self) -> None:
        # 10 x 10 cells on 40 x 40, then 20 x 20 cells. The face is the first of the coarse cells; its nine nearest fine
        # ones are four of IoU 1 / 4 (7.1 away), four of 0 (15.8) and one of 0 (21.2). Mean of the 13 candidates:
        # (4 / 4 + 1) / 13 = 2 / 13; variance: (4 / 16 + 1 - 13 * 4 / 169) / 12 = 49 / 624; threshold 0.434.
        fine = [(5.0 + 10 * x, 5.0 + 10 * y, 10.0) for y in range(4) for x in range(4)]
        coarse = [(10.0 + 20 * x, 10.0 + 20 * y, 20.0) for y in range(2) for x in range(2)]
        assignment = atss_assign(targets_of([[0, 0, 20, 20]]), points_of(*fine, *coarse), 9)
        expect(assignment, [[-1] * 16 + [0, -1, -1, -1]], [[0.0] * 16 + [1, 0, 0, 0]])

    def test_deviation_is_that_of_a_sample(self) -> None:
        # IoUs 1/2, 1/2, 0, 0: mean 1/4; sqrt(4 / 16 / 3) = 0.289 puts the threshold at 0.539, over all of them (the
        # whole population's, 1/4, would put it at 1/2, and two would be taken).
        priors = points_of(*((5.0 + 10 * x, 5.0, 10.0) for x in range(4)))
        expect(atss_assign(targets_of([[0, 0, 20, 10]]), priors, 4), [[-1] * 4], [[0.0] * 4])

    def test_nearest_count_not_the_best_overlapping(self) -> None:
        # Centres 0, 1, 2 and 3 from the face's; IoUs 4/200, 4/200, 100/200 and 170/230.
        priors = priors_of([9, 4, 11, 6], [10, 4, 12, 6], [7, 0, 17, 10], [3, 0, 23, 10])
        face = targets_of([[0, 0, 20, 10]])
        # Three: mean 0.18, deviation sqrt((2 * 0.16^2 + 0.32^2) / 2) = 0.277: threshold 0.457.
        expect(atss_assign(face, priors, 3), [[-1, -1, 0, -1]], [[0, 0, 0.5, 0]])
        # All: mean 0.320, squares 2 * 0.0899 + 0.0325 + 0.1759 = 0.388, deviation 0.360: threshold 0.679.
        expect(atss_assign(face, priors, 4), [[-1, -1, -1, 0]], [[0, 0, 0, 17 / 23]])

    def test_nearest_by_a_hair(self) -> None:
        # As above with centres 0, 0.1, 0.2 and 0.3 from the face's, and all of it in the far corner of a picture.
        away = torch.tensor([990.0, 995, 990, 995])
        near = torch.tensor([[9, 4, 11, 6], [9.1, 4, 11.1, 6], [5.2, 0, 15.2, 10], [0.3, 0, 20.3, 10]])
        priors = priors_of(*(near + away).tolist(), *([x, 0.0, x + 9, 9.0] for x in range(0, 300, 10)))
        # Three: IoUs 4/200, 4/200, 100/200, threshold 0.457.
        assignment = atss_assign(targets_of([[990, 995, 1010, 1005]]), priors, 3)
        assert assignment.face_index[0, :4].tolist() == [-1, -1, 0, -1]

    def test_each_level_has_its_own_candidates(self) -> None:
        # As above, but the best overlapping one is a level of its own: then it is a candidate beside the three.
        priors = priors_of([9, 4, 11, 6], [10, 4, 12, 6], [7, 0, 17, 10], [3, 0, 23, 10], strides=[8, 8, 8, 16])
        expect(atss_assign(targets_of([[0, 0, 20, 10]]), priors, 3), [[-1, -1, -1, 0]], [[0, 0, 0, 17 / 23]])

    def test_threshold_is_reached_at_equality(self) -> None:
        # Four cells as near and as good as each other (1/4 each, deviation 0): any three are candidates, all are taken.
        priors = points_of(*((5.0 + 10 * x, 5.0 + 10 * y, 10.0) for y in range(2) for x in range(2)))
        assignment = atss_assign(targets_of([[0, 0, 20, 20]]), priors, 3)
        assert sorted(assignment.face_index[0].tolist()) == [-1, 0, 0, 0]
        assert sorted(assignment.overlap[0].tolist()) == [0, 0.25, 0.25, 0.25]

    @pytest.mark.parametrize(
        ("bottom", "learnt"),
        [
            (4.9, False),  # the centre (5, 5) lies outside, although the IoU is 0.49
            (5.005, False),  # less than a hundredth of a pixel within
            (5.02, True),
        ],
    )
    def test_centre_lies_within(self, bottom: float, learnt: bool) -> None:
        assignment = atss_assign(targets_of([[0, 0, 10, bottom]]), self.FAR_APART, 9)
        expect(assignment, [[0 if learnt else -1, -1, -1]], [[bottom / 10 * learnt, 0, 0]])

    def test_prior_of_two_goes_to_the_one_it_overlaps_most(self) -> None:
        both = [[0, 0, 10, 8], [0, 0, 10, 9]]
        expect(atss_assign(targets_of(both), self.FAR_APART, 9), [[1, -1, -1]], [[0.9, 0, 0]])
        expect(atss_assign(targets_of(both[::-1]), self.FAR_APART, 9), [[0, -1, -1]], [[0.9, 0, 0]])

    def test_prior_of_two_that_it_overlaps_alike_goes_to_the_first(self) -> None:
        targets = targets_of([[0, 0, 10, 8], [0, 2, 10, 10]])
        expect(atss_assign(targets, self.FAR_APART, 9), [[0, -1, -1]], [[0.8, 0, 0]])

    def test_face_that_did_not_take_a_prior_has_no_claim(self) -> None:
        # IoUs of face 0 with the four: 0.4, 0.2, 0, 0: mean 0.15, deviation sqrt(0.11 / 3) = 0.191, threshold 0.341.
        # IoUs of face 1: 0.5, 1, 0, 0: mean 0.375, deviation sqrt(0.6875 / 3) = 0.479, threshold 0.854: it leaves prior
        # 0, which it overlaps more than face 0 does.
        priors = priors_of([0, 0, 10, 10], [0, 0, 20, 10], [100, 0, 110, 10], [200, 0, 210, 10])
        faces = [[3, 0, 7, 10], [0, 0, 20, 10]]
        expect(atss_assign(targets_of(faces), priors, 9), [[0, 1, -1, -1]], [[0.4, 1, 0, 0]])

    def test_middle_picture_without_faces(self) -> None:
        targets = targets_of([[100, 0, 110, 8]], [], [[0, 0, 10, 10], [200, 0, 210, 9]])
        expect(
            atss_assign(targets, self.FAR_APART, 9),
            [[-1, 0, -1], [-1, -1, -1], [1, -1, 2]],
            [[0, 0.8, 0], [0, 0, 0], [1, 0, 0.9]],
        )

    def test_faces_without_takers(self) -> None:
        # Far from all priors; and between them, so that no centre lies within.
        targets = targets_of([[500, 500, 510, 510], [10, 0, 60, 10]])
        expect(atss_assign(targets, self.FAR_APART, 9), [[-1] * 3], [[0.0] * 3])

    @pytest.mark.parametrize("counts", CROWDS)
    # Priors of one cell share a centre: an even number of candidates, so that no pair is torn by chance.
    @pytest.mark.parametrize(("sizes", "top_candidates"), [((2.0,), 9), ((1.0, 2.5), 8)])
    @pytest.mark.parametrize("seed", range(3))
    def test_agrees_with_a_slow_reference(
        self, counts: tuple[int, ...], sizes: tuple[float, ...], top_candidates: int, seed: int
    ) -> None:
        pictures, priors = random_pictures(counts, seed), grid(128, sizes)
        assignment = atss_assign(targets_of(*pictures, dtype=torch.float64), priors, top_candidates)
        boxes = cxcywh_to_xyxy(priors.cxcywh).tolist()
        expect(assignment, *slow_atss(pictures, boxes, priors.strides.tolist(), top_candidates))
        assert (assignment.face_index >= 0).any() == (sum(counts) > 0)


def slow_atss(
    pictures: Sequence[Sequence[Box]], priors: Sequence[Box], strides: Sequence[float], top_candidates: int
) -> Expected:
    """ATSS, algorithm 1, picture by picture and face by face."""
    centres = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in priors]
    rows = []
    for faces in pictures:
        best, chosen = [-1.0] * len(priors), [-1] * len(priors)
        for face, box in enumerate(faces):
            x1, y1, x2, y2 = box
            middle = ((x1 + x2) / 2, (y1 + y2) / 2)
            candidates = []
            for level in sorted(set(strides)):
                of_level = [prior for prior in range(len(priors)) if strides[prior] == level]
                of_level.sort(key=lambda prior: math.dist(centres[prior], middle))
                candidates += of_level[:top_candidates]
            overlaps = {prior: plain_iou(box, priors[prior]) for prior in candidates}
            threshold = statistics.mean(overlaps.values()) + statistics.stdev(overlaps.values())
            for prior, overlap in overlaps.items():
                x, y = centres[prior]
                is_within = min(x - x1, y - y1, x2 - x, y2 - y) > 0.01
                if overlap >= threshold and is_within and overlap > best[prior]:
                    best[prior], chosen[prior] = overlap, face
        rows.append(chosen)
    return numbered(pictures, rows, priors)
