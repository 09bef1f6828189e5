"""OpenVINO in a process that goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import openvino as ov
import pytest

from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import FacekitError
from facekit.targets import open_backend
from facekit.targets.openvino import save_ir, the_core

DETECTORS_COME_AND_GO = """
import gc, os, signal, sys
import numpy as np
from facekit import Detector

received = []
signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
first, second = (Detector.open(sys.argv[1], backend="openvino", threads=1) for _ in "ab")
for detector in (first, second):
    detector.detect_batch([np.zeros((64, 64, 3), np.uint8)] * 2)
del first, detector  # the one that was opened first
del second
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
print(received)
"""


def test_a_signal_after_detectors_were_dropped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DETECTORS_COME_AND_GO, str(BUNDLED_WEIGHTS)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"[{int(signal.SIGUSR1)}]\n"), done.stderr


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: ov.Model, path: Path, **how: object) -> None:
        for half in (path, path.with_suffix(".bin")):
            half.write_text("half")
        raise RuntimeError("Exception from src/core/src/graph.cpp:1:\nbasic_ios::clear: iostream error")

    monkeypatch.setattr(ov, "save_model", fail)
    said = rf"^{tmp_path}/model\.xml: can't be written \(basic_ios::clear: iostream error; \d+ MiB of the disk"
    with pytest.raises(FacekitError, match=said):
        save_ir(ov.Model([], [], "empty"), tmp_path / "model.xml", None)
    assert not list(tmp_path.iterdir())


def test_a_bin_of_another_xml_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An IR that is made of another has a digest of its own."""
    shipped = BUNDLED_WEIGHTS.with_name("facekit-int8.xml")
    save_ir(the_core().read_model(BUNDLED_WEIGHTS), tmp_path / "a.xml", None)
    save_ir(the_core().read_model(tmp_path / "a.xml"), tmp_path / "model.xml", None, half=True)
    assert (tmp_path / "a.bin").read_bytes() != (tmp_path / "model.bin").read_bytes()
    for whole in (shipped, tmp_path / "a.xml", tmp_path / "model.xml"):
        open_backend(whole)
    assert not caplog.records
    data = bytearray((tmp_path / "a.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.bin").write_bytes(data)
    open_backend(tmp_path / "a.bin")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{tmp_path / 'a.bin'}: is not the one that facekit wrote with a.xml: changed or mixed up")
