"""The README.md beside what was exported: the input it takes, the outputs, how to decode them, and for each format the
lines of Python that run it by that runtime alone, without facekit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facekit.ops.coders import DeltaCoder
from facekit.targets.executorch import MAX_SIDE
from facekit.targets.table import Target
from facekit.targets.torchscript import least_side
from facekit.targets.writing.draft import Draft

NAME, OTHER_NAME = "README.md", "README.facekit.md"  # the second where the first is somebody's own
MARK = "<!-- written by facekit export -->"

# From `blob` (1, 3, height, width) to `outputs`, name -> rows of the one picture. NAMES: of the outputs, in order.
RUNS = {
    "onnx": """
session = onnxruntime.InferenceSession("model.onnx")
outputs = {name: found[0] for name, found in zip(NAMES, session.run(NAMES, {"image": blob}))}
""",
    "openvino": """
found = openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(blob)
outputs = {name: found[name][0] for name in NAMES}
""",
    "torchscript": """
network = torch.jit.load("model.ts")  # or torch.export.load("model.pt2").module()
with torch.no_grad():
    outputs = {name: found[0].numpy() for name, found in zip(NAMES, network(torch.from_numpy(blob)))}
""",
    "executorch": """
method = Runtime.get().load_program("model.pte").load_method("forward")
outputs = {name: found[0].numpy() for name, found in zip(NAMES, method.execute([torch.from_numpy(blob)]))}
""",
    "mnn": """
network = MNN.nn.load_module_from_file("model.mnn", ["image"], NAMES, shape_mutable=True)
found = network.onForward([MNN.expr.const(blob, list(blob.shape), MNN.expr.NCHW)])
outputs = {name: np.array(value.read()).reshape(value.shape)[0] for name, value in zip(NAMES, found)}
""",
    "tflite": """
runner = Interpreter("model.tflite").get_signature_runner()  # model.nhwc.tflite: (1, height, width, 3), args_0
outputs = {name: array[0] for name, array in runner(image=blob).items()}
""",
    "ncnn": """
network = ncnn.Net()
network.opt.use_fp16_storage = network.opt.use_fp16_packed = network.opt.use_fp16_arithmetic = False
network.load_param("model.ncnn.param")
network.load_model("model.ncnn.bin")
extractor = network.create_extractor()
extractor.input("in0", ncnn.Mat(blob[0]))
outputs = {name: np.array(extractor.extract(f"out{number}")[1]) for number, name in enumerate(NAMES)}
""",
}
RUN_SUPPRESSED = """
session = onnxruntime.InferenceSession("model.onnx")
outputs = dict(zip(NAMES, session.run(NAMES, {"image": blob})))
"""  # model.onnx of `--nms`: name -> rows of the faces
MAPS_AS_ROWS = """for name, columns in zip(NAMES, COLUMNS):  # ncnn gives maps (priors * columns, rows, columns)
    level = outputs[name].reshape(-1, columns, *outputs[name].shape[1:])
    outputs[name] = level.transpose(2, 3, 0, 1).reshape(-1, columns)
