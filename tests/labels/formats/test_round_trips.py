"""What is written is read again, in every format that is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekit.errors import FacekitError
from facekit.labels.formats import FORMATS, WRITTEN, read_labels, recognise
from facekit.labels.layout import Named, check_stems, name_in
from facekit.labels.picture_labels import PictureLabels

WIDTH, HEIGHT = 400, 300
PICTURE = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
TOLERANCE_PX = {"yolo": 1e-6, "yolo-face": 1e-6, "labelv2": 1e-9, "voc": 1e-9, "voc-wider": 1e-9}  # the others: exact
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def faces(rng: np.random.Generator, count: int, whole: bool, partly: bool) -> dict[str, Any]:
    """Fields of PictureLabels: boxes within the picture; a third of the faces has landmarks, some of them but a few."""
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * [WIDTH - 2, HEIGHT - 2]
    corners = corners.round() if whole else corners
    boxes_xywh = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0] + 1], axis=1)
    landmarks_xy = boxes_xywh[:, None, :2] + rng.uniform(0, 1, (count, 5, 2)) * boxes_xywh[:, None, 2:]
    landmarks_xy = landmarks_xy.round() if whole else landmarks_xy
    landmarks_xy[rng.uniform(size=count) > 1 / 3] = np.nan
    if partly:
        landmarks_xy[rng.uniform(size=(count, 5)) < 0.1] = np.nan
    return {
        "boxes_xywh": boxes_xywh,
        "landmarks_xy": landmarks_xy,
        "is_crowd": rng.uniform(size=count) < 0.2,
        "attributes": rng.integers(0, 3, (count, 6), np.int8),
    }


@st.composite
def sets(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Faces by the picture's name: none, some or many; names of any letters that a disk and a text file hold."""
    letters = st.characters(exclude_categories=["C"], exclude_characters="/\\")
    part = st.text(letters | st.sampled_from("# 0.:[{&<>"), min_size=1, max_size=8).filter(
        lambda text: text not in (".", "..")
    )
    names = st.tuples(part, part, st.sampled_from([".jpg", ".JPG", ".jpeg"]))
    found = draw(st.lists(names, min_size=1, max_size=4, unique_by=(lambda name: name[1].casefold())))
    pictures = {}
    for folder, stem, suffix in found:
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        count = draw(st.sampled_from([0, 1, 2, 150]))
        pictures[f"{folder}/{stem}{suffix}"] = faces(rng, count, draw(st.booleans()), draw(st.booleans()))
    return pictures


def put(root: Path, content: dict[str, dict[str, Any]]) -> list[Named]:
    """The pictures on the disk, and their labels; without those whose names can't be in a label file."""
    named = []
    for name, fields in content.items():
        try:
            name_in(root, root / name)
            check_stems([name])
        except FacekitError:
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURE)
        named.append((name, PictureLabels(path=root / name, size_wh=(WIDTH, HEIGHT), name=name, **fields)))
    return named


def write(name: str, target: Path, named: list[Named]) -> Path:
    row = FORMATS[name]
    if row.write_file is not None:
        row.write_file(target, named)
    elif row.write_folder is not None:
        row.write_folder(target, {"train": named}, "link")
    return target


def whole_landmarks(labels: PictureLabels) -> NDArray[np.float64]:
    """All five or none, as losses and metrics have them."""
    whole = np.isfinite(labels.landmarks_xy).all(axis=(1, 2))
    return np.where(whole[:, None, None], labels.landmarks_xy, np.nan)


def check_again(format_name: str, named: list[Named], again: list[PictureLabels]) -> None:
    keeps, tolerance = FORMATS[format_name].keeps, TOLERANCE_PX.get(format_name, 0)
    by_name = {picture.name: picture for picture in again}
    assert len(again) == len(by_name) == len(named)
    for name, before in named:
        # WIDER's own folder of all events is no part of its names.
        known_as = {"voc": name.replace("/", "_"), "voc-wider": name.removeprefix("images/")}.get(format_name, name)
        after = by_name[known_as]
        np.testing.assert_allclose(after.boxes_xywh, before.boxes_xywh, rtol=0, atol=tolerance)
        points = whole_landmarks(before) if "landmarks" in keeps else np.full_like(before.landmarks_xy, np.nan)
        np.testing.assert_allclose(after.landmarks_xy, points, rtol=0, atol=tolerance)
        assert after.size_wh == (None if format_name == "wider" else (WIDTH, HEIGHT))
        np.testing.assert_array_equal(after.is_crowd, before.is_crowd if "crowds" in keeps else False)
        if "attributes" in keeps and len(before.boxes_xywh):
            np.testing.assert_array_equal(after.attributes, before.attributes)
        else:
            assert after.attributes is None or not len(after.attributes)


@pytest.mark.parametrize("format_name", WRITTEN)
@given(content=sets())
@SLOW
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, format_name: str, content: dict[str, dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    named = put(folder / "pictures", content)
    if not named:
        return
    if "crowds" not in FORMATS[format_name].keeps:  # convert leaves such faces out
        named = [(name, replace(labels, is_crowd=np.zeros_like(labels.is_crowd))) for name, labels in named]
    source = write(format_name, folder / "there", named)
    assert recognise(source) == format_name.removesuffix("-face")
    check_again(format_name, named, read_labels(source, None if source.is_dir() else folder / "pictures"))


@pytest.mark.parametrize("format_name", WRITTEN)
def test_no_faces_at_all(tmp_path: Path, format_name: str) -> None:
    named = put(tmp_path / "pictures", {"e/a b.jpg": faces(np.random.default_rng(0), 0, True, False)})
    source = write(format_name, tmp_path / "there", named)
    check_again(format_name, named, read_labels(source, None if source.is_dir() else tmp_path / "pictures"))
