from __future__ import annotations

import numpy as np
import pytest

from facekit.commands.watching import Looking, carried
from facekit.structures import Detections


@pytest.mark.parametrize(("every", "frames", "looked_at"), [
    (1, 4, [0, 1, 2, 3]), (3, 7, [0, 3, 6]), (3, 9, [0, 3, 6, 8]), (10, 1, [0]), (10, 2, [0, 1]), (10, 0, []),
])  # fmt: skip
def test_the_last_frame_is_looked_at_where_nothing_is_to_be_missed(
    every: int, frames: int, looked_at: list[int]
) -> None:
    """Behind it nothing tells where a face that was seen before has gone."""
    asked: list[int] = []

    def find(frame: int) -> Detections:
        asked.append(frame)
        return Detections(np.array([[frame, 0, frame + 9, 9]], np.float32), np.array([0.9], np.float32), None)

    found = list(carried(range(frames), find, Looking(every=every, looks_last=True)))
    assert [frame for frame, _ in found] == list(range(frames))
    assert asked == looked_at
    assert [int(faces.boxes_xyxy[0, 0]) for _, faces in found][-1:] == list(range(frames))[-1:]
    asked.clear()
    list(carried(range(frames), find, Looking(every=every)))
    assert asked == list(range(0, frames, every))
