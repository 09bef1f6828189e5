"""The README beside an export: its lines find the portrait's face, by the runtime alone."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from facekit import Detector
from facekit.detector import BUNDLED_WEIGHTS
from facekit.pictures.read import read_picture
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.table import FORMATS, TARGETS
from facekit.targets.tflite import OVERLAY
from facekit.targets.writing.check_pictures import portrait
from facekit.targets.writing.draft import GraphOptions
from facekit.targets.writing.graph import ExportGraph
from facekit.targets.writing.overlay import DONE, overlay_folder
from facekit.targets.writing.readme import MARK, RUNS, readme, readme_path
from facekit.template import Template, load_template
from tests.targets.support import Draft

PLAIN = GraphOptions()
# Of the portrait's size here, which runs the same lines; tests/targets/test_runtimes.py has files of any size.
SLOW_AT_ANY_SIZE = ("torchscript", "executorch")
FORMATS_RUN = ("onnx", "openvino", "ncnn", "mnn", "torchscript", "executorch", "tflite")


class Bundled(NamedTuple):
    template: Template
    graph: ExportGraph


@pytest.fixture(scope="module")
def bundled() -> Bundled:
    template = load_template(BUNDLED_WEIGHTS.parent / "template.yaml")
    backend = PyTorchBackend.from_file(BUNDLED_WEIGHTS.with_suffix(".pth"), template, "cpu")
    import torch

    backend.network.to(memory_format=torch.contiguous_format)
    return Bundled(template, ExportGraph(backend.network, template).eval())


@pytest.fixture(scope="module")
def written(bundled: Bundled, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with the format's files, its README.md, and the portrait where the snippets read it."""

    @cache
    def write(format: str, options: GraphOptions = PLAIN) -> Path:
        target, folder = TARGETS[format], tmp_path_factory.mktemp(format)
        for package in target.needed_to_write:
            pytest.importorskip(package)
        if format == "tflite" and not (overlay_folder(OVERLAY) / DONE).is_file():
            pytest.skip("needs the environment in the cache that the first `facekit export --formats tflite` makes")
        graph = bundled.graph
        if not target.any_size or format in SLOW_AT_ANY_SIZE:
            graph = ExportGraph(graph.network, bundled.template, read_picture(portrait()).shape[:2]).eval()
        draft = Draft(graph, bundled.template, graph.about, BUNDLED_WEIGHTS, options)
        if format == "onnx" and not options.nms:
            shutil.copy(BUNDLED_WEIGHTS, folder / "model.onnx")
        else:
            importlib.import_module(f"facekit.targets.{target.module}").write(
                draft, target.paths(folder, bundled.template.name)[0]
            )
        (folder / "README.md").write_text(readme([(target, draft)], None), encoding="utf-8")
        shutil.copy(portrait(), folder / "picture.jpg")
        return folder

    return write


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the one block of Python prints."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "facekit" not in code
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    return printed.getvalue()


@pytest.mark.parametrize(
    ("format", "options"),
    [
        *((format, PLAIN) for format in FORMATS_RUN),
        ("onnx", GraphOptions(nms=True)),
        ("openvino", GraphOptions(takes_uint8=True)),
    ],
)
def test_its_lines_find_what_the_detector_finds(
    format: str, options: GraphOptions, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = run(written(format, options), monkeypatch).splitlines()
    numbers = [float(text) for text in re.findall(r"-?\d+\.\d+", line)]
    face = Detector.bundled().detect(portrait())[0]
    assert numbers[:4] == pytest.approx(face.box_xyxy.tolist(), abs=0.1)
    assert numbers[4] == pytest.approx(face.score, abs=0.002)
    assert numbers[5:] == pytest.approx(face.landmarks_xy.ravel().tolist(), abs=0.1)


def test_every_format_that_python_runs_has_lines() -> None:
    assert set(RUNS) <= set(FORMATS)
    assert set(FORMATS_RUN) <= set(RUNS)


def text_of(bundled: Bundled, format: str, existing: str | None = None) -> str:
    draft = Draft(bundled.graph, bundled.template, bundled.graph.about, None)
    return readme([(TARGETS[format], draft)], existing)


def test_says_what_goes_in_and_comes_out(bundled: Bundled) -> None:
    text = text_of(bundled, "onnx")
    assert text.startswith(MARK + "\n# yunet-n, exported by facekit\n")
    assert "Input `image`: float32 (1, 3, height, width), of any size that 32 divides: BGR pixels 0..255" in text
    assert "`obj_S` (1, rows, 1)" in text and "The score is cls times obj" in text
    fixed = dataclasses.replace(bundled.graph.about, size_hw=(256, 320))
    draft = Draft(bundled.graph, bundled.template, fixed, None)
    assert "of 320x256 pixels alone" in readme([(TARGETS["onnx"], draft)], None)


def test_a_section_says_what_its_own_file_takes_and_gives(bundled: Bundled) -> None:
    options = GraphOptions(nms=True, takes_uint8=True)
    sized = dataclasses.replace(bundled.graph.about, size_hw=(640, 640))
    drafts = [
        (TARGETS[format], Draft(bundled.graph, bundled.template, about, None, options))
        for format, about in (("onnx", bundled.graph.about), ("openvino", bundled.graph.about), ("tflite", sized))
    ]
    head, onnx, openvino, tflite = readme(drafts, None).split("\n## ")
    assert "Input" not in head
    assert "float32 (1, 3, height, width), of any size" in onnx
    assert "`boxes` (faces, 4)" in onnx and "suppressed already" in onnx and "cls" not in onnx
    assert "uint8 (1, height, width, 3), of any size" in openvino and "`obj_S` (1, rows, 1)" in openvino
    assert "float32 (1, 3, height, width), of 640x640 pixels alone" in tflite
    assert ", of up to 2048 pixels a side that 32 divides: BGR" in text_of(bundled, "executorch")
    assert ", of any size that 32 divides (model.pt2: from 64 pixels a side): BGR" in text_of(bundled, "torchscript")


def test_sections_on_other_formats_stay(bundled: Bundled) -> None:
    first = text_of(bundled, "onnx")
    both = text_of(bundled, "openvino", first)
    assert re.findall(r"^## (.*)$", both, re.MULTILINE) == ["model.xml, model.bin", "model.onnx"]
    assert text_of(bundled, "onnx", both).count("## model.onnx") == 1
    of_another = first.replace("# yunet-n,", "# yunet-s,")
    assert "model.onnx" not in text_of(bundled, "openvino", of_another)


def test_a_readme_of_the_users_own_is_let_be(tmp_path: Path) -> None:
    assert readme_path(tmp_path).name == "README.md"
    (tmp_path / "README.md").write_text("# Mine\n")
    assert readme_path(tmp_path).name == "README.facekit.md"
    (tmp_path / "README.md").write_text(MARK + "\n# yunet-n\n")
    assert readme_path(tmp_path).name == "README.md"
