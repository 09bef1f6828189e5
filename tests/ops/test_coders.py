from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facekit.ops.coders import Coder, DeltaCoder, DistanceCoder, SigmoidCoder
from facekit.structures import Priors

SSD_CODER, GRID_CODER = DeltaCoder(0.1, 0.2), DeltaCoder(1.0, 1.0)
PIXELS, STRIDES = DistanceCoder(in_strides=False), DistanceCoder(in_strides=True)
CODERS = [SSD_CODER, GRID_CODER, PIXELS, STRIDES]
position, side = st.floats(-500, 1500), st.floats(1, 1000)
rectangle = st.tuples(position, position, side, side)


def priors_of(*cxcywh: Sequence[float], strides: Sequence[float], dtype: torch.dtype = torch.float32) -> Priors:
    return Priors(torch.tensor(cxcywh, dtype=dtype), torch.tensor(strides, dtype=dtype), (500, 500))


def there_and_back(coder: Coder, priors: Priors, boxes: torch.Tensor, deltas: torch.Tensor) -> None:
    torch.testing.assert_close(coder.encode(boxes, priors), deltas)
    torch.testing.assert_close(coder.decode(deltas, priors), boxes)


def points_there_and_back(coder: Coder, priors: Priors, points: torch.Tensor, deltas: torch.Tensor) -> None:
    torch.testing.assert_close(coder.encode_points(points, priors), deltas)
    torch.testing.assert_close(coder.decode_points(deltas, priors), points)


class TestDeltaCoder:
    PRIOR = priors_of([100, 100, 50, 20], strides=[16])
    BOX = torch.tensor([[95.0, 90, 145, 130]])  # centre (120, 110), 50 wide, 40 high

    def test_box_by_hand(self) -> None:
        there_and_back(GRID_CODER, self.PRIOR, self.BOX, torch.tensor([[20 / 50, 10 / 20, 0, math.log(2)]]))

    def test_variances_divide(self) -> None:
        there_and_back(SSD_CODER, self.PRIOR, self.BOX, torch.tensor([[4.0, 5, 0, math.log(2) / 0.2]]))

    @pytest.mark.parametrize(("coder", "factor"), [(SSD_CODER, 10), (GRID_CODER, 1)])
    def test_points_by_hand(self, coder: DeltaCoder, factor: int) -> None:
        points = torch.tensor([[100.0, 100, 125, 90, 50, 130, 110, 102, 99, 101]])
        deltas = torch.tensor([[0.0, 0, 0.5, -0.5, -1, 1.5, 0.2, 0.1, -0.02, 0.05]]) * factor
        points_there_and_back(coder, self.PRIOR, points, deltas)


class TestDistanceCoder:
    # Priors of 8 and 32 pixels a stride; their own sizes do not matter.
    PRIORS = priors_of([100, 60, 7, 3], [100, 60, 500, 900], strides=[8, 32])
    # From (100, 60): 16 to the left, 8 up, 64 to the right, 32 down; and a box that does not hold its prior.
    BOXES = torch.tensor([[84.0, 52, 164, 92], [132, 28, 164, 44]])
    DISTANCES = torch.tensor([[16.0, 8, 64, 32], [-32, 32, 64, -16]])

    def test_boxes_in_pixels(self) -> None:
        there_and_back(PIXELS, self.PRIORS, self.BOXES, self.DISTANCES)

    def test_boxes_in_strides(self) -> None:
        deltas = torch.tensor([[2, 1, 8, 4], [-1, 1, 2, -0.5]])
        there_and_back(STRIDES, self.PRIORS, self.BOXES, deltas)

    def test_points_in_pixels(self) -> None:
        points = torch.tensor([[108.0, 44, 100, 60], [132, 28, 84, 60]])
        points_there_and_back(PIXELS, self.PRIORS, points, torch.tensor([[8.0, -16, 0, 0], [32, -32, -16, 0]]))

    def test_points_in_strides(self) -> None:
        points = torch.tensor([[108.0, 44, 100, 60], [132, 28, 84, 60]])
        points_there_and_back(STRIDES, self.PRIORS, points, torch.tensor([[1, -2, 0, 0], [1, -1, -0.5, 0]]))


