"""Proof at export: what was written gives what PyTorch gives, on real pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.feed import candidates, fitted, prepare
from facekit.ops.head import declared_head
from facekit.ops.nms import select_detections
from facekit.structures import Decoded, Detections
from facekit.targets import Backend
from facekit.template import Template

RELATIVE_TOLERANCE = 1e-4  # of boxes and points beside Tolerance.places_px: of those far from the picture
LEAST_FACE = 0.1  # score of faces that are compared where the graph suppresses
LEAST_PRIORS = 100  # whose boxes are compared where fewer score over the template's threshold


@dataclass(frozen=True)
class Tolerance:
    """How far an exported file may be from PyTorch."""

    scores: float = 1e-3
    places_px: float = 0.05  # of box corners and landmarks, in pixels of the network's input
    remedy: str = "Don't deploy this file; please report it with the weights."


FLOAT = Tolerance()
# Weights or computation in float16.
HALF = Tolerance(scores=0.01, places_px=1.0, remedy="Float16 costs this detector that much: leave `half` out.")


@dataclass(frozen=True)
class Differences:
    """The largest ones between two runtimes; NaN where one gave none, infinity where one lacks a face."""

    scores: float = 0.0
    boxes_px: float = 0.0
    landmarks_px: float | None = None  # None: of a detector without landmarks
    excess_px: float = 0.0  # of boxes and landmarks, beyond what float32 leaves of large numbers

    def within(self, tolerance: Tolerance) -> bool:
        return self.scores <= tolerance.scores and self.excess_px <= tolerance.places_px

    def joined(self, other: Differences) -> Differences:
        """The larger of each."""
        marks = [far for far in (self.landmarks_px, other.landmarks_px) if far is not None]
        return Differences(
            float(np.maximum(self.scores, other.scores)),  # which keeps NaN
            float(np.maximum(self.boxes_px, other.boxes_px)),
            float(np.max(marks)) if marks else None,
            float(np.maximum(self.excess_px, other.excess_px)),
        )

    def __str__(self) -> str:
        marks = "" if self.landmarks_px is None else f", landmarks by {self.landmarks_px:.2g} px"
        return f"scores differ by {self.scores:.2g}, boxes by {self.boxes_px:.2g} px{marks}"


def verify_export(
    name: str,
    exported: Backend,
    reference: Backend,
    template: Template,
    pictures: Mapping[str, NDArray[np.uint8]],
    tolerance: Tolerance = FLOAT,
) -> Differences:
    """Runs the pictures through both, as the template's protocol feeds them; returns the largest differences.

    `name`: of the file, for messages. `pictures`: name -> (H, W, 3) BGR. Raises FacekitError where a score differs by
    more than the tolerance, or a box or a landmark of a prior that scores over the template's threshold or is one of
    the LEAST_PRIORS best.
    """
    fed_by = fitted(template, exported.fixed_size_hw)
    all_of_them = Differences()
    for title, image_bgr in pictures.items():
        fed = np.ascontiguousarray(prepare(image_bgr, fed_by)[0])
        found = _differences(name, exported, reference, template, fed, title, tolerance.remedy)
        if not found.within(tolerance):
            raise FacekitError(
                f"{name}: does not give what PyTorch gives on a test picture ({title}): {found} (allowed "
                f"{tolerance.scores:g} and {tolerance.places_px:g} px). {tolerance.remedy}"
            )
        all_of_them = all_of_them.joined(found)
    return all_of_them


def _differences(
    name: str,
    exported: Backend,
    reference: Backend,
    template: Template,
    fed: NDArray[np.uint8],
    title: str,
    remedy: str,
) -> Differences:
    """Of all priors, each with its like."""
    head = declared_head(template.model)
    priors = head.priors((fed.shape[0], fed.shape[1]))
    expected, _ = candidates(reference(fed[None]), 0, head, priors, -math.inf)
    got, _ = candidates(exported(fed[None]), 0, head, priors, -math.inf)
    if len(got.scores) != len(expected.scores):
        raise FacekitError(
            f"{name}: gives {len(got.scores)} scores that are numbers on a test picture ({title}), PyTorch "
            f"{len(expected.scores)}. {remedy}"
        )
    least = np.sort(expected.scores)[-min(LEAST_PRIORS, len(expected.scores))]
    counted = (expected.scores > template.evaluation.score_threshold) | (expected.scores >= least)
    return compare_priors(expected, got, counted)


def verify_faces(
    name: str,
    exported: Backend,
    reference: Backend,
    template: Template,
    pictures: Mapping[str, NDArray[np.uint8]],
    tolerance: Tolerance = FLOAT,
) -> Differences:
    """verify_export() for a file that suppresses in its graph: compares the faces that score over LEAST_FACE."""
    fed_by = fitted(template, exported.fixed_size_hw)
    all_of_them = Differences()
    for title, image_bgr in pictures.items():
        fed = np.ascontiguousarray(prepare(image_bgr, fed_by)[0])
        expected, got = (_faces(each, fed, template) for each in (reference, exported))
        found = compare_faces(expected, got, max(LEAST_FACE, 2 * template.evaluation.score_threshold))
        if not found.within(tolerance):
            raise FacekitError(
                f"{name}: does not give the faces that PyTorch gives on a test picture ({title}): {found} (allowed "
                f"{tolerance.scores:g} and {tolerance.places_px:g} px). {tolerance.remedy}"
            )
        all_of_them = all_of_them.joined(found)
    return all_of_them


def _faces(backend: Backend, fed: NDArray[np.uint8], template: Template) -> Detections:
    head, rule = declared_head(template.model), template.evaluation
    size_hw = (fed.shape[0], fed.shape[1])
    boxes, _ = candidates(backend(fed[None]), 0, head, head.priors(size_hw), rule.score_threshold)
    slack = rule.nms_union_slack * size_hw[0] * size_hw[1]
    return select_detections(
        boxes, rule.score_threshold, rule.nms_iou_threshold, rule.max_candidates, rule.max_detections, slack
    )


def compare_priors(expected: Decoded, got: Decoded, counted: NDArray[np.bool_]) -> Differences:
    """Of one picture's priors in the same order: scores of all, places of those that are counted."""
    pairs = [(expected.boxes_xyxy, got.boxes_xyxy)]
    if expected.landmarks_xy is not None:
        lost = np.full_like(expected.landmarks_xy, np.inf)
        pairs.append((expected.landmarks_xy, lost if got.landmarks_xy is None else got.landmarks_xy))
    far = [np.abs(these[counted] - those[counted]) for these, those in pairs]
    beyond = [part - RELATIVE_TOLERANCE * np.abs(these[counted]) for part, (these, _) in zip(far, pairs, strict=True)]
    return Differences(
        float(np.abs(expected.scores - got.scores).max()),
        float(far[0].max(initial=0)),
        float(far[1].max(initial=0)) if len(far) > 1 else None,
        float(np.max([part.max(initial=0) for part in beyond])),  # NaN where either has one
    )


def compare_faces(expected: Detections, got: Detections, least_score: float) -> Differences:
    """Of one picture's faces in any order: each that scores over least_score in either is matched with the nearest of
    the other's. A face that the other hasn't, not even below least_score, is infinitely far."""
    found = Differences(landmarks_px=None if expected.landmarks_xy is None else 0.0)
    for these, those in ((expected, got), (got, expected)):
        for face in np.flatnonzero(these.scores > least_score):
            if not len(those.scores):
                return Differences(math.inf, math.inf, math.inf, math.inf)
            far = np.abs(those.boxes_xyxy - these.boxes_xyxy[face]).max(axis=1)
            nearest = int(far.argmin())
            landmarks = None
            if these.landmarks_xy is not None:
                landmarks = math.inf
                if those.landmarks_xy is not None:
                    landmarks = float(np.abs(these.landmarks_xy[face] - those.landmarks_xy[nearest]).max())
            score = float(abs(these.scores[face] - those.scores[nearest]))
            box = float(far[nearest])
            found = found.joined(Differences(score, box, landmarks, max(box, landmarks or 0.0)))
    return found