"""
IMPORTS = {
    "onnx": "import onnxruntime",
    "openvino": "import openvino",
    "torchscript": "import torch",
    "executorch": "import torch\nfrom executorch.runtime import Runtime",
    "mnn": "import MNN",
    "tflite": "from ai_edge_litert.interpreter import Interpreter",
    "ncnn": "import ncnn",
}


def readme(drafts: Sequence[tuple[Target, Draft]], existing: str | None) -> str:
    """The text, for formats that were written just now. `existing`: the one that lies there; its sections on other
    formats of the same detector stay."""
    draft = drafts[0][1]
    title = f"# {draft.template.name}, exported by facekit"
    sections = {_title(target, of_target): _section(target, of_target) for target, of_target in drafts}
    if existing is not None and title in existing.splitlines()[:3]:
        for text in existing.split("\n## ")[1:]:
            sections.setdefault(text.partition("\n")[0], "## " + text.strip() + "\n")
    return "\n".join([MARK, title, "", _protocol(draft), "", *sections.values()])


def readme_path(folder: Path) -> Path:
    """Where it goes: beside a README.md that facekit did not write, under another name."""
    path = folder / NAME
    try:
        is_other = path.is_file() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK)
    except OSError:
        is_other = True
    return folder / OTHER_NAME if is_other else path


def _title(target: Target, draft: Draft) -> str:
    written = [path.as_posix() for path in target.paths(Path(), draft.template.name)]
    names = [name for name in written if not name.endswith(".yaml")]
    return ", ".join(names) if len(names) <= 3 else names[0]


def _is_suppressed(target: Target, draft: Draft) -> bool:
    """Whether the graph gives faces, as `--nms` asks of ONNX."""
    return draft.options.nms and target.name == "onnx"


def _takes_uint8(target: Target, draft: Draft) -> bool:
    """Whether the graph takes pictures as they lie in memory, as `--uint8-input` asks of OpenVINO."""
    return draft.options.takes_uint8 and target.name == "openvino"


def _protocol(draft: Draft) -> str:
    said = draft.about
    return (
        f"Licence: {said.licence}. Score threshold {said.score_threshold:g}, NMS at IoU {said.nms_iou_threshold:g}.\n"
        f"Mean, scale and channel order are inside."
    )


def _input(target: Target, draft: Draft) -> str:
    """Of one format: sizes and types differ between them."""
    said = draft.about
    if said.size_hw is not None:
        size = f"of {said.size_hw[1]}x{said.size_hw[0]} pixels alone"
    else:
        least = least_side(draft.graph.size_multiple, draft.graph.head)
        sizes = f"of up to {MAX_SIDE} pixels a side" if target.name == "executorch" else "of any size"
        size = sizes + (f" that {said.size_multiple} divides" if said.size_multiple > 1 else "")
        size += f" (model.pt2: from {least} pixels a side)" if target.name == "torchscript" else ""
    laid_out = "uint8 (1, height, width, 3)" if _takes_uint8(target, draft) else "float32 (1, 3, height, width)"
    return f"Input `image`: {laid_out}, {size}: BGR pixels 0..255 as OpenCV reads them."


def _outputs(target: Target, draft: Draft) -> str:
    head, said = draft.graph.head, draft.about
    if _is_suppressed(target, draft):
        marks = ", `landmarks` (faces, 10)" if head.has_landmarks else ""
        return (
            f"Outputs: `boxes` (faces, 4) left, top, right, bottom in pixels of the input, `scores` (faces,) over "
            f"{said.score_threshold:g}{marks}: best first, suppressed already. Scale to your picture."
        )
    if not head.any_size:
        marks = ", `landmarks` (1, priors, 10)" if head.has_landmarks else ""
        return (
            f"Outputs: `boxes` (1, priors, 4) left, top, right, bottom in pixels of the input, `scores` (1, priors) "
            f"0..1{marks}. Suppress what overlaps, and scale to your picture."
        )
    kinds = ", ".join(f"`{kind}_S` (1, rows, {columns})" for kind, columns in head.level_kinds.items())
    product = " times obj" if head.has_objectness else ""
    return (
        f"Outputs, a level S of {', '.join(map(str, head.strides))}: {kinds}; a row a prior, cell by cell, row by row. "
        f"The score is cls{f' (column {head.face_column})' if head.scoring == 'softmax' else ''}{product}; boxes and "
        f"points are relative to the prior, see the loop below. Then suppress what overlaps."
    )


def _section(target: Target, draft: Draft) -> str:
    heading = f"## {_title(target, draft)}\n"
    if target.name not in RUNS:
        return f"{heading}\nNot run by Python: its page in facekit's documentation, or a README of its own, says how.\n"
    code = "\n".join([
        "import cv2", *_sorted_imports(IMPORTS[target.name]), "",
        _fed(draft, _takes_uint8(target, draft)) + _names(target, draft)
        + (RUN_SUPPRESSED if _is_suppressed(target, draft) else RUNS[target.name]).strip(),
        *([MAPS_AS_ROWS.strip()] if target.name == "ncnn" and draft.graph.head.any_size else []),
        _decoded(target, draft) + _printed(target, draft),
    ])  # fmt: skip
    return f"{heading}\n{_input(target, draft)}\n\n{_outputs(target, draft)}\n\n```python\n{code}```\n"


def _sorted_imports(text: str) -> list[str]:
    lines = ["import numpy as np", *text.splitlines()]
    return sorted(lines, key=lambda line: (not line.startswith("import"), line.split()[1].lower()))


def _fed(draft: Draft, takes_uint8: bool) -> str:
    """From the picture to `blob`, as the template's protocol feeds it."""
    rule, said = draft.template.evaluation, draft.about
    text = 'image_bgr = cv2.imread("picture.jpg")\nheight, width = image_bgr.shape[:2]\n'
    input_height, input_width = said.size_hw or draft.template.input.size_hw
    if rule.resize == "stretch":
        text += f"scale_xy = np.array([width / {input_width}, height / {input_height}])\n"
        text += f"fed = cv2.resize(image_bgr, ({input_width}, {input_height}))\n"
    elif rule.resize == "none" and said.size_hw is None:
        text += "scale_xy, fed = np.array([1, 1]), image_bgr\n"
    else:
        text += f"scale = max(width / {input_width}, height / {input_height})\nscale_xy = np.array([scale, scale])\n"
        text += "fed = cv2.resize(image_bgr, (max(1, round(width / scale)), max(1, round(height / scale))))\n"
    multiple = rule.size_multiple
    if (said.size_hw is not None and rule.resize != "stretch") or rule.resize == "letterbox":
        text += f"fed = np.pad(fed, ((0, {input_height} - fed.shape[0]), (0, {input_width} - fed.shape[1]), (0, 0)))\n"
    elif multiple > 1 and rule.resize != "stretch":
        text += f"fed = np.pad(fed, ((0, -fed.shape[0] % {multiple}), (0, -fed.shape[1] % {multiple}), (0, 0)))\n"
    if takes_uint8:
        return text + "blob = np.ascontiguousarray(fed[None])\n\n"
    return text + "blob = np.ascontiguousarray(fed.transpose(2, 0, 1)[None], dtype=np.float32)\n\n"


