"""The four official .mat files of a made-up WIDER FACE validation set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

ATTRIBUTES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")


def cells(values: Sequence[Any]) -> NDArray[Any]:
    """A MATLAB cell, (n, 1)."""
    result = np.empty((len(values), 1), dtype=object)
    for index, value in enumerate(values):
        result[index, 0] = value
    return result


def write_ground_truth(folder: Path, events: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Path:
    """Event -> picture -> faces (N, 4) x, y, w, h, all of which count in all subsets. The attributes' codes are 0 for
    the first, third, ... picture of an event and 1 for the others."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "event_list": cells(list(events)),
        "file_list": cells([cells(list(pictures)) for pictures in events.values()]),
        "face_bbx_list": cells([cells(list(pictures.values())) for pictures in events.values()]),
    }
    for name in ATTRIBUTES:
        content[f"{name}_label_list"] = cells(
            [
                cells([np.full((len(boxes), 1), number % 2) for number, boxes in enumerate(pictures.values())])
                for pictures in events.values()
            ]
        )
    savemat(folder / "wider_face_val.mat", content)
    counting = [
        cells([np.arange(1, len(boxes) + 1)[:, None] for boxes in pictures.values()]) for pictures in events.values()
    ]
    for subset in ("easy", "medium", "hard"):
        savemat(folder / f"wider_{subset}_val.mat", {"gt_list": cells(counting)})
    return folder
