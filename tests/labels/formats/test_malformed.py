"""Every format against every kind of mistake: its place, the reason, and nothing lost without a word."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekit.errors import FacekitError
from facekit.labels.formats import FORMATS, read_labels, recognise
from tests.labels.formats.samples import BOX, BOXES, OBJECT, SAMPLES, Sample

TRUNCATED = {  # the second face with a number less
    "coco": "[3, 4, 5]",
    "wider": "3 4 5 6 0 0 0 0 0",
    "labelv2": "3 4 8",
    "retinaface": "3 4 5 6 -1.0",
    "voc": "<object><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>8</xmax></bndbox></object>",
    "yolo": "0 0.1375 0.2333333333 0.125",
    "fddb": "3 2.5 0 5.5 7",
    "labelme": "[[3, 4], [8]]",
    "cvat": '<box label="face" xtl="3" ytl="4" xbr="8"></box>',
}
WORD = {  # a word for one of its numbers
    "coco": '[3, "seven", 5, 6]',
    "wider": "3 seven 5 6 0 0 0 0 0 0",
    "labelv2": "3 seven 8 10",
    "retinaface": f"3 seven 5 6 {'-1.0 ' * 15}0.1",
    "voc": OBJECT.format(3, "seven", 8, 10),
    "yolo": "0 seven 0.2333333333 0.125 0.2",
    "fddb": "3 2.5 seven 5.5 7 1",
    "labelme": '[[3, "seven"], [8, 10]]',
    "cvat": BOX.format(3, "seven", 8, 10),
}
NEGATIVE = {  # a negative width
    "coco": "[3, 4, -5, 6]",
    "wider": "3 4 -5 6 0 0 0 0 0 0",
    "labelv2": "8 4 3 10",
    "retinaface": f"3 4 -5 6 {'-1.0 ' * 15}0.1",
    "voc": OBJECT.format(8, 4, 3, 10),
    "yolo": "0 0.1375 0.2333333333 -0.125 0.2",
    "fddb": "-3 2.5 0 5.5 7 1",
    "labelme": "[[3, 4], [3, 10]]",  # corners in any order: there are no negative ones
    "cvat": BOX.format(8, 4, 3, 10),
}
NOISE = [*'\n\r -#0<"', "1e999", "nan", "9999999999", "../", "&#0;", "[]", "n" * 300]


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sample(name: str, tmp_path: Path) -> Sample:
    return SAMPLES[name](name, tmp_path)


def of(table: dict[str, str], name: str) -> str:
    return table.get(name) or table[name.partition("-")[0]]


def complaint(sample: Sample) -> str:
    with pytest.raises(FacekitError) as caught:
        read_labels(sample.source, sample.data_root)
    return str(caught.value)


def check_good(sample: Sample, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "facekit"):
        a, b = read_labels(sample.source, sample.data_root)
    np.testing.assert_allclose(a.boxes_xywh, BOXES, atol=1e-6)
    assert a.path == sample.picture
    assert b.boxes_xywh.shape == (0, 4)
    assert not caplog.records


def test_every_format_is_here() -> None:
    assert set(SAMPLES) == set(FORMATS)


def test_good(sample: Sample, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The second picture has no face; WIDER's says so by a count of 0 and a row of zeros."""
    assert recognise(sample.source) == ("yolo" if name == "yolo-face" else name)
    check_good(sample, caplog)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_windows_line_ends(sample: Sample, caplog: pytest.LogCaptureFixture, mark: str) -> None:
    for path in {sample.source, sample.names, sample.labels} - {sample.source if sample.source.is_dir() else None}:
        path.write_bytes(mark.encode() + path.read_bytes().replace(b"\n", b"\r\n"))
    check_good(sample, caplog)


