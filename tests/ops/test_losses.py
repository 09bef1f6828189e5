from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import distance_box_iou_loss, generalized_box_iou_loss, sigmoid_focal_loss

from facekit.ops.losses import (
    balance,
    centre_ness,
    eiou_loss,
    hard_negative_mining,
    iou_loss,
    quality_focal_loss,
    smooth_l1,
    soft_score_loss,
    taught_point_losses,
    taught_score_losses,
)


class TestSmoothL1:
    @pytest.mark.parametrize(
        ("beta", "difference", "expected"),
        [
            (1.0, 0.0, 0.0),
            (1.0, 0.5, 0.125),  # 0.5 * 0.5^2 / 1
            (1.0, -2.0, 1.5),  # 2 - 1 / 2
            (1 / 9, 0.05, 0.01125),  # 0.5 * 0.05^2 * 9
            (1 / 9, -1.0, 1 - 1 / 18),
        ],
    )
    def test_by_hand(self, beta: float, difference: float, expected: float) -> None:
        loss = smooth_l1(torch.tensor([[3.0 + difference, 3.0]]), torch.tensor([[3.0, 3.0]]), beta)
        torch.testing.assert_close(loss, torch.tensor([[expected, 0.0]]))

    def test_empty(self) -> None:
        assert smooth_l1(torch.zeros(0, 4), torch.zeros(0, 4), beta=1.0).shape == (0, 4)


