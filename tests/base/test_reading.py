from __future__ import annotations

import os
from pathlib import Path

import pytest

from facekit.base.files import protecting, write_text
from facekit.base.reading import is_binary, open_regular, read_input
from facekit.errors import FacekitError


def complaint(path: Path, limit_bytes: int = 1 << 20) -> str:
    with pytest.raises(FacekitError) as caught:
        read_input(path, limit_bytes)
    return str(caught.value)


def test_a_whole_file_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").symlink_to("a")
    assert read_input(tmp_path / "b", 100) == b"x" * 100


@pytest.mark.parametrize(("content", "expected"), [
    (b"", False), (b"{}\n", False), ("ä".encode() * 2000 + b"\n", False), (b"x" + "ä".encode() * 3000, False),
    (b"a\0b", True), (b"\xff\xd8\xff", True), ("ä".encode()[:1], True), (b"x" * 5000 + b"\0", False),
])  # fmt: skip
def test_binary_is_told_by_the_head(tmp_path: Path, content: bytes, expected: bool) -> None:
    (tmp_path / "a").write_bytes(content)
    assert is_binary(tmp_path / "a") == expected
    assert not is_binary(tmp_path / "none") and not is_binary(tmp_path) and not is_binary(tmp_path / ("x" * 300))


def test_what_was_read_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with protecting([]):
        read_input(tmp_path / "a", 100)
        with pytest.raises(FacekitError, match="this command reads it"):
            write_text(tmp_path / "a", "another's")
    assert (tmp_path / "a").read_text() == "mine"


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert complaint(tmp_path / "pipe") == f"{tmp_path / 'pipe'}: is a pipe, not a file. Check the path."


@pytest.mark.parametrize(("path", "kind"), [("/dev/zero", "a device"), ("/tmp", "a folder")])
def test_no_regular_file(path: str, kind: str) -> None:
    assert f"{path}: is {kind}, not a file. Check the path." == complaint(Path(path))


def test_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "can't be read (Too many levels of symbolic links)" in complaint(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "why"), [("none", "there is no such file"), ("a\0b", "can't be read"), ("n" * 300, "can't be read")]
)
def test_no_such_name(tmp_path: Path, name: str, why: str) -> None:
    assert why in complaint(tmp_path / name)


def test_too_large(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 101)
    assert "101 bytes, more than the limit of 100. Check the path." in complaint(tmp_path / "a", 100)


def test_a_file_that_calls_itself_empty() -> None:
    path = Path("/proc/self/environ")
    if not path.is_file() or path.stat().st_size:
        pytest.skip("no /proc here")
    assert "more than the limit of 1 bytes" in complaint(path, 1)


def test_regular_files_alone_raise_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"mine")
    with open_regular(tmp_path / "a", 4) as file:
        assert file.read() == b"mine"
    with pytest.raises(FacekitError, match="4 bytes, more than the limit of 3"):
        open_regular(tmp_path / "a", 3)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
