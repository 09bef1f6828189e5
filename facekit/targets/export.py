"""The export command: weights in, verified files out."""

from __future__ import annotations

import logging
from pathlib import Path

from facekit.errors import FacekitError
from facekit.files import check_writable_folder, replacing_set
from facekit.targets import TARGETS, load_target
from facekit.targets.graph import ExportGraph
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.verify import verify_export
from facekit.template import Template

log = logging.getLogger(__name__)


def export_weights(
    weights: Path, template: Template, folder: Path, onnx: bool = True, openvino: bool = True
) -> list[Path]:
    """Writes model.onnx and/or model.xml with model.bin into the folder, each compared with PyTorch first.

    Raises FacekitError for weights that don't fit, a folder that can't be written, or a graph that differs.
    """
    check_writable_folder(folder)
    backend = PyTorchBackend.from_file(weights, template, device="cpu")
    if backend.is_compressed:
        raise FacekitError(f"{weights}: compressed weights; compress.py has written their IR beside them already.")
    graph = ExportGraph(backend.network, template)
    # Made and checked aside: a graph that fails the check never takes the place of a good one.
    with replacing_set(folder) as scratch:
        draft = scratch / "model.onnx"
        log.info("Exporting %s ...", weights)
        load_target(TARGETS["onnx"]).write(graph, draft, template.name)
        targets = [draft] if onnx else []
        if openvino:
            load_target(TARGETS["openvino"]).write(draft, draft.with_suffix(".xml"), template.name)
            targets.append(draft.with_suffix(".xml"))
        for target in targets:
            difference = max(verify_export(target, backend, template, size_hw) for size_hw in graph.check_sizes_hw)
            log.info("%s agrees with PyTorch (largest score difference %.1e)", target.name, difference)
        if not onnx:
            draft.unlink()
        written = [folder / file.name for file in sorted(scratch.iterdir())]
    return written
