"""Tracks of a whole video, looked at backwards and forwards: what was missed in between, before and behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Box = NDArray[np.float32]
Places = dict[int, dict[int, Box]]  # track -> frame -> box


def bridge(found: Places, most_frames: int, extend: int, frames: Iterable[int]) -> Places:
    """The places that were not found: between two sightings of a track that lie at most most_frames missed frames
    apart, on the line between them; and, `extend` frames before its first and behind its last, and on both sides of a
    longer gap, where it stood, grown by a fifth.

    `frames`: all frames that are shown, rising; nothing is placed in others.
    """
    shown = sorted(frames)
    rank = {frame: number for number, frame in enumerate(shown)}
    made: Places = {}
    for track, boxes in found.items():
        known = sorted(frame for frame in boxes if frame in rank)
        places: dict[int, Box] = {}
        for before, behind in itertools.pairwise(known):
            first, last = rank[before], rank[behind]
            if last - first - 1 <= most_frames:
                for number in range(first + 1, last):
                    share = (number - first) / (last - first)
                    places[shown[number]] = (1 - share) * boxes[before] + share * boxes[behind]
            else:
                _hold(places, boxes[before], shown[first + 1 : min(first + 1 + extend, last)])
                _hold(places, boxes[behind], shown[max(last - extend, first + 1) : last])
        if known:
            first, last = rank[known[0]], rank[known[-1]]
            _hold(places, boxes[known[0]], shown[max(first - extend, 0) : first])
            _hold(places, boxes[known[-1]], shown[last + 1 : last + 1 + extend])
        made[track] = places
    return made


def _hold(places: dict[int, Box], box: Box, frames: Iterable[int]) -> None:
    centre, half = (box[:2] + box[2:]) / 2, 0.6 * (box[2:] - box[:2])
    for frame in frames:
        places.setdefault(frame, np.concatenate([centre - half, centre + half]).astype(np.float32))
