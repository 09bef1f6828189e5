"""facekit detect, end to end on pictures."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import facekit
from facekit.errors import ArgumentError, FacekitError
from facekit.pictures.write import is_drawn
from facekit.results.json_files import read_jsonl
from tests.cli.support import fails, refuse_thin_pictures, run, written
from tests.conftest import Server


@pytest.fixture
def portrait(project_dir: Path) -> Path:
    return project_dir / "data" / "demo" / "astronaut.jpg"


def many(folder: Path, portrait: Path, count: int) -> Path:
    """`count` pictures, each third one broken, the others small portraits of differing sizes."""
    folder.mkdir()
    image = cv2.imread(str(portrait))
    for number in range(count):
        side = 120 + 8 * (number % 5)
        data = cv2.imencode(".jpg", cv2.resize(image, (side, side)))[1].tobytes()
        (folder / f"{number:03}.jpg").write_bytes(data[:300] if number % 3 == 2 else data)
    return folder


def test_arrays_are_the_detectors() -> None:
    for wrong in (np.zeros((8, 8, 3), np.uint8), b"a.jpg"):
        with pytest.raises(ArgumentError, match="`inputs`: expected paths or addresses, got"):
            facekit.detect(wrong)  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentError, match=r"too many positional arguments\. Give several as a list: detect\(\[a, b\]\)"
    ):
        facekit.detect(*("a.jpg", "b.jpg"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--num-workers", 2), "--num-workers is about Ray's workers"),
        (("--cpus-per-worker", 2), "--cpus-per-worker is about Ray's workers"),
        (("--gpus-per-worker", 0.5), "--gpus-per-worker is about Ray's workers"),
        (("--address", "auto"), "--address is about Ray's workers"),
        (("--shard-size", 5), "--shard-size is about Ray's workers"),
        (("--track",), "--track is about videos"),
        (("--every", 2), "--every is about videos"),
        (("--from", 2), "--from is about videos"),
        (("--to", 2), "--to is about videos"),
    ],
)
def test_flags_without_effect(
    capsys: pytest.CaptureFixture[str], portrait: Path, flags: tuple[object, ...], said: str
) -> None:
    assert run("detect", portrait, *flags) == 2
    assert said in capsys.readouterr().err


class TestPrinted:
    def test_a_picture_is_a_line_of_json(self, capsys: pytest.CaptureFixture[str], portrait: Path) -> None:
        assert run("detect", portrait) == 0
        row = json.loads(capsys.readouterr().out)
        assert row["schema"] == 1 and row["source"] == str(portrait) and (row["width"], row["height"]) == (512, 512)
        (face,) = row["faces"]
        assert face["score"] > 0.8 and len(face["landmarks_xy"]) == 5

    @pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "coco"])
    def test_each_text_format(
        self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path, kind: str
    ) -> None:
        assert run("detect", portrait, f"--{kind}", "-") == 0
        printed = capsys.readouterr().out
        assert run("detect", portrait, f"--{kind}", tmp_path / "a") == 0
        assert printed == (tmp_path / "a").read_text()
        assert f"1 picture, 1 face: {tmp_path / 'a'}" in capsys.readouterr().out
        assert written(tmp_path) == ["a"]  # the journal is gone

    def test_addresses(self, server: Server, capsys: pytest.CaptureFixture[str], portrait: Path) -> None:
        server.files["a.jpg"], server.content_type = portrait.read_bytes(), "image/jpeg"
        assert run("detect", server.url("a.jpg?token=abc"), server.url("none.jpg")) == 1
        server.files["a.jpg?token=abc"] = portrait.read_bytes()
        capsys.readouterr()
        assert run("detect", server.url("a.jpg?token=abc"), server.url("none.jpg")) == 3
        captured = capsys.readouterr()
        rows = [json.loads(line) for line in captured.out.splitlines()]
        assert [len(row["faces"]) for row in rows] == [1, 0] and rows[0]["source"].endswith("a.jpg?token=***")
        assert "404" in rows[1]["error"] and "abc" not in captured.out + captured.err

    def test_standard_input(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], portrait: Path
    ) -> None:
        class Stdin:
            buffer = io.BytesIO(portrait.read_bytes())

        monkeypatch.setattr("sys.stdin", Stdin)
        assert run("detect", "-") == 0
        assert len(json.loads(capsys.readouterr().out)["faces"]) == 1

    def test_a_list_on_standard_input(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], portrait: Path
    ) -> None:
        class Stdin:
            buffer = io.BytesIO(f"{portrait}\n".encode())

        monkeypatch.setattr("sys.stdin", Stdin)
        assert run("detect", "--from-file", "-") == 0
        assert json.loads(capsys.readouterr().out)["source"] == str(portrait)

    def test_addresses_of_files(self, portrait: Path, tmp_path: Path) -> None:
        assert run("detect", f"file://{portrait}", "--jsonl", f"file://{tmp_path}/a%20b") == 0
        assert written(tmp_path) == ["a b"]
        assert run("detect", portrait, "--jsonl", f"file://host{tmp_path}/c") == 2
        facekit.detect(portrait, jsonl=f"file://{tmp_path}/d").run()
        facekit.detect(portrait, jsonl=Path(f"file://{tmp_path}/e")).run()
        assert written(tmp_path) == ["a b", "d", "e"]

    def test_a_reader_that_has_enough(self, portrait: Path) -> None:
        """`| head -c 1` ends in silence."""
        command = [sys.executable, "-m", "facekit", "detect", *[str(portrait)] * 3, "--csv", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141


class TestFiles:
    def test_all_at_once(self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        pictures, out = many(tmp_path / "in", portrait, 6), tmp_path / "out"
        files = {"json": "a.json", "jsonl": "a.jsonl", "csv": "a.csv", "coco": "coco.json", "parquet": "a.parquet"}
        flags = [part for kind, name in files.items() for part in (f"--{kind}", out / name)]
        folders = [part for kind in ("yolo", "wider", "draw", "crops") for part in (f"--{kind}", out / kind)]
        assert run("detect", pictures, *flags, *folders, "--align", "--batch-size", 4) == 3
        captured = capsys.readouterr()
        assert "6 pictures, 4 faces, 4 crops" in captured.out
        assert captured.err.splitlines()[-3].startswith(f"Left out: {pictures / '002.jpg'}: the JPEG is cut off")
        assert sorted(path.name for path in out.iterdir()) == sorted(
            [*files.values(), "yolo", "wider", "draw", "crops"]
        )
        rows = list(read_jsonl(out / "a.jsonl"))
        assert [Path(row.source).name for row in rows] == [f"{number:03}.jpg" for number in range(6)]  # in their order
        assert [row.error is None for row in rows] == [True, True, False] * 2
        good = ["000", "001", "003", "004"]
        assert written(out / "draw") == [f"{name}.jpg" for name in good]
        assert written(out / "yolo") == written(out / "wider") == [f"{name}.txt" for name in good]
        assert written(out / "crops") == [f"{name}_0.jpg" for name in good]
        assert all(cv2.imread(str(path)).shape == (112, 112, 3) for path in (out / "crops").iterdir())
        with_one = list(facekit.detect(str(pictures)))
        assert [len(row.faces) for row in with_one] == [len(row.faces) for row in rows]

    def test_a_picture_that_the_network_does_not_take(
        self, monkeypatch: pytest.MonkeyPatch, portrait: Path, tmp_path: Path
    ) -> None:
        """It is that picture's row; the others of its batch have theirs."""
        refuse_thin_pictures(monkeypatch)
        cv2.imwrite(str(tmp_path / "thin.png"), np.zeros((500, 20, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "portrait.png"), cv2.imread(str(portrait)))
        pictures = [portrait, tmp_path / "thin.png", tmp_path / "portrait.png"]
        assert run("detect", *pictures, "--jsonl", tmp_path / "rows.jsonl", "--batch-size", 3) == 3
        rows = list(read_jsonl(tmp_path / "rows.jsonl"))
        assert [(len(row.faces), row.error) for row in rows] == [(1, None), (0, "can't run 20x500"), (1, None)]
        assert run("detect", tmp_path / "thin.png") == 1
        with tarfile.open(tmp_path / "a.tar", "w") as archive:  # which goes in shards
            for path in pictures:
                archive.add(path, path.name)
        assert run("detect", tmp_path / "a.tar", "--jsonl", tmp_path / "shards", "--batch-size", 3) == 3
        rows = list(read_jsonl(tmp_path / "shards" / "part-000000.jsonl"))
        assert [(len(row.faces), row.error) for row in rows] == [(1, None), (0, "can't run 20x500"), (1, None)]
        assert run("visualize", *pictures, "--output", tmp_path / "drawn") == 3
        assert written(tmp_path / "drawn") == ["astronaut.jpg", "portrait.png"]

    def test_crops_hold_the_face(self, portrait: Path, tmp_path: Path) -> None:
        assert run("detect", portrait, "--crops", tmp_path / "plain") == 0
        assert len(list(facekit.detect(tmp_path / "plain"))) == 1  # a picture like any other: nothing is drawn on it
        assert run("detect", portrait, "--crops", tmp_path / "aligned", "--align") == 0
        image = cv2.imread(str(portrait))
        (row,) = facekit.detect(portrait)
        left, top = np.floor(row.faces.boxes_xyxy[0, :2]).astype(int)
        plain = cv2.imread(str(tmp_path / "plain" / "astronaut_0.jpg")).astype(int)
        same = image[top : top + plain.shape[0], left : left + plain.shape[1]]
        assert np.abs(plain - same).mean() < 4  # but for JPEG
        aligned = cv2.imread(str(tmp_path / "aligned" / "astronaut_0.jpg"))
        assert aligned.shape == (112, 112, 3)
        # On a wider canvas: a face that fills its picture is what the detector is worst at.
        canvas = cv2.copyMakeBorder(aligned, 72, 72, 72, 72, cv2.BORDER_REPLICATE)
        (found,) = facekit.Detector.bundled().detect(canvas).above(0.5)
        assert found.landmarks_xy is not None
        expected = [(38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2)]
        assert np.abs(found.landmarks_xy - 72 - expected).max() < 6

    def test_turned_as_a_viewer_shows_it(self, portrait: Path, tmp_path: Path) -> None:
        """EXIF orientation 6: the stored picture lies on its side."""
        stored = cv2.rotate(cv2.imread(str(portrait))[:, :400], cv2.ROTATE_90_COUNTERCLOCKWISE)
        exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        done, data = cv2.imencodeWithMetadata(
            ".jpg", stored, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif, np.uint8)]
        )
        assert done
        (tmp_path / "turned.jpg").write_bytes(data.tobytes())
        (row,) = facekit.detect(tmp_path / "turned.jpg")
        assert row.size_wh == (400, 512) and len(row.faces) == 1

    def test_settings_matter(self, portrait: Path, ssd_weights: Path, tmp_path: Path) -> None:
        def found(**settings: Any) -> Any:
            (row,) = facekit.detect(portrait, **settings)
            return row.faces

        assert len(found(min_size=60)) == 1 and len(found(min_size=100)) == 0
        assert len(found(threshold=0.99)) == 0
        boxes = [found(**settings).boxes_xyxy[0] for settings in ({}, {"scale": 0.5}, {"longest_side": 256})]
        assert boxes[1].tolist() == boxes[2].tolist() != boxes[0].tolist()
        assert np.abs(boxes[0] - boxes[1]).max() < 16
        with pytest.raises(FacekitError, match="`longest_side`: face-detection-0200"):
            list(facekit.detect(portrait, model=ssd_weights, longest_side=256))
        with pytest.raises(FacekitError, match="`align`: face-detection-0200 finds no landmarks"):
            list(facekit.detect(portrait, model=ssd_weights, crops=tmp_path, align=True))

    def test_names_the_model(self, portrait: Path, project_dir: Path) -> None:
        graph = project_dir / "model_templates" / "face-detection" / "yunet-n" / "facekit.onnx"
        rows = [next(facekit.detect(portrait, model=model)) for model in (None, "yunet-n", "bundled", graph)]
        assert len({json.dumps(row.to_dict()) for row in rows}) == 1
        with pytest.raises(FacekitError, match=r"No template 'yunet-x'\. Did you mean yunet-"):
            facekit.detect(portrait, model="yunet-x")
        with pytest.raises(FacekitError, match="there is no such file"):
            facekit.detect(portrait, model="none.onnx")


