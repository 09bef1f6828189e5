"""facekit's commands as functions of Python."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import facekit
from facekit.cli import COMMANDS, cli
from tests.cli.support import label

HEAVY = ("torch", "numpy", "cv2", "openvino", "yaml", "matplotlib")


@pytest.mark.parametrize("name", sorted(set(facekit.__all__) - {"Detector", "__version__"}))
def test_each_is_a_function_that_says_what_it_takes(name: str) -> None:
    function = getattr(facekit, name)
    assert callable(function)
    assert inspect.getdoc(function)
    parameters = inspect.signature(function).parameters
    assert all(parameter.kind != inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def test_every_command_is_a_function() -> None:
    other_names = {"eval": "evaluate"}
    names = {other_names.get(name, name.replace("-", "_")) for name in cli.commands if name != "data"}
    assert names <= set(facekit.__all__)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_short_help_is_the_commands_own(name: str) -> None:
    assert COMMANDS[name][1] == cli.commands[name].get_short_help_str(300)


@pytest.mark.parametrize("command", ["", "train", "visualize", "data", "eval"])
def test_help_imports_nothing_heavy(command: str) -> None:
    source = (
        "import sys\nfrom facekit.cli import main\n"
        f"try: main([*{command.split()!r}, '--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_wrong_arguments_are_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    """F21."""
    source = (
        "import sys\nfrom facekit.cli import main\n"
        f"try: main(['eval', '--template', 'yunet-n', '--load-weights', {str(tmp_path / 'none.onnx')!r}])\n"
        "except SystemExit as end: code = end.code\n"
        "print(code, [name for name in ('torch', 'cv2', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 []"


def test_instantiate_train_and_evaluate(tmp_path: Path) -> None:
    """The main job by Python alone, with paths as texts."""
    import cv2
    import numpy as np

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(pictures / name), np.full((48, 64, 3), 99, np.uint8))
    label(pictures)
    work_dir = str(tmp_path / "work")
    assert facekit.instantiate("yunet-n", work_dir, no_snapshot=True) is None  # type: ignore[arg-type]
    latest = facekit.train(
        work_dir, train_ann_files=str(pictures / "labels.json"), train_data_roots=[str(pictures)],  # type: ignore[arg-type]
        save_checkpoints_to=f"{work_dir}/outputs", add_epochs=1, max_iterations=1, workers=0, batch_size=2, gpu_num=0,  # type: ignore[arg-type]
    )  # fmt: skip
    assert latest == tmp_path / "work" / "outputs" / "latest.pth"
    record = json.loads((tmp_path / "work" / "outputs" / "run.json").read_text())
    assert (record["flags"]["epochs"], record["flags"]["add_epochs"]) == (1, None)
    assert record["flags"]["train_ann_files"] == [str(pictures / "labels.json")]
    measured = facekit.evaluate(work_dir, test_ann_files=(pictures / "labels.json",), test_data_roots=(pictures,))
    assert measured is not None
    assert measured.record.weights == "latest.pth"  # F16: the newest of the work dir
