"""An evaluation from weights to figures: a record, metrics.yaml, pictures with boxes and WIDER result files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import check_writable_folder
from facekit.cluster.pool import Workers, workers_of
from facekit.detector import Detector, Passes
from facekit.engine.evaluation.details import Details, wider_curve_points, wider_rows
from facekit.engine.evaluation.evaluate import (
    Measured,
    OnPicture,
    coco_metric,
    detect_over_processes,
    model_metrics,
    result_names,
    wider_metrics,
    wider_pictures,
    wider_predictions,
)
from facekit.engine.evaluation.options import EvaluateOptions
from facekit.engine.evaluation.published import published_figures
from facekit.errors import ArgumentError, FacekitError, Loss, counted
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.environment import describe, environment, versions
from facekit.machine.processes import is_one_of_several, join_processes, leave_processes, lost_process, rank
from facekit.metrics.wider import (
    WiderGroundTruth,
    find_wider_ground_truth,
    read_wider_ground_truth,
    wider_curves,
)
from facekit.pictures.draw import draw_faces
from facekit.pictures.write import WRITTEN_SUFFIXES, check_replaceable, write_picture
from facekit.protocol import at_scale, with_thresholds
from facekit.records.evaluation import CurvePoints, EvaluationRecord, GroupRow, Metric
from facekit.records.metrics_yaml import format_table, read_metrics, weight_files, write_metrics
from facekit.results.existing import check_replaceable_report
from facekit.results.names import Names
from facekit.results.wider import check_wider_folder, write_predictions
from facekit.structures import Detections
from facekit.targets import takes_threads
from facekit.targets.table import TARGETS
from facekit.template import Template


@dataclass(frozen=True)
class Measurement:
    """What came out."""

    record: EvaluationRecord
    table: str  # of the figures, with their protocol
    losses: list[Loss]  # labelled pictures that can't be read: the figures are of the others


def measure(
    template: Template, weights: Path, pictures: list[PictureLabels], options: EvaluateOptions
) -> Measurement | None:
    """Runs the evaluations asked for and writes what is asked for, but the page.

    Processes that were started together, by torchrun or srun, share the pictures; the first one has the figures, the
    others return None. Raises FacekitError for weights, pictures or ground truth that are missing or don't fit.
    """
    # A process alone leaves it to the runtime what it computes on: not all of them know PyTorch.
    device = str(join_processes()) if is_one_of_several() else None
    try:
        return _measure(template, weights, pictures, options, device)
    except RuntimeError as error:
        if (lost := lost_process(error, "Start all again.")) is not None:
            raise lost from error
        raise
    finally:
        leave_processes()


def _measure(
    own: Template, weights: Path, pictures: list[PictureLabels], options: EvaluateOptions, device: str | None
) -> Measurement | None:
    workers = workers_of(options)
    _check_destinations(options)
    template = with_thresholds(
        at_scale(own, options.scale), options.score_threshold, options.nms_threshold, options.max_detections
    )
    passes = Passes(options.multi_scale, options.flip)
    detector = Detector.open(weights, template, device, passes, options.threads, options.backend)
    if detector.backend.suppresses:
        _check_thresholds(own, options)
    ground_truth = None
    if options.wider_dir is not None:
        ground_truth = read_wider_ground_truth(find_wider_ground_truth(options.wider_gt or options.wider_dir))
        to_measure = wider_pictures(options.wider_dir, ground_truth)  # complains before anything is run
    elif options.save_predictions is not None:
        result_names(pictures)  # so does this
    look = _looking(detector, weights, workers, options)
    labelled = wider = None
    drawers = [
        _drawer(options, kind, to_draw)
        for kind, to_draw in (("labelled", pictures), ("wider", [] if ground_truth is None else to_measure))
    ]
    if pictures:
        labelled = look(pictures, drawers[0], "evaluating", skip_unreadable=True)
    if ground_truth is not None:
        wider = look(to_measure, drawers[1], "WIDER FACE")
    if rank() > 0:
        return None
    record = _record(own, detector, weights, labelled, wider, ground_truth, options)
    _write(record, weights, labelled, wider, options)
    losses = [*(labelled.losses if labelled else []), *(ground_truth.losses() if ground_truth else []),
              *detector.losses()]  # fmt: skip
    if labelled is not None and all(picture.is_crowd.all() for picture in labelled.pictures):
        names = ", ".join(map(str, options.test_ann_files))
        losses = [*losses, Loss(names, "no face of the labels counts: AP and recall have no value")]
    return Measurement(record, format_table(record, weights), losses)


def _looking(
    detector: Detector, weights: Path, workers: Workers | None, options: EvaluateOptions
) -> Callable[..., Measured]:
    """What finds the faces of pictures: this process and those started with it, or a cluster's workers."""
    if workers is None:
        return partial(detect_over_processes, detector, batch_size=options.batch_size)
    from facekit.cluster.packed import PackedDetector
    from facekit.engine.evaluation.over_cluster import detect_over_cluster

    if is_one_of_several():
        raise ArgumentError("`engine=ray` starts its workers itself: leave torchrun or srun out.")
    threads = options.threads or (workers.cpus if takes_threads(weights, options.backend) else None)
    packed = PackedDetector.of(weights, detector.template, detector.passes, threads, options.backend)
    return partial(
        detect_over_cluster, packed, workers=workers, shard_size=options.shard_size, batch_size=options.batch_size
    )


