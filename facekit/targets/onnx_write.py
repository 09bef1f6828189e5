"""ONNX, through torch.export."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch.export import Dim

from facekit import __version__
from facekit.files import replacing
from facekit.targets.graph import INPUT_NAME, ExportGraph

OPSET = 18
MAX_SIDE = 16384  # pixels; the exporter wants a bound


def export_onnx(graph: ExportGraph, path: Path, template_name: str) -> None:
    """Writes the graph; batch is free, height and width too where the template's protocol takes any size."""
    batch = Dim("batch", min=1, max=1024)
    shape: dict[int, object] = {0: batch}
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
            input_names=[INPUT_NAME],
            output_names=graph.output_names,
            dynamic_shapes={INPUT_NAME: shape},
            opset_version=OPSET,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(
        model,
        {
            "facekit_version": __version__,
            "facekit_template": template_name,
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


@contextlib.contextmanager
def quiet_tracing() -> Iterator[None]:
    """Keeps the tracers' progress lines and deprecation notices about themselves off the user's screen."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