class TestHardNegativeMining:
    def mine(self, losses: list[list[float]], positive: list[list[int]], ratio: float = 3.0) -> list[list[int]]:
        counted = hard_negative_mining(torch.tensor(losses), torch.tensor(positive).bool(), ratio)
        assert counted.dtype == torch.bool
        return counted.int().tolist()

    def test_three_worst_negatives_a_positive(self) -> None:
        losses = [[9.0, 0.1, 0.5, 0.2, 0.4, 0.3]]
        assert self.mine(losses, [[1, 0, 0, 0, 0, 0]]) == [[1, 0, 1, 0, 1, 1]]

    def test_each_picture_for_itself(self) -> None:
        # The second has no positive, hence no negatives, though its losses are the largest.
        losses = [[0.1, 0.2, 0.3, 0.4, 0.5], [9.0, 9, 9, 9, 9], [0.5, 0.4, 0.3, 0.2, 0.1]]
        positive = [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
        assert self.mine(losses, positive) == [[0, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 1]]

    def test_fewer_negatives_than_wanted(self) -> None:
        assert self.mine([[1.0, 2, 3]], [[1, 1, 0]]) == [[1, 1, 1]]
        assert self.mine([[1.0, 2, 3]], [[1, 1, 1]]) == [[1, 1, 1]]

    def test_equal_losses_are_still_counted_exactly(self) -> None:
        assert sum(self.mine([[0.7] * 10], [[0, 1] + [0] * 8])[0]) == 4

    def test_other_ratio(self) -> None:
        assert self.mine([[9.0, 0.1, 0.5, 0.2]], [[1, 0, 0, 0]], ratio=1.0) == [[1, 0, 1, 0]]
        assert self.mine([[9.0, 9.0, 0.5, 0.2, 0.1, 0.3]], [[1, 1, 0, 0, 0, 0]], ratio=1.5) == [[1, 1, 1, 1, 0, 1]]
        assert self.mine([[9.0, 0.1, 0.5, 0.2]], [[1, 0, 0, 0]], ratio=1.5) == [[1, 0, 1, 0]]  # rounded down

    @pytest.mark.parametrize("seed", range(8))
    def test_agrees_with_a_slow_reference(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        losses = torch.rand(5, 40, generator=generator)
        positive = torch.rand(5, 40, generator=generator) < torch.tensor([[0.0], [0.02], [0.1], [0.3], [1.0]])
        expected = []
        for row, learns in zip(losses.tolist(), positive.tolist(), strict=True):
            negatives = sorted((prior for prior in range(40) if not learns[prior]), key=lambda prior: -row[prior])
            counted = {prior for prior in range(40) if learns[prior]} | set(negatives[: 7 * sum(learns)])
            expected.append([int(prior in counted) for prior in range(40)])
        assert self.mine(losses.tolist(), positive.tolist(), ratio=7.0) == expected

    def test_least_negatives(self) -> None:
        losses = torch.tensor([[0.1, 0.3, 0.2, 0.4], [9.0, 0.1, 0.2, 0.3], [9.0, 9.0, 0.2, 0.3]])
        positive = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()
        counted = hard_negative_mining(losses, positive, 1.0, least_negatives=2)
        assert counted.int().tolist() == [[0, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 1]]

    def test_nothing_at_all(self) -> None:
        assert hard_negative_mining(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), 3.0).shape == (2, 0)

    def test_losses_that_need_gradients(self) -> None:
        losses = torch.rand(2, 5, requires_grad=True)
        counted = hard_negative_mining(losses, torch.zeros(2, 5, dtype=torch.bool), 3.0)
        losses[counted].sum().backward()
        assert losses.grad is not None
        assert not losses.grad.any()


class TestFocal:
    """torchvision's, with the paper's alpha 0.25 and gamma 2: -alpha_t (1 - p_t)^2 log p_t."""

    @pytest.mark.parametrize(
        ("logit", "label", "expected"),
        [
            (math.log(3), 1, 1 / 4 * (1 / 4) ** 2 * math.log(4 / 3)),  # p = p_t = 3/4
            (math.log(3), 0, 3 / 4 * (3 / 4) ** 2 * math.log(4)),  # p = 3/4, p_t = 1/4, alpha_t = 3/4
            (-math.log(3), 1, 1 / 4 * (3 / 4) ** 2 * math.log(4)),
            (-math.log(3), 0, 3 / 4 * (1 / 4) ** 2 * math.log(4 / 3)),
            (0.0, 1, math.log(2) / 16),
            (0.0, 0, 3 * math.log(2) / 16),
        ],
    )
    def test_by_hand(self, logit: float, label: int, expected: float) -> None:
        loss = sigmoid_focal_loss(torch.tensor([logit]), torch.tensor([float(label)]), alpha=0.25, gamma=2.0)
        torch.testing.assert_close(loss, torch.tensor([expected]))


class TestQualityFocal:
    @pytest.mark.parametrize(
        ("logit", "quality", "expected"),
        [
            # sigma = 3/4: |y - sigma|^2 * -((1 - y) log(1/4) + y log(3/4))
            (math.log(3), 0.0, (3 / 4) ** 2 * math.log(4)),
            (math.log(3), 1.0, (1 / 4) ** 2 * math.log(4 / 3)),
            (math.log(3), 0.25, (1 / 2) ** 2 * (3 / 4 * math.log(4) + 1 / 4 * math.log(4 / 3))),
            (math.log(3), 0.75, 0.0),
            (0.0, 0.75, (1 / 4) ** 2 * math.log(2)),
        ],
    )
    def test_by_hand(self, logit: float, quality: float, expected: float) -> None:
        loss = quality_focal_loss(torch.tensor([logit]), torch.tensor([quality]))
        torch.testing.assert_close(loss, torch.tensor([expected]), atol=1e-7, rtol=1e-5)

    def test_other_beta(self) -> None:
        loss = quality_focal_loss(torch.tensor([math.log(3)]), torch.tensor([0.0]), beta=1.0)
        torch.testing.assert_close(loss, torch.tensor([3 / 4 * math.log(4)]))

    def test_each_prior_for_itself(self) -> None:
        logits, qualities = torch.tensor([[0.0, math.log(3)], [-math.log(3), 0]]), torch.tensor([[0.0, 1], [0, 1]])
        expected = [[math.log(2) / 4, math.log(4 / 3) / 16], [math.log(4 / 3) / 16, math.log(2) / 4]]
        torch.testing.assert_close(quality_focal_loss(logits, qualities), torch.tensor(expected))

    @pytest.mark.parametrize(("quality", "direction"), [(0.2, 1), (0.75, 0), (0.9, -1)])
    def test_slope_leads_to_the_quality(self, quality: float, direction: int) -> None:
        logit = torch.tensor([math.log(3)], requires_grad=True)
        (slope,) = torch.autograd.grad(quality_focal_loss(logit, torch.tensor([quality])).sum(), logit)
        assert (slope.round(decimals=5).sign() == direction).all()

    def test_sure_and_wrong_is_finite(self) -> None:
        logits = torch.tensor([-200.0, 200.0], requires_grad=True)
        loss = quality_focal_loss(logits, torch.tensor([1.0, 0.0]))
        torch.testing.assert_close(loss.detach(), torch.tensor([200.0, 200.0]))
        (slope,) = torch.autograd.grad(loss.sum(), logits)
        torch.testing.assert_close(slope, torch.tensor([-1.0, 1.0]))

    def test_empty(self) -> None:
        assert quality_focal_loss(torch.zeros(2, 0), torch.zeros(2, 0)).shape == (2, 0)


class TestIou:
    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            ([0.0, 0, 10, 10], 0.0),
            ([5.0, 0, 15, 10], math.log(3)),  # 50 of 150
            ([0.0, 0, 20, 20], math.log(4)),
            ([50.0, 50, 60, 60], 6 * math.log(10)),  # apart: as for an IoU of a millionth
        ],
    )
    def test_by_hand(self, box: list[float], expected: float) -> None:
        loss = iou_loss(torch.tensor([box]), torch.tensor([[0.0, 0, 10, 10]]))
        torch.testing.assert_close(loss, torch.tensor([expected]), atol=1e-6, rtol=1e-5)

    def test_slope_by_hand(self) -> None:
        # A box that ends at x = 15 in a face that ends at 20 has IoU x / 20; the slope of -log(x / 20) is -1 / 15.
        box = torch.tensor([[0.0, 0, 15, 10]], requires_grad=True)
        (slope,) = torch.autograd.grad(iou_loss(box, torch.tensor([[0.0, 0, 20, 10]])).sum(), box)
        assert slope[0, 2].item() == pytest.approx(-1 / 15)

    def test_empty(self) -> None:
        none = torch.zeros(0, 4, requires_grad=True)
        loss = iou_loss(none, torch.zeros(0, 4))
        assert loss.shape == (0,)
        loss.sum().backward()


