"""decode.js against Python's own decoding, for every template: what a network might say, turned into faces by both."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.feed import candidates, fitted, prepare
from facekit.ops.head import declared_head
from facekit.ops.nms import select_detections
from facekit.structures import Activated, Decoded
from facekit.template import find_template, known_templates, load_template
from facekit.web.declaration import declaration
from facekit.web.page import SITE

THRESHOLD = 0.5
RUN = """import("./decode.js").then(({ faces, plan, planes }) => {
  const { detector, width, height, pixels, outputs } = %s;
  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const way = plan(detector, width, height);
  const arrays = Object.fromEntries(Object.entries(outputs).map(([name, text]) =>
    [name, new Float32Array(bytes(text).buffer)]));
  return { way, fed: [...planes(bytes(pixels), width, height, way)], faces: faces(detector, arrays, way, %s) };
})"""


@pytest.fixture(scope="module")
def blank(browser: Any, host: Any) -> Any:
    browser.show_address(f"{host(SITE)}page.css")
    return browser


def text(array: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def said_of(template: Any, head: Any, size_hw: tuple[int, int], dice: Any) -> tuple[dict[str, Any], Any]:
    """Outputs by name, and the same as Python's runtimes give them: a few priors are sure of a face."""
    cells = head.cells(size_hw)
    rows = [h * w * n for (h, w), n in zip(cells, head.priors_a_cell, strict=True)]
    count = sum(rows)
    sure = dice.random(count) < min(0.3, 60 / count)
    scores = np.where(sure, dice.uniform(0.6, 1, count), dice.uniform(0, 0.2, count)).astype(np.float32)
    if not head.any_size:
        corners = dice.uniform(0, 200, (count, 2, 2)).astype(np.float32)
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        return {"boxes": boxes, "scores": scores}, Decoded(boxes[None], scores[None])
    parts = {
        "cls": np.stack([scores if column == head.face_column else 1 - scores
                         for column in range(head.level_kinds["cls"])], axis=1),
        "obj": dice.uniform(0.9, 1, (count, 1)).astype(np.float32),
        "bbox": dice.normal(1, 0.7, (count, 4)).astype(np.float32),
        "kps": dice.normal(0, 1, (count, 10)).astype(np.float32),
    }  # fmt: skip
    parts = {kind: parts[kind] for kind in head.level_kinds}
    ends = np.cumsum(rows)[:-1]
    outputs = {
        f"{kind}_{stride}": level
        for kind, part in parts.items()
        for stride, level in zip(head.strides, np.split(part, ends), strict=True)
    }
    obj = parts["obj"][None, :, 0] if "obj" in parts else None
    return outputs, Activated(
        parts["cls"][None], parts["bbox"][None], obj, parts["kps"][None] if "kps" in parts else None
    )


@pytest.mark.parametrize("name", known_templates())
def test_the_same_faces(blank: Any, name: str) -> None:
    dice = np.random.default_rng(len(name))
    template = load_template(find_template(name))
    head = declared_head(template.model)
    picture = dice.integers(0, 256, (94, 131, 3), np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    feeds_much = template.evaluation.feeds_one_size or template.evaluation.resize == "fit"
    only_hw = (96, 128) if feeds_much and head.any_size else None  # a graph of one, small, size
    fed_by = fitted(template, only_hw)
    fed, scale_xy = prepare(picture, fed_by)
    outputs, said = said_of(template, head, fed.shape[:2], dice)
    boxes, _ = candidates(said, 0, head, head.priors(fed.shape[:2]), THRESHOLD)
    rule = fed_by.evaluation
    expected = select_detections(
        boxes, THRESHOLD, rule.nms_iou_threshold, rule.max_candidates, rule.max_detections,
        rule.nms_union_slack * fed.shape[0] * fed.shape[1], scale_xy,
    )  # fmt: skip
    job = {
        "detector": declaration(template, only_hw), "width": 131, "height": 94,
        "pixels": text(cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA)),
        "outputs": {key: text(value.astype(np.float32)) for key, value in outputs.items()},
    }  # fmt: skip
    found = blank.run(RUN % (json.dumps(job), THRESHOLD))
    assert found["way"]["padded"] == [fed.shape[1], fed.shape[0]]
    assert found["way"]["back"] == pytest.approx(scale_xy)
    planes = np.array(found["fed"], np.float32).reshape(3, *fed.shape[:2]).transpose(1, 2, 0)
    assert np.abs(planes - fed).max() <= 1  # OpenCV scales in whole numbers
    assert len(found["faces"]) == len(expected) > 0
    assert np.array([face["score"] for face in found["faces"]]) == pytest.approx(expected.scores, abs=1e-6)
    got = np.array([face["box"] for face in found["faces"]])
    assert np.abs(got - expected.boxes_xyxy).max() < 0.01 * max(1, np.abs(expected.boxes_xyxy).max() / 100)
    if expected.landmarks_xy is not None:
        points = np.array([face["points"] for face in found["faces"]]).reshape(-1, 5, 2)
        assert np.abs(points - expected.landmarks_xy).max() < 0.05


def test_no_file_of_the_page_is_long() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in Path(SITE).iterdir()}
    assert max(lengths.values()) <= 300, lengths
