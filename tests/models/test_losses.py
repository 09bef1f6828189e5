from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facekit.models import build_model
from facekit.models.detector_network import DetectorNetwork
from facekit.ops.boxes import cxcywh_to_xyxy
from facekit.ops.coders import DistanceCoder
from facekit.structures import Priors, RawOutputs, Targets
from facekit.template import TEMPLATES_DIR, find_template, load_template

TEMPLATES = sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))
PARTS = {
    "atss": {"class", "box", "centre_ness"},
    "fcos": {"class", "box", "centre_ness"},
    "retinaface": {"class", "box", "landmarks"},
    "scrfd": {"class", "box", "landmarks"},
    "ssd": {"class", "box"},
    "ultralight": {"class", "box"},
    "yunet": {"class", "objectness", "box", "landmarks"},
}
# The part that learns background where there is no face at all; the others mine negatives a positive.
BACKGROUND = {"atss": "class", "fcos": "class", "scrfd": "class", "yunet": "objectness"}
LN2 = math.log(2)
NO_MARKS = (torch.full((1, 10), torch.nan), torch.tensor([False]))


def architecture_of(name: str) -> str:
    return load_template(find_template(name)).model.architecture


LANDMARKED = [name for name in TEMPLATES if "landmarks" in PARTS[architecture_of(name)]]


def seeded(name: str) -> DetectorNetwork:
    torch.manual_seed(0)
    return build_model(load_template(find_template(name)))


def targets_of(priors: Priors, counts: tuple[int, ...]) -> Targets:
    """That many faces a picture: the first like a prior in the middle of the finest level, the others anywhere. Those
    of every second face are marked; what stands in the others' landmarks is undefined."""
    generator = torch.Generator().manual_seed(0)
    faces, (height, width) = sum(counts), priors.size_hw
    side = min(height, width)
    centre = torch.rand(faces, 2, generator=generator) * side
    half = side * (0.03 + 0.15 * torch.rand(faces, 2, generator=generator))
    boxes = torch.cat([centre - half, centre + half], dim=1).clamp(0, side)
    index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    finest = priors.cxcywh[priors.strides == priors.strides[0]]
    middle = (finest[:, :2] - side / 2).square().sum(dim=1).argmin()
    first = torch.cat([torch.tensor([True]), index[1:] != index[:-1]])[:faces]
    boxes[first] = cxcywh_to_xyxy(finest[middle] + torch.tensor([1.0, 1, 0, 0]))
    spread = (boxes[:, 2:] - boxes[:, :2])[:, None] * torch.rand(faces, 5, 2, generator=generator)
    marked = (torch.arange(faces) % 2 == 0) | first
    landmarks = (boxes[:, None, :2] + spread).flatten(1).where(marked[:, None], torch.nan)
    return Targets(boxes, index, landmarks, marked, len(counts))


def one_face(box_xyxy: list[float], landmarks_xy: Tensor | None = None) -> Targets:
    marks = NO_MARKS if landmarks_xy is None else (landmarks_xy[None], torch.tensor([True]))
    return Targets(torch.tensor([box_xyxy]), torch.tensor([0]), *marks, 1)


def learn_once(name: str, counts: tuple[int, ...]) -> tuple[Any, dict[str, Tensor]]:
    """Forward, losses, backward and decoding of random pixels."""
    network = seeded(name).train()
    side = 64 if name == "face-detection-0206" else 96
    scale = 255 if load_template(find_template(name)).input.std[0] == 1 else 1
    images = scale * torch.rand(len(counts), 3, side, side, generator=torch.Generator().manual_seed(1))
    raw, priors = network(images), network.head.priors((side, side)).tensors()
    losses = network.losses(raw, targets_of(priors, counts), priors)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    decoded = network.head.decode(network.head.activate(raw), priors)
    assert all(tensor.isfinite().all() for tensor in decoded if tensor is not None)
    return network, losses


