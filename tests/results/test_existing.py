from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from facekit.detector import BUNDLED_WEIGHTS
from facekit.errors import FacekitError
from facekit.results.existing import check_replaceable_model, check_replaceable_rows
from facekit.targets.table import TARGETS
from facekit.targets.writing.export import check_places
from facekit.template import find_template, load_template
from tests.cli.support import fails, run

KINDS = ("json", "jsonl", "csv", "coco", "parquet")
OTHERS = {
    "labels.coco": b'{"info": {"description": "my faces"}, "images": [], "annotations": [], "categories": []}',
    "table.csv": b"name,age\nAnn,7\n",
    "rows.jsonl": b'{"file": "a.jpg"}\n',
    "b.json": b"[1, 2]",
    "c.json": b'{"schema":"mine"}',
    "cut.parquet": b"PAR1",
}


@pytest.fixture
def portrait(project_dir: Path) -> Path:
    return project_dir / "data" / "demo" / "astronaut.jpg"


def test_pages_and_weights_of_others_stay(
    capsys: pytest.CaptureFixture[str], drawn_dir: Path, drawn_weights: Path, tmp_path: Path
) -> None:
    labels, page, weights = drawn_dir / "annotations.json", tmp_path / "p.html", tmp_path / "w.pth"
    browse = ("data", "browse", labels, "--data-root", drawn_dir, "--limit", 1, "--output", page)
    take = ("import-weights", drawn_weights, "--template", "yunet-n", "--output", weights)
    measure = (
        "eval", "--load-weights", drawn_weights, "--template", "yunet-n", "--test-ann-files", labels,
        "--test-data-roots", drawn_dir, "--report", page,
    )  # fmt: skip
    assert run(*browse) == run(*browse) == run(*measure) == 0  # facekit's own pages are replaced
    assert run(*take) == run(*take) == 0
    report = page.rename(tmp_path / "r.html")
    page.write_text("<!DOCTYPE html><title>mine</title>")
    weights.write_bytes(b"mine")
    for command in (browse, measure, ("report", report, "--output", page)):
        assert "is no page that facekit wrote: it would be lost" in fails(capsys, *command)
    assert "is no checkpoint that facekit wrote: it would be lost" in fails(capsys, *take)
    assert page.read_text() == "<!DOCTYPE html><title>mine</title>" and weights.read_bytes() == b"mine"


@pytest.mark.parametrize("kind", KINDS)
def test_own_files_are_replaced_and_no_others(
    capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    own = tmp_path / f"own.{kind}"
    own.touch()  # as mktemp leaves it
    for _ in range(2):
        assert run("detect", portrait, f"--{kind}", own) == 0
    assert own.stat().st_size > 100
    capsys.readouterr()
    for name, content in OTHERS.items():
        other = tmp_path / name
        other.write_bytes(content)
        text = fails(capsys, "detect", portrait, f"--{kind}", other)
        assert f"{name}: is there already, and is no {kind} of faces that facekit wrote" in text
        assert other.read_bytes() == content


def test_another_tables_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(FacekitError, match="is no parquet of faces"):
        check_replaceable_rows("parquet", tmp_path / "a.parquet")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None])
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a")
    check_replaceable_rows("csv", tmp_path / "a")
    check_replaceable_rows("csv", Path("/dev/null"))