def test_wider_without_the_row_of_zeros(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sample = SAMPLES["wider"]("wider", tmp_path)
    sample.labels.write_text(sample.labels.read_text().replace("0 " * 10 + "\n", ""))
    check_good(sample, caplog)


def test_number_is_missing(sample: Sample, name: str) -> None:
    sample.replace(of(TRUNCATED, name))
    text = complaint(sample)
    assert text.startswith(f"{sample.place}expected ")
    assert "got " in text


def test_word_for_a_number(sample: Sample, name: str) -> None:
    sample.replace(of(WORD, name))
    text = complaint(sample)
    assert text.startswith(f"{sample.place}expected ")
    assert "seven" in text


def test_file_is_cut_off(sample: Sample, name: str) -> None:
    content = sample.labels.read_text()
    place = content.index(sample.face) + len(sample.face) - 3
    sample.labels.write_text(content[:place])
    line = content.count("\n", 0, place) + 1
    assert complaint(sample).startswith(f"{sample.labels}:{line}: ")


def test_negative_size(sample: Sample, name: str, caplog: pytest.LogCaptureFixture) -> None:
    sample.replace(of(NEGATIVE, name))
    dropped: Counter[str] = Counter()
    with caplog.at_level(logging.WARNING, "facekit"):
        a, _ = read_labels(sample.source, sample.data_root, dropped=dropped)
    np.testing.assert_allclose(a.boxes_xywh, BOXES[:1], atol=1e-6)
    place = "annotations[1]" if name == "coco" else sample.place.removesuffix(": ")
    [record] = caplog.records
    assert f"{sample.source}: 1 boxes have no area: left out" in record.message
    assert place in record.message
    assert dropped == {"have no area": 1}
    a, _ = read_labels(sample.source, sample.data_root, as_written=True)
    assert len(a.boxes_xywh) == 2


def test_what_macos_puts_beside_files(sample: Sample, caplog: pytest.LogCaptureFixture) -> None:
    root = sample.source if sample.source.is_dir() else sample.source.parent
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2")
    check_good(sample, caplog)


def test_picture_is_missing(sample: Sample) -> None:
    sample.picture.unlink()
    text = complaint(sample)
    assert f"{sample.source}: 1 of 2 pictures are not on the disk: {sample.picture} (first: {sample.listed})" in text
    assert "data root" in text


def test_name_is_no_utf8(sample: Sample) -> None:
    content = sample.names.read_bytes()
    place = content.index(b"b c") + 1
    sample.names.write_bytes(content.replace(b"b c", b"b\xe4c"))
    line = content.count(b"\n", 0, place) + 1
    assert complaint(sample).startswith(f"{sample.names}:{line}: expected UTF-8 text")


@pytest.mark.parametrize(
    ("old", "count", "line", "reason"),
    [
        (2, "1", 4, "a picture's name (the count above may be too small)"),
        (2, "3", 5, ""),
        (0, "two", 6, "the number of faces"),
        (0, "-1", 6, "the number of faces"),
        (0, "99999999", 6, "the number of faces"),
    ],
)
@pytest.mark.parametrize("name", ["wider", "fddb"])
def test_wrong_count(name: str, tmp_path: Path, old: int, count: str, line: int, reason: str) -> None:
    sample = SAMPLES[name](name, tmp_path)
    sample.labels.write_text(sample.labels.read_text().replace(f"\n{old}\n", f"\n{count}\n"))
    assert complaint(sample).startswith(f"{sample.labels}:{line}: expected {reason}")


def test_labels_are_no_utf8(sample: Sample) -> None:
    sample.labels.write_bytes(sample.labels.read_bytes().replace(sample.face.encode(), b"\xff" + sample.face.encode()))
    line = sample.labels.read_bytes()[: sample.labels.read_bytes().index(b"\xff")].count(b"\n") + 1
    assert complaint(sample).startswith(f"{sample.labels}:{line}: expected UTF-8 text")


@pytest.mark.parametrize("name", ["fddb", "voc"])
@pytest.mark.parametrize("suffix", [".JPG", ".Png", ".webp"])
def test_pictures_named_without_suffix(name: str, tmp_path: Path, suffix: str) -> None:
    sample = SAMPLES[name](name, tmp_path)
    picture = sample.picture.rename(sample.picture.with_suffix(suffix))
    if name == "voc":
        sample.labels.write_text(sample.labels.read_text().replace(".jpg", suffix))
    elif suffix == ".Png":
        return  # FDDB's lists don't say it
    assert read_labels(sample.source, sample.data_root)[0].path == picture


@pytest.mark.parametrize("letter", ["n", "脸"])
def test_name_is_longer_than_a_disk_takes(sample: Sample, name: str, letter: str) -> None:
    if name in ("labelme", "voc-beside"):
        pytest.skip("the picture beside is found all the same")
    sample.names.write_text(sample.names.read_text().replace("b c", letter * 251))
    assert str(sample.names) in complaint(sample)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_is_read_or_refused(name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("damaged")
    sample = SAMPLES[name](name, root)
    file = data.draw(st.sampled_from([sample.names, sample.labels]))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 5))] = data.draw(
            st.binary(max_size=4) | st.sampled_from(NOISE).map(str.encode)
        )
    file.write_bytes(bytes(content))
    try:
        pictures = read_labels(sample.source, sample.data_root)
    except FacekitError as error:
        assert str(root) in str(error)
        assert len(str(error)) < 3000
    else:
        assert all(np.isfinite(picture.boxes_xywh).all() for picture in pictures)
        assert all((picture.boxes_xywh[:, 2:] > 0).all() for picture in pictures)


LABELME = '{"version": "5", "flags": {}, "shapes": [], "imagePath": "%s", "imageHeight": 9, "imageWidth": 9}'
VOC = "<annotation><filename>%s</filename><size><width>9</width><height>9</height><depth>3</depth></size></annotation>"
LONG = 300 * "n"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("a.json", LABELME % f"{LONG}.jpg", "longer than a disk holds"),
        ("a.xml", VOC % f"b.{LONG}", "longer than a disk holds"),
        (f"{250 * 's'}.json", LABELME % "x.jpg", "not on the disk"),  # no picture can have that stem and .jpeg
        (f"{251 * 's'}.xml", VOC % "x.jpg", "not on the disk"),
    ],
    ids=["labelme", "voc", "labelme's stem", "voc's stem"],
)
def test_names_that_no_disk_holds(tmp_path: Path, file: str, text: str, expected: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(FacekitError, match=expected):
        read_labels(tmp_path)
