from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit.errors import FacekitError
from facekit.pictures.inputs import PictureReader, find_inputs, input_of
from tests.conftest import Server
from tests.pictures.support import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("in/b.jpg", "in/a/c.png", "one.jpg"):
        picture(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("x")
    return tmp_path


def test_names_in_their_order_each_once(folder: Path) -> None:
    found = find_inputs([str(folder / "one.jpg"), str(folder / "in"), str(folder / "in" / "*.jpg")])
    assert [item.below for item in found] == ["one.jpg", "a/c.png", "b.jpg"]
    assert found.total == 3 and not found.losses
    assert find_inputs([str(folder / "in" / "*.jpg")]).named[0].below == "b.jpg"


def test_what_is_missing_has_a_row_beside_others(folder: Path) -> None:
    found = find_inputs([str(folder / "one.jpg"), str(folder / "gone.jpg"), str(folder / "*.gif")])
    assert [Path(item.place).name for item in found] == ["one.jpg", "gone.jpg"]
    assert [loss.what for loss in found.losses] == [str(folder / "*.gif")]
    with pytest.raises(FacekitError, match=r"Did you mean .*one\.jpg"):
        find_inputs([str(folder / "on.jpg")])


def test_lists_are_streamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = f"{folder}/one.jpg\r\n\n/gone/../x.jpg\nhttp://host/p.jpg?token=secret\nc\udcff.jpg\n"
    (folder / "list.txt").write_bytes(lines.encode("utf-8", "surrogateescape"))
    found = find_inputs([], folder / "list.txt")
    assert found.total == 4
    assert [item.source for item in found][1:] == ["/gone/../x.jpg", "http://host/p.jpg?token=***", "c\udcff.jpg"]
    assert [item.below for item in found][1:] == ["gone/x.jpg", "host/p.jpg", "c\udcff.jpg"]

    class Stdin:
        buffer = io.BytesIO(b"a.jpg\nb.jpg\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    piped = find_inputs([], Path("-"))
    assert piped.total is None and [item.place for item in piped] == ["a.jpg", "b.jpg"]
    (folder / "list.txt").write_bytes(b"\x00\x01" * 50)
    with pytest.raises(FacekitError, match=r"list\.txt:1: expected a path"):
        find_inputs([], folder / "list.txt")


@pytest.mark.parametrize(
    ("name", "kind", "below"),
    [
        ("-", "stdin", "stdin.jpg"), ("0", "video", "camera_0.mp4"), ("a/b.MP4", "video", "a/b.MP4"),
        ("rtsp://user:pw@host/live", "video", "host/live.mp4"), ("https://host/a/b.png", "address", "host/a/b.png"),
        ("https://host/a%2F..%2Fb", "address", "host/a/b.jpg"), ("https://host/s.m3u8", "video", "host/s.mp4"),
        ("../x.jpg", "file", "x.jpg"),
    ],
)  # fmt: skip
def test_kinds(name: str, kind: str, below: str) -> None:
    item = input_of(name)
    assert (item.kind, item.below) == (kind, below)
    assert "pw" not in item.source


def test_other_schemes_are_refused() -> None:
    with pytest.raises(FacekitError, match="ftp:// is not read"):
        input_of("ftp://host/a.jpg")


class TestAddressesOfFiles:
    def test_are_paths(self, folder: Path) -> None:
        (folder / "one.jpg").rename(folder / "die eins.jpg")
        found = find_inputs([f"file://{folder}/die%20eins.jpg", f"file://localhost{folder}/in/*.jpg"])
        assert [Path(item.place) for item in found] == [folder / "die eins.jpg", folder / "in" / "b.jpg"]
        assert [item.below for item in found] == ["die eins.jpg", "b.jpg"] and len(found.files) == 2
        (folder / "list.txt").write_text(f"file://{folder}/die%20eins.jpg\n")
        assert [item.place for item in find_inputs([], folder / "list.txt")] == [f"{folder}/die eins.jpg"]

    def test_of_another_machine(self, folder: Path) -> None:
        found = find_inputs([str(folder / "in"), "file://host/a.jpg"])
        assert [str(loss) for loss in found.losses] == [
            "file://host/a.jpg: expected file:///PATH, of this machine. Check the address."
        ]

    def test_that_are_missing(self, folder: Path) -> None:
        found = find_inputs([str(folder / "in"), f"file://{folder}/gone.jpg"])
        assert [item.place for item in found][-1] == f"{folder}/gone.jpg"


class TestReading:
    def test_addresses(self, server: Server) -> None:
        grey = np.full((20, 30, 3), 90, np.uint8)
        server.files["a.png"] = cv2.imencode(".png", grey)[1].tobytes()
        server.content_type = "image/png"
        assert (PictureReader()(input_of(server.url("a.png"))) == grey).all()
        with pytest.raises(FacekitError, match="404"):
            PictureReader()(input_of(server.url("gone.png")))
        server.cut_after = 10
        with pytest.raises(FacekitError, match="cut off"):
            PictureReader()(input_of(server.url("a.png")))
        server.cut_after, server.content_type = None, "text/html"
        with pytest.raises(FacekitError, match="offers text/html, not a picture"):
            PictureReader()(input_of(server.url("a.png")))

    def test_frames_of_an_address_are_counted(self, server: Server, tmp_path: Path) -> None:
        frames = cv2.Animation()
        frames.frames, frames.durations = [np.full((20, 30, 3), grey, np.uint8) for grey in (0, 90, 180)], [100] * 3
        cv2.imwriteanimation(str(tmp_path / "a.gif"), frames)
        server.files["a.gif"], server.content_type = (tmp_path / "a.gif").read_bytes(), "image/gif"
        read, item = PictureReader(), input_of(server.url("a.gif"))
        read(item)
        assert (read.left_out(item) or "").startswith("2 of its 3 frames or pages")

    def test_bytes_are_bounded(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facekit.pictures.inputs.ADDRESS_BYTES", 1000)
        server.files["a.png"], server.content_type = b"\x89PNG" + b"x" * 2000, "image/png"
        for server.says_length in (True, False):
            with pytest.raises(FacekitError, match=r"over 1000|more bytes"):
                PictureReader()(input_of(server.url("a.png")))


def test_names_tell_no_password() -> None:
    item = input_of("rtsp://10.0.0.1/user=admin_password=geheim_channel=1_stream=0.sdp?real_stream")
    assert item.below == "10.0.0.1/user_admin_password____.mp4" and "geheim" not in item.source
