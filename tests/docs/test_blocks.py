"""Marked blocks of the README and of docs/ run as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.docs.support import BLOCK, PAGES, PROJECT, block, name_of, numbers, run_bash, run_python


@pytest.mark.parametrize("page", ["README.md", "docs/quick-start.md"])
def test_first_look_finds_the_face(page: str, tmp_path: Path) -> None:
    done = run_bash(block(page, "first look").replace(" faces.jpg", f" {tmp_path}/faces.jpg"))
    assert "astronaut.jpg: 1 face in" in done.stderr
    drawn, plain = cv2.imread(str(tmp_path / "faces.jpg")), cv2.imread(str(PROJECT / "data/demo/astronaut.jpg"))
    changed_y, changed_x = np.nonzero(np.abs(drawn.astype(int) - plain).max(axis=2) > 60)
    # Her face, as measured in the picture, the score above it, and nothing far from it.
    assert 165 < changed_x.min() < 195 and 255 < changed_x.max() < 285
    assert 30 < changed_y.min() < 100 and 160 < changed_y.max() < 195


@pytest.mark.parametrize(
    ("page", "name", "least"),
    [
        ("README.md", "python", 15),
        ("docs/quick-start.md", "python", 15),
        ("docs/python.md", "bundled detector", 8),
        ("docs/python.md", "passes", 1),
        ("docs/python.md", "detect", 6),
        ("docs/python.md", "processes", 1),
    ],
)
def test_python_lines(page: str, name: str, least: int) -> None:
    assert len(numbers(run_python(block(page, name)))) >= least


def test_faces_as_data(tmp_path: Path) -> None:
    commands = block("docs/commands/detect.md", "detect json").replace("faces.json", f"{tmp_path}/faces.json")
    done = run_bash(commands.replace("--crops crops", f"--crops {tmp_path}/crops"))
    assert done.stdout.startswith('{"schema":1,"source":"data/demo/astronaut.jpg","width":512,"height":512,"faces":[{')
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["astronaut_0.jpg", "crops", "faces.json"]


def test_flops() -> None:
    assert "params:  75,856" in run_bash(block("docs/commands/flops.md", "flops")).stdout
    assert "params:  75,856" in run_python(block("docs/python.md", "commands"))


def test_templates_are_listed() -> None:
    assert "yunet-n" in run_bash(block("docs/commands/templates.md", "templates")).stdout


def test_the_doctor_is_content() -> None:
    assert "runs, " in run_bash(block("docs/commands/doctor.md", "doctor")).stdout


def test_one_detector_and_several_are_timed(tmp_path: Path) -> None:
    assert "yunet" not in run_bash(block("docs/commands/benchmark.md", "benchmark")).stderr  # nothing is left out
    commands = block("docs/commands/compare.md", "compare").replace("compared.csv", f"{tmp_path}/compared.csv")
    assert run_bash(commands).stdout.count("bundled") == 3
    assert len((tmp_path / "compared.csv").read_text(encoding="utf-8").splitlines()) == 4


@pytest.fixture(scope="module")
def exported_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds model.onnx of the bundled yunet-n, which is what export wrote, and the portrait where the
    pages have it."""
    from facekit.detector import BUNDLED_WEIGHTS

    folder = tmp_path_factory.mktemp("exported")
    shutil.copyfile(BUNDLED_WEIGHTS, folder / "model.onnx")
    return with_portrait(folder)


def with_portrait(folder: Path) -> Path:
    (folder / "data").symlink_to(PROJECT / "data")
    return folder


def face_of_detector() -> tuple[list[float], float]:
    """x, y, w, h and score of the portrait's face, as facekit has them."""
    from facekit import Detector

    faces = Detector.bundled().detect(cv2.imread(str(PROJECT / "data/demo/astronaut.jpg")))
    left, top, right, bottom = map(float, faces.boxes_xyxy[0])
    return [left, top, right - left, bottom - top], float(faces.scores[0])


def test_decoding_yunet_is_the_detector(exported_dir: Path) -> None:
    printed = numbers(run_python(block("docs/deployment.md", "decode yunet"), exported_dir))
    box, score = face_of_detector()
    assert printed[:4] == pytest.approx(box, abs=0.1)
    assert printed[4] == pytest.approx(score, abs=0.001)
    assert len(printed) == 15  # one face, five points


def test_opencv_scores_are_the_root(exported_dir: Path) -> None:
    printed = numbers(run_python(block("docs/deployment.md", "face detector yn"), exported_dir))
    box, score = face_of_detector()
    assert printed[:4] == pytest.approx(box, abs=1)
    assert printed[4] == pytest.approx(score**0.5, abs=0.001)


def test_decoding_one_size_finds_the_face(shared_dir: Path, tmp_path: Path) -> None:
    from facekit.targets.onnx import write_graph
    from facekit.targets.pytorch import PyTorchBackend
    from facekit.targets.writing.graph import ExportGraph
    from facekit.template import TEMPLATES_DIR, load_template

    weights = shared_dir / "weights" / "openvino" / "face-detection-0200.xml"
    template = load_template(TEMPLATES_DIR / "face-detection-0200" / "template.yaml")
    graph = ExportGraph(PyTorchBackend.from_file(weights, template, "cpu").network, template).eval()
    write_graph(graph, tmp_path / "model.onnx", graph.about)
    printed = numbers(run_python(block("docs/deployment.md", "decode one size"), with_portrait(tmp_path)))
    assert printed[:4] == pytest.approx([180, 54, 93, 120], abs=20)
    assert len(printed) == 5 and 0.5 < printed[4] <= 1


def test_every_marked_block_is_run() -> None:
    marked = {(name_of(page), mark) for page in PAGES for mark, _, _ in BLOCK.findall(page.read_text("utf-8")) if mark}
    tests = "".join(file.read_text() for file in sorted(Path(__file__).parent.glob("test_*.py")))
    run = set(re.findall(r'block\("([^"]+)", "([^"]+)"\)', tests))
    run |= {(page, "first look") for page in ("README.md", "docs/quick-start.md")}
    run |= set(re.findall(r'\("((?:README|docs/[a-z-]+)\.md)", "([a-z ]+)", [0-9]+\)', tests))
    run.add(("docs/cluster.md", "torchrun"))  # tests/docs/test_cluster.py
    assert marked == run
