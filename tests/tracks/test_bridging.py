"""Gaps of hand-made tracks."""

from __future__ import annotations

from typing import Any

import numpy as np

from facekit.tracks.bridging import Sightings, bridge

BOX = np.array([0, 0, 10, 10], np.float32)


def sightings(*seen: tuple[int, int, Any, float]) -> Sightings:
    frames, tracks, boxes, scores = zip(*seen, strict=True)
    return Sightings(np.array(frames), np.array(tracks), np.array(boxes, np.float32), np.array(scores, np.float32))


def boxes_of(made: Sightings, track: int = 7) -> dict[int, list[float]]:
    rows = np.flatnonzero(made.track_ids == track)
    return {int(made.frames[row]): made.boxes_xyxy[row].tolist() for row in rows}


# Frames 5, 8 and 20 of 0..29.
SEEN = sightings((8, 7, BOX + 30, 0.6), (5, 7, BOX, 0.9), (20, 7, BOX + 30, 0.7))


def test_short_gaps_lie_on_a_line_long_ones_are_held() -> None:
    made = bridge(SEEN, np.arange(30), most_frames=4, extend=3)
    boxes = boxes_of(made)
    assert sorted(boxes) == [2, 3, 4, 6, 7, 9, 10, 11, 17, 18, 19, 21, 22, 23]
    assert np.allclose([boxes[6], boxes[7]], [BOX + 10, BOX + 20], atol=1e-4)
    assert boxes[4] == boxes[2] == [-1, -1, 11, 11] and boxes[11] == boxes[17] == [29, 29, 41, 41]
    scores = dict(zip(made.frames.tolist(), made.scores, strict=True))
    assert np.allclose([scores[frame] for frame in (4, 6, 11, 17)], [0.9, 0.6, 0.6, 0.7])


def test_gaps_of_just_that_length() -> None:
    assert sorted(boxes_of(bridge(SEEN, np.arange(30), 11, 0))) == [6, 7, *range(9, 20)]
    assert sorted(boxes_of(bridge(SEEN, np.arange(30), 10, 0))) == [6, 7]


def test_only_frames_that_are_shown() -> None:
    """Numbers have gaps where a part of a video was cut out; gaps are counted in frames that are shown."""
    assert sorted(boxes_of(bridge(SEEN, np.array([4, 5, 7, 8, 19, 20]), 1, 3))) == [4, 7, 19]


def test_tracks_do_not_mix() -> None:
    seen = sightings((0, 1, BOX, 0.9), (4, 1, BOX, 0.9), (1, 2, BOX + 50, 0.8), (3, 2, BOX + 50, 0.8))
    made = bridge(seen, np.arange(5), 3, 0)
    assert boxes_of(made, 1) == {frame: [0, 0, 10, 10] for frame in (1, 2, 3)}
    assert boxes_of(made, 2) == {2: [50, 50, 60, 60]}


def test_nothing_and_a_single_sighting() -> None:
    nothing = Sightings(np.empty(0, int), np.empty(0, int), np.empty((0, 4), np.float32), np.empty(0, np.float32))
    assert len(bridge(nothing, np.arange(3), 5, 5).frames) == 0
    assert sorted(boxes_of(bridge(sightings((1, 7, BOX, 0.5)), np.arange(4), 5, 9))) == [0, 2, 3]
