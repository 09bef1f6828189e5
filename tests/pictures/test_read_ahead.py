from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit.errors import FacekitError
from facekit.pictures import read_ahead as reading
from facekit.pictures.read_ahead import read_each


def write_pictures(folder: Path, count: int, size_wh: tuple[int, int] = (40, 30)) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((size_wh[1], size_wh[0], 3), number, dtype=np.uint8))
    return paths


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_pictures_come_in_their_order(tmp_path: Path, workers: int) -> None:
    paths = write_pictures(tmp_path, 30)
    assert [
        int(image[0, 0, 0]) for image in read_each(paths, workers=workers) if isinstance(image, np.ndarray)
    ] == list(range(30))


def test_no_pictures() -> None:
    assert list(read_each([])) == []


def test_a_bad_picture_complains_in_its_turn(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 6)
    paths[3].write_bytes(b"no picture")
    images = list(read_each(paths))
    assert isinstance(images[3], FacekitError) and "3.png" in str(images[3])
    assert [int(image[0, 0, 0]) for image in images if not isinstance(image, FacekitError)] == [0, 1, 2, 4, 5]


def test_a_wrong_size_and_a_missing_file_complain(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 2)
    wrong = list(read_each(paths, [(40, 30), (50, 30)]))[1]
    gone = list(read_each([*paths, tmp_path / "gone.png"]))[2]
    assert isinstance(wrong, FacekitError) and "labels say 50x30" in str(wrong)
    assert isinstance(gone, FacekitError) and "gone.png" in str(gone)


@pytest.mark.parametrize(("budget", "most"), [(3 * 40 * 30 * 3, 3), (1, 1), (10**9, reading.PICTURES_AHEAD)])
def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, most: int) -> None:
    paths = write_pictures(tmp_path, 40)
    monkeypatch.setattr(reading, "BYTES_AHEAD", budget)
    lock, begun = threading.Lock(), [0]
    read = reading.read_picture

    def counted(*job: object, **limits: object) -> np.ndarray:
        with lock:
            begun[0] += 1
        return read(*job, **limits)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read_picture", counted)
    for taken, _ in enumerate(read_each(paths), start=1):
        # One is in the caller's hands, the next may be under way beside those that wait.
        assert begun[0] <= taken + most


def test_stops_when_the_caller_does(tmp_path: Path) -> None:
    before = threading.active_count()
    images = read_each(write_pictures(tmp_path, 20))
    next(images)
    images.close()
    assert threading.active_count() == before
