from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import SSD, YUNET, fails, label, labelled, run, train, written


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
        assert f"{pictures / 'labels.json'}: there is no such file or folder" in text

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
        assert "Mend the file or leave it out" in text


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
