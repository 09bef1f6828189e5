from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facekit.errors import FacekitError
from facekit.models import MODELS, build_model
from facekit.ops.boxes import cxcywh_to_xyxy
from facekit.structures import RawOutputs, Targets
from facekit.template import TEMPLATES_DIR, Template, find_template, load_template

TEMPLATES = sorted(path.parent.name for path in TEMPLATES_DIR.glob("*/template.yaml"))
SSD, YUNET = "face-detection-0200", "yunet-n"


def template_of(name: str) -> Template:
    return load_template(find_template(name))


def seeded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(template_of(name))


def random_targets(counts: tuple[int, ...], side: int, with_landmarks: bool = True) -> Targets:
    """That many faces a picture, anywhere in a square of that side."""
    generator = torch.Generator().manual_seed(0)
    faces = sum(counts)
    centre = torch.rand(faces, 2, generator=generator) * side
    half = side * (0.03 + 0.15 * torch.rand(faces, 2, generator=generator))
    boxes = torch.cat([centre - half, centre + half], dim=1).clamp(0, side)
    landmarks = (centre[:, None] + half[:, None] * (torch.rand(faces, 5, 2, generator=generator) - 0.5)).flatten(1)
    index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Targets(boxes, index, landmarks, torch.full((faces,), with_landmarks), len(counts))


