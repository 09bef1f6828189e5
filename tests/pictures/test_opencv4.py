"""What OpenCV 4 does otherwise than OpenCV 5, which these tests run with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.machine.native_output import quiet_opencv
from facekit.pictures.video_file import VideoFile
from facekit.pictures.write import kept_exif
from tests.pictures.support import black, frames_of
from tests.pictures.test_cover import exif


def test_a_writer_says_nothing_of_its_frames(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "a.mp4", 10) as file:
        file.write(black(), 0)
        file.writer = Silent(file.writer)
        file.write(black(), 0.1)
    assert file.written == len(frames_of(tmp_path / "a.mp4")) == 2 and not file.losses


class Silent:
    def __init__(self, writer: Any) -> None:
        self.writer, self.release = writer, writer.release

    def write(self, frame_bgr: np.ndarray) -> None:
        self.writer.write(frame_bgr)


def test_4_12_has_its_log_level_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    monkeypatch.delattr(cv2.utils, "logging")
    monkeypatch.setattr(cv2, "getLogLevel", lambda: 3, raising=False)
    monkeypatch.setattr(cv2, "setLogLevel", set_to.append, raising=False)
    with quiet_opencv():
        assert set_to == [0]
    assert set_to == [0, 3]


def test_metadata_come_before_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.frombuffer(exif("<"), np.uint8)
    made = cv2.imencodeWithMetadata(".jpg", black(), [cv2.IMAGE_METADATA_EXIF], [data])[1]
    (tmp_path / "a.jpg").write_bytes(made.tobytes())
    decode = cv2.imdecodeWithMetadata

    def of_4(buf: Any, metadata: Any = None, flags: int = cv2.IMREAD_ANYCOLOR) -> Any:
        assert metadata is None
        return decode(buf, flags=flags)

    monkeypatch.setattr(cv2, "imdecodeWithMetadata", of_4)
    assert kept_exif(tmp_path / "a.jpg")
