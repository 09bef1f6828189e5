"""facekit anonymize, end to end."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facekit
from facekit.commands import anonymizing
from facekit.errors import ArgumentError, FacekitError, Interrupted
from facekit.pictures.av_file import AvFile
from facekit.results.json_files import read_jsonl
from facekit.results.row import Row
from tests.cli.support import fails, refuse_thin_pictures, run, written
from tests.pictures.av_support import make, sound_of, times_ms


@pytest.fixture
def portrait(project_dir: Path) -> Path:
    return project_dir / "data" / "demo" / "astronaut.jpg"


def scores(path: Path) -> list[float]:
    return [face["score"] for row in facekit.detect(path, threshold=0.3) for face in row.faces.to_dicts()]


class Signals(contextlib.nullcontext[Any]):
    """A signal after so many times that it was asked for."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks, self.seen = looks, 0

    def __enter__(self) -> Any:
        return self

    @property
    def received(self) -> int:
        self.seen += 1
        return 2 if self.seen > self.looks else 0


class TestPictures:
    def test_the_face_is_gone_and_the_rest_is_there(self, portrait: Path, tmp_path: Path) -> None:
        for method in ("blur", "pixelate", "solid", "mosaic"):
            out = tmp_path / f"{method}.png"
            assert run("anonymize", portrait, "-o", out, "--method", method) == 0
            covered, image = cv2.imread(str(out)), cv2.imread(str(portrait))
            changed = (covered != image).any(axis=2)
            assert changed[60:170, 185:270].mean() > 0.95 and not changed[260:].any() and not changed[:, 320:].any()
        assert scores(tmp_path / "solid.png") == []

    def test_a_picture_that_the_network_does_not_take(
        self, monkeypatch: pytest.MonkeyPatch, portrait: Path, tmp_path: Path
    ) -> None:
        refuse_thin_pictures(monkeypatch)
        (tmp_path / "in").mkdir()
        cv2.imwrite(str(tmp_path / "in" / "a.png"), np.zeros((500, 20, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "in" / "b.png"), cv2.imread(str(portrait)))
        assert run("anonymize", tmp_path / "in", "-o", tmp_path / "out") == 3
        assert written(tmp_path / "out") == ["b.png"]

    def test_pictures_that_differ_in_their_suffix_keep_their_names(self, portrait: Path, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for name in ("a.png", "a.tif", "a.gif"):
            cv2.imwrite(str(tmp_path / "in" / name), cv2.imread(str(portrait)))
        assert run("anonymize", tmp_path / "in", "-o", tmp_path / "out") == 0
        assert written(tmp_path / "out") == ["a.jpg", "a.png", "a.tif"]

    def test_areas(self, portrait: Path, tmp_path: Path) -> None:
        def changed(**areas: object) -> bool:
            done = facekit.anonymize(str(portrait), output=tmp_path / "a.png", **areas)
            return done.faces == 1

        assert changed() and changed(only="180,50,100,130") and changed(ignore="0,0,100,512")
        assert not changed(ignore="180,50,100,130") and not changed(only=("0,0,100,512", "400,0,100,100"))
        with pytest.raises(ArgumentError, match="expected x,y,width,height"):
            changed(ignore="1,2,3")

    def test_metadata(self, portrait: Path, tmp_path: Path) -> None:
        """Gone, GPS and thumbnail with it; with --keep-metadata what describes the picture stays, and upright."""
        from tests.pictures.test_cover import SECRET, exif

        image = cv2.rotate(cv2.imread(str(portrait)), cv2.ROTATE_90_COUNTERCLOCKWISE)
        made = cv2.imencodeWithMetadata(".jpg", image, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif("<"), np.uint8)])[
            1
        ]
        (tmp_path / "in.jpg").write_bytes(made.tobytes())
        assert SECRET in (tmp_path / "in.jpg").read_bytes()
        for flag in ([], ["--keep-metadata"]):
            assert run("anonymize", tmp_path / "in.jpg", "-o", tmp_path / "out.jpg", *flag) == 0
            data = (tmp_path / "out.jpg").read_bytes()
            assert SECRET not in data and (b"50 mm/2" in data[:500]) == (b"Maker" in data[:500]) == bool(flag)
            assert facekit.detect(tmp_path / "out.jpg").__next__().size_wh == (512, 512)
            assert cv2.imread(str(tmp_path / "out.jpg")).shape == (512, 512, 3)

    @pytest.mark.parametrize(("suffix", "channels", "dtype"), [
        (".png", 4, np.uint8), (".png", 4, np.uint16), (".webp", 4, np.uint8), (".tiff", 4, np.uint8),
        (".bmp", 4, np.uint8),
    ])  # fmt: skip
    def test_what_is_hidden_under_transparency_stays_so(
        self, tmp_path: Path, suffix: str, channels: int, dtype: type
    ) -> None:
        """It lies on white; halves are mixed."""
        most = np.iinfo(dtype).max
        picture = np.zeros((300, 64, channels), dtype)
        picture[..., 2] = most  # red
        picture[:100, :, 3], picture[100:200, :, 3] = most, most // 2
        settings = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []
        cv2.imwrite(str(tmp_path / f"in{suffix}"), picture, settings)
        assert run("anonymize", tmp_path / f"in{suffix}", "-o", tmp_path / "out.png") == 0
        out = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
        assert out.shape == (300, 64, 3)
        seen = [out[row].reshape(-1, 3).astype(int) for row in (50, 150, 250)]
        for rows, expected in zip(seen, ((0, 0, 255), (128, 128, 255), (255, 255, 255)), strict=True):
            assert np.abs(rows - expected).max() <= 2

    def test_a_transparent_picture_that_is_turned(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], portrait: Path
    ) -> None:
        picture = np.dstack([cv2.imread(str(portrait)), np.full((512, 512), 100, np.uint8)])
        turned = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 6, 0)
        made = cv2.imencodeWithMetadata(".png", picture, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(turned, np.uint8)])[
            1
        ]
        (tmp_path / "in.png").write_bytes(made.tobytes())
        text = fails(capsys, "anonymize", tmp_path / "in.png", "-o", tmp_path / "out.png")
        assert "is transparent, and turned by its EXIF" in text and not (tmp_path / "out.png").exists()

    @pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
    def test_of_many_frames_the_others_are_said_to_be_left_out(
        self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path, suffix: str
    ) -> None:
        source, image = tmp_path / f"in{suffix}", cv2.imread(str(portrait))
        if suffix == ".tiff":
            cv2.imwritemulti(str(source), [image] * 3)
        else:
            frames = cv2.Animation()
            frames.frames, frames.durations = [image, image[::-1], image], [100, 100, 100]
            cv2.imwriteanimation(str(source), frames)
        for command in (("anonymize", source, "-o", tmp_path / "out.png"), ("detect", source)):
            assert run(*command) == 3
            assert "2 of its 3 frames or pages: the first alone is looked at" in capsys.readouterr().err
        assert written(tmp_path)[-1] == "out.png"

    def test_what_a_folder_leaves_out(self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.jpg").write_bytes(portrait.read_bytes())
        (tmp_path / "in" / "b.mp4").touch()
        assert run("anonymize", tmp_path / "in", "-o", tmp_path / "out") == 3
        assert "1 videos are left out. Give them by name." in capsys.readouterr().err

    def test_areas_that_choose_nothing(
        self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path
    ) -> None:
        asked = ("anonymize", portrait, "-o", tmp_path / "out.png", "--only")
        assert "--only: 0,0,0,0 has no pixels" in fails(capsys, *asked, "0,0,0,0")
        assert run(*asked, "600,0,9,9") == 3
        assert "no face is covered: --only lies outside its 512x512 pixels" in capsys.readouterr().err

    def test_reports_take_no_other_files_place(
        self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path
    ) -> None:
        """Neither a picture that became a flag's value, nor the one beside the report."""
        other, report = tmp_path / "other.jpg", tmp_path / "other.png"
        for path in (other, report):
            cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8))
        before = other.read_bytes()
        asked = ("anonymize", portrait, "-o", tmp_path / "out.png", "--threshold", 0.9, "--report")
        assert "other.png: is no text, and --report would write text over it" in fails(capsys, *asked, report)
        assert "other.jpg: is there already, and facekit didn't write it" in fails(
            capsys, *asked, tmp_path / "other.jsonl"
        )
        assert other.read_bytes() == before and not (tmp_path / "out.png").exists()
        assert run(*asked, tmp_path / "own.jsonl") == 0 and run(*asked, tmp_path / "own.jsonl") == 0

    def test_metadata_that_can_not_be_kept_are_a_loss(
        self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path
    ) -> None:
        from tests.pictures.test_cover import exif

        image = cv2.imread(str(portrait))
        (tmp_path / "in").mkdir()
        for name, data in (("whole", exif()), ("broken", exif()[:30]), ("none", None)):
            kinds, parts = ([], []) if data is None else ([cv2.IMAGE_METADATA_EXIF], [np.frombuffer(data, np.uint8)])
            made = cv2.imencodeWithMetadata(".png", image, kinds, parts)[1]
            (tmp_path / "in" / f"{name}.png").write_bytes(made.tobytes())
        cv2.imwrite(str(tmp_path / "in" / "a.gif"), image)
        assert run("anonymize", tmp_path / "in", "-o", tmp_path / "plain") == 0
        cv2.imwrite(str(tmp_path / "in" / "a.tif"), image)
        cv2.imwrite(str(tmp_path / "in" / "a.bmp"), image)
        assert run("anonymize", tmp_path / "in", "-o", tmp_path / "out", "--keep-metadata") == 3
        said = [line for line in capsys.readouterr().err.splitlines() if "its EXIF is not kept" in line]
        for name in ("a.bmp", "a.tif", "broken.png"):
            assert any(f"in/{name}: its EXIF" in line for line in said), name
        assert len(said) == 3 and len(written(tmp_path / "out")) == 6
        assert run("anonymize", tmp_path / "in" / "a.tif", "-o", tmp_path / "a.jpg", "--keep-metadata") == 3
        assert "a.tif: its EXIF is not kept: that of TIFF is not read" in capsys.readouterr().err

    def test_many_and_broken_ones(self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / "in" / name).write_bytes(portrait.read_bytes())
        (tmp_path / "in" / "c.jpg").write_bytes(portrait.read_bytes()[:900])
        report = tmp_path / "report.jsonl"
        assert run("anonymize", tmp_path / "in", "-o", tmp_path / "out", "--report", report) == 3
        captured = capsys.readouterr()
        assert "2 pictures: 2 faces covered" in captured.out and "c.jpg: the JPEG is cut off" in captured.err
        assert written(tmp_path / "out") == ["a.jpg", "b.jpg"]
        assert [len(json.loads(line)["faces"]) for line in report.read_text().splitlines()] == [1, 1, 0]
        text = fails(capsys, "anonymize", tmp_path / "in", "-o", tmp_path / "in")
        assert "written over" in text
        assert "written over" in fails(capsys, "anonymize", portrait, "-o", portrait)
        assert run("anonymize", tmp_path / "in", "-o", tmp_path / "one.jpg") == 2
        assert "is a file" in capsys.readouterr().err


