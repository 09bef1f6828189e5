"""Video through PyAV: what goes in comes out."""

from __future__ import annotations

import math
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekit.errors import ArgumentError, FacekitError
from facekit.pictures import frames as opening
from facekit.pictures.av_file import AvFile
from facekit.pictures.av_video import AvVideo, Frame
from facekit.pictures.frames import open_frames, open_sink
from facekit.pictures.spans import Spans
from facekit.pictures.video import find_source
from tests.pictures.av_support import av, make, sound_of, times_ms
from tests.pictures.support import video

VARYING = [0, 40, 50, 130, 140, 300, 340, 345, 500, 520, 640, 800]


def copied(source: Path, target: Path, spans: Spans | None = None, sound: bool = True) -> AvFile:
    with AvVideo(source, spans, wants_others=True) as reader, AvFile(target, reader, reader.fps, sound) as sink:
        for frame in reader.frames():
            sink.write(frame, frame.image_bgr)
    assert not reader.losses() and not sink.losses
    return sink


def test_times_sound_and_looks_are_kept(tmp_path: Path) -> None:
    """A varying rate, in BT.709."""
    source = make(tmp_path / "a.mp4", VARYING, colorspace=1, color_primaries=1, color_trc=1, color_range=1)
    copied(source, tmp_path / "b.mp4")
    assert times_ms(tmp_path / "b.mp4") == VARYING
    assert np.array_equal(sound_of(tmp_path / "b.mp4"), sound_of(source))
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.colorspace, context.color_range, context.color_trc) == ("h264", 1, 1, 1)
    copied(source, tmp_path / "mute.mkv", sound=False)
    with av.open(str(tmp_path / "mute.mkv")) as container:
        assert not container.streams.audio
    greys = []
    for path in (source, tmp_path / "b.mp4"):
        with AvVideo(path) as reader:
            greys.append([frame.image_bgr.mean() for frame in reader.frames()])
    assert np.allclose(greys[0], greys[1], atol=4) and len(greys[0]) == 12


