from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from facekit.ops.coders import DeltaCoder
from facekit.ops.head import Head
from facekit.ops.multibox import landmark_loss, multibox_losses
from facekit.structures import Priors, RawOutputs, Targets

# Six priors 10 x 10 in a row, 20 apart: centres (5, 5), (25, 5), ... (105, 5).
CXCYWH = torch.tensor([[5.0 + 20 * number, 5, 10, 10] for number in range(6)])
PRIORS = Priors(CXCYWH, torch.full((6,), 8.0), (10, 120))


def head_of(face_column: int, has_landmarks: bool = False) -> Head:
    return Head(
        strides=(8,),
        prior_sizes_wh=(((10.0, 10.0),),),
        cell_offset=0.5,
        coder=DeltaCoder(0.1, 0.2),
        scoring="softmax",
        face_column=1 if face_column else 0,
        has_landmarks=has_landmarks,
    )


def targets_of(*pictures: list[list[float]]) -> Targets:
    counts = torch.tensor([len(faces) for faces in pictures], dtype=torch.int64)
    boxes = torch.tensor([face for faces in pictures for face in faces]).reshape(-1, 4)
    index = torch.repeat_interleave(torch.arange(len(pictures)), counts)
    # Faces are unmarked unless a test says otherwise, and what stands there must not matter.
    return Targets(
        boxes, index, torch.full((len(boxes), 10), torch.nan), torch.zeros(len(boxes), dtype=torch.bool), len(pictures)
    )


def logits_of(face_over_background: list[list[float]], face_column: int) -> Tensor:
    """Class logits whose sigmoid of the difference is the face's probability; the level itself does not matter."""
    margins = torch.tensor(face_over_background)
    columns = [margins + 7, torch.full_like(margins, 7.0)]
    return torch.stack(columns if face_column == 0 else columns[::-1], dim=-1)


def losses_of(
    raw: RawOutputs, targets: Targets, face_column: int = 1, ratio: float = 2.0, least_forced_iou: float = 0.0
) -> dict[str, Tensor]:
    head = head_of(face_column, raw.landmark_deltas is not None)
    return multibox_losses(head, raw, targets, PRIORS, 0.35, ratio, least_forced_iou)


@pytest.mark.parametrize("face_column", [0, 1])
class TestClass:
    def test_two_pictures_by_hand(self, face_column: int) -> None:
        # The first picture's face is prior 0: log(1 + 3); of its background, log(1 + 7), log 2, log 1.5 and log 1.25,
        # the two worst count: log 4 + log 8 + log 2 = 6 log 2. The second's faces are priors 1 and 5: log 2 each; four
        # negatives of log 3, all there are: 2 log 2 + 4 log 3. Three positives.
        margins = [
            [-math.log(3), math.log(7), 0.0, math.log(0.5), math.log(0.25), math.log(0.25)],
            [math.log(2), 0.0, math.log(2), math.log(2), math.log(2), 0.0],
        ]
        targets = targets_of([[0, 0, 10, 10]], [[20, 0, 30, 10], [100, 0, 110, 10]])
        raw = RawOutputs(logits_of(margins, face_column), torch.zeros(2, 6, 4))
        expected = (6 * math.log(2) + 2 * math.log(2) + 4 * math.log(3)) / 3
        assert losses_of(raw, targets, face_column)["class"].item() == pytest.approx(expected)

    def test_picture_without_faces_counts_nothing(self, face_column: int) -> None:
        # However wrong it is: only picture 1's log 2, and its negatives' 2 log 2.
        margins = [[50.0] * 6, [0.0] * 6, [50.0] * 6]
        raw = RawOutputs(logits_of(margins, face_column), torch.zeros(3, 6, 4))
        losses = losses_of(raw, targets_of([], [[0, 0, 10, 10]], []), face_column)
        assert losses["class"].item() == pytest.approx(3 * math.log(2))
        assert losses["box"].item() == 0

    def test_slope_raises_faces_and_lowers_the_counted_background(self, face_column: int) -> None:
        # p - label for a positive and the two worst negatives, over one positive; the third negative is left alone.
        margins = [[-math.log(3), math.log(3), 0.0, -1.0, -2.0, -3.0]]
        logits = logits_of(margins, face_column).requires_grad_()
        losses_of(RawOutputs(logits, torch.zeros(1, 6, 4)), targets_of([[0, 0, 10, 10]]), face_column)[
            "class"
        ].backward()
        assert logits.grad is not None
        torch.testing.assert_close(logits.grad[0, :, face_column], torch.tensor([-0.75, 0.75, 0.5, 0, 0, 0]))
        torch.testing.assert_close(logits.grad[0, :, 1 - face_column], torch.tensor([0.75, -0.75, -0.5, 0, 0, 0]))


