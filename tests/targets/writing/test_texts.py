"""Texts of an export that people edit: what facekit takes for its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from facekit.targets.table import TARGETS
from facekit.targets.writing.texts import COMMENTS, is_to_keep, marked

OLD, NEW = "int main() {}\n// of yunet-n\n", "int main() {}\n// of yunet-s\n"


def test_every_text_has_a_comment() -> None:
    assert {suffix for target in TARGETS.values() for suffix in target.texts} == set(COMMENTS)


@pytest.mark.parametrize(
    ("there", "is_kept"),
    [
        (marked(OLD, ".cpp"), False),  # of another detector, or another version
        (marked(OLD, ".cpp").replace("\n", "\r\n"), False),  # as Git checks it out on Windows
        (NEW, False),  # of a version that had no marks
        ("", False),
        (OLD, True),
        (marked(OLD, ".cpp").replace("main", "mine"), True),
        (marked(OLD, ".cpp") + "\n", True),
        ("mine", True),
    ],
)
def test_only_what_is_to_the_letter_gives_way(tmp_path: Path, there: str, is_kept: bool) -> None:
    path = tmp_path / "main.cpp"
    path.write_bytes(there.encode())
    assert is_to_keep(path, NEW) is is_kept


def test_what_is_not_there_and_what_is_no_text(tmp_path: Path) -> None:
    assert not is_to_keep(tmp_path / "page.js", NEW)
    (tmp_path / "page.js").write_bytes(b"\xff\x00")
    assert is_to_keep(tmp_path / "page.js", NEW)