def test_reports(capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
    report = tmp_path / "notes.jsonl"
    report.write_text("{}\n")
    text = fails(capsys, "anonymize", portrait, "-o", tmp_path / "out.jpg", "--report", report)
    assert "notes.jsonl: is there already" in text
    assert report.read_text() == "{}\n" and not (tmp_path / "out.jpg").exists()


def test_reports_of_others_stay(
    capsys: pytest.CaptureFixture[str], drawn_dir: Path, drawn_weights: Path, portrait: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "log.jsonl"
    journal.write_text('{"iteration": 1, "epoch": 0, "loss": 1.0}\n{"iteration": 2, "epoch": 0, "loss": 0.5}\n')
    measure = ("--template", "yunet-n", "--picture", portrait, "--rounds", 1)
    check = ("data", "check", drawn_dir / "annotations.json", "--data-root", drawn_dir, "--workers", 0, "--json")
    commands = {
        "comparison": ("benchmark", drawn_weights, *measure, "--json", tmp_path / "speed.json"),
        "list of findings": (*check, tmp_path / "found.json"),
        **{f"plot {kind}": ("plot", journal, "--output", tmp_path / f"a.{kind}") for kind in ("svg", "png", "pdf")},
    }
    for kind, command in commands.items():
        output = command[-1]
        assert isinstance(output, Path)
        assert run(*command) == run(*command) == 0, kind
        assert output.stat().st_size > 100
        output.write_text("mine, for programs, as facekit is")
        capsys.readouterr()
        assert f"is no {kind.split(' ')[0]}" in fails(capsys, *command)
        assert output.read_text() == "mine, for programs, as facekit is"


def test_a_template_mended_by_hand_stays(capsys: pytest.CaptureFixture[str], drawn_dir: Path, tmp_path: Path) -> None:
    labels, output = drawn_dir / "annotations.json", tmp_path / "own.yaml"
    command = ("priors", labels, "--data-root", drawn_dir, "--template", "face-detection-0200", "--output", output)
    assert run(*command) == 0
    capsys.readouterr()
    assert "own.yaml: is there already" in fails(capsys, *command)
    assert run(*command, "--force") == 0


def test_exported_models_of_others_stay(
    capsys: pytest.CaptureFixture[str], drawn_dir: Path, drawn_weights: Path, tmp_path: Path
) -> None:
    float_file = tmp_path / "model.onnx"
    shutil.copyfile(BUNDLED_WEIGHTS, float_file)
    check_replaceable_model(float_file)
    pictures = ("--calibration-data", drawn_dir)
    round_it = ("quantize", "--load-weights", float_file, *pictures, "--output", tmp_path / "int8.onnx")
    train = ("--train-ann-files", drawn_dir / "annotations.json", "--train-data-roots", drawn_dir)
    shrink = ("compress", "--template", "yunet-n", "--load-weights", drawn_weights, *train, "--nncf-sparsity")
    write = ("export", "--template", "yunet-n", "--load-weights", drawn_weights, "--save-model-to", tmp_path / "out")
    (tmp_path / "out").mkdir()
    for name, command in (
        ("int8.onnx", round_it), ("out/model.xml", write), ("out/model.bin", write), ("out/model.onnx", write),
        ("out/model.xml", (*shrink, "--save-checkpoints-to", tmp_path / "out")),
        ("out/model.bin", (*shrink, "--save-checkpoints-to", tmp_path / "out")),
        ("out/compressed.pth", (*shrink, "--save-checkpoints-to", tmp_path / "out")),
    ):  # fmt: skip
        (tmp_path / name).write_text("my notes on facekit")
        assert f"{tmp_path / name}: is there already, and is no " in fails(capsys, *command)
        assert (tmp_path / name).read_text() == "my notes on facekit"
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("format", "names"),
    [
        ("ncnn", ("model.ncnn.param", "model.ncnn.bin", "model.ncnn.param.facekit.yaml")), ("mnn", ("model.mnn",)),
        ("executorch", ("model.pte",)), ("torchscript", ("model.ts", "model.pt2")),
        ("cpp", ("cpp/facekit_yunet_n.hpp",)), ("libfacedetection", ("libfacedetection/facedetectcnn-data.cpp",)),
        ("coreml", ("model.mlpackage/Data/com.apple.CoreML/model.mlmodel",)),
        ("web", ("detector.onnx", "detector.json", "sample.jpg")),
    ],
)  # fmt: skip
def test_models_of_others_in_every_format_stay(format: str, names: tuple[str, ...], tmp_path: Path) -> None:
    template = load_template(find_template("yunet-n"))
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"my notes on facekit")
        with pytest.raises(FacekitError, match="is no model that facekit wrote: it would be lost"):
            check_places([TARGETS[format]], tmp_path, template)
        path.unlink()
        check_places([TARGETS[format]], tmp_path, template)


@pytest.mark.parametrize(("name", "ours"), [("a.xml", b"<net><facekit><version/></facekit></net>"),
                                            ("a.tflite", b"TFL3 facekit.json PK")])  # fmt: skip
def test_own_models_are_replaced(tmp_path: Path, name: str, ours: bytes) -> None:
    path, binary = tmp_path / name, tmp_path / "a.bin"
    path.write_bytes(ours)
    binary.write_bytes(b"numbers")
    check_replaceable_model(path)
    if path.suffix == ".xml":
        check_replaceable_model(binary)
    path.write_bytes(b"somebody's")
    for theirs in (path, binary):
        with pytest.raises(FacekitError, match="is no model that facekit wrote: it would be lost"):
            check_replaceable_model(theirs)
