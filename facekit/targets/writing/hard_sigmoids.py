"""Hard sigmoids of an ONNX graph, in operations that OpenCV gets right."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper


def spell_out_hard_sigmoids(model: Any) -> None:
    """max(0, min(1, a x + b)) step by step: OpenCV takes any product with a HardSigmoid for a HardSwish, also the gates
    of squeeze and excitation, whose other factor is something else (Hu et al., CVPR 2018)."""
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "HardSigmoid":
            continue
        given = {attribute.name: attribute.f for attribute in node.attribute}
        values = {"gain": given.get("alpha", 0.2), "offset": given.get("beta", 0.5), "least": 0.0, "most": 1.0}
        names = {name: f"{node.output[0]}_{name}" for name in values}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.array(value, dtype=np.float32), names[name]) for name, value in values.items()
        )
        scaled, moved = f"{node.output[0]}_scaled", f"{node.output[0]}_moved"
        steps = [
            helper.make_node("Mul", [node.input[0], names["gain"]], [scaled]),
            helper.make_node("Add", [scaled, names["offset"]], [moved]),
            helper.make_node("Clip", [moved, names["least"], names["most"]], [node.output[0]]),
        ]
        del model.graph.node[place]
        for step in reversed(steps):
            model.graph.node.insert(place, step)
