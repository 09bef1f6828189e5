from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekit.commands.marking import mark, plan_mark, write_marked
from facekit.detector import Detector
from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import PictureLabels
from facekit.ops.head import declared_head
from facekit.structures import Detections
from facekit.template import find_template, load_template

POINTS_XY = np.arange(10.0).reshape(5, 2)


class Told(Detector):
    """Finds what it is told to."""

    def __init__(self, *faces: tuple[tuple[float, ...], float], template: str = "yunet-n") -> None:
        self.template = load_template(find_template(template))
        self.head = declared_head(self.template.model)
        boxes_xyxy = np.array([box for box, _ in faces], np.float32).reshape(-1, 4)
        points_xy = np.stack([POINTS_XY + 100 * index for index in range(len(faces))]) if faces else np.empty((0, 5, 2))
        marks = points_xy.astype(np.float32) if template == "yunet-n" else None
        self.faces = Detections(boxes_xyxy, np.array([score for _, score in faces], np.float32), marks)

    def detect_batch(self, images_bgr: Any) -> list[Detections]:
        return [self.faces for _ in images_bgr]


def picture(folder: Path, *boxes_xywh: tuple[float, ...], **changed: Any) -> PictureLabels:
    path = folder / "a.png"
    cv2.imwrite(str(path), np.zeros((60, 80, 3), np.uint8))
    count = len(boxes_xywh)
    values: dict[str, Any] = {
        "landmarks_xy": np.full((count, 5, 2), np.nan), "is_crowd": np.zeros(count, bool), "name": "a.png", **changed,
    }  # fmt: skip
    return PictureLabels(path, None, np.array(boxes_xywh, float).reshape(-1, 4), **values)


def marked_faces(labels: PictureLabels) -> list[int | None]:
    """Of each label the number of the face that gave its landmarks."""
    return [None if np.isnan(points).any() else round(float(points[0, 0]) / 100) for points in labels.landmarks_xy]


class TestLandmarks:
    def test_each_label_gets_its_own_face(self, tmp_path: Path) -> None:
        detector = Told(((40, 10, 60, 30), 0.9), ((1, 0, 21, 20), 0.8), ((60, 40, 70, 50), 0.7))
        marked = mark([picture(tmp_path, (0, 0, 20, 20), (41, 10, 20, 20), (0, 40, 20, 20))], detector, 0.3)
        assert marked_faces(marked.pictures[0]) == [1, 0, None]
        assert (marked.faces, marked.given, marked.added) == (3, 2, 0)

    def test_one_face_serves_one_label(self, tmp_path: Path) -> None:
        # The face overlaps both labels by more than half; the second more.
        marked = mark([picture(tmp_path, (0, 0, 20, 20), (3, 0, 20, 20))], Told(((4, 0, 24, 20), 0.9)), 0.3)
        assert marked_faces(marked.pictures[0]) == [None, 0]

    @pytest.mark.parametrize(("x2", "given"), [(40.5, 0), (39.5, 1)])
    def test_half_is_not_enough(self, tmp_path: Path, x2: float, given: int) -> None:
        assert mark([picture(tmp_path, (0, 0, 20, 20))], Told(((0, 0, x2, 20), 0.9)), 0.3).given == given

    def test_what_is_known_stays(self, tmp_path: Path) -> None:
        known = picture(tmp_path, (0, 0, 20, 20), landmarks_xy=np.full((1, 5, 2), 7.0))
        marked = mark([known], Told(((0, 0, 20, 20), 0.9)), 0.3)
        assert (marked.pictures[0].landmarks_xy == 7).all()
        assert marked.given == 0

    def test_crowds_have_no_landmarks(self, tmp_path: Path) -> None:
        crowd = picture(tmp_path, (0, 0, 20, 20), is_crowd=np.ones(1, bool))
        assert mark([crowd], Told(((0, 0, 20, 20), 0.9)), 0.3).given == 0

    def test_faces_of_low_score_are_passed_over(self, tmp_path: Path) -> None:
        assert mark([picture(tmp_path, (0, 0, 20, 20))], Told(((0, 0, 20, 20), 0.25)), 0.3).given == 0

    @pytest.mark.parametrize("detector", [Told(), Told(((0, 0, 20, 20), 0.9))], ids=["none found", "one found"])
    def test_pictures_without_faces(self, tmp_path: Path, detector: Told) -> None:
        marked = mark([picture(tmp_path)], detector, 0.3)
        assert len(marked.pictures[0].boxes_xywh) == marked.faces == marked.added == 0

    def test_detector_without_landmarks(self, tmp_path: Path) -> None:
        detector = Told(((0, 0, 20, 20), 0.9), template="face-detection-0200")
        with pytest.raises(FacekitError, match="face-detection-0200 finds no landmarks"):
            mark([picture(tmp_path, (0, 0, 20, 20))], detector, 0.3)
        assert mark([picture(tmp_path, is_labelled=False)], detector, 0.3).added == 1


