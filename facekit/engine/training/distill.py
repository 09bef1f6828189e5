"""Knowledge distillation (Hinton et al., 2015): a trained detector looks at the very batches that a student is fed.

A teacher in PyTorch with the student's own priors says, prior by prior, how sure it is, and where it is sure also what
box and landmarks it sees: all of that is learnt beside the labels. Of another teacher the faces that it finds are:
their scores, and landmarks for labelled faces without any. Either gives labels to pictures without any. Neither adds
faces to the labels of pictures that have some: what their annotators left out stays background there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facekit.base.files import is_passed_over
from facekit.errors import FacekitError
from facekit.feed import Scale, candidates, prepare
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.reductions import mean_over_processes
from facekit.metrics.matching import SAME_FACE_IOU, same_faces
from facekit.ops.arrays import as_numpy
from facekit.ops.boxes import clip_to, paired_iou, pairwise_iou
from facekit.ops.head import Head, declared_head
from facekit.ops.losses import eiou_loss, soft_score_loss, taught_point_losses, taught_score_losses
from facekit.ops.nms import select_detections
from facekit.ops.pixels import normalise
from facekit.pictures.read import PICTURE_SUFFIXES
from facekit.pictures.write import is_drawn
from facekit.structures import Activated, Decoded, Detections, Priors, RawOutputs, Targets
from facekit.targets import Backend, open_backend, pictures_at_once
from facekit.targets.pytorch import PyTorchBackend
from facekit.template import Template

LEAST_SCORE = 0.5  # of a face of the teacher's that is learnt from
LEAST_SURE = 0.05  # score of a prior whose box and landmarks are learnt from
BOX_LOSS_WEIGHT = 5.0  # beside the loss on scores, as in YuNet's own
LANDMARK_LOSS_WEIGHT = 10.0  # the usual one


class TaughtFaces(NamedTuple):
    """What a teacher found in a batch: M faces of all pictures in one list."""

    boxes_xyxy: Tensor  # (M, 4) float32, pixels of the student's input
    scores: Tensor  # (M,) in 0..1
    picture_index: Tensor  # (M,) int64, ascending
    landmarks_xy: Tensor  # (M, 10); undefined where has_landmarks is false
    has_landmarks: Tensor  # (M,) bool


class TeacherTargets(NamedTuple):
    """What a student learns from a batch."""

    targets: Targets  # the labels, completed
    faces: TaughtFaces | None  # None where the priors say all
    priors: Decoded | None  # what the teacher sees at each prior, where the student has the same


class Teacher:
    """A frozen detector of any template and kind of weights."""

    def __init__(
        self,
        backend: Backend,
        template: Template,
        student: Head,
        size_hw: tuple[int, int],
        weight: float,
        autocast_dtype: torch.dtype | None = None,
        landmark_weight: float = LANDMARK_LOSS_WEIGHT,
    ) -> None:
        """size_hw: of the student's input; weight: of the losses on what the teacher says, beside the student's own;
        autocast_dtype: that a teacher in PyTorch with the student's priors computes in; landmark_weight: of the loss on
        landmarks taught prior by prior, beside the one on scores."""
        self.backend = backend
        rule = template.evaluation
        # It sees the student's pictures as they are, but where it takes one size alone.
        rule = dataclasses.replace(rule, resize=rule.resize if rule.feeds_one_size else "none")
        self.template = dataclasses.replace(template, evaluation=rule)
        self.student = student
        self.size_hw = size_hw
        self.weight, self.landmark_weight = weight, landmark_weight
        self.head = declared_head(template.model)
        self.shares_priors = same_priors(self.head, student, size_hw)
        self.priors = len(student.priors(size_hw).strides)
        self.autocast_dtype = autocast_dtype
        blank = np.zeros((*size_hw, 3), dtype=np.uint8)
        fed, scale_xy = prepare(blank, self.template)
        self.sees_as_fed = fed.shape == blank.shape and tuple(scale_xy) == (1, 1)

    def look_at(self, images_bgr: Tensor, targets: Targets) -> TeacherTargets:
        """Looks at a batch as it was fed: (B, 3, H, W) BGR uint8 on any device, and its labels on the CPU."""
        is_plain = isinstance(self.backend, PyTorchBackend) and not self.backend.is_compressed
        if is_plain and self.shares_priors and self.sees_as_fed:
            seen = self._see_where_they_are(images_bgr)
            if targets.is_labelled is None or bool(targets.is_labelled.all()):
                return TeacherTargets(targets, None, seen)
            on_cpu = Decoded(*(None if part is None else part.cpu() for part in seen))
            faces = self._faces(_one_by_one(on_cpu), self.size_hw, [(1.0, 1.0)] * len(images_bgr))
            return TeacherTargets(complete(targets, faces), faces, seen)
        images = images_bgr.cpu().permute(0, 2, 3, 1).numpy()
        prepared = [prepare(image_bgr, self.template) for image_bgr in images]
        looks = self._look([fed for fed, _ in prepared])
        fed_hw = prepared[0][0].shape[:2]
        faces = self._faces(looks, fed_hw, [scale_xy for _, scale_xy in prepared])
        return TeacherTargets(complete(targets, faces), faces, self._by_priors(looks, fed_hw))

    def _see_where_they_are(self, images_bgr: Tensor) -> Decoded:
        """Without a picture leaving its device."""
        network, dtype = cast(PyTorchBackend, self.backend).network, self.autocast_dtype
        images = normalise(images_bgr, self.template.input).to(memory_format=torch.channels_last)
        with torch.no_grad():
            with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
                raw = network(images)
            raw = RawOutputs._make(None if part is None else part.float() for part in raw)
            return self.head.decode(self.head.activate(raw), self.head.priors(self.size_hw).tensors(images.device))

    def _faces(
        self, looks: Sequence[Activated | Decoded], fed_hw: tuple[int, int], scales_xy: list[Scale]
    ) -> TaughtFaces:
        rule, priors = self.template.evaluation, self.head.priors(fed_hw)
        found = [
            select_detections(
                candidates(look, 0, self.head, priors, LEAST_SCORE)[0], LEAST_SCORE, rule.nms_iou_threshold,
                rule.max_candidates, rule.max_detections, rule.nms_union_slack * fed_hw[0] * fed_hw[1], scale_xy,
            )
            for look, scale_xy in zip(looks, scales_xy, strict=True)
        ]  # fmt: skip
        return taught_faces(found, self.size_hw)

    def _by_priors(self, looks: Sequence[Activated | Decoded], fed_hw: tuple[int, int]) -> Decoded | None:
        """None where they are not the student's. Some exported graphs suppress and sort."""
        scores = [look.scores if isinstance(look, Decoded) else self.head.scores(look) for look in looks]
        if not self.shares_priors or fed_hw != self.size_hw or scores[0].shape[1] != self.priors:
            return None
        priors = self.head.priors(fed_hw)
        decoded = [
            look if isinstance(look, Decoded) else
            self.head.decode(Activated(*(None if part is None else as_numpy(part) for part in look)), priors)
            for look in looks
        ]  # fmt: skip
        return Decoded(*(
            None if parts[0] is None else torch.from_numpy(np.concatenate([as_numpy(part) for part in parts])).float()
            for parts in zip(*decoded, strict=True)
        ))  # fmt: skip

    def _look(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Activated | Decoded]:
        """Of each picture what the teacher says of it, as a batch of one."""
        at_once = pictures_at_once(self.backend, (images_bgr[0].shape[0], images_bgr[0].shape[1]))
        looks: list[Activated | Decoded] = []
        for first in range(0, len(images_bgr), at_once):
            part = images_bgr[first : first + at_once]
            looks += _one_by_one(self.backend(np.ascontiguousarray(np.stack(part))))
        return looks

    def losses(self, raw: RawOutputs, targets: TeacherTargets, priors: Priors) -> dict[str, Tensor]:
        """What the student says against what the teacher says, scalars by name, each over the sum of the teacher's
        scores: at all priors where both have the same; else the scores of the priors whose boxes are the student's best
        for the teacher's faces."""
        decoded = self.student.decode(self.student.activate(raw), priors)
        device = decoded.scores.device
        if targets.priors is not None:
            taught = Decoded(*(None if part is None else part.to(device) for part in targets.priors))
            losses = prior_losses(decoded, taught, self.landmark_weight)
            return {name: self.weight * loss for name, loss in losses.items()}
        assert targets.faces is not None
        faces = TaughtFaces._make(part.to(device) for part in targets.faces)
        rows, columns = best_boxes(decoded, faces)
        scores = decoded.scores[faces.picture_index[rows], columns]
        total = mean_over_processes(faces.scores.sum()).clamp(min=1)
        return {"teacher": self.weight * soft_score_loss(scores, faces.scores[rows]).sum() / total}


