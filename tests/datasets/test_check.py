from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.cli import main
from facekit.datasets.check import SEVERITIES, Checked, check, inspect
from facekit.datasets.check_report import format_report, statistics, to_json
from facekit.datasets.clean import PICTURES_DROPPED, clean
from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.labels.formats.coco import read_coco
from facekit.labels.picture_labels import PictureLabels
from tests.datasets.test_face_defects import labels_of

WIDTH, HEIGHT = 160, 120
POINTS = [[40, 40], [60, 40], [50, 50], [42, 60], [58, 60]]  # in the box 30, 30, 40, 40
CROSSED = [[50, 80], [30, 70], [50, 70], [32, 90], [48, 90]]  # the nose first, in the box 20, 60, 40, 40
BOX = [30, 30, 40, 40]
TESTED_ALONE = {
    "all-crowds", "no-face-at-all", "box-in-fractions", "box-in-per-cent", "box-of-corners", "shared-labels"
}  # fmt: skip


def scene(seed: int) -> NDArray[np.uint8]:
    """Smooth coloured patches, others for every seed."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def encoded(image: NDArray[np.uint8], suffix: str = ".jpg", quality: int = 90) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    return cv2.imencode(suffix, image, options)[1].tobytes()


class Set:
    """A set in the making: a folder of pictures and its COCO json."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: str, content: bytes | None, *faces: Any, **changed: Any) -> None:
        """Lists a picture with faces: a box, or a box and its points. None: no file."""
        if content is not None:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(content)
        image_id = len(self.images)
        self.images.append({"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT} | changed)
        for face in faces:
            annotation = {"id": len(self.annotations), "image_id": image_id, "category_id": 1, "iscrowd": 0}
            if isinstance(face, tuple):
                box, points = face
                annotation |= {"bbox": box, "keypoints": [v for point in points for v in (*point, 2)]}
            else:
                annotation |= {"bbox": face}
            self.annotations.append(annotation)

    def save(self) -> Path:
        path = self.root / "labels.json"
        path.write_text(json.dumps({"images": self.images, "annotations": self.annotations}))
        return path

    def read(self) -> list[PictureLabels]:
        return read_coco(self.save(), self.root, as_written=True)

    def check(self, other: Set | None = None) -> Checked:
        return check(self.read(), other.read() if other else ())


@pytest.fixture
def sound(tmp_path: Path) -> Set:
    """Three pictures with nothing wrong: with landmarks, boxes up to the edge, a crowd over its faces."""
    made = Set(tmp_path / "sound")
    made.add("a.jpg", encoded(scene(1)), (BOX, POINTS), [80, 30, 40, 40])
    made.add("sub/b.png", encoded(scene(2), ".png"), [-0.5, 0, 20, 20], [WIDTH - 20, HEIGHT - 20, 20.9, 20.9])
    made.add("c.jpg", encoded(scene(3)), [5, 5, 30, 30], [5, 5, 30, 30])
    made.annotations[-1]["iscrowd"] = 1
    return made


PLANTED: dict[str, tuple[str, int | None]] = {
    "missing-picture": ("missing.jpg", None),
    "unreadable-picture": ("unreadable.jpg", None),
    "truncated-picture": ("truncated.jpg", None),
    "damaged-picture": ("damaged.jpg", None),
    "wrong-size": ("size.jpg", None),
    "bad-numbers": ("boxes.jpg", 0),
    "empty-box": ("boxes.jpg", 1),
    "box-outside": ("boxes.jpg", 2),
    "doubled-label": ("good.jpg", None),
    "leak": ("leak.jpg", None),
    "box-partly-outside": ("boxes.jpg", 3),
    "landmarks-outside": ("points.jpg", 1),
    "landmarks-crossed": ("points.jpg", 2),
    "landmarks-partial": ("partial.jpg", 0),
    "doubled-picture": ("copy.jpg", None),
    "doubled-box": ("boxes.jpg", 5),
    "no-faces": ("none.jpg", None),
}


@pytest.fixture
def other(tmp_path: Path) -> Set:
    made = Set(tmp_path / "other")
    made.add("theirs.jpg", encoded(scene(20)), BOX)
    made.add("shared.jpg", encoded(scene(21), quality=50), BOX)
    return made


@pytest.fixture
def planted(tmp_path: Path) -> Set:
    """Every kind of defect once."""
    made = Set(tmp_path / "planted")
    made.add("good.jpg", encoded(scene(10)), (BOX, POINTS))
    made.add("missing.jpg", None, BOX)
    made.add("unreadable.jpg", b"this is no picture", BOX)
    made.add("truncated.jpg", encoded(scene(11))[:-200], BOX)
    data = encoded(scene(17))
    made.add("damaged.jpg", data[:-900] + b"overwritten\xff\x07" + data[-887:], BOX)
    made.add("size.jpg", encoded(scene(12)), BOX, width=WIDTH + 10)
    box = [100, 60, 30, 40]
    made.add("boxes.jpg", encoded(scene(13)), [0, 0, math.nan, 9], [9, 9, 0, 9], [WIDTH, 9, 9, 9], [-9, 50, 30, 40],
             box, [100, 60, 30, 39.5])  # fmt: skip
    made.add("points.jpg", encoded(scene(14)), (BOX, POINTS), ([90, 50, 40, 40], POINTS), ([20, 60, 40, 40], CROSSED))
    made.add("partial.jpg", encoded(scene(18)), (BOX, POINTS))
    made.annotations[-1]["keypoints"][-3:] = [0, 0, 0]
    made.add("none.jpg", encoded(scene(15)))
    made.add("original.jpg", encoded(scene(16)), BOX, [90, 60, 30, 30])
    made.add("copy.jpg", encoded(np.asarray(cv2.resize(scene(16), None, fx=0.5, fy=0.5))), [15, 15, 20, 20],
             width=WIDTH // 2, height=HEIGHT // 2)  # fmt: skip
    made.add("leak.jpg", encoded(scene(21)), BOX)
    made.add("good.jpg", None, [90, 50, 30, 30])
    return made


def places(checked: Checked) -> dict[str, tuple[str, int | None]]:
    return {finding.kind: (finding.picture, finding.face) for finding in checked.findings}


class TestCheck:
    def test_sound_set(self, sound: Set, other: Set) -> None:
        assert sound.check(other).findings == []

    def test_every_planted_defect_and_no_other(self, planted: Set, other: Set) -> None:
        checked = planted.check(other)
        assert set(PLANTED) == set(SEVERITIES) - TESTED_ALONE
        assert places(checked) == PLANTED
        assert checked.counts() == dict.fromkeys(PLANTED, 1)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_processes_find_the_same(self, planted: Set, other: Set, workers: int, monkeypatch: Any) -> None:
        monkeypatch.setattr("facekit.datasets.check._IN_PROCESS", 0)
        assert places(check(planted.read(), other.read(), workers)) == PLANTED

    def test_says_what_was_expected_and_what_is(self, planted: Set, other: Set) -> None:
        lines = {finding.kind: str(finding) for finding in planted.check(other).findings}
        assert lines["wrong-size"] == "size.jpg: 160x120; expected 170x120 as labelled"
        assert lines["box-outside"] == (
            "boxes.jpg, face 2: x, y, w, h = [160.0, 9.0, 9.0, 9.0]; expected a box within 160x120"
        )
        assert lines["doubled-picture"] == "copy.jpg: a copy of original.jpg; expected each picture once"
        assert f"a copy of {other.root / 'shared.jpg'}" in lines["leak"]

    def test_the_set_itself_leaks_wholly(self, sound: Set) -> None:
        assert sound.check(sound).counts() == {"leak": 3}

    def test_boxes_are_measured_by_the_real_size(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        made.add("a.jpg", encoded(scene(1)), [150, 100, 40, 40], width=2 * WIDTH, height=2 * HEIGHT)
        assert made.check().counts() == {"wrong-size": 1, "box-partly-outside": 1}

    def test_all_crowds_leave_nothing_to_learn(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        made.add("a.jpg", encoded(scene(1)), BOX, [80, 30, 40, 40])
        for annotation in made.annotations:
            annotation["iscrowd"] = "1"
        [finding] = made.check().findings
        assert (finding.kind, finding.severity) == ("all-crowds", "error")
        assert "all 2 faces are crowds" in str(finding) and "none to learn" in str(finding)
        assert run(made.save()) == 1

    def test_one_label_file_of_two_pictures(self, tmp_path: Path) -> None:
        """Of YOLO, which knows names without suffix; a.png is no other picture than a.jpg in the second set."""
        for name, seeds in {"clash": (1, 2), "copies": (1, 1)}.items():
            for folder in ("images", "labels"):
                (tmp_path / name / folder).mkdir(parents=True)
            for suffix, seed in zip((".jpg", ".png"), seeds, strict=True):
                image = cv2.resize(scene(seed), (WIDTH + 40 * (seed - 1), HEIGHT))
                (tmp_path / name / f"images/a{suffix}").write_bytes(encoded(image, suffix))
            (tmp_path / name / "labels/a.txt").write_text("0 0.5 0.5 0.25 0.2\n0 0.2 0.2 0.1 0.11\n")
        labels = read_labels(tmp_path / "clash", as_written=True)
        assert not check(labels).findings  # as of COCO, where each has labels of its own
        found = check(labels, is_yolo=True)
        assert found.counts() == {"shared-labels": 2} and found.has("error")
        assert str(found.findings[0]) == "a.jpg: those of a.png; expected labels of its own"
        assert not clean(found).pictures
        assert run(tmp_path / "clash") == 1
        assert check(read_labels(tmp_path / "copies", as_written=True)).counts() == {"doubled-picture": 1}

    def test_frames_with_faces_elsewhere_are_no_copies(self, tmp_path: Path) -> None:
        """A standing camera, whose small faces hardly change a thumbnail; nor is the one a leak of the other."""
        (tmp_path / "b").mkdir()
        made, other = Set(tmp_path), Set(tmp_path / "b")
        made.add("a.jpg", encoded(scene(1)), [20, 20, 30, 30])
        made.add("b.jpg", encoded(scene(1), quality=60), [90, 60, 30, 30])
        other.add("c.jpg", encoded(scene(1), quality=70), [150, 20, 30, 30])
        assert made.check(other).counts() == {}
        made.add("d.jpg", encoded(scene(1), quality=50), [22, 19, 30, 31])
        made.add("e.jpg", encoded(scene(1), quality=40))  # without a face nothing but the look is known
        assert made.check(other).counts()["doubled-picture"] == 2

    def test_boxes_that_are_corners(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        corners = [[x, y, x + 30, y + 30] for x, y in zip(range(0, 130, 13), range(0, 90, 9), strict=True)]
        made.add("a.jpg", encoded(scene(1)), *corners)
        checked = made.check()
        assert checked.counts()["box-of-corners"] == 1 and checked.has("error")
        assert "the whole set: x1, y1, x2, y2, by their looks; expected x, y, width, height" in format_report(checked)

    def test_boxes_in_fractions(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        made.add("a.jpg", encoded(scene(1)), [0.1, 0.2, 0.3, 0.6], [0.5, 0, 0.5, 1])
        [finding] = [finding for finding in made.check().findings if finding.severity == "error"]
        assert finding.kind == "box-in-fractions"
        assert run(made.save()) == 1
        with pytest.raises(FacekitError, match=r"they are fractions of it, from 0 to 1\. Write them in pixels"):
            read_labels(made.save())

    def test_boxes_in_per_cent(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        for seed in (1, 2, 3):
            faces = [*([5.5 + seed, 8, 3, 4 + n] for n in range(3)), [60, 55, 12, 20]]
            made.add(f"{seed}.jpg", encoded(cv2.resize(scene(seed), (400, 300))), *faces, width=400, height=300)
        assert made.check().counts()["box-in-per-cent"] == 1 and not made.check().has("error")
        assert "box-in-per-cent" not in check(made.read(), is_yolo=True).counts()

    def test_a_set_without_a_face_is_told(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        made.add("a.jpg", encoded(scene(1)))
        assert made.check().counts() == {"no-face-at-all": 1, "no-faces": 1}

    def test_a_missing_picture_has_its_boxes_checked(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        made.add("a.jpg", None, [WIDTH, 0, 9, 9])
        assert made.check().counts() == {"missing-picture": 1, "box-outside": 1}

    def test_of_copies_the_one_with_most_faces_is_the_original(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        for number, count in enumerate((1, 2, 1)):
            made.add(f"{number}.jpg", encoded(scene(1), quality=60 + 10 * number), *[BOX, [90, 20, 30, 30]][:count])
        copies = [f for f in made.check().findings if f.kind == "doubled-picture"]
        assert [(f.picture, f.got) for f in copies] == [("0.jpg", "a copy of 1.jpg"), ("2.jpg", "a copy of 1.jpg")]

    def test_turned_by_exif(self, tmp_path: Path) -> None:
        """Labels of the turned and of the unturned picture are both right, as they are for training."""
        image = pytest.importorskip("PIL.Image")
        exif = image.Exif()
        exif[0x0112] = 6
        image.fromarray(scene(1)).save(tmp_path / "a.jpg", exif=exif)
        for size_wh in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)):
            assert inspect((tmp_path / "a.jpg", size_wh)).size_wh == size_wh

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
    def test_cut_off(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        data = encoded(scene(1), suffix)
        path.write_bytes(data)
        assert inspect((path, None)).problem is None
        path.write_bytes(data[: len(data) // 2])
        assert inspect((path, None)).problem == "truncated-picture"
        path.write_bytes(b"")
        assert inspect((path, None)).problem == "unreadable-picture"


class TestClean:
    def test_sound_set_stays(self, sound: Set) -> None:
        cleaned = clean(sound.check())
        assert not cleaned.pictures_dropped + cleaned.faces_dropped + cleaned.mended
        for before, after in zip(sound.read(), cleaned.pictures, strict=True):
            # A pixel over the edge is no defect, and yet cut.
            np.testing.assert_allclose(after.boxes_xywh, before.boxes_xywh, atol=1)
            np.testing.assert_array_equal(after.landmarks_xy, before.landmarks_xy)

    def test_says_what_it_dropped(self, planted: Set, other: Set) -> None:
        cleaned = clean(planted.check(other))
        assert cleaned.pictures_dropped == Counter(dict.fromkeys(set(PICTURES_DROPPED) - TESTED_ALONE, 1))
        assert cleaned.faces_dropped == Counter({"bad-numbers": 1, "empty-box": 1, "box-outside": 1, "doubled-box": 1})
        assert sum(cleaned.mended.values()) == 6  # size, clipped box, three faces' landmarks, listings
        assert "left 7 pictures, 11 faces" in cleaned.lines()

    def test_landmarks_left_outside_by_clipping(self, tmp_path: Path) -> None:
        made = Set(tmp_path)
        made.add("a.jpg", encoded(scene(1)), ([-80, 20, 100, 40], [[-40, 40]] * 5))
        checked = made.check()
        assert checked.counts() == {"box-partly-outside": 1}
        again = check(clean(checked).pictures)
        assert again.findings == []
        assert np.isnan(again.pictures[0].landmarks_xy).all()


def run(*args: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["data", "check", *(str(arg) for arg in args)], prog_name="facekit")
    assert isinstance(caught.value.code, int)
    return caught.value.code


class TestCommand:
    def test_sound(self, sound: Set, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(sound.save(), "--strict") == 0
        out = capsys.readouterr().out
        assert out.startswith("Nothing found.\n")
        assert "3 pictures, 6 faces, 1 with landmarks; faces a picture: mean 2, median 2, most 2" in out

    def test_errors(self, planted: Set, other: Set, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        findings = tmp_path / "findings.json"
        assert run(planted.save(), "--against", other.save(), "--json", findings) == 1
        out = capsys.readouterr().out
        content = json.loads(findings.read_text())
        assert content["counts"] == dict.fromkeys(PLANTED, 1)
        for finding in content["findings"]:
            assert finding["kind"] in out
            assert finding["severity"] == SEVERITIES[finding["kind"]]

    def test_warnings(self, sound: Set) -> None:
        sound.add("d.jpg", encoded(scene(4)), [-9, 0, 30, 30])
        assert run(sound.save()) == 0
        assert run(sound.save(), "--strict") == 1

    def test_information(self, sound: Set) -> None:
        sound.add("d.jpg", encoded(scene(4)))
        assert run(sound.save(), "--strict") == 0

    def test_fixed_set_is_sound(
        self, planted: Set, other: Set, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, fixed = planted.save(), tmp_path / "new" / "fixed.json"
        before = {path: path.read_bytes() for path in planted.root.rglob("*") if path.is_file()}
        assert run(source, "--against", other.save(), "--fix", fixed) == 1
        assert "dropped 1 pictures: leak" in capsys.readouterr().out
        assert before == {path: path.read_bytes() for path in planted.root.rglob("*") if path.is_file()}
        root = ["--data-root", planted.root]
        assert run(fixed, *root, "--against", other.save()) == 0
        assert [f.kind for f in check(read_coco(fixed, planted.root), other.read()).findings] == ["no-faces"]
        pictures = {picture.path.name: picture for picture in read_coco(fixed, planted.root)}
        assert pictures["size.jpg"].size_wh == (WIDTH, HEIGHT)
        assert pictures["good.jpg"].boxes_xywh.tolist() == [BOX, [90, 50, 30, 30]]
        assert pictures["good.jpg"].landmarks_xy[0].tolist() == POINTS
        assert pictures["boxes.jpg"].boxes_xywh.tolist() == [[0, 50, 21, 40], [100, 60, 30, 40]]
        assert np.isnan(pictures["points.jpg"].landmarks_xy[1]).all()

    def test_nothing_left(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        made = Set(tmp_path)
        made.add("a.jpg", None, BOX)
        assert run(made.save(), "--fix", tmp_path / "fixed.json") == 1
        err = capsys.readouterr().err
        assert "no picture is left" in err
        assert f"looked in {tmp_path}" in err and "--data-root" in err
        assert not (tmp_path / "fixed.json").exists()

    @pytest.mark.parametrize("flag", ["--fix", "--json"])
    @pytest.mark.parametrize("name", ["labels.json", "a.jpg"])
    def test_the_source_is_not_written(
        self, sound: Set, flag: str, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = sound.save()
        before = (sound.root / name).read_bytes()
        assert run(source, flag, sound.root / "sub" / ".." / name) == 1
        assert "Choose another name" in capsys.readouterr().err
        assert (sound.root / name).read_bytes() == before

    def test_name_that_is_no_utf8(self, tmp_path: Path) -> None:
        """In a real process, whose output takes no other bytes."""
        for folder, suffix, content in (("images", b".jpg", encoded(scene(1))), ("labels", b".txt", b"")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / os.fsdecode(b"b\xe4" + suffix)).write_bytes(content)
        command = [sys.executable, "-m", "facekit", "data", "check", tmp_path]
        environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert "not one of the 1 pictures has a face: none to learn" in done.stdout
        assert "b\\udce4.jpg: none; expected a face" in done.stdout

    @pytest.mark.parametrize("flags", [("--fix", "f.json"), ("--json", "f.json"), ("--against", "loop"), ()])
    def test_a_loop_of_links(self, sound: Set, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        loop = sound.root / "loop"
        loop.symlink_to("loop")
        labels = sound.save() if "--against" in flags else loop
        assert run(labels, *(flag if flag.startswith("-") else sound.root / flag for flag in flags)) == 1
        assert f"Error: {loop}: the annotation file can't be read (Too many levels" in capsys.readouterr().err
        assert not (sound.root / "f.json").exists()

    def test_no_labels(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(tmp_path / "none.json") == 1
        assert "Error: " in capsys.readouterr().err


class TestReport:
    def test_heights(self) -> None:
        boxes = [[0, 0, 9, height] for height in (0.5, 1, 7.9, 8, 16, 255, 256, 1000, math.nan)]
        figures = statistics([labels_of(*boxes)])
        assert figures["face_heights_px"] == {
            "1-8": 2, "8-16": 1, "16-32": 1, "32-64": 0, "64-128": 0, "128-256": 1, "256+": 2,
        }  # fmt: skip
        assert figures["faces"] == 9

    def test_empty_set(self) -> None:
        checked = Checked([], [], [])
        assert "0 pictures, 0 faces" in format_report(checked)
        assert to_json(checked)["findings"] == []


def real_set(shared_dir: Path, labels: str, folder: str) -> list[PictureLabels]:
    return read_coco(shared_dir / "data/widerface" / labels, shared_dir / f"data/widerface/{folder}/images", True)


def test_real_pictures_have_no_defects(shared_dir: Path) -> None:
    assert check(real_set(shared_dir, "validation.json", "WIDER_val")[:60]).findings == []


def test_the_one_real_defect(shared_dir: Path) -> None:
    """WIDER's own list gives this face of the training set twice (seen in the picture: one man with a cap)."""
    pictures = real_set(shared_dir, "train.json", "WIDER_train")
    found = check([picture for picture in pictures if picture.name.startswith("2--")]).findings
    assert [(f.kind, f.picture, f.face) for f in found] == [
        ("doubled-box", "2--Demonstration/2_Demonstration_Protesters_2_231.jpg", 95)
    ]


def test_frames_of_a_standing_camera_are_no_copies(shared_dir: Path) -> None:
    labels = shared_dir / "data" / "airport" / "annotation_faces_train.json"
    assert check(read_coco(labels, as_written=True)).findings == []
