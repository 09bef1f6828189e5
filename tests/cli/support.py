"""What the tests of the commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facekit.cli import main
from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.models import build_model
from facekit.template import TEMPLATES_DIR, load_template
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint

SSD, YUNET = "face-detection-0200", "yunet-n"
COMMANDS = (
    "instantiate", "import-weights", "flops", "priors", "train", "reproduce", "plot", "eval", "eval-predictions",
    "report", "export", "compress", "visualize",
)  # fmt: skip


def checkpoint(path: Path, name: str) -> Path:
    template = load_template(TEMPLATES_DIR / name / "template.yaml")
    meta = new_meta(template, template.training.epochs, 10)
    save_checkpoint(path, Checkpoint(meta, build_model(template).state_dict()))
    return path


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


def refuse_thin_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes detectors refuse pictures of less than 64 pixels a side, as some runtimes do."""
    detect_batch = Detector.detect_batch

    def refusing(self: Detector, pictures: Any) -> Any:
        for picture in pictures:
            if min(picture.shape[:2]) < 64:
                raise FacekitError(f"can't run {picture.shape[1]}x{picture.shape[0]}")
        return detect_batch(self, pictures)

    monkeypatch.setattr(Detector, "detect_batch", refusing)


def written(folder: Path) -> list[str]:
    """What a command left; the journal and the record of a training are no products."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name not in ("log.jsonl", "run.json"))


def train(weights: Path | None, pictures: Path, out: Path, *more: object) -> list[object]:
    """A short training; flags in `more` take the place of its own."""
    flags = {"--template": SSD, "--batch-size": 2, "--workers": 0, "--epochs": 1, "--max-iterations": 1, "--gpu-num": 0}
    own = [part for flag, value in flags.items() if flag not in more for part in (flag, value)]
    start = ["--load-weights", weights] if weights else []
    return ["train", *start, *labelled("train", pictures), "--save-checkpoints-to", out, *own, *more]
