from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from facekit.ops.assigners import Assignment, atss_assign, fcos_assign, max_iou_assign, sim_ota_assign
from facekit.ops.boxes import cxcywh_to_xyxy
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