def silent(network: Any, priors: Priors, batch: int = 1) -> RawOutputs:
    """Zeros from every output, as leaves that gradients reach; distances are ones, or boxes would have no area."""
    head, rows = network.head, len(priors.cxcywh)
    delta = 1.0 if isinstance(head.coder, DistanceCoder) else 0.0
    return RawOutputs(
        torch.zeros(batch, rows, 2 if head.scoring == "softmax" else 1, requires_grad=True),
        torch.full((batch, rows, 4), delta, requires_grad=True),
        torch.zeros(batch, rows, requires_grad=True) if head.has_objectness else None,
        torch.zeros(batch, rows, 10, requires_grad=True) if head.has_landmarks else None,
    )


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in losses.items()}


@pytest.mark.parametrize("name", TEMPLATES)
class TestEveryTemplate:
    @pytest.mark.parametrize("count", [0, 1, 300])
    def test_learns_from_any_number_of_faces(self, name: str, count: int) -> None:
        """Beside a picture with one face."""
        network, losses = learn_once(name, (count, 1))
        assert set(losses) == PARTS[architecture_of(name)]
        assert all(loss.ndim == 0 and loss.isfinite() and loss > 0 for loss in losses.values())
        grads = {key: parameter.grad for key, parameter in network.named_parameters()}
        assert not [key for key, grad in grads.items() if grad is None or not grad.isfinite().all()]

    def test_learns_background_from_pictures_without_faces(self, name: str) -> None:
        network = seeded(name)
        priors = network.head.priors((64, 64)).tensors()
        raw = silent(network, priors, batch=2)
        losses = network.losses(raw, targets_of(priors, (0, 0)), priors)
        sum(losses.values()).backward()  # type: ignore[union-attr]
        assert set(losses) == PARTS[architecture_of(name)]
        background = BACKGROUND.get(architecture_of(name))
        assert {part for part, value in values(losses).items() if value != 0} == {background} - {None}
        assert all(value >= 0 for value in values(losses).values())
        grads = [tensor.grad for tensor in raw if tensor is not None]
        assert all(grad is not None and grad.isfinite().all() for grad in grads)

    def test_pictures_without_faces_teach_background_where_a_template_asks(self, name: str) -> None:
        """The others that do without being asked are in BACKGROUND."""
        if architecture_of(name) in BACKGROUND:
            return
        network = seeded(name)
        network.least_negatives = 5
        priors = network.head.priors((64, 64)).tensors()
        raw = silent(network, priors, batch=2)
        network.losses(raw, targets_of(priors, (0, 0)), priors)["class"].backward()
        assert raw.class_logits.grad is not None
        face, background = raw.class_logits.grad[..., [network.head.face_column, 1 - network.head.face_column]].unbind(
            2
        )
        assert (face > 0).sum(dim=1).tolist() == [5, 5]
        assert torch.equal(background, -face)

    def test_perfect_boxes_and_landmarks_cost_nothing(self, name: str) -> None:
        network = seeded(name)
        priors = network.head.priors((64, 64)).tensors()
        targets = targets_of(priors, (1,))
        raw, rows = silent(network, priors), len(priors.cxcywh)
        raw = raw._replace(box_deltas=network.head.coder.encode(targets.boxes_xyxy.expand(rows, 4), priors)[None])
        if raw.landmark_deltas is not None:
            wanted = network.head.coder.encode_points(targets.landmarks_xy.expand(rows, 10), priors)
            raw = raw._replace(landmark_deltas=wanted[None])
        losses = values(network.losses(raw, targets, priors))
        assert losses["box"] == pytest.approx(0, abs=1e-5)
        assert losses.get("landmarks", 0) == pytest.approx(0, abs=1e-5)

    def test_unmarked_faces_train_all_but_landmarks(self, name: str) -> None:
        network = seeded(name)
        priors = network.head.priors((64, 64)).tensors()
        targets = targets_of(priors, (3, 2))
        marked = targets._replace(landmarks_xy=targets.boxes_xyxy.repeat(1, 3)[:, :10], has_landmarks=torch.ones(5) > 0)
        unmarked = targets._replace(
            landmarks_xy=torch.full((5, 10), torch.nan), has_landmarks=torch.zeros(5, dtype=torch.bool)
        )
        raw = silent(network, priors, batch=2)
        with_marks = values(network.losses(raw, marked, priors))
        losses = network.losses(raw, unmarked, priors)
        sum(losses.values()).backward()  # type: ignore[union-attr]
        without = values(losses)
        if "landmarks" in without:
            assert with_marks.pop("landmarks") > 0
            assert without.pop("landmarks") == 0
            assert raw.landmark_deltas is not None and raw.landmark_deltas.grad is not None
            assert not raw.landmark_deltas.grad.any()
        assert without == with_marks
        assert raw.box_deltas.grad is not None and raw.box_deltas.grad.isfinite().all() and raw.box_deltas.grad.any()


