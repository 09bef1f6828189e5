"""Proof at export: the exported graph gives what PyTorch gives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.feed import candidates
from facekit.ops.head import declared_head
from facekit.targets import Backend, open_backend
from facekit.template import Template

SCORE_TOLERANCE = 1e-3
PLACE_TOLERANCE_PX = 0.05  # of box corners and landmarks; beside it, of those far from the picture, RELATIVE_TOLERANCE
RELATIVE_TOLERANCE = 1e-4
LEAST_PRIORS = 100  # whose boxes are compared where fewer score over the template's threshold


def verify_export(exported: Path, reference: Backend, template: Template, size_hw: tuple[int, int]) -> float:
    """Runs a test picture through both; returns the largest difference of a score.

    Raises FacekitError where a score differs by more than rounding, or a box or a landmark of a prior that scores over
    the template's threshold or is one of the LEAST_PRIORS best.
    """
    picture = _test_picture(size_hw)[None]
    head = declared_head(template.model)
    priors = head.priors(size_hw)
    expected, _ = candidates(reference(picture), 0, head, priors, -math.inf)
    got, _ = candidates(open_backend(exported, template)(picture), 0, head, priors, -math.inf)
    if len(got.scores) != len(expected.scores):
        raise FacekitError(
            f"{exported}: gives {len(got.scores)} scores that are numbers on a test picture, PyTorch "
            f"{len(expected.scores)}. Don't deploy this file; please report it with the weights."
        )
    least = np.sort(expected.scores)[-min(LEAST_PRIORS, len(expected.scores))]
    counted = (expected.scores > template.evaluation.score_threshold) | (expected.scores >= least)
    score_difference = float(np.abs(expected.scores - got.scores).max())
    differences = {"boxes": _distance(expected.boxes_xyxy[counted], got.boxes_xyxy[counted])}
    if expected.landmarks_xy is not None:
        differences["landmarks"] = math.inf if got.landmarks_xy is None else _distance(
            expected.landmarks_xy[counted], got.landmarks_xy[counted])  # fmt: skip
    if not (score_difference <= SCORE_TOLERANCE and all(far <= PLACE_TOLERANCE_PX for far in differences.values())):
        places = ", ".join(f"{what} by {far:.2g} px" for what, far in differences.items())
        raise FacekitError(
            f"{exported}: does not give what PyTorch gives on a test picture: scores differ by {score_difference:.2g} "
            f"(allowed {SCORE_TOLERANCE:g}), {places} (allowed {PLACE_TOLERANCE_PX:g}). "
            f"Don't deploy this file; please report it with the weights."
        )
    return score_difference


def _distance(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """The largest difference beyond what float32 leaves of large numbers; NaN where either has one."""
    beyond = np.abs(expected - got) - RELATIVE_TOLERANCE * np.abs(expected)
    return float(np.maximum(beyond, 0).max()) if beyond.size else 0.0


def _test_picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Smooth blobs of colour, unlike in the three channels, so that a swapped channel can't pass."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float64)
    waves = [np.sin(x / 7 + channel) * np.cos(y / (5 + 3 * channel)) for channel in range(3)]
    return (127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)