def learn_once(name: str, targets: Targets, side: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """Forward, losses and backward of random pixels."""
    network = seeded(name).train()
    images = torch.rand(targets.batch_size, 3, side, side, generator=torch.Generator().manual_seed(1))
    raw = network(images * 255 if name == YUNET else images)
    losses = network.losses(raw, targets, network.head.priors_cxcywh((side, side)))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    return network, losses


class TestBuild:
    @pytest.mark.parametrize("name", TEMPLATES)
    def test_every_template_builds(self, name: str) -> None:
        network = seeded(name)
        assert network.export_layout in ("decoded", "per_level")
        assert len(network.head.strides) == len(network.head.prior_sizes_wh)

    def test_every_architecture_has_a_template(self) -> None:
        assert {template_of(name).model.architecture for name in TEMPLATES} == set(MODELS)

    def test_unknown_architecture(self) -> None:
        template = template_of(YUNET)
        unknown = dataclasses.replace(template, model=dataclasses.replace(template.model, architecture="yunett"))
        with pytest.raises(FacekitError, match=r"template\.yaml: model\.architecture: 'yunett'.*did you mean 'yunet'"):
            build_model(unknown)

    def test_yunet_starts_calm(self) -> None:
        network = seeded(YUNET).eval()
        activated = network.head.activate(network(torch.zeros(1, 3, 64, 64)))
        assert activated.class_probabilities.max() < 0.05
        assert activated.objectness.max() < 0.05


class TestForward:
    @pytest.mark.parametrize(
        ("name", "size_hw"),
        [
            (SSD, (256, 256)),
            (SSD, (96, 160)),
            (SSD, (100, 67)),  # cells are rounded up
            (YUNET, (64, 64)),
            (YUNET, (32, 160)),
            (YUNET, (224, 96)),
        ],
    )
    def test_one_row_a_prior(self, name: str, size_hw: tuple[int, int]) -> None:
        network = seeded(name).eval()
        with torch.no_grad():
            raw = network(torch.zeros(2, 3, *size_hw))
        assert isinstance(raw, RawOutputs)
        priors = len(network.head.priors_cxcywh(size_hw))
        assert raw.box_deltas.shape == (2, priors, 4)
        if name == SSD:
            assert raw.class_logits.shape == (2, priors, 2)
            assert raw.objectness_logits is None and raw.landmark_deltas is None
        else:
            assert raw.class_logits.shape == (2, priors, 1)
            assert raw.objectness_logits is not None and raw.landmark_deltas is not None
            assert raw.objectness_logits.shape == (2, priors)
            assert raw.landmark_deltas.shape == (2, priors, 10)

    @pytest.mark.parametrize("name", [SSD, YUNET])
    def test_the_same_in_training_and_evaluation(self, name: str) -> None:
        network = seeded(name)
        shapes = []
        for mode in (True, False):
            raw = network.train(mode)(torch.rand(2, 3, 64, 64))
            shapes.append([None if tensor is None else tensor.shape for tensor in raw])
        assert shapes[0] == shapes[1]

    @pytest.mark.parametrize(("name", "cell"), [(SSD, 16), (YUNET, 8)])
    def test_rows_lie_where_their_priors_are(self, name: str, cell: int) -> None:
        """A bright spot changes the finest level's outputs most about its own place, row by row."""
        network = seeded(name).eval()
        dark = torch.zeros(1, 3, 128, 256)
        spot = dark.clone()
        y, x = 32, 192  # far from where rows and columns swapped would put it
        spot[..., y : y + cell, x : x + cell] = 255 if name == YUNET else 5
        with torch.no_grad():
            change = (network(spot).box_deltas - network(dark).box_deltas).abs().sum(dim=(0, 2))
        priors = network.head.priors_cxcywh((128, 256))
        finest = network.head.prior_strides((128, 256)) == network.head.strides[0]
        weight = change[finest].square() / change[finest].square().sum()
        centre = (priors[finest, :2] * weight[:, None]).sum(dim=0)
        middle = torch.tensor([x + cell / 2, y + cell / 2])
        assert (centre - middle).abs().max() < 1.6 * cell, (centre, middle)


class TestLosses:
    @pytest.mark.parametrize("count", [1, 300])
    def test_yunet_with_faces(self, count: int) -> None:
        network, losses = learn_once(YUNET, random_targets((count, 1), 96), 96)
        assert set(losses) == {"class", "objectness", "box", "landmarks"}
        check_finite(network, losses)
        assert all(float(loss.detach()) > 0 for loss in losses.values())

    @pytest.mark.parametrize("count", [1, 300])
    def test_ssd_with_faces(self, count: int) -> None:
        network, losses = learn_once(SSD, random_targets((count, 1), 256), 256)
        assert set(losses) == {"class", "box"}
        check_finite(network, losses)
        assert all(float(loss.detach()) > 0 for loss in losses.values())

    @pytest.mark.parametrize(("name", "side"), [(YUNET, 64), (SSD, 64)])
    def test_no_faces_at_all(self, name: str, side: int) -> None:
        network, losses = learn_once(name, random_targets((0, 0), side), side)
        check_finite(network, losses)
        assert float(losses["box"].detach()) == 0
        if name == YUNET:
            assert float(losses["landmarks"].detach()) == 0
            assert float(losses["objectness"].detach()) > 0  # background is still learnt

    def test_one_picture_of_two_without_faces(self) -> None:
        check_finite(*learn_once(YUNET, random_targets((0, 3), 64), 64))

    def test_faces_without_landmarks_train_boxes_only(self) -> None:
        marked = learn_once(YUNET, random_targets((3, 2), 64), 64)[1]
        targets = random_targets((3, 2), 64, with_landmarks=False)
        # What stands in unlabelled rows is undefined and must not matter.
        targets = targets._replace(landmarks_xy=torch.full_like(targets.landmarks_xy, torch.nan))
        network, losses = learn_once(YUNET, targets, 64)
        check_finite(network, losses)
        assert float(losses["landmarks"].detach()) == 0
        for name in ("class", "objectness", "box"):
            torch.testing.assert_close(losses[name], marked[name])

    def test_yunet_assigns_cells_by_their_middle(self) -> None:
        # Of all levels' cells only the finest's (2, 2) has its middle, (20, 20), in the face. All predictions lie about
        # the grid points, where that of (3, 3), (24, 24), overlaps the face more than that of (2, 2), (16, 16).
        network = seeded(YUNET)
        priors = network.head.priors_cxcywh((64, 64))
        rows = len(priors)
        deltas = torch.zeros(1, rows, 4, requires_grad=True)
        raw = RawOutputs(torch.zeros(1, rows, 1), deltas, torch.zeros(1, rows), torch.zeros(1, rows, 10))
        face = torch.tensor([[18.5, 18.5, 23.5, 23.5]])
        targets = Targets(face, torch.tensor([0]), torch.zeros(1, 10), torch.tensor([False]), 1)
        network.losses(raw, targets, priors)["box"].backward()
        assert deltas.grad is not None
        assert deltas.grad[0].any(dim=1).nonzero().flatten().tolist() == [2 * 8 + 2]

    def test_ssd_by_hand(self) -> None:
        # Every prior says face with probability 1/4, background with 3/4, and its own box. The face is prior 4 itself
        # (a cell of the first row), so that its box costs nothing, and no other prior has IoU 0.4 with it (their
        # centres are 16 apart or their sizes differ by more): one positive, three of the equally bad negatives.
        network = seeded(SSD)
        priors = network.head.priors_cxcywh((256, 256))
        logits = torch.tensor([0.0, math.log(3)]).expand(1, len(priors), 2)
        raw = RawOutputs(logits, torch.zeros(1, len(priors), 4))
        targets = Targets(cxcywh_to_xyxy(priors[4:5]), torch.tensor([0]), torch.zeros(1, 10), torch.tensor([False]), 1)
        losses = network.losses(raw, targets, priors)
        assert float(losses["box"].detach()) == pytest.approx(0, abs=1e-4)
        assert float(losses["class"].detach()) == pytest.approx(math.log(4) + 3 * math.log(4 / 3))

    def test_perfect_landmarks_cost_nothing(self) -> None:
        network = seeded(YUNET).eval()
        priors = network.head.priors_cxcywh((64, 64))
        targets = random_targets((1,), 64)
        raw = network(torch.rand(1, 3, 64, 64))
        perfect = network.head.coder.encode_points(targets.landmarks_xy.expand(len(priors), 10), priors)[None]
        losses = network.losses(raw._replace(landmark_deltas=perfect), targets, priors)
        assert float(losses["landmarks"].detach()) == 0

    def test_perfect_boxes_cost_nothing(self) -> None:
        network = seeded(SSD).eval()
        priors = network.head.priors_cxcywh((256, 256))
        targets = random_targets((1,), 256)
        raw = network(torch.rand(1, 3, 256, 256))
        perfect = network.head.coder.encode(targets.boxes_xyxy.expand(len(priors), 4), priors)[None]
        losses = network.losses(raw._replace(box_deltas=perfect), targets, priors)
        assert float(losses["box"].detach()) == 0

    def test_ssd_learns_its_balance(self) -> None:
        network, losses = learn_once(SSD, random_targets((2, 2), 64), 64)
        # d/ds (exp(-s) L + s / 2) at s = 0: 0.5 - L
        expected = 0.5 - torch.stack([losses["class"], losses["box"]]).detach()
        torch.testing.assert_close(network.loss_log_variances.grad, expected)


def check_finite(network: nn.Module, losses: dict[str, Tensor]) -> None:
    for name, loss in losses.items():
        assert loss.ndim == 0
        assert loss.isfinite(), name
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


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


def test_yunet_learns_one_batch_by_heart() -> None:
    network = seeded(YUNET).train()
    images, targets = bright_ellipses()
    priors = network.head.priors_cxcywh((128, 128))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    course = []
    for _ in range(60):
        losses = network.losses(network(images), targets, priors)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        course.append({name: float(value.detach()) for name, value in losses.items()})
    first, last = (sum(course[step].values()) for step in (0, -1))
    assert last < 0.5 * first, (course[0], course[-1])
    assert course[-1]["box"] < 0.75 * course[0]["box"]
