from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.cli import main
from facekit.errors import Loss
from facekit.labels.formats import read_labels
from facekit.labels.picture_labels import PictureLabels
from facekit.pages import browse
from facekit.pages.browse import DRAWS, Augmentation, browse_page, even_sample
from facekit.pages.overlay import overlay
from facekit.template import find_template, load_template
from facekit.training_data.training_set import TrainingSet
from facekit.training_data.transforms import mean_colour_bgr

EVIL = '"><script>alert(1)<'
NO_LANDMARKS = np.full((5, 2), np.nan)
POINTS = np.array([[12.0, 13], [20, 13], [16, 18], [13, 22], [19, 22]])


def labelled(
    path: Path, boxes: Any = (), landmarks: Any = None, name: str | None = None, crowd: Any = None
) -> PictureLabels:
    """A grey picture of 80x60 pixels on the disk, and its labels."""
    cv2.imwrite(str(path), np.full((60, 80, 3), 90, np.uint8))
    boxes_xywh = np.array(boxes, np.float64).reshape(-1, 4)
    count = len(boxes_xywh)
    points = np.full((count, 5, 2), np.nan) if landmarks is None else np.array(landmarks, np.float64)
    is_crowd = np.zeros(count, bool) if crowd is None else np.array(crowd)
    return PictureLabels(path, (80, 60), boxes_xywh, points, is_crowd, name=name or path.name)


@pytest.fixture
def pictures(tmp_path: Path) -> list[PictureLabels]:
    return [
        labelled(tmp_path / "a.png", [[10, 10, 20, 25], [50, 5, 4, 6]], [POINTS, NO_LANDMARKS]),
        labelled(tmp_path / "b.png"),
        labelled(tmp_path / "c.png", [[5, 5, 30, 40]], crowd=[True]),
    ]


def cards(document: Any) -> list[dict[str, str]]:
    return [figure for figure in document.all("figure") if figure.get("class") == "picture"]


class TestSample:
    @given(st.integers(0, 2000), st.integers(1, 300))
    def test_evenly_with_both_ends(self, count: int, limit: int) -> None:
        chosen = even_sample(count, limit)
        assert len(chosen) == min(count, limit)
        assert chosen == sorted(set(chosen))
        if count > limit > 1:
            steps = np.diff(chosen)
            assert (chosen[0], chosen[-1]) == (0, count - 1)
            assert steps.max() - steps.min() <= 1


