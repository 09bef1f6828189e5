"""A picture with its faces drawn over it as SVG, which stays sharp at any size."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from facekit.pages.shell import Html, encode_jpeg, escape

MAX_DRAWN = 3000  # faces a picture


def overlay(
    image_bgr: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    landmarks_xy: NDArray[np.float64],
    is_crowd: NDArray[np.bool_],
    label: str,
    max_side: int,
) -> Html:
    """An svg element in the picture's own pixels; the picture in it is shrunk to max_side.

    boxes_xyxy: (N, 4); landmarks_xy: (N, 5, 2), NaN where not labelled; is_crowd: (N,); label: what it shows, in words.
    """
    height, width = image_bgr.shape[:2]
    jpeg, _ = encode_jpeg(image_bgr, max_side)
    boxes = "".join(
        f'<rect class="{"box crowd" if crowd else "box"}" x="{x1:.6g}" y="{y1:.6g}" width="{max(x2 - x1, 0):.6g}" '
        f'height="{max(y2 - y1, 0):.6g}"><title>{x2 - x1:.4g} x {y2 - y1:.4g} px</title></rect>'
        for (x1, y1, x2, y2), crowd in zip(boxes_xyxy[:MAX_DRAWN], is_crowd, strict=False)
    )
    smallest = max(width, height) / 250
    points = "".join(
        _points(face, max(smallest, float(box[3] - box[1]) / 24))
        for face, box in zip(landmarks_xy[:MAX_DRAWN], boxes_xyxy, strict=False)
    )
    return Html(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f'<image width="{width}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"/>'
        f'<g class="boxes">{boxes}</g><g class="points">{points}</g></svg>'
    )


def _points(face_xy: NDArray[np.float64], radius: float) -> str:
    """(5, 2) -> a dot each, coloured by which it is; none where it isn't labelled."""
    return "".join(
        f'<circle class="p{index}" cx="{x:.6g}" cy="{y:.6g}" r="{radius:.3g}"/>'
        for index, (x, y) in enumerate(face_xy)
        if np.isfinite(x) and np.isfinite(y)
    )