def _check_thresholds(own: Template, options: EvaluateOptions) -> None:
    """Raises ArgumentError for thresholds that a graph which suppresses boxes itself can't have: the protocol beside
    the figures would be none that was followed. A higher score only drops boxes that dropped no others."""
    rule, asked = own.evaluation, options.nms_threshold
    is_lower = options.score_threshold is not None and options.score_threshold < rule.score_threshold
    if is_lower or (asked is not None and asked != rule.nms_iou_threshold):
        name = "score_threshold" if is_lower else "nms_threshold"
        raise ArgumentError(
            f"`{name}`: {options.load_weights} suppresses boxes itself, at score {rule.score_threshold:g} and NMS "
            f"{rule.nms_iou_threshold:g}. Leave it out, or measure a file without suppression inside."
        )


def _check_destinations(options: EvaluateOptions) -> None:
    """Refused now rather than after an hour of measuring."""
    files = (options.save_metrics_to, options.report)
    for folder in (*(file and file.parent for file in files), options.save_output_to, options.save_predictions):
        if folder is not None:
            check_writable_folder(folder)
    if options.save_predictions is not None:
        check_wider_folder(options.save_predictions)
    if options.save_metrics_to is not None:
        read_metrics(options.save_metrics_to)
    check_replaceable_report("page", options.report)
    if options.report is not None and options.report.suffix.lower() not in (".html", ".htm"):
        raise FacekitError(f"`report={options.report}`: a page is written; give it a name that ends in .html.")


def _runtime(weights: Path, detector: Detector, options: EvaluateOptions) -> str:
    """The file's kind, and what ran it where that was chosen."""
    kind = weights.suffix.lower().lstrip(".")
    if options.backend is None:
        return kind
    module = type(detector.backend).__module__.rpartition(".")[2]
    return f"{kind} by {next((target.name for target in TARGETS.values() if target.module == module), module)}"


