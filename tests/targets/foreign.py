"""Graphs laid out like others' detectors, made of numbers, and what these mean by their makers' descriptions: slow
loops, prior by prior, that share nothing with facekit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Outputs = dict[str, NDArray[np.float32]]
Faces = list[tuple[list[float], float, list[float] | None]]  # box, score, ten coordinates

MULTIBOX = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}
RETINA = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
ANCHORS = {
    8: ((4, 5), (8, 10), (13, 16)),
    16: ((23, 29), (43, 55), (73, 105)),
    32: ((146, 217), (231, 300), (335, 433)),
}


def graph_of(path: Path, outputs: dict[str, NDArray], size_hw: tuple[int, int], opset: int = 13) -> Path:
    """An ONNX file that gives these arrays whatever the picture is."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Mul", ["mean", "zero"], ["nought"]),
        helper.make_node("Reshape", ["nought", "one"], ["nothing"]),
    ]
    constants = [
        numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        numpy_helper.from_array(np.array([-1], np.int64), "one"),
        numpy_helper.from_array(np.zeros(1, np.int64), "first"),
    ]
    nodes.append(helper.make_node("Gather", ["nothing", "first"], ["n"], axis=0))
    declared = []
    for name, array in outputs.items():
        constants.append(numpy_helper.from_array(array, f"{name}_numbers"))
        if array.dtype == np.float32:
            nodes.append(helper.make_node("Add", [f"{name}_numbers", "n"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_numbers"], [name]))
        declared.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *size_hw])
    graph = helper.make_graph(nodes, "made", [image], declared, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def softmax(pair: NDArray[np.float32]) -> float:
    """Of the second of two."""
    return math.exp(pair[1]) / (math.exp(pair[0]) + math.exp(pair[1]))


class Numbers:
    """Random ones of a kind; `shape` is the output's."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def deltas(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.normal(0, 1, shape).astype(np.float32)

    def shares(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.uniform(0.01, 0.99, shape).astype(np.float32)

    def two_classes(self, *shape: int) -> NDArray[np.float32]:
        faces = self.shares(*shape, 1)
        return np.concatenate([1 - faces, faces], axis=-1)


def yunet(size_hw: tuple[int, int], numbers: Numbers) -> tuple[Outputs, Faces]:
    """Points at the cells' corners; the score of facekit is the product, OpenCV's is its root."""
    outputs: Outputs = {}
    faces: Faces = []
    for stride in (8, 16, 32):
        rows, columns = size_hw[0] // stride, size_hw[1] // stride
        cls, obj = numbers.shares(1, rows * columns, 1), numbers.shares(1, rows * columns, 1)
        box, points = numbers.deltas(1, rows * columns, 4), numbers.deltas(1, rows * columns, 10)
        outputs |= {f"c{stride}": cls, f"o{stride}": obj, f"b{stride}": box, f"k{stride}": points}
        for cell in range(rows * columns):
            y, x = divmod(cell, columns)
            dx, dy, dw, dh = box[0, cell].tolist()
            cx, cy, w, h = (x + dx) * stride, (y + dy) * stride, math.exp(dw) * stride, math.exp(dh) * stride
            marks = [(points[0, cell, i] + (x if i % 2 == 0 else y)) * stride for i in range(10)]
            faces.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], cls[0, cell, 0] * obj[0, cell, 0], marks))
    return outputs, faces


def multibox_priors(sizes: dict[int, tuple[int, ...]], size_hw: tuple[int, int], rounding: Callable[[float], int]
                    ) -> list[tuple[float, float, float, int]]:  # fmt: skip
    """Centre x, y, side, stride."""
    return [
        ((x + 0.5) * stride, (y + 0.5) * stride, side, stride)
        for stride, sides in sizes.items()
        for y in range(rounding(size_hw[0] / stride))
        for x in range(rounding(size_hw[1] / stride))
        for side in sides
    ]


def ssd_face(delta: list[float], prior: tuple[float, float, float, int], points: list[float] | None
             ) -> tuple[list[float], list[float] | None]:  # fmt: skip
    px, py, side, _ = prior
    cx, cy = px + 0.1 * delta[0] * side, py + 0.1 * delta[1] * side
    w, h = side * math.exp(0.2 * delta[2]), side * math.exp(0.2 * delta[3])
    marks = points and [(px if i % 2 == 0 else py) + 0.1 * points[i] * side for i in range(10)]
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], marks


def yunet_2022(size_hw: tuple[int, int], numbers: Numbers) -> tuple[Outputs, Faces]:
    """OpenCV 4.5.4's FaceDetectorYN: cells are counted downwards, IoU is clamped."""
    priors = multibox_priors(MULTIBOX, size_hw, math.floor)
    loc, conf, iou = numbers.deltas(len(priors), 14), numbers.two_classes(len(priors)), numbers.deltas(len(priors), 1)
    faces: Faces = []
    for row, prior in enumerate(priors):
        box, marks = ssd_face(loc[row, :4].tolist(), prior, loc[row, 4:].tolist())
        faces.append((box, conf[row, 1] * min(max(iou[row, 0], 0), 1), marks))
    return {"loc": loc, "conf": conf, "iou": iou}, faces


def scrfd(size_hw: tuple[int, int], numbers: Numbers, points: bool = True) -> tuple[Outputs, Faces]:
    outputs: Outputs = {}
    faces: Faces = []
    for stride in (8, 16, 32):
        rows, columns = math.ceil(size_hw[0] / stride), math.ceil(size_hw[1] / stride)
        count = rows * columns * 2
        score, box, marks = numbers.shares(count, 1), abs(numbers.deltas(count, 4)), numbers.deltas(count, 10)
        outputs |= {f"s{stride}": score, f"b{stride}": box} | ({f"k{stride}": marks} if points else {})
        for place in range(count):
            y, x = divmod(place // 2, columns)
            left, top, right, bottom = (box[place] * stride).tolist()
            found = [x * stride - left, y * stride - top, x * stride + right, y * stride + bottom]
            each = [((x if i % 2 == 0 else y) + marks[place, i]) * stride for i in range(10)]
            faces.append((found, score[place, 0], each if points else None))
    return outputs, faces


def yolo5face(size_hw: tuple[int, int], numbers: Numbers, kind: str = "five") -> tuple[Outputs, Faces]:
    """models/yolo.py and utils/face_datasets.py of yolov5-face: faces in the order row, column, anchor."""
    outputs: Outputs = {}
    faces: Faces = []
    for stride, anchors in ANCHORS.items():
        rows, columns = size_hw[0] // stride, size_hw[1] // stride
        raw = numbers.deltas(1, 3, rows, columns, 16)
        flat = raw.transpose(0, 1, 4, 2, 3).reshape(1, 48, rows, columns)
        outputs[f"m{stride}"] = raw if kind == "five" else np.ascontiguousarray(flat)
        for y, x, anchor in np.ndindex(rows, columns, 3):
            tx, ty, tw, th, to, *rest = raw[0, anchor, y, x].tolist()
            cx, cy = (2 * sigmoid(tx) - 0.5 + x) * stride, (2 * sigmoid(ty) - 0.5 + y) * stride
            aw, ah = anchors[anchor]
            w, h = (2 * sigmoid(tw)) ** 2 * aw, (2 * sigmoid(th)) ** 2 * ah
            marks = [rest[i] * (aw if i % 2 == 0 else ah) + (x if i % 2 == 0 else y) * stride for i in range(10)]
            box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            faces.append((box, sigmoid(to) * sigmoid(rest[10]), marks))
    return outputs, faces


def yolo5face_boxes(size_hw: tuple[int, int], numbers: Numbers) -> tuple[Outputs, Faces]:
    count = sum(3 * (size_hw[0] // s) * (size_hw[1] // s) for s in (8, 16, 32))
    rows = np.concatenate(
        [100 * numbers.shares(count, 4), numbers.shares(count, 1), 100 * numbers.shares(count, 10),
         numbers.shares(count, 1)], axis=1,
    )  # fmt: skip
    faces: Faces = []
    for cx, cy, w, h, obj, *rest in rows.tolist():
        faces.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], obj * rest[10], rest[:10]))
    return {"rows": rows[None]}, faces


def retinaface(
    size_hw: tuple[int, int], numbers: Numbers, sizes: dict[int, tuple[int, ...]] = RETINA, logits: bool = False
) -> tuple[Outputs, Faces]:
    priors = multibox_priors(sizes, size_hw, math.ceil)
    loc, points = numbers.deltas(1, len(priors), 4), numbers.deltas(1, len(priors), 10)
    conf = numbers.deltas(1, len(priors), 2) if logits else numbers.two_classes(1, len(priors))
    faces: Faces = []
    for row, prior in enumerate(priors):
        box, marks = ssd_face(loc[0, row].tolist(), prior, points[0, row].tolist())
        faces.append((box, softmax(conf[0, row]) if logits else conf[0, row, 1], marks))
    return {"loc": loc, "conf": conf, "landms": points}, faces


def ultra_light(size_hw: tuple[int, int], numbers: Numbers, decoded: bool = True) -> tuple[Outputs, Faces]:
    """vision/utils/box_utils.py of Ultra-Light: priors in fractions, clipped; cells share the picture evenly."""
    height, width = size_hw
    loc, boxes, faces = [], [], []
    for stride, sides in MULTIBOX.items():
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        for y, x, side in ((y, x, side) for y in range(rows) for x in range(columns) for side in sides):
            prior = [min(v, 1.0) for v in ((x + 0.5) / columns, (y + 0.5) / rows, side / width, side / height)]
            delta = numbers.deltas(4).tolist()
            cx, cy = prior[0] + 0.1 * delta[0] * prior[2], prior[1] + 0.1 * delta[1] * prior[3]
            w, h = prior[2] * math.exp(0.2 * delta[2]), prior[3] * math.exp(0.2 * delta[3])
            loc.append(delta)
            boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    scores = numbers.two_classes(1, len(loc)) if decoded else numbers.deltas(1, len(loc), 2)
    for row, (x1, y1, x2, y2) in enumerate(boxes):
        score = scores[0, row, 1] if decoded else softmax(scores[0, row])
        faces.append(([x1 * width, y1 * height, x2 * width, y2 * height], score, None))
    given = np.array([boxes if decoded else loc], dtype=np.float32)
    return {"boxes": given, "scores": scores}, faces


def centerface(size_hw: tuple[int, int], numbers: Numbers, sure: bool = True) -> tuple[Outputs, Faces]:
    """centerface.py of Star-Clouds: rows before columns in all but the picture; nothing is clipped here."""
    rows, columns = size_hw[0] // 4, size_hw[1] // 4
    heat, points = numbers.shares(1, 1, rows, columns), numbers.shares(1, 10, rows, columns)
    size = numbers.shares(1, 2, rows, columns) * 3 + (2 if sure else 0)
    offset = numbers.shares(1, 2, rows, columns) * (1 if sure else 5)
    faces: Faces = []
    for y, x in np.ndindex(rows, columns):
        h, w = (4 * math.exp(size[0, i, y, x]) for i in (0, 1))
        cy, cx = ((y, x)[i] * 4 + 2 + 4 * float(offset[0, i, y, x]) for i in (0, 1))
        x1, y1 = cx - w / 2, cy - h / 2
        marks = []
        for point in range(5):
            marks += [x1 + w * points[0, 2 * point + 1, y, x], y1 + h * points[0, 2 * point, y, x]]
        faces.append(([x1, y1, x1 + w, y1 + h], float(heat[0, 0, y, x]), marks))
    return {"heat": heat, "size": size, "offset": offset, "points": points}, faces
