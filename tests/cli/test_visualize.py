from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import YUNET, fails, run, written


class TestVisualize:
    def test_pictures(self, pictures: Path, tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, "--images", f"{pictures}/*.jpg", "--output", tmp_path / "out"]
        assert run("visualize", "--template", YUNET, *args) == 0
        assert written(tmp_path / "out") == ["a.jpg", "b.jpg"]

    @pytest.mark.parametrize("sources", [[], ["--video", "0", "--images", "."]])
    def test_one_source(self, capsys: pytest.CaptureFixture[str], yunet_weights: Path, sources: list[str]) -> None:
        text = fails(capsys, "visualize", "--template", YUNET, "--load-weights", yunet_weights, *sources)
        assert "either --video or --images" in text

    def test_bundled_detector(
        self, capsys: pytest.CaptureFixture[str], project_dir: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        photograph = project_dir / "data" / "demo" / "astronaut.jpg"
        assert run("visualize", "--images", photograph, "--output", tmp_path / "faces.jpg") == 0
        assert "astronaut.jpg: 1 face in" in capsys.readouterr().err
        assert written(tmp_path) == ["faces.jpg"]
        assert run("visualize", photograph, "--output", tmp_path / "faces.jpg") == 0  # F5: pictures may be positional
        assert "Give --load-weights" in fails(capsys, "visualize", "--template", YUNET, "--images", photograph)
        # F15: a checkpoint names its template; the bundled weights have a name.
        for weights in (yunet_weights, "bundled"):
            assert run("visualize", "--load-weights", weights, photograph, "--output", tmp_path / "faces.jpg") == 0
        assert "is a yunet-n" in fails(
            capsys, "visualize", photograph, "--load-weights", "bundled", "--template", "yunet-s"
        )

    def test_no_such_video(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, "--video", tmp_path / "none.mp4", "--output", tmp_path / "out.mp4"]
        assert "there is no such file" in fails(capsys, "visualize", "--template", YUNET, *args)
        assert not list(tmp_path.iterdir())

    def test_all_names_are_done(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        """F7."""
        names = ["--images", pictures / "a.jpg", "--images", pictures / "b.jpg", pictures / "c.jpg", pictures / "d.jpg"]
        for name in ("c.jpg", "d.jpg"):
            (pictures / name).write_bytes((pictures / "a.jpg").read_bytes())
        assert run("visualize", *names, "--output", tmp_path / "out") == 0
        assert written(tmp_path / "out") == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]

    def test_bad_pictures_come_last(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        """F8, P8: exit code 3, the reason at the end, and what was passed over by its suffix."""
        (pictures / "aa.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:400])
        (pictures / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1")
        assert run("visualize", "--images", pictures, "--output", tmp_path / "out") == 3
        captured = capsys.readouterr()
        assert "2 picture(s) written" in captured.out
        *_, first, second, last = captured.err.splitlines()
        assert first.startswith(f"Left out: {pictures / 'aa.jpg'}: the JPEG is cut off")
        assert second.startswith(f"Left out: {pictures / 'x.heic'}: ")
        assert "2 left out" in last
        assert "Passed over, no pictures: 1 (1 .json)" in captured.err
        assert "labels" not in captured.err

    def test_names_are_shown_on_one_line(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
    ) -> None:
        (pictures / "b.jpg").rename(pictures / "b\n\x1b[31m.jpg")
        (pictures / "c\n\x1b[31m.jpg").write_bytes(b"text")
        assert run("visualize", pictures, "--output", tmp_path / "out") == 3
        captured = capsys.readouterr()
        assert f"{pictures}/b\\n\\x1b[31m.jpg: " in captured.err
        assert f"the last: {tmp_path}/out/b\\n\\x1b[31m.jpg" in captured.out
        assert f"Left out: {pictures}/c\\n\\x1b[31m.jpg: not a picture" in captured.err
        assert "\x1b" not in captured.out + captured.err

    def test_all_bad(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"text")
        assert run("visualize", tmp_path / "a.jpg", "--output", tmp_path / "out") == 1
        assert "not a picture" in capsys.readouterr().err

    @pytest.mark.parametrize("output", ["faces.json", "one.jpg"])
    def test_a_file_for_many(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, output: str
    ) -> None:
        """F6."""
        assert "is a file" in fails(capsys, "visualize", "--images", pictures, "--output", tmp_path / output)
        assert not (tmp_path / output).exists()

    def test_own_pictures_stay(self, capsys: pytest.CaptureFixture[str], pictures: Path) -> None:
        """F1."""
        before = (pictures / "a.jpg").read_bytes()
        for names in ((pictures, pictures), (pictures / "a.jpg", pictures / "a.jpg"), (pictures / "a.jpg", pictures)):
            text = fails(capsys, "visualize", "--images", names[0], "--output", names[1])
            assert "this command reads it" in text
        assert (pictures / "a.jpg").read_bytes() == before

    def test_password(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """P12."""
        text = fails(capsys, "visualize", "--video", "rtsp://me:geheim@127.0.0.1:9/s", "--output", tmp_path / "a.mp4")
        assert "geheim" not in text
        assert "rtsp://me:***@127.0.0.1:9/s" in text

    def test_limit_of_pixels(self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path) -> None:
        args = ["--images", pictures / "a.jpg", "--output", tmp_path / "out", "--max-pixels", 3071]
        assert "64x48 pixels, over the limit of 3071" in fails(capsys, "visualize", *args)
