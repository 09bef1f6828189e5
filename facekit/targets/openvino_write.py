"""OpenVINO IR: model.xml and model.bin."""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import torch
from torch import Tensor, nn

from facekit import __version__
from facekit.files import replacing
from facekit.targets.graph import INPUT_NAME, ExportGraph
from facekit.targets.onnx_write import quiet_tracing


def export_openvino(onnx_path: Path, xml_path: Path, template_name: str) -> None:
    """Converts the exported ONNX graph to an FP32 IR; the input stays raw BGR pixels 0..255."""
    model = ov.convert_model(onnx_path)
    save_ir(model, xml_path, template_name)


def export_network_openvino(graph: ExportGraph, xml_path: Path, template_name: str) -> None:
    """Converts straight from PyTorch: the way for compressed networks, whose fake quantisers ONNX has no words for."""
    sides = (-1, -1) if graph.any_size else graph.example_size_hw
    with quiet_tracing(), torch.no_grad():
        model = ov.convert_model(_Named(graph).eval(), example_input=graph.example(), input=[[-1, 3, *sides]])
    model.inputs[0].set_names({INPUT_NAME})
    save_ir(model, xml_path, template_name)


class _Named(nn.Module):
    """A dict of outputs: the converter takes its keys for the outputs' names."""

    def __init__(self, graph: ExportGraph) -> None:
        super().__init__()
        self.wrapped = graph  # not `graph`: a traced module has an attribute of that name

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.wrapped.output_names, self.wrapped(image), strict=True))


def save_ir(model: ov.Model, xml_path: Path, template_name: str) -> None:
    """Writes both files whole; the .bin first, so that an .xml never stands beside another one's weights."""
    model.set_rt_info(template_name, ["facekit", "template"])
    model.set_rt_info(__version__, ["facekit", "version"])
    with replacing(xml_path) as beside:
        ov.save_model(model, beside, compress_to_fp16=False)
        with replacing(xml_path.with_suffix(".bin")) as binary:
            beside.with_suffix(".bin").replace(binary)
