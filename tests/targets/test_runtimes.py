"""Each further format: written, opened without a template, and equal to PyTorch at sizes it was not traced with; and
damaged or foreign files of it, refused in one line."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from facekit import Detector
from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import FacekitError
from facekit.results.existing import check_replaceable_model
from facekit.targets import open_backend, torchscript
from facekit.targets.pytorch import PyTorchBackend
from facekit.targets.reading.about import write_beside
from facekit.targets.table import TARGETS
from facekit.targets.tflite import OVERLAY
from facekit.targets.writing.export import ExportSettings, export_weights
from facekit.template import Template, find_template, load_template
from tests.targets.support import check_equal, decoded, draft_of, short_network

ANY_SIZE = ("ncnn", "torchscript", "executorch", "mnn")
SIZES_HW = [(96, 160), (128, 64)]


class Exported(NamedTuple):
    template: Template
    files: list[Path]  # each a whole model
    reference: PyTorchBackend


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    @cache
    def export(format: str, name: str, size_hw: tuple[int, int] | None = None) -> Exported:
        from facekit.targets.onnx import write_graph
        from facekit.targets.writing.overlay import DONE, overlay_folder

        target, folder = TARGETS[format], tmp_path_factory.mktemp(format)
        for package in target.needed_to_write:
            pytest.importorskip(package)
        if format == "tflite" and not (overlay_folder(OVERLAY) / DONE).is_file():
            pytest.skip("needs the environment in the cache that the first `facekit export --formats tflite` makes")
        template = load_template(find_template(name))
        network = short_network(template)
        draft = draft_of(network, template, size_hw or (None if target.any_size else (96, 160)))
        if target.made_from == "onnx":
            write_graph(draft.graph, folder / "draft.onnx", draft.about)
            draft = dataclasses.replace(draft, onnx=folder / "draft.onnx")
        path = target.paths(folder, name)[0]
        importlib.import_module(f"facekit.targets.{target.module}").write(draft, path)
        if any(file.endswith(".facekit.yaml") for file in target.files):
            write_beside(draft.about, path)
        for file in target.paths(folder, name):
            assert file.is_file()
            check_replaceable_model(file)  # by the next export
        return Exported(template, target.models(folder, name), PyTorchBackend(network, template))

    return export


@pytest.mark.parametrize("format", ANY_SIZE)
def test_equal_to_pytorch_at_any_size(exported: Callable[..., Exported], format: str) -> None:
    template, files, reference = exported(format, "yunet-s")
    for file in files:
        opened = open_backend(file)
        assert opened.template.name == template.name and opened.fixed_size_hw is None
        for size_hw in SIZES_HW:
            picture = np.random.default_rng(0).integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
            check_equal(decoded(opened, picture), decoded(reference, picture), scores_atol=1e-5, places_atol=2e-2)


class Doubling(torch.nn.Module):
    input_name, any_size = "image", False

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + image

    def example(self, batch: int = 1) -> torch.Tensor:
        return torch.zeros(batch, 3, 8, 8)


@pytest.mark.parametrize("write", [torchscript.write_script, torchscript.write_program])
def test_a_full_disk_does_not_end_the_process(
    write: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyTorch's own writer of files would: nothing but Python's is left to write them."""

    def refuse(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    draft = SimpleNamespace(graph=Doubling().eval(), about=SimpleNamespace(to_json=lambda: "{}"))
    with pytest.raises(FacekitError, match=r"model: can't be written \(No space left on device\)"):
        write(draft, tmp_path / "model")


@pytest.mark.parametrize("device", ["tensorrt", "xpu", "mps"])
def test_no_such_device_of_pytorch(exported: Callable[..., Exported], device: str) -> None:
    for file in exported("torchscript", "yunet-s").files:
        with pytest.raises(FacekitError, match=rf"^device {device}: .* Take cpu, or leave it out\.$"):
            Detector.open(file, device=device)


@pytest.mark.parametrize("format", ["ncnn", "executorch", "mnn", "tflite"])
def test_what_a_runtime_can_not_be_told_is_said(
    exported: Callable[..., Exported], format: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = exported(format, "yunet-s").files[0]
    with caplog.at_level("WARNING", logger="facekit"):
        Detector.open(file, device="cuda", threads=1)
    said = [f"device cuda: {format} runs on the CPU alone, and {file.name} with it."]
    said += ["threads 1: executorch takes as many as it likes. Leave it out."] * (format == "executorch")
    assert [record.getMessage() for record in caplog.records if record.name.startswith("facekit")] == said


@pytest.mark.parametrize("format", ["torchscript", "mnn"])
def test_of_one_size_also_where_its_template_is_given(exported: Callable[..., Exported], format: str) -> None:
    template, files, reference = exported(format, "yunet-s", (64, 96))
    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    for file in files:
        for opened in (open_backend(file), open_backend(file, template)):
            assert opened.fixed_size_hw == (64, 96)
            check_equal(decoded(opened, picture), decoded(reference, picture), scores_atol=1e-5, places_atol=2e-2)


def test_ncnn_enlarges_to_the_size_of_the_finer_level(exported: Callable[..., Exported]) -> None:
    """pnnx writes down the sizes of the picture that was traced; RetinaFace takes sizes that no stride divides."""
    template, (file,), reference = exported("ncnn", "retinaface-mobilenetv1-0.25-p3")
    opened = open_backend(file, template)
    for size_hw in ((97, 255), (64, 96), (9, 31)):
        picture = np.random.default_rng(0).integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
        check_equal(decoded(opened, picture), decoded(reference, picture), scores_atol=1e-5, places_atol=2e-2)


def test_ncnn_without_what_says_its_template(exported: Callable[..., Exported], tmp_path: Path) -> None:
    template, (file,), _ = exported("ncnn", "retinaface-mobilenetv1-0.25-p3")
    for part in (file, file.with_suffix(".bin")):
        shutil.copy(part, tmp_path / part.name)
    with pytest.raises(FacekitError, match=r"model\.ncnn\.param\.facekit\.yaml, which says .* is missing"):
        open_backend(tmp_path / file.name)
    assert open_backend(tmp_path / file.name, template).template.name == template.name


def test_ncnn_with_another_bin_is_warned_of(
    exported: Callable[..., Exported], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for file in exported("ncnn", "yunet-s").files[0].parent.iterdir():
        shutil.copy(file, tmp_path)
    open_backend(tmp_path / "model.ncnn.param")
    assert not caplog.records
    data = bytearray((tmp_path / "model.ncnn.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.ncnn.bin").write_bytes(data)
    open_backend(tmp_path / "model.ncnn.param")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "model.ncnn.bin: is not the one that facekit wrote with model.ncnn.param: changed or mixed up" in said


def test_mnn_normalises_the_picture_itself(exported: Callable[..., Exported]) -> None:
    """By a batch norm of three channels, which MNN would get wrong."""
    _, (file,), reference = exported("mnn", "tiny-ssd-300")
    picture = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)
    check_equal(decoded(open_backend(file), picture), decoded(reference, picture))


@pytest.mark.usefixtures("bundled_is_traced")
def test_mnn_is_written_into_a_folder_of_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("MNN")
    monkeypatch.chdir(tmp_path)
    weights = BUNDLED_WEIGHTS.with_suffix(".pth")
    made = export_weights(weights, load_template(find_template("yunet-n")), Path("here"), ExportSettings(("mnn",)))
    assert made.written[0].differences is not None and (tmp_path / "here" / "model.mnn").is_file()


def test_tflite_of_both_layouts(exported: Callable[..., Exported]) -> None:
    _, files, reference = exported("tflite", "yunet-s")
    assert [file.name for file in files] == ["model.tflite", "model.nhwc.tflite"]
    picture = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), dtype=np.uint8)
    for file in files:
        opened = open_backend(file)
        assert opened.fixed_size_hw == (96, 160)
        check_equal(decoded(opened, picture), decoded(reference, picture), scores_atol=1e-5, places_atol=2e-2)
        assert Detector.open(file).template.evaluation.resize == "letterbox"  # fitted into the one size


def test_executorch_says_how_large_a_picture_may_be(exported: Callable[..., Exported]) -> None:
    _, (file,), _ = exported("executorch", "yunet-s")
    with pytest.raises(FacekitError, match="4096x64 is larger than the 2048x2048"):
        open_backend(file)(np.zeros((1, 64, 4096, 3), np.uint8))


@pytest.mark.parametrize("format", ["torchscript", "executorch"])
def test_a_picture_of_a_side_that_the_program_does_not_take(exported: Callable[..., Exported], format: str) -> None:
    template, files, reference = exported(format, "yunet-s")
    picture = np.random.default_rng(0).integers(0, 256, (2100, 20, 3), dtype=np.uint8)
    expected = Detector(reference, template)
    for file in files:
        opened = Detector.open(file)
        opened.detect(picture[:20])
        if file.suffix == ".pte":  # which takes short ones as they are
            short = np.ascontiguousarray(picture[None, :32, :20])
            short = np.pad(short, ((0, 0), (0, 0), (0, 12), (0, 0)))
            check_equal(decoded(opened.backend, short), decoded(reference, short), places_atol=2e-2)
        np.testing.assert_allclose(opened.detect(picture).scores[:5], expected.detect(picture).scores[:5], atol=0.02)


@pytest.mark.parametrize("name", ["ultralight-slim-320", "face-detection-0200", "scrfd-0.5g"])
def test_programs_of_every_normalisation_and_decoding_are_opened_again(name: str, tmp_path: Path) -> None:
    """Their constants are copied into the graph by operations that yunet-n, which has none, does without."""
    template = load_template(find_template(name))
    network = short_network(template)
    torchscript.write(draft_of(network, template), tmp_path / "model.ts")
    images_bgr = np.random.default_rng(0).integers(0, 256, (1, *template.input.size_hw, 3), dtype=np.uint8)
    expected = decoded(PyTorchBackend(network, template), images_bgr)
    for file in ("model.ts", "model.pt2"):
        check_equal(decoded(open_backend(tmp_path / file, None, "cpu"), images_bgr), expected)


@pytest.mark.parametrize("format", ["executorch", "mnn"])
def test_a_bit_that_would_end_the_process(exported: Callable[..., Exported], format: str, tmp_path: Path) -> None:
    """In files of these two a changed bit can end the process inside the runtime: none gets there."""
    (file,) = exported(format, "yunet-s").files
    for place in (100, file.stat().st_size // 2):
        data = bytearray(file.read_bytes())
        data[place] ^= 4
        damaged = tmp_path / file.name
        damaged.write_bytes(data)
        with pytest.raises(FacekitError, match="is damaged: its bytes are not those that were exported"):
            open_backend(damaged)


@pytest.mark.parametrize("format", [*ANY_SIZE, "tflite"])
class TestRefused:
    def copied(self, exported: Callable[..., Exported], format: str, folder: Path) -> list[Path]:
        files = exported(format, "yunet-s").files
        for file in files[0].parent.iterdir():
            shutil.copy(file, folder)
        return [folder / file.name for file in files]

    def check(self, file: Path, template: Template | None = None) -> str:
        with pytest.raises(FacekitError) as caught:
            open_backend(file, template)
        message = str(caught.value)
        assert "\n" not in message and len(message) < 1000
        assert str(file.with_suffix("")) in message
        return message

    @pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
    def test_cut_off(self, exported: Callable[..., Exported], format: str, tmp_path: Path, kept: float) -> None:
        for file in self.copied(exported, format, tmp_path):
            data = file.read_bytes()
            file.write_bytes(data[: int(kept * len(data))])
            self.check(file)

    @pytest.mark.parametrize("content", [b"<html>", b"\x00" * 1000, b"version https://git-lfs.github.com/spec/v1\n"])
    def test_something_else(
        self, exported: Callable[..., Exported], format: str, tmp_path: Path, content: bytes
    ) -> None:
        for file in self.copied(exported, format, tmp_path):
            file.write_bytes(content)
            self.check(file)

    def test_of_another_detector(self, exported: Callable[..., Exported], format: str, tmp_path: Path) -> None:
        for file in self.copied(exported, format, tmp_path):
            self.check(file, load_template(find_template("face-detection-0200")))
            self.check(file, load_template(find_template("scrfd-0.5g")))
