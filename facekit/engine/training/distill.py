"""Knowledge distillation (Hinton et al., 2015): a trained detector looks at the very batches that a student is fed.

What it finds gives landmarks to labelled faces without any and labels to pictures without any; its scores are learnt
beside the labels. It never adds faces to labelled pictures: what their annotators left out stays background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facekit.errors import FacekitError
from facekit.feed import candidates, prepare
from facekit.files import is_half_written
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.reductions import mean_over_processes
from facekit.metrics.matching import SAME_FACE_IOU, same_faces
from facekit.ops.arrays import as_numpy
from facekit.ops.boxes import clip_to, paired_iou, pairwise_iou
from facekit.ops.head import Head, declared_head
from facekit.ops.losses import soft_score_loss
from facekit.ops.nms import select_detections
from facekit.pictures.read import PICTURE_SUFFIXES
from facekit.pictures.write import is_drawn
from facekit.structures import Activated, Decoded, Detections, Priors, RawOutputs, Targets
from facekit.targets import Backend, open_backend
from facekit.template import Template

LEAST_SCORE = 0.5  # of a face of the teacher's that is learnt from


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
    faces: TaughtFaces
    prior_scores: Tensor | None  # (B, A) the teacher's, where the student has the same priors


class Teacher:
    """A frozen detector of any template and kind of weights."""

    def __init__(
        self, backend: Backend, template: Template, student: Head, size_hw: tuple[int, int], weight: float
    ) -> None:
        """size_hw: of the student's input; weight: of the loss on the teacher's scores, beside the student's own."""
        self.backend = backend
        rule = template.evaluation
        # It sees the student's pictures as they are, but where it takes one size alone.
        rule = dataclasses.replace(rule, resize=rule.resize if rule.feeds_one_size else "none")
        self.template = dataclasses.replace(template, evaluation=rule)
        self.student = student
        self.size_hw = size_hw
        self.weight = weight
        self.head = declared_head(template.model)
        self.shares_priors = same_priors(self.head, student, size_hw)
        self.priors = len(student.priors(size_hw).strides)

    def look_at(self, images_bgr: Tensor, targets: Targets) -> TeacherTargets:
        """Looks at a batch as it was fed: (B, 3, H, W) BGR uint8 and its labels, on the CPU."""
        prepared = [prepare(image_bgr, self.template) for image_bgr in images_bgr.permute(0, 2, 3, 1).numpy()]
        looks = self._look([fed for fed, _ in prepared])
        fed_hw, rule = prepared[0][0].shape[:2], self.template.evaluation
        priors = self.head.priors(fed_hw)
        found = [
            select_detections(
                candidates(look, 0, self.head, priors, LEAST_SCORE)[0], LEAST_SCORE, rule.nms_iou_threshold,
                rule.max_candidates, rule.max_detections, rule.nms_union_slack * fed_hw[0] * fed_hw[1], scale_xy,
            )
            for look, (_, scale_xy) in zip(looks, prepared, strict=True)
        ]  # fmt: skip
        faces = taught_faces(found, self.size_hw)
        scores = [look.scores if isinstance(look, Decoded) else self.head.scores(look) for look in looks]
        # Some exported graphs suppress and sort: theirs are no scores of priors.
        is_dense = self.shares_priors and fed_hw == self.size_hw and scores[0].shape[1] == self.priors
        dense = torch.from_numpy(np.concatenate([as_numpy(part) for part in scores])).float() if is_dense else None
        return TeacherTargets(complete(targets, faces), faces, dense)

    def _look(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Activated | Decoded]:
        """Of each picture what the teacher says of it, as a batch of one."""
        at_once = self.backend.fixed_batch or len(images_bgr)
        looks: list[Activated | Decoded] = []
        for first in range(0, len(images_bgr), at_once):
            part = images_bgr[first : first + at_once]
            said = self.backend(np.ascontiguousarray(np.stack(part)))
            looks += [
                type(said)(*(None if field is None else field[place, None] for field in said))
                for place in range(len(part))
            ]
        return looks

    def loss(self, raw: RawOutputs, targets: TeacherTargets, priors: Priors) -> Tensor:
        """The student's scores against the teacher's, a scalar: of all priors where both have the same, else of the
        priors whose boxes are the student's best for the teacher's faces. Over the sum of the teacher's scores."""
        decoded = self.student.decode(self.student.activate(raw), priors)
        device = decoded.scores.device
        if targets.prior_scores is not None:
            wanted = targets.prior_scores.to(device)
            total, losses = wanted.sum(), soft_score_loss(decoded.scores, wanted)
        else:
            faces = TaughtFaces._make(part.to(device) for part in targets.faces)
            taught, columns = best_boxes(decoded, faces)
            scores = decoded.scores[faces.picture_index[taught], columns]
            total, losses = faces.scores.sum(), soft_score_loss(scores, faces.scores[taught])
        loss: Tensor = self.weight * losses.sum() / mean_over_processes(total).clamp(min=1)
        return loss


def open_teacher(
    weights: Path, template: Template, student: Head, size_hw: tuple[int, int], weight: float, device: torch.device
) -> Teacher:
    """Of weights of any kind. Raises FacekitError for weights that are missing or another detector's."""
    if not weights.is_file():
        raise FacekitError(f"`teacher={weights}`: there is no such file. Check the path.")
    try:
        backend = open_backend(weights, template, str(device))
    except FacekitError as error:
        raise FacekitError(f"`teacher` (with the `teacher_template={template.name}`): {error}") from error
    return Teacher(backend, template, student, size_hw, weight)


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
        paths = sorted(path for path in found if path.is_file() and not is_half_written(path) and not is_drawn(path))
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