def _one_by_one(said: Activated | Decoded) -> list[Activated | Decoded]:
    """What is said of a batch as batches of one."""
    return [
        type(said)(*(None if part is None else part[place, None] for part in said)) for place in range(len(said[0]))
    ]


def prior_losses(decoded: Decoded, taught: Decoded, landmark_weight: float = LANDMARK_LOSS_WEIGHT) -> dict[str, Tensor]:
    """A student's B x A boxes, scores and landmarks against a teacher's of the same priors.

    Scores count everywhere: a background that looks a little like a face is knowledge too (Hinton et al., section 1).
    Boxes and landmarks do where the teacher is sure, by its score.
    """
    sure = taught.scores > LEAST_SURE
    weights = taught.scores[sure]
    total = mean_over_processes(weights.sum()).clamp(min=1)
    boxes_xyxy = taught.boxes_xyxy[sure]
    box_losses = eiou_loss(decoded.boxes_xyxy[sure], boxes_xyxy)
    losses = {
        "teacher": taught_score_losses(decoded.scores, taught.scores).sum() / total,
        "teacher_box": BOX_LOSS_WEIGHT * (weights * box_losses).sum() / total,
    }
    if decoded.landmarks_xy is not None and taught.landmarks_xy is not None:
        point_losses = taught_point_losses(decoded.landmarks_xy[sure], taught.landmarks_xy[sure], boxes_xyxy)
        losses["teacher_landmarks"] = landmark_weight * (weights * point_losses).sum() / total
    return losses


