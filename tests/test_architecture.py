"""The rules that keep the tree readable: who may import whom, how long files are, what is done in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONGEST_FIRST

PROJECT = Path(__file__).resolve().parent.parent
FILES = sorted((PROJECT / "facekit").rglob("*.py"))

# From the bottom; a floor may import itself and those below it, never one above.
FLOORS = (
    ("errors", "base"),
    ("machine", "structures", "old_templates", "template", "protocol"),
    ("ops",),
    ("pictures", "labels", "feed", "tracks"),
    ("results", "models", "metrics", "datasets"),
    ("weights",),
    ("training_data", "targets", "web"),
    ("detector",),
    ("cluster",),
    ("records",),
    ("engine", "pages", "serving"),
    ("commands",),
    ("cli", "__main__", "__init__"),
)  # fmt: skip
FLOOR_OF = {part: number for number, floor in enumerate(FLOORS) for part in floor}


def relative(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def part_of(path: Path) -> str:
    """facekit/ops/nms.py -> ops; facekit/cli/data.py -> cli."""
    first = path.relative_to(PROJECT / "facekit").parts[0]
    return first.removesuffix(".py")


def facekit_imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and part of facekit of every import, also of those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = package[: len(package) - node.level + 1]
                base = ".".join((*kept, base) if base else kept)
            # `from facekit import x` may name a module; `from facekit.ops import x` is ops either way.
            names = [f"facekit.{alias.name}" for alias in node.names] if base == "facekit" else [base]
        for name in names:
            root, _, rest = name.partition(".")
            if root == "facekit" and rest.split(".")[0] in FLOOR_OF:
                yield node.lineno, rest.split(".")[0]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """The name of every call as it is written: print, torch.load, yaml.load."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def test_every_module_has_a_floor() -> None:
    assert FILES
    homeless = {part_of(path) for path in FILES} - set(FLOOR_OF)
    assert not homeless, f"give these a floor in FLOORS: {sorted(homeless)}"


def test_imports_are_found_wherever_they_hide() -> None:
    source = """
import facekit.engine.training.train
from facekit import cli
from facekit.ops.nms import select_detections
from . import report
from .. import datasets
from ..targets.graph import export
def later():
    from facekit.engine.compress import run
"""
    found = [part for _, part in facekit_imports(ast.parse(source), ("facekit", "engine"))]
    assert found == ["engine", "cli", "ops", "engine", "datasets", "targets", "engine"]


def test_no_import_points_up(trees: dict[Path, ast.Module]) -> None:
    complaints = []
    for path, tree in trees.items():
        own = part_of(path)
        package = ("facekit", *path.relative_to(PROJECT / "facekit").parent.parts)
        for line, other in facekit_imports(tree, package):
            if FLOOR_OF.get(other, 0) > FLOOR_OF.get(own, 0):
                complaints.append(f"{relative(path)}:{line}: {own} imports {other}, which lies above it")
    assert not complaints, "\n".join(complaints)


def test_length_of_files() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    limits = {path: 300 if part_of(path) == "models" else 450 for path in FILES}
    for path in (*(PROJECT / "tests").rglob("*.py"), *(PROJECT / "tools").rglob("*.py")):
        lengths[path], limits[path] = len(path.read_text(encoding="utf-8").splitlines()), 450
    too_long = [f"{relative(path)}: {lengths[path]} lines" for path in lengths if lengths[path] > limits[path]]
    assert not too_long, "\n".join(too_long)


def test_the_longest_test_files_are_there() -> None:
    assert not [name for name in LONGEST_FIRST if not (PROJECT / name).is_file()]


def test_only_the_command_line_prints(trees: dict[Path, ast.Module]) -> None:
    prints = [
        f"{relative(path)}:{call.lineno}"
        for path, tree in trees.items()
        if part_of(path) != "cli"
        for name, call in calls(tree)
        if name == "print"
    ]
    assert not prints, prints


def test_torch_load_is_safe_and_in_one_place(trees: dict[Path, ast.Module]) -> None:
    found = [
        (relative(path), call) for path, tree in trees.items() for name, call in calls(tree) if name == "torch.load"
    ]
    assert {path for path, _ in found} == {"facekit/weights/torch_file.py"}
    for _, call in found:
        flags = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert flags.get("weights_only") == "True", f"line {call.lineno}"


def test_nothing_executes_what_it_reads(trees: dict[Path, ast.Module]) -> None:
    forbidden = {
        "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads", "eval", "exec", "os.system",
    }  # fmt: skip
    found = [
        f"{relative(path)}:{call.lineno}: {name}"
        for path, tree in trees.items()
        for name, call in calls(tree)
        if name in forbidden
    ]
    assert not found, found
