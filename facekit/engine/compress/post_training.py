"""INT8 after training: an exported float file in, a smaller one of the same format out, its losses measured.

NNCF rounds the graph of the file itself, ONNX or OpenVINO's; where that costs too much it finds the layers to blame and
leaves them in float (its accuracy control).
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.base.progress import progress_bar, working
from facekit.detector import Detector
from facekit.engine.compress.heads import head_layers, nodes_of_onnx, nodes_of_openvino
from facekit.engine.evaluation.details import Details
from facekit.engine.evaluation.evaluate import Measured, detect_pictures
from facekit.errors import FacekitError
from facekit.feed import prepare
from facekit.labels.picture_labels import PictureLabels
from facekit.machine.cores import usable_cores
from facekit.metrics.landmarks import landmark_error
from facekit.pictures.read import read_picture
from facekit.targets.nncf_ import nncf
from facekit.targets.onnx import OnnxBackend
from facekit.targets.openvino import OpenVinoBackend, save_ir, the_core
from facekit.targets.reading.about import about_export
from facekit.template import Template

log = logging.getLogger(__name__)

SURE = 0.5  # score of the float detector's faces whose landmarks are compared
TIMED_RUNS = 15
ROUNDING_NODES = ("QuantizeLinear", "FakeQuantize")


@dataclass(frozen=True)
class FileFigures:
    """One row of the table that quantize prints."""

    name: str
    size_bytes: int  # of all files together
    milliseconds: float  # the median of a picture to its faces, both files in turn
    ap_50: float | None  # per cent; None without labels
    landmark_error: float | None  # per cent of a face's side, from where the float file puts them


class _Graph:
    """A file's graph as NNCF takes it."""

    def __init__(self, weights: Path, detector: Detector) -> None:
        self.weights, self.detector = weights, detector
        self.is_onnx = weights.suffix.lower() == ".onnx"
        self.model, kinds = _read(weights)
        if kinds & set(ROUNDING_NODES):
            raise FacekitError(f"{weights}: is INT8 already. Give the float file that it was made from.")

    def feed(self, image_bgr: NDArray[np.uint8]) -> Any:
        """What the graph is fed of a picture, as calibration wants it."""
        backend = cast(OnnxBackend | OpenVinoBackend, self.detector.backend)
        blob = backend.outputs.feed(prepare(image_bgr, self.detector.template)[0][None])
        return {cast(OnnxBackend, backend).input_name: blob} if self.is_onnx else blob

    def heads(self) -> list[str]:
        """Layers to leave in float whatever AP says: landmarks need them, and AP doesn't know of these."""
        return head_layers(*(nodes_of_onnx if self.is_onnx else nodes_of_openvino)(self.model))

    def judge_of(self, pictures: Sequence[PictureLabels]) -> Callable[[Any, Iterable[int]], float]:
        """NNCF's validation: the AP at IoU 0.5, 0..1, of a graph of its making on pictures of these numbers."""

        def judge(model: Any, numbers: Iterable[int]) -> float:
            chosen = [pictures[number] for number in numbers]
            with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
                return (ap_50(_detect(self._open(model, Path(scratch)), chosen)) or 0.0) / 100

        return judge

    def _open(self, model: Any, scratch: Path) -> Detector:
        if self.is_onnx:
            import onnx

            onnx.save(model, scratch / "model.onnx")
            return Detector.open(scratch / "model.onnx", self.detector.template)
        return Detector(cast(OpenVinoBackend, self.detector.backend).in_network(model), self.detector.template)

    def save(self, model: Any, path: Path) -> list[Path]:
        if self.is_onnx:
            import onnx

            with replacing(path) as beside:
                onnx.save(model, beside)
            return [path]
        about = about_export(self.detector.backend.template, self.detector.backend.fixed_size_hw)
        save_ir(model, path.with_suffix(".xml"), about)
        return [path.with_suffix(".xml"), path.with_suffix(".bin")]


def _read(weights: Path) -> tuple[Any, set[str]]:
    """The file's graph, and the kinds of its nodes."""
    if weights.suffix.lower() == ".onnx":
        import onnx

        model = onnx.load(weights)
        return model, {node.op_type for node in model.graph.node}
    graph = the_core().read_model(weights.with_suffix(".xml"))
    return graph, {node.get_type_name() for node in graph.get_ops()}


