from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from facekit.template import TEMPLATES_DIR
from facekit.weights.torch_file import read_torch_file
from tests.cli.support import SSD, fails, label, labelled, run, train, written


class TestTrain:
    def test_batch_without_a_face_trains(self, pictures: Path, tmp_path: Path) -> None:
        """The second of two pictures has none, and is a batch of its own."""
        more = ["--batch-size", 1, "--max-iterations", 2]
        assert run(*train(None, pictures, tmp_path / "out", *more)) == 0
        assert written(tmp_path / "out") == ["epoch_1.pth", "latest.pth"]
        state = read_torch_file(tmp_path / "out" / "latest.pth")["state_dict"]
        assert all(tensor.isfinite().all() for tensor in state.values())
        lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
        assert [line["iteration"] for line in lines] == [2]

    @pytest.mark.parametrize(
        ("annotations", "reason"),
        [([], "not one of the 2 pictures has a face: none to learn"),
         ([{"image_id": 1, "bbox": [10, 10, 30, 30], "iscrowd": "1"}], "all 1 faces are crowds"),
         ([{"image_id": 1, "bbox": [10, 10, 0.5, 30]}], "have a side under")],
    )  # fmt: skip
    @pytest.mark.parametrize("command", ["train", "compress"])
    def test_nothing_to_learn(
        self, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ssd_weights: Path, command: str,
        annotations: list[dict[str, object]], reason: str,
    ) -> None:  # fmt: skip
        label(pictures, annotations=annotations)
        commands = {
            "train": train(ssd_weights, pictures, tmp_path / "out"),
            "compress": ["compress", "--template", SSD, "--load-weights", ssd_weights, *labelled("train", pictures),
                         "--save-checkpoints-to", tmp_path / "out", "--nncf-quantization", "--workers", 0],
        }  # fmt: skip
        text = fails(capsys, *commands[command])
        assert reason in text and str(pictures / "labels.json") in text
        assert not (tmp_path / "out").exists()

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

    def test_epochs_may_be_counted_from_where_it_goes_on(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        """F20."""
        args = ["train", "--template", SSD, "--resume-from", ssd_weights, *labelled("train", pictures),
                "--save-checkpoints-to", tmp_path / "out", "--add-epochs", 1, "--gpu-num", 0, "--workers", 0,
                "--batch-size", 2, "--max-iterations", 1]  # fmt: skip
        assert run(*args) == 0
        assert "epochs 71 to 71" in capsys.readouterr().err
        assert written(tmp_path / "out") == ["epoch_71.pth", "latest.pth"]
        assert "not both" in fails(capsys, *args, "--epochs", 71)
        args[args.index("--resume-from") + 1] = "auto"
        assert "give --epochs" in fails(capsys, *args)

    def test_weights_that_it_would_write_over(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        mine = tmp_path / "out" / "best.pth"
        mine.write_bytes(ssd_weights.read_bytes())
        assert "would be written over" in fails(capsys, *train(mine, pictures, tmp_path / "out"))

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

    @pytest.mark.parametrize("cache", ["ram", "disk"])
    def test_cache_and_precision(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, cache: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
        weights = []
        for number, flags in enumerate([(), ("--cache", cache)]):
            out = tmp_path / str(number)
            assert run(*train(None, pictures, out, "--precision", "bf16", *flags)) == 0
            weights.append(read_torch_file(out / "latest.pth")["state_dict"])
        assert "decoded pictures" in capsys.readouterr().err
        assert (tmp_path / "cache").exists() == (cache == "disk")
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (("--precision", "fp16"), "needs a GPU"),
            (("--precision", "int3"), "--precision"),
            (("--cache", "ram", "--cache-limit", 1e-9), "not one picture fits"),
            (("--cache", "tape"), "--cache"),
            (("--cache-limit", 0), "--cache-limit"),
        ],
    )
    def test_cache_and_precision_refused(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, flags: tuple[object, ...],
        message: str,
    ) -> None:  # fmt: skip
        assert message in fails(capsys, *train(None, pictures, tmp_path / "out", *flags, "--gpu-num", 0))

    def test_bundled_weights(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        assert run(*train(Path("bundled"), pictures, tmp_path / "out")) == 2
        assert "--load-weights bundled is a yunet-n, not a face-detection-0200" in capsys.readouterr().err
        assert run(*train(Path("bundled"), pictures, tmp_path / "out", "--template", "yunet-n",
                          "--base-learning-rate", 1e-6)) == 0  # fmt: skip
        checkpoint = read_torch_file(tmp_path / "out" / "latest.pth")
        began = read_torch_file(TEMPLATES_DIR / "yunet-n" / "facekit.pth")["state_dict"]
        name = "backbone.model0.conv1.weight"
        assert (checkpoint["state_dict"][name] - began[name]).abs().max() < 1e-3

    @pytest.mark.parametrize("flags", [
        ("--cache-limit", 2), ("--teacher-weight", 0.5), ("--teacher-landmark-weight", 20), ("--val-interval", 2),
    ])  # fmt: skip
    def test_flags_without_effect(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, flags: tuple[object, ...]
    ) -> None:
        assert run(*train(None, pictures, tmp_path / "out", *flags)) == 2
        assert f"Error: {flags[0]} is about" in capsys.readouterr().err

    def test_more_gpus_than_there_are(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        assert "--gpu-num 64" in fails(capsys, *train(None, pictures, tmp_path / "out", "--gpu-num", 64))

    def test_broken_jpeg_met_by_a_reading_process(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
    ) -> None:
        """Workers wrap what they raise into a traceback."""
        for name in ("a.jpg", "b.jpg"):
            (pictures / name).write_bytes(b"text")
        text = fails(capsys, *train(None, pictures, tmp_path / "out", "--workers", 1))
        assert ".jpg: not a picture of a kind that is read" in text