def test_names_that_look_like_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their colon, where no folder stands before."""
    make(tmp_path / "12:30.mp4", VARYING)
    monkeypatch.chdir(tmp_path)
    assert copied(Path("12:30.mp4"), Path("12:31.mp4")).written == len(VARYING)
    assert times_ms(tmp_path / "12:31.mp4") == VARYING


def test_by_ffprobe(tmp_path: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("needs ffprobe")
    copied(make(tmp_path / "a.mp4", VARYING), tmp_path / "b.mp4")
    command = ["ffprobe", "-v", "error", "-show_entries", "frame=media_type,best_effort_timestamp_time", "-of", "csv"]
    said = [subprocess.run([*command, tmp_path / name], capture_output=True, text=True, check=True).stdout
            for name in ("a.mp4", "b.mp4")]  # fmt: skip
    assert said[0] == said[1]


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libvpx-vp9"), ("a.mkv", "libx265"), ("a.avi", "mpeg4")])
def test_codecs_are_kept(tmp_path: Path, name: str, codec: str) -> None:
    source = make(tmp_path / name, range(0, 400, 40), sound=False, codec=codec)
    copied(source, tmp_path / f"b{Path(name).suffix}")
    with av.open(str(source)) as one, av.open(str(tmp_path / f"b{Path(name).suffix}")) as other:
        assert one.streams.video[0].codec_context.name == other.streams.video[0].codec_context.name
        assert sum(1 for _ in other.decode(video=0)) == 10


@pytest.mark.parametrize(("name", "codec", "kind", "output", "expected"), [
    ("a.webm", "libvpx", "yuv420p", "b.mp4", "h264"), ("a.webm", "libvpx-vp9", "yuv444p", "b.mov", "h264"),
    ("a.webm", "libvpx-vp9", "yuv420p", "b.ts", "h264"), ("a.avi", "mjpeg", "yuvj420p", "b.webm", "vp9"),
    ("a.mp4", "libsvtav1", "yuv420p", "b.mkv", "av1"), ("a.mkv", "libx264", "yuv444p", "b.m4v", "h264"),
])  # fmt: skip
def test_codecs_that_a_container_does_not_take(
    tmp_path: Path, name: str, codec: str, kind: str, output: str, expected: str
) -> None:
    copied(make(tmp_path / name, range(0, 400, 40), sound=False, codec=codec, pix_fmt=kind), tmp_path / output)
    with av.open(str(tmp_path / output)) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == expected
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_spans_are_cut_out(tmp_path: Path) -> None:
    """Frames keep their numbers, though those before are not decoded; times and sound follow each other."""
    source = make(tmp_path / "a.mp4", range(0, 2000, 40))
    spans = Spans.of(["0.5", "1.2"], ["0.7"])
    with AvVideo(source, spans) as reader:
        frames = list(reader.frames())
    assert [frame.number for frame in frames] == [13, 14, 15, 16, 17, *range(30, 50)]
    assert [round(frame.image_bgr.mean() / 8) for frame in frames[:5]] == [13, 14, 15, 16, 17]
    sink = copied(source, tmp_path / "b.mkv", spans)
    assert sink.written == 25
    assert times_ms(tmp_path / "b.mkv") == [20 + 40 * i - 20 for i in range(5)] + [200 + 40 * i - 20 for i in range(20)]
    assert abs(len(sound_of(tmp_path / "b.mkv")) / 48000 - 0.94) < 0.05


def test_spans_are_checked() -> None:
    assert Spans.of(["1:30"], ["0:01:31.5"]).each_s == ((90, 91.5),)
    assert Spans.of([], ["10"]).each_s == ((0, 10),)
    assert Spans.of(["10"], []).each_s == ((10, math.inf),)
    for starts, ends in ((["5"], ["5"]), (["0", "2"], ["3", "4"]), (["x"], []), (["1", "2", "3"], ["4"])):
        with pytest.raises(ArgumentError):
            Spans.of(starts, ends)


def shown_by(source: Path, a: int, b: int, c: int, d: int) -> Path:
    """The file with this matrix in its tkhd, of version 0 (ISO/IEC 14496-12, 8.3.2): x' = ax + cy, y' = bx + dy."""
    data = bytearray(source.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = b"".join(
        number.to_bytes(4, "big", signed=True) for number in (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    )
    source.write_bytes(bytes(data))
    return source


@pytest.mark.parametrize(("matrix", "expected"), [
    ((1, 0, 0, 1), "rg bw"), ((-1, 0, 0, 1), "gr wb"), ((1, 0, 0, -1), "bw rg"), ((-1, 0, 0, -1), "wb gr"),
    ((0, 1, -1, 0), "br wg"), ((0, -1, 1, 0), "gw rb"), ((0, 1, 1, 0), "rb gw"), ((0, -1, -1, 0), "wg br"),
    ((0, 0, 0, 0), "rg bw"), ((1, 0, 0, 0), "rg bw"), ((1, 1, 1, 1), "rg bw"),
])  # fmt: skip
def test_turned_and_mirrored(tmp_path: Path, matrix: tuple[int, int, int, int], expected: str) -> None:
    """Quarters in red, green, blue and white, where a player shows them (worked out by hand); without a sense, as they
    are stored."""
    colours_bgr = {"r": (0, 0, 255), "g": (0, 255, 0), "b": (255, 0, 0), "w": (255, 255, 255)}
    image = np.zeros((64, 96, 3), np.uint8)
    for name, (y, x) in zip("rgbw", ((0, 0), (0, 48), (32, 0), (32, 48)), strict=True):
        image[y : y + 32, x : x + 48] = colours_bgr[name]
    source = shown_by(make(tmp_path / "a.mp4", [0, 40], sound=False, images_bgr=[image, image]), *matrix)
    with AvVideo(source) as reader:
        shown = next(reader.frames()).image_bgr
    height, width = shown.shape[:2]
    assert (width, height) == ((96, 64) if matrix[0] or not matrix[1] else (64, 96))
    corners = [shown[y, x].astype(int) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    names = ["rgbw"[np.argmin([abs(corner - colours_bgr[name]).sum() for name in "rgbw"])] for corner in corners]
    assert "".join(names[:2]) + " " + "".join(names[2:]) == expected


def test_turned_upright(tmp_path: Path) -> None:
    source = shown_by(make(tmp_path / "a.mp4", range(0, 200, 40), sound=False), 0, 1, -1, 0)
    with AvVideo(source) as reader:
        assert {frame.image_bgr.shape for frame in reader.frames()} == {(96, 64, 3)}
    capture = cv2.VideoCapture(str(source))
    assert capture.read()[1].shape == (96, 64, 3)  # as OpenCV turns it


@pytest.mark.parametrize(("matrix", "aspect"), [((0, 1, -1, 0), Fraction(1, 2)), ((-1, 0, 0, -1), Fraction(2))])
def test_pixels_that_are_no_squares_are_turned_with_their_picture(
    tmp_path: Path, matrix: tuple[int, int, int, int], aspect: Fraction
) -> None:
    source = make(tmp_path / "a.mp4", [0, 40], (64, 64), sound=False, sample_aspect_ratio=Fraction(2))
    copied(shown_by(source, *matrix), tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == aspect


def test_a_broken_tail(tmp_path: Path) -> None:
    """What is there is written and can be played; what is missing is said."""
    source = make(tmp_path / "a.mkv", range(0, 4000, 40), size_wh=(192, 128))
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    with AvVideo(source, wants_others=True) as reader, AvFile(tmp_path / "b.mp4", reader, reader.fps) as sink:
        for frame in reader.frames():
            sink.write(frame, frame.image_bgr)
    assert 10 < sink.written < 90
    assert any(f"{sink.written} frames could be read" in loss.why for loss in reader.losses())
    assert len(times_ms(tmp_path / "b.mp4")) == sink.written


def test_sound_that_does_not_fit_is_said(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", range(0, 400, 40))
    with AvVideo(source, wants_others=True) as reader, AvFile(tmp_path / "b.webm", reader, reader.fps) as sink:
        for frame in reader.frames():
            sink.write(frame, frame.image_bgr)
    assert [loss.why.partition(" don't")[0] for loss in sink.losses] == ["sound of the kind aac"]
    assert len(times_ms(tmp_path / "b.webm")) == 10


def test_without_sound_subtitles_stay_and_languages_with_them(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nHello\n")
    plain = make(tmp_path / "a.mp4", range(0, 400, 40))
    with av.open(str(plain)) as one, av.open(str(tmp_path / "a.srt")) as other, \
            av.open(str(tmp_path / "b.mkv"), "w") as both:  # fmt: skip
        added = {stream: both.add_stream_from_template(stream) for stream in (*one.streams, *other.streams)}
        for stream in (one.streams.audio[0], other.streams.subtitles[0]):
            added[stream].metadata["language"] = "deu"
        for packet in (*other.demux(), *one.demux()):
            if packet.size:
                packet.stream = added[packet.stream]
                both.mux(packet)
    for sound, kinds in ((True, ["video", "audio", "subtitle"]), (False, ["video", "subtitle"])):
        copied(tmp_path / "b.mkv", tmp_path / "c.mkv", sound=sound)
        with av.open(str(tmp_path / "c.mkv")) as container:
            assert [stream.type for stream in container.streams] == kinds
            assert all(stream.metadata["language"] == "deu" for stream in list(container.streams)[1:])
            assert [bytes(packet) for packet in container.demux(subtitles=0) if packet.size] == [b"Hello"]


def test_odd_sides_grow_by_a_pixel_which_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with AvFile(tmp_path / "a.mp4", None, 25) as sink, caplog.at_level("INFO", "facekit"):
        sink.write(Frame(0, 0.0, np.zeros((63, 95, 3), np.uint8)), np.zeros((63, 95, 3), np.uint8))
    assert "a.mp4: 95x63 pixels become 96x64: most codecs take even sides alone" in caplog.text


def test_nothing_is_kept_of_what_fails(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", range(0, 400, 40))
    with pytest.raises(ZeroDivisionError), AvVideo(source) as reader, AvFile(tmp_path / "b.mp4", reader, 25) as sink:
        sink.write(next(reader.frames()), np.zeros((64, 96, 3), np.uint8))
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(opening, "has_av", lambda: False)
    source = video(tmp_path / "a.avi", frames=6)
    with open_frames(find_source(str(source)), Spans.of(["0.2"], [])) as reader, \
            open_sink(tmp_path / "b.avi", reader, Spans.of(["0.2"], [])) as sink:  # fmt: skip
        for frame in reader.frames():
            sink.write(frame, frame.image_bgr)
    assert sink.written == reader.count == 5
    assert "without sound" in caplog.text


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
@pytest.mark.parametrize("sound", [False, True])
def test_a_clock_that_begins_late_is_no_damage(tmp_path: Path, name: str, sound: bool) -> None:
    """Matroska's length is the moment of its end."""
    with AvVideo(make(tmp_path / name, range(5000, 7000, 40), sound=sound)) as reader:
        assert sum(1 for _ in reader.frames()) == 50
        assert reader.losses() == []


