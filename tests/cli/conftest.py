from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.support import SSD, YUNET, checkpoint, label


@pytest.fixture(scope="session")
def ssd_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("weights") / "ssd.pth", SSD)


@pytest.fixture(scope="session")
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


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # --gpu-num 0 sets it; this brings it back