def _names(target: Target, draft: Draft) -> str:
    head = draft.graph.head
    if not head.any_size or _is_suppressed(target, draft):
        names = ["boxes", "scores", *["landmarks"] * head.has_landmarks]
        return f"NAMES = {names}\n".replace("'", '"')
    kinds, strides = ", ".join(f'"{kind}"' for kind in head.level_kinds), ", ".join(map(str, head.strides))
    text = f'NAMES = [f"{{kind}}_{{stride}}" for kind in ({kinds}) for stride in ({strides},)]\n'
    if target.name == "ncnn":
        text += f"COLUMNS = {[columns for columns in head.level_kinds.values() for _ in head.strides]}\n"
    return text


def _decoded(target: Target, draft: Draft) -> str:
    """From `outputs` to boxes_xyxy, scores and points_xy in pixels of the input."""
    head = draft.graph.head
    if not head.any_size or _is_suppressed(target, draft):
        marks = '\npoints_xy = outputs["landmarks"].reshape(-1, 5, 2)' if head.has_landmarks else ""
        return f'\nboxes_xyxy, scores = outputs["boxes"], outputs["scores"]{marks}\n'
    sizes = {
        stride: [list(size) for size in level] for stride, level in zip(head.strides, head.prior_sizes_wh, strict=True)
    }
    lines = [
        "", f"PRIORS = {sizes}  # stride: width, height of each of a cell's priors",
        "boxes, scores, points = [], [], []",
        "for stride, sizes_wh in PRIORS.items():",
        "    rows, columns = -(-fed.shape[0] // stride), -(-fed.shape[1] // stride)",
        "    cell_xy = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)",
        f"    centre = np.repeat((cell_xy + {head.cell_offset}) * stride, len(sizes_wh), axis=0)",
    ]  # fmt: skip
    if isinstance(head.coder, DeltaCoder):
        centre_variance, size_variance = head.coder.centre_variance, head.coder.size_variance
        lines += [
            '    size, box = np.tile(np.array(sizes_wh), (rows * columns, 1)), outputs[f"bbox_{stride}"]',
            f"    middle = centre + box[:, :2] * size * {centre_variance}",
            f"    half = size * np.exp(box[:, 2:] * {size_variance}) / 2",
            "    boxes.append(np.concatenate([middle - half, middle + half], axis=1))",
        ]
        unit = f"size[:, None] * {centre_variance}"
    else:
        unit = "stride" if head.coder.in_strides else "1"  # type: ignore[attr-defined]
        lines += [
            f'    box = outputs[f"bbox_{{stride}}"] * {unit}',
            "    boxes.append(np.concatenate([centre - box[:, :2], centre + box[:, 2:]], axis=1))",
        ]
    objectness = ' * outputs[f"obj_{stride}"][:, 0]' if head.has_objectness else ""
    lines += [f'    scores.append(outputs[f"cls_{{stride}}"][:, {head.face_column}]{objectness})']
    if head.has_landmarks:
        lines += [f'    points.append(centre[:, None] + outputs[f"kps_{{stride}}"].reshape(-1, 5, 2) * {unit})']
    lines += ["boxes_xyxy, scores = np.concatenate(boxes), np.concatenate(scores)"]
    if head.has_landmarks:
        lines += ["points_xy = np.concatenate(points)"]
    return "\n".join(lines) + "\n"


def _printed(target: Target, draft: Draft) -> str:
    marks = ", (points_xy[face] * scale_xy).round(1).tolist()" if draft.graph.head.has_landmarks else ""
    iou = draft.about.nms_iou_threshold
    if _is_suppressed(target, draft):
        loop = "for face in np.flatnonzero(scores > 0.5):\n"
    else:
        loop = (
            "boxes_xywh = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)\n"
            f"for face in cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores.tolist(), 0.5, {iou:g}):\n"
        )
    return (
        f"{loop}    print((boxes_xyxy[face] * np.tile(scale_xy, 2)).round(1).tolist(), scores[face].round(3){marks})\n"
    )