def open_teacher(
    weights: Path,
    template: Template,
    student: Head,
    size_hw: tuple[int, int],
    weight: float,
    device: torch.device,
    autocast_dtype: torch.dtype | None = None,
    landmark_weight: float | None = None,
) -> Teacher:
    """Of weights of any kind. Raises FacekitError for weights that are missing or another detector's, and for a weight
    of landmarks where none are taught prior by prior; None: the usual one."""
    if not weights.is_file():
        raise FacekitError(f"`teacher={weights}`: there is no such file. Check the path.")
    try:
        backend = open_backend(weights, template, str(device))
    except FacekitError as error:
        raise FacekitError(f"`teacher` (with the `teacher_template={template.name}`): {error}") from error
    if landmark_weight is None:
        return Teacher(backend, template, student, size_hw, weight, autocast_dtype)
    teacher = Teacher(backend, template, student, size_hw, weight, autocast_dtype, landmark_weight)
    if not (teacher.shares_priors and teacher.head.has_landmarks and student.has_landmarks):
        raise FacekitError(
            "`teacher_landmark_weight` is about landmarks taught prior by prior: these two detectors have "
            "other priors, or one of them has no landmarks. Leave it out."
        )
    return teacher


def same_priors(one: Head, other: Head, size_hw: tuple[int, int]) -> bool:
    """Whether two heads speak of the same places and sizes, prior by prior."""
    ours, theirs = one.priors(size_hw), other.priors(size_hw)
    return np.array_equal(ours.cxcywh, theirs.cxcywh) and np.array_equal(ours.strides, theirs.strides)


