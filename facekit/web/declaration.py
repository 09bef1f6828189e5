"""What decode.js must know of a detector: what it is fed, what its numbers mean, which boxes are kept."""

from __future__ import annotations

from typing import Any

from facekit.feed import fitted
from facekit.ops.coders import DeltaCoder
from facekit.ops.head import Head, declared_head
from facekit.structures import LANDMARK_NAMES
from facekit.template import Template


def declaration(template: Template, size_hw: tuple[int, int] | None) -> dict[str, Any]:
    """Plain values, for JSON. size_hw: the only size of picture that the exported graph takes; None: any."""
    head = declared_head(template.model)
    fed_by = fitted(template, size_hw)
    rule = fed_by.evaluation
    return {
        "name": template.name,
        "has_landmarks": head.has_landmarks,
        "landmark_names": LANDMARK_NAMES if head.has_landmarks else (),
        "input": {"size_hw": fed_by.input.size_hw, "resize": rule.resize, "size_multiple": rule.size_multiple},
        "output": "levels" if head.any_size else "decoded",
        "head": _head(head) if head.any_size else None,
        "evaluation": {
            "score_threshold": rule.score_threshold,
            "nms_iou_threshold": rule.nms_iou_threshold,
            "nms_union_slack": rule.nms_union_slack,
            "max_candidates": rule.max_candidates,
            "max_detections": rule.max_detections,
        },
    }


def _head(head: Head) -> dict[str, Any]:
    if isinstance(head.coder, DeltaCoder):
        coder: dict[str, Any] = {
            "kind": "delta", "centre_variance": head.coder.centre_variance, "size_variance": head.coder.size_variance
        }  # fmt: skip
    else:
        coder = {"kind": "distance", "in_strides": head.coder.in_strides}  # type: ignore[attr-defined]
    return {
        "strides": head.strides,
        "prior_sizes_wh": head.prior_sizes_wh,
        "cell_offset": head.cell_offset,
        "coder": coder,
        "classes": head.level_kinds["cls"],
        "face_column": head.face_column,
        "fits_cells": head.fits_cells,
        "clips_boxes": head.clips_boxes,
    }
