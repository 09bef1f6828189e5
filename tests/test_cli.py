from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from facekit.checkpoint import Checkpoint, new_meta, read_torch_file, save_checkpoint
from facekit.cli import main
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, load_template

SSD, YUNET = "face-detection-0200", "yunet-n"
COMMANDS = (
    "instantiate", "import-weights", "flops", "train", "reproduce", "plot", "eval", "eval-predictions", "export",
    "compress", "visualize",
)  # fmt: skip


def checkpoint(path: Path, name: str) -> Path:
    template = load_template(TEMPLATES_DIR / name / "template.yaml")
    meta = new_meta(template, template.training.epochs, 10)
    save_checkpoint(path, Checkpoint(meta, build_model(template).state_dict()))
    return path


@pytest.fixture(scope="module")
def ssd_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weights") / "ssd.pth", SSD)


@pytest.fixture(scope="module")
def yunet_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weights") / "yunet.pth", YUNET)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a.jpg (one face) and b.jpg (none), both 64x48, and labels.json."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (48, 64, 3), np.uint8))
    label(folder)
    return folder


def label(folder: Path, faces: Any = ((1, (10, 10, 30, 30)),), **changed: Any) -> None:
    content = {
        "images": [{"id": i, "file_name": f"{n}.jpg", "width": 64, "height": 48} for i, n in ((1, "a"), (2, "b"))],
        "annotations": [{"id": i, "image_id": image, "bbox": list(box)} for i, (image, box) in enumerate(faces)],
    }
    (folder / "labels.json").write_text(json.dumps(content | changed))


def labelled(kind: str, folder: Path) -> list[str]:
    return [f"--{kind}-ann-files", str(folder / "labels.json"), f"--{kind}-data-roots", str(folder)]


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(arg) for arg in args], prog_name="facekit")
    assert isinstance(caught.value.code, int)
    return caught.value.code


