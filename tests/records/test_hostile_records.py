"""run.json and log.jsonl with values out of their range: the same ranges as for flags, and one line with the key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from facekit.commands.reproduce import recorded_options
from facekit.errors import FacekitError
from facekit.pages.curves import read_run
from facekit.records.run import read_record
from tests.fuzz.samples import journal, write_run_record


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("record")
    (folder / "labels.json").touch()
    content: dict[str, Any] = json.loads(write_run_record(folder, folder).read_text())
    return content


def complaint(folder: Path, content: Any) -> str:
    path = folder / "run.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(FacekitError) as caught:
        recorded_options(read_record(path), path, save_checkpoints_to=folder / "out")
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 700
    return text


def test_good(tmp_path: Path, good: dict[str, Any]) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(good))
    assert recorded_options(read_record(path), path).max_iterations == 1


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("epochs", -1), ("epochs", 0), ("epochs", 10**9), ("epochs", 10**40), ("epochs", "3"), ("epochs", 1.5),
        ("batch_size", 0), ("batch_size", -4), ("batch_size", 10**9), ("workers", -1), ("workers", 1_000_000),
        ("seed", -1), ("seed", 2**64), ("max_iterations", 0), ("val_interval", 0), ("checkpoint_interval", -1),
        ("base_learning_rate", 0), ("base_learning_rate", -1), ("base_learning_rate", 1e308), ("gpu_num", 10**6),
        ("cache_limit", 0), ("cache_limit", float("inf")), ("precision", "fp8"), ("teacher_weight", float("nan")),
        ("compile", "yes"), ("load_weights", "a\0b"), ("load_weights", "\ud800"), ("train_ann_files", ["a\0"]),
        ("save_checkpoints_to", None), ("unknown", 1),
    ],
)  # fmt: skip
def test_flags(tmp_path: Path, good: dict[str, Any], flag: str, value: Any) -> None:
    assert flag in complaint(tmp_path, good | {"flags": good["flags"] | {flag: value}})


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("result", "epoch", -1), ("result", "iteration", 10**18), ("result", "epoch", "1"),
        ("train_data", "pictures", -1),
        ("train_data", "faces", 10**30), ("train_data", "label_files", {"a": 1}), ("train_data", "label_files", []),
        ("weights", "path", "\ud800"), ("result", "weights_sha256", None),
    ],
)  # fmt: skip
def test_records(tmp_path: Path, good: dict[str, Any], part: str, key: str, value: Any) -> None:
    inner = (good[part] or {"path": "a", "sha256": "0"}) | {key: value}
    assert f"run.{part}.{key}" in complaint(tmp_path, good | {part: inner})


@pytest.mark.parametrize(("key", "value"), [("processes", 10**6), ("processes", -1), ("cores", -1), ("device", 7)])
def test_machine(tmp_path: Path, good: dict[str, Any], key: str, value: Any) -> None:
    session = good["sessions"][0]
    changed = session | {"environment": session["environment"] | {key: value}}
    assert f"run.sessions[0].environment.{key}" in complaint(tmp_path, good | {"sessions": [changed]})


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"a": ' * 10_000, '{"facekit_run": ' + "9" * 5000 + "}"]
)
def test_no_record(tmp_path: Path, text: str) -> None:
    assert "no record of a run" in complaint(tmp_path, text)


@pytest.mark.parametrize("name", ["run.json", "log.jsonl"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_no_file(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(FacekitError, match=rf"{name}: is a {kind}, not a file"):
        read_record(path) if name == "run.json" else read_run(path, "a")


@pytest.mark.parametrize(
    "line",
    ['{"iteration": 5, "loss": 1e308}', '{"iteration": 1e308, "loss": 1}', '{"iteration": -1, "loss": 1}',
     "null", "[1]",
     '{"iteration": ' + "9" * 5000 + "}", '{"iteration": 5, "loss": NaN}', '{"iteration": Infinity}', "[" * 10_000,
     json.dumps({"iteration": 1} | {f"loss_{n}": 1 for n in range(5000)})],
    ids=lambda line: line[:30],
)  # fmt: skip
def test_journal(tmp_path: Path, line: str) -> None:
    """What is absurd is left out; the rest is drawn."""
    (tmp_path / "log.jsonl").write_text(journal() + line + "\n")
    run = read_run(tmp_path / "log.jsonl", "a")
    assert len(run.curves["loss"].values) == 19
    assert all(abs(curve.values).max() < 100 for curve in run.curves.values())


def test_kinds_of_figures_without_end(tmp_path: Path) -> None:
    lines = [json.dumps({"iteration": n, f"loss_{n}": 1}) for n in range(500)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    with pytest.raises(FacekitError, match="holds 500 kinds of figures, expected at most 100"):
        read_run(tmp_path / "log.jsonl", "a")