@pytest.mark.parametrize(("name", "is_cover"), [("two.mkv", False), ("cover.mp4", True)])
def test_other_streams_of_pictures_are_said(tmp_path: Path, name: str, is_cover: bool) -> None:
    """A cover is none."""
    with av.open(str(tmp_path / name), "w") as container:
        first, second = (container.add_stream(codec, rate=25) for codec in ("mpeg4", "mjpeg"))
        for stream, kind in ((first, "yuv420p"), (second, "yuvj420p")):
            stream.width, stream.height, stream.pix_fmt = 96, 64, kind
        if is_cover:
            second.disposition = av.stream.Disposition.attached_pic
        for stream, count in ((second, 1), (first, 5)):
            for _ in range(count):
                grey = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), format="bgr24")
                container.mux(stream.encode(grey))
            container.mux(stream.encode(None))
    with AvVideo(tmp_path / name) as reader:
        assert len(list(reader.frames())) == 5 and len(reader.container.streams.video) == 2
    said = [loss.why for loss in reader.losses()]
    assert said == ([] if is_cover else ["holds 2 streams of pictures: the first alone is looked at"])


@pytest.mark.parametrize("largest", [0, 1])
def test_frames_over_the_limit_are_not_decoded(tmp_path: Path, largest: int) -> None:
    """Of a container that says so, and of one that grows on its way. OpenCV would go by the first frame's size."""
    sizes_wh = [(96, 64)] * 3
    sizes_wh[largest] = (400, 300)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height = sizes_wh[0]
        stream.pix_fmt = "rgb24"
        for index, (width, height) in enumerate(sizes_wh):
            packet = av.Packet(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1].tobytes())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, 40 * index, 40 * index, Fraction(1, 1000)
            container.mux(packet)
    source = find_source(str(tmp_path / "a.mov"))
    with open_frames(source, max_pixels=120_000) as reader:
        assert len(list(reader.frames())) == 3
    for most, said in ((119_999, "400x300 pixels, over the limit of 119999"), (25_000, "over 25000 pixels")):
        with open_frames(source, max_pixels=most) as reader, pytest.raises(FacekitError) as error:
            assert all(frame.image_bgr.shape == (64, 96, 3) for frame in reader.frames())
        remedy = "not looked at. Scale the video down, or raise `max_pixels`."
        assert str(error.value) == f"{source.path}: a frame of {said}: {remedy}"


