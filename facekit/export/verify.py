"""Proof at export: the exported graph gives what PyTorch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.backends import Backend, open_backend
from facekit.errors import FacekitError
from facekit.template import Template

BOX_TOLERANCE_PX = 0.05
SCORE_TOLERANCE = 1e-3


def verify_export(exported: Path, reference: Backend, template: Template, size_hw: tuple[int, int]) -> float:
    """Runs a test picture through both; returns the largest difference of a score.

    Raises FacekitError where a score or a box that scores over the template's threshold differs by more than rounding.
    """
    picture = _test_picture(size_hw)[None]
    expected, got = reference(picture), open_backend(exported, template)(picture)
    score_difference = float((expected.scores.cpu() - got.scores).abs().max())
    counted = expected.scores.cpu() > template.evaluation.score_threshold
    box_differences = (expected.boxes_xyxy.cpu() - got.boxes_xyxy).abs()[counted]
    box_difference = float(box_differences.max()) if len(box_differences) else 0.0
    if not (score_difference <= SCORE_TOLERANCE and box_difference <= BOX_TOLERANCE_PX):
        raise FacekitError(
            f"{exported}: does not give what PyTorch gives on a test picture: scores differ by {score_difference:.2g} "
            f"(allowed {SCORE_TOLERANCE:g}), boxes by {box_difference:.2g} px (allowed {BOX_TOLERANCE_PX:g}). "
            f"Don't deploy this file; please report it with the weights."
        )
    return score_difference


def _test_picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Smooth blobs of colour, unlike in the three channels, so that a swapped channel can't pass."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float64)
    waves = [np.sin(x / 7 + channel) * np.cos(y / (5 + 3 * channel)) for channel in range(3)]
    return (127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)
