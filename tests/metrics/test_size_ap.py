from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.metrics.curves import DetectionCurve
from facekit.metrics.size_ap import ap_by_height, curve_by_height


def boxes(*rows: Sequence[float]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def ap(
    faces: NDArray[np.float64],
    found: NDArray[np.float64],
    scores: Sequence[float],
    min_height: int = 64,
    crowds: Sequence[int] = (),
) -> float:
    """Of one picture; crowds: which of the faces are regions of many."""
    return ap_by_height([faces], [np.isin(np.arange(len(faces)), crowds)], [found], [np.array(scores)], min_height)


def no_crowds(faces: Sequence[NDArray[np.float64]]) -> list[NDArray[np.bool_]]:
    return [np.zeros(len(picture), bool) for picture in faces]


# In whole pixels, as faces grow by one: [0, 0, 100, 100], [200, 0, 100, 100] and, too small, [400, 0, 20, 20].
FACE_A, FACE_B, SMALL = [0, 0, 99, 99], [200, 0, 99, 99], [400, 0, 19, 19]
HIT_A, HIT_B, HIT_SMALL = [0, 0, 100, 100], [200, 0, 300, 100], [400, 0, 420, 20]
NOWHERE = [600, 600, 700, 700]
CROWD = [300, 300, 199, 199]  # far from all of them


class TestEmpty:
    def test_no_pictures(self) -> None:
        assert math.isnan(ap_by_height([], [], [], []))

    def test_no_faces(self) -> None:
        assert math.isnan(ap(boxes(), boxes(HIT_A), [0.9]))

    def test_no_detections(self) -> None:
        assert ap(boxes(FACE_A), boxes(), []) == 0.0

    def test_no_face_counts(self) -> None:
        assert math.isnan(ap(boxes(SMALL), boxes(HIT_SMALL), [0.9]))

    def test_faces_of_a_picture_without_detections_stay_in_recall(self) -> None:
        assert ap_by_height([boxes(FACE_A)] * 2, [[False]] * 2, [boxes(HIT_A), boxes()], [[0.9], []]) == 0.5


class TestByHand:
    def test_hit_miss_hit(self) -> None:
        # recall 1/2 at precision 1, then 1/2 at 1/2, then 1 at 2/3: 1/2 * 1 + 1/2 * 2/3
        assert ap(boxes(FACE_A, FACE_B), boxes(HIT_A, NOWHERE, HIT_B), [0.9, 0.5, 0.1]) == pytest.approx(5 / 6)

    def test_order_is_over_the_whole_set(self) -> None:
        # The same ranking as above, spread over two pictures and given in another order.
        faces, found = [boxes(FACE_A), boxes(FACE_B)], [boxes(NOWHERE, HIT_A), boxes(HIT_B)]
        assert ap_by_height(faces, no_crowds(faces), found, [[0.5, 0.9], [0.1]]) == pytest.approx(5 / 6)

    def test_second_hit_on_a_face_is_false(self) -> None:
        assert ap(boxes(FACE_A, FACE_B), boxes(HIT_A, HIT_A, HIT_B), [0.9, 0.5, 0.1]) == pytest.approx(5 / 6)

    def test_hits_on_an_ignored_face_are_neither_true_nor_false(self) -> None:
        found = boxes(HIT_SMALL, HIT_SMALL, HIT_A)
        assert ap(boxes(SMALL, FACE_A), found, [0.9, 0.8, 0.7]) == 1.0

    def test_equal_scores_share_one_point(self) -> None:
        assert ap(boxes(FACE_A), boxes(HIT_A, NOWHERE), [0.9, 0.9]) == 0.5
        assert ap(boxes(FACE_A), boxes(HIT_A, NOWHERE), [0.9, 0.8]) == 1.0

    def test_score_must_exceed_one_hundredth(self) -> None:
        assert ap(boxes(FACE_A), boxes(HIT_A), [0.01]) == 0.0
        assert ap(boxes(FACE_A), boxes(HIT_A), [0.011]) == 1.0

    @pytest.mark.parametrize(("right", "expected"), [(50, 1.0), (49, 0.0)])
    def test_overlap_of_a_half_is_enough(self, right: int, expected: float) -> None:
        assert ap(boxes(FACE_A), boxes([0, 0, right, 100]), [0.9]) == expected

    @pytest.mark.parametrize(("width", "expected"), [(40, 1.0), (41, 0.5)])
    def test_ignored_overlap_is_a_share_of_the_detection(self, width: int, expected: float) -> None:
        # [400, 0, 20, 20] covers half of a detection 40 wide and 20 high, and all of one 20 wide and 4 high, though the
        # IoU of that one is 1/5 only. A false one before the hit halves the precision.
        faces = boxes(SMALL, FACE_A)
        assert ap(faces, boxes([400, 0, 400 + width, 20], HIT_A), [0.9, 0.5]) == expected
        assert ap(faces, boxes([400, 0, 420, 4], HIT_A), [0.9, 0.5]) == 1.0

    def test_a_counting_face_goes_before_a_better_ignored_one(self) -> None:
        # The detection is exactly the ignored face (63 high) and has IoU 63/100 with the counting one.
        assert ap(boxes(FACE_A, [0, 0, 99, 62]), boxes([0, 0, 100, 63]), [0.9]) == 1.0

    def test_detection_without_area_is_false(self) -> None:
        found = boxes([10, 10, 10, 50], [50, 50, 10, 10], HIT_A)
        assert ap(boxes(FACE_A, SMALL), found, [0.9, 0.8, 0.7]) == pytest.approx(1 / 3)


class TestCrowds:
    """A crowd is neither missed nor wrong, at any height and in any place."""

    @pytest.mark.parametrize("min_height", [1, 10, 32, 64, 100])
    def test_one_face_found_one_crowd_not(self, min_height: int) -> None:
        assert ap(boxes(FACE_A, CROWD), boxes(HIT_A), [0.9], min_height, crowds=[1]) == 1.0
        curve = curve_by_height([boxes(FACE_A, CROWD)], [[False, True]], [boxes(HIT_A)], [[0.9]], min_height)
        assert (curve.faces, curve.recall_at(0.01)) == (1, 1.0)

    def test_as_many_detections_in_it_as_may_be(self) -> None:
        # Small ones within, one that is the crowd itself, one that has half its area there; all surer than the hit.
        inside = boxes([310, 310, 330, 330], [310, 310, 330, 330], [300, 300, 500, 500], [490, 300, 510, 320])
        found = np.concatenate([inside, boxes(HIT_A)])
        curve = curve_by_height(
            [boxes(FACE_A, CROWD)], [[False, True]], [found], [[0.9, 0.9, 0.8, 0.7, 0.3]], frame=math.inf
        )
        assert (curve.true.tolist(), curve.false.tolist(), curve.ap, curve.recall_at(0)) == ([1], [0], 1.0, 1.0)

    def test_less_than_half_in_it_is_false(self) -> None:
        found = boxes([488, 300, 512, 320], [489, 300, 513, 320])
        curve = curve_by_height([boxes(FACE_A, CROWD)], [[False, True]], [found], [[0.9] * 2])
        assert curve.false[-1] == 1  # 12 and 11 of 24 pixels: with its far pixel the crowd ends at 500

    def test_it_hides_beyond_the_frame_nothing(self) -> None:
        far = [2000, 50, 199, 199]  # right of pixel 1024, where the protocol has no faces
        assert ap(boxes(FACE_A, far), boxes([2010, 60, 2050, 100], HIT_A), [0.9, 0.5], crowds=[1]) == 1.0

    def test_a_face_within_it_is_found_all_the_same(self) -> None:
        crowd = [0, 0, 499, 499]
        assert ap(boxes(crowd, FACE_A), boxes(HIT_A, [200, 200, 300, 300]), [0.9, 0.8], crowds=[0]) == 1.0
        assert ap(boxes(crowd, FACE_A), boxes([200, 200, 300, 300]), [0.8], crowds=[0]) == 0.0

    def test_crowds_alone_leave_nothing_to_measure(self) -> None:
        assert math.isnan(ap(boxes(CROWD), boxes([310, 310, 330, 330]), [0.9], crowds=[0]))


class TestRecall:
    def curve(self, found: NDArray[np.float64], scores: Sequence[float], pictures: int = 2) -> DetectionCurve:
        """FACE_A and FACE_B in the first picture, nothing in the others."""
        none = [boxes()] * (pictures - 1)
        faces = [boxes(FACE_A, FACE_B), *none]
        return curve_by_height(faces, no_crowds(faces), [found, *none], [scores, *[[]] * (pictures - 1)])

    def test_false_positives_are_counted_a_picture(self) -> None:
        # Hit, miss, miss, hit over two pictures: 0, 0.5 and 1 false positives a picture.
        curve = self.curve(boxes(HIT_A, NOWHERE, NOWHERE, HIT_B), [0.9, 0.8, 0.7, 0.6])
        assert curve.true.tolist() == [1, 1, 1, 2]
        assert curve.false.tolist() == [0, 1, 2, 2]
        assert (curve.faces, curve.pictures) == (2, 2)
        assert [curve.recall_at(rate) for rate in (0, 0.99, 1, 100)] == [0.5, 0.5, 1, 1]

    def test_rate_is_reached_at_equality(self) -> None:
        # One in ten is a tenth, and 0.1 * 30 is more than 3.
        assert self.curve(boxes(NOWHERE, HIT_A), [0.9, 0.8], pictures=10).recall_at(0.1) == 0.5
        assert self.curve(boxes(NOWHERE, HIT_A), [0.9, 0.8], pictures=9).recall_at(0.1) == 0
        three = self.curve(boxes(NOWHERE, NOWHERE, NOWHERE, HIT_A), [0.9, 0.8, 0.7, 0.6], pictures=30)
        assert three.recall_at(0.1) == 0.5

    def test_equal_scores_are_reached_together(self) -> None:
        assert self.curve(boxes(HIT_A, NOWHERE), [0.9, 0.9]).recall_at(0.1) == 0
        assert self.curve(boxes(HIT_A, NOWHERE), [0.9, 0.8]).recall_at(0.1) == 0.5

    def test_second_hit_is_false_and_ignored_ones_are_not(self) -> None:
        found = boxes(HIT_SMALL, HIT_SMALL, HIT_A, HIT_A, HIT_B)
        curve = curve_by_height([boxes(FACE_A, FACE_B, SMALL)], [[False] * 3], [found], [[0.9, 0.8, 0.7, 0.6, 0.5]])
        assert (curve.recall_at(0.1), curve.recall_at(1)) == (0.5, 1)

    def test_nothing_found(self) -> None:
        assert self.curve(boxes(), []).recall_at(1) == 0

    def test_no_face_counts(self) -> None:
        assert math.isnan(curve_by_height([boxes(SMALL)], [[False]], [boxes(HIT_SMALL)], [[0.9]]).recall_at(1))
        assert math.isnan(curve_by_height([], [], [], []).recall_at(1))


class TestHeights:
    @pytest.mark.parametrize(
        ("face", "min_height", "counts"),
        [
            ([0, 0, 63, 63], 64, True),  # 64 with the far corner's pixel
            ([0, 0, 63, 62], 64, False),
            ([0, 0, 63, 62.5], 64, True),  # 63.5 rounds to 64, the even one
            ([0, 0, 63, 63.5], 65, False),  # 64.5 too
            ([0, 0, 9, 9], 10, True),
            ([0, 980, 99, 99], 64, False),  # 44 pixels inside the frame
            ([0, -50, 99, 99], 100, True),  # the corner moves to 0, the height stays
            ([0, 0, 99, 5000], 1024, True),  # clipped to the frame
            ([0, 1200, 99, 99], 10, False),  # outside
        ],
    )
    def test_which_faces_count(self, face: list[float], min_height: int, counts: bool) -> None:
        x, y, w, h = face
        top, bottom = max(y, 0), min(max(y, 0) + h + 1, 1024)
        found = boxes([x, top, x + w + 1, bottom] if bottom > top else NOWHERE)
        assert ap(boxes(face), found, [0.9], min_height) == pytest.approx(1.0 if counts else math.nan, nan_ok=True)

    def test_one_pixel_is_every_face_inside_the_frame(self) -> None:
        faces = boxes(FACE_A, SMALL, [9, 9, 0, 0], [1500, 0, 99, 99], [0, 1500, 99, 99])
        found = np.concatenate([faces[:, :2], faces[:, :2] + faces[:, 2:] + 1], axis=1)
        scores = [0.5, 0.4, 0.3, 0.9, 0.8]
        # Right of the frame a face counts and can't be found, below it doesn't count: both hits are false.
        inside = curve_by_height([faces], no_crowds([faces]), [found], [scores], min_height=1)
        assert (inside.faces, inside.true[-1], inside.false[-1]) == (4, 3, 2)
        every = curve_by_height([faces], no_crowds([faces]), [found], [scores], min_height=1, frame=math.inf)
        assert (every.faces, every.true[-1], every.false[-1]) == (5, 5, 0)

    def test_detections_are_rounded_but_not_clipped(self) -> None:
        # Only 924 to 1024 is left of the face, the detection goes on to 1224: IoU 100 * 100 / (300 * 100).
        assert ap(boxes([924, 0, 299, 99]), boxes([924, 0, 1224, 100]), [0.9]) == 0.0
        # Height 49.6 rounds to 50, exactly half of the face.
        assert ap(boxes(FACE_A), boxes([0.4, 0.4, 100.4, 50]), [0.9]) == 1.0


RATES = (0.0, 0.01, 0.1, 0.5, 1.0, 3.0)


def slow_reference(
    faces: Sequence[NDArray[np.float64]],
    found: Sequence[NDArray[np.float64]],
    scores: Sequence[NDArray[np.float64]],
    min_height: int,
) -> tuple[float, list[float]]:
    """The protocol's text, detection by detection: AP, and recall at RATES."""
    pictures = [[slow_face(face) for face in picture.tolist()] for picture in faces]
    counting = [[min_height <= face[3] <= 1024 for face in picture] for picture in pictures]
    ranking = [
        (score, picture, (round(x1), round(y1), round(x2 - x1), round(y2 - y1)))
        for picture in range(len(faces))
        for score, (x1, y1, x2, y2) in zip(scores[picture].tolist(), found[picture].tolist(), strict=True)
        if score > 0.01
    ]
    ranking.sort(key=lambda entry: -entry[0])
    taken: set[tuple[int, int]] = set()
    true = false = 0
    points: dict[float, tuple[int, int]] = {}
    for score, picture, box in ranking:
        best, best_iou, over_ignored = -1, 0.0, 0.0
        for index, face in enumerate(pictures[picture]):
            shared = slow_shared(box, face)
            if counting[picture][index]:
                iou = shared / (box[2] * box[3] + face[2] * face[3] - shared) if shared else 0.0
                if iou > best_iou:
                    best, best_iou = index, iou
            elif shared:
                over_ignored = max(over_ignored, shared / (box[2] * box[3]))
        if best_iou >= 0.5:
            is_new = (picture, best) not in taken
            taken.add((picture, best))
            true, false = true + is_new, false + (not is_new)
        elif over_ignored < 0.5:
            false += 1
        points[score] = (true, false)
    total = sum(map(sum, counting))
    recalls = [
        max([0.0, *(true / total for true, false in points.values() if false / len(faces) <= rate)]) for rate in RATES
    ]
    curve = [(true / total, true / (true + false)) for true, false in points.values() if true + false]
    area, before = 0.0, 0.0
    for index, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[index:])
        before = recall
    return area, recalls


