"""Evaluations that several processes share; tests/engine/evaluation/test_measure.py looks at the figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.detector import Detector
from facekit.engine.evaluation.evaluate import (
    BrokenOff,
    Measured,
    detect_over_processes,
    detect_pictures,
    evaluate_labelled,
    result_names,
)
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.structures import Detections


class BrightestPixel:
    """In place of a detector: one face a picture, its score the picture's first pixel."""

    def detect_batch(self, images: list[NDArray[np.uint8]]) -> list[Detections]:
        rows = [float(image[0, 0, 0]) / 255 for image in images]
        return [Detections(np.full((1, 4), row, np.float32), np.full(1, row, np.float32)) for row in rows]


DETECTOR = cast(Detector, BrightestPixel())


@pytest.fixture
def pictures(tmp_path: Path) -> list[PictureLabels]:
    made = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.full((8, 8, 3), 30 * number, np.uint8))
        box = np.array([[1.0, 1, 5, 5]])
        made.append(PictureLabels(path, (8, 8), box, np.full((1, 5, 2), np.nan), np.zeros(1, bool)))
    return made


class Processes:
    """Runs what every one of several processes does, one after the other: first up to where they gather."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.monkeypatch = monkeypatch
        self.count = count
        monkeypatch.setattr("facekit.engine.evaluation.evaluate.world_size", lambda: count)

    def run(self, act: Any) -> list[Any]:
        """What act() returns or raises in each process."""
        shares: list[Any] = []
        for number in range(self.count):
            self._become(number, lambda share: (shares.append(share), [])[1])
            act()
        ends = []
        for number in range(self.count):
            self._become(number, lambda share: shares)
            try:
                ends.append(act())
            except (BrokenOff, FacekitError) as error:
                ends.append(error)
        return ends

    def _become(self, number: int, gather: Any) -> None:
        self.monkeypatch.setattr("facekit.engine.evaluation.evaluate.rank", lambda: number)
        self.monkeypatch.setattr("facekit.engine.evaluation.evaluate.gather_over_processes", gather)


@pytest.mark.parametrize(("count", "processes"), [(7, 3), (6, 2), (1, 2), (0, 2)])
def test_shares_are_put_in_order(
    pictures: list[PictureLabels], monkeypatch: pytest.MonkeyPatch, count: int, processes: int
) -> None:
    pictures = pictures[:count]
    alone = detect_pictures(DETECTOR, pictures, quiet=True)
    ends = Processes(monkeypatch, processes).run(lambda: detect_over_processes(DETECTOR, pictures, None, "x", True))
    for measured in ends:
        assert isinstance(measured, Measured)
        assert [faces.scores.tolist() for faces in measured.found] == [faces.scores.tolist() for faces in alone.found]
        assert len(measured.seconds) == count
        assert all(seconds > 0 for seconds in measured.seconds)


def test_first_process_alone_has_figures(pictures: list[PictureLabels], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = evaluate_labelled(DETECTOR, pictures, quiet=True)
    # Nothing is gathered at first, and there are no figures from nothing.
    monkeypatch.setattr("facekit.engine.evaluation.evaluate.large_faces_metric", lambda measured: None)
    first, second = Processes(monkeypatch, 2).run(lambda: evaluate_labelled(DETECTOR, pictures, quiet=True))
    assert first[0] == alone[0]
    assert second == []


def test_one_breaks_off_for_all(pictures: list[PictureLabels], monkeypatch: pytest.MonkeyPatch) -> None:
    def look(path: Path, *_: object) -> None:
        if path.stem == "3":  # the second process's
            raise BrokenOff

    ends = Processes(monkeypatch, 2).run(lambda: detect_over_processes(DETECTOR, pictures, look, "x", True))
    assert [type(end) for end in ends] == [BrokenOff, BrokenOff]


def test_what_one_cannot_read_ends_all(pictures: list[PictureLabels], monkeypatch: pytest.MonkeyPatch) -> None:
    pictures[4].path.write_bytes(b"no picture")
    ends = Processes(monkeypatch, 3).run(lambda: detect_over_processes(DETECTOR, pictures, None, "x", True))
    assert all(isinstance(end, FacekitError) and "4.png" in str(end) for end in ends)


def test_result_names(pictures: list[PictureLabels]) -> None:
    def named(path: str) -> list[str]:
        return result_names([replace(pictures[0], path=Path(path))])

    assert named("/set/event/a.jpg") == ["event/a"]
    assert named("a.jpg") == ["pictures/a"]  # as detect has it
    with pytest.raises(FacekitError, match=r"'event /a' isn't EVENT/NAME.*Rename the picture or its folder"):
        named("event /a.jpg")
