"""Assigners and losses take a batch at once: no Python loop over pictures or faces."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import facekit
from facekit.models import build_model
from facekit.structures import RawOutputs, Targets
from facekit.template import find_template, load_template

PACKAGE = Path(facekit.__file__).parent
LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LOOPING_CALLS = {"map", "filter", "reduce"}
WHOLE_FILES = ["ops/assigners.py", "ops/losses.py", "ops/multibox.py"]
# The levels of a network are neither pictures nor faces.
ALLOWED = {("ops/assigners.py", "atss_assign"): 1}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def count_loops(tree: ast.AST) -> int:
    return sum(
        isinstance(node, LOOPS)
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOOPING_CALLS)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    "source",
    [
        "for face in faces: pass",
        "while faces: faces.pop()",
        "total = sum(loss(face) for face in faces)",
        "[loss(face) for face in faces]",
        "{face: loss(face) for face in faces}",
        "list(map(loss, faces))",
    ],
)
def test_loops_are_seen(source: str) -> None:
    assert count_loops(ast.parse(source)) == 1


@pytest.mark.parametrize("name", WHOLE_FILES)
def test_ops_have_none(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
    found = {(name, function.name): count_loops(function) for function in functions(tree)}
    assert found
    assert {place: count for place, count in found.items() if count} == {
        place: count for place, count in ALLOWED.items() if place[0] == name
    }
    assert count_loops(tree) == sum(found.values())  # none outside functions


def test_the_networks_losses_have_none() -> None:
    losses = {
        path.stem: count_loops(function)
        for path in (PACKAGE / "models").glob("*.py")
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if function.name == "losses"
    }
    assert losses.keys() >= {"ssd", "yunet", "retinaface", "ultralight", "atss", "fcos", "scrfd"}
    assert not any(losses.values()), losses


class _Operators(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "template",
    [
        "face-detection-0200",
        "face-detection-0205",
        "retinaface-mobilenetv1-0.25",
        "scrfd-0.5g",
        "ultralight-slim-320",
        "yunet-n",
    ],
)
def test_as_many_operators_for_a_crowd_as_for_two_faces(template: str) -> None:
    network = build_model(load_template(find_template(template)))
    head = network.head
    priors = head.priors((128, 128)).tensors()

    def operators(faces: int, pictures: int) -> Counter[str]:
        generator = torch.Generator().manual_seed(0)
        centre = 128 * torch.rand(faces, 2, generator=generator)
        half = 4 + 30 * torch.rand(faces, 2, generator=generator)
        boxes = torch.cat([centre - half, centre + half], dim=1)
        index = torch.arange(faces) * pictures // faces
        targets = Targets(boxes, index, boxes.repeat(1, 3)[:, :10], torch.ones(faces, dtype=torch.bool), pictures)

        def output(*columns: int) -> torch.Tensor:
            return torch.rand(pictures, len(priors.cxcywh), *columns, generator=generator)

        raw = RawOutputs(
            output(2 if head.scoring == "softmax" else 1),
            output(4),
            output() if head.has_objectness else None,
            output(10) if head.has_landmarks else None,
        )
        with _Operators() as watch:
            losses = network.losses(raw, targets, priors)
        assert all(loss.isfinite() for loss in losses.values())
        return watch.counts

    assert operators(faces=2, pictures=2) == operators(faces=300, pictures=8)
