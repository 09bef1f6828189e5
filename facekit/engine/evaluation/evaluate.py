"""Detections over a set of pictures, and the template's metrics from them."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from facekit.base.progress import progress_bar
from facekit.detector import Detector
from facekit.errors import FacekitError, Loss
from facekit.labels.formats.coco import to_coco
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.memory import give_back_freed_memory
from facekit.machine.processes import gather_over_processes, rank, world_size
from facekit.metrics.coco import coco_ap
from facekit.metrics.size_ap import ap_by_height
from facekit.metrics.wider import Curve, WiderGroundTruth
from facekit.pictures.read_ahead import read_each
from facekit.records.evaluation import Metric
from facekit.results.wider import check_name
from facekit.structures import Detections
from facekit.targets.reading.complexity import file_complexity
from facekit.targets.reading.outputs import is_foreign
from facekit.template import Template

log = logging.getLogger(__name__)

# What is called with every picture and its faces, to draw or to keep them.
OnPicture = Callable[[Path, NDArray[np.uint8], Detections], None]

NO_FACES = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))


class BrokenOff(Exception):
    """Raised by what is called with every picture: leaves an evaluation."""


@dataclass(frozen=True)
class Measured:
    """Labelled pictures, what was found in them, and how long that took."""

    pictures: Sequence[PictureLabels]
    found: list[Detections]
    seconds: list[float]  # a picture: preparing it, the network, selecting; an equal share of its batch's
    losses: list[Loss] = field(default_factory=list)  # pictures that could not be read: they are not among the others


def detect_pictures(
    detector: Detector,
    pictures: Sequence[PictureLabels],
    description: str = "detecting",
    quiet: bool = False,
    skip_unreadable: bool = False,
) -> Measured:
    """The faces of each picture, in order, under a progress bar. Raises FacekitError at one that can't be read, or with
    skip_unreadable as detect_over_processes."""
    return as_measured(pictures, *detect_each(detector, pictures, None, description, quiet, 1, skip_unreadable))


def detect_over_processes(
    detector: Detector,
    pictures: Sequence[PictureLabels],
    on_picture: OnPicture | None,
    description: str,
    quiet: bool = False,
    batch_size: int = 1,
    skip_unreadable: bool = False,
) -> Measured:
    """As detect_pictures, each process its share of the pictures; all get the faces of all, in order.

    skip_unreadable: pictures that can't be read are left out and told in `losses`, as long as there are others.
    What FacekitError or BrokenOff one process raises, all raise.
    """
    share: tuple[list[Detections | FacekitError], list[float]] | Exception
    try:
        share = detect_each(
            detector, pictures[rank() :: world_size()], on_picture, description, quiet or rank() > 0, batch_size,
            skip_unreadable,
        )  # fmt: skip
    except (BrokenOff, FacekitError) as error:
        if world_size() == 1:
            raise
        share = error
    found: list[Detections | FacekitError] = [NO_FACES] * len(pictures)
    seconds = [0.0] * len(pictures)
    for number, part in enumerate(gather_over_processes(share)):
        if isinstance(part, Exception):
            raise part
        found[number :: world_size()], seconds[number :: world_size()] = part
    return as_measured(pictures, found, seconds)


def detect_each(
    detector: Detector,
    pictures: Sequence[PictureLabels],
    on_picture: OnPicture | None,
    description: str,
    quiet: bool,
    batch_size: int,
    skip_unreadable: bool,
) -> tuple[list[Detections | FacekitError], list[float]]:
    """Of each picture its faces, or why it can't be read, and the seconds."""
    found: list[Detections | FacekitError] = []
    seconds: list[float] = []
    images = read_each([picture.path for picture in pictures], [picture.size_wh for picture in pictures])
    # Closed here: an exception that is kept would keep its threads.
    with closing(images), progress_bar(None, quiet, total=len(pictures), desc=description, unit="picture") as bar:
        while batch := list(itertools.islice(images, batch_size)):
            errors = [image for image in batch if isinstance(image, FacekitError)]
            if errors and not skip_unreadable:
                raise errors[0]
            readable = [image for image in batch if not isinstance(image, FacekitError)]
            started = time.perf_counter()
            faces = iter(detector.detect_batch(readable) if readable else [])
            seconds += [(time.perf_counter() - started) / max(len(readable), 1)] * len(batch)
            for image in batch:
                result = image if isinstance(image, FacekitError) else next(faces)
                if on_picture is not None and not isinstance(image, FacekitError):
                    on_picture(pictures[len(found)].path, image, cast(Detections, result))
                found.append(result)
            give_back_freed_memory()
            bar.update(len(batch))
    return found, seconds


def as_measured(
    pictures: Sequence[PictureLabels], found: Sequence[Detections | FacekitError], seconds: Sequence[float]
) -> Measured:
    """Raises FacekitError where all pictures are lost."""
    losses = [
        Loss.of(picture.path, result)
        for picture, result in zip(pictures, found, strict=True)
        if isinstance(result, FacekitError)
    ]
    if losses and len(losses) == len(pictures):
        raise FacekitError(f"{losses[0]} None of the {len(pictures)} pictures can be read.")
    kept = [
        (picture, result, duration)
        for picture, result, duration in zip(pictures, found, seconds, strict=True)
        if not isinstance(result, FacekitError)
    ]
    return Measured([row[0] for row in kept], [row[1] for row in kept], [row[2] for row in kept], losses)


