"""Others' files: what each known kind looks like, what it is fed with, and what its numbers mean.

A literal table. A file is of a kind where the shapes, types and values of its outputs are that kind's and no other's;
what the file can't tell is asked for. Decoding is the one path of all detectors: a head, as templates declare it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from yaml import MappingNode

from facekit.base.nearest import did_you_mean
from facekit.base.schema import Section
from facekit.errors import FacekitError
from facekit.ops.arrays import as_numpy
from facekit.ops.head import declared_head
from facekit.structures import Decoded
from facekit.targets.reading.outputs import FINDS, FOREIGN, GraphInput, GraphOutputs, check_size, described, is_foreign
from facekit.targets.reading.packings import (
    Arrays,
    Find,
    Packing,
    anchor_boxes,
    anchor_maps,
    centre_maps,
    deltas,
    deltas_and_overlaps,
    detection_output,
    fractions,
    levels,
    scored_boxes,
)
from facekit.template import (
    AugmentationSettings,
    DeltaCoding,
    DistanceCoding,
    EvaluationSettings,
    HeadSettings,
    InputSettings,
    ModelSettings,
    Sgd,
    SigmoidCoding,
    StepDecay,
    Template,
    TrainingSettings,
    WholeFaceCrop,
)

log = logging.getLogger(__name__)

PROBE_SIZE_HW = (128, 192)  # of graphs of any size: multiples of every stride, and no two levels of one count
SCORE_SLACK = 0.01

Run = Callable[[NDArray[np.float32]], Arrays]


@dataclass(frozen=True)
class GraphFacts:
    """What a runtime knows of a graph beside its outputs."""

    source: str  # for messages
    takes: GraphInput
    # What the converter wrote into the file: that channels are reversed, and pixels scaled, inside it.
    reverses_channels: bool = False
    scales_pixels: bool = False


@dataclass(frozen=True)
class Layout:
    """One kind of foreign files."""

    name: str
    summary: str
    find: Find
    head: HeadSettings
    prior_sizes_wh: tuple[tuple[tuple[float, float], ...], ...]  # pixels, a list a level
    input: InputSettings  # of files that don't say that they normalise themselves
    evaluation: EvaluationSettings
    is_sure_of_input: bool = True  # False: files of this look differ in what they take; the converter's word decides

    def template(self, facts: GraphFacts | None = None) -> Template:
        """As the template that everything else goes by, for the file's own size; never trained."""
        settings = self.input
        if facts is not None:
            settings = dataclasses.replace(
                settings,
                size_hw=facts.takes.fixed_size_hw or settings.size_hw,
                colour_order="bgr" if facts.reverses_channels else settings.colour_order,
                mean=(0, 0, 0) if facts.scales_pixels else settings.mean,
                std=(1, 1, 1) if facts.scales_pixels else settings.std,
            )
        options = Section(Path(self.name), "model.options", MappingNode("tag:yaml.org,2002:map", []))
        model = ModelSettings(FOREIGN, self.prior_sizes_wh, options, None, self.head)
        return Template(
            self.name, self.summary, model, settings, _NO_TRAINING, _NO_AUGMENTATION, self.evaluation, (), (), 0
        )


_NO_TRAINING = TrainingSettings(Sgd("sgd", 0, 0), 1, 1e-6, 1, 0, 0, StepDecay("step", (), 1))
_NO_AUGMENTATION = AugmentationSettings(0, None, WholeFaceCrop("whole_face", (1,), 1))


def _squares(*levels_of_sides: tuple[float, ...]) -> tuple[tuple[tuple[float, float], ...], ...]:
    return tuple(tuple((side, side) for side in sides) for sides in levels_of_sides)


def _input(size_hw: tuple[int, int], order: Literal["rgb", "bgr"], mean: Sequence[float], std: float) -> InputSettings:
    return InputSettings(size_hw, order, (mean[0], mean[1], mean[2]), (std, std, std))


