"""INT8 after training: an exported float file in, a smaller one of the same format out, its losses measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import replacing_set
from facekit.base.progress import progress_bar, working
from facekit.detector import Detector
from facekit.engine.compress.judging import ap_50, measure
from facekit.engine.evaluation.evaluate import Measured
from facekit.errors import FacekitError, Loss
from facekit.labels.learnable import check_countable
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.cores import usable_cores
from facekit.metrics.landmarks import landmark_error
from facekit.pictures.read import read_picture
from facekit.targets import files_of
from facekit.template import Template

SURE = 0.5  # score of the float detector's faces whose landmarks are compared
TIMED_RUNS = 15


@dataclass(frozen=True)
class FileFigures:
    """One row of the table that quantize prints."""

    name: str
    size_bytes: int  # of all files together
    milliseconds: float  # the median of a picture to its faces, both files in turn
    ap_50: float | None  # per cent; None without labels
    pictures: int  # that ap_50 is of
    landmark_error: float | None  # per cent of a face's side, from where the float file puts them


class Roundable(Protocol):
    """A file's graph, of any format."""

    model: Any

    def feed(self, image_bgr: NDArray[np.uint8]) -> Any:
        """What the graph is fed of a picture, as `rounded` wants it."""

    def is_rounded(self, model: Any) -> bool:
        """Whether any layer is INT8."""

    def rounded(
        self, fed: Sequence[Any], pictures: Sequence[PictureLabels], ap_before: float | None, max_drop: float
    ) -> Any:
        """The INT8 graph, ranges read off `fed`; with layers in float where AP at IoU 0.5 of `pictures` would fall by
        more than max_drop points."""

    def save(self, model: Any, path: Path) -> list[Path]:
        """Writes all files of it; path is of the float file's kind."""


def _graph_of(weights: Path, detector: Detector) -> Roundable:
    if weights.suffix.lower() == ".tflite":
        from facekit.engine.compress.tflite_graph import TfliteGraph

        return TfliteGraph(weights, detector)
    from facekit.engine.compress.nncf_graph import NncfGraph

    return NncfGraph(weights, detector)


def quantize_file(
    weights: Path,
    output: Path,
    template: Template | None,
    calibration: Sequence[Path],
    labelled: Sequence[PictureLabels],
    max_drop: float,
) -> tuple[list[Path], list[FileFigures], list[Loss]]:
    """Writes the INT8 file; returns what was written, the rows before and after, and pictures that could not be read.

    Args:
        weights: an .onnx, an .xml beside its .bin, or a .tflite; output is of the same kind.
        calibration: pictures that the ranges of the layers are read off.
        labelled: pictures to measure on. Without any, all layers but the heads' own become INT8, and nothing is
            said of what that cost.
        max_drop: points of AP at IoU 0.5 that may be lost; layers stay in float until no more are.

    Raises FacekitError for a file that can't be run, is INT8 already, or can't be rounded, and for labels in which no
    face counts.
    """
    check_countable(labelled)
    detector = Detector.open(weights, template)
    graph = _graph_of(weights, detector)
    if graph.is_rounded(graph.model):
        raise FacekitError(f"{weights}: is INT8 already. Give the float file that it was made from.")
    inputs, losses, example = _calibration_inputs(graph, calibration)
    before = measure(detector, labelled)
    labelled, losses = before.pictures, [*losses, *before.losses]
    check_countable(labelled)
    try:
        with working(f"INT8: ranges of {len(inputs)} pictures, and AP of {len(labelled)}"):
            model = graph.rounded(inputs, labelled, ap_50(before), max_drop)
    except FacekitError:
        raise
    except Exception as error:  # NNCF's own have no common base
        raise FacekitError(f"{weights}: can't be rounded: {' '.join(str(error).split())[:200]}") from error
    if not graph.is_rounded(model):
        raise FacekitError(
            f"{weights}: no layer can be INT8 without losing more than {max_drop:g} points of AP. Give a larger "
            f"`max_drop`, more pictures, or fine-tune with rounding (`facekit compress`)."
        )
    # Opened aside as users will: what can't be opened, or loses too much, takes no place.
    with replacing_set(output.parent) as together:
        drafts = graph.save(model, together / output.name)
        rounded = Detector.open(drafts[0], template)
        after = measure(rounded, labelled)
        lost = (ap_50(before) or 0) - (ap_50(after) or 0)
        if lost > max_drop + 0.01:
            raise FacekitError(
                f"{weights}: INT8 loses {lost:.2f} points of AP, over the {max_drop:g} of `max_drop`. Give more "
                f"pictures, or fine-tune with rounding (`facekit compress`)."
            )
        times_ms = _times_ms([detector, rounded], example)
    files = [output.with_name(draft.name) for draft in drafts]
    originals = files_of(weights)
    return (
        files,
        [
            FileFigures("float", _bytes(originals), times_ms[0], ap_50(before), len(labelled), None),
            FileFigures("INT8", _bytes(files), times_ms[1], ap_50(after), len(labelled), _moved(before, after)),
        ],
        losses,
    )