class TestBox:
    def test_by_hand(self) -> None:
        # Face 0 lies (1, 2) beside prior 0 (72 of 128 shared): over 10 and 0.1 the deltas are (1, 2, 0, 0). Predicted
        # (0.5, 0, 0, 0): 0.5 * 0.5^2 + (2 - 0.5) = 1.625. Face 1 is prior 5 and 1.5 times as wide: (0, 0, 5 log 1.5, 0)
        # = 2.027; predicted is that and 4 more of height: 3.5. Two positives.
        deltas = torch.full((2, 6, 4), 99.0)
        deltas[0, 0] = torch.tensor([0.5, 0, 0, 0])
        deltas[1, 5] = torch.tensor([0, 0, 5 * math.log(1.5), 4])
        targets = targets_of([[1, 2, 11, 12]], [[97.5, 0, 112.5, 10]])
        losses = losses_of(RawOutputs(torch.zeros(2, 6, 2), deltas), targets)
        assert losses["box"].item() == pytest.approx((1.625 + 3.5) / 2)
        assert set(losses) == {"class", "box"}

    def test_face_of_several_priors_counts_for_each(self) -> None:
        # A face over priors 0 and 1 and the gap between shares 100 of 300 with each. At 0.35 only the first is forced,
        # at 0.3 both learn it. From centres 5 and 25 to 15 the deltas are 10 and -10, and 5 log 3 for the width, which
        # is predicted: 10 - 0.5 each. The class costs log 2 everywhere: two positives, four negatives.
        deltas = torch.zeros(1, 6, 4)
        deltas[..., 2] = 5 * math.log(3)
        raw, targets = RawOutputs(torch.zeros(1, 6, 2), deltas), targets_of([[0, 0, 30, 10]])
        assert multibox_losses(head_of(1), raw, targets, PRIORS, 0.35, 2.0)["box"].item() == pytest.approx(9.5)
        both = multibox_losses(head_of(1), raw, targets, PRIORS, 0.3, 2.0)
        assert both["box"].item() == pytest.approx((9.5 + 9.5) / 2)
        assert both["class"].item() == pytest.approx((2 + 4) * math.log(2) / 2)

    def test_face_hardly_covered_is_not_learnt_if_asked(self) -> None:
        # 19 of 100 shared.
        raw, targets = RawOutputs(torch.zeros(1, 6, 2), torch.ones(1, 6, 4)), targets_of([[0, 0, 10, 1.9]])
        assert losses_of(raw, targets)["class"].item() == pytest.approx(3 * math.log(2))
        unforced = losses_of(raw, targets, least_forced_iou=0.2)
        assert unforced["class"].item() == unforced["box"].item() == 0