@pytest.mark.parametrize("name", LANDMARKED)
def test_only_the_marked_of_several_faces_teach_landmarks(name: str) -> None:
    """The mean over the marked faces' priors is that of the same faces alone."""
    network = seeded(name)
    priors = network.head.priors((64, 64)).tensors()
    like_a_prior = targets_of(priors, (1,))
    two = Targets(
        like_a_prior.boxes_xyxy.repeat(2, 1),
        torch.tensor([0, 1]),
        torch.cat([like_a_prior.landmarks_xy, torch.full((1, 10), torch.nan)]),
        torch.tensor([True, False]),
        2,
    )
    alone = values(network.losses(silent(network, priors), like_a_prior, priors))
    both = values(network.losses(silent(network, priors, batch=2), two, priors))
    assert alone["landmarks"] > 0
    assert both["landmarks"] == pytest.approx(alone["landmarks"], rel=1e-5)


class TestSsd:
    @pytest.mark.parametrize(
        ("name", "face_column"), [("face-detection-0200", 0), ("face-detection-0207", 0), ("tiny-ssd-300", 1)]
    )
    def test_by_hand(self, name: str, face_column: int) -> None:
        # Every prior says face with probability 1/4, background with 3/4, and its own box. The face is the smallest
        # prior of a cell, so that its box costs nothing; the cell's other priors are over 2.5 times as large, the next
        # cell's 16 away: one positive, three of the equally bad negatives.
        network = seeded(name)
        priors = network.head.priors((256, 256)).tensors()
        start = 5 * network.head.priors_a_cell[0]
        logits = torch.zeros(1, len(priors.cxcywh), 2)
        logits[..., 1 - face_column] = math.log(3)
        raw = silent(network, priors)._replace(class_logits=logits)
        losses = values(network.losses(raw, one_face(cxcywh_to_xyxy(priors.cxcywh[start]).tolist()), priors))
        assert losses["box"] == pytest.approx(0, abs=1e-4)
        assert losses["class"] == pytest.approx(math.log(4) + 3 * math.log(4 / 3))

    def test_learns_its_balance(self) -> None:
        network, losses = learn_once("face-detection-0200", (2, 2))
        # d/ds (exp(-s) L + s / 2) at s = 0: 0.5 - L
        expected = 0.5 - torch.stack([losses["class"], losses["box"]]).detach()
        torch.testing.assert_close(network.loss_log_variances.grad, expected)


class TestUltraLight:
    def test_by_hand(self) -> None:
        # The face is the 16 px prior of a cell in the middle. That cell's priors of 10 and 24 px overlap it by
        # 100 / 256 and 256 / 576, over 0.35 both; all others by 0.3 at most. Each says its own box.
        network = seeded("ultralight-slim-320")
        priors = network.head.priors((64, 64)).tensors()
        logits = torch.tensor([math.log(3), 0.0]).expand(1, len(priors.cxcywh), 2)
        raw = silent(network, priors)._replace(class_logits=logits)
        losses = values(network.losses(raw, one_face([20.0, 20, 36, 36]), priors))
        assert losses["class"] == pytest.approx(math.log(4) + 3 * math.log(4 / 3))
        sizes = [abs(math.log(16 / side)) / 0.2 for side in (10, 24)]  # both over 1: the linear part, width and height
        assert losses["box"] == pytest.approx(sum(2 * (size - 0.5) for size in sizes) / 3, rel=1e-4)


