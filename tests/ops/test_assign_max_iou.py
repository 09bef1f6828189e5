from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from facekit.ops.assigners import Assignment, max_iou_assign
from facekit.structures import Priors, Targets
from tests.ops.assigner_cases import (
    CROWDS,
    Box,
    Expected,
    expect,
    numbered,
    plain_iou,
    priors_of,
    random_boxes,
    random_pictures,
    targets_of,
)


class TestMaxIou:
    # Priors 10 x 10 that don't touch each other.
    FAR_APART = priors_of([0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10])

    def assign(self, targets: Targets, priors: Priors, least_forced_iou: float = 0.0) -> Assignment:
        return max_iou_assign(targets, priors, positive_iou=0.4, least_forced_iou=least_forced_iou)

    def test_no_faces_at_all(self) -> None:
        expect(self.assign(targets_of([], []), self.FAR_APART), [[-1] * 3] * 2, [[0.0] * 3] * 2)

    def test_threshold_is_reached_at_equality(self) -> None:
        # IoU of the face with the three: 40 / 100, 1 (its best), 40 / 103.
        priors = priors_of([0, 0, 10, 10], [0, 0, 10, 4], [0, 0, 10, 10.3])
        expect(self.assign(targets_of([[0, 0, 10, 4]]), priors), [[0, 0, -1]], [[0.4, 1, 0]])

    def test_best_prior_whatever_the_overlap(self) -> None:
        # 2 * 10 / 100 = 0.2 is all there is.
        expect(self.assign(targets_of([[20, 0, 30, 2]]), self.FAR_APART), [[-1, 0, -1]], [[0, 0.2, 0]])

    def test_first_of_equally_good_priors_is_forced(self) -> None:
        # Half of each of two neighbours: 50 of 150.
        priors = priors_of([0, 0, 10, 10], [10, 0, 20, 10])
        expect(self.assign(targets_of([[5, 0, 15, 10]]), priors), [[0, -1]], [[1 / 3, 0]])

    def test_first_of_equally_good_faces_is_learnt(self) -> None:
        # Prior 0 lies half on either face (both 0.5), each of which has a prior of its own.
        priors = priors_of([0, 0, 10, 10], [0, 0, 10, 5], [0, 5, 10, 10])
        faces = [[0, 0, 10, 5], [0, 5, 10, 10]]
        expect(self.assign(targets_of(faces), priors), [[0, 0, 1]], [[0.5, 1, 1]])

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
        faces = [[0, 0, 10, 10.0], [0, 10, 10, 12.4]]
        expect(self.assign(targets_of(faces), priors), [[1, 0]], [[20 / 124, 1]])

    def test_faces_hardly_covered_force_nothing_if_asked(self) -> None:
        # Best overlaps 20 / 100, which is reached, and 19 / 100, which is not.
        targets = targets_of([[20, 0, 30, 2.0], [40, 0, 50, 1.9]])
        expect(self.assign(targets, self.FAR_APART), [[-1, 0, 1]], [[0, 0.2, 0.19]])
        expect(self.assign(targets, self.FAR_APART, least_forced_iou=0.2), [[-1, 0, -1]], [[0, 0.2, 0]])

    def test_face_hardly_covered_leaves_the_prior_to_the_other(self) -> None:
        # Both faces' best prior is the first: 50 / 100 and 10 / 100. Forced, the last has it; else the first keeps it.
        targets = targets_of([[0, 0, 10, 5], [0, 9, 10, 10]])
        expect(self.assign(targets, self.FAR_APART), [[1, -1, -1]], [[0.1, 0, 0]])
        expect(self.assign(targets, self.FAR_APART, least_forced_iou=0.2), [[0, -1, -1]], [[0.5, 0, 0]])

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

    @pytest.mark.parametrize("counts", CROWDS)
    @pytest.mark.parametrize("least_forced_iou", [0.0, 0.2])
    @pytest.mark.parametrize("seed", range(3))
    def test_agrees_with_a_slow_reference(self, counts: tuple[int, ...], least_forced_iou: float, seed: int) -> None:
        pictures = random_pictures(counts, seed)
        priors = random_boxes(120, torch.Generator().manual_seed(100 + seed))
        targets = targets_of(*pictures, dtype=torch.float64)
        assignment = self.assign(targets, priors_of(*priors, dtype=torch.float64), least_forced_iou)
        expect(assignment, *slow_max_iou(pictures, priors, 0.4, least_forced_iou))
        assert (assignment.face_index >= 0).any() == (sum(counts) > 0)


def slow_max_iou(
    pictures: Sequence[Sequence[Box]], priors: Sequence[Box], positive_iou: float, least_forced_iou: float
) -> Expected:
    """SSD, section 2.2, picture by picture and face by face."""
    rows = []
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
            if max(row) > 0 and max(row) >= least_forced_iou:
                chosen[row.index(max(row))] = face
        rows.append(chosen)
    return numbered(pictures, rows, priors)
