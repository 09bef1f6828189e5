"""What `facekit export` takes, says, and leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facekit.commands.export import ExportOptions, export, export_formats
from facekit.errors import ArgumentError, FacekitError
from facekit.targets.table import FORMATS
from facekit.targets.writing.check_pictures import check_pictures, portrait
from facekit.targets.writing.export import choose_formats
from facekit.template import find_template, load_template
from tests.cli.support import fails, run

ONNX = ("facekit.targets.onnx.write", "facekit.targets.writing.export.write_graph")


@pytest.fixture
def onnx_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing the graph takes seconds; the bundled one is yunet-n's."""
    from facekit.detector import BUNDLED_WEIGHTS

    for name in ONNX:
        monkeypatch.setattr(name, lambda graph, path, *_: path.write_bytes(BUNDLED_WEIGHTS.read_bytes()))


def names(**options: Any) -> tuple[str, ...]:
    return ExportOptions(save_model_to=Path("out"), **options).names()


class TestFormats:
    def test_defaults_are_those_of_old(self) -> None:
        assert names() == ("onnx", "openvino")
        assert names(openvino=False) == ("onnx",) and names(onnx=False) == ("openvino",)

    def test_commas_and_repeats(self) -> None:
        assert names(formats=("openvino, onnx", "openvino")) == ("openvino", "onnx")
        assert names(formats="onnx") == ("onnx",)

    @pytest.mark.parametrize("options", [{"onnx": False, "openvino": False}, {"formats": ("onnx",), "onnx": False}])
    def test_what_does_not_go_together(self, options: dict[str, Any]) -> None:
        with pytest.raises(ArgumentError):
            names(**options)

    @pytest.mark.parametrize(
        "size", ["", "640", "640x", "x480", "640x480x3", "-1x5", "8x640", "9999x640", "٣x٣", "1e3x9"]
    )
    def test_no_size(self, size: str) -> None:
        with pytest.raises(ArgumentError, match=r"`input_size`: expected WIDTHxHEIGHT"):
            names(input_size=size)

    def test_missing_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By name it is an error that says what to do; of all the others are made."""
        monkeypatch.setattr("facekit.targets.writing.export.missing_packages", missing_openvino)
        template = load_template(find_template("yunet-n"))
        with pytest.raises(FacekitError, match=r'not installed: openvino for .*pip install "facekit\[openvino\]"'):
            choose_formats(("openvino",), template)
        chosen, losses = choose_formats(("all",), template)
        assert "onnx" in [target.name for target in chosen] and "openvino" not in [target.name for target in chosen]
        assert [loss.what for loss in losses] == ["openvino"]


def missing_openvino(target: Any) -> list[str]:
    return ["openvino"] if target.name == "openvino" else []


def test_list_is_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekit.targets.table.missing_packages", missing_openvino)
    assert run("export", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FORMATS) == [row.name for row in export_formats()]
    assert "model.onnx; installed" in lines[0]
    assert 'model.xml, model.bin; missing openvino: pip install "facekit[openvino]"' in lines[1]


@pytest.mark.usefixtures("onnx_is_there")
class TestExport:
    def test_says_how_far_from_pytorch(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        own = portrait()
        args = ["export", "--load-weights", "bundled", "--save-model-to", tmp_path / "out"]
        assert run(*args, "--formats", "onnx", "--check-pictures", own) == 0
        out, err = capsys.readouterr()
        size = (tmp_path / "out" / "model.onnx").stat().st_size
        assert f"{tmp_path / 'out' / 'model.onnx'} ({size / 1024:.1f} KiB)" in out
        assert "onnx, against PyTorch: scores differ by " in out and "landmarks by " in out
        assert "agrees with PyTorch on 4 pictures" in err

    def test_a_files_name_is_no_folders(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        args = ["export", "--load-weights", "bundled", "--formats", "onnx", "--save-model-to", tmp_path / "m.onnx"]
        assert "m.onnx: a name with a suffix is a file" in fails(capsys, *args)
        assert not (tmp_path / "m.onnx").exists()

    def test_unknown_format_writes_nothing(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        args = ["export", "--load-weights", "bundled", "--save-model-to", tmp_path / "out"]
        assert "--formats: there is no format 'tensorflow'" in fails(capsys, *args, "--formats", "onnx,tensorflow")
        assert not (tmp_path / "out").exists()

    def test_of_all_what_fails_is_left_out(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(draft: object, path: Path) -> None:
            path.write_text("half")
            raise FacekitError("the converter failed")

        monkeypatch.setattr("facekit.targets.openvino.write", fail)
        monkeypatch.setattr("facekit.targets.writing.export.FORMATS", ("onnx", "openvino"))
        assert run("export", "--load-weights", "bundled", "--save-model-to", tmp_path, "--formats", "all") == 3
        assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "model.onnx"]
        assert "Left out: openvino: the converter failed" in capsys.readouterr().err

    def test_python_returns_what_was_written(self, tmp_path: Path) -> None:
        done = export(load_weights=Path("bundled"), save_model_to=tmp_path, formats=("onnx",))
        assert done.files == [tmp_path / "model.onnx"] and not done.losses
        assert done.written[0].differences is not None
        assert done.written[0].differences.scores < 1e-5
        assert done.written[0].differences.boxes_px < 1e-2

    def test_the_input_is_never_written_over(self, tmp_path: Path) -> None:
        from facekit.detector import BUNDLED_WEIGHTS

        (tmp_path / "model.onnx").write_bytes(BUNDLED_WEIGHTS.read_bytes())
        with pytest.raises(FacekitError, match="this command reads it"):
            export(load_weights=tmp_path / "model.onnx", save_model_to=tmp_path, formats=("onnx",))


@pytest.mark.parametrize("edited", [["main.cpp"], ["main.cpp", "README.md"]])
def test_what_people_edit_is_kept_and_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: list[str]
) -> None:
    monkeypatch.setattr("facekit.targets.table.shutil.which", lambda name: None)  # a compiler takes half a minute
    args = ("export", "--load-weights", "bundled", "--save-model-to", tmp_path, "--formats", "cpp")
    assert run(*args) == 0
    header = tmp_path / "cpp" / "facekit_yunet_n.hpp"
    header.write_text("// An old one of facekit.")
    for name in edited:
        (tmp_path / "cpp" / name).write_text("mine")
    capsys.readouterr()
    assert run(*args) == 3
    out, err = capsys.readouterr()
    lines = err.splitlines()[-len(edited) - 1 :]
    for name, line in zip(edited, lines, strict=False):
        path = tmp_path / "cpp" / name
        assert path.read_text() == "mine" and str(path) not in out
        assert line.startswith(f"Left out: {path}: is there already, edited or somebody's own, and stays.")
    assert lines[-1] == f"Done with {len(edited)} left out; the reasons stand above."
    assert len(header.read_text()) > 100_000 and "CMakeLists.txt" in out
    for name in edited:
        (tmp_path / "cpp" / name).unlink()
    assert run(*args) == 0  # over facekit's own


class TestSize:
    def test_of_a_detector_of_one_size(self, tmp_path: Path, shared_dir: Path) -> None:
        weights = shared_dir / "weights/openvino/face-detection-0200.xml"
        with pytest.raises(ArgumentError, match=r"`input_size=320x256`: face-detection-0200 takes 256x256 pictures"):
            export("face-detection-0200", weights, save_model_to=tmp_path, input_size="320x256")

    def test_that_strides_do_not_divide(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match=r"`input_size=320x250`: yunet-n takes multiples of 32"):
            export(load_weights=Path("bundled"), save_model_to=tmp_path, input_size="320x250")

    @pytest.mark.parametrize("name", ["cpp", "libfacedetection"])
    def test_of_a_format_that_runs_at_any(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ArgumentError, match=f"`input_size`: {name} runs at any size. Leave it out"):
            export(load_weights=Path("bundled"), save_model_to=tmp_path, formats=("onnx", name), input_size="96x64")
        assert not list(tmp_path.iterdir())

    def test_of_all_what_runs_at_any_is_left_out(self) -> None:
        chosen, losses = choose_formats(("all",), load_template(find_template("yunet-n")), (64, 96))
        assert {"cpp", "libfacedetection"} <= {loss.what for loss in losses if "any size. Export" in loss.why}
        assert not {"cpp", "libfacedetection"} & {target.name for target in chosen}

    def test_of_a_detector_of_one_size_in_a_header(self) -> None:
        chosen, _ = choose_formats(("cpp",), load_template(find_template("ultralight-rfb-320")), (240, 320))
        assert [target.name for target in chosen] == ["cpp"]


def test_own_pictures_are_bounded(tmp_path: Path) -> None:
    assert list(check_pictures()) == ["portrait", "drawn faces", "noise"]
    with pytest.raises(FacekitError, match="at most 100 pictures, got 101"):
        check_pictures([tmp_path / "a.jpg"] * 101)
