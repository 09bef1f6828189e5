"""Tracks of a whole video, looked at backwards and forwards: what was missed in between, before and behind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GROWN = 0.2  # of a face's sides, by which a place that is only held grows


class Sightings(NamedTuple):
    """Of all tracks of a video, in any order, K of them."""

    frames: NDArray[np.int64]  # (K,) number of the frame
    track_ids: NDArray[np.int64]  # (K,)
    boxes_xyxy: NDArray[np.float32]  # (K, 4)
    scores: NDArray[np.float32]  # (K,)

    def at(self, chosen: NDArray[np.int64]) -> Sightings:
        """Those of (M,) indices, in that order."""
        return Sightings(self.frames[chosen], self.track_ids[chosen], self.boxes_xyxy[chosen], self.scores[chosen])


def joined(parts: list[Sightings]) -> Sightings:
    """One behind the other."""
    return Sightings(
        np.concatenate([np.empty(0, np.int64), *(part.frames for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.track_ids for part in parts)]),
        np.concatenate([np.empty((0, 4), np.float32), *(part.boxes_xyxy for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)]),
    )


def bridge(found: Sightings, shown: NDArray[np.int64], most_frames: int, extend: int) -> Sightings:
    """The places where faces were not found, but must be: between two sightings of a track with at most most_frames
    frames between them, on the line between them; and, `extend` frames before its first and behind its last, and on
    both sides of a longer gap, where it stood, grown by a fifth.

    shown: (F,) numbers of the frames that are shown, rising, those of all sightings among them. Their scores are the
    lower one of the sightings beside them.
    """
    parts = []
    rank_of = np.searchsorted(shown, found.frames)
    order = np.lexsort((rank_of, found.track_ids))
    starts = np.flatnonzero(np.diff(found.track_ids[order], prepend=-1))
    for chosen in np.split(order, starts[1:]) if len(order) else []:
        ranks, boxes, scores = rank_of[chosen], found.boxes_xyxy[chosen], found.scores[chosen]
        places = _missed(ranks, len(shown), most_frames, extend)
        if not len(places):
            continue
        behind = np.searchsorted(ranks, places).clip(1, max(len(ranks) - 1, 1))
        before = np.minimum(behind - 1, len(ranks) - 1)
        behind = np.minimum(behind, len(ranks) - 1)
        is_between = (places > ranks[before]) & (places < ranks[behind])
        is_bridged = is_between & (ranks[behind] - ranks[before] - 1 <= most_frames)
        share = ((places - ranks[before]) / np.maximum(ranks[behind] - ranks[before], 1))[:, None]
        line = (1 - share) * boxes[before] + share * boxes[behind]
        nearest = np.where(np.abs(places - ranks[before]) <= np.abs(places - ranks[behind]), before, behind)
        half = np.tile((boxes[nearest, 2:] - boxes[nearest, :2]) * GROWN / 2, 2) * (-1, -1, 1, 1)
        made = np.where(is_bridged[:, None], line, boxes[nearest] + half)
        lower = np.where(is_bridged, np.minimum(scores[before], scores[behind]), scores[nearest])
        ids = np.full(len(places), found.track_ids[chosen[0]])
        parts.append(Sightings(shown[places], ids, made.astype(np.float32), lower.astype(np.float32)))
    return joined(parts)


def _missed(ranks: NDArray[np.int64], count: int, most_frames: int, extend: int) -> NDArray[np.int64]:
    """Of a track seen at these ranks: the ranks in 0..count-1 that are filled."""
    edges = np.zeros(count + 1, np.int64)  # +1 where a filled stretch begins, -1 behind its end

    def fill(first: NDArray[np.int64], end: NDArray[np.int64]) -> None:
        first, end = first.clip(0, count), end.clip(0, count)
        np.add.at(edges, first, 1)
        np.add.at(edges, np.maximum(first, end), -1)

    before, behind = ranks[:-1], ranks[1:]
    is_short = behind - before - 1 <= most_frames
    fill(before[is_short] + 1, behind[is_short])
    open_before, open_behind = ranks[np.append(~is_short, True)], ranks[np.insert(~is_short, 0, True)]
    fill(open_before + 1, open_before + 1 + extend)
    fill(open_behind - extend, open_behind)
    is_filled = np.cumsum(edges[:-1]) > 0
    is_filled[ranks] = False
    return np.flatnonzero(is_filled)
