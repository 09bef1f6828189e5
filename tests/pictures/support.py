"""What the tests of pictures and video share."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facekit.structures import Detections

HEIGHT, WIDTH = 64, 96


def faces(*boxes: tuple[float, ...], landmarks: bool = False, score: float = 0.9) -> Detections:
    count = len(boxes)
    points = np.tile(np.array([[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]], np.float32), (count, 1, 1))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, score, np.float32),
        points if landmarks else None,
    )


def black() -> NDArray[np.uint8]:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), black())
    return path


def video(path: Path, frames: int = 3, fps: float = 5.0, size_wh: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Frame i is of the grey level 16 i, so that each can be told."""
    codec = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), codec, fps, size_wh)
    for index in range(frames):
        assert writer.write(np.full((size_wh[1], size_wh[0], 3), min(16 * index, 255), np.uint8))
    writer.release()
    return path


def frames_of(path: Path) -> list[NDArray[Any]]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(frame)


def vary_rate(path: Path, steps: list[int]) -> None:
    """Gives the frames of an .mp4 of one rate other durations, in its frame durations: rewrites its table of times
    (stts; ISO/IEC 14496-12, 8.6.1.2), which stands behind the frames, and the boxes around it."""
    data = path.read_bytes()
    place = data.index(b"stts") - 4
    old_size = int.from_bytes(data[place : place + 4], "big")
    unit = int.from_bytes(data[place + 20 : place + 24], "big")
    body = b"stts" + struct.pack(">II", 0, len(steps)) + b"".join(struct.pack(">II", 1, step * unit) for step in steps)
    changed = data[:place] + struct.pack(">I", 4 + len(body)) + body + data[place + old_size :]
    grown = bytearray(changed)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = data.index(name) - 4
        size = int.from_bytes(data[at : at + 4], "big") + 4 + len(body) - old_size
        grown[at : at + 4] = size.to_bytes(4, "big")
    # The lengths of the whole (mvhd, tkhd, mdhd, elst), all of version 0, grow in proportion.
    old_steps = len(steps)
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20), (b"elst", 12)):
        at = bytes(grown).find(name)
        if at >= 0:
            length = int.from_bytes(grown[at + offset : at + offset + 4], "big")
            grown[at + offset : at + offset + 4] = (length * sum(steps) // old_steps).to_bytes(4, "big")
    path.write_bytes(bytes(grown))
