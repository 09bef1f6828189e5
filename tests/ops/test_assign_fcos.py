from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from facekit.ops.assigners import Assignment, fcos_assign
from facekit.ops.boxes import cxcywh_to_xyxy
from tests.ops.assigner_cases import (
    CROWDS,
    Box,
    Expected,
    area_of,
    expect,
    grid,
    numbered,
    points_of,
    random_pictures,
    targets_of,
)


class TestFcos:
    RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, float("inf")))
    # The same two places on the finest levels, and one on the coarsest.
    POINTS = points_of((20, 20, 8), (60, 20, 8), (20, 20, 16), (60, 20, 16), (32, 32, 32))

    def assign(self, *pictures: Sequence[Box]) -> Assignment:
        return fcos_assign(targets_of(*pictures), self.POINTS, self.RANGES)

    def test_no_faces_at_all(self) -> None:
        expect(self.assign([], []), [[-1] * 5] * 2, [[0.0] * 5] * 2)

    def test_largest_distance_chooses_the_level_by_hand(self) -> None:
        # From (20, 20): 20, 20, 80, 20: the second level. From (60, 20): 60, 20, 40, 20: the first. From (32, 32):
        # 68 at most: not the third. Overlaps are those of the cells: 16 * 16 and 8 * 8 of 100 * 40.
        expect(self.assign([[0, 0, 100, 40]]), [[-1, 0, 0, -1, -1]], [[0, 64 / 4000, 256 / 4000, 0, 0]])

    def test_last_level_has_no_end(self) -> None:
        # From (32, 32) 868 to the right. The others' largest distances are 880 and 840.
        expect(self.assign([[0, 0, 900, 64]]), [[-1, -1, -1, -1, 0]], [[0, 0, 0, 0, 1024 / 57600]])

    @pytest.mark.parametrize(
        ("reach", "levels"),
        [(63.5, [True, False]), (64, [True, True]), (64.5, [False, True]), (128, [False, True]), (128.5, [False] * 2)],
    )
    def test_both_ends_of_a_range_belong_to_it(self, reach: float, levels: list[bool]) -> None:
        # The paper: a location is negative if its largest distance is over m_i or under m_(i-1).
        priors = points_of((20, 20, 8), (20, 20, 16))
        assignment = fcos_assign(targets_of([[0, 0, 20 + reach, 40]]), priors, self.RANGES[:2])
        assert (assignment.face_index[0] == 0).tolist() == levels

    @pytest.mark.parametrize("box", [[20, 0, 60, 40], [0, 20, 40, 60], [-20, 0, 20, 40], [0, -20, 40, 20]])
    def test_point_on_a_border_is_not_inside(self, box: Box) -> None:
        priors = points_of((20, 20, 8), (20.5, 20.5, 8), (19.5, 19.5, 8))
        assignment = fcos_assign(targets_of([box]), priors, self.RANGES[:1])
        assert assignment.face_index[0, 0] == -1
        assert sorted(assignment.face_index[0, 1:].tolist()) == [-1, 0]

    def test_smallest_of_several_faces(self) -> None:
        # Around (20, 20): 40 x 40, 30 x 30 and 39 x 25 (975 > 900).
        faces = [[0, 0, 40, 40], [5, 5, 35, 35], [1, 10, 40, 35]]
        expect(self.assign(faces), [[1, -1, -1, -1, -1]], [[64 / 900, 0, 0, 0, 0]])
        expect(self.assign(faces[::-1]), [[1, -1, -1, -1, -1]], [[64 / 900, 0, 0, 0, 0]])

    def test_smallest_of_those_in_range(self) -> None:
        # The smaller face is for the first level alone, the larger (90 to the right) for the second alone.
        faces = [[0, 0, 110, 40], [0, 0, 40, 40]]
        expect(self.assign(faces), [[1, 0, 0, -1, -1]], [[64 / 1600, 64 / 4400, 256 / 4400, 0, 0]])

    def test_first_of_equally_small_faces(self) -> None:
        expect(self.assign([[0, 10, 40, 30], [10, 0, 30, 40]]), [[0, -1, -1, -1, -1]], [[64 / 800, 0, 0, 0, 0]])

    def test_middle_picture_without_faces(self) -> None:
        face = [0, 0, 40, 40]
        expect(
            self.assign([face], [], [[50, 0, 70, 40], face]),
            [[0, -1, -1, -1, -1], [-1] * 5, [2, 1, -1, -1, -1]],
            [[0.04, 0, 0, 0, 0], [0.0] * 5, [0.04, 0.08, 0, 0, 0]],
        )

    def test_face_between_the_points_gets_none(self) -> None:
        expect(self.assign([[24, 16, 28, 24], [500, 500, 510, 510]]), [[-1] * 5], [[0.0] * 5])

    @pytest.mark.parametrize("counts", CROWDS)
    @pytest.mark.parametrize("seed", range(3))
    def test_agrees_with_a_slow_reference(self, counts: tuple[int, ...], seed: int) -> None:
        pictures, priors = random_pictures(counts, seed), grid(128)
        ranges = ((0.0, 10.0), (10.0, 20.0), (20.0, float("inf")))
        assignment = fcos_assign(targets_of(*pictures, dtype=torch.float64), priors, ranges)
        boxes = cxcywh_to_xyxy(priors.cxcywh).tolist()
        range_of = dict(zip((8.0, 16.0, 32.0), ranges, strict=True))
        expect(assignment, *slow_fcos(pictures, boxes, [range_of[stride] for stride in priors.strides.tolist()]))
        if sum(counts) > 2:
            assert len(priors.strides[assignment.pairs()[2]].unique()) == 3


def slow_fcos(
    pictures: Sequence[Sequence[Box]], priors: Sequence[Box], ranges: Sequence[tuple[float, float]]
) -> Expected:
    """FCOS, section 3.2, picture by picture and point by point."""
    rows = []
    for faces in pictures:
        chosen = [-1] * len(priors)
        for prior, (px1, py1, px2, py2) in enumerate(priors):
            x, y = (px1 + px2) / 2, (py1 + py2) / 2
            low, high = ranges[prior]
            for face, (x1, y1, x2, y2) in enumerate(faces):
                distances = (x - x1, y - y1, x2 - x, y2 - y)
                if min(distances) <= 0 or max(distances) < low or max(distances) > high:
                    continue
                if chosen[prior] < 0 or area_of(faces[face]) < area_of(faces[chosen[prior]]):
                    chosen[prior] = face
        rows.append(chosen)
    return numbered(pictures, rows, priors)
