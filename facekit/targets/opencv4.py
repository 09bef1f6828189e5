"""ONNX for OpenCV 4, and for the classic engine of OpenCV 5: of one size, for one picture at a time, of the operations
that they read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.ops.head import declared_head
from facekit.structures import Activated, Decoded
from facekit.targets import Backend
from facekit.targets.reading.about import KEY, parse_about, template_for
from facekit.targets.reading.outputs import planes
from facekit.template import Template
from facekit.weights.onnx_file import check_onnx_file

if TYPE_CHECKING:
    from facekit.targets.writing.draft import Draft

OPSET = 18
UNREADABLE = ("Shape", "GatherND", "Loop", "If", "NonZero")  # besides a Slice that goes backwards
COLUMNS = {"boxes": 4, "scores": 1, "landmarks": 10, "cls": 0, "bbox": 4, "obj": 1, "kps": 10}  # 0: the head's classes


class ClassicBackend(Backend):
    """A file of write() in cv2.dnn, by the engine that OpenCV 4 has and OpenCV 5 still brings."""

    fixed_batch: int | None = 1

    def __init__(self, weights: Path, template: Template | None, threads: int | None) -> None:
        said = parse_about(check_onnx_file(weights).metadata.get(KEY), weights)
        if said is None or said.size_hw is None:
            raise FacekitError(f"{weights}: is not what facekit exports for OpenCV 4. Export it: --formats opencv4.")
        self.template = template_for(template, said, weights)
        self.fixed_size_hw = said.size_hw
        self.head = declared_head(self.template.model)
        cv2.setNumThreads(threads or usable_cores())
        classic: dict[str, Any] = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
        self.source = str(weights)
        try:
            self.network = cv2.dnn.readNetFromONNX(self.source, **classic)
        except cv2.error as error:
            raise self._refusal("read", error) from error
        found = set(self.network.getUnconnectedOutLayersNames())
        decoded = ["boxes", "scores", *["landmarks"] * self.head.has_landmarks]
        self.names = next((names for names in (decoded, self.head.level_names) if set(names) == found), [])
        if not self.names:
            raise FacekitError(f"{weights}: its outputs {sorted(found)} are none of {self.template.name}.")

    def _refusal(self, what: str, error: cv2.error) -> FacekitError:
        reason = " ".join(str(error.err or error).split())[:200]
        return FacekitError(f"{self.source}: OpenCV {cv2.__version__} can't {what} it: {reason}")

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        try:
            self.network.setInput(planes(images_bgr))
            arrays = self.network.forward(self.names)
        except cv2.error as error:
            raise self._refusal("run", error) from error
        found: dict[str, NDArray[np.float32]] = {}
        for name, array in zip(self.names, arrays, strict=True):  # some of them without the batch's dimension
            kind = name.partition("_")[0]
            columns = self.head.level_kinds["cls"] if kind == "cls" else COLUMNS[kind]
            rows = np.asarray(array, dtype=np.float32).reshape(1, -1, columns)
            found[kind] = np.concatenate([found[kind], rows], axis=1) if kind in found else rows
        if "boxes" in found:
            return Decoded(found["boxes"], found["scores"][..., 0], found.get("landmarks"))
        objectness = found["obj"][..., 0] if "obj" in found else None
        return Activated(found["cls"], found["bbox"], objectness, found.get("kps"))


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> ClassicBackend:
    """Raises FacekitError for a file that was not exported for OpenCV 4, or that this OpenCV doesn't read."""
    return ClassicBackend(weights, template, threads)


def write(draft: Draft, path: Path) -> None:
    """Writes the graph for pictures of the draft's size, one at a time.

    Raises FacekitError where an operation is left that OpenCV 4 doesn't read.
    """
    import onnx
    import torch

    from facekit.targets.writing.graph import quiet_tracing
    from facekit.targets.writing.hard_sigmoids import spell_out_hard_sigmoids

    graph = draft.graph
    with quiet_tracing(), torch.no_grad():
        program = torch.onnx.export(
            graph, (graph.example(),), dynamo=True, verbose=False, input_names=[graph.input_name],
            output_names=graph.output_names, opset_version=OPSET,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    _turn_channels_by_parts(model)
    spell_out_hard_sigmoids(model)
    if left := unreadable_nodes(model):
        raise FacekitError(f"{path}: OpenCV 4 doesn't read {', '.join(left)}. Export another format: --formats onnx.")
    # The exporter leaves each node's Python stack in the file.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.graph.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: draft.about.to_json()})
    onnx.checker.check_model(model)
    with replacing(path) as beside:
        onnx.save(model, beside)


def _constants(model: Any) -> dict[str, NDArray[Any]]:
    """The values that the graph states, by name."""
    from onnx import numpy_helper

    found = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _is_backwards(node: Any, constants: dict[str, NDArray[Any]]) -> bool:
    """Whether a node is a Slice with negative steps, or with steps that only a run tells."""
    if node.op_type != "Slice" or len(node.input) < 5:
        return False
    return node.input[4] not in constants or bool((constants[node.input[4]] < 0).any())


def _turn_channels_by_parts(model: Any) -> None:
    """Where three channels are taken backwards, RGB from BGR, they are split and put together instead."""
    from onnx import helper

    constants = _constants(model)
    for place, node in reversed(list(enumerate(model.graph.node))):
        if not _is_backwards(node, constants) or constants.get(node.input[3], np.zeros(0)).tolist() != [1]:
            continue
        parts = [f"{node.output[0]}_{channel}" for channel in range(3)]
        split = helper.make_node("Split", [node.input[0]], parts, axis=1, num_outputs=3)
        joined = helper.make_node("Concat", parts[::-1], [node.output[0]], axis=1)
        used = list(node.input[1:])
        del model.graph.node[place]
        model.graph.node.insert(place, split)
        model.graph.node.insert(place + 1, joined)
        _drop_unused(model, used)


def _drop_unused(model: Any, names: list[str]) -> None:
    wanted = {name for node in model.graph.node for name in node.input}
    for value in [value for value in model.graph.initializer if value.name in names and value.name not in wanted]:
        model.graph.initializer.remove(value)


def unreadable_nodes(model: Any) -> list[str]:
    """Operations of an ONNX model that OpenCV 4 and OpenCV 5's classic engine don't read."""
    constants = _constants(model)
    return [
        f"{node.op_type} {node.name}"
        for node in model.graph.node
        if node.op_type in UNREADABLE or _is_backwards(node, constants)
    ]
