"""Detections over a set of pictures, and the template's metrics from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.datasets.formats.coco import to_coco
from facekit.datasets.labels import PictureLabels
from facekit.datasets.pictures import read_picture
from facekit.detector import Detector
from facekit.engine.record import Metric
from facekit.errors import FacekitError
from facekit.metrics.coco import coco_ap
from facekit.metrics.size_ap import ap_by_height
from facekit.metrics.wider import WiderGroundTruth, find_wider_ground_truth, read_wider_ground_truth, wider_ap
from facekit.models import build_model
from facekit.ops.complexity import count_macs, count_parameters
from facekit.progress import progress_bar
from facekit.structures import Detections
from facekit.template import Template

log = logging.getLogger(__name__)

PICTURES_AHEAD = 4  # read while the network works on the current one


# What is called with every picture and its faces, to draw or to keep them.
OnPicture = Callable[[Path, NDArray[np.uint8], Detections], None]


def detect_pictures(
    detector: Detector,
    paths: Sequence[Path],
    sizes_wh: Sequence[tuple[int, int] | None] | None = None,
    on_picture: OnPicture | None = None,
    description: str = "detecting",
    quiet: bool = False,
) -> list[Detections]:
    """The faces of each picture, in order, under a progress bar. Raises FacekitError at one that can't be read."""
    results = []
    pictures = _read_ahead(paths, sizes_wh or [None] * len(paths))
    for path, image_bgr in zip(progress_bar(paths, quiet, desc=description, unit="picture"), pictures, strict=True):
        found = detector.detect(image_bgr)
        if on_picture is not None:
            on_picture(path, image_bgr, found)
        results.append(found)
    return results


def _read_ahead(paths: Sequence[Path], sizes_wh: Sequence[tuple[int, int] | None]) -> Iterator[NDArray[np.uint8]]:
    with ThreadPoolExecutor(max_workers=1) as reader:
        waiting = [reader.submit(read_picture, *job) for job in zip(paths[:PICTURES_AHEAD], sizes_wh, strict=False)]
        for index in range(len(paths)):
            image_bgr = waiting.pop(0).result()
            following = index + PICTURES_AHEAD
            if following < len(paths):
                waiting.append(reader.submit(read_picture, paths[following], sizes_wh[following]))
            yield image_bgr


def evaluate_labelled(
    detector: Detector,
    pictures: Sequence[PictureLabels],
    on_picture: OnPicture | None = None,
    quiet: bool = False,
) -> list[Metric]:
    """`ap` and `ap_64x64`, per cent, over labelled pictures."""
    found = detect_pictures(
        detector, [p.path for p in pictures], [p.size_wh for p in pictures], on_picture, "evaluating", quiet
    )
    detections = {index: (faces.boxes_xyxy, faces.scores) for index, faces in enumerate(found)}
    large = ap_by_height(
        [picture.boxes_xywh for picture in pictures],
        [faces.boxes_xyxy for faces in found],
        [faces.scores for faces in found],
        min_height=64,
    )
    return [
        Metric("ap", "AP @ [IoU=0.50:0.95]", "%", 100 * coco_ap(to_coco(list(pictures)), detections, category_id=1)),
        Metric("ap_64x64", "AP for faces > 64x64", "%", 100 * large),
    ]


def evaluate_wider(
    detector: Detector,
    wider_dir: Path,
    ground_truth_dir: Path | None,
    on_picture: OnPicture | None = None,
) -> tuple[list[Metric], dict[str, NDArray[np.float64]]]:
    """WIDER FACE easy, medium, hard, per cent, and the predictions ("EVENT/NAME" -> rows x, y, w, h, score).

    wider_dir holds WIDER_val/images/EVENT/NAME.jpg, and the four .mat files unless ground_truth_dir does. Raises
    FacekitError where the ground truth lists pictures that the disk lacks.
    """
    ground_truth = read_wider_ground_truth(find_wider_ground_truth(ground_truth_dir or wider_dir))
    paths = wider_picture_paths(wider_dir, ground_truth)
    found = detect_pictures(detector, paths, None, on_picture, "WIDER FACE")
    predictions = {name: as_wider_rows(faces) for name, faces in zip(ground_truth.names, found, strict=True)}
    return wider_metrics(predictions, ground_truth), predictions


def wider_picture_paths(wider_dir: Path, ground_truth: WiderGroundTruth) -> list[Path]:
    """The ground truth's pictures under wider_dir, in its order. Raises FacekitError that counts those missing."""
    images = wider_dir / "WIDER_val" / "images"
    paths = [images / f"{name}.jpg" for name in ground_truth.names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FacekitError(
            f"{images}: {len(missing)} of the {len(paths)} pictures that the WIDER ground truth lists are not on the "
            f"disk; the first is {missing[0]}. Unpack WIDER_val.zip there, or give --wider-gt a ground truth of "
            f"the pictures that you have."
        )
    return paths


def as_wider_rows(faces: Detections) -> NDArray[np.float64]:
    """(N, 5): x, y, w, h, score."""
    boxes = faces.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], faces.scores[:, None]], axis=1)


def wider_metrics(predictions: dict[str, NDArray[np.float64]], ground_truth: WiderGroundTruth) -> list[Metric]:
    """The three rows of metrics.yaml."""
    subsets = {"easy": "widerface_e", "medium": "widerface_m", "hard": "widerface_h"}
    figures = wider_ap(predictions, ground_truth)
    return [Metric(key, f"WiderFace {name.title()}", "%", 100 * figures[name]) for name, key in subsets.items()]


def model_metrics(template: Template) -> list[Metric]:
    """`size` and `complexity` of the template's network at the template's input, padded as its protocol pads."""
    network = build_model(template)
    multiple = template.evaluation.size_multiple
    height, width = (-(-side // multiple) * multiple for side in template.input.size_hw)
    return [
        Metric("size", "Size", "Mp", count_parameters(network) / 1e6),
        Metric("complexity", "Complexity", "GFLOPs", 2e-9 * count_macs(network, (height, width))),
    ]


def metric_value(metrics: Iterable[Metric], key: str) -> float:
    """The value under a key that is there."""
    return next(metric.value for metric in metrics if metric.key == key)
