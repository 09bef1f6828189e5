from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from facekit.base.files import (
    check_not_input,
    check_outputs,
    check_writable_folder,
    is_half_written,
    link_or_copy,
    making_folder,
    note_inputs,
    protecting,
    remove_leftovers,
    replacing,
    replacing_set,
    write_text,
)
from facekit.base.reading import read_input
from facekit.errors import ArgumentError, FacekitError

# Tests may run as root, who may write anywhere: but not below a file, and not in /proc.
PROC = Path("/proc/facekit-tests")


@pytest.fixture
def below_a_file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("old")
    return file / "folder"


class TestReplacing:
    def test_writes_and_makes_the_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "c.txt"
        with replacing(path) as beside:
            assert beside.parent == path.parent
            assert beside.suffix == ".txt"  # cv2 and torch look at it
            assert not path.exists()
            beside.write_text("new")
        assert path.read_text() == "new"
        assert [p.name for p in path.parent.iterdir()] == ["c.txt"]

    def test_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "c.txt"
        path.write_text("old")
        with replacing(path) as beside:
            beside.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"

    @pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), FacekitError("x"), OSError(28, "full")])
    def test_failure_leaves_the_old_file_and_no_leftovers(self, tmp_path: Path, error: BaseException) -> None:
        path = tmp_path / "c.txt"
        path.write_text("old")
        expected = FacekitError if isinstance(error, OSError) else type(error)
        with pytest.raises(expected), replacing(path) as beside:
            beside.write_text("half")
            raise error
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_full_disk_is_told_with_its_place(self, tmp_path: Path) -> None:
        path = tmp_path / "c.txt"
        with pytest.raises(FacekitError, match=rf"{path}: can't be written \(full\)\. Choose"), replacing(path):
            raise OSError(28, "full")
        assert not list(tmp_path.iterdir())

    def test_nothing_written_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "c.txt"
        path.write_text("old")
        with pytest.raises(FacekitError, match="can't be written"), replacing(path):
            pass
        assert path.read_text() == "old"

    def test_below_a_file(self, below_a_file: Path) -> None:
        with pytest.raises(FacekitError, match=f"{below_a_file / 'c.txt'}: can't be written"):
            write_text(below_a_file / "c.txt", "new")
        assert below_a_file.parent.read_text() == "old"

    def test_in_proc(self) -> None:
        with pytest.raises(FacekitError, match="Choose a place"):
            write_text(PROC / "c.txt", "new")

    def test_folder_is_not_replaced(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        with pytest.raises(FacekitError, match="can't be written"):
            write_text(folder, "new")
        assert list(tmp_path.iterdir()) == [folder]

    @pytest.mark.parametrize("path", [".", "", "/"])
    def test_no_file_name(self, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FacekitError, match="can't be written"):
            write_text(Path(path), "new")
        assert not list(tmp_path.iterdir())

    def test_name_longer_than_the_disk_takes(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="name too long"):
            write_text(tmp_path / ("n" * 300), "new")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.txt"
    path.parent.mkdir()
    path.write_text("mine")
    return path


def names_of(source: Path) -> list[Path]:
    """Other names of the file."""
    top = source.parent.parent
    (top / "link.txt").symlink_to(source)
    (top / "relative.txt").symlink_to(Path("in") / "a.txt")
    (top / "folder").symlink_to(source.parent)
    os.link(source, top / "hard.txt")
    return [source, top / "link.txt", top / "relative.txt", top / "folder" / "a.txt", top / "hard.txt",
            source.parent / ".." / "in" / "." / "a.txt"]  # fmt: skip


class TestInputsAreSacred:
    def test_whatever_the_name(self, source: Path) -> None:
        names = names_of(source)
        for read in names:
            for written in names:
                with pytest.raises(FacekitError, match="would be written over, but this command reads it"):
                    check_outputs([read], [written])
                with protecting([read]), pytest.raises(FacekitError, match="Choose another name"):
                    write_text(written, "new")
        assert source.read_text() == "mine"

    def test_from_the_working_folder(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(source.parent)
        with pytest.raises(FacekitError, match=r"a\.txt: would be written over"):
            check_outputs([source], [Path("a.txt")])

    def test_what_is_found_later_is_read_too(self, source: Path) -> None:
        with protecting([source.parent], [source]), pytest.raises(FacekitError, match="this command reads it"):
            note_inputs([source])
        with protecting([source.parent]):
            write_text(source, "new")  # of a folder, only what is known to be read
            note_inputs([source])
            with pytest.raises(FacekitError, match="this command reads it"):
                write_text(source, "newer")
        assert source.read_text() == "new"
        note_inputs([source])  # outside of any command
        check_not_input(source)

    def test_what_is_opened_as_input(self, source: Path) -> None:
        with protecting([]):
            write_text(source, "mine")
            assert read_input(source, 100) == b"mine"
            with pytest.raises(FacekitError, match="this command reads it"):
                write_text(source, "new")

    def test_a_graph_is_two_files(self, source: Path) -> None:
        for suffix in (".xml", ".bin"):
            (source.parent / f"model{suffix}").write_text("mine")
        with pytest.raises(FacekitError, match=r"model\.bin: would be written over"):
            check_outputs([source.parent / "model.xml"], [source.parent / "model.bin"])

    def test_other_files_are_free(self, source: Path) -> None:
        (source.parent / "b.txt").write_text("other")
        check_outputs([source, None, source.parent / "none"], [source.parent / "b.txt", None, source.parent / "c.txt"])
        with protecting([source]):
            write_text(source.parent / "b.txt", "new")
        assert (source.parent / "b.txt").read_text() == "new"

    def test_two_outputs_of_one_name(self, source: Path) -> None:
        link = source.parent / "link"
        link.symlink_to(source.parent)
        with pytest.raises(ArgumentError, match="two outputs would be this one file"):
            check_outputs([], [source.parent / "new.txt", link / "new.txt"])

    def test_nested_and_left(self, source: Path) -> None:
        with protecting([source]):
            with protecting([source, source.parent]):
                pass
            with pytest.raises(FacekitError):
                check_not_input(source)
        check_not_input(source)
        write_text(source, "new")
        assert source.read_text() == "new"

    def test_in_other_threads(self, source: Path) -> None:
        errors: list[BaseException] = []

        def write() -> None:
            try:
                write_text(source, "new")
            except FacekitError as error:
                errors.append(error)

        with protecting([source]):
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        assert len(errors) == 1
        assert source.read_text() == "mine"

    def test_second_names_and_copies(self, source: Path) -> None:
        other = source.parent / "b.txt"
        other.write_text("other")
        with protecting([source]), pytest.raises(FacekitError, match="this command reads it"):
            link_or_copy(other, source)
        assert source.read_text() == "mine"


@pytest.mark.parametrize("name", ["n" * 240 + ".txt", "n" * 205 + "." + "s" * 40, "n." + "s" * 250, "写" * 84 + ".jp"])
def test_a_name_almost_too_long(tmp_path: Path, name: str) -> None:
    with replacing(tmp_path / name) as beside:
        beside.write_text("new")
        assert beside.name.encode() and is_half_written(beside)
    assert (tmp_path / name).read_text() == "new"
    with making_folder(tmp_path / "sets" / name) as folder:
        (folder / "a").touch()
    assert (tmp_path / "sets" / name / "a").is_file()


class TestIsHalfWritten:
    @pytest.mark.parametrize("name", ["a.txt", "a b.tar.gz", "noend", ".hidden", "ä\nb.json"])
    def test_what_replacing_writes_to(self, tmp_path: Path, name: str) -> None:
        with replacing(tmp_path / name) as beside:
            beside.touch()
            assert is_half_written(beside)
        assert not is_half_written(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.12.part.txt", ".a.txt", "._a.jpg", ".part", ".a.part.txt", ".a.b.part"])
    def test_others(self, name: str) -> None:
        assert not is_half_written(Path(name))


class TestCheckWritableFolder:
    def test_makes_it_and_leaves_it_empty(self, tmp_path: Path) -> None:
        check_writable_folder(tmp_path / "a" / "b")
        assert not list((tmp_path / "a" / "b").iterdir())

    def test_keeps_what_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "c.txt").write_text("old")
        check_writable_folder(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["c.txt"]

    def test_below_a_file(self, below_a_file: Path) -> None:
        with pytest.raises(FacekitError, match=rf"{below_a_file}: can't write there \(Not a directory\)"):
            check_writable_folder(below_a_file)

    def test_a_file_itself(self, below_a_file: Path) -> None:
        with pytest.raises(FacekitError, match="can't write there"):
            check_writable_folder(below_a_file.parent)

    def test_in_proc(self) -> None:
        with pytest.raises(FacekitError, match="Choose another output folder"):
            check_writable_folder(PROC)


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "c.txt", "Gesichter ähnlich → 脸")
    assert (tmp_path / "c.txt").read_bytes().decode("utf-8") == "Gesichter ähnlich → 脸"


def refuse_link(*_: object, **__: object) -> None:
    raise OSError(1, "Operation not permitted")


class TestLinkOrCopy:
    def test_second_name(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("new")
        (tmp_path / "b").write_text("old")
        link_or_copy(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").read_text() == "new"
        assert (tmp_path / "b").samefile(tmp_path / "a")

    def test_copy_where_links_are_unknown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "link", refuse_link)
        (tmp_path / "a").write_text("new")
        link_or_copy(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b").read_text() == "new"
        assert not (tmp_path / "b").samefile(tmp_path / "a")
        assert len(list(tmp_path.iterdir())) == 2

    def test_missing_source(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match="can't be written"):
            link_or_copy(tmp_path / "none", tmp_path / "b")


class TestReplacingSet:
    def test_all_or_none(self, tmp_path: Path) -> None:
        for name in ("a.xml", "a.bin", "other"):
            (tmp_path / name).write_text("old")
        with pytest.raises(FacekitError, match="x"), replacing_set(tmp_path) as together:
            (together / "a.xml").write_text("new")
            raise FacekitError("x")
        assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}
        with replacing_set(tmp_path) as together:
            for name in ("a.xml", "a.bin"):
                write_text(together / name, "new")
                assert (tmp_path / name).read_text() == "old"
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "a.xml": "new", "a.bin": "new", "other": "old",
        }  # fmt: skip

    def test_never_over_what_is_read(self, source: Path) -> None:
        refused = pytest.raises(FacekitError, match="this command reads it")
        with protecting([source]), refused, replacing_set(source.parent) as together:
            (together / "0.txt").write_text("new")
            (together / source.name).write_text("new")
        assert [path.name for path in source.parent.iterdir()] == [source.name]
        assert source.read_text() == "mine"

    def test_an_inner_failure_names_the_place_that_was_meant(self, tmp_path: Path) -> None:
        refused = pytest.raises(FacekitError, match=rf"^{tmp_path}/a: can't be written")
        with refused, replacing_set(tmp_path) as together:
            (together / "a").mkdir()
            write_text(together / "a", "new")

    @pytest.mark.parametrize("in_the_way", ["folder", "file"])
    def test_a_place_that_is_taken(self, tmp_path: Path, in_the_way: str) -> None:
        """Found before the first file is moved: the one before it in the alphabet stays."""
        (tmp_path / "a.bin").write_text("old")
        if in_the_way == "folder":
            (tmp_path / "sub" / "b").mkdir(parents=True)
        else:
            (tmp_path / "sub").write_text("old")
        refused = pytest.raises(FacekitError, match=rf"b: can't be written: .*{in_the_way}.* move it away first")
        with refused, replacing_set(tmp_path) as together:
            (together / "sub").mkdir()
            for name in ("a.bin", "sub/b", "new"):
                (together / name).write_text("new")
        assert (tmp_path / "a.bin").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "sub"]

    @pytest.mark.parametrize("has_links", [True, False])
    @pytest.mark.parametrize("trouble", [OSError("no space"), KeyboardInterrupt()])
    def test_a_failure_midway_puts_the_old_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool, trouble: BaseException
    ) -> None:
        (tmp_path / "a.bin").write_text("old")
        (tmp_path / "a.xml").write_text("old")
        (tmp_path / "elsewhere").write_text("old")
        (tmp_path / "b").symlink_to("elsewhere")
        move = Path.replace

        def replace(source: Path, target: Path) -> Path:
            if target == tmp_path / "d":
                raise trouble
            return move(source, target)

        monkeypatch.setattr(Path, "replace", replace)
        if not has_links:
            monkeypatch.setattr(os, "link", refuse_link)
        with pytest.raises((FacekitError, KeyboardInterrupt)), replacing_set(tmp_path) as together:
            for name in ("a.bin", "a.xml", "b", "c", "d"):
                (together / name).write_text("new")
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
            "a.bin": "old", "a.xml": "old", "b": "old", "elsewhere": "old",
        }  # fmt: skip
        assert (tmp_path / "b").is_symlink()

    def test_pairs_move_together_and_what_tells_of_them_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moved, move = [], Path.replace
        monkeypatch.setattr(Path, "replace", lambda source, target: moved.append(target.name) or move(source, target))
        with replacing_set(tmp_path) as together:
            for name in ("README.md", "m.bin", "m.mnn", "m.ncnn.bin", "m.ncnn.param", "m.xml"):
                (together / name).write_text("new")
        assert moved == ["m.bin", "m.xml", "m.ncnn.bin", "m.ncnn.param", "m.mnn", "README.md"]

    def test_folder_that_cannot_be_made(self, below_a_file: Path) -> None:
        with pytest.raises(FacekitError, match="can't be written"), replacing_set(below_a_file):
            pass