def evaluate_labelled(
    detector: Detector, pictures: Sequence[PictureLabels], on_picture: OnPicture | None = None, quiet: bool = False
) -> list[Metric]:
    """`ap` and `ap_64x64`, per cent, over labelled pictures, which the processes share; on the first process alone,
    the others get none."""
    measured = detect_over_processes(detector, pictures, on_picture, "evaluating", quiet)
    return [coco_metric(measured), large_faces_metric(measured)] if rank() == 0 else []


def coco_metric(measured: Measured) -> Metric:
    """The row `ap` of metrics.yaml."""
    detections = {index: (faces.boxes_xyxy, faces.scores) for index, faces in enumerate(measured.found)}
    ap = coco_ap(to_coco(list(measured.pictures)), detections, category_id=1)
    return Metric("ap", "AP @ [IoU=0.50:0.95]", "%", 100 * ap)


def large_faces_metric(measured: Measured) -> Metric:
    """The row `ap_64x64` of metrics.yaml."""
    large = ap_by_height(
        [picture.boxes_xywh for picture in measured.pictures],
        [picture.is_crowd for picture in measured.pictures],
        [faces.boxes_xyxy for faces in measured.found],
        [faces.scores for faces in measured.found],
        min_height=64,
    )
    return Metric("ap_64x64", "AP for faces > 64x64", "%", 100 * large)


def wider_pictures(wider_dir: Path, ground_truth: WiderGroundTruth) -> list[PictureLabels]:
    """The ground truth's pictures, in its order: wider_dir/WIDER_val/images/EVENT/NAME.jpg, and their faces.

    Raises FacekitError that counts those missing.
    """
    images = wider_dir / "WIDER_val" / "images"
    pictures = [
        PictureLabels(
            path=images / f"{name}.jpg",
            size_wh=None,
            boxes_xywh=boxes_xywh,
            landmarks_xy=np.full((len(boxes_xywh), 5, 2), np.nan),
            is_crowd=np.zeros(len(boxes_xywh), dtype=np.bool_),
            attributes=attributes,
            name=f"{name}.jpg",
        )
        for name, boxes_xywh, attributes in zip(
            ground_truth.names,
            ground_truth.boxes_xywh,
            ground_truth.attributes or [None] * len(ground_truth.names),
            strict=True,
        )
    ]
    missing = [picture.path for picture in pictures if not picture.path.is_file()]
    if missing:
        raise FacekitError(
            f"{images}: {len(missing)} of the {len(pictures)} pictures that the WIDER ground truth lists are not on "
            f"the disk; the first is {missing[0]}. Unpack WIDER_val.zip there, or give `wider_gt` a ground truth of "
            f"the pictures that you have."
        )
    return pictures


def result_names(pictures: Sequence[PictureLabels]) -> list[str]:
    """EVENT/NAME of each picture's WIDER result file: its file and the folder above it, `pictures` where there is none.

    Raises FacekitError where two pictures would have one, and for a name that none may have.
    """
    names = [f"{picture.path.parent.name or 'pictures'}/{picture.path.stem}" for picture in pictures]
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        doubled = next(name for name, count in Counter(names).items() if count > 1)
        raise FacekitError(
            f"{doubled}: two pictures would have this one result file. WIDER's layout names a picture by its file and "
            f"the folder above it: rename one, or leave `save_predictions` out."
        )
    return names


def wider_predictions(measured: Measured) -> dict[str, NDArray[np.float64]]:
    """ "EVENT/NAME" -> (N, 5) rows x, y, w, h, score: what result files hold. Raises as result_names."""
    names = result_names(measured.pictures)
    return {name: as_wider_rows(faces) for name, faces in zip(names, measured.found, strict=True)}


def as_wider_rows(faces: Detections) -> NDArray[np.float64]:
    """(N, 5): x, y, w, h, score."""
    boxes = faces.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], faces.scores[:, None]], axis=1)


def wider_metrics(curves: Mapping[str, Curve]) -> list[Metric]:
    """The rows `widerface_e`, `widerface_m`, `widerface_h` of metrics.yaml, of the curves of the three subsets."""
    subsets = {"easy": "widerface_e", "medium": "widerface_m", "hard": "widerface_h"}
    return [Metric(key, f"WiderFace {name.title()}", "%", 100 * curves[name].ap) for name, key in subsets.items()]


def model_metrics(template: Template, weights: Path) -> list[Metric]:
    """`size` and `complexity` of the template's network at the template's input, padded as its protocol pads; of a file
    of others', counted in the file. None without what counts it, which is said."""
    multiple = template.evaluation.size_multiple
    height, width = (-(-side // multiple) * multiple for side in template.input.size_hw)
    if is_foreign(template):
        if find_spec("openvino") is None:
            log.info("Size and complexity are left out: a file of others' is counted by OpenVINO.")
            return []
        counted = file_complexity(weights, (height, width))
        return _complexity(counted.parameters, counted.macs)
    if find_spec("torch") is None:
        log.info("Size and complexity are left out: the network that they are counted of takes PyTorch.")
        return []
    from facekit.models import build_model
    from facekit.ops.complexity import count_macs, count_parameters

    network = build_model(template)
    return _complexity(count_parameters(network), count_macs(network, (height, width)))


def _complexity(parameters: int, macs: int) -> list[Metric]:
    return [
        Metric("size", "Size", "Mp", parameters / 1e6),
        Metric("complexity", "Complexity", "GFLOPs", 2e-9 * macs),
    ]


def metric_value(metrics: Iterable[Metric], key: str) -> float:
    """The value under a key that is there."""
    return next(metric.value for metric in metrics if metric.key == key)
