from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekit.datasets.unpack import MARKER, Limits, unpack
from facekit.errors import FacekitError

LIMITS = Limits(files=10, bytes=1000)
KINDS = (".zip", ".tar.gz", ".tgz")
FILES = {"top/a.txt": b"a", "top/below/b.txt": b"bb", "other/c.txt": b"ccc"}


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
            for name, data in files.items():
                content.writestr(zipfile.ZipInfo(name), data)
        return path
    with tarfile.open(path, "w:gz") as content:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            content.addfile(info, io.BytesIO(data))
    return path


def held(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(archive: Path, limits: Limits = LIMITS) -> str:
    """The message; nothing may be left behind, inside the target or beside it."""
    before = sorted(archive.parent.parent.rglob("*"))
    with pytest.raises(FacekitError) as caught:
        unpack(archive, archive.parent / "new", "", limits, "")
    assert sorted(archive.parent.parent.rglob("*")) == before
    assert str(archive.name) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two deep, so that what climbs out of it still lands in tmp_path."""
    below = tmp_path / "data"
    below.mkdir()
    return below


@pytest.mark.parametrize("kind", KINDS)
class TestUnpack:
    def test_one_folder_of_it(self, folder: Path, kind: str) -> None:
        archive = pack(folder / f"a{kind}", FILES)
        unpack(archive, folder / "new" / "place", "top", LIMITS, "a 1\n")
        assert held(folder / "new") == {"place/a.txt": b"a", "place/below/b.txt": b"bb", f"place/{MARKER}": b"a 1\n"}

    def test_all_of_it(self, folder: Path, kind: str) -> None:
        unpack(pack(folder / f"a{kind}", FILES), folder / "new", "", LIMITS, "")
        assert held(folder / "new") == FILES | {MARKER: b""}

    def test_leading_dot_and_folders(self, folder: Path, kind: str) -> None:
        archive = folder / f"a{kind}"
        if kind == ".zip":
            pack(archive, {"./top/": b"", "./top/a.txt": b"a"})
        else:
            with tarfile.open(archive, "w:gz") as content:
                info = tarfile.TarInfo("./top")
                info.type = tarfile.DIRTYPE
                content.addfile(info)
                info = tarfile.TarInfo("./top/a.txt")
                info.size = 1
                content.addfile(info, io.BytesIO(b"a"))
        unpack(archive, folder / "new", "top", LIMITS, "")
        assert held(folder / "new") == {"a.txt": b"a", MARKER: b""}

    def test_rest_of_a_stopped_run_is_swept_away(self, folder: Path, kind: str) -> None:
        (folder / ".new.unpacking").mkdir()
        (folder / ".new.unpacking" / "half.txt").touch()
        unpack(pack(folder / f"a{kind}", FILES), folder / "new", "", LIMITS, "")
        assert held(folder / "new") == FILES | {MARKER: b""}
        assert not (folder / ".new.unpacking").exists()

    def test_nothing_wanted_in_it(self, folder: Path, kind: str) -> None:
        archive = pack(folder / f"a{kind}", FILES)
        with pytest.raises(FacekitError, match="expected files in WIDER_train, got none"):
            unpack(archive, folder / "new", "WIDER_train", LIMITS, "")
        assert sorted(folder.iterdir()) == [archive]

    def test_folder_that_holds_something_stays(self, folder: Path, kind: str) -> None:
        (folder / "new").mkdir()
        (folder / "new" / "mine.txt").write_bytes(b"mine")
        refused(pack(folder / f"a{kind}", FILES))
        assert held(folder / "new") == {"mine.txt": b"mine"}

    @pytest.mark.parametrize(
        "name",
        ["/tmp/x", "../x", "a/../../x", "a/..", "C:/x", "C:x", "a\\..\\..\\x", "\\\\host\\x", "a:stream"],
    )
    def test_names_that_leave_the_folder(self, folder: Path, kind: str, name: str) -> None:
        # In what isn't asked for, too: such an archive is no data set.
        assert "may leave it" in refused(pack(folder / f"a{kind}", {"good.txt": b"", name: b"evil"}))

    def test_name_that_cannot_be_printed(self, folder: Path, kind: str) -> None:
        archive = pack(folder / f"a{kind}", FILES | {"Icon\r": b""})
        assert "can be printed" in refused(archive)
        unpack(archive, folder / "new", "top", LIMITS, "")  # it isn't in there

    def test_name_given_twice(self, folder: Path, kind: str) -> None:
        archive = folder / f"a{kind}"
        pack(archive, {"a.txt": b"a", "./a.txt": b"b"})
        assert "got it twice" in refused(archive)

    def test_file_where_a_folder_is(self, folder: Path, kind: str) -> None:
        refused(pack(folder / f"a{kind}", {"a": b"a", "a/b.txt": b"b"}))

    @pytest.mark.parametrize("files", [{f"{i}.txt": b"" for i in range(11)}, {"a": bytes(500), "b": bytes(501)}])
    def test_more_than_plausible(self, folder: Path, kind: str, files: dict[str, bytes]) -> None:
        assert "at most 10 entries and 1000 bytes" in refused(pack(folder / f"a{kind}", files))

    def test_damaged(self, folder: Path, kind: str) -> None:
        archive = pack(folder / f"a{kind}", {"a": bytes(range(256)) * 3})
        data = archive.read_bytes()
        for cut in (0, 1, len(data) // 2, len(data) - 1):
            archive.write_bytes(data[:cut])
            assert "damaged" in refused(archive)
        archive.write_bytes(b"<html>please log in</html>")
        assert "damaged" in refused(archive)

    def test_flipped_bytes(self, folder: Path, kind: str) -> None:
        archive = pack(folder / f"a{kind}", {"a": bytes(range(256)) * 3})
        data = archive.read_bytes()
        archive.write_bytes(data[:60] + bytes([data[60] ^ 255]) + data[61:])
        refused(archive)

    def test_disk_that_refuses(self, folder: Path, kind: str) -> None:
        archive = pack(folder / f"a{kind}", FILES)
        with pytest.raises(FacekitError, match="can't write there"):
            unpack(archive, archive / "new" / "place", "", LIMITS, "")


class TestKinds:
    @pytest.mark.parametrize(
        ("mode", "said"), [(stat.S_IFLNK, "symbolic link"), (stat.S_IFCHR, "device"), (stat.S_IFIFO, "device")]
    )
    def test_zip(self, folder: Path, mode: int, said: str) -> None:
        with zipfile.ZipFile(folder / "a.zip", "w") as content:
            info = zipfile.ZipInfo("link")
            info.external_attr = (mode | 0o777) << 16
            content.writestr(info, "/etc/passwd")
        assert said in refused(folder / "a.zip")

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            (tarfile.SYMTYPE, "symbolic link"),
            (tarfile.LNKTYPE, "hard link"),
            (tarfile.CHRTYPE, "device"),
            (tarfile.BLKTYPE, "device"),
            (tarfile.FIFOTYPE, "device"),
        ],
    )
    def test_tar(self, folder: Path, kind: bytes, said: str) -> None:
        with tarfile.open(folder / "a.tgz", "w:gz") as content:
            info = tarfile.TarInfo("link")
            info.type = kind
            info.linkname = "/etc/passwd"
            content.addfile(info)
        assert said in refused(folder / "a.tgz")

    def test_name_with_nul(self, folder: Path) -> None:
        archive = pack(folder / "a.zip", {"good.txtXevil": b""})
        archive.write_bytes(archive.read_bytes().replace(b"txtX", b"txt\0"))
        assert "may leave it" in refused(archive)

    def test_encrypted_zip(self, folder: Path) -> None:
        archive = pack(folder / "a.zip", {"a": b"abc"})
        data = bytearray(archive.read_bytes())
        data[6] |= 1  # the flag in the member's header, and in the directory at the end
        data[data.index(b"PK\1\2") + 8] |= 1
        archive.write_bytes(bytes(data))
        assert "damaged" in refused(archive)

    @pytest.mark.parametrize(("size", "declared"), [(100_000, 10), (300, 400)])
    def test_zip_that_lies_about_its_size(self, folder: Path, size: int, declared: int) -> None:
        archive = pack(folder / "a.zip", {"a": bytes(size)})
        honest, lie = (number.to_bytes(4, "little") for number in (size, declared))
        assert honest in archive.read_bytes()
        archive.write_bytes(archive.read_bytes().replace(honest, lie))
        refused(archive)

    def test_tar_bomb_in_its_headers(self, folder: Path) -> None:
        with tarfile.open(folder / "a.tgz", "w:gz", format=tarfile.PAX_FORMAT) as content:
            content.addfile(tarfile.TarInfo("a"))
            info = tarfile.TarInfo("b")
            info.pax_headers = {"comment": "x" * 1_000_000}
            content.addfile(info)
        assert "more than the data set could have" in refused(folder / "a.tgz")

    def test_modes_are_not_taken_over(self, folder: Path) -> None:
        with tarfile.open(folder / "a.tgz", "w:gz") as content:
            info = tarfile.TarInfo("a")
            info.mode = 0o6777
            content.addfile(info)
        unpack(folder / "a.tgz", folder / "new", "", LIMITS, "")
        assert not (folder / "new" / "a").stat().st_mode & 0o6111


@given(names=st.lists(st.text("ab./\\:-", min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
def test_whatever_the_names_nothing_lands_outside(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("top")
    folder = top / "1" / "2" / "3"
    folder.mkdir(parents=True)
    archive = pack(folder / "a.tgz", dict.fromkeys(names, b"x"))
    try:
        unpack(archive, folder / "new", "", LIMITS, "")
    except FacekitError:
        assert sorted(held(top)) == ["1/2/3/a.tgz"]
    else:
        assert all(name.startswith(("1/2/3/new/", "1/2/3/a.tgz")) for name in held(top))
