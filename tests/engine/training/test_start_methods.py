"""P19: processes that read data, started as Python 3.14 does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

SCRIPT = """
import multiprocessing, sys
if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    from facekit.cli import main
    main(sys.argv[1:])
"""


def test_a_training_with_a_fork_server_ends(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((48, 64, 3), 99, np.uint8))
    labels = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"id": 0, "image_id": 1, "bbox": [10, 10, 30, 30]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [
        sys.executable, tmp_path / "run.py", "train", "--template", "yunet-n", "--train-ann-files",
        tmp_path / "labels.json", "--train-data-roots", tmp_path, "--save-checkpoints-to", tmp_path / "out",
        "--workers", "1", "--batch-size", "1", "--epochs", "1", "--max-iterations", "1", "--gpu-num", "0",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Done: " in done.stdout