class TestOtherIous:
    """Of torchvision, per box. The boxes share 25 of 175: IoU 1/7."""

    BOX, FACE = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 5, 15, 15]])

    def test_giou(self) -> None:
        # The hull is 15 x 15 = 225, of which 50 belong to neither: 1 - (1/7 - 50/225) = 68/63.
        torch.testing.assert_close(generalized_box_iou_loss(self.BOX, self.FACE), torch.tensor([68 / 63]))

    def test_diou(self) -> None:
        # Centres are sqrt(50) apart, the hull's diagonal is sqrt(450): 1 - 1/7 + 50/450 = 61/63.
        torch.testing.assert_close(distance_box_iou_loss(self.BOX, self.FACE), torch.tensor([61 / 63]))


class TestCentreNess:
    @pytest.mark.parametrize(
        ("distances", "expected"),
        [
            ([5.0, 9, 5, 9], 1.0),  # the middle
            ([1.0, 2, 3, 8], math.sqrt(1 / 3 * 2 / 8)),
            ([3.0, 8, 1, 2], math.sqrt(1 / 3 * 2 / 8)),  # the opposite corner
            ([2.0, 5, 8, 5], 0.5),
            ([0.01, 5, 99.99, 5], math.sqrt(0.01 / 99.99)),
        ],
    )
    def test_by_hand(self, distances: list[float], expected: float) -> None:
        torch.testing.assert_close(centre_ness(torch.tensor([distances])), torch.tensor([expected]))

    def test_empty(self) -> None:
        assert centre_ness(torch.zeros(0, 4)).shape == (0,)


def loss_of(box: list[float], face: list[float]) -> float:
    return float(eiou_loss(torch.tensor([box]), torch.tensor([face])))


