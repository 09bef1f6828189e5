from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.ops.fusion import fuse
from facekit.structures import Detections

Box = Sequence[float]
Entry = tuple[float, list[float]]  # score, and the four corners or these and ten landmark coordinates


def found(*rows: tuple[Box, float], landmarks: NDArray[np.floating] | None = None) -> Detections:
    """Boxes with their scores."""
    return Detections(
        np.array([box for box, _ in rows], dtype=np.float32).reshape(-1, 4),
        np.array([score for _, score in rows], dtype=np.float32),
        None if landmarks is None else landmarks.astype(np.float32),
    )


def expect(result: Detections, boxes: Sequence[Box], scores: Sequence[float]) -> None:
    assert result.boxes_xyxy.dtype == result.scores.dtype == np.float32
    np.testing.assert_allclose(result.boxes_xyxy, np.reshape(boxes, (-1, 4)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(result.scores, scores, rtol=1e-6)


FACE, SHIFTED = [0, 0, 100, 100], [20, 0, 120, 100]  # IoU 80 / 120
FAR = [500, 500, 600, 600]


class TestByHand:
    def test_mean_weighted_by_score(self) -> None:
        # (0.9 * 0 + 0.3 * 20) / 1.2 = 5; the score is the plain mean.
        expect(fuse([found((FACE, 0.9)), found((SHIFTED, 0.3))]), [[5, 0, 105, 100]], [0.6])

    def test_seen_by_few_passes_counts_less(self) -> None:
        # By two of three and by one of three.
        passes = [found((FACE, 0.9), (FAR, 0.6)), found((FACE, 0.6)), found()]
        expect(fuse(passes), [FACE, FAR], [0.75 * 2 / 3, 0.6 / 3])

    def test_more_boxes_than_passes_count_no_more(self) -> None:
        expect(fuse([found((FACE, 0.9), (FACE, 0.6)), found((FACE, 0.6))]), [FACE], [0.7])

    @pytest.mark.parametrize(("width", "together"), [(56, True), (55, False)])
    def test_overlap_must_exceed_the_threshold(self, width: float, together: bool) -> None:
        # IoU width / 100.
        result = fuse([found((FACE, 0.5)), found(([0, 0, width, 100], 0.4))])
        assert len(result) == (1 if together else 2)

    def test_the_fused_box_is_what_others_must_overlap(self) -> None:
        # The third overlaps the first by 60 / 140 only, the mean of the first two (5 to 105) by 65 / 135 only; with
        # equal scores their mean is 10 to 110, of which it has 70 / 130; at 0.5 that is enough.
        third = ([40, 0, 140, 100], 0.1)
        assert len(fuse([found((FACE, 0.9)), found((SHIFTED, 0.3)), found(third)], 0.5)) == 2
        expect(
            fuse([found((FACE, 0.9)), found((SHIFTED, 0.9)), found(third)], 0.5),
            [[22 / 1.9, 0, 212 / 1.9, 100]],
            [1.9 / 3],
        )

    def test_the_best_overlapping_cluster_is_joined(self) -> None:
        # At 0.5, the clusters from 0 and from 60 (IoU 40 / 160) both take a box from 30 (70 / 130) or 28 (72 / 128).
        faces = found(([60, 0, 160, 100], 0.9), (FACE, 0.8))
        expect(fuse([faces, found(([28, 0, 128, 100], 0.8))], 0.5), [[14, 0, 114, 100], [60, 0, 160, 100]], [0.8, 0.45])
        # Of equals the one that started first.
        result = fuse([faces, found(([30, 0, 130, 100], 0.9))], 0.5)
        expect(result, [[45, 0, 145, 100], FACE], [0.9, 0.4])

    def test_landmarks_move_with_the_box(self) -> None:
        points = np.arange(10.0).reshape(1, 5, 2)
        result = fuse([found((FACE, 0.9), landmarks=points), found((SHIFTED, 0.3), landmarks=points + 8)])
        assert result.landmarks_xy is not None
        np.testing.assert_allclose(result.landmarks_xy, points + 2, rtol=1e-6)
        assert result.landmarks_xy.dtype == np.float32

    def test_the_best_are_kept(self) -> None:
        passes = [found((FACE, 0.9), (FAR, 0.8)), found((FAR, 0.8))]
        expect(fuse(passes), [FAR, FACE], [0.8, 0.45])
        expect(fuse(passes, max_detections=1), [FAR], [0.8])
        assert len(fuse(passes, max_detections=0)) == 0

    def test_scores_of_zero(self) -> None:
        expect(fuse([found((FACE, 0.0)), found((SHIFTED, 0.0))]), [[10, 0, 110, 100]], [0.0])

    def test_boxes_without_area_stay_alone(self) -> None:
        rows = [([5, 5, 5, 9], 0.9), ([5, 5, 5, 9], 0.8), ([9, 9, 5, 5], 0.7)]
        expect(fuse([found(*rows)]), [box for box, _ in rows], [0.9, 0.8, 0.7])


class TestOnePass:
    def test_without_overlaps_it_comes_back(self) -> None:
        rng = np.random.default_rng(0)
        corner = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2) * 50 + rng.uniform(
            0, 9, (400, 2)
        )
        scores = np.sort(rng.random(400).astype(np.float32))[::-1]
        boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (400, 2))], axis=1).astype(np.float32)
        points = rng.uniform(0, 1000, (400, 5, 2)).astype(np.float32)
        result = fuse([Detections(boxes, scores, points)])
        np.testing.assert_array_equal(result.boxes_xyxy, boxes)
        np.testing.assert_array_equal(result.scores, scores)
        np.testing.assert_array_equal(result.landmarks_xy, points)

    @pytest.mark.parametrize("landmarks", [None, np.zeros((0, 5, 2))])
    @pytest.mark.parametrize("count", [1, 3])
    def test_nothing_found(self, landmarks: NDArray[np.float64] | None, count: int) -> None:
        result = fuse([found(landmarks=landmarks)] * count)
        assert result.boxes_xyxy.shape == (0, 4)
        assert result.scores.shape == (0,)
        assert (None if result.landmarks_xy is None else result.landmarks_xy.shape) == (
            None if landmarks is None else (0, 5, 2)
        )


