"""The libraries that facekit loads tell nobody of their use (docs/promises.md)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facekit.detector import BUNDLED_WEIGHTS

# Whatever looks up an address in Python, also in a forked child, writes its name down.
WATCH = """
import sys
def note(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        with open("asked", "a") as file:
            print(arguments[0], file=file)
sys.addaudithook(note)
"""
DETECT = """
import facekit
from facekit.targets.writing.check_pictures import portrait
assert len(facekit.Detector.bundled().detect(portrait()).above(0.5)) == 1
"""
CONVERT = f"""
from pathlib import Path
from facekit.targets.openvino import converted
assert converted(Path({str(BUNDLED_WEIGHTS)!r})).inputs
"""
EARLIER = """
import os
os.environ["CI"] = "true"  # keeps it from telling of the import, which is not ours
import openvino
del os.environ["CI"]
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(DETECT, id="onnxruntime"),
        pytest.param(CONVERT, id="openvino"),
        pytest.param(EARLIER + CONVERT, id="openvino-before-facekit"),
    ],
)
def test_nobody_is_told(code: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "NNCF_"))}
    # ONNX Runtime and OpenVINO are silent for who says that he is a build server.
    environment = {name: value for name, value in kept.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", WATCH + code], cwd=tmp_path, env=environment | {"HOME": str(home)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "asked").exists()
    # Where they keep what they could not send, and the number by which they know the machine.
    assert not [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
