"""ONNX: exported through torch.export, run by ONNX Runtime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from facekit.base.files import replacing
from facekit.errors import FacekitError
from facekit.machine.cores import usable_cores
from facekit.structures import Activated, Decoded
from facekit.targets import Backend, Given
from facekit.targets.reading.about import KEY, About, check_fits, parse_about, stated_template
from facekit.targets.reading.layouts import GraphFacts, read_graph
from facekit.targets.reading.outputs import TEMPLATE_KEY, GraphInput
from facekit.weights.onnx_file import check_onnx_file

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from torch import nn

    from facekit.targets.writing.draft import Draft, GraphOptions
    from facekit.targets.writing.graph import ExportGraph
    from facekit.template import EvaluationSettings

OPSET = 18
MAX_SIDE = 16384  # pixels; the exporter wants a bound
# Of a batch on the CPU: larger ones leave its caches (yunet-n at 640x480: 13.8 ms alone, 16.7 of four, 21.4 of 16).
MOST_PIXELS = 320 * 1024
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class OnnxBackend(Backend):
    """An .onnx in ONNX Runtime, on a CUDA GPU where the runtime has one."""

    is_parallel = True

    def __init__(self, weights: Path, template: Given, threads: int | None, device: str | None = None) -> None:
        check_onnx_file(weights)  # the runtime would open whatever file the model names
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: what goes wrong is raised, too
        # By itself the runtime takes a thread for every core of the machine, whatever the process may use.
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        providers = choose_providers(device)
        try:
            self.session = onnxruntime.InferenceSession(weights, options, providers=providers)
        except Exception as error:  # the runtime's own classes have no common base but this one
            reason = str(error).splitlines()[0][:200]
            raise FacekitError(f"{weights}: not an ONNX file that can be run: {reason} Export it again.") from error
        inputs = self.session.get_inputs()
        shapes = [[side if isinstance(side, int) else None for side in value.shape] for value in inputs]
        takes = GraphInput(shapes, [TYPES.get(value.type, value.type) for value in inputs], str(weights))
        self.source, self.input_name = str(weights), inputs[0].name
        metadata = self.session.get_modelmeta().custom_metadata_map
        said = parse_about(metadata.get(KEY), weights, template)
        check_fits(template, said, weights)
        stated = template or stated_template(said, weights, metadata.get(TEMPLATE_KEY))
        self.outputs = read_graph(stated, GraphFacts(str(weights), takes), self._run)
        self.template = self.outputs.template
        self.fixed_size_hw = takes.fixed_size_hw
        self.fixed_batch = takes.fixed_batch if self.outputs.is_ours else 1
        self.suppresses = self.outputs.suppresses
        is_on_gpu = self.session.get_providers()[0] != "CPUExecutionProvider"
        self.most_pixels = None if is_on_gpu else MOST_PIXELS

    def _run(self, blob: NDArray[np.float32], names: list[str] | None = None) -> dict[str, NDArray[Any]]:
        names = names or [value.name for value in self.session.get_outputs()]
        try:
            found = self.session.run(names, {self.input_name: blob})
        except Exception as error:  # as above
            height, width = blob.shape[2:]
            reason = str(error).splitlines()[0][:200]
            raise FacekitError(f"{self.source}: can't run a picture of {width}x{height}: {reason}") from error
        return dict(zip(names, map(np.asarray, found), strict=True))

    def licence(self) -> str | None:
        """Of the weights, as the file states it; None where it states none."""
        said = parse_about(self.session.get_modelmeta().custom_metadata_map.get(KEY), Path(self.source), self.template)
        return None if said is None else said.licence

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        found = self._run(self.outputs.feed(images_bgr), self.outputs.names)
        return self.outputs(found, images_bgr.shape[1:3])


def choose_providers(device: str | None) -> list[str]:
    """ONNX Runtime's, the one to take first: a CUDA GPU where the runtime has one; "tensorrt" is asked for by name, as
    it takes minutes to build an engine for each size of picture.

    Raises FacekitError for tensorrt where the runtime hasn't it.
    """
    present = onnxruntime.get_available_providers()
    is_unknown = device is not None and device.startswith(("mps", "xpu"))
    is_cpu = device == "cpu" or is_unknown
    wanted = ["CPUExecutionProvider"] if is_cpu else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if device == "tensorrt":
        wanted.insert(0, "TensorrtExecutionProvider")
        if wanted[0] not in present:
            raise FacekitError(
                "device tensorrt: this ONNX Runtime has no TensorRT. Install onnxruntime-gpu in place of onnxruntime, "
                "and TensorRT."
            )
    if is_unknown:
        log.warning("device %s: ONNX Runtime knows no such device and takes the CPU. Open the .pth there.", device)
    if device is not None and device.startswith("cuda") and "CUDAExecutionProvider" not in present:
        log.warning("device %s: this ONNX Runtime has no CUDA and takes the CPU. Install onnxruntime-gpu.", device)
    return [provider for provider in wanted if provider in present]


def open_weights(weights: Path, template: Given, device: str | None, threads: int | None) -> OnnxBackend:
    """Raises FacekitError for a file that is no ONNX graph, or none of the template's."""
    return OnnxBackend(weights, template, threads, device)


