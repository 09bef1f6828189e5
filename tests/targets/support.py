"""What tests of targets share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facekit.feed import candidates
from facekit.ops.head import declared_head
from facekit.structures import Decoded
from facekit.targets import Backend


def decoded(backend: Backend, images_bgr: NDArray[np.uint8]) -> Decoded:
    """All priors' boxes, scores and landmarks of a batch, as NumPy arrays."""
    head = declared_head(backend.template.model)
    said, priors = backend(images_bgr), head.priors(images_bgr.shape[1:3])
    parts = [candidates(said, picture, head, priors, -math.inf)[0] for picture in range(len(images_bgr))]
    return Decoded(*(None if fields[0] is None else np.stack(fields) for fields in zip(*parts, strict=True)))


def check_equal(got: Decoded, expected: Decoded, scores_atol: float = 1e-5, places_atol: float = 1e-2) -> None:
    np.testing.assert_allclose(got.scores, expected.scores, atol=scores_atol, rtol=1e-3)
    np.testing.assert_allclose(got.boxes_xyxy, expected.boxes_xyxy, atol=places_atol, rtol=1e-3)
    assert (got.landmarks_xy is None) == (expected.landmarks_xy is None)
    if got.landmarks_xy is not None:
        np.testing.assert_allclose(got.landmarks_xy, expected.landmarks_xy, atol=places_atol, rtol=1e-3)