def taught_faces(found: list[Detections], size_hw: tuple[int, int]) -> TaughtFaces:
    """Of B pictures of that size; boxes end at the picture's border, and those without a pixel inside are left out."""
    counts = torch.tensor([len(faces) for faces in found])
    boxes_xyxy = clip_to(torch.from_numpy(np.concatenate([faces.boxes_xyxy for faces in found])), size_hw)
    scores = torch.from_numpy(np.concatenate([faces.scores for faces in found]))
    points = [
        np.full((len(faces), 10), np.nan, dtype=np.float32)
        if faces.landmarks_xy is None
        else faces.landmarks_xy.reshape(-1, 10)
        for faces in found
    ]
    landmarks_xy = torch.from_numpy(np.concatenate(points))
    has_landmarks = landmarks_xy.isfinite().all(dim=1)
    faces = TaughtFaces(
        boxes_xyxy, scores, torch.repeat_interleave(torch.arange(len(found)), counts),
        torch.where(has_landmarks[:, None], landmarks_xy, 0.0), has_landmarks,
    )  # fmt: skip
    is_inside = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= 1).all(dim=1)
    return TaughtFaces._make(part[is_inside] for part in faces)


def complete(targets: Targets, faces: TaughtFaces) -> Targets:
    """The labels with the teacher's landmarks where a label has none and is the same face, and with the teacher's faces
    in pictures that nobody labelled. `metrics.matching.same_faces` says which are the same; the rest of the teacher's
    faces is passed over."""
    landmarks_xy, has_landmarks = targets.landmarks_xy.clone(), targets.has_landmarks.clone()
    if len(landmarks_xy) and len(faces.scores):
        overlap = pairwise_iou(targets.boxes_xyxy, faces.boxes_xyxy)
        overlap = overlap * (targets.picture_index[:, None] == faces.picture_index)
        face = torch.from_numpy(same_faces(overlap.numpy()))
        given = (face >= 0) & ~has_landmarks & faces.has_landmarks[face]
        landmarks_xy[given] = faces.landmarks_xy[face[given]]
        has_landmarks |= given
    is_labelled = targets.is_labelled
    added = torch.zeros_like(faces.has_landmarks) if is_labelled is None else ~is_labelled[faces.picture_index]
    picture_index, order = torch.cat([targets.picture_index, faces.picture_index[added]]).sort(stable=True)
    return targets._replace(
        boxes_xyxy=torch.cat([targets.boxes_xyxy, faces.boxes_xyxy[added]])[order],
        picture_index=picture_index,
        landmarks_xy=torch.cat([landmarks_xy, faces.landmarks_xy[added]])[order],
        has_landmarks=torch.cat([has_landmarks, faces.has_landmarks[added]])[order],
    )


def best_boxes(decoded: Decoded, faces: TaughtFaces) -> tuple[Tensor, Tensor]:
    """Which of the M faces the student has a box for, and the prior of the best-scored one, the one that suppression
    keeps: (P,) int64 each. Boxes and faces are the same at IoU over SAME_FACE_IOU."""
    with torch.no_grad():
        boxes_xyxy = decoded.boxes_xyxy[faces.picture_index]
        overlap = paired_iou(faces.boxes_xyxy[:, None], boxes_xyxy)
        scores = torch.where(overlap > SAME_FACE_IOU, decoded.scores[faces.picture_index], -1.0)
        if not len(scores):
            return faces.picture_index, faces.picture_index
        best, column = scores.max(dim=1)
        taught = torch.nonzero(best >= 0).squeeze(1)
        return taught, column[taught]


def pictures_without_labels(source: Path, flag: str = "`distill_pictures`") -> list[PictureLabels]:
    """All pictures of a folder and its subfolders, but for those that facekit drew on, or those that a label file
    names; labels are passed over.

    Raises FacekitError, which names the flag that asked for them, where there are none.
    """
    if not source.exists():
        raise FacekitError(f"{flag} {source}: there is no such folder or label file. Check the path.")
    if source.is_dir():
        found = (path for path in source.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        paths = sorted(path for path in found if path.is_file() and not is_passed_over(path) and not is_drawn(path))
        pictures = [
            PictureLabels(path, None, np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0, bool), is_labelled=False)
            for path in paths
        ]
    else:
        pictures = [
            dataclasses.replace(picture.take(np.zeros_like(picture.is_crowd)), is_labelled=False)
            for picture in read_labels(source)
        ]
    if not pictures:
        raise FacekitError(f"{flag} {source}: no pictures there. Give a folder of pictures or labels.")
    return pictures
