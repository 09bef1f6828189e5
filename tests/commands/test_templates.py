from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import facekit
from facekit.cli import main
from facekit.errors import FacekitError
from facekit.template import known_templates


def test_all_by_name(project_dir: Path) -> None:
    table = facekit.templates()
    assert [row.name for row in table.rows] == known_templates()
    folder = project_dir / "model_templates" / "face-detection"
    speed, measured = (yaml.safe_load((folder / name).read_text()) for name in ("speed.yaml", "measured.yaml"))
    row = next(row for row in table.rows if row.name == "yunet-n")
    assert (row.kilobytes, row.milliseconds) == (
        speed["templates"]["yunet-n"]["onnx_bytes"] / 1000, speed["templates"]["yunet-n"]["ms"],
    )  # fmt: skip
    ap = next(known for known in measured["yunet-n"] if known["kind"] == "pth")
    assert row.measured is not None
    assert (row.measured.easy, row.measured.hard) == (ap["easy"], ap["hard"])
    assert (row.any_size, row.has_landmarks) == (True, True)
    ssd = next(row for row in table.rows if row.name == "face-detection-0200")
    assert (ssd.any_size, ssd.has_landmarks, ssd.input_wh) == (False, False, (256, 256))
    assert speed["machine"] in table.text().replace("\n", " ")


def test_each_word_narrows() -> None:
    def names(*words: str) -> list[str]:
        return [row.name for row in facekit.templates(words).rows]

    assert names("YuNet") == ["yunet-n", "yunet-s"]
    assert set(names("landmarks", "scrfd")) == {"scrfd-0.5g"}
    with pytest.raises(FacekitError, match=r"No template has 'yunet-x'.* Did you mean yunet-"):
        names("yunet-x")


@pytest.mark.parametrize(("by", "sign"), [("ap", -1), ("params", 1), ("gmacs", 1), ("kb", 1), ("ms", 1)])
def test_sorted(by: str, sign: int) -> None:
    column = {"ap": "hard", "params": "parameters", "gmacs": "gmacs", "kb": "kilobytes", "ms": "milliseconds"}[by]
    values = [getattr(row, column) for row in facekit.templates(sort=by).rows]  # type: ignore[arg-type]
    known = [value for value in values if value is not None]
    assert known == sorted(known, key=lambda value: sign * value)
    assert values[: len(known)] == known  # what was not measured stands last


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["templates", "yunet-n", "--json"], prog_name="facekit")
    assert end.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "yunet-n" and row["measured"]["protocol"].startswith("own size")


def test_an_ap_never_stands_without_its_protocol() -> None:
    text = facekit.templates(("yunet-n",)).text()
    assert "89.3 / 88.5 / 81.4" in text
    assert "yunet-n: own size, zero-padded to 32; score 0.02, NMS 0.45, no cap; 566 WIDER pictures" in text