def write(draft: Draft, path: Path) -> None:
    """Writes the graph; batch is free, height and width too where the graph takes any size."""
    write_graph(draft.graph, path, draft.about, draft.options, draft.template.evaluation)


def write_graph(
    graph: ExportGraph, path: Path, about: About, options: GraphOptions | None = None,
    rule: EvaluationSettings | None = None,
) -> None:  # fmt: skip
    """write() of the graph alone; `rule`: the protocol to suppress by, where that is asked for."""
    import onnx

    from facekit.targets.writing.draft import GraphOptions
    from facekit.targets.writing.folding import folded
    from facekit.targets.writing.hard_sigmoids import spell_out_hard_sigmoids

    options, graph = options or GraphOptions(), folded(graph)
    if options.nms:
        from facekit.targets.writing.suppression import DecodedGraph, add_suppression

        assert rule is not None
        decoded = DecodedGraph(graph)
        model = _traced(graph, decoded, decoded.output_names, options.opset, batch=1)
        priors = None if graph.any_size else len(graph.head.priors(graph.example_size_hw).cxcywh)
        add_suppression(model, rule, priors)
    else:
        model = _traced(graph, graph, graph.output_names, options.opset)
    # The exporter leaves each node's Python stack in the file: half of a small detector's size.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.graph.metadata_props[:]
    spell_out_hard_sigmoids(model)
    if options.half:
        model = in_float16(model)
    onnx.helper.set_model_props(
        model,
        {
            "facekit_version": about.version,
            TEMPLATE_KEY: about.template,
            KEY: about.to_json(),
            "input": "BGR pixels 0..255, float32, (batch, 3, height, width)",
        },
    )
    onnx.checker.check_model(model)
    with replacing(path) as beside:
        onnx.save(model, beside)


def _traced(
    graph: ExportGraph, module: nn.Module, output_names: list[str], opset: int | None, batch: int | None = None
) -> Any:
    """The ONNX model of the graph, or of a module around it; `batch`: the only one, None for any."""
    import torch
    from torch.export import Dim

    from facekit.targets.writing.graph import quiet_tracing

    shape: dict[int, object] = {0: Dim("batch", min=1, max=1024)} if batch is None else {}
    if graph.any_size:
        # The exporter must know that the levels' sizes divide: the sides are multiples by declaration.
        units = MAX_SIDE // graph.size_multiple
        shape |= {
            2: graph.size_multiple * Dim("height_units", min=1, max=units),
            3: graph.size_multiple * Dim("width_units", min=1, max=units),
        }
    wanted = opset or OPSET
    with quiet_tracing(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            (graph.example(batch=batch or 2),),  # with 1 the exporter would take the batch for a constant
            dynamo=True,
            verbose=False,
            input_names=[graph.input_name],
            output_names=output_names,
            dynamic_shapes={graph.input_name: shape or None},
            opset_version=wanted,
        )
    assert program is not None
    model = program.model_proto
    got = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    if got != wanted:
        raise FacekitError(f"`opset={wanted}`: the exporter gives opset {got}. Leave it out, or choose {got}.")
    return model


def in_float16(model: Any) -> Any:
    """The model with weights and computation in float16; what goes in and comes out stays float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(convert_float_to_float16(model, keep_io_types=True))
    converted.topological_sort()  # casts are appended
    return converted.model