def fails(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The message on stderr. Any exception but the exit itself fails the test: users would see its traceback."""
    code = run(*args)
    captured = capsys.readouterr()
    assert code != 0
    assert "Traceback" not in captured.err + captured.out
    return captured.err


def written(folder: Path) -> list[str]:
    """What a command left; the journal and the record of a training are no products."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name not in ("log.jsonl", "run.json"))


def train(weights: Path | None, pictures: Path, out: Path, *more: object) -> list[object]:
    start = ["--load-weights", weights] if weights else []
    return ["train", "--template", SSD, *start, *labelled("train", pictures), "--save-checkpoints-to", out,
            "--batch-size", 2, "--workers", 0, "--epochs", 1, "--max-iterations", 1, "--gpu-num", 0, *more]  # fmt: skip


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # --gpu-num 0 sets it; this brings it back


class TestHelp:
    def test_imports_no_torch(self) -> None:
        code = (
            "import sys; from facekit.cli import main\n"
            "try: main(['--help'])\n"
            "finally: print(sorted({'torch', 'cv2', 'openvino', 'nncf', 'onnxruntime'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"
        for command in COMMANDS:
            assert command in done.stdout

    @pytest.mark.parametrize("command", ["convert", "merge", "check"])
    def test_of_data_commands(self, capsys: pytest.CaptureFixture[str], command: str) -> None:
        assert run("data", command, "--help") == 0
        assert "Usage: facekit data" in capsys.readouterr().out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_every_command(self, capsys: pytest.CaptureFixture[str], command: str) -> None:
        assert run(command, "--help") == 0
        assert "Usage: facekit" in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--version") == 0
        assert "facekit" in capsys.readouterr().out

    @pytest.mark.parametrize("args", [["trian"], ["train"], ["eval", "--template", SSD], ["--nonsense"]])
    def test_wrong_usage(self, capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
        assert "Error: " in fails(capsys, *args)


def test_a_mistake_in_a_real_process_is_a_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facekit", "import-weights", "none.pth", "--template", SSD, "--output", "a.pth"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "Error: none.pth: there is no such checkpoint. Check the path."
    assert not list(tmp_path.iterdir())


class TestTemplate:
    def test_unknown(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        text = fails(capsys, "instantiate", "face-detection-0299", tmp_path / "work", "--no-snapshot")
        assert "No template 'face-detection-0299'" in text
        assert "yunet-n" in text
        assert not list(tmp_path.iterdir())

    def test_broken(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "template.yaml").write_text("nmae: x\n")
        text = fails(capsys, "instantiate", tmp_path / "template.yaml", tmp_path / "work", "--no-snapshot")
        assert f"{tmp_path / 'template.yaml'}:1: nmae: unknown key; did you mean 'name'" in text


class TestInstantiate:
    def test_makes_a_work_dir(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path) -> None:
        assert run("instantiate", SSD, tmp_path / "work", "--snapshot", ssd_weights) == 0
        assert "is ready" in capsys.readouterr().out
        assert (tmp_path / "work" / "snapshot.pth").is_file()

    def test_foreign_folder(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        assert "--force" in fails(capsys, "instantiate", SSD, tmp_path, "--no-snapshot")
        assert written(tmp_path) == ["mine.txt"]

    def test_both_flags(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert "not both" in fails(capsys, "instantiate", SSD, tmp_path, "--no-snapshot", "--snapshot", "a.pth")

    def test_no_network(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def offline(*_: object, **__: object) -> None:
            raise OSError("Network is unreachable")

        monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("urllib.request.urlopen", offline)
        text = fails(capsys, "instantiate", SSD, tmp_path / "work")
        for remedy in ("Three remedies", "run the same command again", "--snapshot FILE", "--no-snapshot"):
            assert remedy in text
        assert written(tmp_path / "work") == [
            "compress.py", "eval.py", "export.py", "template.yaml", "train.py", "visualize.py",
        ]  # fmt: skip


class TestImportWeights:
    def test_own_checkpoint(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path) -> None:
        assert run("import-weights", ssd_weights, "--template", SSD, "--output", tmp_path / "a.pth") == 0
        assert "epoch 70" in capsys.readouterr().out
        assert read_torch_file(tmp_path / "a.pth")["meta"]["template"] == SSD

    @pytest.mark.parametrize("place", ["file/a.pth", "."])
    def test_unwritable(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, ssd_weights: Path, place: str
    ) -> None:
        (tmp_path / "file").touch()
        text = fails(capsys, "import-weights", ssd_weights, "--template", SSD, "--output", tmp_path / place)
        assert "can't be written" in text
        assert written(tmp_path) == ["file"]


class TestBadWeights:
    """Every command that takes weights."""

    @pytest.fixture(params=["train", "resume", "eval", "export", "compress", "visualize", "import-weights"])
    def command(self, request: pytest.FixtureRequest, pictures: Path, tmp_path: Path) -> list[object]:
        """The command line up to the weights, for the template face-detection-0200."""
        out = tmp_path / "out"
        training = train(None, pictures, out)
        template = ["--template", SSD]
        return {
            "train": [*training, "--load-weights"],
            "resume": [*training, "--resume-from"],
            "eval": ["eval", *template, *labelled("test", pictures), "--save-metrics-to", out / "metrics.yaml",
                     "--save-output-to", out, "--load-weights"],
            "export": ["export", *template, "--save-model-to", out, "--load-weights"],
            "compress": ["compress", *template, *labelled("train", pictures), "--nncf-quantization", "--workers", 0,
                         "--save-checkpoints-to", out, "--load-weights"],
            "visualize": ["visualize", *template, "--images", pictures, "--output", out, "--load-weights"],
            "import-weights": ["import-weights", *template, "--output", out / "a.pth"],
        }[request.param]  # fmt: skip

    def check(self, capsys: pytest.CaptureFixture[str], command: list[object], weights: Path, out: Path) -> str:
        text = fails(capsys, *command, weights)
        assert str(weights) in text
        assert written(out) == []
        return text

    def test_missing(self, capsys: pytest.CaptureFixture[str], command: list[object], tmp_path: Path) -> None:
        text = self.check(capsys, command, tmp_path / "none.pth", tmp_path / "out")
        assert "there is no such" in text or "there are no such" in text

    def test_truncated(
        self, capsys: pytest.CaptureFixture[str], command: list[object], tmp_path: Path, ssd_weights: Path
    ) -> None:
        data = ssd_weights.read_bytes()
        (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
        assert "cut off" in self.check(capsys, command, tmp_path / "cut.pth", tmp_path / "out")

    def test_of_another_template(
        self, capsys: pytest.CaptureFixture[str], command: list[object], tmp_path: Path, yunet_weights: Path
    ) -> None:
        text = self.check(capsys, command, yunet_weights, tmp_path / "out")
        assert "made for template 'yunet-n', not for 'face-detection-0200'" in text


class TestBadLabels:
    @pytest.fixture(params=["train", "eval", "compress"])
    def command(
        self, request: pytest.FixtureRequest, pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> list[object]:
        out = tmp_path / "out"
        return {
            "train": train(ssd_weights, pictures, out),
            "eval": ["eval", "--template", SSD, "--load-weights", ssd_weights, *labelled("test", pictures),
                     "--save-metrics-to", out / "metrics.yaml"],
            "compress": ["compress", "--template", SSD, "--load-weights", ssd_weights, *labelled("train", pictures),
                         "--save-checkpoints-to", out, "--nncf-quantization", "--workers", 0],
        }[request.param]  # fmt: skip

    def check(self, capsys: pytest.CaptureFixture[str], command: list[object], folder: Path) -> str:
        text = fails(capsys, *command)
        assert written(folder.parent / "out") == []
        return text

    def test_missing_file(self, capsys: pytest.CaptureFixture[str], command: list[object], pictures: Path) -> None:
        (pictures / "labels.json").unlink()
        text = self.check(capsys, command, pictures)
        assert f"{pictures / 'labels.json'}: the annotation file can't be read (No such file" in text

    def test_names_no_picture(self, capsys: pytest.CaptureFixture[str], command: list[object], pictures: Path) -> None:
        label(pictures, faces=[(7, (1, 1, 9, 9))])
        text = self.check(capsys, command, pictures)
        assert "1 annotations name no picture" in text
        assert "image_id 7" in text

    def test_missing_picture(self, capsys: pytest.CaptureFixture[str], command: list[object], pictures: Path) -> None:
        (pictures / "b.jpg").unlink()
        text = self.check(capsys, command, pictures)
        assert f"1 of 2 pictures are not on the disk: {pictures / 'b.jpg'}" in text

    def test_broken_jpeg(self, capsys: pytest.CaptureFixture[str], command: list[object], pictures: Path) -> None:
        for name in ("a.jpg", "b.jpg"):
            data = (pictures / name).read_bytes()
            (pictures / name).write_bytes(data[: len(data) // 2])
        text = self.check(capsys, command, pictures)
        assert ".jpg: " in text
        assert "Mend the file or take it out of the labels" in text


class TestLists:
    def test_mismatched(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        files = f"{pictures / 'labels.json'},{pictures / 'labels.json'}"
        text = fails(
            capsys, "train", "--template", SSD, "--train-ann-files", files, "--train-data-roots", pictures,
            "--save-checkpoints-to", tmp_path / "out",
        )  # fmt: skip
        assert "--train-ann-files names 2 files, --train-data-roots 1 folders" in text
        assert written(tmp_path / "out") == []

    def test_two_files_are_both_measured(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path
    ) -> None:
        files, roots = f"{pictures / 'labels.json'},{pictures / 'labels.json'}", f"{pictures},{pictures}"
        args = ["--test-ann-files", files, "--test-data-roots", roots]
        assert run("eval", "--template", YUNET, "--load-weights", yunet_weights, *args) == 0
        assert "4 labelled pictures" in capsys.readouterr().out

    def test_nothing_to_measure_on(self, capsys: pytest.CaptureFixture[str], yunet_weights: Path) -> None:
        text = fails(capsys, "eval", "--template", YUNET, "--load-weights", yunet_weights)
        assert "--test-ann-files" in text


class TestUnwritableOutput:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        (tmp_path / "file").write_text("old")
        return tmp_path / "file" / "out"

    def test_train(self, capsys: pytest.CaptureFixture[str], pictures: Path, ssd_weights: Path, place: Path) -> None:
        assert f"{place}: can't write there" in fails(capsys, *train(ssd_weights, pictures, place))

    @pytest.mark.parametrize("flag", ["--save-metrics-to", "--save-output-to"])
    def test_eval(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, ssd_weights: Path, place: Path, flag: str
    ) -> None:
        text = fails(
            capsys, "eval", "--template", SSD, "--load-weights", ssd_weights, *labelled("test", pictures), flag,
            place / "metrics.yaml" if flag == "--save-metrics-to" else place,
        )  # fmt: skip
        assert "can't write there" in text

    @pytest.mark.parametrize(
        ("command", "flag"),
        [("export", "--save-model-to"), ("compress", "--save-checkpoints-to"), ("visualize", "--output")],
    )
    def test_others(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, ssd_weights: Path, place: Path, command: str,
        flag: str,
    ) -> None:  # fmt: skip
        more: dict[str, list[object]] = {
            "export": [],
            "compress": [*labelled("train", pictures), "--nncf-quantization", "--workers", 0],
            "visualize": ["--images", pictures],
        }
        text = fails(
            capsys, command, "--template", SSD, "--load-weights", ssd_weights, flag, place, *more[command]
        )  # fmt: skip
        assert str(place) in text
        assert "write" in text
        assert place.parent.read_text() == "old"


class TestTrain:
    def test_picture_without_a_face_trains(self, pictures: Path, tmp_path: Path) -> None:
        label(pictures, faces=[])
        assert run(*train(None, pictures, tmp_path / "out")) == 0
        assert written(tmp_path / "out") == ["epoch_1.pth", "latest.pth"]
        state = read_torch_file(tmp_path / "out" / "latest.pth")["state_dict"]
        assert all(tensor.isfinite().all() for tensor in state.values())
        lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
        assert [line["iteration"] for line in lines] == [1]

    @pytest.mark.parametrize("epochs", [70, 3])
    def test_resume_at_or_past_the_last_epoch(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path, epochs: int
    ) -> None:
        args = ["train", "--template", SSD, "--resume-from", ssd_weights, *labelled("train", pictures),
                "--save-checkpoints-to", tmp_path / "out", "--epochs", epochs, "--gpu-num", 0]  # fmt: skip
        assert run(*args) == 0
        text = capsys.readouterr().err
        assert f"{ssd_weights} has finished epoch 70 and --epochs is {epochs}" in text
        assert "Give --epochs 71" in text
        assert written(tmp_path / "out") == []

    def test_resume_and_load(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        args = train(ssd_weights, pictures, tmp_path / "out", "--resume-from", ssd_weights)
        assert "not both" in fails(capsys, *args)

    @pytest.mark.parametrize("flag", [("--epochs", 0), ("--batch-size", "x"), ("--base-learning-rate", 0)])
    def test_flags_out_of_range(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, flag: tuple[str, object]
    ) -> None:
        assert flag[0] in fails(capsys, *train(None, pictures, tmp_path / "out", *flag))

    def test_more_gpus_than_there_are(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        assert "--gpu-num 64" in fails(capsys, *train(None, pictures, tmp_path / "out", "--gpu-num", 64))

    def test_broken_jpeg_met_by_a_reading_process(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
    ) -> None:
        """Workers wrap what they raise into a traceback."""
        for name in ("a.jpg", "b.jpg"):
            (pictures / name).write_bytes(b"text")
        text = fails(capsys, *train(None, pictures, tmp_path / "out", "--workers", 1))
        assert ".jpg: not a picture that OpenCV can decode (4 bytes)" in text


class TestCourseOfTraining:
    """Signals, records, curves; tests/engine and tests/pages look closer."""

    def test_stopped_run_says_how_to_go_on(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("facekit.engine.train.StopSignals", lambda: AskedToStop())
        assert run(*train(None, pictures, tmp_path / "out", "--epochs", 2)) == 143
        text = capsys.readouterr().err
        assert "Stopped by SIGTERM behind iteration 1" in text and f"--resume-from {tmp_path / 'out'}" in text
        assert "Error" not in text
        assert written(tmp_path / "out") == ["latest.pth"]

    def test_reproduces_and_plots(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "out"
        monkeypatch.chdir(pictures)  # relative paths in the record must not depend on where it is read
        args = train(None, Path(), out, "--checkpoint-interval", 1, "--from-scratch")
        assert run(*args) == 0
        monkeypatch.chdir(tmp_path)
        assert run("reproduce", out / "run.json") == 0
        assert "Bit-equal" in capsys.readouterr().out
        assert (out / "reproduced" / "latest.pth").is_file()
        assert run("plot", out, out / "reproduced", "--output", tmp_path / "curves.svg") == 0
        assert "reproduced" in (tmp_path / "curves.svg").read_text()
        label(pictures, faces=[])
        text = fails(capsys, "reproduce", out / "run.json", "--save-checkpoints-to", tmp_path / "more")
        assert "the training labels (2 pictures with 1 faces -> 2 with 0;" in text
        assert not (tmp_path / "more").exists()

    def test_resume_from_an_empty_folder(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "none").mkdir()
        text = fails(capsys, *train(None, pictures, tmp_path / "out", "--resume-from", tmp_path / "none"))
        assert f"{tmp_path / 'none'}: there is no checkpoint" in text


class AskedToStop(contextlib.nullcontext[None]):
    """In place of signals."""

    received = 15


class TestLabelFormats:
    """train and eval take labels that are no COCO json; tests/datasets reads each format."""

    def test_trains_on_yolo_and_voc(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        sets = []
        for name in ("yolo", "voc"):
            assert run("data", "convert", pictures / "labels.json", tmp_path / name, "--to", name) == 0
            sets.append(str(tmp_path / name))
        command = ["train", "--template", SSD, "--load-weights", ssd_weights, "--train-ann-files", ",".join(sets),
                   "--save-checkpoints-to", tmp_path / "out", "--batch-size", 4, "--workers", 0, "--epochs", 1,
                   "--gpu-num", 0]  # fmt: skip
        assert run(*command) == 0, capsys.readouterr().err
        assert (tmp_path / "out" / "latest.pth").is_file()

    def test_evaluates_on_wider_text(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        for name in ("labels.json", "labels.txt"):
            if name == "labels.txt":
                assert run("data", "convert", pictures / "labels.json", pictures / name, "--to", "wider") == 0
            capsys.readouterr()
            assert run("eval", "--template", SSD, "--load-weights", ssd_weights,
                       "--test-ann-files", pictures / name, "--test-data-roots", pictures,
                       "--save-metrics-to", tmp_path / f"{name}.yaml") == 0  # fmt: skip
        metrics = [
            yaml.safe_load((tmp_path / f"labels.{kind}.yaml").read_text())["metrics"] for kind in ("json", "txt")
        ]
        assert metrics[0] == metrics[1]

    def test_unknown(self, capsys: pytest.CaptureFixture[str], pictures: Path, ssd_weights: Path) -> None:
        (pictures / "labels.json").write_text("faces: none\n")
        text = fails(capsys, "eval", "--template", SSD, "--load-weights", ssd_weights,
                     *labelled("test", pictures))  # fmt: skip
        assert "no label format is recognised; the first line is 'faces: none'. Looked for:" in text


class TestEval:
    def test_set_without_faces(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        label(pictures, faces=[])
        metrics = tmp_path / "new" / "metrics.yaml"
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", metrics]
        assert run("eval", "--template", YUNET, *args) == 0
        table = capsys.readouterr().out
        assert "2 labelled pictures" in table
        assert "n/a" in table
        values = {row["key"]: row["value"] for row in yaml.safe_load(metrics.read_text())["metrics"]}
        assert values.keys() == {"ap", "ap_64x64", "size", "complexity"}
        assert (values["ap"], values["ap_64x64"]) == (None, None)  # of no faces at all there is no share found
        assert values["size"] == pytest.approx(0.0759, rel=0.01)
        assert written(metrics.parent) == ["metrics.yaml"]

    @pytest.mark.parametrize("scale", ["640", "max:x", "640x480x3", "Origin", ""])
    def test_scale_that_is_none(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path, scale: str
    ) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", tmp_path / "m.yaml"]
        text = fails(capsys, "eval", "--template", YUNET, *args, "--scale", scale)
        assert (
            f"--scale {scale}: expected template, origin, max:N or WxH, such as max:640 or 640x480, up to 9999 pixels."
            in text
        )
        assert not (tmp_path / "m.yaml").exists()

    def test_scale_of_no_pixels(self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--scale", "max:0"]
        assert "--scale max:0" in fails(capsys, "eval", "--template", YUNET, *args)

    @pytest.mark.parametrize(
        ("scale", "words"),
        [("origin", "own size, zero-padded to 32"), ("max:96", "fit into 96x96"), ("64x32", "resize 64x32")],
    )
    def test_scale_stands_beside_the_figures(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path, scale: str,
        words: str,
    ) -> None:  # fmt: skip
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", tmp_path / "m.yaml"]
        assert run("eval", "--template", YUNET, *args, "--scale", scale) == 0
        assert words in capsys.readouterr().out
        assert words in yaml.safe_load((tmp_path / "m.yaml").read_text())["protocol"]

    def test_scale_that_is_padded(self, pictures: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--scale", "max:80"]
        assert run("eval", "--template", YUNET, *args) == 0

    def test_draws_where_asked(self, pictures: Path, tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-output-to", tmp_path / "out"]
        assert run("eval", "--template", YUNET, *args) == 0
        assert written(tmp_path / "out") == ["a.jpg", "b.jpg"]

    def test_unusable_boxes_are_told(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path
    ) -> None:
        label(pictures, faces=[(1, (5, 5, 0, 9)), (1, (500, 5, 9, 9)), (1, (50, 5, 40, 9))])
        assert run("eval", "--template", YUNET, "--load-weights", yunet_weights, *labelled("test", pictures)) == 0
        text = capsys.readouterr().err
        for reason in ("have no area", "lie wholly outside", "reach outside"):
            assert f"warning: {pictures / 'labels.json'}: 1 boxes {reason}" in text

    def test_foreign_metrics_file_is_kept(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        metrics = tmp_path / "metrics.yaml"
        metrics.write_text("- a list\n")
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", metrics]
        assert "no metrics file" in fails(capsys, "eval", "--template", YUNET, *args)
        assert metrics.read_text() == "- a list\n"


class TestVisualize:
    def test_pictures(self, pictures: Path, tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, "--images", f"{pictures}/*.jpg", "--output", tmp_path / "out"]
        assert run("visualize", "--template", YUNET, *args) == 0
        assert written(tmp_path / "out") == ["a.jpg", "b.jpg"]

    @pytest.mark.parametrize("sources", [[], ["--video", "0", "--images", "."]])
    def test_one_source(self, capsys: pytest.CaptureFixture[str], yunet_weights: Path, sources: list[str]) -> None:
        text = fails(capsys, "visualize", "--template", YUNET, "--load-weights", yunet_weights, *sources)
        assert "either --video or --images" in text

    def test_no_such_video(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, "--video", tmp_path / "none.mp4", "--output", tmp_path / "out.mp4"]
        assert "there is no such file" in fails(capsys, "visualize", "--template", YUNET, *args)
        assert not list(tmp_path.iterdir())
