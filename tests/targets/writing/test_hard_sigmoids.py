from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from facekit.targets.writing.hard_sigmoids import spell_out_hard_sigmoids


@pytest.mark.parametrize("given", [{}, {"alpha": 1 / 6}, {"alpha": 0.5, "beta": -1.25}])
def test_the_same_function(given: dict[str, float]) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [41]) for name in "xy")
    nodes = [helper.make_node("HardSigmoid", ["x"], ["gate"], **given), helper.make_node("Mul", ["gate", "x"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "gates", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    fed = {"x": np.linspace(-10, 10, 41, dtype=np.float32)}
    (expected,) = ReferenceEvaluator(model).run(None, fed)
    spell_out_hard_sigmoids(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Mul", "Add", "Clip", "Mul"]
    (got,) = ReferenceEvaluator(model).run(None, fed)
    np.testing.assert_allclose(got, expected, atol=1e-6)