def slow_fuse(passes: Sequence[Sequence[Entry]], threshold: float) -> list[Entry]:
    """Steps 1 to 7 of the paper's section 3, box by box."""
    every = sorted((entry for rows in passes for entry in rows), key=lambda entry: -entry[0])
    clusters: list[list[Entry]] = []
    fused: list[list[float]] = []
    for score, values in every:
        overlaps = [slow_iou(values, box) for box in fused]
        if overlaps and max(overlaps) > threshold:
            position = overlaps.index(max(overlaps))
            clusters[position].append((score, values))
        else:
            position = len(fused)
            clusters.append([(score, values)])
            fused.append([])
        members = clusters[position]
        total = sum(member for member, _ in members)
        fused[position] = [
            sum(member * row[column] for member, row in members) / total for column in range(len(values))
        ]
    result = []
    for members, values in zip(clusters, fused, strict=True):
        confidence = sum(score for score, _ in members) / len(members)
        result.append((confidence * min(len(members), len(passes)) / len(passes), values))
    return sorted(result, key=lambda entry: -entry[0])


def slow_iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def compare(passes: Sequence[Detections], threshold: float) -> list[Entry]:
    """Asserts that the result is the slow reference's, and returns that."""
    entries = [
        [
            (score, box if part.landmarks_xy is None else box + part.landmarks_xy[index].ravel().tolist())
            for index, (score, box) in enumerate(zip(part.scores.tolist(), part.boxes_xyxy.tolist(), strict=True))
        ]
        for part in passes
    ]
    expected = slow_fuse(entries, threshold)
    result = fuse(passes, threshold)
    assert len(result) == len(expected)
    np.testing.assert_allclose(result.scores, [score for score, _ in expected], rtol=1e-6)
    for index, (_, values) in enumerate(expected):
        np.testing.assert_allclose(result.boxes_xyxy[index], values[:4], rtol=1e-5, atol=1e-4)
        if result.landmarks_xy is not None:
            np.testing.assert_allclose(result.landmarks_xy[index].ravel(), values[4:], rtol=1e-5, atol=1e-4)
    return expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("count", "passes", "threshold"), [(60, 3, 0.55), (40, 5, 0.5), (25, 8, 0.7)])
