from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from facekit.detector import BUNDLED_WEIGHTS
from facekit.template import TEMPLATES_DIR
from tests.cli.support import SSD, YUNET, fails, label, labelled, run, written


class TestEval:
    def test_set_without_faces(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        label(pictures, faces=[])
        metrics = tmp_path / "new" / "metrics.yaml"
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", metrics]
        assert run("eval", "--template", YUNET, *args) == 3
        table, said = capsys.readouterr()
        assert "2 labelled pictures" in table
        assert "no face of the labels counts: AP and recall have no value" in said
        assert "n/a" in table
        values = {row["key"]: row["value"] for row in yaml.safe_load(metrics.read_text())["metrics"]}
        assert {"ap", "ap_64x64", "recall_fp_0.1", "latency_p50", "size", "complexity"} <= values.keys()
        assert (values["ap"], values["ap_64x64"]) == (None, None)  # of no faces at all there is no share found
        assert values["size"] == pytest.approx(0.0759, rel=0.01)
        assert written(metrics.parent) == ["metrics.yaml"]

    @pytest.mark.parametrize("scale", ["641", "max:x", "640x480x3", "640x", "0", "Origin", ""])
    def test_scale_that_is_none(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path, scale: str
    ) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", tmp_path / "m.yaml"]
        assert run("eval", "--template", YUNET, *args, "--scale", scale) == 2
        text = capsys.readouterr().err
        assert (
            f"--scale {scale}: expected template, origin, 640, vga, max:N or WxH, such as max:1024 or 640x480, "
            "up to 9999 pixels." in text
        )
        assert not (tmp_path / "m.yaml").exists()

    def test_scale_of_no_pixels(self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--scale", "max:0"]
        assert "--scale max:0" in fails(capsys, "eval", "--template", YUNET, *args)

    @pytest.mark.parametrize(
        ("scale", "words"),
        [
            ("origin", "scale origin: own size, zero-padded to 32"),
            ("max:96", "scale max:96: fit into 96x96"),
            ("640", "scale 640: fit into 640x640, zero-padded to 32"),
            ("vga", "scale vga: fit into 640x640, zero-padded to it"),
            ("64x32", "scale 64x32: resize 64x32"),
        ],
    )
    def test_scale_stands_beside_the_figures(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path, scale: str,
        words: str,
    ) -> None:  # fmt: skip
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", tmp_path / "m.yaml"]
        assert run("eval", "--template", YUNET, *args, "--scale", scale) == 0
        assert words in capsys.readouterr().out
        assert words in yaml.safe_load((tmp_path / "m.yaml").read_text())["protocol"]

    @pytest.mark.parametrize(
        ("backend", "end"), [((), "; onnx"), (("--backend", "facedetectoryn"), "; onnx by facedetectoryn")]
    )
    def test_the_runtime_stands_beside_the_figures(
        self, pictures: Path, tmp_path: Path, backend: tuple[str, ...], end: str
    ) -> None:
        asked = (*labelled("test", pictures), "--save-metrics-to", tmp_path / "m.yaml", *backend)
        assert run("eval", "--load-weights", BUNDLED_WEIGHTS, *asked) == 0
        assert yaml.safe_load((tmp_path / "m.yaml").read_text())["protocol"].endswith(end)

    def test_scale_that_is_padded(self, pictures: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--scale", "max:80"]
        assert run("eval", "--template", YUNET, *args) == 0

    def test_the_cap_of_coco_stands_beside_it(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path
    ) -> None:
        assert run("eval", "--load-weights", yunet_weights, *labelled("test", pictures)) == 0
        assert "COCO AP counts the best 100 boxes a picture" in capsys.readouterr().out

    def test_a_threshold_of_nothing(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path
    ) -> None:
        assert run("eval", "--load-weights", yunet_weights, *labelled("test", pictures), "--threshold", 0.3) == 2
        assert "--threshold is of what is drawn: add --save-output-to or --report" in capsys.readouterr().err

    def test_draws_where_asked(self, pictures: Path, tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-output-to", tmp_path / "out"]
        assert run("eval", "--template", YUNET, *args) == 0
        assert written(tmp_path / "out") == ["a.jpg", "b.jpg"]
        assert run("eval", "--template", YUNET, *args) == 0  # its own are replaced

    def test_two_pictures_of_one_name_are_both_drawn_and_no_photo_is_replaced(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        for folder in ("one/x", "two/x"):
            (pictures / folder).mkdir(parents=True)
            shutil.copy(pictures / "a.jpg", pictures / folder / "1.jpg")
        content = json.loads((pictures / "labels.json").read_text())
        for image, name in zip(content["images"], ("one/x/1.jpg", "two/x/1.jpg"), strict=True):
            shutil.copy(pictures / image["file_name"], pictures / name)
            image["file_name"] = name
        (pictures / "labels.json").write_text(json.dumps(content))
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-output-to", tmp_path / "out"]
        assert run("eval", "--template", YUNET, *args) == 0
        assert written(tmp_path / "out") == ["1.jpg", "1_2.jpg"]
        photo = tmp_path / "out" / "labelled" / "x" / "1.jpg"
        shutil.copy(pictures / "a.jpg", photo)
        assert "1.jpg: is there already" in fails(capsys, "eval", "--template", YUNET, *args)
        assert photo.read_bytes() == (pictures / "a.jpg").read_bytes()

    def test_unusable_boxes_are_told(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path
    ) -> None:
        label(pictures, faces=[(1, (5, 5, 0, 9)), (1, (500, 5, 9, 9)), (1, (50, 5, 40, 9))])
        assert run("eval", "--template", YUNET, "--load-weights", yunet_weights, *labelled("test", pictures)) == 0
        text = capsys.readouterr().err
        for reason in ("have no area", "lie wholly outside", "reach outside"):
            assert f"warning: {pictures / 'labels.json'}: 1 boxes {reason}" in text

    def test_foreign_metrics_file_is_kept(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        metrics = tmp_path / "metrics.yaml"
        metrics.write_text("- a list\n")
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-metrics-to", metrics]
        assert "no metrics file" in fails(capsys, "eval", "--template", YUNET, *args)
        assert metrics.read_text() == "- a list\n"

    def test_flip_scales_and_thresholds_stand_beside_the_figures(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path
    ) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--flip", "--multi-scale",
                "--score-threshold", "0.3", "--nms-threshold", "0.5", "--max-detections", "7"]  # fmt: skip
        assert run("eval", "--template", YUNET, *args) == 0
        text = capsys.readouterr().out
        assert "score 0.3, NMS 0.5, 7 boxes; scales x0.5, x1, x2, mirrored too, merged by box fusion" in text

    @pytest.mark.parametrize(
        ("factors", "words"), [("1,a", "expected numbers such as 0.5,1,2"), ("0", "from 0.1 to 8"), ("", "got ''")]
    )
    def test_bad_factors(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path, factors: str, words: str
    ) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--multi-scale", factors]
        assert words in fails(capsys, "eval", "--template", YUNET, *args)

    def test_published_figures_stand_beside_their_own_protocol_alone(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path
    ) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures)]
        for flags, complexity in (((), "1.192"), (("--scale", "origin"), "1.192"), (("--scale", "640"), "-"),
                                  (("--flip",), "-"), (("--score-threshold", "0.1"), "-")):  # fmt: skip
            assert run("eval", "--template", YUNET, *args, *flags) == 0
            rows = [line.split() for line in capsys.readouterr().out.splitlines()]
            published = {row[0]: row[2] for row in rows if row and row[0] in ("Size", "Complexity")}
            assert published == {"Size": "0.076", "Complexity": complexity}

    def test_published_figures_never_stand_beside_another_set(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, ssd_weights: Path
    ) -> None:
        args = ["--load-weights", ssd_weights, *labelled("test", pictures), "--report", tmp_path / "r.html"]
        assert run("eval", "--template", SSD, *args) == 0
        table = capsys.readouterr().out
        assert "16.000" not in table and "86.743" not in table
        assert "of all 3226 pictures of WIDER FACE's validation set" in table
        assert "another set, so they don't stand beside these" in table
        page = (tmp_path / "r.html").read_text()
        assert "16.00<" not in page and "another set, so they don" in page

    def test_set_and_weights_are_named(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        faces = [(1, (10, 10, 30, 30)), (2, (5, 5, 30, 30)), (2, (0, 0, 9, 9))]
        label(pictures, faces=faces)
        content = json.loads((pictures / "labels.json").read_text())
        content["annotations"][2]["iscrowd"] = 1
        (pictures / "labels.json").write_text(json.dumps(content))
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--report", tmp_path / "r.html"]
        assert run("eval", "--template", YUNET, *args, "--save-metrics-to", tmp_path / "m.yaml") == 0
        digest = hashlib.sha256(yunet_weights.read_bytes()).hexdigest()
        named = f"2 labelled pictures, 2 faces, 1 crowd ignored ({pictures.name}/labels.json)"
        table = capsys.readouterr().out
        assert f"weights: {yunet_weights} (pth; SHA-256 {digest[:16]}...)" in table
        assert f"; {named}; pth" in table
        page = (tmp_path / "r.html").read_text()
        assert named in page and digest in page and f"{yunet_weights.name} (SHA-256 {digest[:16]}" in page
        rows = yaml.safe_load((tmp_path / "m.yaml").read_text())["thresholds"]
        assert list(rows[0]) == [
            "score_threshold", "precision_percent", "recall_percent", "f1_percent", "false_positives_per_picture",
            "is_best_f1",
        ]  # fmt: skip
        assert rows[0]["score_threshold"] == 0.02

    @pytest.mark.parametrize("batch_size", [1, 2])
    def test_one_bad_picture_ends_nothing(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, yunet_weights: Path, batch_size: int
    ) -> None:
        (pictures / "a.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:200])
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--batch-size", batch_size]
        assert run("eval", "--template", YUNET, *args) == 3
        text = capsys.readouterr()
        assert "1 labelled picture, 1 unreadable left out, 0 faces (pictures/labels.json); pth" in text.out
        assert f"Left out: {pictures / 'a.jpg'}: " in text.err
        (pictures / "b.jpg").write_bytes(b"")
        assert "None of the 2 pictures can be read" in fails(capsys, "eval", "--template", YUNET, *args)

    def test_exported_weights_are_measured_without_torch(self, pictures: Path) -> None:
        onnx = TEMPLATES_DIR / "yunet-n" / "facekit.onnx"
        code = (
            "import sys\n"
            "sys.modules.update(torch=None, torchvision=None)  # as if they were not installed\n"
            "from facekit.cli import main\n"
            "main(sys.argv[1:])\n"
        )
        args = ["eval", "--template", YUNET, "--load-weights", str(onnx), *labelled("test", pictures)]
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 labelled pictures" in done.stdout and "Complexity" not in done.stdout
        assert "Size and complexity are left out" in done.stderr

    def test_a_page_that_reports_can_be_compared(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        for name in ("a", "b"):
            args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--report", tmp_path / f"{name}.html"]
            assert run("eval", "--template", YUNET, *args) == 0
        assert run("report", tmp_path / "a.html", tmp_path / "b.html", "--output", tmp_path / "both.html") == 0
        page = (tmp_path / "both.html").read_text()
        assert "2 labelled pictures" in page and YUNET in page

    def test_predictions_are_written(self, pictures: Path, tmp_path: Path, yunet_weights: Path) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--save-predictions", tmp_path / "p"]
        assert run("eval", "--template", YUNET, *args, "--batch-size", 2) == 0
        assert written(tmp_path / "p") == ["a.txt", "b.txt"]

    def test_page_of_another_kind(
        self, capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path, yunet_weights: Path
    ) -> None:
        args = ["--load-weights", yunet_weights, *labelled("test", pictures), "--report", tmp_path / "report.pdf"]
        assert "ends in .html" in fails(capsys, "eval", "--template", YUNET, *args)
