from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy
import pytest

import facekit
from facekit.base.extras import PACKAGES
from facekit.cli import main
from facekit.commands import doctor
from facekit.errors import FacekitError


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(args), prog_name="facekit")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_what_is_found_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(b"x" * 12345)
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path))
    found = facekit.doctor()
    assert found.is_well and found.detect_ms is not None and 0 < found.detect_ms < 10_000
    assert (found.cache, found.cache_bytes) == (str(tmp_path), 12345)
    assert found.executable == sys.executable
    by_name = {package.name: package for package in found.packages}
    assert by_name["numpy"].version == numpy.__version__
    assert by_name["cv2"].version in {metadata.version(name) for name in metadata.packages_distributions()["cv2"]}
    assert set(PACKAGES) < set(by_name)
    assert "CPUExecutionProvider" in found.onnx_providers


def test_missing_packages_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "no_such_module", ("openvino", "a test"))
    found = facekit.doctor()
    assert found.is_well  # an extra is missing, not the base
    lines = found.text().splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("  no_such_module"))
    assert lines[place].endswith(": a test") and lines[place + 1].strip() == 'pip install "facekit[openvino]"'
    rows = {row["name"]: row for row in found.to_dict()["packages"]}
    assert rows["no_such_module"]["version"] is None
    assert rows["no_such_module"]["command"] == 'pip install "facekit[openvino]"'
    assert rows["numpy"]["command"] is None


def test_json_and_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["is_well"] is True


def test_a_detector_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise FacekitError("facekit.onnx: damaged.")

    monkeypatch.setattr("facekit.detector.Detector.bundled", broken)
    assert run("doctor") == 1
    said = capsys.readouterr().out
    assert "error: The bundled detector does not run: facekit.onnx: damaged. Install facekit again." in said
    assert said.splitlines()[-1] == "It doesn't work."


@pytest.mark.parametrize(
    ("providers", "torch", "said"),
    [
        (("CUDAExecutionProvider",), "2.14.1+cu130", ""),
        (("CPUExecutionProvider",), None, "ONNX Runtime can't use the GPU"),
        (("CUDAExecutionProvider",), "2.14.1+cpu", "PyTorch 2.14.1+cpu can't use the GPU"),
    ],
)
def test_an_idle_gpu(providers: tuple[str, ...], torch: str | None, said: str) -> None:
    packages = (doctor.Package("torch", torch, "train", "training"),)
    found = doctor._idle_gpu(("T4",), providers, packages)
    assert [finding.what for finding in found] == ([said + "."] if said else [])
    assert doctor._idle_gpu((), providers, packages) == []


def test_disk_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = doctor._disk(tmp_path / "not" / "there", 1 << 20)
    assert len(full) == 1 and "0.0 GiB are free" in full[0].what
    assert doctor._disk(tmp_path, 1 << 40) == []
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    (finding,) = doctor._threads(2)
    assert "Set OMP_NUM_THREADS=2" in finding.remedy
    assert doctor._threads(64) == []
