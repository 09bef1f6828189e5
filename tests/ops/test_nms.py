from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from facekit.ops.nms import select_detections, suppress
from facekit.structures import Decoded, Detections

# A and A_AGAIN overlap by 90 / 110; the others by nothing.
A, A_AGAIN, B, C = [0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [50, 50, 60, 70]


def decoded(
    boxes: Sequence[Sequence[float]], scores: Sequence[float], landmarks: torch.Tensor | None = None
) -> Decoded:
    return Decoded(torch.tensor([boxes]).float().reshape(1, -1, 4), torch.tensor([scores]).float(), landmarks)


def select(found: Decoded, picture: int = 0, **changes: Any) -> Detections:
    settings: dict[str, Any] = {
        "score_threshold": 0.02,
        "nms_iou_threshold": 0.45,
        "max_candidates": None,
        "max_detections": None,
    }
    return select_detections(found.of(picture), **(settings | changes))


class TestEmpty:
    def test_no_priors(self) -> None:
        found = select(decoded([], []))
        assert len(found) == 0
        assert found.boxes_xyxy.shape == (0, 4)
        assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32

    def test_nothing_over_the_threshold(self) -> None:
        found = select(decoded([A, B], [0.01, 0.0], torch.zeros(1, 2, 10)))
        assert len(found) == 0
        assert found.landmarks_xy is not None
        assert found.landmarks_xy.shape == (0, 5, 2)

    def test_scores_that_are_not_numbers_find_nothing(self) -> None:
        assert len(select(decoded([A], [float("nan")]))) == 0


class TestByHand:
    def test_best_first_and_overlapping_gone(self) -> None:
        found = select(decoded([B, A_AGAIN, A, C], [0.5, 0.7, 0.9, 0.6]))
        assert found.boxes_xyxy.tolist() == [A, C, B]
        np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.5])
        assert found.landmarks_xy is None

    def test_overlap_must_exceed_the_nms_threshold(self) -> None:
        half = decoded([[0, 0, 10, 10], [0, 0, 10, 5]], [0.9, 0.8])  # IoU 0.5
        assert len(select(half, nms_iou_threshold=0.5)) == 2
        assert len(select(half, nms_iou_threshold=0.49)) == 1

    def test_score_must_exceed_the_threshold(self) -> None:
        found = select(decoded([A, B], [0.25, 0.2500001]), score_threshold=0.25)
        assert found.boxes_xyxy.tolist() == [B]

    def test_candidates_are_cut_before_nms(self) -> None:
        many = decoded([A, A_AGAIN, B, C], [0.9, 0.8, 0.7, 0.6])
        assert select(many, max_candidates=2).boxes_xyxy.tolist() == [A]
        assert select(many, max_candidates=3).boxes_xyxy.tolist() == [A, B]

    def test_detections_are_cut_after_nms(self) -> None:
        many = decoded([A, A_AGAIN, B, C], [0.9, 0.8, 0.7, 0.6])
        assert select(many, max_detections=2).boxes_xyxy.tolist() == [A, B]

    def test_scale_reaches_boxes_and_landmarks(self) -> None:
        landmarks = torch.arange(10.0).view(1, 1, 10)
        found = select(decoded([[1, 2, 3, 4]], [0.9], landmarks), scale_xy=(2.0, 10.0))
        assert found.boxes_xyxy.tolist() == [[2, 20, 6, 40]]
        assert found.landmarks_xy is not None
        assert found.landmarks_xy.tolist() == [[[0, 10], [4, 30], [8, 50], [12, 70], [16, 90]]]

    def test_landmarks_stay_with_their_boxes(self) -> None:
        landmarks = torch.tensor([1.0, 2, 3]).view(1, 3, 1).expand(1, 3, 10)
        found = select(decoded([A_AGAIN, B, A], [0.8, 0.3, 0.9], landmarks))
        assert found.landmarks_xy is not None
        assert found.landmarks_xy[:, 0, 0].tolist() == [3, 2]

    def test_each_picture_has_its_own(self) -> None:
        both = Decoded(torch.tensor([[A], [B]]).float(), torch.tensor([[0.9], [0.8]]))
        assert select(both, picture=0).boxes_xyxy.tolist() == [A]
        assert select(both, picture=1).boxes_xyxy.tolist() == [B]


class TestTies:
    def test_the_first_prior_wins(self) -> None:
        assert select(decoded([A_AGAIN, A], [0.5, 0.5])).boxes_xyxy.tolist() == [A_AGAIN]
        assert select(decoded([A, A_AGAIN], [0.5, 0.5])).boxes_xyxy.tolist() == [A]

    def test_many_keep_the_order_of_the_priors(self) -> None:
        boxes = [[20 * i, 0, 20 * i + 10, 10] for i in range(2000)]
        everything = decoded(boxes, [0.5] * len(boxes))
        assert select(everything).boxes_xyxy.tolist() == boxes
        assert select(everything, max_candidates=700).boxes_xyxy.tolist() == boxes[:700]