_RAW, _HALF, _CAFFE = (0, 0, 0), (127.5, 127.5, 127.5), (104, 117, 123)
_SSD, _GRID = DeltaCoding("delta", 0.1, 0.2), DeltaCoding("delta", 1.0, 1.0)
_SUPPRESSED = HeadSettings((16,), 0.5, _SSD, "softmax", "decoded")  # boxes come ready: its priors decode nothing
_MULTIBOX_SIDES = _squares((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
_ULTRA = HeadSettings(
    (8, 16, 32, 64), 0.5, _SSD, "softmax", "decoded", face_column=1, fits_cells=True
)  # fmt: skip
_RETINA = HeadSettings((8, 16, 32), 0.5, _SSD, "softmax", "per_level", face_column=1, has_landmarks=True)
_YOLO = HeadSettings(
    (8, 16, 32), 0.0, SigmoidCoding("sigmoid"), "sigmoid", "per_level", has_objectness=True, has_landmarks=True
)
_YOLO_ANCHORS = (
    ((4, 5), (8, 10), (13, 16)), ((23, 29), (43, 55), (73, 105)), ((146, 217), (231, 300), (335, 433)),
)  # fmt: skip

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "yunet", "YuNet of 2023: class, objectness, box and points of three levels (github.com/ShiqiYu/"
            "libfacedetection.train; face_detection_yunet_2023mar of OpenCV's zoo).",
            levels,
            HeadSettings((8, 16, 32), 0.0, _GRID, "sigmoid", "per_level", has_objectness=True, has_landmarks=True),
            _squares((8,), (16,), (32,)),
            _input((640, 640), "bgr", _RAW, 1),
            EvaluationSettings("none", 0.02, 0.45, size_multiple=32),
        ),
        Layout(
            "yunet-2022", "YuNet of 2022: loc, conf, iou (face_detection_yunet_2022mar of OpenCV's zoo).",
            deltas_and_overlaps,
            HeadSettings((8, 16, 32, 64), 0.5, _SSD, "softmax", "per_level", face_column=1, has_objectness=True,
                         has_landmarks=True, floors_cells=True),
            _MULTIBOX_SIDES,
            _input((320, 320), "bgr", _RAW, 1),
            EvaluationSettings("none", 0.02, 0.3, size_multiple=32),
        ),
        Layout(
            "scrfd", "SCRFD, with landmarks or without: two priors a cell (github.com/deepinsight/insightface).",
            levels,
            HeadSettings((8, 16, 32), 0.0, DistanceCoding("distance", True), "sigmoid", "per_level",
                         has_landmarks=True),
            _squares((16, 32), (64, 128), (256, 512)),
            _input((640, 640), "rgb", _HALF, 128),
            EvaluationSettings("letterbox", 0.02, 0.45, size_multiple=32),
        ),
        Layout(
            "yolo5face", "YOLO5Face, the maps before the sigmoid (github.com/deepcam-cn/yolov5-face).",
            anchor_maps, _YOLO, _YOLO_ANCHORS,
            _input((640, 640), "rgb", _RAW, 255),
            EvaluationSettings("letterbox", 0.02, 0.5, size_multiple=32),
        ),
        Layout(
            "yolo5face-boxes", "YOLO5Face, decoded and concatenated in the graph (github.com/deepcam-cn/yolov5-face).",
            anchor_boxes, _YOLO, _YOLO_ANCHORS,
            _input((640, 640), "rgb", _RAW, 255),
            EvaluationSettings("letterbox", 0.02, 0.5, size_multiple=32),
        ),
        Layout(
            "retinaface", "RetinaFace of three levels: boxes, classes, points (github.com/biubug6/Pytorch_Retinaface).",
            deltas, _RETINA, _squares((16, 32), (64, 128), (256, 512)),
            _input((640, 640), "bgr", _CAFFE, 1),
            EvaluationSettings("none", 0.02, 0.4),
        ),
        Layout(
            "retinaface-2-level", "RetinaFace of two levels, strides 16 and 32: boxes, classes, points.",
            deltas, dataclasses.replace(_RETINA, strides=(16, 32)), _squares((64, 128), (256, 512)),
            _input((640, 640), "bgr", _CAFFE, 1),
            EvaluationSettings("none", 0.02, 0.4),
        ),
        Layout(
            "ultra-light", "Ultra-Light-Fast, boxes in fractions of the picture (github.com/Linzaer/"
            "Ultra-Light-Fast-Generic-Face-Detector-1MB).",
            fractions, _ULTRA, _MULTIBOX_SIDES,
            _input((240, 320), "rgb", (127, 127, 127), 128),
            EvaluationSettings("stretch", 0.1, 0.3, nms_union_slack=1e-5, max_candidates=800, max_detections=400),
        ),
        Layout(
            "ultra-light-deltas", "Ultra-Light-Fast without its post-processing, from the same place.",
            deltas, _ULTRA, _MULTIBOX_SIDES,
            _input((240, 320), "rgb", (127, 127, 127), 128),
            EvaluationSettings("stretch", 0.1, 0.3, nms_union_slack=1e-5, max_candidates=800, max_detections=400),
        ),
        Layout(
            "centerface", "CenterFace: heat, size, offset, points (github.com/Star-Clouds/CenterFace).",
            centre_maps,
            HeadSettings((4,), 0.5, _GRID, "sigmoid", "per_level", has_landmarks=True, clips_boxes=True),
            _squares((4,)),
            _input((640, 640), "rgb", _RAW, 1),
            EvaluationSettings("none", 0.05, 0.3, size_multiple=32),
        ),
        Layout(
            "open-model-zoo-ssd", "An SSD of the Open Model Zoo that takes BGR pixels, its DetectionOutput inside.",
            detection_output, _SUPPRESSED, _squares((16,)),
            _input((300, 300), "bgr", _RAW, 1),
            EvaluationSettings("stretch", 0.02, 0.45, max_detections=200), is_sure_of_input=False,
        ),
        Layout(
            "opencv-res10", "OpenCV's res10 SSD, which takes BGR minus (104, 117, 123), its DetectionOutput inside.",
            detection_output, _SUPPRESSED, _squares((16,)),
            _input((300, 300), "bgr", _CAFFE, 1),
            EvaluationSettings("stretch", 0.02, 0.45, max_detections=200), is_sure_of_input=False,
        ),
        Layout(
            "open-model-zoo-boxes", "A detector of the Open Model Zoo that takes BGR pixels and gives boxes with "
            "scores beside labels (face-detection-0205, 0206).",
            scored_boxes, _SUPPRESSED, _squares((16,)),
            _input((416, 416), "bgr", _RAW, 1),
            EvaluationSettings("stretch", 0.02, 0.45, max_detections=200), is_sure_of_input=False,
        ),
    )
}  # fmt: skip