class TestFaces:
    def test_end_at_the_border(self, tmp_path: Path) -> None:
        detector = Told(((-5, -5, 20, 20), 0.9), ((70, 50, 100, 70), 0.8), ((80, 0, 90, 10), 0.7))
        marked = mark([picture(tmp_path, is_labelled=False)], detector, 0.3)
        assert marked.pictures[0].boxes_xywh.tolist() == [[0, 0, 20, 20], [70, 50, 10, 10]]
        assert marked_faces(marked.pictures[0]) == [0, 1]
        assert (marked.faces, marked.given, marked.added) == (2, 0, 2)

    def test_written_and_read(self, tmp_path: Path) -> None:
        folder = tmp_path / "pictures" / "sub"
        folder.mkdir(parents=True)
        marked = mark([picture(folder, is_labelled=False, name=None)], Told(((0, 0, 20, 20), 0.9)), 0.3)
        write_marked(tmp_path / "labels.json", marked, tmp_path / "pictures")
        (read,) = read_labels(tmp_path / "labels.json", tmp_path / "pictures")
        assert (read.name, read.size_wh) == ("sub/a.png", (80, 60))
        assert np.allclose(read.landmarks_xy, POINTS_XY)

    def test_scores_are_written(self, tmp_path: Path) -> None:
        given = picture(tmp_path, (0, 0, 20, 20), (41, 10, 20, 20))
        marked = mark([given], Told(((40, 10, 60, 30), 0.9), ((60, 40, 70, 50), 0.7)), 0.3)
        write_marked(tmp_path / "labels.json", marked, None)
        annotations = json.loads((tmp_path / "labels.json").read_text())["annotations"]
        assert [annotation.get("score") for annotation in annotations] == [None, 0.9]
        assert len(read_labels(tmp_path / "labels.json", tmp_path)[0].boxes_xywh) == 2


class TestBadPictures:
    """P8: they end nothing."""

    def test_labels_stay_and_the_rest_is_marked(self, tmp_path: Path) -> None:
        (tmp_path / "bad").mkdir()
        good, bad = picture(tmp_path, (0, 0, 20, 20)), picture(tmp_path / "bad", (1, 1, 20, 20), (5, 5, 9, 9))
        bad.path.write_bytes(b"no picture")
        marked = mark([bad, good], Told(((0, 0, 20, 20), 0.9)), 0.3)
        assert [len(labels.boxes_xywh) for labels in marked.pictures] == [2, 1]
        assert (marked.given, [loss.what for loss in marked.losses]) == (1, [str(bad.path)])

    def test_without_labels_they_are_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "bad").mkdir()
        good, bad = picture(tmp_path, is_labelled=False), picture(tmp_path / "bad", is_labelled=False)
        bad.path.write_bytes(b"no picture")
        marked = mark([bad, good], Told(((0, 0, 20, 20), 0.9)), 0.3)
        assert [labels.path for labels in marked.pictures] == [good.path]
        assert marked.added == 1

    def test_one_that_the_network_does_not_take(self, tmp_path: Path) -> None:
        class Refusing(Told):
            def detect_batch(self, images_bgr: Any) -> list[Detections]:
                if not images_bgr[0].any():
                    raise FacekitError("can't run that")
                return super().detect_batch(images_bgr)

        (tmp_path / "b").mkdir()
        given, refused = picture(tmp_path, (0, 0, 20, 20)), picture(tmp_path / "b", (5, 5, 9, 9))
        cv2.imwrite(str(given.path), np.full((40, 40, 3), 9, np.uint8))
        marked = mark([refused, given], Refusing(), 0.3)
        assert [str(loss) for loss in marked.losses] == [f"{refused.path}: can't run that"]
        assert [len(labels.boxes_xywh) for labels in marked.pictures] == [1, 1]

    def test_none_is_left(self, tmp_path: Path) -> None:
        bad = picture(tmp_path, is_labelled=False)
        bad.path.write_bytes(b"no picture")
        with pytest.raises(FacekitError, match="None of the 1 pictures could be marked"):
            mark([bad], Told(), 0.3)

    def test_a_signal_keeps_what_is_done(self, tmp_path: Path) -> None:
        class Stopping(Told):
            def detect_batch(self, images_bgr: Any) -> list[Detections]:
                os.kill(os.getpid(), signal.SIGTERM)
                return super().detect_batch(images_bgr)

        (tmp_path / "b").mkdir()
        both = [picture(tmp_path, is_labelled=False), picture(tmp_path / "b", is_labelled=False)]
        marked = mark(both, Stopping(((0, 0, 20, 20), 0.9)), 0.3)
        assert (len(marked.pictures), marked.added, marked.stopped_by) == (1, 1, signal.SIGTERM)


class TestPlan:
    def test_never_over_what_is_read(self, tmp_path: Path) -> None:
        given = picture(tmp_path, (0, 0, 20, 20))
        (tmp_path / "link.json").symlink_to(tmp_path / "labels.json")
        write_marked(tmp_path / "labels.json", mark([given], Told(), 0.3), None)
        for target in (tmp_path / "labels.json", tmp_path / "link.json", given.path):
            with pytest.raises(FacekitError, match="this command reads it"):
                plan_mark(tmp_path / "labels.json", target, None, False)
            if target == given.path:
                with pytest.raises(FacekitError, match="this command reads it"):
                    plan_mark(tmp_path, target, None, True)

    def test_its_own_json_in_the_folder_is_written_again(self, tmp_path: Path) -> None:
        given = picture(tmp_path)
        file = tmp_path / "found.json"
        file.write_text("{}")
        with pytest.raises(FacekitError, match=r"found\.json: is there already.*`force=True`"):
            plan_mark(tmp_path, file, None, True)
        assert [labels.path for labels in plan_mark(tmp_path, file, None, True, force=True)] == [given.path]

    def test_a_folder_of_pictures_without_the_flag(self, tmp_path: Path) -> None:
        picture(tmp_path)
        with pytest.raises(FacekitError, match="needs `unlabelled=True`"):
            plan_mark(tmp_path, tmp_path / "x.json", None, False)