class TestMakingFolder:
    @pytest.mark.parametrize("exists", [False, True])
    def test_whole_or_not_at_all(self, tmp_path: Path, exists: bool) -> None:
        folder = tmp_path / "set"
        if exists:
            folder.mkdir()
        with pytest.raises(FacekitError, match="x"), making_folder(folder) as place:
            (place / "a").write_text("new")
            raise FacekitError("x")
        assert not folder.exists() or not list(folder.iterdir())
        with making_folder(folder) as place:
            assert place.name == "set"
            (place / "sub").mkdir()
            (place / "sub" / "a").write_text("new")
        assert (folder / "sub" / "a").read_text() == "new"
        assert [path.name for path in tmp_path.iterdir()] == ["set"]

    def test_what_is_there_stays(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("mine")
        with making_folder(tmp_path) as place:
            (place / "a").write_text("new")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "mine"]


def test_leftovers_of_dead_processes_go(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f".latest.{dead.pid}.part.pth", f".epoch_1.{os.getpid()}.part.pth", ".a.part.pth", "b.1.part.pth"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / f".set.{dead.pid}.part" / "sub").mkdir(parents=True)
    (tmp_path / f".bare.{dead.pid}.part").touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_files_of_facekit_itself_are_not_written_over(project_dir: Path, tmp_path: Path) -> None:
    """Whether or not a command knows that it reads them."""
    own = project_dir / "data" / "demo" / "astronaut.jpg"
    (tmp_path / "link.jpg").symlink_to(own)
    before = own.read_bytes()
    for path in (own, tmp_path / "link.jpg", project_dir / "facekit" / "py.typed"):
        with pytest.raises(FacekitError, match="is a file of facekit itself"), replacing(path) as beside:
            beside.write_bytes(b"lost")
        with pytest.raises(FacekitError, match="is a file of facekit itself"):
            check_outputs([], [path])
    assert own.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes lie among files")
def test_devices_and_pipes_stay(tmp_path: Path) -> None:
    """As root a file would take the place of /dev/null, for the whole machine."""
    os.mkfifo(tmp_path / "fifo")
    for name, target in (("printed", "/dev/stdout"), ("open", "/proc/self/fd/1"), ("null", "/dev/null")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "link.txt").symlink_to("to.txt")
    own = [tmp_path / name for name in ("fifo", "printed", "open", "null")]
    for path in [*map(Path, ("/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")), *own]:
        for refused in (lambda path=path: check_outputs([], [path]), lambda path=path: check_not_input(path)):
            with pytest.raises(FacekitError, match="is a device or a pipe"):
                refused()
    with pytest.raises(FacekitError, match="is a device or a pipe"):
        write_text(tmp_path / "fifo", "a")
    write_text(tmp_path / "link.txt", "a")
    assert (tmp_path / "fifo").is_fifo() and (tmp_path / "null").is_symlink()