class TestPage:
    def test_what_pictures_are_sorted_and_filtered_by(self, pictures: list[PictureLabels], parse: Any) -> None:
        document = parse(browse_page("set.json", pictures))
        found = [[card[f"data-{key}"] for key in ("name", "faces", "smallest", "largest", "landmarks")]
                 for card in cards(document)]  # fmt: skip
        assert found == [
            ["a.png", "2", "6.0", "25.0", "1"],
            ["b.png", "0", "", "", "0"],
            ["c.png", "1", "40.0", "40.0", "0"],
        ]
        assert document.fetched() == []
        assert len(document.ids) == len(set(document.ids))

    def test_boxes_and_landmarks_in_pixels_of_the_picture(self, pictures: list[PictureLabels], parse: Any) -> None:
        document = parse(browse_page("set.json", pictures[:1]))
        assert document.all("svg")[-1]["viewbox"] == "0 0 80 60"
        box = next(r for r in document.all("rect") if (r["class"] or "").startswith("box"))
        assert [box[key] for key in ("x", "y", "width", "height")] == ["10", "10", "20", "25"]
        assert [(c["cx"], c["cy"]) for c in document.all("circle")] == [(f"{x:g}", f"{y:g}") for x, y in POINTS]

    def test_crowds_look_different(self, pictures: list[PictureLabels], parse: Any) -> None:
        boxes = [r["class"] for r in parse(browse_page("s", pictures)).all("rect") if "box" in (r["class"] or "")]
        assert boxes == ["box", "box", "box crowd"]

    def test_counts_are_of_the_whole_set(self, pictures: list[PictureLabels], parse: Any) -> None:
        document = parse(browse_page("set.json", pictures, limit=2))
        assert [card["data-name"] for card in cards(document)] == ["a.png", "c.png"]
        assert "Pictures 3 Shown here 2 Faces 3 With landmarks 1" in document.words
        assert "2 of the 3 pictures were taken, evenly" in document.words

    def test_without_scripts_all_is_there_but_what_needs_them(self, pictures: list[PictureLabels], parse: Any) -> None:
        document = parse(browse_page("s", pictures))
        scripted = [a for _, a in document.elements if a.get("class") == "scripted"]
        assert len(scripted) == 2 and all("hidden" in part for part in scripted)
        assert not any("hidden" in card for card in cards(document))

    def test_empty_set(self, parse: Any) -> None:
        document = parse(browse_page("set.json", []))
        assert document.all("section") == []
        assert "Pictures 0" in document.words

    def test_a_set_without_faces(self, tmp_path: Path, parse: Any) -> None:
        assert "no faces" in parse(browse_page("s", [labelled(tmp_path / "a.png")])).words

    def test_bad_pictures_are_named(self, pictures: list[PictureLabels], tmp_path: Path, parse: Any) -> None:
        (tmp_path / "a.png").write_bytes(b"no picture")
        (tmp_path / "b.png").unlink()
        losses: list[Loss] = []
        document = parse(browse_page("s", pictures, losses=losses))
        assert [card["data-name"] for card in cards(document)] == ["c.png"]
        assert "unreadable" in document.ids
        assert "a.png: not a picture" in document.words and "b.png" in document.words
        assert [loss.what for loss in losses] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]

    def test_the_page_stays_within_its_bound(
        self,
        pictures: list[PictureLabels],
        parse: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(browse, "MAX_PAGE_BYTES", 3500)
        losses: list[Loss] = []
        document = parse(browse_page("s", pictures, losses=losses))
        assert 0 < len(cards(document)) < 3
        assert "The page is full" in document.words
        (loss,) = losses
        assert loss.what.endswith("of the 3 asked for") and "Lower `limit`" in loss.why

    def test_strange_names(self, tmp_path: Path, parse: Any) -> None:
        names = [EVIL, "sub/\udcff.jpg", 'a"b.png']
        text = browse_page(EVIL, [labelled(tmp_path / f"{i}.png", name=name) for i, name in enumerate(names)])
        text.encode("utf-8")
        document = parse(text)
        assert len(document.all("script")) == 1
        assert [card["data-name"] for card in cards(document)] == [EVIL, "sub/\\udcff.jpg", 'a"b.png']


class TestOverlay:
    def test_the_picture_is_shrunk_and_its_pixels_stay_the_units(self, parse: Any) -> None:
        svg = overlay(
            np.zeros((500, 1000, 3), np.uint8), np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0, bool), "x", 320
        )
        document = parse(svg)
        image = document.all("image")[0]
        data = base64.b64decode(image["href"].partition(",")[2])
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (160, 320, 3)
        assert (image["width"], image["height"]) == ("1000", "500")


