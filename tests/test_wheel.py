"""What `pip install` gives: the wheel in a virtual environment that holds the base alone, in an empty folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit import __version__
from facekit.base.extras import PACKAGES

RUNS = 5
MAX_RATIO = 3.0  # of a cold start to the written picture, over the bare script's
MAX_PEAK_MIB = 200
# What one would write by hand for the bundled detector: one picture in, the network's answer, a picture out.
BARE = """
import sys
import cv2, numpy as np, onnxruntime
weights, picture, output = sys.argv[1:]
image = cv2.imread(picture)
height, width = (-(-side // 32) * 32 for side in image.shape[:2])
padded = cv2.copyMakeBorder(image, 0, height - image.shape[0], 0, width - image.shape[1], cv2.BORDER_CONSTANT)
session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
answer = session.run(None, {session.get_inputs()[0].name: cv2.dnn.blobFromImage(padded)})
cv2.imwrite(output, image)
"""
# Of the machine that tests: what the installed facekit must not see.
HIDDEN = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in HIDDEN}


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)


def pip(python: str | Path, *args: str | Path, folder: Path) -> None:
    done = run(python, "-m", "pip", *args, "--quiet", folder=folder)
    assert done.returncode == 0, done.stderr


# Between the tests and the command, for a process starts with the memory of the one that forks it.
MEASURE = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
errors = process.stderr.read()
_, status, usage = os.wait4(process.pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, errors
print(json.dumps([time.perf_counter() - started, usage.ru_maxrss / 1024]))
"""


def measured(*command: object, folder: Path) -> tuple[float, float]:
    """Seconds of the wall, and the peak of resident memory in MiB."""
    arguments = [sys.executable, "-I", "-S", "-c", MEASURE, *map(str, command)]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True, env=clean_environment())
    seconds, peak_mib = json.loads(done.stdout)
    return seconds, peak_mib


@pytest.fixture(scope="module")
def wheel(project_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy: setuptools keeps what an earlier build left in build/."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(project_dir / "data" / "demo", source / "data" / "demo")
    for name in ("facekit", "model_templates"):
        shutil.copytree(project_dir / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(project_dir / name, source / name)
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", target, source, folder=target)
    return next(target.glob("facekit-*.whl"))


@pytest.fixture(scope="module")
def base(project_dir: Path) -> Path:
    """A virtual environment with what the base needs, kept until that changes."""
    project = tomllib.loads((project_dir / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (project_dir / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [re.split(r"[<>=]", text)[0] for text in project["dependencies"]]
    needed = [pin for pin in pins if pin.partition("==")[0] in names]
    assert len(needed) == len(names)
    digest = hashlib.sha256("\n".join([sys.version, *needed]).encode()).hexdigest()[:16]
    kept = project_dir / ".cache" / f"base-{digest}"
    if not kept.is_dir():
        draft = kept.with_name(f"{kept.name}.{os.getpid()}")
        subprocess.run([sys.executable, "-m", "venv", draft], check=True)
        pip(draft / "bin" / "python", "install", *needed, folder=draft)
        run(draft / "bin" / "python", "-m", "compileall", "-q", draft / "lib", folder=draft)  # not every pip does
        for old in kept.parent.glob("base-????????????????"):
            shutil.rmtree(old)
        draft.replace(kept)
    return kept


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def python(base: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fresh virtual environment with the wheel and the base."""
    fresh = tmp_path_factory.mktemp("venv") / "venv"
    shutil.copytree(base, fresh, symlinks=True, copy_function=link_or_copy)
    python = fresh / "bin" / "python"
    pip(python, "install", "--no-index", wheel, folder=fresh)
    run(python, "-m", "compileall", "-q", fresh / "lib", folder=fresh)
    return python


@pytest.fixture
def picture(project_dir: Path, tmp_path: Path) -> Path:
    """A photograph in a folder that holds nothing else."""
    return Path(shutil.copy(project_dir / "data" / "demo" / "astronaut.jpg", tmp_path))


def test_holds_all_that_it_needs(wheel: Path, project_dir: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = project_dir / "model_templates"
    for source in [*templates.rglob("*.yaml"), *templates.rglob("facekit.*"), *templates.rglob("MODEL_CARD.md")]:
        assert f"facekit/{source.relative_to(project_dir).as_posix()}" in names
    for source in (project_dir / "facekit").rglob("*"):
        if source.is_file() and "__pycache__" not in source.parts:
            assert source.relative_to(project_dir).as_posix() in names
    assert {name.partition("/")[0] for name in names} == {"facekit", f"facekit-{__version__}.dist-info"}


def test_knows_its_version(python: Path, tmp_path: Path) -> None:
    code = "import facekit, importlib.metadata as m; print(facekit.__version__, m.version('facekit'), facekit.__file__)"
    done = run(python, "-c", code, folder=tmp_path)
    version, in_metadata, file = done.stdout.split()
    assert version == in_metadata == __version__
    assert Path(file).is_relative_to(python.parent.parent)


def test_holds_no_extra(python: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u, sys; print([name for name in sys.argv[1:] if u.find_spec(name)])"
    assert run(python, "-c", code, *PACKAGES, folder=tmp_path).stdout.strip() == "[]"


def test_finds_the_face(python: Path, picture: Path) -> None:
    facekit = python.with_name("facekit")
    done = run(facekit, "visualize", "--images", picture.name, "--output", "faces.jpg", folder=picture.parent)
    assert done.returncode == 0, done.stderr
    assert re.search(r"astronaut\.jpg: 1 faces?\b", done.stdout + done.stderr)
    drawn, before = (cv2.imread(str(picture.with_name(name))) for name in ("faces.jpg", picture.name))
    changed = np.argwhere((np.abs(drawn.astype(int) - before) > 60).any(axis=2))
    assert np.abs(changed.min(axis=0) - (72, 180)).max() < 40  # the box, measured by hand in tests/test_bundled.py
    assert np.abs(changed.max(axis=0) - (178, 271)).max() < 40


def test_python_finds_it_without_torch(python: Path, picture: Path) -> None:
    code = """
import sys, cv2, facekit
faces = facekit.Detector.bundled().detect(cv2.imread("astronaut.jpg")).above(0.5)
print(len(faces), sorted({"torch", "scipy", "matplotlib"} & set(sys.modules)))
"""
    done = run(python, "-c", code, folder=picture.parent)
    assert done.stdout.strip() == "1 []", done.stderr


def test_labels_are_converted_and_checked_without_torch(python: Path, picture: Path) -> None:
    labels = {
        "images": [{"id": 1, "file_name": picture.name, "width": 512, "height": 512}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [180, 72, 91, 106]}],
        "categories": [{"id": 1, "name": "face"}],
    }
    (picture.parent / "labels.json").write_text(json.dumps(labels))
    facekit = python.with_name("facekit")
    for args in (["convert", "labels.json", "yolo", "--to", "yolo"], ["check", "yolo"]):
        done = run(facekit, "data", *args, folder=picture.parent)
        assert done.returncode == 0, done.stderr


def test_names_the_extra_that_is_missing(python: Path, tmp_path: Path) -> None:
    done = run(python.with_name("facekit"), "flops", "yunet-n", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith('pip install "facekit[train]"')
    assert len(done.stderr.strip().splitlines()) == 1


def test_starts_nearly_as_fast_as_a_bare_script(
    python: Path, picture: Path, record_property: Callable[[str, object], None]
) -> None:
    """Both cold and in turns; the fastest of each counts, for other work on this machine only slows."""
    folder = picture.parent
    weights = next(python.parent.parent.rglob("yunet-n/facekit.onnx"))
    (folder / "bare.py").write_text(BARE)
    facekit = (python.with_name("facekit"), "visualize", "--images", picture.name, "--output", "faces.jpg")
    bare = (python, "bare.py", weights, picture.name, "bare.jpg")
    ours, theirs = [], []
    for _ in range(RUNS):
        (folder / "faces.jpg").unlink(missing_ok=True)
        theirs.append(measured(*bare, folder=folder))
        ours.append(measured(*facekit, folder=folder))
    seconds, bare_seconds = min(ours)[0], min(theirs)[0]
    peak, bare_peak = (max(mib for _, mib in each) for each in (ours, theirs))
    record_property(
        "figure",
        f"cold start to the written picture: facekit visualize {seconds:.2f} s, {peak:.0f} MiB; ONNX Runtime and "
        f"OpenCV alone {bare_seconds:.2f} s, {bare_peak:.0f} MiB; ratio {seconds / bare_seconds:.2f}",
    )
    assert seconds / bare_seconds <= MAX_RATIO
    assert peak < MAX_PEAK_MIB
