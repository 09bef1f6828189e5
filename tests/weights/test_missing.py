from __future__ import annotations

from pathlib import Path

import pytest

from facekit.detector import BUNDLED_WEIGHTS, Detector
from facekit.errors import FacekitError
from facekit.weights.missing import missing_weights


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yunet-n", "only a template of that name. `facekit instantiate yunet-n FOLDER`"),
        (".", ".: a folder, where a file of weights is expected. Give the file in it."),
        ("model.mlpackage", "model.mlpackage: Core ML runs on Apple's systems alone. Give the model.onnx"),
        ("nowhere/model.onnx", "there are no such weights. Check the path."),
        ("modle.onnx", "there are no such weights. Did you mean model.onnx?"),
    ],
)
def test_says_what_was_likely_meant(name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").touch()
    Path("model.mlpackage").mkdir()
    assert expected in str(missing_weights(Path(name)))


class TestBundled:
    def test_is_opened_by_its_name_as_on_the_command_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert Detector.open("bundled").template == Detector.open(BUNDLED_WEIGHTS).template

    def test_a_file_of_that_name_is_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("bundled").write_bytes(b"mine")
        with pytest.raises(FacekitError, match="bundled"):
            Detector.open("bundled")

    def test_is_a_yunet_n(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FacekitError, match=r"`weights=bundled` is a yunet-n, not a yunet-s\. Leave `template` out"):
            Detector.open("bundled", template="yunet-s")
