"""What verify_gpu.py compares by: two networks, their outputs, weights and faces; and how a GPU is made to repeat."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from facekit.models.detector_network import DetectorNetwork
from facekit.structures import Detections, RawOutputs

SCORE_THRESHOLD = 0.02  # low: some seconds of training make no sure detector
SAME_IOU, SAME_SCORE = 0.98, 5e-3  # of faces that are the same


def copy_to(device: torch.device, network: DetectorNetwork) -> DetectorNetwork:
    return copy.deepcopy(network).to(device).train()


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Euclidean, between what was learnt in two states; statistics are not."""
    learnt = [name for name, tensor in other.items() if tensor.is_floating_point() and "running_" not in name]
    return math.hypot(*(float((one[name].double() - other[name].double()).norm()) for name in learnt))


def count_pairs(found: Detections, wanted: Detections) -> int:
    """How many wanted faces have a found one in the same place with the same score; those that the threshold parts
    count as found."""
    if not len(found):
        return int((wanted.scores < SCORE_THRESHOLD + SAME_SCORE).sum())
    low = np.maximum(found.boxes_xyxy[:, None, :2], wanted.boxes_xyxy[None, :, :2])
    high = np.minimum(found.boxes_xyxy[:, None, 2:], wanted.boxes_xyxy[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    mine, theirs = ((each.boxes_xyxy[:, 2:] - each.boxes_xyxy[:, :2]).prod(axis=1) for each in (found, wanted))
    iou = shared / np.maximum(mine[:, None] + theirs[None] - shared, 1e-9)
    same = (iou >= SAME_IOU) & (np.abs(found.scores[:, None] - wanted.scores[None]) <= SAME_SCORE)
    return int((same.any(axis=0) | (wanted.scores < SCORE_THRESHOLD + SAME_SCORE)).sum())


def farthest(found: RawOutputs, wanted: RawOutputs) -> float:
    """The largest difference of any of a network's outputs."""
    pairs = zip(found, wanted, strict=True)
    return max(
        relative(mine.detach().cpu(), theirs.detach())
        for mine, theirs in pairs
        if mine is not None and theirs is not None
    )


def relative(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)) if wanted.numel() else 0.0


@contextmanager
def repeatable() -> Iterator[None]:
    """With algorithms that give the same again, as far as torch has them."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = before


@contextmanager
def whole_float32() -> Iterator[None]:
    """Without TF32, whose ten bits would hide a mistake."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