def slow_face(face: Sequence[float]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = face[0], face[1], face[0] + face[2] + 1, face[1] + face[3] + 1
    x, y, w, h = round(x1), round(y1), round(x2 - x1), round(y2 - y1)
    x, y = max(x, 0), max(y, 0)
    return x, y, min(x + w, 1024) - x, min(y + h, 1024) - y


def slow_shared(a: Sequence[int], b: Sequence[int]) -> int:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("min_height", [1, 10, 32, 64, 100])
def test_agrees_with_a_slow_reference(seed: int, min_height: int) -> None:
    rng = np.random.default_rng(seed)
    faces, found, scores = [], [], []
    for _ in range(24):
        corner = rng.choice([0.0, 500.0, 980.0, 1030.0], (5, 2), p=[0.4, 0.3, 0.2, 0.1])
        corner += rng.integers(-80, 80, (5, 2)) / 2
        size = rng.integers(2, 200, (5, 2)) * rng.choice([0.5, 1.0], (5, 1))
        picture = np.concatenate([corner, size], axis=1)[: rng.integers(0, 6)]
        near = picture[rng.integers(0, len(picture), 15)] if len(picture) else np.full((3, 4), 50.0)
        near = near + rng.integers(-16, 17, near.shape) / 2
        faces.append(picture)
        found.append(np.concatenate([near[:, :2], near[:, :2] + near[:, 2:]], axis=1))
        scores.append(rng.choice([0.005, 0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9], len(near)))
    expected_ap, expected_recalls = slow_reference(faces, found, scores, min_height)
    curve = curve_by_height(faces, no_crowds(faces), found, scores, min_height)
    assert 0 < expected_ap < 1
    assert curve.ap == pytest.approx(expected_ap, abs=1e-12)
    assert curve.ap == ap_by_height(faces, no_crowds(faces), found, scores, min_height)
    assert [curve.recall_at(rate) for rate in RATES] == pytest.approx(expected_recalls, abs=1e-12)


# Few places, sizes, shifts and scores, so that ties, overlaps of exactly a half, second hits, faces over the frame's
# edge and ignored ones come up all the time.
FACES = st.lists(
    st.tuples(*[st.sampled_from([-20.0, 0, 10, 960, 1000, 1100])] * 2, *[st.sampled_from([19.0, 20, 39, 63, 79])] * 2),
    max_size=3,
)
SHIFTS = st.tuples(*[st.sampled_from([0.0, 0.5, 1, 20, -20, 40])] * 4)


@given(
    pictures=st.lists(
        st.tuples(FACES, st.lists(st.tuples(st.integers(0, 2), SHIFTS, st.sampled_from([0.01, 0.3, 0.6])), max_size=6)),
        min_size=1,
        max_size=4,
    ),
    min_height=st.sampled_from([1, 21, 40, 64]),
)
@settings(deadline=None)
def test_agrees_with_a_slow_reference_where_things_coincide(
    pictures: list[tuple[list[tuple[float, ...]], list[tuple[int, tuple[float, ...], float]]]], min_height: int
) -> None:
    faces = [boxes(*rows) for rows, _ in pictures]
    found, scores = [], []
    for rows, detections in pictures:
        near = [np.add(rows[which], shift) for which, shift, _ in detections if which < len(rows)]
        found.append(boxes(*([x, y, x + w, y + h] for x, y, w, h in near)))
        scores.append(np.array([score for which, _, score in detections if which < len(rows)]))
    curve = curve_by_height(faces, no_crowds(faces), found, scores, min_height)
    if curve.faces == 0:
        assert math.isnan(curve.ap)
        return
    expected_ap, expected_recalls = slow_reference(faces, found, scores, min_height)
    assert curve.ap == pytest.approx(expected_ap, abs=1e-12)
    assert [curve.recall_at(rate) for rate in RATES] == pytest.approx(expected_recalls, abs=1e-12)


def test_arguments_stay_as_they_are() -> None:
    faces, found, scores = boxes([-5.5, -5.5, 2000, 2000]), boxes([0.4, 0.4, 99, 99]), np.array([0.9])
    copies = faces.copy(), found.copy(), scores.copy()
    ap_by_height([faces], [[False]], [found], [scores])
    for array, copy in zip((faces, found, scores), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


class TestComplaints:
    def test_lengths_of_the_sequences(self) -> None:
        with pytest.raises(ValueError, match="one entry a picture, but got 2, 1, 1 and 1"):
            ap_by_height([boxes(), boxes()], [[]], [boxes()], [[]])

    def test_scores_of_a_picture(self) -> None:
        with pytest.raises(ValueError, match=r"det_scores\[1\]: must have 1 scores, but got 2"):
            ap_by_height([boxes(), boxes()], [[], []], [boxes(), boxes(HIT_A)], [[], [0.5, 0.5]])

    def test_shapes(self) -> None:
        with pytest.raises(ValueError, match=r"gt_boxes_xywh\[0\]: must be of shape \(_, 4\), but got \(1, 5\)"):
            ap_by_height([np.zeros((1, 5))], [[False]], [boxes()], [[]])
        with pytest.raises(ValueError, match=r"det_scores\[0\]: must be of shape \(_,\), but got \(1, 1\)"):
            ap(boxes(), boxes(HIT_A), [[0.5]])  # type: ignore[list-item]

    def test_values_that_are_not_finite(self) -> None:
        with pytest.raises(FacekitError, match=r"det_boxes_xyxy\[0\]: row 1 .* expected finite"):
            ap(boxes(FACE_A), boxes(HIT_A, [0, 0, np.nan, 1]), [0.9, 0.8])
        with pytest.raises(FacekitError, match=r"det_scores\[0\]: row 0 is nan"):
            ap(boxes(FACE_A), boxes(HIT_A), [np.nan])