class TestAugmentation:
    def draws(self, text: str) -> list[tuple[str, list[list[float]]]]:
        """Of each draw: its size and its boxes."""
        found = re.findall(r'<svg viewBox="0 0 ([\d ]+)"[^>]*aria-label="epoch.*?</svg>', text, re.DOTALL)
        bodies = re.findall(r'<svg viewBox="0 0 [\d ]+"[^>]*aria-label="epoch.*?</svg>', text, re.DOTALL)
        boxes = [
            [[float(v) for v in box] for box in
             re.findall(r'<rect class="box" x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"', body)] for body in bodies
        ]  # fmt: skip
        return list(zip(found, boxes, strict=True))

    @pytest.mark.parametrize("name", ["yunet-n", "face-detection-0200", "ultralight-slim-320"])
    def test_what_training_feeds(self, drawn_dir: Path, name: str) -> None:
        template = load_template(find_template(name))
        labels = read_labels(drawn_dir / "annotations.json", drawn_dir)
        text = browse_page("drawn", labels, limit=3, augmentation=Augmentation(template, seed=7))
        dataset = TrainingSet(
            labels, template.augmentation, template.input.size_hw, mean_colour_bgr(template.input), 1, seed=7
        )
        expected = []
        for index in even_sample(len(labels), 3):
            for epoch in range(DRAWS):
                dataset.epoch.fill_(epoch)
                expected.append(dataset[index])
        found = self.draws(text)
        assert len(found) == 3 * DRAWS
        assert sum(len(sample.boxes_xyxy) for sample in expected) > 5
        for (size, boxes), sample in zip(found, expected, strict=True):
            height, width = template.input.size_hw
            assert size == f"{width} {height}"
            corners = sample.boxes_xyxy.astype(np.float64)
            xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
            np.testing.assert_allclose(np.array(boxes).reshape(-1, 4), xywh, rtol=1e-4, atol=1e-3)

    def test_boxes_that_readers_leave_out_are_not_learnt(self, tmp_path: Path) -> None:
        template = load_template(find_template("yunet-n"))
        plain = dataclasses.replace(
            template, augmentation=dataclasses.replace(template.augmentation, min_face_size=0.0)
        )
        picture = labelled(tmp_path / "a.png", [[500, 500, 20, 20], [10, 10, 0, 5]])
        text = browse_page("s", [picture], augmentation=Augmentation(plain, 0))
        assert [boxes for _, boxes in self.draws(text)] == [[]] * DRAWS

    def test_missing_pictures_do_not_end_it(self, pictures: list[PictureLabels], parse: Any) -> None:
        pictures[1].path.unlink()
        template = load_template(find_template("yunet-n"))
        document = parse(browse_page("s", pictures, augmentation=Augmentation(template, 0)))
        assert [card["data-name"] for card in cards(document)] == ["a.png", "c.png"]
        assert "unreadable" in document.ids


class TestCommand:
    def run(self, *args: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main(["data", "browse", *map(str, args)], prog_name="facekit")
        assert isinstance(caught.value.code, int)
        return caught.value.code

    def test_a_page(self, drawn_dir: Path, tmp_path: Path, parse: Any) -> None:
        page = tmp_path / "pages" / "drawn.html"
        labels = drawn_dir / "annotations.json"
        assert self.run(labels, "--data-root", drawn_dir, "--output", page, "--augment", "yunet-n", "--limit", 5) == 0
        document = parse(page.read_text(encoding="utf-8"))
        assert len(cards(document)) == 5
        assert document.words.count("epoch 1: ") == 5

    def test_no_labels(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(tmp_path / "none.json", "--output", tmp_path / "p.html") == 1
        assert "Traceback" not in capsys.readouterr().err
        assert not (tmp_path / "p.html").exists()

    def test_unknown_template(self, drawn_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        labels = drawn_dir / "annotations.json"
        assert self.run(labels, "--output", tmp_path / "p.html", "--augment", "nope") == 1
        assert "nope" in capsys.readouterr().err

    def test_pictures_that_are_missing(self, tmp_path: Path, parse: Any, capsys: pytest.CaptureFixture[str]) -> None:
        labels = tmp_path / "labels.json"
        images = [
            {"id": i, "file_name": name, "width": 80, "height": 60} for i, name in enumerate(("gone.jpg", "a.png"))
        ]
        labels.write_text(json.dumps({"images": images, "annotations": []}))
        assert self.run(labels, "--output", tmp_path / "p.html") == 1
        message = capsys.readouterr().err
        assert "not one picture can be shown" in message and "--data-root" in message
        assert str(tmp_path) in message
        assert not (tmp_path / "p.html").exists()
        cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 90, np.uint8))
        assert self.run(labels, "--output", tmp_path / "p.html") == 3
        assert "gone.jpg" in parse((tmp_path / "p.html").read_text(encoding="utf-8")).words
        assert "gone.jpg" in capsys.readouterr().err