class TestRetinaFace:
    NAME = "retinaface-mobilenetv1-0.25-p3"
    FACE = (4.0, 4, 20, 20)  # the 16 px prior of cell (1, 1); the next cell's overlaps it by 1/3, not over 0.35

    def test_by_hand(self) -> None:
        # One positive, seven negatives. Each box is off by 2 in one number, each landmark by 3 in two.
        network = seeded(self.NAME)
        priors = network.head.priors((32, 32)).tensors()
        logits = torch.tensor([math.log(3), 0.0]).expand(1, len(priors.cxcywh), 2)
        raw = silent(network, priors)._replace(class_logits=logits)
        raw.box_deltas.data[..., 1] = 2.0
        assert raw.landmark_deltas is not None
        raw.landmark_deltas.data[..., 3:5] = 3.0
        middle = torch.tensor([12.0]).repeat(10)  # where deltas of zero put every landmark
        losses = values(network.losses(raw, one_face([*self.FACE], middle), priors))
        assert losses["class"] == pytest.approx(math.log(4) + 7 * math.log(4 / 3))
        assert losses["box"] == pytest.approx(2 * (2 - 0.5), rel=1e-5)  # weight 2
        assert losses["landmarks"] == pytest.approx(2 * (3 - 0.5), rel=1e-5)

    @pytest.mark.parametrize(("side", "is_learnt"), [(8.0, True), (7.0, False)])
    def test_a_face_that_no_prior_resembles_is_left_out(self, side: float, is_learnt: bool) -> None:
        """Its best prior has IoU 64 / 256 or 49 / 256; it must be 0.2."""
        network = seeded(self.NAME)
        priors = network.head.priors((32, 32)).tensors()
        near, far = 12 - side / 2, 12 + side / 2
        losses = values(network.losses(silent(network, priors), one_face([near, near, far, far]), priors))
        assert (losses["class"] > 0, losses["box"] > 0) == (is_learnt, is_learnt)


class TestFcos:
    # On 32 x 32, 23 points; the face holds the finest level's at x 12, 20 and y 12, 20, 28. Those of the other levels
    # are for reaches over 64 px.
    FACE = (8.0, 8, 24, 32)
    POINTS = ((12, 12), (20, 12), (12, 20), (20, 20), (12, 28), (20, 28))
    # Distances 4 and 12 across; 4 and 20, or 12 and 12, down.
    OUTER, INNER = math.sqrt(1 / 3 * 1 / 5), math.sqrt(1 / 3)

    def losses(self, wrong_rows: tuple[int, ...] = (), centre_logit: float = 0.0) -> dict[str, float]:
        """Class logits of zero, and perfect boxes, but twice as high as the face where the point's y is wrong."""
        network = seeded("face-detection-0205")
        priors = network.head.priors((32, 32)).tensors()
        boxes = torch.tensor(self.FACE).repeat(len(priors.cxcywh), 1)
        wrong = torch.isin(priors.cxcywh[:, 1], torch.tensor([float(row) for row in wrong_rows]))
        boxes[wrong, 3] += 24
        raw = silent(network, priors)._replace(box_deltas=network.head.coder.encode(boxes, priors)[None])
        assert raw.objectness_logits is not None
        raw = raw._replace(objectness_logits=raw.objectness_logits + centre_logit)
        return values(network.losses(raw, one_face([*self.FACE]), priors))

    def test_class_is_focal(self) -> None:
        # Probability 1/2 everywhere: alpha 1/4 for the 6 points, 3/4 for the other 17, (1/2)^2 each.
        assert self.losses()["class"] == pytest.approx((6 * 0.25 + 17 * 0.75) * 0.25 * LN2 / 6, rel=1e-5)

    def test_boxes_count_by_their_centre_ness(self) -> None:
        # IoU 1/2 where wrong: -log IoU is log 2.
        assert self.losses()["box"] == pytest.approx(0, abs=1e-5)
        assert self.losses(wrong_rows=(12, 20, 28))["box"] == pytest.approx(LN2, rel=1e-5)
        expected = LN2 * 4 * self.OUTER / (4 * self.OUTER + 2 * self.INNER)
        assert self.losses(wrong_rows=(12, 28))["box"] == pytest.approx(expected, rel=1e-5)

    def test_centre_ness_is_cross_entropy(self) -> None:
        assert self.losses()["centre_ness"] == pytest.approx(LN2, rel=1e-5)
        logit = 0.7
        each = [math.log1p(math.exp(logit)) - logit * target for target in (self.OUTER, self.INNER)]
        expected = (4 * each[0] + 2 * each[1]) / 6
        assert self.losses(centre_logit=logit)["centre_ness"] == pytest.approx(expected, rel=1e-5)


