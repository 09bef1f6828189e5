from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facekit.ops.boxes import (
    area,
    border_distances,
    clip_to,
    cxcywh_to_xyxy,
    paired_iou,
    pairwise_iou,
    xyxy_to_cxcywh,
)

coordinate = st.floats(0, 1000, width=32)


@st.composite
def boxes_with_area(draw: st.DrawFn) -> Tensor:
    rows = draw(st.lists(st.tuples(coordinate, coordinate, st.floats(1, 500), st.floats(1, 500)), max_size=6))
    corners = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], dim=1)


class TestArea:
    def test_empty(self) -> None:
        assert area(torch.zeros(0, 4)).shape == (0,)

    def test_by_hand(self) -> None:
        boxes = torch.tensor([[0.0, 0, 10, 4], [5, 5, 5, 9], [10, 0, 0, 4], [10, 4, 0, 0]])
        assert area(boxes).tolist() == [40, 0, 0, 0]  # turned inside out on both sides is no area either


class TestIou:
    def test_empty(self) -> None:
        none, one = torch.zeros(0, 4), torch.tensor([[0.0, 0, 1, 1]])
        assert pairwise_iou(none, one).shape == (0, 1)
        assert pairwise_iou(one, none).shape == (1, 0)
        assert paired_iou(none, none).shape == (0,)

    def test_by_hand(self) -> None:
        box = torch.tensor([[0.0, 0, 10, 10]])
        others = torch.tensor(
            [
                [0.0, 0, 10, 10],  # the same
                [5, 0, 15, 10],  # 50 of 150
                [0, 0, 5, 4],  # inside: 20 of 100
                [10, 0, 20, 10],  # touches
                [30, 30, 40, 40],  # apart
                [3, 3, 3, 3],  # a point
            ]
        )
        expected = torch.tensor([[1.0, 1 / 3, 0.2, 0, 0, 0]])
        torch.testing.assert_close(pairwise_iou(box, others), expected)
        torch.testing.assert_close(paired_iou(box.expand(6, 4), others), expected[0])

    def test_no_area_at_all_is_zero_not_nan(self) -> None:
        point = torch.tensor([[3.0, 3, 3, 3]])
        assert pairwise_iou(point, point).item() == 0

    @given(boxes_with_area(), boxes_with_area())
    def test_symmetric_and_in_0_to_1(self, boxes: Tensor, others: Tensor) -> None:
        table = pairwise_iou(boxes, others)
        assert table.shape == (len(boxes), len(others))
        assert ((table >= 0) & (table <= 1 + 1e-12)).all()
        torch.testing.assert_close(table, pairwise_iou(others, boxes).T)
        torch.testing.assert_close(pairwise_iou(boxes, boxes).diagonal(), torch.ones(len(boxes), dtype=boxes.dtype))


class TestConversion:
    def test_by_hand(self) -> None:
        boxes = torch.tensor([[10.0, 20, 30, 60]])
        assert xyxy_to_cxcywh(boxes).tolist() == [[20, 40, 20, 40]]
        assert cxcywh_to_xyxy(torch.tensor([[20.0, 40, 20, 40]])).tolist() == boxes.tolist()

    @given(boxes_with_area())
    def test_there_and_back(self, boxes: Tensor) -> None:
        torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)


class TestClipTo:
    def test_by_hand(self) -> None:
        # An input 20 wide and 10 high: within, over each border, and wholly outside.
        boxes = torch.tensor([[1.0, 2, 3, 4], [-1, -2, 3, 4], [1, 2, 21, 12], [-5, 30, -1, 40], [25, -9, 30, -3]])
        expected = [[1, 2, 3, 4], [0, 0, 3, 4], [1, 2, 20, 10], [0, 10, 0, 10], [20, 0, 20, 0]]
        assert clip_to(boxes, (10, 20)).tolist() == expected
        assert clip_to(boxes.expand(2, 5, 4), (10, 20)).tolist() == [expected] * 2

    def test_empty(self) -> None:
        assert clip_to(torch.zeros(0, 4), (10, 20)).shape == (0, 4)

    def test_leaves_its_argument_alone(self) -> None:
        boxes = torch.tensor([[-1.0, -2, 30, 40]])
        clip_to(boxes, (10, 20))
        assert boxes.tolist() == [[-1, -2, 30, 40]]


class TestBorderDistances:
    def test_left_top_right_bottom(self) -> None:
        points, boxes = torch.tensor([[3.0, 5], [12, 5]]), torch.tensor([[1.0, 2, 10, 20]])
        assert border_distances(points, boxes).tolist() == [[2, 3, 7, 15], [11, 3, -2, 15]]

    def test_all_pairs(self) -> None:
        points, boxes = torch.rand(3, 2), torch.rand(2, 4)
        table = border_distances(points[None], boxes[:, None])
        assert table.shape == (2, 3, 4)
        torch.testing.assert_close(table[1, 2], border_distances(points[2], boxes[1]))

    def test_empty(self) -> None:
        assert border_distances(torch.zeros(0, 2), torch.zeros(0, 4)).shape == (0, 4)
