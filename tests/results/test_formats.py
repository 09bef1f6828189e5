"""Every format, read back by its own reader, or by another's."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit.errors import FacekitError
from facekit.labels.formats import read_labels
from facekit.results.coco import coco_text, count_coco
from facekit.results.csv_file import COLUMNS, csv_text, read_csv
from facekit.results.json_files import json_text, jsonl_text, read_json, read_jsonl
from facekit.results.names import Names
from facekit.results.parquet import read_parquet, write_parquet
from facekit.results.row import as_unicode, from_unicode
from facekit.results.wider import check_wider_folder, read_predictions, write_wider
from facekit.results.yolo import check_yolo_folder, write_yolo
from tests.results.support import RUN, assert_same, rows


def test_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(jsonl_text(rows(), RUN)))
    assert_same(list(read_jsonl(file)), rows())
    first = json.loads(file.read_text().splitlines()[0])
    assert list(first) == ["schema", "source", "width", "height", "faces", "error"]
    assert first["faces"][0]["box_xyxy"] == [10.125, 20.0, 110.3333, 150.0]
    file.write_text(file.read_text()[:-20])
    with pytest.raises(FacekitError, match=r"a\.jsonl:6: breaks off"):
        list(read_jsonl(file))


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("".join(json_text(rows(), RUN)))
    assert_same(list(read_json(file)), rows())
    content = json.loads(file.read_text())
    assert content["run"]["threshold"] == 0.5 and len(content["rows"]) == 6
    file.write_text("".join(json_text([], RUN)))
    assert list(read_json(file)) == [] and json.loads(file.read_text())["rows"] == []
    file.write_text("[]")
    with pytest.raises(FacekitError, match="no file that"):
        list(read_json(file))


def test_csv(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("".join(csv_text(rows(), RUN)), encoding="utf-8")
    assert_same(list(read_csv(file)), rows())
    table = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert len(table) == 8 and table[1]["x1"] == "300.0" and tuple(table[0]) == COLUMNS
    pandas = pytest.importorskip("pandas")
    assert pandas.read_csv(file).score.max() == pytest.approx(0.98765433)
    file.write_text("a,b\n1,2\n")
    with pytest.raises(FacekitError, match=r"a\.csv:1"):
        list(read_csv(file))


def test_csv_of_names_with_ends_of_lines(tmp_path: Path) -> None:
    file, odd = tmp_path / "a.csv", ["a\r.jpg", "b\n.jpg", "c\r\n.jpg", 'd"\r,.jpg']
    made = [dataclasses.replace(row, source=name) for row, name in zip(rows(), odd, strict=False)]
    file.write_bytes("".join(csv_text(made, RUN)).encode())
    assert [row.source for row in read_csv(file)] == odd
    with file.open(newline="", encoding="utf-8") as opened:
        assert {line["source"] for line in csv.DictReader(opened)} == set(odd)
    assert file.read_bytes().count(b"\r\n") == 1  # of the name; lines end as on Unix


@pytest.mark.parametrize("name", ["a\udc80\udcff", r"a\udcff", r"\udc5cudcff", r"C:\udc5c\udca", "\\\udcff", r"\\n"])
def test_names_of_any_bytes_come_back(name: str) -> None:
    assert from_unicode(as_unicode(name)) == name
    as_unicode(name).encode()
    assert as_unicode("\udcff.jpg") == r"\udcff.jpg"


def test_coco_by_pycocotools(tmp_path: Path) -> None:
    module = pytest.importorskip("pycocotools.coco")
    file = tmp_path / "a.json"
    file.write_text("".join(coco_text(rows, RUN)))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = module.COCO(str(file))
    assert count_coco(file) == 5 and len(coco.imgs) == 5
    first = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [face["bbox"] for face in first] == [[10.125, 20.0, 100.2083, 130.0], [300.0, 100.0, 40.0, 60.0]]
    assert first[0]["keypoints"][:3] == [pytest.approx(40.1875), 72.0, 2] and first[0]["score"] == 0.987654
    assert coco.dataset["info"]["unread"][0]["error"].startswith("a damaged JPEG")
    assert coco.imgs[6]["file_name"] == "v.mp4#3"


def test_parquet_by_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    file = tmp_path / "a.parquet"
    assert write_parquet(file, iter(rows()), RUN) == 6
    assert_same(list(read_parquet(file)), rows())
    table = pandas.read_parquet(file)
    assert list(table.columns) == ["schema", "source", "frame", "time_s", "width", "height", "faces", "error"]
    assert table.faces[0][1]["box_xyxy"].tolist() == [300, 100, 340, 160]
    file.write_bytes(b"PAR1")
    with pytest.raises(FacekitError, match="no Parquet"):
        list(read_parquet(file))


def test_wider_by_its_reader(tmp_path: Path) -> None:
    assert write_wider(tmp_path, rows()) == []
    found = read_predictions(tmp_path)
    assert list(found) == ["a/none", "a/one", "b/bytes é", "v/0", "v/3"]
    assert found["a/one"].shape == (2, 5) and found["a/none"].shape == (0, 5)
    assert found["a/one"][1, :4].tolist() == [300, 100, 40, 60]
    [loss] = write_wider(tmp_path / "two", [rows()[0], rows()[0]])  # one name twice: no file is lost
    assert list(read_predictions(tmp_path / "two")) == ["a/one", "a/one_2"]
    assert loss.what == rows()[0].source and "its boxes are in a/one_2.txt" in loss.why


@pytest.mark.parametrize(
    "boxes",
    ["1 2 3 4 0.9\n5 6 7 8 0.123", "10 20 30 40 1\n1 2 3 4 0.5", "1 2 3 4 0.9998505115509033\n1.0 2.0 3.0 4.0 0.5"],
)
def test_wider_of_another_detector_stays(tmp_path: Path, boxes: str) -> None:
    write_wider(tmp_path, rows())
    (tmp_path / "a" / "notes.txt").write_text("mine\n")
    check_wider_folder(tmp_path)
    assert write_wider(tmp_path, rows()) == []
    theirs = f"one\n2\n{boxes}\n"
    (tmp_path / "a" / "one.txt").write_text(theirs)
    for write in (lambda: check_wider_folder(tmp_path), lambda: write_wider(tmp_path, rows())):
        with pytest.raises(FacekitError, match=r"one\.txt: is there already, and holds another detector"):
            write()
    assert (tmp_path / "a" / "one.txt").read_text() == theirs


def test_yolo_by_the_label_reader(tmp_path: Path) -> None:
    """Beside their pictures the files are a data set: in fractions, with a confidence at the end."""
    made = [row for row in rows() if row.size_wh and row.frame is None]
    for row in made:
        (tmp_path / "images" / row.name).parent.mkdir(parents=True, exist_ok=True)
        width, height = row.size_wh or (1, 1)
        cv2.imwrite(str(tmp_path / "images" / row.name), np.zeros((height, width, 3), np.uint8))
    assert write_yolo(tmp_path, made) == []
    labels = {label.name: label for label in read_labels(tmp_path)}
    assert np.allclose(labels["a/one.jpg"].boxes_xyxy, made[0].faces.boxes_xyxy, atol=1e-4)
    assert np.allclose(labels["a/one.jpg"].landmarks_xy, made[0].faces.landmarks_xy, atol=1e-4)
    assert len(labels["a/none.png"].boxes_xywh) == 0
    assert labels["b/bytes é.jpg"].boxes_xyxy.tolist() == [[0, 0, 20, 25]]  # clipped
    assert write_yolo(tmp_path, made) == []
    with (tmp_path / "labels" / "a" / "one.txt").open("a") as file:  # a face that somebody added
        file.write("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(FacekitError, match=r"one\.txt: is there already, and holds labels"):
        write_yolo(tmp_path, made)
    assert (tmp_path / "labels" / "a" / "one.txt").read_text().endswith("0.1 0.1\n")


@pytest.mark.parametrize("theirs", ["0 0.4 0.2 0.18 0.23 0.913\n", "0 0.4 0.2 0.18 0.23 0.1\n", "0 a b c d e\n"])
def test_yolo_of_another_detector_stays(tmp_path: Path, theirs: str) -> None:
    write_yolo(tmp_path, rows())
    check_yolo_folder(tmp_path)
    one = tmp_path / "labels" / "a" / "one.txt"
    one.write_text(theirs)
    for write in (lambda: check_yolo_folder(tmp_path), lambda: write_yolo(tmp_path, rows())):
        with pytest.raises(FacekitError, match=r"one\.txt: is there already, and holds labels"):
            write()
    assert one.read_text() == theirs


def test_two_pictures_of_one_name_have_no_common_labels(tmp_path: Path) -> None:
    """x.png and x.jpg: labels are found by x.txt alone."""
    names = Names()
    one, other = names.of("a/one.jpg"), names.of("a/one.png")
    assert (one, other) == ("a/one.jpg", "a/one_2.png")
    first = rows()[0]
    third = names.of("a/one_2.jpg")  # which a drawing of the second was called
    assert third == "a/one_2_2.jpg"
    made = [first] + [dataclasses.replace(first, source=f"a/{each}", name=each) for each in (other, third)]
    [loss] = write_yolo(tmp_path, made, names.numbered)
    assert loss.what == "a/a/one_2.png" and loss.why.startswith("no label file: a/one.txt is that of another picture")
    assert {path.name for path in (tmp_path / "labels" / "a").iterdir()} == {"one.txt", "one_2.txt"}
    losses = write_wider(tmp_path / "w", made, names.numbered)
    assert "its boxes are in a/one_2.txt" in losses[0].why and "in a/one_2_2.txt" in losses[1].why