def test_atss_by_hand() -> None:
    # On 8 x 8 there are 8 priors: of 32 px at (0, 0), (4, 0), (0, 4), (4, 4), of 64, 128, 256, 512 px at (0, 0). The
    # face is the fourth. Overlaps 0.62, 0.78, 0.78, 1, 0.25, 0.06, 0.02, 0.004: mean 0.44 and deviation 0.40, so that
    # it alone is taken; it is the face's centre, of centre-ness 1.
    network = seeded("face-detection-0206")
    priors = network.head.priors((8, 8)).tensors()
    raw, twice_as_high = silent(network, priors), torch.tensor([[-12.0, -12, 20, 52]])
    raw = raw._replace(box_deltas=network.head.coder.encode(twice_as_high.expand(8, 4), priors)[None])
    losses = values(network.losses(raw, one_face([-12.0, -12, 20, 20]), priors))
    assert losses["class"] == pytest.approx((0.25 + 7 * 0.75) * 0.25 * LN2, rel=1e-5)
    assert losses["box"] == pytest.approx(2 * (1 - 0.5), rel=1e-5)  # weight 2; GIoU is IoU: the larger box encloses
    assert losses["centre_ness"] == pytest.approx(LN2, rel=1e-5)


class TestScrfd:
    # On 16 x 16 there are 12 priors: of 16 and 32 px at (0, 0), (8, 0), (0, 8), (8, 8), of 64 and 128, 256 and 512 px
    # at (0, 0). The face is the 16 px one at (8, 8); mean 0.24 and deviation 0.27 leave it alone above.
    FACE = (0.0, 0, 16, 16)
    ROW, STRIDE = 6, 8

    def prepared(self, box_xyxy: list[float], batch: int = 1) -> tuple[Any, Priors, RawOutputs]:
        network = seeded("scrfd-0.5g")
        priors = network.head.priors((16, 16)).tensors()
        boxes = torch.tensor(box_xyxy).repeat(12, 1)
        raw = silent(network, priors, batch)
        deltas = network.head.coder.encode(boxes, priors).repeat(batch, 1, 1)
        return network, priors, raw._replace(box_deltas=deltas)

    @pytest.mark.parametrize(("bottom", "own_class", "box"), [(16.0, 0.25, 0.0), (32.0, 0.0, 0.5 + 64 / 1280)])
    def test_class_learns_the_overlap(self, bottom: float, own_class: float, box: float) -> None:
        # Probability 1/2: background costs (1/2)^2 log 2; the prior itself as much at IoU 1, nothing at IoU 1/2. DIoU
        # adds the centres' distance, 8, over the enclosing diagonal, squared.
        network, priors, raw = self.prepared([0.0, 0, 16, bottom])
        losses = values(network.losses(raw, one_face([*self.FACE]), priors))
        assert losses["class"] == pytest.approx((11 * 0.25 + own_class) * LN2, rel=1e-4)
        assert losses["box"] == pytest.approx(2 * box, rel=1e-4, abs=1e-5)  # weight 2

    def test_boxes_count_by_their_confidence(self) -> None:
        # The same face in two pictures: right in the first, believed by 1/4; wrong in the second, by 1/2.
        network, priors, raw = self.prepared([*self.FACE], batch=2)
        wrong = network.head.coder.encode(torch.tensor([[0.0, 0, 16, 32]]).expand(12, 4), priors)
        raw.box_deltas[1] = wrong
        logits = torch.zeros(2, 12, 1)
        logits[0] = -math.log(3)
        face = torch.tensor([self.FACE])
        targets = Targets(
            face.repeat(2, 1), torch.tensor([0, 1]), torch.full((2, 10), torch.nan), torch.zeros(2) > 0, 2
        )
        losses = values(network.losses(raw._replace(class_logits=logits), targets, priors))
        assert losses["box"] == pytest.approx(2 * 0.55 * 0.5 / 0.75, rel=1e-4)

    def test_landmarks_are_in_strides(self) -> None:
        # One coordinate is 8 px off, a stride: Huber with beta 1/9, weight 0.1.
        network, priors, raw = self.prepared([*self.FACE])
        landmarks = torch.arange(10.0)
        said = landmarks.clone()
        said[3] += self.STRIDE
        raw = raw._replace(landmark_deltas=network.head.coder.encode_points(said.expand(12, 10), priors)[None])
        losses = values(network.losses(raw, one_face([*self.FACE], landmarks), priors))
        assert losses["landmarks"] == pytest.approx(0.1 * (1 - 0.5 / 9), rel=1e-4)


