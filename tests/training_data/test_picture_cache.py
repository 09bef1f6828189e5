from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch

from facekit.engine.training.loop import make_batches
from facekit.errors import FacekitError
from facekit.labels.picture_labels import PictureLabels
from facekit.pictures.read import read_picture
from facekit.template import find_template, load_template
from facekit.training_data import picture_cache
from facekit.training_data.picture_cache import PictureCache, fill_cache

KINDS: tuple[Literal["ram", "disk"], ...] = ("ram", "disk")
SIZES_WH = [(60, 40), (41, 53), (64, 64), (300, 200), (7, 9)]
GIB = 2**30


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pictures"


@pytest.fixture
def pictures(tmp_path: Path) -> list[PictureLabels]:
    """Noise with a face each; every other one's size is not in the labels."""
    labelled = []
    for number, (width, height) in enumerate(SIZES_WH):
        path = tmp_path / f"{number}.jpg"
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8))
        size_wh = (width, height) if number % 2 else None
        box = np.array([[1.0, 1, width - 2, height - 2]])
        labelled.append(PictureLabels(path, size_wh, box, np.full((1, 5, 2), np.nan), np.zeros(1, bool)))
    return labelled


def assert_holds(cache: PictureCache, pictures: list[PictureLabels]) -> None:
    for labels in pictures:
        found = cache.find(labels.path)
        assert found is not None
        np.testing.assert_array_equal(found, read_picture(labels.path))


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    def test_pixels_are_those_of_the_files(self, kind: Literal["ram", "disk"], pictures: list[PictureLabels]) -> None:
        cache = fill_cache(kind, [*pictures, pictures[0]], 1)  # one is listed twice
        assert len(cache) == len(pictures)
        assert_holds(cache, pictures)
        assert cache.find(Path("elsewhere.jpg")) is None

    def test_nobody_writes_into_it(self, kind: Literal["ram", "disk"], pictures: list[PictureLabels]) -> None:
        found = fill_cache(kind, pictures, 1).find(pictures[0].path)
        assert found is not None
        with pytest.raises(ValueError, match="read-only"):
            found[0, 0] = 0

    def test_limit(
        self, kind: Literal["ram", "disk"], pictures: list[PictureLabels], caplog: pytest.LogCaptureFixture
    ) -> None:
        limit = 3 * (60 * 40 + 41 * 53 + 64 * 64)
        cache = fill_cache(kind, pictures, limit / GIB)
        assert len(cache) == 3
        assert_holds(cache, pictures[:3])
        assert cache.find(pictures[3].path) is None
        assert "holds 3 of the 5 pictures" in caplog.text
        assert len(fill_cache(kind, pictures, (limit - 1) / GIB)) == 2

    def test_limit_for_nothing(self, kind: Literal["ram", "disk"], pictures: list[PictureLabels]) -> None:
        with pytest.raises(FacekitError, match=f"`cache={kind}`: not one picture fits into .*`cache_limit`"):
            fill_cache(kind, pictures, 100 / GIB)

    def test_no_pictures(self, kind: Literal["ram", "disk"]) -> None:
        assert len(fill_cache(kind, [], 1)) == 0

    def test_picture_that_cannot_be_read(
        self, kind: Literal["ram", "disk"], pictures: list[PictureLabels], cache_folder: Path
    ) -> None:
        pictures[1].path.write_bytes(b"no picture")
        with pytest.raises(FacekitError, match=r"1\.jpg: not a picture"):
            fill_cache(kind, pictures, 1)
        assert not cache_folder.exists() or not any(cache_folder.iterdir())

    @pytest.mark.parametrize("template_name", ["yunet-n", "face-detection-0200"])
    def test_batches_are_equal_to_the_bit(
        self, kind: Literal["ram", "disk"], pictures: list[PictureLabels], template_name: str
    ) -> None:
        """With pictures in the cache, beyond its limit, and so large that they are decoded smaller."""
        template = load_template(find_template(template_name))
        template = dataclasses.replace(template, input=dataclasses.replace(template.input, size_hw=(32, 32)))
        cache = fill_cache(kind, pictures, 3 * (60 * 40 + 41 * 53 + 64 * 64 + 300 * 200) / GIB)
        plain = make_batches(pictures, template, 2, workers=0, seed=3, pin_memory=False)
        cached = make_batches(pictures, template, 2, workers=2, seed=3, pin_memory=False, cache=cache)
        for epoch in range(3):
            plain.start_epoch(epoch)
            cached.start_epoch(epoch)
            for (images, targets), (images_2, targets_2) in zip(plain.loader, cached.loader, strict=True):
                assert torch.equal(images, images_2)
                assert all(torch.equal(one, other) for one, other in zip(targets[:4], targets_2[:4], strict=True))


class TestDisk:
    def test_is_taken_again(
        self, pictures: list[PictureLabels], cache_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill_cache("disk", pictures, 1)
        (file,) = cache_folder.iterdir()
        written = file.stat().st_mtime_ns
        monkeypatch.setattr(picture_cache, "read_picture", None)  # would fail
        again = fill_cache("disk", pictures, 1)
        assert [path.stat().st_mtime_ns for path in cache_folder.iterdir()] == [written]
        assert_holds(again, pictures)

    def test_changed_pictures_are_read_anew(self, pictures: list[PictureLabels]) -> None:
        fill_cache("disk", pictures, 1)
        path = pictures[2].path
        before = path.stat()
        cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        assert_holds(fill_cache("disk", pictures, 1), pictures)

    def test_a_file_cut_short_is_made_anew(self, pictures: list[PictureLabels], cache_folder: Path) -> None:
        fill_cache("disk", pictures, 1)
        (file,) = cache_folder.iterdir()
        file.write_bytes(file.read_bytes()[:-1])
        assert_holds(fill_cache("disk", pictures, 1), pictures)

    def test_no_place_to_write(self, pictures: list[PictureLabels], cache_folder: Path) -> None:
        cache_folder.parent.write_text("a file in the way", encoding="utf-8")
        with pytest.raises(FacekitError, match=r"can't be written\. Set FACEKIT_CACHE"):
            fill_cache("disk", pictures, 1)


class TestMemory:
    def test_more_than_there_is(self, pictures: list[PictureLabels], monkeypatch: pytest.MonkeyPatch) -> None:
        huge = [dataclasses.replace(labels, size_wh=(10**7, 10**7)) for labels in pictures]
        with pytest.raises(FacekitError, match=r"`cache=ram`: the pictures need .* GiB of memory are free"):
            fill_cache("ram", huge, 1e9)

    def test_processes_that_are_not_forked(
        self, pictures: list[PictureLabels], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_cache.multiprocessing, "get_start_method", lambda: "spawn")
        with pytest.raises(FacekitError, match="`cache=disk`"):
            fill_cache("ram", pictures, 1)