def find_layout(name: str) -> Layout:
    """The one of that name. Raises FacekitError that lists them."""
    if name not in LAYOUTS:
        raise FacekitError(
            f"`layout={name}`: no such layout.{did_you_mean(name, LAYOUTS)} Known: {', '.join(LAYOUTS)}."
        )
    return LAYOUTS[name]


def read_graph(given: Template | Layout | None, facts: GraphFacts, run: Run) -> GraphOutputs:
    """How a graph's outputs are read: by the template or the layout that the user gives or the file names, or else by
    the layout that alone fits. `run` runs one blob (1, 3, H, W) and gives the outputs by their names.

    Raises FacekitError for outputs that fit none, for those that fit several, and for what the template can't feed.
    """
    if isinstance(given, Layout):
        return _recognised([given], facts, run, is_told=True)
    if given is None:
        return _recognised(list(LAYOUTS.values()), facts, run, is_told=False)
    outputs = GraphOutputs(given, facts.source, [LAYOUTS[given.name].find] if is_foreign(given) else FINDS)
    check_size(facts.takes.fixed_size_hw, given, facts.source)
    size_hw = outputs.example_size(facts.takes.fixed_size_hw)
    outputs.recognise(run(np.zeros((1, 3, *size_hw), dtype=np.float32)), size_hw)
    return outputs