class TestVideo:
    @pytest.fixture(scope="class")
    def hidden(self, tmp_path_factory: pytest.TempPathFactory, project_dir: Path) -> Path:
        """A face that walks, hidden by a bar in frames 8 to 13 of 24, with a tone."""
        portrait = cv2.resize(cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg")), (160, 160))
        wide = np.concatenate(
            [np.full((160, 160, 3), 90, np.uint8), portrait, np.full((160, 160, 3), 90, np.uint8)], axis=1
        )
        images = [np.ascontiguousarray(np.roll(wide, 4 * number - 60, axis=1)) for number in range(24)]
        for number in range(8, 14):
            x = 160 + 4 * number - 60
            images[number][15:50, x + 45 : x + 100] = (60, 120, 20)
        return make(tmp_path_factory.mktemp("video") / "walk.mp4", range(0, 960, 40), (480, 160), images_bgr=images)

    def test_two_passes_cover_what_is_hidden(
        self, hidden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, report = tmp_path / "out.mp4", tmp_path / "report.jsonl"
        assert run("anonymize", hidden, "-o", out, "--report", report, "--method", "solid") == 0
        assert "24 faces covered, " in capsys.readouterr().out
        rows = list(read_jsonl(report))
        lefts = [float(row.faces.boxes_xyxy[0, 0]) for row in rows]
        assert len(rows) == 24 and np.abs(np.diff(lefts) - 4).max() < 4
        bridged = [bool(row.faces.is_interpolated is not None and row.faces.is_interpolated[0]) for row in rows]
        single = [len(row.faces) for row in facekit.detect(hidden, threshold=0.3)]
        assert sum(single) < 24 and any(bridged) and not any(bridged[:7])
        assert times_ms(out) == list(range(0, 960, 40)) and np.array_equal(sound_of(out), sound_of(hidden))
        assert report.with_suffix(".jpg").exists()
        capture = cv2.VideoCapture(str(out))
        for row in rows:
            frame = capture.read()[1]
            x, y = row.faces.boxes_xyxy[0].reshape(2, 2).mean(axis=0).astype(int)
            assert frame[y - 8 : y + 8, x - 6 : x + 6].max() < 40, row.frame
        assert run("anonymize", hidden, "-o", out, "--bridge", 0, "--no-keep-sound", "--low-threshold", 1) == 0
        with pytest.raises(IndexError):
            sound_of(out)

    @pytest.mark.parametrize(("looks", "said"), [
        (5, "Stopped. Nothing is written that is whole."),
        (30, "Nothing is written that is whole. OUT ends early."),
    ])  # fmt: skip
    def test_stopped_in_either_pass(
        self, hidden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int, said: str
    ) -> None:
        """By a signal after so many frames of 24, in each pass."""

        monkeypatch.setattr(anonymizing, "StopSignals", partial(Signals, looks))
        out = tmp_path / "out.mp4"
        with pytest.raises(Interrupted) as caught:
            facekit.anonymize(hidden, output=out)
        assert said.replace("OUT", str(out)) in str(caught.value)
        assert out.exists() == (looks == 30) and (not out.exists() or len(times_ms(out)) < 24)

    @pytest.mark.parametrize("looks", [5, 30])
    def test_stopped_leaves_what_an_earlier_run_wrote(
        self, hidden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
    ) -> None:
        out, report = tmp_path / "out.mp4", tmp_path / "report.jsonl"
        facekit.anonymize(hidden, output=out, report=report)
        before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
        monkeypatch.setattr(anonymizing, "StopSignals", partial(Signals, looks))
        with pytest.raises(Interrupted) as caught:
            facekit.anonymize(hidden, output=out, report=report)
        assert (f"{out} is the one that was there before." in str(caught.value)) == (looks == 30)
        assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before

    @pytest.mark.parametrize("is_report_small", [False, True])
    def test_a_full_disk(
        self, hidden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_report_small: bool
    ) -> None:
        """Takes neither the video, nor the sheet beside its report, nor, where that is large, the report."""

        def refuse(path: Path, *_: object) -> None:
            raise FacekitError(f"{path}: can't be written (No space left on device).")

        def to_json(row: Row) -> str:
            if row.frame and not is_report_small:
                raise OSError(28, "No space left on device")
            return "{}"

        monkeypatch.setattr(AvFile, "__exit__", lambda sink, *_: refuse(sink.path))
        monkeypatch.setattr(anonymizing, "write_picture", refuse)
        monkeypatch.setattr(Row, "to_json", to_json)
        with pytest.raises(FacekitError) as caught:
            facekit.anonymize(hidden, output=tmp_path / "v.mp4", report=tmp_path / "r.jsonl")
        assert re.findall(r"(\S+): can't be written", str(caught.value)) == (
            [str(tmp_path / "v.mp4"), str(tmp_path / "r.jpg")]
            if is_report_small
            else [str(tmp_path / "r.jsonl"), str(tmp_path / "v.mp4")]
        )

    @pytest.mark.parametrize(("every", "step"), [(20, 0), (6, 2)])
    def test_every_so_manieth_frame_leaves_none_bare(
        self, project_dir: Path, tmp_path: Path, every: int, step: int
    ) -> None:
        """The last look of 50 frames is at frame 40 or 48, and longer gaps than `bridge` lie between two looks."""
        portrait = cv2.resize(cv2.imread(str(project_dir / "data" / "demo" / "astronaut.jpg")), (160, 160))
        wide = np.concatenate([portrait, np.full((160, 160, 3), 90, np.uint8)], axis=1)
        images = [np.ascontiguousarray(np.roll(wide, step * number, axis=1)) for number in range(50)]
        source = make(tmp_path / "in.mp4", range(0, 2000, 40), (320, 160), images_bgr=images)
        truth = [row.faces.boxes_xyxy[0] for row in facekit.detect(source)]
        report = tmp_path / "report.jsonl"
        facekit.anonymize(source, output=tmp_path / "out.mp4", every=every, bridge=4, report=report)
        for box, row in zip(truth, read_jsonl(report), strict=True):
            x, y = (box[:2] + box[2:]) / 2
            assert any(left < x < right and top < y < bottom for left, top, right, bottom in row.faces.boxes_xyxy), row

    def test_part_and_refusals(self, hidden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        done = facekit.anonymize(str(hidden), output=tmp_path / "part.mkv", start="0.2", end="0.4", every=2)
        assert (done.frames, done.faces) == (5, 5) and len(times_ms(tmp_path / "part.mkv")) == 5
        assert "written over" in fails(capsys, "anonymize", hidden, "-o", hidden)
        (tmp_path / "none.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"x" * 64)
        assert "damaged" in fails(capsys, "anonymize", tmp_path / "none.mp4", "-o", tmp_path / "b.mp4")
        assert not (tmp_path / "b.mp4").exists()