def test_narrow_frames_within_the_limit_are_decoded(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", [0, 40], (16, 2000), sound=False)
    with open_frames(find_source(str(source)), max_pixels=32_000) as reader:
        assert len(list(reader.frames())) == 2 and not reader.losses()


def test_the_encoder_of_av1_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = make(tmp_path / "a.mp4", [0, 40], codec="libsvtav1", sound=False)
    capfd.readouterr()
    copied(source, tmp_path / "b.mp4")
    assert capfd.readouterr().err == ""


def test_frames_over_the_limit_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "has_av", lambda: False)
    said = "a frame of 96x64 pixels, over the limit of 6143: not looked at"
    source = find_source(str(video(tmp_path / "a.avi")))
    with open_frames(source, max_pixels=6143) as reader, pytest.raises(FacekitError, match=said):
        next(reader.frames())


def test_transparent_frames_lie_on_white(tmp_path: Path) -> None:
    pixels = np.full((64, 96, 4), (200, 0, 0, 255), np.uint8)
    pixels[:32, :, 3], pixels[32:, :48, 3] = 0, 128
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "argb"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode(None))
    with AvVideo(tmp_path / "a.mov") as reader:
        image_bgr = next(reader.frames()).image_bgr
    assert (image_bgr[:32] == 255).all() and (image_bgr[32:, 48:] == (0, 0, 200)).all()
    assert (image_bgr[32:, :48] == (127, 127, 227)).all()


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_byte_that_fills_the_pixel_up_is_no_transparency(tmp_path: Path, alpha: int) -> None:
    pixels = np.full((64, 96, 4), (200, 0, 0, alpha), np.uint8)
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
    with AvVideo(tmp_path / "a.avi") as reader:
        image_bgr = next(reader.frames()).image_bgr
    assert image_bgr.flags.c_contiguous and (image_bgr == (0, 0, 200)).all()


def test_transparency_beside_the_pictures_is_said(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuva420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 4), np.uint8), format="bgra")))
        container.mux(stream.encode(None))
    with AvVideo(tmp_path / "a.webm") as reader, AvFile(tmp_path / "b.webm", reader, reader.fps) as sink:
        frame = next(reader.frames())
        sink.write(frame, frame.image_bgr)
    assert [loss.why.partition(":")[0] for loss in sink.losses] == ["the source's transparency can't be read"]


def test_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"x" * 100)
    with pytest.raises(FacekitError, match="a damaged video"):
        open_frames(find_source(str(tmp_path / "a.mp4")))
