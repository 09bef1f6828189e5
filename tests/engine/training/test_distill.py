from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from facekit.engine.training.distill import (
    TaughtFaces,
    Teacher,
    best_boxes,
    complete,
    open_teacher,
    prior_losses,
    same_priors,
    taught_faces,
)
from facekit.models import build_model
from facekit.ops.head import Head
from facekit.ops.pixels import normalise
from facekit.pictures.read import read_picture
from facekit.structures import Decoded, Detections, RawOutputs, Targets
from facekit.targets import Backend
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import TEMPLATES_DIR, Template, load_template
from facekit.training_data.training_set import collate
from facekit.training_data.transforms import LabelledImage

CPU = torch.device("cpu")


def template_of(name: str, **evaluation: Any) -> Template:
    template = load_template(TEMPLATES_DIR / name / "template.yaml")
    return dataclasses.replace(template, evaluation=dataclasses.replace(template.evaluation, **evaluation))


def head_of(name: str) -> Head:
    return build_model(template_of(name)).head  # type: ignore[return-value]


def targets_of(
    boxes: list[list[float]], index: list[int], marked: list[bool], is_labelled: list[bool] | None = None
) -> Targets:
    return Targets(
        torch.tensor(boxes).view(-1, 4), torch.tensor(index, dtype=torch.int64), torch.full((len(boxes), 10), -1.0),
        torch.tensor(marked, dtype=torch.bool), 2, None if is_labelled is None else torch.tensor(is_labelled),
    )  # fmt: skip


def faces_of(
    boxes: list[list[float]], index: list[int], scores: list[float] | None = None, marked: bool = True
) -> TaughtFaces:
    """Face number n has all its landmarks at n + 1."""
    count = len(boxes)
    return TaughtFaces(
        torch.tensor(boxes).view(-1, 4), torch.tensor(scores or [0.9] * count), torch.tensor(index, dtype=torch.int64),
        torch.arange(1.0, count + 1)[:, None].repeat(1, 10), torch.full((count,), marked),
    )  # fmt: skip


class TestComplete:
    def test_landmarks_for_the_same_face_alone(self) -> None:
        targets = targets_of(
            [[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10], [20, 20, 30, 30]], [0, 0, 1, 1],
            [False, False, False, True],
        )  # fmt: skip
        # IoU 0.8 with the first label, 0.43 with the second; the third's place but in the other picture; the fourth's.
        faces = faces_of([[0, 0, 10, 8], [54, 50, 64, 60], [20, 20, 30, 30]], [0, 0, 1])
        made = complete(targets, faces)
        assert made.has_landmarks.tolist() == [True, False, False, True]
        assert made.landmarks_xy[:, 0].tolist() == [1, -1, -1, -1]
        assert torch.equal(made.boxes_xyxy, targets.boxes_xyxy)
        assert targets.has_landmarks.tolist() == [False, False, False, True]  # the caller's are let be

    def test_a_face_serves_one_label(self) -> None:
        targets = targets_of([[0, 0, 10, 8], [0, 0, 10, 10]], [0, 0], [False, False])
        made = complete(targets, faces_of([[0, 0, 10, 10]], [0]))
        assert made.has_landmarks.tolist() == [False, True]

    def test_a_teacher_without_landmarks_gives_none(self) -> None:
        made = complete(targets_of([[0, 0, 9, 9]], [0], [False]), faces_of([[0, 0, 9, 9]], [0], marked=False))
        assert made.has_landmarks.tolist() == [False]

    def test_labelled_pictures_get_no_faces_and_others_all(self) -> None:
        targets = targets_of([[0, 0, 10, 10]], [1], [True], is_labelled=[False, True])
        faces = faces_of([[5, 5, 9, 9], [30, 30, 40, 40], [50, 50, 60, 60]], [0, 0, 1])
        made = complete(targets, faces)
        assert made.picture_index.tolist() == [0, 0, 1]
        assert made.boxes_xyxy.tolist() == [[5, 5, 9, 9], [30, 30, 40, 40], [0, 0, 10, 10]]
        assert made.landmarks_xy[:, 0].tolist() == [1, 2, -1]
        assert made.has_landmarks.all()

    @pytest.mark.parametrize("labels", [0, 2])
    @pytest.mark.parametrize("found", [0, 2])
    def test_nothing_on_one_side(self, labels: int, found: int) -> None:
        targets = targets_of([[0.0, 0, 9, 9]] * labels, [0] * labels, [False] * labels)
        made = complete(targets, faces_of([[20.0, 20, 29, 29]] * found, [1] * found))
        assert len(made.boxes_xyxy) == labels
        assert not made.has_landmarks.any()


