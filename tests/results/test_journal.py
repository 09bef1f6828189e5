from __future__ import annotations

from pathlib import Path

import pytest

from facekit.errors import FacekitError
from facekit.results.journal import Journal, journal_path
from facekit.results.names import Names
from tests.results.support import assert_same, rows

MADE = {"threshold": 0.5, "model": "yunet-n"}


def written(path: Path) -> Journal:
    journal = Journal(path, MADE, resume=False)
    for row in rows():
        journal.add(row)
    journal.close()
    return journal


def test_rows_and_names_come_back(tmp_path: Path) -> None:
    journal = written(tmp_path / "a.unfinished")
    assert_same(list(journal.rows()), rows())
    for part in ("name", "left_out", "file_state"):  # which are no part of the row's JSON
        assert [getattr(row, part) for row in journal.rows()] == [getattr(row, part) for row in rows()]
    journal.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("lost", "group", "kept"), [(0, 1, 4), (1, 1, 4), (40, 1, 4), (0, 4, 4), (700, 1, 3), (1, 8, 4), (700, 2, 2)]
)
def test_goes_on_behind_whole_groups_of_whole_rows(tmp_path: Path, lost: int, group: int, kept: int) -> None:
    path = tmp_path / "a.unfinished"
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - lost])
    journal = Journal(path, MADE, resume=True, group=group)
    assert journal.done == kept
    for row in rows()[kept:]:
        journal.add(row)
    journal.close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("changed", [b"x", b"\xff", b"\t", b"\0"])
def test_damaged_rows_are_made_anew(tmp_path: Path, changed: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.unfinished"
    written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2][:1] + changed + lines[2][2:], *lines[3:]]))
    journal = Journal(path, MADE, resume=True)
    assert journal.done == 1 and "damaged from row 2 on" in caplog.text


@pytest.mark.parametrize(
    "beside", ["5", "[1, null, null]", '["a", null, 7]', '["a", null, [1, "2"]]', '["a", 3, null]', "[]", '"abc"']
)
def test_what_stands_beside_a_row_is_checked(tmp_path: Path, beside: str) -> None:
    path = tmp_path / "a.unfinished"
    written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].partition(b"\t")[0] + f"\t{beside}\n".encode(), *lines[3:]]))
    assert Journal(path, MADE, resume=True).done == 1


def test_without_resume_it_starts_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path / "a.unfinished")
    with caplog.at_level("INFO", "facekit"):
        journal = Journal(tmp_path / "a.unfinished", MADE, resume=False)
    assert "Starting anew; `resume` would" in caplog.text
    assert journal.done == 0 and not list(journal.rows())


def test_refuses_other_settings(tmp_path: Path) -> None:
    written(tmp_path / "a.unfinished")
    with pytest.raises(FacekitError, match=r"had threshold 0\.5, now 0\.6\. Give the same"):
        Journal(tmp_path / "a.unfinished", MADE | {"threshold": 0.6}, resume=True)
    (tmp_path / "a.unfinished").write_bytes(b"\xff\xd8\n")
    with pytest.raises(FacekitError, match="no journal"):
        Journal(tmp_path / "a.unfinished", MADE, resume=True)


def test_lies_beside_the_first_output(tmp_path: Path) -> None:
    assert journal_path(tmp_path / "a", is_folder=False) == tmp_path / "a.unfinished"
    assert journal_path(tmp_path / "a", is_folder=True) == tmp_path / "a" / "detect.unfinished"


def test_names_are_harmless_and_each_once() -> None:
    names = Names()
    assert [names.of(name) for name in ("a/b.jpg", "A/B.png", "a/b.jpg", "../../x.jpg", "c:\\d|.jpg", "nul.jpg")] == [
        "a/b.jpg", "A/B_2.png", "a/b_3.jpg", "_../_../x.jpg", "c__d_.jpg", "_nul.jpg",
    ]  # fmt: skip
    long = names.of("x" * 400 + ".jpg")
    assert len(long) <= 120 and long.endswith(".jpg")


def test_names_of_files_are_numbered_where_two_would_fall_together() -> None:
    names = Names()
    below = ["a.png", "a.tif", "a.TIF", "a.gif", "a.heic", "a.jpg", "b/a.png", "A.png", "a_2.png", "nul.png", "c"]
    assert [names.of_file(name, (".png", ".tif", ".jpg"), ".jpg") for name in below] == [
        "a.png", "a.tif", "a_2.TIF", "a.jpg", "a_2.jpg", "a_3.jpg", "b/a.png", "A_2.png", "a_2_2.png", "_nul.png",
        "c.jpg",
    ]  # fmt: skip
