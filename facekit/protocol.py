"""A template with another evaluation protocol: other sizes, other thresholds."""

from __future__ import annotations

import dataclasses
import re

from facekit.errors import ArgumentError
from facekit.template import Template


def at_scale(template: Template, scale: str) -> Template:
    """The template with another evaluation size. Priors keep their pixels.

    `template` (its own), `origin` (the pictures' own size), `max:N` (the longest side scaled to N), `640` (max:640),
    `vga` (fit into 640 x 640 and zero-padded to it: what SCRFD and YOLO5Face call VGA), `WxH` (stretched to W x H).
    Raises ArgumentError for anything else.
    """
    rule, settings = template.evaluation, template.input
    if scale == "template":
        return template
    if scale == "origin":
        rule = dataclasses.replace(rule, resize="none")
    elif scale == "vga":
        rule = dataclasses.replace(rule, resize="letterbox")
        settings = dataclasses.replace(settings, size_hw=(640, 640))
    elif match := re.fullmatch(r"max:([1-9]\d{0,3})", "max:640" if scale == "640" else scale):
        rule = dataclasses.replace(rule, resize="fit")
        settings = dataclasses.replace(settings, size_hw=(int(match[1]), int(match[1])))
    elif match := re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", scale):
        rule = dataclasses.replace(rule, resize="stretch")
        settings = dataclasses.replace(settings, size_hw=(int(match[2]), int(match[1])))
    else:
        raise ArgumentError(
            f"`scale={scale}`: expected template, origin, 640, vga, max:N or WxH, such as max:1024 or 640x480, "
            f"up to 9999 pixels."
        )
    return dataclasses.replace(template, evaluation=rule, input=settings)


def with_thresholds(
    template: Template, score_threshold: float | None, nms_iou_threshold: float | None, max_detections: int | None
) -> Template:
    """The template with those of its evaluation's thresholds replaced that are given."""
    rule = template.evaluation
    if score_threshold is not None:
        rule = dataclasses.replace(rule, score_threshold=score_threshold)
    if nms_iou_threshold is not None:
        rule = dataclasses.replace(rule, nms_iou_threshold=nms_iou_threshold)
    if max_detections is not None:
        rule = dataclasses.replace(rule, max_detections=max_detections)
    return dataclasses.replace(template, evaluation=rule)
