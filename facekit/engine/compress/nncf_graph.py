"""Graphs of ONNX and OpenVINO, rounded by NNCF; where that costs too much it finds the layers to blame and leaves them
in float (its accuracy control)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from facekit import __version__
from facekit.base.files import replacing
from facekit.detector import Detector
from facekit.engine.compress.heads import head_layers, nodes_of_onnx, nodes_of_openvino
from facekit.engine.compress.judging import ap_50, measure
from facekit.errors import FacekitError
from facekit.feed import prepare
from facekit.labels.picture_labels import PictureLabels
from facekit.targets.nncf_ import nncf
from facekit.targets.onnx import OnnxBackend
from facekit.targets.openvino import OpenVinoBackend, save_ir, the_core
from facekit.targets.reading.about import about_export
from facekit.targets.reading.outputs import is_foreign

LEAST_OPSET = 10  # the first ONNX that has rounding nodes
ROUNDING_NODES = ("QuantizeLinear", "FakeQuantize")


class NncfGraph:
    """An .onnx's or .xml's graph."""

    def __init__(self, weights: Path, detector: Detector) -> None:
        """Raises FacekitError for an .onnx that computes in float16, or is of an opset before LEAST_OPSET."""
        self.detector = detector
        self.is_onnx = weights.suffix.lower() == ".onnx"
        if self.is_onnx:
            import onnx

            self.model: Any = onnx.load(weights)
            if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in self.model.graph.initializer):
                raise FacekitError(
                    f"{weights}: has weights in float16, expected float32: INT8 is made of that alone. Give the file "
                    f"that is exported without `half`."
                )
            opset = max(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx"))
            if opset < LEAST_OPSET:
                raise FacekitError(
                    f"{weights}: is of ONNX's opset {opset}, expected {LEAST_OPSET} or newer: those before know no "
                    f"INT8. Export the weights that it was made of again: `facekit import-weights` and then "
                    f"`facekit export` write a newer one."
                )
        else:
            self.model = the_core().read_model(weights.with_suffix(".xml"))

    def feed(self, image_bgr: NDArray[np.uint8]) -> Any:
        """What the graph is fed of a picture, as calibration wants it."""
        images_bgr = prepare(image_bgr, self.detector.template)[0][None]
        if self.is_onnx:
            backend = cast(OnnxBackend, self.detector.backend)
            return {backend.input_name: backend.outputs.feed(images_bgr)}
        return cast(OpenVinoBackend, self.detector.backend).fed(images_bgr)

    def is_rounded(self, model: Any) -> bool:
        if self.is_onnx:
            kinds = {node.op_type for node in model.graph.node}
        else:
            kinds = {node.get_type_name() for node in model.get_ops()}
        return bool(kinds & set(ROUNDING_NODES))

    def rounded(
        self, fed: Sequence[Any], pictures: Sequence[PictureLabels], ap_before: float | None, max_drop: float
    ) -> Any:
        """The INT8 graph; without pictures all but the heads is INT8."""
        # Symmetric: asymmetric activations gained at most 0.2 points of AP (face-detection-0200; yunet-n lost 0.3), and
        # took a fifth longer. Layers that cost too much are found below all the same.
        options: dict[str, Any] = {"preset": nncf.QuantizationPreset.PERFORMANCE, "subset_size": len(fed)}
        # Their own layers in float whatever AP says: landmarks need them, and AP doesn't know of these.
        nodes = (nodes_of_onnx if self.is_onnx else nodes_of_openvino)(self.model)
        if heads := head_layers(*nodes):
            options["ignored_scope"] = nncf.IgnoredScope(names=heads)
        if not pictures:
            return nncf.quantize(self.model, nncf.Dataset(fed), **options)
        return nncf.quantize_with_accuracy_control(
            self.model, nncf.Dataset(fed), nncf.Dataset(range(len(pictures))), self._judge_of(pictures),
            max_drop=max_drop / 100, **options,
        )  # fmt: skip

    def _judge_of(self, pictures: Sequence[PictureLabels]) -> Callable[[Any, Iterable[int]], float]:
        """NNCF's validation: the AP at IoU 0.5, 0..1, of a graph of its making on pictures of these numbers."""

        def judge(model: Any, numbers: Iterable[int]) -> float:
            chosen = [pictures[number] for number in numbers]
            with tempfile.TemporaryDirectory(prefix="facekit-") as scratch:
                return (ap_50(measure(self._open(model, Path(scratch)), chosen)) or 0.0) / 100

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

            if all(entry.key != "facekit_version" for entry in model.metadata_props):  # one of others'
                model.metadata_props.add(key="facekit_version", value=__version__)
            with replacing(path) as beside:
                onnx.save(model, beside)
            return [path]
        template = self.detector.backend.template
        about = None if is_foreign(template) else about_export(template, self.detector.backend.fixed_size_hw)
        save_ir(model, path.with_suffix(".xml"), about)
        return [path.with_suffix(".xml"), path.with_suffix(".bin")]