class TestEIou:
    def test_empty(self) -> None:
        none = torch.zeros(0, 4, requires_grad=True)
        loss = eiou_loss(none, torch.zeros(0, 4))
        assert loss.shape == (0,)
        loss.sum().backward()

    @pytest.mark.parametrize(
        ("box", "face", "distance"),
        [
            ([5, 0, 15, 10], [0, 0, 10, 10], 1 - 50 / 150),
            ([0, 0, 20, 20], [5, 5, 15, 15], 1 - 100 / 400),  # face inside box
            ([3, -4, 13, 6], [0, 0, 10, 10], 1 - 42 / 158),
            ([10, 0, 20, 10], [0, 0, 10, 10], 1.0),  # they touch
        ],
    )
    def test_overlapping_boxes_have_1_minus_iou(self, box: list[float], face: list[float], distance: float) -> None:
        assert loss_of(box, face) == pytest.approx(distance - 0.05, abs=1e-5)
        assert loss_of(face, box) == pytest.approx(distance - 0.05, abs=1e-5)

    def test_each_pair_for_itself(self) -> None:
        boxes = torch.tensor([[5.0, 0, 15, 10], [0, 0, 100, 95]])
        faces = torch.tensor([[0.0, 0, 10, 10], [0, 0, 100, 100]])
        torch.testing.assert_close(eiou_loss(boxes, faces), torch.tensor([2 / 3 - 0.05, 0.0125]), atol=1e-6, rtol=0)

    def test_squared_when_close(self) -> None:
        # IoU 0.95: 0.5 * 0.05^2 / 0.1; IoU 0.9: where both forms meet, 0.05.
        assert loss_of([0, 0, 100, 95], [0, 0, 100, 100]) == pytest.approx(0.0125, abs=1e-6)
        assert loss_of([0, 0, 100, 90.0001], [0, 0, 100, 100]) == pytest.approx(0.05, abs=1e-5)
        assert loss_of([0, 0, 100, 89.9999], [0, 0, 100, 100]) == pytest.approx(0.05, abs=1e-5)
        assert loss_of([0, 0, 100, 100], [0, 0, 100, 100]) == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(
        ("face", "distance"),
        [
            # From the corner (0, 0) that encloses both top left corners: near (20, 0), far (10, 10); the signed areas
            # are 10 * 10 + 10 * 0 - 20 * 10 - 20 * 0 = -100; 1 + 100 / (200 + 100).
            ([20, 0, 30, 10], 1 + 100 / 300),
            # near (20, 20), far (10, 10): 100 + 100 - 400 - 400 = -600; 1 + 600 / (200 + 600).
            ([20, 20, 30, 30], 1 + 600 / 800),
        ],
    )
    def test_boxes_apart_by_hand(self, face: list[float], distance: float) -> None:
        assert loss_of([0, 0, 10, 10], face) == pytest.approx(distance - 0.05, abs=1e-5)
        assert loss_of(face, [0, 0, 10, 10]) == pytest.approx(distance - 0.05, abs=1e-5)

    def test_farther_is_worse(self) -> None:
        losses = [loss_of([x, 0, x + 10, 10], [0, 0, 10, 10]) for x in (0, 0.4, 2, 9, 11, 15, 30, 100)]
        assert losses == sorted(losses)
        assert len(set(losses)) == len(losses)

    @pytest.mark.parametrize("face", [[20.0, 0, 30, 10], [0, 40, 12, 50], [-30, -25, -20, -17], [25, -60, 33, -50]])
    def test_slope_leads_boxes_apart_together(self, face: list[float]) -> None:
        target = torch.tensor([face])
        box = torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
        loss = eiou_loss(box, target).sum()
        (slope,) = torch.autograd.grad(loss, box)
        assert slope.isfinite().all()
        assert slope.any()
        moved = (box - 0.5 * slope / slope.norm()).detach()
        assert eiou_loss(moved, target).item() < loss.item()

    def test_following_the_slope_ends_at_the_face(self) -> None:
        target = torch.tensor([[20.0, 15, 32, 31]])
        box: Tensor = torch.tensor([[0.0, 0, 10, 10]])
        for step in range(600):
            box = box.requires_grad_()
            (slope,) = torch.autograd.grad(eiou_loss(box, target).sum(), box)
            length = 0.5 if step < 300 else 0.02
            box = (box - length * slope / slope.norm().clamp(min=1e-3)).detach()
        torch.testing.assert_close(box, target, atol=0.5, rtol=0)


