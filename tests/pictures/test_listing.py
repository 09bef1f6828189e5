from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from facekit.errors import FacekitError
from facekit.pictures.listing import list_pictures
from facekit.pictures.write import write_picture
from tests.pictures.support import black


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def found(*names: object, output: Path | None = None) -> list[Path]:
    return list_pictures([str(name) for name in names], output).pictures


class TestNames:
    def test_file(self, folder: Path) -> None:
        assert found(folder / "b.jpg") == [folder / "b.jpg"]

    def test_folder(self, folder: Path) -> None:
        names = ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.jpeg"]
        assert found(folder) == [folder / name for name in names]

    @pytest.mark.parametrize(("pattern", "names"), [
        ("*.jpg", ["b.jpg"]), ("*", ["a.PNG", "b.jpg"]), ("**/*.jp*g", ["b.jpg", "sub/deep/d.jpeg"]),
        ("sub/?.webp", ["sub/c.webp"]),
    ])  # fmt: skip
    def test_glob(self, folder: Path, pattern: str, names: list[str]) -> None:
        assert found(folder / pattern) == [folder / name for name in names]

    def test_several_in_their_order_each_once(self, folder: Path) -> None:
        names = (folder / "sub", folder / "b.jpg", folder / "sub" / "c.webp", folder / "sub" / ".." / "b.jpg")
        listing = list_pictures([str(name) for name in names])
        assert listing.pictures == [folder / "sub" / "c.webp", folder / "sub" / "deep" / "d.jpeg", folder / "b.jpg"]
        assert not listing.losses

    def test_a_name_that_looks_like_a_glob(self, folder: Path) -> None:
        (folder / "a[1].jpg").touch()
        assert found(folder / "a[1].jpg") == [folder / "a[1].jpg"]

    @pytest.mark.parametrize("name", ["none.jpg", "*.xyz", "empty", "sub/*.txt"])
    def test_nothing(self, folder: Path, name: str) -> None:
        (folder / "empty").mkdir()
        with pytest.raises(FacekitError, match=r"`images` .*no pictures there.*Give a file, a folder or a quoted"):
            list_pictures([str(folder / name)])

    def test_one_name_of_several_stands_for_nothing(self, folder: Path) -> None:
        listing = list_pictures([str(folder / "none.jpg"), str(folder / "b.jpg")])
        assert listing.pictures == [folder / "b.jpg"]
        (loss,) = listing.losses
        assert loss.what == f"`images` {folder / 'none.jpg'}"
        assert "no such file" in loss.why

    def test_video(self, folder: Path) -> None:
        (folder / "a.mp4").touch()
        with pytest.raises(FacekitError, match=r"a video\. Give it as `video="):
            list_pictures([str(folder / "a.mp4")])


class TestPassedOver:
    def test_is_counted_and_named(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        for name in ("x.TXT", "y.psd", "bare", "._b.jpg"):
            (folder / name).touch()
        os.mkfifo(folder / "pipe.jpg")
        listing = list_pictures([str(folder)])
        assert len(listing.pictures) == 4
        assert listing.passed_over == {
            ".txt": 2, ".psd": 1, "without suffix": 1, "half-written or of macOS": 1, "pipes or devices": 1,
        }  # fmt: skip
        with caplog.at_level(logging.INFO, "facekit"):
            listing.say()
        assert "Passed over, no pictures: 6 (2 .txt, " in caplog.text

    def test_what_could_be_given_by_name(self, folder: Path) -> None:
        (folder / "a.mp4").touch()
        (folder / "b.MOV").touch()
        write_picture(folder / "drawn.jpg", black())
        listing = list_pictures([str(folder)])
        left_out = listing.left_out("in", set())
        assert [loss.why.split(" are ")[0] for loss in left_out] == ["2 videos", "1 pictures that facekit drew"]
        (loss,) = listing.left_out("in", {folder / "a.mp4", folder / "b.MOV"})  # by name, too
        assert loss.why.startswith("1 pictures")
        write_picture(folder / "out" / "new.jpg", black())
        assert list_pictures([str(folder)], folder / "out").left_out("in", set())[1].why.startswith("1 pictures")

    def test_heic_and_avif_are_pictures(self, folder: Path) -> None:
        for name in ("x.heic", "y.AVIF", "z.heif"):
            (folder / name).touch()
        assert {path.name for path in found(folder)} > {"x.heic", "y.AVIF", "z.heif"}

    def test_broken_links_are_not_hidden(self, folder: Path) -> None:
        (folder / "gone.jpg").symlink_to(folder / "none.jpg")
        assert folder / "gone.jpg" in found(folder)

    def test_linked_folders(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / "e.jpg").touch()
        for name in ("link2", "link"):
            (folder / "sub" / name).symlink_to(elsewhere)
        (folder / "a link").symlink_to(folder / "sub" / "deep")
        assert folder / "sub" / "link" / "e.jpg" in found(folder)
        assert len(found(folder)) == 5 and folder / "sub" / "deep" / "d.jpeg" in found(folder)
        assert len(found(folder, output=elsewhere)) == 4

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_is_not_ours(self, folder: Path) -> None:
        (folder / "sub").chmod(0)
        (loss,) = list_pictures([str(folder)]).losses
        (folder / "sub").chmod(0o755)
        assert "can't be read" in loss.why

    def test_loop_of_links(self, folder: Path) -> None:
        (folder / "sub" / "loop").symlink_to(folder)
        assert len(found(folder)) == 4

    def test_picture_that_links_to_itself(self, folder: Path) -> None:
        (folder / "round.jpg").symlink_to("round.jpg")
        assert folder / "round.jpg" in found(folder)  # reading it says why not
        assert list_pictures([str(folder / "round.jpg")]).pictures == [folder / "round.jpg"]


class TestOwnOutputs:
    """P9: an output folder inside the input folder."""

    @pytest.mark.parametrize("pattern", ["", "**/*"])
    def test_the_output_folder_is_not_searched(self, folder: Path, pattern: str) -> None:
        (folder / "out").mkdir()
        (folder / "out" / "b.jpg").touch()
        listing = list_pictures([str(folder / pattern)], folder / "sub" / ".." / "out")
        assert len(listing.pictures) == 4
        assert listing.drawn == 1

    def test_what_an_earlier_run_drew_into_another_folder(self, folder: Path) -> None:
        write_picture(folder / "earlier" / "b.jpg", black())
        assert len(found(folder, output=folder / "out")) == 4
        assert found(folder / "earlier" / "b.jpg") == [folder / "earlier" / "b.jpg"]  # by name it is taken

    def test_nothing_else(self, tmp_path: Path) -> None:
        write_picture(tmp_path / "b.jpg", black())
        with pytest.raises(FacekitError, match="all 1 pictures there were drawn by facekit"):
            list_pictures([str(tmp_path)])

    def test_the_searched_folder_itself_is_searched(self, folder: Path) -> None:
        """Writing there is refused elsewhere, with the true reason."""
        assert len(found(folder, output=folder)) == 4
        assert len(found(folder, output=folder.parent)) == 4