def test_agrees_with_a_slow_reference(seed: int, count: int, passes: int, threshold: float) -> None:
    # Crowded: faces touch several others, and clusters wander as they grow.
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 200, (count, 2)), rng.uniform(5, 80, (count, 1)) * rng.uniform(0.7, 1.4, (count, 2))
    faces = np.concatenate([corner, corner + size], axis=1)
    parts = []
    for _ in range(passes):
        kept = faces[rng.random(count) < 0.8]
        moved = kept + rng.normal(0, 0.1, kept.shape) * (kept[:, 2:] - kept[:, :2]).mean(axis=1, keepdims=True)
        points = rng.uniform(0, 200, (len(kept), 5, 2))
        parts.append(
            found(*zip(moved.tolist(), rng.uniform(0.02, 1, len(kept)).tolist(), strict=True), landmarks=points)
        )
    expected = compare(parts, threshold)
    assert count / 4 < len(expected) < sum(map(len, parts)) / 1.5


# Whole pixels on a small field and few scores: many boxes and scores are equal, many touch or hold each other.
PLACES = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 9)] * 2, st.sampled_from([0.2, 0.5, 0.6, 0.9]))


@given(
    st.lists(st.lists(PLACES, max_size=12), min_size=1, max_size=4),
    st.sampled_from([0.5, 0.55, 0.6, 0.8]),
)
@settings(deadline=None, max_examples=150)
def test_agrees_with_a_slow_reference_where_boxes_coincide(
    passes: list[list[tuple[int, int, int, int, float]]], threshold: float
) -> None:
    # A hair's breadth of noise keeps what rounding would decide apart from what the boxes decide.
    rng = np.random.default_rng(0)
    parts = [
        found(*(((np.array([x, y, x + w, y + h]) + rng.uniform(0, 0.01, 4)).tolist(), s) for x, y, w, h, s in rows))
        for rows in passes
    ]
    result = fuse(parts, threshold)
    assert (np.diff(result.scores) <= 0).all()
    compare(parts, threshold)


def test_far_outliers_change_nothing_for_the_others() -> None:
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 100, (30, 2))
    boxes = np.concatenate([corner, corner + 30], axis=1)
    rows = [(box, score) for box, score in zip(boxes.tolist(), rng.uniform(0.1, 1, 30).tolist(), strict=True)]
    outliers = [([-1e20, -1e20, -1e19, -1e19], 0.95), ([0, 0, 1e25, 2], 0.5), ([1e12, 1e12, 1e13, 1e13], 0.3)]
    expected = fuse([found(*rows), found(*rows[::2])])
    result = fuse([found(*rows, *outliers), found(*rows[::2])])
    inside = (np.abs(result.boxes_xyxy) < 1e6).all(axis=1)
    assert np.count_nonzero(~inside) == 3
    np.testing.assert_array_equal(result.boxes_xyxy[inside], expected.boxes_xyxy)


def test_a_thousand_times_the_same_box() -> None:
    expect(fuse([found(*[(FACE, 0.5)] * 1000)]), [FACE], [0.5])


def test_arguments_stay_as_they_are() -> None:
    part = found((FACE, 0.2), (SHIFTED, 0.9), landmarks=np.zeros((2, 5, 2)))
    fuse([part, part])
    np.testing.assert_array_equal(part.boxes_xyxy, [FACE, SHIFTED])
    np.testing.assert_array_equal(part.scores, np.array([0.2, 0.9], dtype=np.float32))


class TestComplaints:
    def test_no_passes(self) -> None:
        with pytest.raises(ValueError, match="passes: must be one or more"):
            fuse([])

    @pytest.mark.parametrize("threshold", [0.49, 1.0, float("nan")])
    def test_threshold(self, threshold: float) -> None:
        with pytest.raises(ValueError, match=f"iou_threshold: must be .* but got {threshold:g}"):
            fuse([found((FACE, 0.5))], threshold)

    def test_landmarks_in_some(self) -> None:
        with_landmarks = found((FACE, 0.5), landmarks=np.zeros((1, 5, 2)))
        with pytest.raises(ValueError, match="all have landmarks or none"):
            fuse([with_landmarks, found((FACE, 0.5))])
        # A pass that found nothing is no reason to complain.
        assert fuse([found(), with_landmarks]).landmarks_xy is not None

    def test_values_that_are_not_finite(self) -> None:
        for row in (([0, 0, np.nan, 1], 0.5), (FACE, np.inf)):
            with pytest.raises(FacekitError, match="not finite"):
                fuse([found(row)])
        with pytest.raises(FacekitError, match="not finite"):
            fuse([found((FACE, 0.5), landmarks=np.full((1, 5, 2), np.nan))])