class TestYuNet:
    def test_assigns_cells_by_their_middle(self) -> None:
        # Of all levels' cells only the finest's (2, 2) has its middle, (20, 20), in the face. All predictions lie about
        # the grid points, where that of (3, 3), (24, 24), overlaps the face more than that of (2, 2), (16, 16).
        network = seeded("yunet-n")
        priors = network.head.priors((64, 64)).tensors()
        raw = silent(network, priors)
        network.losses(raw, one_face([18.5, 18.5, 23.5, 23.5]), priors)["box"].backward()
        assert raw.box_deltas.grad is not None
        assert raw.box_deltas.grad[0].any(dim=1).nonzero().flatten().tolist() == [2 * 8 + 2]

    def test_learns_one_batch_by_heart(self) -> None:
        network = seeded("yunet-n").train()
        images, targets = bright_ellipses()
        priors = network.head.priors((128, 128)).tensors()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        course = []
        for _ in range(60):
            losses = network.losses(network(images), targets, priors)
            optimizer.zero_grad()
            sum(losses.values()).backward()  # type: ignore[union-attr]
            optimizer.step()
            course.append(values(losses))
        first, last = (sum(course[step].values()) for step in (0, -1))
        assert last < 0.5 * first, (course[0], course[-1])
        assert course[-1]["box"] < 0.75 * course[0]["box"]


def bright_ellipses() -> tuple[Tensor, Targets]:
    """Two pictures of 128 x 128, two faces each, with eyes and mouth as dark spots."""
    boxes = torch.tensor([[10.0, 12, 50, 62], [70, 60, 118, 120], [64, 8, 112, 64], [16, 76, 48, 116]])
    fractions = torch.tensor([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    landmarks = boxes[:, None, :2] + fractions * (boxes[:, 2:] - boxes[:, :2])[:, None]
    images = np.full((2, 128, 128, 3), 40, dtype=np.uint8)
    rows, columns = np.mgrid[:128, :128]
    for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        across, down = (columns - (x1 + x2) / 2) / (x2 - x1) * 2, (rows - (y1 + y2) / 2) / (y2 - y1) * 2
        images[number // 2][across**2 + down**2 < 1] = 220
        for x, y in landmarks[number].int().tolist():
            images[number // 2][y - 2 : y + 2, x - 2 : x + 2] = 10
    targets = Targets(boxes, torch.tensor([0, 0, 1, 1]), landmarks.flatten(1), torch.ones(4, dtype=torch.bool), 2)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float(), targets
