"""Faces that are larger than a network of any size knows, in large pictures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facekit import Detector, anonymize, detect
from facekit.commands.inputs import Choice
from facekit.detector import BUNDLED_WEIGHTS, Passes
from facekit.feed import smaller_copies
from facekit.ops.fusion import unite
from facekit.structures import Detections
from facekit.targets.writing.check_pictures import portrait
from facekit.template import find_template, load_template

LARGE = 8  # times the portrait's pixels: the face, 92 pixels wide there, has 730
SMALL_BGR = np.asarray(cv2.imread(str(portrait()))[:240, 100:340])


@pytest.fixture(scope="module")
def large_bgr() -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(SMALL_BGR, None, fx=LARGE, fy=LARGE, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def test_are_found_where_they_are(large_bgr: NDArray[np.uint8]) -> None:
    (expected,) = Detector.bundled().detect(SMALL_BGR).above(0.5)
    plain, both = (Detector.bundled(threads=1, passes=passes) for passes in (Passes(), None))
    left, _, right, _ = expected.box_xyxy * LARGE
    shift = 0.1 * float(right - left)

    def is_found(detector: Detector) -> bool:
        return any(
            np.abs(face.box_xyxy - expected.box_xyxy * LARGE).max() < shift for face in detector.detect(large_bgr)
        )

    assert is_found(both) and not is_found(plain)
    best = both.detect(large_bgr)[0]
    assert best.score > 0.85
    np.testing.assert_allclose(best.landmarks_xy, expected.landmarks_xy * LARGE, atol=shift)
    assert "over 640 pixels in smaller copies too" in both.protocol() and "copies" not in plain.protocol()


def test_commands_find_and_cover_them(large_bgr: NDArray[np.uint8], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), large_bgr)
    (row,) = detect(tmp_path / "large.png")
    assert row.faces[0].score > 0.85
    own = Choice(BUNDLED_WEIGHTS, None, threads=1).open()  # as visualize opens it
    np.testing.assert_allclose(own.detect(large_bgr)[0].box_xyxy, row.faces[0].box_xyxy, atol=0.1)
    anonymize(tmp_path / "large.png", output=tmp_path / "covered.png", method="solid")
    left, top, right, bottom = row.faces[0].box_xyxy.astype(int)
    middle = (slice(top + (bottom - top) // 4, bottom - (bottom - top) // 4), slice(left + (right - left) // 4, right))
    assert not cv2.imread(str(tmp_path / "covered.png"))[middle].any()


def test_of_several_pictures_each_its_own(large_bgr: NDArray[np.uint8]) -> None:
    """Also of a stream, which gives pictures and copies one after the other; small pictures have no copies."""
    pictures = [SMALL_BGR, large_bgr[:1900:2, :1900:2], SMALL_BGR[:, ::-1], large_bgr[::2, 100::2]]
    throughput: dict[str, Any] = {"backend": "openvino", "mode": "throughput"}
    for options in ({}, throughput):
        detector = Detector.open("bundled", threads=1, **options)
        together = detector.detect_batch(pictures)
        for picture, found in zip(pictures, together, strict=True):
            alone = detector.detect(np.ascontiguousarray(picture)).above(0.5)
            assert len(alone) == 1
            np.testing.assert_allclose(found.above(0.5).boxes_xyxy, alone.boxes_xyxy, atol=0.5)


def test_networks_of_one_size_need_no_copies() -> None:
    """And their protocol speaks of none, so that runs that were broken off can be gone on with."""
    template = load_template(find_template("scrfd-0.5g"))
    backend: Any = SimpleNamespace(template=template, fixed_size_hw=None, is_parallel=True)
    detector = Detector(backend, passes=Passes(large_faces=True))
    assert not detector.passes.large_faces and "copies" not in detector.protocol()


@pytest.mark.parametrize("width", [1050, 1051, 4032])
def test_a_longest_side_of_640_is_one_look(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Any] = []
    look = Detector._look
    monkeypatch.setattr(Detector, "_look", lambda self, fed: looks.append(fed) or look(self, fed))
    passes = Passes(longest_side=640, large_faces=True)
    Detector.bundled(threads=1, passes=passes).detect(np.zeros((700, width, 3), np.uint8))
    assert len(looks) == 1


@pytest.mark.parametrize(
    ("longest", "copies"), [(320, 0), (640, 0), (641, 1), (1920, 1), (1921, 2), (11520, 2), (11521, 3)]
)
def test_copies(longest: int, copies: int) -> None:
    sides = smaller_copies(longest)
    assert len(sides) == copies
    assert not copies or sides[-1] == pytest.approx(320)
    steps = np.array([longest, *sides[:-1]]) / sides
    np.testing.assert_allclose(steps, steps[:1].repeat(copies))
    assert (steps <= 6).all()


def faces(*rows: Any) -> Detections:
    values = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(values[:, :4], values[:, 4], None)


class TestUnite:
    WHOLE = (100, 100, 1100, 1100, 0.9)
    EYE = (200, 200, 600, 500, 0.6)

    def test_the_better_look_counts(self) -> None:
        united = unite([faces((0, 0, 100, 100, 0.5), (500, 0, 600, 100, 0.8)), faces((5, 0, 105, 100, 0.7))], 0.45, 400)
        np.testing.assert_array_equal(united.boxes_xyxy[:, 0], [500, 5])
        np.testing.assert_allclose(united.scores, [0.8, 0.7])

    def test_parts_of_a_large_face_are_none(self) -> None:
        assert len(unite([faces(self.EYE), faces(self.WHOLE)], 0.45, 400)) == 1

    @pytest.mark.parametrize(
        ("finer", "copy", "large_side"),
        [
            pytest.param([(200, 200, 600, 500, 0.95)], [WHOLE], 400, id="better-than-it"),
            pytest.param([EYE], [WHOLE], 2000, id="a-size-that-is-known"),
            pytest.param([(900, 200, 1300, 500, 0.6)], [WHOLE], 400, id="half-outside"),
            pytest.param([EYE, WHOLE], [], 400, id="of-one-look"),
            pytest.param([], [WHOLE, EYE], 400, id="of-one-copy"),
        ],
    )
    def test_others_stay(self, finer: list[Any], copy: list[Any], large_side: float) -> None:
        assert len(unite([faces(*finer), faces(*copy)], 0.45, large_side)) == 2

    def test_no_faces_and_the_best(self) -> None:
        assert len(unite([faces(), faces()], 0.45, 400)) == 0
        assert unite([faces(self.EYE), faces((2000, 0, 2100, 100, 0.7))], 0.45, 400, 1).scores == pytest.approx([0.7])
        with pytest.raises(ValueError, match="one or more"):
            unite([], 0.45, 400)
