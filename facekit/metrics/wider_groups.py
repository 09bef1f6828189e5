"""Where a detector fails on WIDER FACE: AP by event and by annotated attribute, over the faces of the hard subset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facekit.labels.picture_labels import WIDER_ATTRIBUTES
from facekit.metrics.wider import Matches, WiderGroundTruth, curve_of, match_predictions

# The annotators' codes count from 0 in this order. "invalid" marks what is no face to find, so it is no group.
ATTRIBUTE_VALUES = {
    "blur": ("clear", "normal", "heavy"),
    "expression": ("typical", "exaggerate"),
    "illumination": ("normal", "extreme"),
    "occlusion": ("none", "partial", "heavy"),
    "pose": ("typical", "atypical"),
}


class WiderGroup(NamedTuple):
    """AP of one group of faces."""

    group: str  # event, or one of ATTRIBUTE_VALUES
    name: str  # such as "Parade" or "heavy"
    faces: int  # of the hard subset
    ap: float  # 0..1; NaN without a face


def wider_groups(predictions: Mapping[str, NDArray[np.floating]], ground_truth: WiderGroundTruth) -> list[WiderGroup]:
    """AP by event, in the order of the pictures, and then by attribute value where the ground truth has attributes.

    A group is a subset of the official protocol (see `wider.wider_curves`): the hard subset's faces of that event or
    value count, and hits on all others are left out. Scores are normalised once, over the whole run. An event is
    measured on its own pictures, an attribute value on all of them: there is no telling which value a false positive
    would have had, so these APs rank values of one attribute rather than stand beside easy, medium and hard.

    Raises: as `wider.wider_curves`.
    """
    matches = match_predictions(predictions, ground_truth)
    return [*_by_event(matches, ground_truth), *_by_attribute(matches, ground_truth)]


def _by_event(matches: Matches, ground_truth: WiderGroundTruth) -> Iterator[WiderGroup]:
    folders = [name.partition("/")[0] for name in ground_truth.names]
    events = list(dict.fromkeys(folders))
    event_of_picture = np.array([events.index(folder) for folder in folders], dtype=np.int64)
    event_of_face = np.repeat(event_of_picture, [len(faces) for faces in ground_truth.boxes_xywh])
    event_of_match = event_of_picture[matches.picture]
    for index, event in enumerate(events):
        counts = ground_truth.counts("hard") & (event_of_face == index)
        name = event.partition("--")[2] or event  # 0--Parade
        yield _group("event", name, matches.take(event_of_match == index), counts)


def _by_attribute(matches: Matches, ground_truth: WiderGroundTruth) -> Iterator[WiderGroup]:
    if ground_truth.attributes is None:
        return
    columns = np.concatenate([np.empty((0, len(WIDER_ATTRIBUTES)), dtype=np.int8), *ground_truth.attributes])
    for attribute, values in ATTRIBUTE_VALUES.items():
        value_of_face = columns[:, WIDER_ATTRIBUTES.index(attribute)]
        for code, value in enumerate(values):
            yield _group(attribute, value, matches, ground_truth.counts("hard") & (value_of_face == code))


def _group(group: str, name: str, matches: Matches, counts: NDArray[np.bool_]) -> WiderGroup:
    faces = int(np.count_nonzero(counts))
    return WiderGroup(group, name, faces, curve_of(matches, counts).ap)
