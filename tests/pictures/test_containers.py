"""A "video" that names other files is not followed: they may be anybody's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from facekit.cluster.stores import Entry
from facekit.cluster.videos import shards_of
from facekit.errors import FacekitError
from facekit.pictures import frames as opening
from facekit.pictures.av_video import AvVideo
from facekit.pictures.containers import lists_others
from facekit.pictures.frames import open_frames
from facekit.pictures.video import find_source
from tests.cli.support import fails
from tests.pictures.av_support import make

LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile other.ts\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nother.ts\n#EXT-X-ENDLIST\n",
}
READERS = pytest.mark.parametrize("reads_by_av", [True, False])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("other") / "other.ts", range(0, 400, 40), sound=False)


@READERS
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8"])
def test_a_list_is_refused(
    other: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, reads_by_av: bool
) -> None:  # fmt: skip
    if not reads_by_av:
        monkeypatch.setattr(opening, "has_av", lambda: False)
    path = other.with_name(name)
    path.write_text(LISTS[kind])
    with pytest.raises(FacekitError, match=r"a list of other files, which is not followed\. Give the videos"):
        open_frames(find_source(str(path)))
    with pytest.raises(FacekitError, match="a list of other files"):
        open_frames(find_source(f"file://{path}"))
    (shard,) = shards_of(Entry(str(path), None), 1)
    assert shard.pictures is None


def test_what_is_named_by_a_list_is_not_written_over(other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = other.read_bytes()
    other.with_name("evil.mp4").write_text(LISTS["ffconcat"])
    evil = other.with_name("evil.mp4")
    assert "a list of other files" in fails(capsys, "anonymize", evil, "-o", other.with_name("out.mp4"))
    assert "facekit didn't write it" in fails(capsys, "anonymize", evil, "-o", other)
    assert other.read_bytes() == before


@READERS
def test_a_name_is_no_protocol(other: Path, monkeypatch: pytest.MonkeyPatch, reads_by_av: bool) -> None:
    if not reads_by_av:
        monkeypatch.setattr(opening, "has_av", lambda: False)
    monkeypatch.chdir(other.parent)
    Path("concat:other.ts").write_bytes(b"nothing of a video")
    with pytest.raises(FacekitError, match="not a video"):
        open_frames(find_source("concat:other.ts"))


@READERS
@pytest.mark.parametrize(("name", "codec"), [
    ("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"),
    ("a.ts", "libx264"), ("a.mpg", "mpeg2video"), ("a.flv", "libx264"), ("a.wmv", "msmpeg4v3"), ("a.3gp", "mpeg4"),
    ("a.mxf", "mpeg2video"), ("a.ogv", "libvpx"), ("a.h264", "libx264"), ("a.hevc", "libx265"), ("a.m4v", "mpeg4"),
])  # fmt: skip
def test_what_holds_its_pictures_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, reads_by_av: bool
) -> None:
    path = make(tmp_path / name, range(0, 400, 40), size_wh=(128, 96), sound=False, codec=codec,
                **({"time_base": Fraction(1, 25)} if codec == "mpeg2video" else {}))  # fmt: skip
    if not reads_by_av:
        monkeypatch.setattr(opening, "has_av", lambda: False)
    with open_frames(find_source(str(path))) as video:
        assert isinstance(video, opening.AvVideo) == reads_by_av
        assert len(list(video.frames())) == 10
        assert not reads_by_av or not video.losses()


@pytest.mark.parametrize(("head", "expected"), [
    (b"ffconcat version 1.0", True), (b"\xef\xbb\xbf#EXTM3U", True), (b'<?xml version="1.0"?>\n<MPD xmlns=', True),
    (b"v=0\no=- 0 0", True), (b"RIFF....AVI ", False), (b"\0\0\0\x18ftypisom", False), (b"<?xml?><svg>", False),
])  # fmt: skip
def test_lists_are_known_by_their_beginning(head: bytes, expected: bool) -> None:
    assert lists_others(head) == expected


def test_a_transport_stream_that_ends_within_a_packet_is_cut_off(tmp_path: Path) -> None:
    """It has no length of its own."""
    whole = make(tmp_path / "a.ts", range(0, 400, 40)).read_bytes()
    cut = ["cut off or damaged: it ends within a packet of its stream"]
    for left_out, expected in ((0, []), (188, []), (100, cut)):
        (tmp_path / "a.ts").write_bytes(whole[: len(whole) - left_out])
        with AvVideo(tmp_path / "a.ts") as reader:
            assert sum(1 for _ in reader.frames()) >= 9
        assert [loss.why for loss in reader.losses()] == expected
