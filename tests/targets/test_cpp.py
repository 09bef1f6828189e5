"""The C++ header: what a program that includes it gets is what Detector gives, in both compilers, within its memory."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facekit.detector import BUNDLED_WEIGHTS, Detector
from facekit.errors import FacekitError
from facekit.pictures.read import read_picture
from facekit.protocol import at_scale, with_thresholds
from facekit.structures import Detections
from facekit.targets import open_backend
from facekit.targets.cpp import HeaderBackend
from facekit.targets.cpp.header import PARTS, check_is_ours, check_template, header_text, own_template, yunet_options
from facekit.targets.reading.about import about_export
from facekit.targets.table import TARGETS
from facekit.targets.writing.export import ExportSettings, check_places, export_weights
from facekit.targets.writing.verify import Tolerance, compare_faces
from facekit.template import Template, find_template, load_template
from facekit.weights.checkpoint import Checkpoint, new_meta, save_checkpoint
from facekit.weights.identify import template_of_weights
from tests.targets.support import lively_network

COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
STRICT = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-march=native")
YUNET_WEIGHTS = BUNDLED_WEIGHTS.with_suffix(".pth")

pytestmark = pytest.mark.skipif(not COMPILERS, reason="needs a C++ compiler")


def equal(got: Detections, expected: Detections) -> None:
    assert len(got) == len(expected)
    differences = compare_faces(expected, got, 0.0)
    assert differences.within(Tolerance(1e-3, 0.5)), str(differences)


@pytest.fixture(scope="module")
def yunet_header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yunet")
    template = load_template(find_template("yunet-n"))
    done = export_weights(YUNET_WEIGHTS, template, folder, ExportSettings(("cpp",)))
    check_places([TARGETS["cpp"]], folder, template)  # of the next export
    assert done.written[0].differences is not None and done.written[0].differences.scores < 1e-5
    assert [path.name for path in done.files] == ["facekit_yunet_n.hpp", "main.cpp", "CMakeLists.txt", "README.md"]
    return done.files[0]


@pytest.fixture(scope="module")
def yunet(yunet_header: Path) -> HeaderBackend:
    opened = open_backend(yunet_header, threads=1)
    assert isinstance(opened, HeaderBackend)
    return opened


@pytest.fixture(scope="module")
def portrait(project_dir: Path) -> NDArray[np.uint8]:
    return read_picture(project_dir / "data" / "demo" / "astronaut.jpg")


class TestYuNet:
    @pytest.mark.parametrize("size_wh", [(333, 251), (512, 512), (96, 64)])
    def test_portrait(self, yunet: HeaderBackend, portrait: NDArray[np.uint8], size_wh: tuple[int, int]) -> None:
        picture = np.asarray(cv2.resize(portrait, size_wh), dtype=np.uint8)
        expected = Detector.bundled().detect(picture)
        assert len(expected) > 0
        equal(yunet.detect(picture), expected)
        equal(Detector(yunet).detect(picture), expected)

    def test_rows_apart(self, yunet: HeaderBackend, portrait: NDArray[np.uint8]) -> None:
        part = portrait[3:290, 100:371]  # a view: the step is the whole picture's
        expected = Detector.bundled().detect(np.ascontiguousarray(part))
        assert len(expected) == 1
        equal(yunet.detect(part), expected)

    @pytest.mark.parametrize("shape", [(1, 1, 3), (1, 70, 3), (200, 2, 3)])
    def test_slivers(self, yunet: HeaderBackend, shape: tuple[int, int, int]) -> None:
        picture = np.full(shape, 200, dtype=np.uint8)
        equal(yunet.detect(picture), Detector.bundled().detect(picture))

    def test_empty(self, yunet: HeaderBackend) -> None:
        assert len(yunet.detect(np.zeros((0, 0, 3), dtype=np.uint8))) == 0
        assert len(yunet.detect(np.zeros((0, 7, 3), dtype=np.uint8))) == 0

    def test_many_faces_of_real_pictures(self, yunet: HeaderBackend, shared_dir: Path) -> None:
        for path in sorted((shared_dir / "data" / "widerface").rglob("*.jpg"))[:3]:
            picture = read_picture(path)
            expected = Detector.bundled().detect(picture)
            assert len(expected) > 5
            equal(yunet.detect(picture), expected)

    def test_by_other_thresholds_and_sizes(
        self, yunet: HeaderBackend, yunet_header: Path, portrait: NDArray[np.uint8]
    ) -> None:
        for scale in ("template", "vga", "320x256"):
            template = with_thresholds(at_scale(yunet.template, scale), 0.3, 0.5, 7)
            got = Detector(open_backend(yunet_header, template, threads=1)).detect(portrait)
            equal(got, Detector.open(BUNDLED_WEIGHTS, template).detect(portrait))

    def test_commands_know_its_template(self, yunet_header: Path) -> None:
        assert template_of_weights(yunet_header) == "yunet-n"

    def test_batches_and_vectors(self, yunet: HeaderBackend) -> None:
        pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
        said = yunet(pictures)
        assert said.boxes_xyxy.shape == (2, 126, 4) and said.scores.shape == (2, 126)
        np.testing.assert_array_equal(said.boxes_xyxy[1], yunet(pictures[1:]).boxes_xyxy[0])
        assert yunet.vectors in ("AVX-512", "AVX2", "NEON", "SSE2", "plain C++")


def random_weights(template: Template, path: Path) -> Path:
    save_checkpoint(path, Checkpoint(new_meta(template, 1, 1), lively_network(template).state_dict()))
    return path


def test_ultralight(portrait: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = load_template(find_template("ultralight-rfb-320"))
    # Where there are no weights random ones will do for all but the faces: their scores are too close to each other.
    shared = Path(os.environ.get("FACEKIT_SHARED", "nowhere"))
    published = shared / "weights" / "ultralight" / "version-RFB-320.pth"
    weights = published if published.is_file() else random_weights(template, tmp_path / "random.pth")
    if "clang++" in COMPILERS:
        monkeypatch.setattr("facekit.targets.cpp.COMPILERS", ("clang++",))
    done = export_weights(weights, template, tmp_path / "out", ExportSettings(("cpp",)))
    differences = done.written[0].differences
    assert differences is not None
    assert differences.scores < (1e-5 if weights == published else 1e-4)  # rounding grows where scores are steep
    header = open_backend(done.files[0], template, threads=1)
    assert isinstance(header, HeaderBackend)
    for size_wh in ((640, 480), (333, 251), (100, 900), (7, 1)):  # halved, shrunk, enlarged
        picture = np.asarray(cv2.resize(portrait, size_wh), dtype=np.uint8)
        resized = np.asarray(cv2.resize(picture, (320, 240)), dtype=np.uint8)
        got, expected = header.detect(picture), header.detect(resized)
        assert len(got) == len(expected) <= 400
        np.testing.assert_array_equal(got.scores, expected.scores)  # resized to the bit as OpenCV does
        scale = np.array([size_wh[0] / 320, size_wh[1] / 240] * 2, dtype=np.float32)
        np.testing.assert_allclose(got.boxes_xyxy, expected.boxes_xyxy * scale, rtol=1e-5, atol=1e-4)
    if weights == published:
        picture = read_picture(sorted((shared / "data" / "widerface").rglob("*.jpg"))[0])
        expected = Detector.open(weights, template, "cpu", threads=1).detect(picture)
        assert len(expected) > 20
        equal(header.detect(picture), expected)


class TestCompilers:
    @pytest.mark.parametrize("compiler", COMPILERS)
    def test_example_without_a_warning(
        self, compiler: str, yunet_header: Path, portrait: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        program, picture = tmp_path / "faces", tmp_path / "portrait.ppm"
        source = yunet_header.with_name("main.cpp")
        subprocess.run([compiler, *STRICT, "-O3", source, "-o", program], check=True)
        cv2.imwrite(str(picture), portrait)
        lines = subprocess.run([program, picture], capture_output=True, text=True, check=True).stdout.splitlines()
        face = Detector.bundled().detect(portrait).above(0.5)[0]
        assert len(lines) == 1 and face.landmarks_xy is not None
        wanted = [*face.box_xyxy, face.score, *face.landmarks_xy.reshape(-1)]
        np.testing.assert_allclose([float(text) for text in lines[0].split()], wanted, atol=0.06)
        picture.write_bytes(picture.read_bytes()[:-1])
        failed = subprocess.run([program, picture], capture_output=True, text=True, check=False)
        assert failed.returncode == 1 and "ends too early" in failed.stderr

    def test_memory_under_sanitizers(self, yunet_header: Path, project_dir: Path, tmp_path: Path) -> None:
        program = tmp_path / "check"
        command = [COMPILERS[0], *STRICT, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
                   f'-DHEADER="{yunet_header}"', project_dir / "tools" / "header_check.cpp", "-o", program]  # fmt: skip
        subprocess.run(command, check=True)
        done = subprocess.run([program, "100"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("ok: 100 calls")

    def test_cmake_reads_what_lies_beside(self, yunet_header: Path, tmp_path: Path) -> None:
        if shutil.which("cmake") is None:
            pytest.skip("needs cmake")
        subprocess.run(["cmake", "-S", yunet_header.parent, "-B", tmp_path], check=True, capture_output=True)
        assert (tmp_path / "Makefile").exists() or (tmp_path / "build.ninja").exists()


def test_two_of_one_name_keep_their_weights(yunet: HeaderBackend, yunet_header: Path, tmp_path: Path) -> None:
    text, path = yunet_header.read_text(encoding="utf-8"), tmp_path / "other.hpp"
    last = text[: text.index("\n};\n")].rindex("\n") + 1
    end = text.index("\n};\n")
    numbers = text[last:end].split()
    path.write_text(text[:last] + " ".join(["9.0f,"] * len(numbers)) + text[end:], encoding="utf-8")
    picture = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    before = yunet(picture).landmarks_xy
    other = HeaderBackend(path, None, 1, (COMPILERS[0], "-O1"))
    assert not np.allclose(other(picture).landmarks_xy, before)
    np.testing.assert_array_equal(yunet(picture).landmarks_xy, before)


class TestOnlyOwnCodeIsCompiled:
    def refused(self, path: Path, text: str, match: str) -> None:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FacekitError, match=match):
            open_backend(path)

    def test_changed_headers(self, yunet_header: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: object, **__: object) -> None:
            raise AssertionError("compiled")

        monkeypatch.setattr("facekit.targets.cpp.subprocess.run", never)
        text, path = yunet_header.read_text(encoding="utf-8"), tmp_path / "facekit_yunet_n.hpp"
        begin = text.index("kWeights[] = {\n") + len("kWeights[] = {\n")
        name_end = text.index("\n", begin)
        call = '}; int x = system("true"); float y[] = {'
        self.refused(path, text[:begin] + call + "\n" + text[begin:], "expected numbers")
        self.refused(path, text[:name_end] + "\r" + call + text[name_end:], "expected numbers")
        self.refused(path, text.replace("// facekit: {", "// facekit: \\\n{", 1), "can't be read|says nothing")
        self.refused(path, text.replace('"template"', '"template"\r', 1), "says nothing of its template")
        self.refused(path, text + "int x;\n", "Export it again")
        self.refused(path, text.replace("kNmsThreshold = 0.45f", "kNmsThreshold = 0.46f"), "not what facekit")
        self.refused(path, text[:-2000], "not what facekit")
        self.refused(path, "int main() {}\n", "says nothing of its template")

    @pytest.mark.parametrize("order", ["bgr", "rgb"])
    def test_a_work_dirs_own_colours_are_numbers(self, order: Literal["bgr", "rgb"]) -> None:
        """Of which facekit's own template knows nothing."""
        template = load_template(find_template("yunet-n"))
        given = dataclasses.replace(template.input, colour_order=order, mean=(104, 117.5, 1e-5), std=(57.1, 2, 1))
        own = dataclasses.replace(template, input=given)
        said = about_export(own, None)
        options = yunet_options([16, 64, 64, 64, 64, 64], 1)
        text = header_text(own, options, said.to_json(), [("a", np.zeros(3, np.float32))])
        check_is_ours(text, own_template(text, said, own), "a.hpp")
        check_is_ours(text, own_template(text, said, template), "a.hpp")
        for other in ("57.10f", "57.1f + f()"):
            changed = text.replace("57.1f", other)
            with pytest.raises(FacekitError, match="not what facekit"):
                check_is_ours(changed, own_template(changed, said, template), "a.hpp")

    def test_a_pointer_to_a_header(self, tmp_path: Path) -> None:
        (tmp_path / "a.hpp").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(FacekitError, match=r"a\.hpp: is a Git LFS pointer, not the file itself"):
            HeaderBackend(tmp_path / "a.hpp", None, 1)

    def test_too_few_numbers(self, yunet_header: Path, tmp_path: Path) -> None:
        text = yunet_header.read_text(encoding="utf-8")
        end = text.index("\n};\n")
        path = tmp_path / "short.hpp"
        path.write_text(text[: text.rindex("\n", 0, end)] + text[end:], encoding="utf-8")
        with pytest.raises(FacekitError, match="not as many numbers as its network"):
            HeaderBackend(path, None, 1, (COMPILERS[0], "-O0"))