class TestLandmarks:
    def test_marked_faces_by_hand(self) -> None:
        # Faces on priors 0, 1 and 2; the middle one is unmarked. Marks of face 0 lie at (6, 5) five times: over 10 and
        # 0.1 the deltas are (1, 0); predicted 0: 5 * 0.5. Those of face 2 at (45, 2): (0, -3): 5 * 2.5. Two are marked.
        targets = targets_of([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
        targets.landmarks_xy[0] = torch.tensor([6.0, 5] * 5)
        targets.landmarks_xy[2] = torch.tensor([45.0, 2] * 5)
        targets.has_landmarks[[0, 2]] = True
        raw = RawOutputs(torch.zeros(1, 6, 2), torch.zeros(1, 6, 4), landmark_deltas=torch.zeros(1, 6, 10))
        assert losses_of(raw, targets)["landmarks"].item() == pytest.approx(5 * (0.5 + 2.5) / 2)

    def test_what_stands_in_unmarked_rows_does_not_matter(self) -> None:
        targets = targets_of([[0, 0, 10, 10], [20, 0, 30, 10]])
        targets.landmarks_xy[0] = torch.tensor([6.0, 5] * 5)
        targets.has_landmarks[0] = True
        raw = RawOutputs(
            torch.zeros(1, 6, 2, requires_grad=True),
            torch.zeros(1, 6, 4, requires_grad=True),
            landmark_deltas=torch.zeros(1, 6, 10, requires_grad=True),
        )
        losses = losses_of(raw, targets)
        sum(losses.values(), torch.tensor(0.0)).backward()
        assert losses["landmarks"].item() == pytest.approx(2.5)
        assert raw.landmark_deltas is not None and raw.landmark_deltas.grad is not None
        expected = torch.zeros(1, 6, 10)
        expected[0, 0] = torch.tensor([-1.0, 0] * 5)
        torch.testing.assert_close(raw.landmark_deltas.grad, expected)
        for other in (raw.class_logits, raw.box_deltas):
            assert other.grad is not None and other.grad.isfinite().all()

    def test_no_marked_face(self) -> None:
        landmarks = torch.ones(1, 6, 10, requires_grad=True)
        raw = RawOutputs(torch.zeros(1, 6, 2), torch.zeros(1, 6, 4), landmark_deltas=landmarks)
        loss = losses_of(raw, targets_of([[0, 0, 10, 10]]))["landmarks"]
        loss.backward()
        assert loss.item() == 0
        assert landmarks.grad is not None and not landmarks.grad.any()

    def test_loss_by_hand(self) -> None:
        # beta 1/9: 0.05 costs 0.5 * 0.05^2 * 9 = 0.01125, 1 costs 1 - 1/18. Row 1 is unmarked.
        deltas = torch.zeros(3, 10)
        deltas[0, 3], deltas[1], deltas[2, 9] = 0.05, 50.0, -1.0
        wanted = torch.zeros(3, 10)
        wanted[1] = torch.nan
        loss = landmark_loss(deltas, wanted, torch.tensor([True, False, True]), beta=1 / 9)
        assert loss.item() == pytest.approx((0.01125 + 1 - 1 / 18) / 2)


class TestNoFaces:
    def test_losses_are_zero_and_leave_no_slope(self) -> None:
        raw = RawOutputs(
            torch.rand(2, 6, 2, requires_grad=True),
            torch.rand(2, 6, 4, requires_grad=True),
            landmark_deltas=torch.rand(2, 6, 10, requires_grad=True),
        )
        losses = losses_of(raw, targets_of([], []))
        assert {name: loss.item() for name, loss in losses.items()} == {"class": 0, "box": 0, "landmarks": 0}
        sum(losses.values(), torch.tensor(0.0)).backward()
        for output in raw:
            if output is not None:
                assert output.grad is not None and not output.grad.any()


class TestCrowd:
    @pytest.mark.parametrize("face_column", [0, 1])
    @pytest.mark.parametrize("seed", range(3))
    def test_agrees_with_a_slow_reference(self, face_column: int, seed: int) -> None:
        # 300 faces, each one of 400 priors, beside two pictures with one and none; every third is marked.
        generator = torch.Generator().manual_seed(seed)
        priors = Priors(
            torch.tensor([[5.0 + 20 * x, 5.0 + 20 * y, 10, 10] for y in range(20) for x in range(20)]),
            torch.full((400,), 8.0),
            (400, 400),
        )
        chosen = [torch.randperm(400, generator=generator)[:count].tolist() for count in (300, 0, 1)]
        shift = torch.rand(301, 2, generator=generator)
        place = priors.cxcywh[[prior for row in chosen for prior in row], :2] + shift
        pictures = place.split([300, 0, 1])
        targets = targets_of(*(torch.cat([centre - 5, centre + 5], dim=1).tolist() for centre in pictures))
        targets.has_landmarks[::3] = True
        targets.landmarks_xy[::3] = (place + 2).repeat(1, 5)[::3]
        raw = RawOutputs(
            torch.randn(3, 400, 2, generator=generator),
            torch.randn(3, 400, 4, generator=generator),
            landmark_deltas=torch.randn(3, 400, 10, generator=generator),
        )
        assert raw.landmark_deltas is not None

        class_sum = box_sum = landmark_sum = 0.0
        face = 0
        for picture, learning in enumerate(chosen):
            margins = raw.class_logits[picture, :, face_column] - raw.class_logits[picture, :, 1 - face_column]
            background = [math.log1p(math.exp(margin)) for margin in margins.tolist()]
            worst = sorted((background[prior] for prior in range(400) if prior not in learning), reverse=True)
            class_sum += sum(worst[: 3 * len(learning)])
            for prior in learning:
                class_sum += math.log1p(math.exp(-margins[prior].item()))
                x, y = shift[face].tolist()
                box_sum += sum(map(huber, raw.box_deltas[picture, prior].tolist(), (x, y, 0.0, 0.0)))
                if face % 3 == 0:
                    wanted = (x + 2, y + 2) * 5
                    landmark_sum += sum(map(huber, raw.landmark_deltas[picture, prior].tolist(), wanted))
                face += 1
        losses = multibox_losses(head_of(face_column, True), raw, targets, priors, 0.35, 3.0)
        assert losses["class"].item() == pytest.approx(class_sum / 301, rel=1e-4)
        assert losses["box"].item() == pytest.approx(box_sum / 301, rel=1e-4)
        assert losses["landmarks"].item() == pytest.approx(landmark_sum / 101, rel=1e-4)


def huber(prediction: float, wanted: float) -> float:
    distance = abs(prediction - wanted)
    return 0.5 * distance**2 if distance < 1 else distance - 0.5
