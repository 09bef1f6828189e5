from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.labels.formats.support import picture

SIDE = 512
BOX = [180, 54, 93, 120]
POINTS = [[207, 95], [246, 95], [227, 118], [211, 142], [242, 142]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "a.jpg")
    return tmp_path


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "facekit")
    return caplog