class TestTemplates:
    def test_others_are_refused(self) -> None:
        with pytest.raises(FacekitError, match=r"written for yunet and ultralight, this is ssd"):
            check_template(load_template(find_template("face-detection-0200")))

    def test_a_name_is_no_code(self) -> None:
        template = load_template(find_template("yunet-n"))
        with pytest.raises(FacekitError, match="name"):
            check_template(dataclasses.replace(template, name='x"; int y = system("true"); //'))

    def test_sizes_that_the_network_cannot_take(self) -> None:
        template = load_template(find_template("yunet-n"))
        rule = dataclasses.replace(template.evaluation, size_multiple=8)
        with pytest.raises(FacekitError, match="multiples of 32"):
            check_template(dataclasses.replace(template, evaluation=rule))


def test_without_a_compiler_it_is_said(yunet_header: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekit.targets.cpp.shutil.which", lambda _: None)
    with pytest.raises(FacekitError, match=r"takes a C\+\+ compiler"):
        open_backend(yunet_header)


def test_its_parts_are_in_the_wheel(project_dir: Path) -> None:
    patterns = tomllib.loads((project_dir / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "facekit"
    ]
    packed = {path for pattern in patterns for path in (project_dir / "facekit").glob(pattern)}
    parts = {path for path in PARTS.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert len(parts) > 10 and parts <= packed