class TestTaughtFaces:
    def test_clips_and_leaves_out(self) -> None:
        points = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
        boxes = np.array([[-5, -5, 20, 20], [100, 10, 120, 20]], np.float32)  # the second lies outside
        found = [
            Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)),
            Detections(boxes, np.array([0.9, 0.8], np.float32), points),
        ]
        faces = taught_faces(found, (64, 64))
        assert faces.boxes_xyxy.tolist() == [[0, 0, 20, 20]]
        assert faces.picture_index.tolist() == [1]
        assert faces.landmarks_xy.tolist() == [list(range(10))]
        assert faces.has_landmarks.tolist() == [True]


class TestBestBoxes:
    def test_by_hand(self) -> None:
        boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50]]]).repeat(2, 1, 1)
        scores = torch.tensor([[0.1, 0.2, 0.9], [0.3, 0.2, 0.9]])
        faces = faces_of([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]], [0, 1, 1])
        taught, columns = best_boxes(Decoded(boxes, scores), faces)
        assert taught.tolist() == [0, 1]
        assert columns.tolist() == [1, 0]

    def test_no_faces(self) -> None:
        taught, columns = best_boxes(Decoded(torch.zeros(2, 3, 4), torch.zeros(2, 3)), faces_of([], []))
        assert (len(taught), len(columns)) == (0, 0)


class Fake(Backend):
    """A backend that always finds the same."""

    fixed_size_hw = None
    fixed_batch = 1

    def __init__(self, decoded: Decoded) -> None:
        self.decoded = decoded
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
        self.seen.append(images_bgr.shape)
        batch = len(images_bgr)
        return Decoded(*(None if part is None else part.expand(batch, *part.shape[1:]) for part in self.decoded))