class TestUnionSlack:
    """Square pixels added to each union: A and A_AGAIN share 90 of 110."""

    def test_by_hand(self) -> None:
        # 90 / (110 + 90) = 0.45 is not over the threshold of 0.45; 90 / 199 = 0.4523 is.
        both = decoded([A, A_AGAIN, B], [0.9, 0.8, 0.7])
        assert select(both, union_slack=90.0).boxes_xyxy.tolist() == [A, A_AGAIN, B]
        assert select(both, union_slack=89.0).boxes_xyxy.tolist() == [A, B]

    def test_what_falls_suppresses_nothing(self) -> None:
        # Neighbours share 80 of 120, the first and the third 60 of 140: with 20 more 0.571 and 0.375.
        row = [[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10], [6, 0, 16, 10]]
        found = select(decoded(row, [0.9, 0.8, 0.7, 0.6]), union_slack=20.0)
        assert found.boxes_xyxy.tolist() == [row[0], row[2]]

    def test_no_boxes(self) -> None:
        assert len(select(decoded([], []), union_slack=20.0)) == 0

    def test_a_long_chain_settles_from_the_best_box_downwards(self) -> None:
        # Each box beats the next alone, so that whether one stands is known only when all before it are settled.
        chain = np.array([[2.0 * i, 0, 2 * i + 10, 10] for i in range(301)], dtype=np.float32)
        assert suppress(chain, 0.5, union_slack=20.0).tolist() == [*range(0, 301, 2)]

    def test_boxes_without_area_overlap_nothing(self) -> None:
        points = np.array([[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [9, 9, 1, 1]], dtype=np.float32)
        assert suppress(points, 0.3, union_slack=0.5).tolist() == [0, 1, 2, 3]

    def test_equal_boxes_leave_the_best(self) -> None:
        same = np.tile(np.array([[0, 0, 10, 10]], dtype=np.float32), (50, 1))
        assert suppress(same, 0.5, union_slack=99.0).tolist() == [0]  # 100 / 199
        assert suppress(same, 0.5, union_slack=101.0).tolist() == [*range(50)]  # 100 / 201

    @pytest.mark.parametrize("union_slack", [0.0, 30.0])
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("count", [40, 200])
    def test_agrees_with_a_slow_reference(self, count: int, union_slack: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        corner, size = (
            60 * torch.rand(count, 2, generator=generator),
            5 + 20 * torch.rand(count, 2, generator=generator),
        )
        boxes = torch.cat([corner, corner + size], dim=1)
        kept: list[int] = []
        for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            overlaps = []
            for a1, b1, a2, b2 in boxes[kept].tolist():
                shared = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
                union = (x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared
                overlaps.append(shared / (union + union_slack))
            if all(overlap <= 0.3 for overlap in overlaps):
                kept.append(index)
        assert 10 < len(kept) < count
        assert suppress(boxes.numpy(), 0.3, union_slack).tolist() == kept


def test_boxes_turned_inside_out_are_no_faces() -> None:
    boxes = torch.tensor([[[10.0, 10, 8, 20], [10, 10, 20, 9], [10, 10, 20, 20], [30, 30, 30, 40]]])
    found = select_detections(Decoded(boxes[0], torch.full((4,), 0.9)), 0.5, 0.45, None, None)
    assert found.boxes_xyxy.tolist() == [[10, 10, 20, 20], [30, 30, 30, 40]]  # no width is thin, not inside out


def test_boxes_that_overflow_are_no_faces() -> None:
    endless = float("inf")
    boxes = torch.tensor([[[0.0, 0, endless, endless], [-endless, 0, 5, 5], [float("nan"), 0, 5, 5], [1, 2, 3, 4]]])
    found = select_detections(Decoded(boxes[0], torch.full((4,), 0.9)), 0.5, 0.45, None, None)
    assert found.boxes_xyxy.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("seed", range(3))
def test_crowds_agree_with_torchvision(seed: int) -> None:
    """An independent implementation, on many boxes about few faces and on boxes all over the place."""
    rng = np.random.default_rng(seed)
    for count, faces in ((3000, 40), (3000, 3000), (300, 250), (65, 9), (64, 9), (20, 2), (1, 1), (0, 1)):
        centres = rng.uniform(0, 1000, (faces, 2))[rng.integers(0, faces, count)] + rng.normal(0, 3, (count, 2))
        sides = np.exp(rng.uniform(np.log(8), np.log(200), (count, 2)))
        boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
        for threshold in (0.3, 0.45, 0.9):
            expected = nms(torch.from_numpy(boxes), torch.arange(count, 0, -1).float(), threshold)
            assert suppress(boxes, threshold).tolist() == expected.tolist()
            assert suppress(boxes, threshold, most=5).tolist() == expected[:5].tolist()


def test_every_overlap_falls_at_threshold_zero() -> None:
    boxes = np.array([[0, 0, 10, 10], [9, 9, 100, 100], [50, 50, 51, 51], [200, 0, 210, 10]], dtype=np.float32)
    assert suppress(boxes, 0.0).tolist() == [0, 2, 3]
