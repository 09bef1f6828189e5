"""An ONNX graph that gives faces: decoding and ONNX's NonMaxSuppression inside."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from facekit.ops.head import Head
from facekit.structures import Priors
from facekit.targets.writing.graph import ExportGraph
from facekit.template import EvaluationSettings

ALL = ("all_boxes", "all_scores", "all_landmarks")  # of the priors, before suppression
MOST_FACES = 100_000  # where the protocol has no cap


class DecodedGraph(nn.Module):
    """(1, 3, H, W) float32 BGR pixels 0..255 -> boxes (1, A, 4) xyxy in pixels of the input, scores (1, A), and
    landmarks (1, A, 10) if any: of any size where the graph is."""

    def __init__(self, graph: ExportGraph) -> None:
        super().__init__()
        self.wrapped = graph  # not `graph`: a traced module has an attribute of that name
        self.output_names = list(ALL[: 2 + graph.head.has_landmarks])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        graph = self.wrapped
        if not graph.per_level:
            return cast(tuple[Tensor, ...], graph(image))
        activated = graph.head.activate(graph.network(graph.normalised(image)))
        priors = _priors(graph.head, image)
        return tuple(tensor for tensor in graph.head.decode(activated, priors) if tensor is not None)


def _priors(head: Head, image: Tensor) -> Priors:
    """Head.priors() of a size that is known when the graph runs."""
    size_hw = (image.shape[2], image.shape[3])
    levels, strides = [], []
    for stride, sizes_wh, (rows, columns) in zip(head.strides, head.prior_sizes_wh, head.cells(size_hw), strict=True):
        x = (torch.arange(columns, dtype=torch.float32) + head.cell_offset) * stride
        y = (torch.arange(rows, dtype=torch.float32) + head.cell_offset) * stride
        count = len(sizes_wh)
        centres = torch.stack([x[None, :].expand(rows, columns), y[:, None].expand(rows, columns)], dim=-1)
        sizes = torch.tensor(sizes_wh, dtype=torch.float32).expand(rows, columns, count, 2)
        level = torch.cat([centres[:, :, None, :].expand(rows, columns, count, 2), sizes], dim=-1)
        levels.append(level.reshape(rows * columns * count, 4))
        strides.append(torch.full((rows * columns * count,), float(stride)))
    return Priors(torch.cat(levels), torch.cat(strides), size_hw)


def add_suppression(model: Any, rule: EvaluationSettings, priors: int | None) -> None:
    """Turns the outputs of a DecodedGraph's ONNX model into boxes (N, 4), scores (N,), landmarks (N, 10) of the faces
    that the protocol keeps, best first; without its nms_union_slack, which the operation hasn't. `priors`: their number
    where it is known, for the cap before suppression, which is left out where it isn't."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    given = [value.name for value in graph.output]
    rows = dict(zip(given, (f"{name}_rows" for name in given), strict=True))

    def constant(name: str, value: Any, dtype: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        graph.node.append(helper.make_node(kind, inputs, outputs, name=f"suppression_{len(graph.node)}", **attributes))

    first = constant("suppression_axis", [0], np.int64)
    for name in given:
        node("Squeeze", [name, first], [rows[name]])
    if rule.max_candidates is not None and priors is not None and priors > rule.max_candidates:
        best = constant("suppression_candidates", [rule.max_candidates], np.int64)
        node("TopK", [rows[given[1]], best], ["best_scores", "best_places"], axis=0)
        for name in given:
            node("Gather", [rows[name], "best_places"], [f"best_{name}"], axis=0)
            rows[name] = f"best_{name}"
    batch = constant("suppression_batch", [0, 1], np.int64)
    node("Unsqueeze", [rows[given[0]], first], ["suppression_boxes"])
    node("Unsqueeze", [rows[given[1]], batch], ["suppression_scores"])
    limits = [
        constant("suppression_most", [rule.max_detections or MOST_FACES], np.int64),
        constant("suppression_iou", [rule.nms_iou_threshold], np.float32),
        constant("suppression_score", [rule.score_threshold], np.float32),
    ]
    node("NonMaxSuppression", ["suppression_boxes", "suppression_scores", *limits], ["kept"])
    node("Gather", ["kept", constant("suppression_column", 2, np.int64)], ["kept_places"], axis=1)
    del graph.output[:]
    for name, wide in zip(given, (4, None, 10), strict=False):
        output = name.removeprefix("all_")
        node("Gather", [rows[name], "kept_places"], [output], axis=0)
        shape: list[str | int | None] = ["faces"] if wide is None else ["faces", wide]
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, shape))