class TestRefused:
    def test_arguments(self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
        assert run("detect") == 2
        assert run("detect", portrait, "--json", "-", "--csv", "-") == 2
        assert run("detect", portrait, "--parquet", "-") == 2
        assert run("detect", portrait, "--align") == 2
        assert run("detect", portrait, "--resume") == 2
        assert run("detect", portrait, "--json", tmp_path / "x", "--jsonl", tmp_path / "x") == 2
        capsys.readouterr()
        assert "a name with a suffix is a file" in fails(
            capsys, "detect", portrait, many(tmp_path / "in", portrait, 1), "--draw", tmp_path / "a.jpg"
        )
        with pytest.raises(ArgumentError):
            facekit.detect()

    def test_inputs_are_sacred(self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
        picture = tmp_path / "a.jpg"
        picture.write_bytes(portrait.read_bytes())
        (tmp_path / "list.txt").write_text(f"{picture}\n")
        for flags in (
            [picture, "--draw", tmp_path], [picture, "--json", picture], [picture, "--draw", picture],
            ["--from-file", tmp_path / "list.txt", "--csv", tmp_path / "list.txt"],
            ["--from-file", tmp_path / "list.txt", "--jsonl", picture],
        ):  # fmt: skip
            text = fails(capsys, "detect", *flags)
            assert "written over" in text or "would write text over it" in text
        os.link(picture, tmp_path / "b.jpg")
        text = fails(capsys, "detect", "--from-file", tmp_path / "list.txt", "--draw", tmp_path / "b.jpg")
        assert "facekit didn't write it" in text
        assert picture.read_bytes() == portrait.read_bytes()

    def test_nothing_that_can_be_read(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"text")
        assert run("detect", tmp_path / "a.jpg") == 1
        captured = capsys.readouterr()
        assert "not a picture" in captured.err and json.loads(captured.out)["error"].startswith("not a picture")


def test_files_of_others_stay(capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
    """In folders that pictures are drawn or cut into; facekit's own are replaced."""
    for folder, flags, name in (
        ("drawn", ("detect", portrait, "--draw"), portrait.name),
        ("cut", ("detect", portrait, "--crops"), f"{portrait.stem}_0.jpg"),
        ("covered", ("anonymize", portrait, "-o"), portrait.name),
        ("seen", ("visualize", portrait, "--output"), portrait.name),
    ):
        (tmp_path / folder).mkdir()
        other = tmp_path / folder / name
        other.write_bytes(b"another's")
        text = fails(capsys, *flags, tmp_path / folder)
        assert [path.name for path in (tmp_path / folder).iterdir()] == [name]
        assert f"{name}: is there already, and facekit didn't write it" in text
        assert other.read_bytes() == b"another's"
        other.unlink()
        for _ in range(2):
            assert run(*flags, tmp_path / folder) == 0, folder
        assert is_drawn(other) == (folder != "cut")
        assert not [path.name for path in (tmp_path / folder).iterdir() if path.name.startswith("detect.")]
        capsys.readouterr()
    labels = tmp_path / "labels" / "a" / f"{portrait.stem}.txt"
    labels.parent.mkdir(parents=True)
    labels.write_text("0 0.5 0.5 0.1 0.1\n")
    assert "labels that facekit didn't write" in fails(capsys, "detect", portrait, "--yolo", tmp_path)
    assert labels.read_text() == "0 0.5 0.5 0.1 0.1\n"
    labels.unlink()
    assert run("detect", portrait, "--yolo", tmp_path) == run("detect", portrait, "--yolo", tmp_path) == 0


def break_off(pictures: Path, jsonl: Path) -> None:
    """A run behind its second picture."""
    iterator = facekit.detect(pictures, jsonl=jsonl)
    next(iterator), next(iterator)
    del iterator


class TestResume:
    def test_killed_and_gone_on_with(self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
        """kill -9 in the middle; the file is that of an undisturbed run, bit by bit, and each row stands once."""
        pictures = many(tmp_path / "in", portrait, 30)
        (tmp_path / "list.txt").write_text("\n".join(str(path) for path in sorted(pictures.iterdir()) * 8))
        args = ["--from-file", str(tmp_path / "list.txt"), "--batch-size", "2", "--threads", "1"]
        assert run("detect", *args, "--jsonl", tmp_path / "whole.jsonl") == 3
        out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.unfinished"
        command = [sys.executable, "-m", "facekit", "detect", *args, "--jsonl", str(out)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + 30
            while (not journal.exists() or journal.read_bytes().count(b"\n") < 40) and time.monotonic() < until:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        kept = journal.read_bytes().count(b"\n")
        assert 40 <= kept < 240 and not out.exists()
        assert "had threshold" in fails(capsys, "detect", *args, "--jsonl", out, "--resume", "--threshold", "0.7")
        assert run("detect", *args, "--jsonl", out, "--resume") == 3
        assert "Going on behind the" in capsys.readouterr().err
        assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        assert not journal.exists()

    def test_stopped_by_a_signal(self, portrait: Path, tmp_path: Path) -> None:
        pictures = many(tmp_path / "in", portrait, 30)
        (tmp_path / "list.txt").write_text("\n".join(str(path) for path in sorted(pictures.iterdir()) * 8))
        out = tmp_path / "out.csv"
        command = [sys.executable, "-m", "facekit", "detect", "--from-file", tmp_path / "list.txt", "--csv", out]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            while not (tmp_path / "out.csv.unfinished").exists():
                time.sleep(0.01)
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            _, text = process.communicate()
        assert process.returncode == 143
        assert b"--resume goes on" in text and not out.exists()

    def test_other_pictures_are_refused(
        self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path
    ) -> None:
        pictures = many(tmp_path / "in", portrait, 4)
        break_off(pictures, tmp_path / "a.jsonl")
        (pictures / "000.jpg").rename(pictures / "005.jpg")
        text = fails(capsys, "detect", pictures, "--jsonl", tmp_path / "a.jsonl", "--resume")
        assert "picture 1 was" in text and "000.jpg, now it is" in text

    def test_changed_pictures_are_refused(
        self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path
    ) -> None:
        pictures = many(tmp_path / "in", portrait, 4)
        break_off(pictures, tmp_path / "a.jsonl")
        cv2.imwrite(str(pictures / "000.jpg"), np.zeros((40, 60, 3), np.uint8))
        text = fails(capsys, "detect", pictures, "--jsonl", tmp_path / "a.jsonl", "--resume")
        assert "000.jpg has changed since it was looked at" in text and "Leave --resume out" in text

    def test_losses_are_told_again(self, capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path) -> None:
        pictures = many(tmp_path / "in", portrait, 4)
        image_bgr = cv2.imread(str(portrait))
        assert image_bgr is not None
        cv2.imwritemulti(str(pictures / "000.tif"), [image_bgr] * 3)
        whole = facekit.detect(pictures, jsonl=tmp_path / "whole.jsonl").run()
        break_off(pictures, tmp_path / "a.jsonl")
        assert run("detect", pictures, "--jsonl", tmp_path / "a.jsonl", "--resume") == 3
        assert "000.tif: 2 of its 3 frames or pages" in capsys.readouterr().err
        assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        assert [loss.what[-7:] for loss in whole.losses] == ["000.tif", "002.jpg"]


def test_half_of_a_model_is_one_line(
    capsys: pytest.CaptureFixture[str], portrait: Path, tmp_path: Path, project_dir: Path
) -> None:
    int8 = project_dir / "model_templates" / "face-detection" / "yunet-n" / "facekit-int8.xml"
    (tmp_path / "a.xml").write_bytes(int8.read_bytes())
    text = fails(capsys, "detect", portrait, "--model", tmp_path / "a.xml", "--jsonl", tmp_path / "a.jsonl")
    assert "a.bin" in text and len(text.splitlines()) == 1
