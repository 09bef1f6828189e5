from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from facekit.cluster import archives
from facekit.cluster.archives import pictures_in
from facekit.cluster.stores import Entry
from facekit.errors import FacekitError
from tests.cluster.support import jpeg, link, tar_of, written


def read(path: str) -> list[tuple[str, bytes | FacekitError]]:
    return list(pictures_in(Entry(path, None)))


class TestPictures:
    def test_in_order_labels_passed_over(self, tmp_path: Path) -> None:
        one, two = jpeg(1), jpeg(2)
        path = written(tmp_path / "a.tar", tar_of([("b/1.jpg", one), ("b/1.json", b"{}"), ("a/2.PNG", two)]))
        assert read(path) == [(f"tar://b/1.jpg::{path}", one), (f"tar://a/2.PNG::{path}", two)]

    def test_what_macos_puts_beside_files_is_passed_over(self, tmp_path: Path) -> None:
        names = ("a.jpg", "._a.jpg", "__MACOSX/._a.jpg")
        path = written(tmp_path / "a.tar", tar_of([(name, jpeg(1)) for name in names]))
        assert read(path) == [(f"tar://a.jpg::{path}", jpeg(1))]

    def test_none(self, tmp_path: Path) -> None:
        assert read(written(tmp_path / "a.tar", tar_of([]))) == []


class TestHostile:
    @pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "a/../../out.jpg", "a\\..\\out.jpg"])
    def test_names_that_leave(self, name: str, tmp_path: Path) -> None:
        folder = tmp_path / "deep" / "down"
        folder.mkdir(parents=True)
        path = written(folder / "a.tar", tar_of([(name, jpeg()), ("in.jpg", jpeg())]))
        (_, first), (_, second) = read(path)
        assert isinstance(first, FacekitError) and "stays in the archive" in str(first)
        assert second == jpeg()
        assert sorted(tmp_path.rglob("out.jpg")) == [] and not Path("/etc/out.jpg").exists()

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
    def test_no_files(self, kind: bytes, tmp_path: Path) -> None:
        path = written(tmp_path / "a.tar", tar_of([("in.jpg", jpeg())], link("x.jpg", "/etc/passwd", kind)))
        _, (_, second) = read(path)
        assert isinstance(second, FacekitError) and "expected a file" in str(second)

    def test_a_name_twice(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.tar", tar_of([("in.jpg", jpeg(1)), ("in.jpg", jpeg(2))]))
        (_, first), (_, second) = read(path)
        assert first == jpeg(1)
        assert isinstance(second, FacekitError) and str(second).startswith(f"tar://in.jpg::{path}: stands twice")

    def test_cut_off_within_a_picture(self, tmp_path: Path) -> None:
        whole = tar_of([("1.jpg", jpeg(1)), ("2.jpg", jpeg(2))])
        path = written(tmp_path / "a.tar", whole[: whole.rindex(jpeg(2)[:64]) + 100])
        found = read(path)
        assert found[0][1] == jpeg(1)
        assert found[-1][0] == path  # the archive itself tells it
        assert isinstance(found[-1][1], FacekitError) and "breaks off behind file 2" in str(found[-1][1])

    def test_no_tar(self, tmp_path: Path) -> None:
        ((name, error),) = read(written(tmp_path / "a.tar", b"\x00\x01junk" * 500))
        assert name == str(tmp_path / "a.tar") and isinstance(error, FacekitError)

    def test_missing(self, tmp_path: Path) -> None:
        ((_, error),) = read(str(tmp_path / "a.tar"))
        assert "No such file" in str(error)

    def test_a_header_that_claims_gigabytes(self, tmp_path: Path) -> None:
        """A long name of 3 GB: tarfile would read as much of the file as is there."""
        head = tarfile.TarInfo("././@LongLink")
        head.type, head.size = tarfile.GNUTYPE_LONGNAME, 3 << 30
        path = written(tmp_path / "a.tar", head.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096)
        ((_, error),) = read(path)
        assert isinstance(error, FacekitError) and "header" in str(error)

    def test_a_picture_that_claims_gigabytes(self, tmp_path: Path) -> None:
        head = tarfile.TarInfo("a.jpg")
        head.size = 3 << 30
        found = read(written(tmp_path / "a.tar", head.tobuf(tarfile.GNU_FORMAT) + b"\0" * 4096))
        assert "MiB are not read" in str(found[0][1])

    def test_more_files_than_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
        path = written(tmp_path / "a.tar", tar_of([(f"{i}.jpg", b"x") for i in range(3)]))
        assert "over 2 files" in str(read(path)[-1][1])