def _calibration_inputs(
    graph: Roundable, calibration: Sequence[Path]
) -> tuple[list[Any], list[Loss], NDArray[np.uint8]]:
    """What the graph is fed of each picture that can be read, the others, and the first that can. Raises FacekitError
    where none can."""
    inputs, losses, example = [], [], None
    for path in progress_bar(calibration, delay_s=2, desc="calibration pictures", unit="picture"):
        try:
            image_bgr = read_picture(path)
            inputs.append(graph.feed(image_bgr))
        except FacekitError as error:
            losses.append(Loss.of(path, error))
            continue
        example = image_bgr if example is None else example
    if example is None:
        raise FacekitError(f"`calibration_data`: not one of {len(calibration)} pictures can be read. {losses[0]}")
    return inputs, losses, example


def _moved(before: Measured, after: Measured) -> float | None:
    """How far landmarks have moved, on faces that both find, in per cent of a face's side."""
    sure = [faces.take(faces.scores >= SURE) for faces in before.found]
    points = [faces.landmarks_xy for faces in sure if faces.landmarks_xy is not None]
    moved = [faces.landmarks_xy for faces in after.found if faces.landmarks_xy is not None]
    if not sum(map(len, points)) or len(moved) < len(after.found):
        return None
    boxes = [np.concatenate([f.boxes_xyxy[:, :2], f.boxes_xyxy[:, 2:] - f.boxes_xyxy[:, :2]], axis=1) for f in sure]
    error = landmark_error(
        boxes, [np.zeros(len(faces), bool) for faces in sure], points,
        [faces.boxes_xyxy for faces in after.found], [faces.scores for faces in after.found], moved,
    )  # fmt: skip
    return error.nme_percent


def _times_ms(detectors: Sequence[Detector], image_bgr: NDArray[np.uint8]) -> list[float]:
    times: list[list[float]] = [[] for _ in detectors]
    for turn in range(TIMED_RUNS + 2):
        for place, detector in enumerate(detectors):
            started = time.perf_counter()
            detector.detect(image_bgr)
            if turn >= 2:  # warm by then
                times[place].append(1e3 * (time.perf_counter() - started))
    return [statistics.median(each) for each in times]


def _bytes(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def format_figures(rows: Sequence[FileFigures], protocol: str) -> str:
    """The table before and after."""

    def shown(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [f"{'':<6} {'KiB, all files':>14} {'ms':>8} {'AP@0.5 %':>9} {'landmarks moved %':>18}"]
    lines += [
        f"{row.name:<6} {row.size_bytes / 1024:>14.1f} {row.milliseconds:>8.2f} {shown(row.ap_50, 2):>9} "
        f"{shown(row.landmark_error, 2):>18}"
        for row in rows
    ]
    told = f"{rows[0].pictures} pictures; {protocol}; ms: a picture to its faces, in turn, {usable_cores()} thread(s)"
    return "\n".join([*lines, f"protocol: {told}"])
