"""The page as export writes it; what it does in a browser: tests/web."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facekit.base.download import Identity
from facekit.detector import BUNDLED_WEIGHTS, Detector
from facekit.errors import FacekitError
from facekit.targets.table import TARGETS
from facekit.targets.writing.export import ExportSettings, check_places, export_weights
from facekit.template import find_template, load_template
from facekit.web import runtime
from facekit.web.page import INDEX, MODEL


@pytest.fixture
def small_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with files in place of the runtime's, which are known by digests of theirs."""
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    folder = runtime.runtime_dir()
    folder.mkdir(parents=True)
    for name in runtime.FILES:
        (folder / name).write_bytes(name.encode())
    monkeypatch.setattr(runtime, "FILES", {name: Identity(len(name)) for name in runtime.FILES})
    return folder


@pytest.mark.usefixtures("bundled_is_traced")
def test_an_export(small_runtime: Path, tmp_path: Path, project_dir: Path) -> None:
    template, weights = load_template(find_template("yunet-n")), BUNDLED_WEIGHTS.with_suffix(".pth")
    done = export_weights(weights, template, tmp_path / "page", ExportSettings(("web",)))
    check_places([TARGETS["web"]], tmp_path / "page", template)  # of the next export
    (written,) = done.written
    assert written.files[0].name == INDEX and written.differences is not None
    assert sorted(path.name for path in (tmp_path / "page").iterdir()) == sorted([*TARGETS["web"].files, "README.md"])
    declared = json.loads((tmp_path / "page" / "detector.json").read_text())
    assert (declared["name"], declared["head"]["strides"]) == ("yunet-n", [8, 16, 32])
    assert (tmp_path / "page" / "sample.jpg").stat().st_size > 10_000
    portrait = project_dir / "data" / "demo" / "astronaut.jpg"
    found, expected = (
        Detector.open(file, template, device="cpu", threads=1).detect(portrait).above(0.5)
        for file in (tmp_path / "page" / MODEL, weights)
    )
    assert len(found) == len(expected) > 0
    assert found.boxes_xyxy == pytest.approx(expected.boxes_xyxy, abs=0.05)


def test_without_the_runtime_and_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(runtime, "URL", "http://127.0.0.1:1/onnxruntime-web.tgz")
    with pytest.raises(FacekitError) as caught:
        runtime.fetch_runtime()
    assert "npm pack onnxruntime-web@1.30.0" in str(caught.value) and str(tmp_path) in str(caught.value)