def _recognised(layouts: Sequence[Layout], facts: GraphFacts, run: Run, is_told: bool) -> GraphOutputs:
    if facts.takes.is_uint8:  # normalised inside, in a way that nothing tells
        raise FacekitError(f"{facts.source}: takes uint8 pictures and says nothing of its template. Give it.")
    size_hw = facts.takes.fixed_size_hw or PROBE_SIZE_HW
    arrays = run(_probe(size_hw))
    found: list[tuple[Layout, Packing]] = []
    doubts = []
    for layout in layouts:
        packing = layout.find(arrays, size_hw, declared_head(layout.template().model))
        if packing is None:
            continue
        if doubt := _scores_doubt(layout, packing, arrays, size_hw):
            doubts.append(f"laid out like {layout.name}, but {doubt}")
            continue
        found.append((layout, packing))
    if not found:
        raise FacekitError(_nothing_fits(layouts, facts.source, arrays, doubts, is_told))
    layout, packing = found[0] if is_told else _the_one(found, facts)
    template = layout.template(facts)
    outputs = GraphOutputs(template, facts.source, [layout.find])
    outputs.packing = packing
    if not is_told:
        log.info("%s: read as %s: %s %s", facts.source, layout.name, layout.summary, _fed(template.input))
    return outputs


def _probe(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """A smooth picture of -1..1, which no network takes amiss, whatever it is made for."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]].astype(np.float32)
    planes = [np.sin(x / (9 + channel)) * np.cos(y / (7 + 2 * channel)) for channel in range(3)]
    return np.stack(planes)[None].astype(np.float32)


def _scores_doubt(layout: Layout, packing: Packing, arrays: Arrays, size_hw: tuple[int, int]) -> str:
    """What is wrong with the scores of a picture, if anything."""
    with np.errstate(all="ignore"):
        said = packing.read([arrays[name] for name in packing.names], size_hw)
        parts = [said.scores] if isinstance(said, Decoded) else [said.class_probabilities, said.objectness]
    for scores in (as_numpy(part) for part in parts if part is not None):
        if not np.isfinite(scores).all():
            return "its scores are not all numbers. Look for a diverged training, or a broken export"
        if scores.size and not -SCORE_SLACK <= scores.min() <= scores.max() <= 1 + SCORE_SLACK:
            return f"its scores, {scores.min():.3g} to {scores.max():.3g}, are no probabilities"
    return ""


def _the_one(found: Sequence[tuple[Layout, Packing]], facts: GraphFacts) -> tuple[Layout, Packing]:
    """The only one that it can be. Raises FacekitError that asks for it where the file leaves something open."""
    zoo = [pair for pair in found if pair[0].name.startswith("open-model-zoo")]
    if zoo and facts.reverses_channels:  # the converter's word that pixels are BGR, and normalised inside
        return zoo[0]
    (layout, packing), *others = found
    if not others and layout.is_sure_of_input and not packing.unsure:
        return layout, packing
    open_question = packing.unsure or "what pixels it takes: colour order, mean and scale"
    choices = "; or ".join(f"{layout.name} ({layout.summary.rstrip('.')})" for layout, _ in found)
    raise FacekitError(f"{facts.source}: the file can't tell {open_question}. Say `layout`: {choices}.")


def _nothing_fits(layouts: Sequence[Layout], source: str, arrays: Arrays, doubts: Sequence[str], is_told: bool) -> str:
    if doubts:
        return f"{source}: {doubts[0]}. Give its `template` if it is facekit's; else it can't be read."
    got = f"got {described(arrays)}"
    if is_told:
        return f"{source}: its outputs are not laid out like {layouts[0].name}: {layouts[0].summary} Here: {got}."
    names = ", ".join(layout.name for layout in layouts)
    return (
        f"{source}: says nothing of its template, and its outputs are laid out like no detector's that is known "
        f"({names}); {got}. Give its template, such as yunet-n, or export it without other post-processing."
    )


def _fed(settings: InputSettings) -> str:
    if not any(settings.mean) and set(settings.std) == {1}:
        return f"Fed with {settings.colour_order.upper()} pixels 0..255."
    mean = ", ".join(f"{value:g}" for value in settings.mean)
    return f"Fed with {settings.colour_order.upper()}, minus ({mean}), over {settings.std[0]:g}."