def quantize_file(
    weights: Path,
    output: Path,
    template: Template | None,
    calibration: Sequence[Path],
    labelled: Sequence[PictureLabels],
    max_drop: float,
) -> tuple[list[Path], list[FileFigures]]:
    """Writes the INT8 file; returns what was written and the rows before and after.

    Args:
        weights: an .onnx, or an .xml beside its .bin; output is of the same kind.
        calibration: pictures that the ranges of the layers are read off.
        labelled: pictures to measure on. Without any, all layers become INT8 and nothing is said of what that cost.
        max_drop: points of AP at IoU 0.5 that may be lost; layers stay in float until no more are.

    Raises FacekitError for a file that can't be run, is INT8 already, or can't be rounded.
    """
    detector = Detector.open(weights, template)
    graph = _Graph(weights, detector)
    read = progress_bar(calibration, delay_s=2, desc="calibration pictures", unit="picture")
    inputs = [graph.feed(read_picture(path)) for path in read]
    before = _detect(detector, labelled)
    try:
        with working(f"INT8: ranges of {len(inputs)} pictures, and AP of {len(labelled)}"):
            model = _quantized(graph, inputs, labelled, max_drop)
    except FacekitError:
        raise
    except Exception as error:  # NNCF's own have no common base
        raise FacekitError(f"{weights}: NNCF can't round it: {' '.join(str(error).split())[:200]}") from error
    with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
        draft = graph.save(model, Path(scratch) / output.name)[0]
        if not _read(draft)[1] & set(ROUNDING_NODES):
            raise FacekitError(
                f"{weights}: no layer can be INT8 without losing more than {max_drop:g} points of AP. Give a larger "
                f"`max_drop`, more pictures, or fine-tune with rounding (`facekit compress`)."
            )
        after = _detect(Detector.open(draft, detector.template), labelled)
    lost = (ap_50(before) or 0) - (ap_50(after) or 0)
    if lost > max_drop + 0.01:
        raise FacekitError(
            f"{weights}: INT8 loses {lost:.2f} points of AP, over the {max_drop:g} of `max_drop`. Give more pictures, "
            f"or fine-tune with rounding (`facekit compress`)."
        )
    files = graph.save(model, output)
    rounded = Detector.open(files[0], detector.template)
    times_ms = _times_ms([detector, rounded], read_picture(calibration[0]))
    originals = [weights] if graph.is_onnx else [weights.with_suffix(suffix) for suffix in (".xml", ".bin")]
    return files, [
        FileFigures("float", _bytes(originals), times_ms[0], ap_50(before), None),
        FileFigures("INT8", _bytes(files), times_ms[1], ap_50(after), _moved(before, after)),
    ]


def _quantized(graph: _Graph, inputs: list[Any], labelled: Sequence[PictureLabels], max_drop: float) -> Any:
    # Symmetric: asymmetric activations gained at most 0.2 points of AP (face-detection-0200; yunet-n lost 0.3), and
    # took a fifth longer. Layers that cost too much are found below all the same.
    options: dict[str, Any] = {"preset": nncf.QuantizationPreset.PERFORMANCE, "subset_size": len(inputs)}
    if heads := graph.heads():
        options["ignored_scope"] = nncf.IgnoredScope(names=heads)
    if not labelled:
        return nncf.quantize(graph.model, nncf.Dataset(inputs), **options)
    return nncf.quantize_with_accuracy_control(
        graph.model, nncf.Dataset(inputs), nncf.Dataset(range(len(labelled))), graph.judge_of(labelled),
        max_drop=max_drop / 100, **options,
    )  # fmt: skip


def _detect(detector: Detector, pictures: Sequence[PictureLabels]) -> Measured:
    return detect_pictures(detector, pictures, "measuring", quiet=True)


def ap_50(measured: Measured) -> float | None:
    """Per cent; None without pictures."""
    return 100 * Details(measured).voc.ap if measured.pictures else None


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
    cores = usable_cores()
    return "\n".join([*lines, f"protocol: {protocol}; ms: a picture to its faces, in turn, {cores} thread(s)"])