class TestBalance:
    def test_by_hand(self) -> None:
        loss = torch.tensor(3.0)
        assert balance(loss, torch.tensor(0.0)).item() == 3
        assert balance(loss, torch.tensor(math.log(2))).item() == pytest.approx(1.5 + 0.5 * math.log(2))

    def test_the_weight_settles_where_the_losses_log_is_doubled(self) -> None:
        # d/ds (exp(-s) L + s / 2) = 0 at s = log(2 L).
        log_variance = torch.tensor(math.log(2 * 3.0), requires_grad=True)
        balance(torch.tensor(3.0), log_variance).backward()
        assert log_variance.grad is not None
        assert log_variance.grad.item() == pytest.approx(0, abs=1e-6)


class TestSoftScoreLoss:
    def test_is_cross_entropy_by_the_squared_distance(self) -> None:
        scores, wanted = torch.tensor([0.2, 0.5, 0.9, 0.7]), torch.tensor([0.6, 0.0, 1.0, 0.7])
        expected = F.binary_cross_entropy(scores, wanted, reduction="none") * (scores - wanted) ** 2
        assert soft_score_loss(scores, wanted).tolist() == pytest.approx(expected.tolist(), rel=1e-5)
        assert float(soft_score_loss(scores, wanted)[3]) == 0

    def test_agrees_with_quality_focal_loss(self) -> None:
        logits, wanted = torch.tensor([-3.0, 0.0, 2.0]), torch.tensor([0.1, 1.0, 0.3])
        expected = quality_focal_loss(logits, wanted)
        assert torch.allclose(soft_score_loss(logits.sigmoid(), wanted), expected, rtol=1e-5)

    def test_slope_is_finite_at_the_ends(self) -> None:
        scores = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True)
        losses = soft_score_loss(scores, torch.tensor([0.0, 1.0, 0.0, 1.0]))
        losses.sum().backward()
        assert losses.isfinite().all() and scores.grad is not None and scores.grad.isfinite().all()

    def test_no_number_stays_none(self) -> None:
        assert soft_score_loss(torch.tensor([math.nan]), torch.tensor([0.5])).isnan().all()


class TestTaughtScoreLosses:
    @given(score=st.floats(1e-6, 1 - 1e-6), wanted=st.floats(0, 1))
    def test_is_the_divergence_of_two_coins(self, score: float, wanted: float) -> None:
        """Against the definition in double precision."""
        terms = [(wanted, score), (1 - wanted, 1 - score)]
        expected = sum(p * (math.log(p) - math.log(q)) for p, q in terms if p > 0)
        pair = torch.tensor([score], dtype=torch.float64), torch.tensor([wanted], dtype=torch.float64)
        assert float(taught_score_losses(*pair)) == pytest.approx(expected, abs=2e-6)

    def test_least_and_flat_at_the_teachers(self) -> None:
        wanted = torch.tensor([0.0, 0.02, 0.5, 0.97, 1.0])
        assert taught_score_losses(wanted, wanted).abs().max() < 1e-6
        scores = torch.tensor([0.3, 0.3], requires_grad=True)
        taught_score_losses(scores, torch.tensor([0.3, 0.4])).sum().backward()
        assert scores.grad is not None
        assert scores.grad.tolist() == pytest.approx([0, -0.1 / (0.3 * 0.7)], abs=1e-5)


class TestTaughtPointLosses:
    def test_by_hand(self) -> None:
        """A face of 10 x 40 has a side of 20: one point 2 pixels off in x is a tenth of it."""
        points = torch.tensor([[5.0, 5, 7, 5]])
        wanted = torch.tensor([[5.0, 5, 5, 5]])
        losses = taught_point_losses(points, wanted, torch.tensor([[0.0, 0, 10, 40]]))
        assert losses.tolist() == pytest.approx([(0.1 - 0.01) / 4])
        assert taught_point_losses(points[:0], wanted[:0], torch.zeros(0, 4)).tolist() == []