class TestSigmoidCoder:
    PRIOR = priors_of([80, 40, 20, 10], strides=[8])

    def test_box_by_hand(self) -> None:
        """Nought is half: the cell's middle, and the prior's own size."""
        points_at_corner = torch.tensor([[0.0, 0, 1, 1, -1, 2, 0.5, 0.5, 0, 1]])
        there_and_back(SigmoidCoder(), self.PRIOR, torch.tensor([[74.0, 39, 94, 49]]), torch.zeros(1, 4))
        expected = torch.tensor([[80.0, 40, 100, 50, 60, 60, 90, 45, 80, 50]])
        points_there_and_back(SigmoidCoder(), self.PRIOR, expected, points_at_corner)

    def test_reach(self) -> None:
        """Half a cell before the cell to half a cell behind it, and up to four times the prior."""
        deltas = torch.tensor([[-9.0, 9, 9, -9]])
        box = SigmoidCoder().decode(deltas, self.PRIOR)[0]
        torch.testing.assert_close(box, torch.tensor([76.0 - 40, 52, 76 + 40, 52]), rtol=0, atol=0.03)

    def test_there_and_back(self) -> None:
        priors = priors_of(*[(8, 16, 30, 40)] * 50, strides=[8] * 50, dtype=torch.float64)
        deltas = 10 * torch.rand(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 5
        boxes = SigmoidCoder().decode(deltas, priors)
        torch.testing.assert_close(SigmoidCoder().encode(boxes, priors), deltas, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("coder", CODERS, ids=str)
class TestAll:
    def test_nothing_to_code(self, coder: Coder) -> None:
        none = Priors(torch.zeros(0, 4), torch.zeros(0), (64, 64))
        assert coder.encode(torch.zeros(0, 4), none).shape == (0, 4)
        assert coder.decode(torch.zeros(0, 4), none).shape == (0, 4)
        assert coder.encode_points(torch.zeros(0, 10), none).shape == (0, 10)
        assert coder.decode_points(torch.zeros(0, 10), none).shape == (0, 10)

    def test_pictures_of_a_batch_are_decoded_alike(self, coder: Coder) -> None:
        priors = priors_of([10, 20, 8, 4], [30, 40, 16, 12], strides=[8, 16])
        deltas = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
        points = torch.rand(3, 2, 10, generator=torch.Generator().manual_seed(1))
        boxes_of_each = [coder.decode(picture, priors) for picture in deltas]
        points_of_each = [coder.decode_points(picture, priors) for picture in points]
        torch.testing.assert_close(coder.decode(deltas, priors), torch.stack(boxes_of_each))
        torch.testing.assert_close(coder.decode_points(points, priors), torch.stack(points_of_each))

    @given(pairs=st.lists(st.tuples(rectangle, rectangle, st.sampled_from([4.0, 8.0, 128.0])), min_size=1, max_size=4))
    def test_there_and_back(
        self, coder: Coder, pairs: list[tuple[tuple[float, ...], tuple[float, ...], float]]
    ) -> None:
        boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _, _ in pairs], dtype=torch.float64)
        strides = [stride for _, _, stride in pairs]
        priors = priors_of(*(prior for _, prior, _ in pairs), strides=strides, dtype=torch.float64)
        torch.testing.assert_close(coder.decode(coder.encode(boxes, priors), priors), boxes, rtol=1e-9, atol=1e-6)
        points = boxes.repeat(1, 3)[:, :10]
        there = coder.encode_points(points, priors)
        torch.testing.assert_close(coder.decode_points(there, priors), points, rtol=1e-9, atol=1e-6)
