from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit.base.extras import PACKAGES, explain_import_error, optional_packages
from facekit.errors import FacekitError

BASE = {"numpy", "opencv_python", "onnxruntime", "PyYAML", "click", "tqdm"}
NO_PARTS = ("all", "docs", "dev")  # extras that are no part of facekit by themselves


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[ ]", text)[0].replace("-", "_") for text in requirements}


def without(packages: Sequence[str], codes: Sequence[str], folder: Path) -> list[tuple[str, str]]:
    """The error and the printed text of each code, run in one process that can't import the packages."""
    runner = """
import contextlib, io, json, sys
packages, codes = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(packages))
for code in codes:
    printed, error = io.StringIO(), "none"
    with contextlib.redirect_stderr(printed):
        try:
            exec(code, {})
        except BaseException as caught:
            error = f"{type(caught).__name__}: {caught}"
    print(json.dumps([error, printed.getvalue()]))
"""
    command = [sys.executable, "-c", runner, json.dumps([packages, codes])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [(error, printed) for error, printed in map(json.loads, done.stdout.splitlines())]


def line(*args: str) -> str:
    return f"from facekit.cli import main; main({list(args)!r})"


class TestTable:
    def test_is_pyproject_s(self, project_dir: Path) -> None:
        """Whoever follows the message gets the package; the base has none that may be missing."""
        project = tomllib.loads((project_dir / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        for package, (extra, _) in PACKAGES.items():
            assert package in names(extras[extra]), package
        assert names(project["dependencies"]) == BASE
        assert not names(project["dependencies"]) & set(PACKAGES)
        own = names([text for name, texts in extras.items() if name not in NO_PARTS for text in texts])
        assert own - {"facekit"} == set(PACKAGES)

    def test_all_holds_each(self, project_dir: Path) -> None:
        project = tomllib.loads((project_dir / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        assert extras["all"] == [f"facekit[{','.join(name for name in extras if name not in NO_PARTS)}]"]


class TestMessage:
    @pytest.mark.parametrize("package", PACKAGES)
    def test_names_package_purpose_and_command(self, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(FacekitError) as caught, optional_packages():
            __import__(package)
        extra, purpose = PACKAGES[package]
        message = str(caught.value)
        assert message.startswith(package) and purpose in message and "\n" not in message
        assert message.endswith(f'pip install "facekit[{extra}]"')

    def test_other_errors_stay(self) -> None:
        with pytest.raises(ModuleNotFoundError, match="no_such_package"), optional_packages():
            __import__("no_such_package")
        assert explain_import_error(ImportError("cannot import name 'x' from 'torch'")) is None

    def test_a_library_that_opencv_lacks(self) -> None:
        error = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        assert "apt-get install libgl1" in str(explain_import_error(error))


FLOPS = line("flops", "yunet-n")
VISUALIZE = line("visualize", "--template", "yunet-n", "--load-weights", "model.xml", "--images", "a.png")
IMPORT = line("import-weights", "model.onnx", "--template", "scrfd-0.5g", "--output", "x.pth")
COMPRESS = line(
    "compress", "--template", "yunet-n", "--load-weights", "model.onnx", "--nncf-quantization", "--train-ann-files",
    "a.json", "--train-data-roots", ".", "--val-ann-files", "a.json", "--val-data-roots", ".", "--save-checkpoints-to",
    "out",
)  # fmt: skip
SERVE = line("serve", "--port", "0")
COCO = """
from facekit.metrics.coco import coco_ap
faces = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]
coco_ap({"images": [{"id": 1}], "annotations": faces}, {1: ([[0, 0, 9, 9]], [1.0])}, 1)
"""
WIDER = """
from pathlib import Path
from facekit.metrics.wider import read_wider_ground_truth
read_wider_ground_truth(Path("eval_tools"))
"""
DRAW = """
from facekit.pages.drawing import sheet
with sheet(10, 10): pass
"""
BOARD = """
from pathlib import Path
from facekit.engine.training.journal import Journal
Journal(Path("."), Path("board"), 0)
"""
OPEN = """
import facekit
facekit.Detector.open("model.xml", "yunet-n")
"""


class TestWithout:
    """Whatever needs the package ends in one line."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("work")
        for name in ("model.xml", "model.bin", "model.onnx"):
            (folder / name).write_bytes(b"-")
        cv2.imwrite(str(folder / "a.png"), np.zeros((64, 64, 3), np.uint8))
        labels = {
            "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 20, 20]}],
            "categories": [{"id": 1, "name": "face"}],
        }
        (folder / "a.json").write_text(json.dumps(labels))
        (folder / "eval_tools").mkdir()
        for name in ("wider_face_val", "wider_easy_val", "wider_medium_val", "wider_hard_val"):
            (folder / "eval_tools" / f"{name}.mat").touch()
        return folder

    @pytest.mark.parametrize(
        "codes",
        [
            {"torch": FLOPS},
            {"torchvision": FLOPS.replace("yunet-n", "face-detection-0200")},  # which is built on its blocks
            {"openvino": VISUALIZE, "onnx": IMPORT, "nncf": COMPRESS},
            {"h11": SERVE},
            {"starlette": SERVE},  # h11 is there where others brought it
        ],
        ids=",".join,
    )
    def test_commands(self, codes: dict[str, str], folder: Path) -> None:
        results = without(list(codes), list(codes.values()), folder)
        for package, (error, printed) in zip(codes, results, strict=True):
            assert error == "SystemExit: 1", printed
            said = [text for text in printed.splitlines() if text.startswith("Error: ")]
            assert said == printed.splitlines()[-1:], printed  # last, and in a line
            assert package in said[0] and said[0].endswith(remedy(package))

    def test_python(self, folder: Path) -> None:
        codes = {"pycocotools": COCO, "scipy": WIDER, "matplotlib": DRAW, "tensorboard": BOARD, "openvino": OPEN}
        results = without(list(codes), list(codes.values()), folder)
        for package, (error, _) in zip(codes, results, strict=True):
            assert error.startswith("FacekitError: ") and package in error, error
            assert error.endswith(remedy(package)), error


def remedy(package: str) -> str:
    return f'pip install "facekit[{PACKAGES[package][0]}]"'