def _record(
    own: Template,
    detector: Detector,
    weights: Path,
    labelled: Measured | None,
    wider: Measured | None,
    ground_truth: WiderGroundTruth | None,
    options: EvaluateOptions,
) -> EvaluationRecord:
    template = detector.template
    metrics: list[Metric] = []
    groups: list[GroupRow] = []
    curves: list[CurvePoints] = []
    sets = []
    if labelled is not None:
        metrics.append(coco_metric(labelled))
        sets.append(set_words("labelled", labelled.pictures, options.test_ann_files, len(labelled.losses)))
    if wider is not None and ground_truth is not None:
        predictions = wider_predictions(wider)
        official = wider_curves(predictions, ground_truth)
        curves = wider_curve_points(official)
        metrics += wider_metrics(official)
        groups = wider_rows(predictions, ground_truth)
        sets.append(set_words("WIDER", wider.pictures))
    shown = labelled or wider  # the details are the labelled set's where both were measured
    assert shown is not None
    details = Details(shown)
    if labelled is not None:
        curves.append(details.curve_points())
    published, published_note = published_figures(
        own, detector.protocol(), labelled.pictures if labelled else None, wider.pictures if wider else None
    )
    # Before the network is built, which takes PyTorch: the versions are of what the measuring took.
    found = environment(_device_name())
    metrics += [*details.metrics(), *model_metrics(template, weights)]
    preset = f"scale {options.scale}: {detector.protocol()}"
    runtime = _runtime(weights, detector, options)
    file = weight_files(weights)[-1]  # an IR's .bin, as its .xml knows the network alone
    return EvaluationRecord(
        detector=template.name,
        summary=template.summary,
        weights=file["name"],
        weights_sha256=file["sha256"],
        runtime=runtime,
        protocol=f"{preset}; {', '.join(sets)}; {runtime}",
        sets=tuple(sets),
        measured_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=versions(found),
        machine=describe(found),
        metrics=tuple(metrics),
        published=published,
        published_note=published_note,
        curves=tuple(curves),
        groups=(*details.groups(), *groups),
        calibration=tuple(details.calibration()),
        thresholds=tuple(details.thresholds(template.evaluation.score_threshold)),
        crops=tuple(details.crops(options.threshold)) if options.report is not None else (),
    )


def set_words(kind: str, pictures: Sequence[PictureLabels], files: Sequence[Path] = (), lost: int = 0) -> str:
    """Such as "12 labelled pictures, 1 unreadable left out, 34 faces, 2 crowds ignored (own/labels.json)"."""
    crowds = sum(int(picture.is_crowd.sum()) for picture in pictures)
    faces = sum(len(picture.is_crowd) for picture in pictures) - crowds
    ignored = f", {counted(crowds, 'crowd')} ignored" if crowds else ""
    # With the folder, as many sets have a file of the same name; without what lies above it, which is the user's own.
    names = ", ".join("/".join(path.resolve().parts[-2:]) for path in files)
    of = f" ({names})" if names else ""
    unread = f", {lost} unreadable left out" if lost else ""
    return f"{counted(len(pictures), f'{kind} picture')}{unread}, {counted(faces, 'face')}{ignored}{of}"


def _device_name() -> str:
    """What PyTorch computed on, where it took part."""
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def _write(
    record: EvaluationRecord, weights: Path, labelled: Measured | None, wider: Measured | None, options: EvaluateOptions
) -> None:
    for folder in (options.save_predictions, options.save_output_to and options.save_output_to / "wider_predictions"):
        if folder is None:
            continue
        if wider is not None:
            write_predictions(folder, wider_predictions(wider))
        elif labelled is not None and folder == options.save_predictions:
            write_predictions(folder, wider_predictions(labelled))
    if options.save_metrics_to is not None:
        write_metrics(options.save_metrics_to, weights, record)


def _drawer(options: EvaluateOptions, kind: str, pictures: list[PictureLabels]) -> OnPicture | None:
    """Each picture goes to FOLDER/NAME, numbered where two are called so. Raises FacekitError where one of the files is
    there and facekit didn't write it."""
    if options.save_output_to is None:
        return None
    names = Names()
    targets = {
        picture.path: options.save_output_to / kind / names.of_file(
            f"{picture.path.parent.name}/{picture.path.name}", WRITTEN_SUFFIXES, ".jpg"
        )
        for picture in pictures
    }  # fmt: skip
    for target in targets.values():
        check_replaceable(target)

    def draw(path: Path, image_bgr: NDArray[np.uint8], faces: Detections) -> None:
        write_picture(targets[path], draw_faces(image_bgr, faces.above(options.threshold)))

    return draw
