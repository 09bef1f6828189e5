"""ONNX: exported through torch.export, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.files import replacing
from facekit.machine.cores import usable_cores
from facekit.structures import Activated, Decoded
from facekit.targets.about import KEY, About, parse_about, template_for
from facekit.targets.outputs import GraphInput, GraphOutputs, check_size
from facekit.template import Template
from facekit.weights.onnx_file import check_onnx_file

if TYPE_CHECKING:
    from facekit.targets.draft import Draft
    from facekit.targets.graph import ExportGraph

OPSET = 18
MAX_SIDE = 16384  # pixels; the exporter wants a bound
TEMPLATE_KEY = "facekit_template"
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class OnnxBackend:
    """An .onnx in ONNX Runtime, on a CUDA GPU where the runtime has one."""

    def __init__(self, weights: Path, template: Template | None, threads: int | None) -> None:
        check_onnx_file(weights)  # the runtime would open whatever file the model names
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: what goes wrong is raised, too
        # By itself the runtime takes a thread for every core of the machine, whatever the process may use.
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        providers = [
            provider
            for provider in ("CUDAExecutionProvider", "CPUExecutionProvider")
            if provider in onnxruntime.get_available_providers()
        ]
        try:
            self.session = onnxruntime.InferenceSession(weights, options, providers=providers)
        except Exception as error:  # the runtime's own classes have no common base but this one
            reason = str(error).splitlines()[0][:200]
            raise FacekitError(f"{weights}: not an ONNX file that can be run: {reason} Export it again.") from error
        metadata = self.session.get_modelmeta().custom_metadata_map
        said = None if template is not None else parse_about(metadata.get(KEY), weights)
        self.template = template_for(template, said, weights, metadata.get(TEMPLATE_KEY))
        inputs = self.session.get_inputs()
        shapes = [[side if isinstance(side, int) else None for side in value.shape] for value in inputs]
        takes = GraphInput(shapes, [TYPES.get(value.type, value.type) for value in inputs], str(weights))
        self.input_name = inputs[0].name
        self.fixed_size_hw, self.fixed_batch = takes.fixed_size_hw, takes.fixed_batch
        self.outputs = GraphOutputs(self.template, str(weights))
        check_size(self.fixed_size_hw, self.template, str(weights))
        size_hw = self.outputs.example_size(self.fixed_size_hw)
        names = [value.name for value in self.session.get_outputs()]
        try:
            found = self.session.run(names, {self.input_name: np.zeros((1, 3, *size_hw), dtype=np.float32)})
        except Exception as error:  # as above
            reason = str(error).splitlines()[0][:200]
            raise FacekitError(f"{weights}: can't run a picture of {size_hw[1]}x{size_hw[0]}: {reason}") from error
        self.outputs.recognise(dict(zip(names, map(np.asarray, found), strict=True)), size_hw)

    def __call__(self, images_bgr: NDArray[np.uint8]) -> Activated | Decoded:
        arrays = self.session.run(self.outputs.names, {self.input_name: self.outputs.feed(images_bgr)})
        return self.outputs(dict(zip(self.outputs.names, arrays, strict=True)), images_bgr.shape[1:3])


def open_weights(weights: Path, template: Template | None, device: str | None, threads: int | None) -> OnnxBackend:
    """Raises FacekitError for a file that is no ONNX graph, or none of the template's."""
    return OnnxBackend(weights, template, threads)


def write(draft: Draft, path: Path) -> None:
    """Writes the graph; batch is free, height and width too where the graph takes any size."""
    write_graph(draft.graph, path, draft.about)


def write_graph(graph: ExportGraph, path: Path, about: About) -> None:
    """write() of the graph alone."""
    import onnx
    import torch
    from torch.export import Dim

    from facekit.targets.graph import quiet_tracing

    shape: dict[int, object] = {0: Dim("batch", min=1, max=1024)}
    if graph.any_size:
        # The exporter must know that the levels' sizes divide: the sides are multiples by declaration.
        units = MAX_SIDE // graph.size_multiple
        shape |= {
            2: graph.size_multiple * Dim("height_units", min=1, max=units),
            3: graph.size_multiple * Dim("width_units", min=1, max=units),
        }
    with quiet_tracing(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),
            (graph.example(batch=2),),  # with 1 the exporter would take the batch for a constant
            dynamo=True,
            verbose=False,
            input_names=[graph.input_name],
            output_names=graph.output_names,
            dynamic_shapes={graph.input_name: shape},
            opset_version=OPSET,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(
        model,
        {
            "facekit_version": about.version,
            TEMPLATE_KEY: about.template,
            KEY: about.to_json(),
            "input": "BGR pixels 0..255, float32, (batch, 3, height, width)",
        },
    )
    # The exporter leaves each node's Python stack in the file: half of a small detector's size.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.graph.metadata_props[:]
    onnx.checker.check_model(model)
    with replacing(path) as beside:
        onnx.save(model, beside)