def nothing(batch: int) -> tuple[Tensor, Targets]:
    blank = LabelledImage(
        np.zeros((64, 64, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
    )
    return collate([blank] * batch)


class TestTeacher:
    def test_of_one_size_sees_the_picture_stretched(self) -> None:
        template = template_of("ultralight-rfb-320")
        height, width = template.input.size_hw
        box = torch.tensor([[[0.0, 0, width / 2, height / 4]]])
        backend = Fake(Decoded(box, torch.tensor([[0.75]])))
        teacher = Teacher(backend, template, head_of("yunet-n"), (64, 64), 1.0)
        taught = teacher.look_at(*nothing(2))
        assert backend.seen == [(1, height, width, 3)] * 2
        assert taught.faces is not None
        assert taught.faces.boxes_xyxy.tolist() == [[0, 0, 32, 16]] * 2
        assert taught.faces.scores.tolist() == [0.75] * 2
        assert taught.priors is None

    def test_of_any_size_sees_it_padded(self) -> None:
        backend = Fake(Decoded(torch.tensor([[[0.0, 0, 20, 30]]]), torch.tensor([[0.75]])))
        teacher = Teacher(backend, template_of("yunet-n", size_multiple=48), head_of("yunet-n"), (64, 64), 1.0)
        taught = teacher.look_at(*nothing(1))
        assert backend.seen == [(1, 96, 96, 3)]
        assert taught.faces is not None and taught.faces.boxes_xyxy.tolist() == [[0, 0, 20, 30]]

    def test_faces_under_the_least_score_are_no_labels(self) -> None:
        backend = Fake(Decoded(torch.tensor([[[0.0, 0, 20, 30]]]), torch.tensor([[0.45]])))
        taught = Teacher(backend, template_of("yunet-n"), head_of("yunet-n"), (64, 64), 1.0).look_at(*nothing(1))
        assert taught.faces is not None and not len(taught.faces.scores)

    def test_scores_of_all_priors_pull(self) -> None:
        """The loss is lowest at the teacher's own scores, and its slope on each prior leads there."""
        head = head_of("yunet-n")
        priors = head.priors((64, 64)).tensors()
        count = len(priors.strides)
        wanted = torch.linspace(0.05, 0.95, count)[None]
        backend = Fake(Decoded(torch.zeros(1, count, 4), wanted))
        teacher = Teacher(backend, template_of("yunet-s"), head, (64, 64), 2.0)
        taught = teacher.look_at(*nothing(1))
        assert taught.priors is not None and torch.equal(taught.priors.scores, wanted)
        logits = torch.zeros(1, count, 1, requires_grad=True)
        raw = RawOutputs(logits, torch.zeros(1, count, 4), torch.full((1, count), 30.0), torch.zeros(1, count, 10))
        teacher.losses(raw, taught, priors)["teacher"].backward()
        assert logits.grad is not None
        assert torch.equal(logits.grad.squeeze() < 0, wanted[0] > 0.5)
        exact = raw._replace(class_logits=wanted.logit()[..., None])
        assert float(teacher.losses(exact, taught, priors)["teacher"]) == pytest.approx(0, abs=1e-6)
        doubled = teacher.losses(raw, taught, priors)
        teacher.weight = 1.0
        for name, loss in teacher.losses(raw, taught, priors).items():
            assert float(doubled[name].detach()) == pytest.approx(2 * float(loss.detach()))

    def test_boxes_and_landmarks_are_learnt_where_the_teacher_is_sure(self) -> None:
        """By hand: two priors, one of them too doubtful to say where its face lies."""
        taught = Decoded(
            torch.tensor([[[10.0, 10, 20, 20], [30, 30, 40, 40]]]), torch.tensor([[0.8, 0.04]]),
            torch.full((1, 2, 10), 15.0),
        )  # fmt: skip
        boxes = torch.tensor([[[10.0, 10, 20, 16], [0, 0, 1, 1]]], requires_grad=True)
        points = torch.tensor([[[16.0] * 10, [99.0] * 10]], requires_grad=True)
        losses = prior_losses(Decoded(boxes, torch.tensor([[0.8, 0.04]]), points), taught)
        assert float(losses["teacher"]) == pytest.approx(0, abs=1e-6)
        # The score weighs, and what is divided by is the scores of the sure, but 1 at least.
        assert float(losses["teacher_box"].detach()) == pytest.approx(5 * 0.8 * (0.4 - 0.05), rel=1e-4)
        # A tenth of the face's side off, at every coordinate; smooth L1 with beta 0.02.
        assert float(losses["teacher_landmarks"].detach()) == pytest.approx(10 * 0.8 * (0.1 - 0.01), rel=1e-4)
        heavier = prior_losses(Decoded(boxes, torch.tensor([[0.8, 0.04]]), points), taught, landmark_weight=20)
        assert torch.equal(heavier["teacher_landmarks"], 2 * losses["teacher_landmarks"])
        assert torch.equal(heavier["teacher_box"], losses["teacher_box"])
        (losses["teacher_box"] + losses["teacher_landmarks"]).backward()
        assert boxes.grad is not None and points.grad is not None
        assert not boxes.grad[0, 1].any() and not points.grad[0, 1].any()
        assert boxes.grad[0, 0, 3] < 0 and (points.grad[0, 0] > 0).all()

    def test_pictures_without_labels_get_its_faces_beside_its_priors(
        self, drawn_weights: Path, drawn_dir: Path
    ) -> None:
        teacher = open_teacher(drawn_weights, template_of("yunet-n"), head_of("yunet-n"), (160, 160), 1.0, CPU)
        images, targets = drawn_batch(drawn_dir)
        taught = teacher.look_at(images, targets._replace(is_labelled=torch.tensor([True, False, True])))
        assert taught.priors is not None and taught.faces is not None
        assert len(taught.targets.boxes_xyxy) == int((taught.faces.picture_index == 1).sum()) > 0
        assert set(taught.targets.picture_index.tolist()) == {1}

    def test_scores_of_faces_pull_the_best_box(self) -> None:
        """A student with other priors: its one box on the face learns the teacher's score, nothing else."""
        head = head_of("yunet-n")
        priors = head.priors((64, 64)).tensors()
        teacher = Teacher(
            Fake(Decoded(torch.tensor([[[8.0, 8, 16, 16]]]), torch.tensor([[0.8]]))),
            template_of("scrfd-0.5g", resize="none"), head,
            (64, 64), 1.0,
        )  # fmt: skip
        taught = teacher.look_at(*nothing(1))
        assert taught.priors is None
        count = len(priors.strides)
        column = int(torch.nonzero((priors.cxcywh == torch.tensor([8.0, 8, 8, 8])).all(dim=1)))
        deltas = torch.full((1, count, 4), -5.0)
        deltas[0, column] = torch.tensor([0.5, 0.5, 0, 0])  # 8x8 about (12, 12)
        logits = torch.zeros(1, count, 1, requires_grad=True)
        raw = RawOutputs(logits, deltas, torch.full((1, count), 30.0), torch.zeros(1, count, 10))
        (loss,) = teacher.losses(raw, taught, priors).values()
        assert float(loss.detach()) == pytest.approx(0.3**2 * -np.log(0.5), rel=1e-4)
        loss.backward()
        assert logits.grad is not None
        assert torch.nonzero(logits.grad.flatten()).flatten().tolist() == [column]
        assert float(logits.grad.flatten()[column]) < 0

    def test_no_faces_anywhere(self) -> None:
        head = head_of("yunet-n")
        backend = Fake(Decoded(torch.zeros(1, 1, 4), torch.zeros(1, 1)))
        teacher = Teacher(backend, template_of("scrfd-0.5g"), head, (64, 64), 1.0)
        network = build_model(template_of("yunet-n"))
        raw = network(torch.zeros(2, 3, 64, 64))
        (loss,) = teacher.losses(raw, teacher.look_at(*nothing(2)), head.priors((64, 64)).tensors()).values()
        assert float(loss.detach()) == 0

    def test_a_graph_sees_the_pictures_one_by_one_and_teaches_the_same(
        self, drawn_weights: Path, drawn_dir: Path
    ) -> None:
        template, head = template_of("yunet-n"), head_of("yunet-n")
        images, targets = drawn_batch(drawn_dir)
        whole = open_teacher(drawn_weights, template, head, (160, 160), 1.0, CPU)
        seen: list[int] = []

        class Graph(Backend):
            fixed_size_hw = None
            fixed_batch = 1

            def __call__(self, images_bgr: NDArray[np.uint8]) -> Decoded:
                seen.append(len(images_bgr))
                return whole.backend(images_bgr)

        one = whole.look_at(images, targets)
        other = Teacher(Graph(), template, head, (160, 160), 1.0).look_at(images, targets)
        assert seen == [1, 1, 1]
        assert one.priors is not None and other.priors is not None
        assert torch.allclose(one.priors.scores, other.priors.scores, atol=1e-5)
        assert torch.allclose(one.priors.boxes_xyxy, other.priors.boxes_xyxy, atol=1e-2)
        assert one.priors.landmarks_xy is not None and other.priors.landmarks_xy is not None
        assert torch.allclose(one.priors.landmarks_xy, other.priors.landmarks_xy, atol=1e-2)
        assert other.faces is not None and len(other.faces.scores) > 0
        assert one.faces is None  # nobody asked for them: all pictures have labels

    def test_is_let_be(self, drawn_weights: Path, drawn_dir: Path) -> None:
        """No batch norm moves, no gradient is kept, and the same batch is taught the same twice."""
        template = template_of("yunet-n")
        teacher = open_teacher(drawn_weights, template, head_of("yunet-n"), (160, 160), 1.0, CPU)
        assert isinstance(teacher.backend, PyTorchBackend)
        before = {name: value.clone() for name, value in teacher.backend.network.state_dict().items()}
        one, other = (teacher.look_at(*drawn_batch(drawn_dir)) for _ in range(2))
        after = teacher.backend.network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert one.priors is not None and other.priors is not None
        for said, again in zip(one.priors, other.priors, strict=True):
            assert not said.requires_grad
            assert torch.equal(said, again)

    @pytest.mark.parametrize(
        "name",
        [
            "face-detection-0200", "face-detection-0205", "ultralight-rfb-320",
            "retinaface-mobilenetv1-0.25", "scrfd-0.5g", "yunet-s",
        ],
    )  # fmt: skip
    def test_any_architecture_can_be_a_student(self, name: str, drawn_weights: Path, drawn_dir: Path) -> None:
        network = build_model(template_of(name))
        head = network.head
        teacher = open_teacher(drawn_weights, template_of("yunet-n"), head, (160, 160), 1.0, CPU)
        images, targets = drawn_batch(drawn_dir)
        taught = teacher.look_at(images, targets)
        assert (taught.priors is not None) == (taught.faces is None) == (name == "yunet-s")
        assert taught.faces is None or len(taught.faces.scores)
        raw = network(normalise(images, template_of(name).input))
        loss = sum(teacher.losses(raw, taught, head.priors((160, 160)).tensors()).values())
        assert isinstance(loss, Tensor)
        loss.backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def drawn_batch(drawn_dir: Path) -> tuple[Tensor, Targets]:
    """Three drawn pictures at 160x160, without labels."""
    no_faces = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
    paths = sorted((drawn_dir / "images").glob("*.jpg"))[1:4]
    pictures = [cv2.resize(read_picture(path), (160, 160)) for path in paths]
    return collate([LabelledImage(np.asarray(image, np.uint8), *no_faces) for image in pictures])


class TestSamePriors:
    @pytest.mark.parametrize(
        ("other", "same"), [("yunet-s", True), ("scrfd-0.5g", False), ("ultralight-rfb-320", False)]
    )
    def test_by_architecture(self, other: str, same: bool) -> None:
        assert same_priors(head_of("yunet-n"), head_of(other), (64, 64)) is same
