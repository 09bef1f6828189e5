"""Others' files, recognised by what they give and decoded as their makers describe."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from facekit import Detector
from facekit.errors import ArgumentError, FacekitError
from facekit.feed import candidates
from facekit.ops.head import declared_head
from facekit.targets import open_backend
from facekit.targets.reading.layouts import LAYOUTS, GraphFacts, find_layout
from facekit.targets.reading.outputs import GraphInput, GraphOutputs
from facekit.template import find_template, load_template
from tests.targets import foreign
from tests.targets.foreign import Numbers, graph_of
from tests.targets.support import check_equal, decoded

PORTRAIT = Path(__file__).resolve().parents[3] / "data" / "demo" / "astronaut.jpg"

# Name of the layout, what makes such a graph, its size.
MADE: dict[str, tuple[str, Callable, tuple[int, int]]] = {
    "yunet": ("yunet", foreign.yunet, (64, 96)),
    "yunet of 2022": ("yunet-2022", foreign.yunet_2022, (120, 160)),
    "scrfd of nine": ("scrfd", foreign.scrfd, (64, 96)),
    "scrfd of six": ("scrfd", lambda size, n: foreign.scrfd(size, n, points=False), (64, 96)),
    "yolo5face": ("yolo5face", foreign.yolo5face, (64, 96)),
    "yolo5face of four dimensions": ("yolo5face", lambda size, n: foreign.yolo5face(size, n, kind="four"), (64, 96)),
    "yolo5face decoded": ("yolo5face-boxes", foreign.yolo5face_boxes, (64, 96)),
    "retinaface": ("retinaface", foreign.retinaface, (50, 70)),
    "retinaface before its softmax": ("retinaface", lambda size, n: foreign.retinaface(size, n, logits=True), (64, 96)),
    "retinaface of two levels": (
        "retinaface-2-level",
        lambda size, n: foreign.retinaface(size, n, sizes={16: (64, 128), 32: (256, 512)}),
        (64, 96),
    ),
    "ultra-light": ("ultra-light", foreign.ultra_light, (120, 160)),
    "ultra-light not decoded": (
        "ultra-light-deltas", lambda size, n: foreign.ultra_light(size, n, decoded=False), (120, 160),
    ),
    "centerface": ("centerface", foreign.centerface, (64, 96)),
}  # fmt: skip


def shuffled(outputs: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """In another order under names that say nothing."""
    names = list(outputs)
    rng.shuffle(names)
    return {str(500 + place): outputs[name] for place, name in enumerate(names)}


@pytest.mark.parametrize("kind", ["retinaface", "ultra-light"])
@pytest.mark.parametrize("in_fractions", [True, False])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 3, 2), "centre"])
def test_decoded_boxes_are_not_taken_for_deltas(
    tmp_path: Path, kind: str, in_fractions: bool, order: tuple[int, ...] | str
) -> None:
    """Exports with the decoding inside are common: of an unknown layout they are refused, and not read as faces that
    lie at the priors whatever the network says."""
    _, make, size_hw = MADE[kind]
    outputs, faces = make(size_hw, Numbers(7))
    corners = np.array([face[0] for face in faces], np.float32)
    corners /= np.array([size_hw[1], size_hw[0]] * 2, np.float32) if in_fractions else 1
    centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    name = "loc" if kind == "retinaface" else "boxes"
    outputs[name] = (centred if isinstance(order, str) else corners[:, list(order)])[None].astype(np.float32)
    file = graph_of(tmp_path / "made.onnx", outputs, size_hw)
    if kind == "ultra-light" and in_fractions and order == (0, 1, 2, 3):
        assert open_backend(file, threads=1).template.name == "ultra-light"
    else:
        with pytest.raises(FacekitError, match="laid out like no detector's that is known"):
            open_backend(file, threads=1)


@pytest.mark.parametrize("kind", MADE)
def test_made_graphs_are_told_apart_and_decoded(tmp_path: Path, kind: str) -> None:
    name, make, size_hw = MADE[kind]
    numbers = Numbers(7)
    outputs, faces = make(size_hw, numbers)
    file = graph_of(tmp_path / "made.onnx", shuffled(outputs, numbers.rng), size_hw)
    backend = open_backend(file, threads=1)
    assert backend.template.name == name
    assert (backend.fixed_size_hw, backend.fixed_batch) == (size_hw, 1)
    got = decoded(backend, np.zeros((1, *size_hw, 3), np.uint8)).of(0)
    boxes = np.array([face[0] for face in faces])
    if LAYOUTS[name].head.clips_boxes:
        boxes = boxes.clip(0, np.tile([size_hw[1], size_hw[0]], 2))
    np.testing.assert_allclose(got.boxes_xyxy, boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(got.scores, [face[1] for face in faces], atol=1e-5)
    assert (got.landmarks_xy is None) == (faces[0][2] is None)
    if got.landmarks_xy is not None:
        np.testing.assert_allclose(got.landmarks_xy, [face[2] for face in faces], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("bundled", "name"), [
    ("yunet-n", "yunet"), ("scrfd-0.5g", "scrfd"), ("retinaface-mobilenetv1-0.25-p3", "retinaface"),
    ("retinaface-mobilenetv1-0.25", "retinaface-2-level"), ("ultralight-rfb-320", "ultra-light"),
])  # fmt: skip
def test_layouts_of_detectors_that_have_a_template_say_the_same(bundled: str, name: str) -> None:
    template, foreign_one = load_template(find_template(bundled)), LAYOUTS[name].template()
    assert declared_head(foreign_one.model) == declared_head(template.model)
    assert foreign_one.evaluation == template.evaluation
    assert foreign_one.input == template.input


class TestWhatAFileCannotTell:
    def test_sizes_and_offsets_that_could_be_either(self, tmp_path: Path) -> None:
        outputs, faces = foreign.centerface((64, 96), Numbers(1), sure=False)
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        with pytest.raises(FacekitError, match=r"can't tell which of its two .* is the size. Say `layout`: centerface"):
            open_backend(file)
        backend = open_backend(file, layout="centerface")  # then in the order in which it is published
        found = decoded(backend, np.zeros((1, 64, 96, 3), np.uint8)).of(0)
        boxes = np.array([face[0] for face in faces]).clip(0, [96, 64, 96, 64])
        np.testing.assert_allclose(found.boxes_xyxy, boxes, rtol=1e-4, atol=1e-3)

    def test_detection_output_without_a_converters_word(self, tmp_path: Path) -> None:
        rows = np.zeros((1, 1, 5, 7), np.float32)
        rows[0, 0, :, 0] = (0, 0, -1, 0, 0)  # the third ends the list
        rows[0, 0, :, 2:] = (0.9, 0.1, 0.2, 0.5, 0.6)
        file = graph_of(tmp_path / "made.onnx", {"527": rows}, (60, 80))
        with pytest.raises(FacekitError, match="what pixels it takes: colour order, mean and scale") as caught:
            open_backend(file)
        assert all(name in str(caught.value) for name in ("open-model-zoo-ssd", "opencv-res10"))
        assert "\n" not in str(caught.value)
        picture = np.full((1, 60, 80, 3), 100, np.uint8)
        for layout, first_pixel in (("open-model-zoo-ssd", [100, 100, 100]), ("opencv-res10", [-4, -17, -23])):
            backend = open_backend(file, layout=layout)
            found = decoded(backend, picture).of(0)
            np.testing.assert_allclose(found.scores, [0.9, 0.9, 0, 0, 0])
            np.testing.assert_allclose(found.boxes_xyxy[0], [8, 12, 40, 36], rtol=1e-6)
            assert backend.outputs.feed(picture)[0, :, 0, 0].tolist() == first_pixel

    def test_boxes_beside_labels_without_a_converters_word(self, tmp_path: Path) -> None:
        rows = {"a": np.full((3, 5), 0.5, np.float32), "b": np.zeros(3, np.int64)}
        with pytest.raises(FacekitError, match="Say `layout`: open-model-zoo-boxes"):
            open_backend(graph_of(tmp_path / "made.onnx", rows, (60, 80)))

    def test_what_a_converter_says_decides(self, tmp_path: Path) -> None:
        ov = pytest.importorskip("openvino")
        outputs, _ = foreign.scrfd((64, 96), Numbers(2))
        model = ov.convert_model(graph_of(tmp_path / "made.onnx", outputs, (64, 96)))
        picture = np.zeros((1, 64, 96, 3), np.uint8)
        picture[..., 0] = 200  # blue
        firsts = []
        for said in (
            {},
            {"reverse_input_channels": "True"},
            {"reverse_input_channels": "True", "scale_values": "[128]"},
        ):
            for key, value in said.items():
                model.set_rt_info(value, ["conversion_parameters", key])
            ov.save_model(model, tmp_path / "made.xml", compress_to_fp16=False)
            firsts.append(open_backend(tmp_path / "made.xml").outputs.feed(picture)[0, :, 0, 0].tolist())
        low, high = -127.5 / 128, 72.5 / 128
        assert firsts == [[low, low, high], [high, low, low], [200, 0, 0]]


@pytest.mark.parametrize(("name", "first_pixel"), [  # of B, G, R = 10, 20, 30; as the makers' scripts have it
    ("yunet", [10, 20, 30]), ("yunet-2022", [10, 20, 30]),
    ("scrfd", [-97.5 / 128, -107.5 / 128, -117.5 / 128]),
    ("yolo5face", [30 / 255, 20 / 255, 10 / 255]), ("yolo5face-boxes", [30 / 255, 20 / 255, 10 / 255]),
    ("retinaface", [-94, -97, -93]), ("retinaface-2-level", [-94, -97, -93]),
    ("ultra-light", [-97 / 128, -107 / 128, -117 / 128]), ("ultra-light-deltas", [-97 / 128, -107 / 128, -117 / 128]),
    ("centerface", [30, 20, 10]), ("open-model-zoo-ssd", [10, 20, 30]), ("open-model-zoo-boxes", [10, 20, 30]),
    ("opencv-res10", [-94, -97, -93]),
])  # fmt: skip
def test_what_each_is_fed_with(name: str, first_pixel: list[float]) -> None:
    facts = GraphFacts("made", GraphInput([[1, 3, 64, 96]], ["float32"], "made"))
    outputs = GraphOutputs(LAYOUTS[name].template(facts), "made")
    picture = np.full((1, 64, 96, 3), (10, 20, 30), np.uint8)
    np.testing.assert_allclose(outputs.feed(picture)[0, :, 0, 0], first_pixel, rtol=1e-5)


def test_every_layout_is_fed_in_a_test() -> None:
    (mark,) = [mark for mark in test_what_each_is_fed_with.pytestmark if mark.name == "parametrize"]
    assert {row[0] for row in mark.args[1]} == set(LAYOUTS)


class TestRefusals:
    """In one line, with what was got."""

    def refusal(self, tmp_path: Path, outputs: dict[str, np.ndarray], **kwargs: str) -> str:
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        with pytest.raises(FacekitError) as caught:
            open_backend(file, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_outputs_of_no_layout(self, tmp_path: Path) -> None:
        said = self.refusal(tmp_path, {"a": np.zeros((1, 10, 6), np.float32)})
        assert "laid out like no detector's that is known" in said
        assert "got a float32(1, 10, 6)" in said

    def test_another_layout_than_was_said(self, tmp_path: Path) -> None:
        outputs, _ = foreign.scrfd((64, 96), Numbers(3))
        assert "its outputs are not laid out like yunet" in self.refusal(tmp_path, outputs, layout="yunet")

    def test_scores_before_their_sigmoid(self, tmp_path: Path) -> None:
        outputs, _ = foreign.scrfd((64, 96), Numbers(3))
        outputs["s8"] = outputs["s8"] * 9 - 4
        assert "laid out like scrfd, but its scores, -3" in self.refusal(tmp_path, outputs)

    def test_scores_that_are_no_numbers(self, tmp_path: Path) -> None:
        outputs, _ = foreign.yunet((64, 96), Numbers(3))
        outputs["o16"][0, 3] = math.nan
        assert "its scores are not all numbers" in self.refusal(tmp_path, outputs)

    def test_a_yolo_of_eleven_classes(self, tmp_path: Path) -> None:
        rows = Numbers(3).shares(1, 3 * (96 + 24 + 6), 16)
        assert "like no detector's" in self.refusal(tmp_path, {"a": rows})

    def test_one_level_too_few(self, tmp_path: Path) -> None:
        outputs, _ = foreign.scrfd((64, 96), Numbers(3))
        del outputs["k16"]
        assert "like no detector's" in self.refusal(tmp_path, outputs)

    def test_unknown_layouts_and_those_beside_a_template(self, tmp_path: Path) -> None:
        with pytest.raises(FacekitError, match=r"`layout=center`: no such layout\. Did you mean centerface\?"):
            find_layout("center")
        outputs, _ = foreign.yunet((64, 96), Numbers(3))
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        with pytest.raises(ArgumentError, match="in place of a template"):
            Detector.open(file, "yunet-n", layout="yunet")
        (tmp_path / "a.pth").write_bytes(b"x")
        with pytest.raises(ArgumentError, match=r"not a\.pth"):
            Detector.open(tmp_path / "a.pth", layout="yunet")


class TestHostileFiles:
    """Refused by every runtime that would open them, in one line."""

    @pytest.fixture(params=["onnx", "openvino", "opencv"])
    def runtime(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def refusal(self, file: Path, runtime: str) -> str:
        with pytest.raises(FacekitError) as caught:
            open_backend(file, backend=runtime)
        assert "\n" not in str(caught.value) and file.name in str(caught.value)
        return str(caught.value)

    def test_cut_off(self, tmp_path: Path, runtime: str) -> None:
        outputs, _ = foreign.scrfd((64, 96), Numbers(4))
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        file.write_bytes(file.read_bytes()[:-200])
        assert "cut off or damaged" in self.refusal(file, runtime)

    def test_an_opset_that_nobody_knows(self, tmp_path: Path, runtime: str) -> None:
        outputs, _ = foreign.scrfd((64, 96), Numbers(4))
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96), opset=4711)
        assert "of opset 4711, expected 1 to 30" in self.refusal(file, runtime)

    def test_values_outside_the_models_folder(self, tmp_path: Path, runtime: str) -> None:
        outputs, _ = foreign.scrfd((64, 96), Numbers(4))
        (tmp_path / "inner").mkdir()
        file = graph_of(tmp_path / "inner" / "made.onnx", outputs, (64, 96))
        model = onnx.load(file)
        (tmp_path / "secret.bin").write_bytes(bytes(10_000))
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "s8_numbers")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret.bin")
        file.write_bytes(model.SerializeToString())
        assert "outside the model's folder: not opened" in self.refusal(file, runtime)

    def test_pictures_of_no_detector(self, tmp_path: Path, runtime: str) -> None:
        outputs, _ = foreign.scrfd((64, 96), Numbers(4))
        file = graph_of(tmp_path / "made.onnx", outputs, (64, 96))
        model = onnx.load(file)
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4
        file.write_bytes(model.SerializeToString())
        assert "a detector has one input" in self.refusal(file, runtime)


REAL = {
    "openvino/face-detection-retail-0005.xml": ("open-model-zoo-ssd", "ir0005"),
    "openvino/face-detection-0200.xml": ("open-model-zoo-ssd", "ir0200"),
    "openvino/face-detection-0205.xml": ("open-model-zoo-boxes", "ir0205"),
    "peers/scrfd_500m.onnx": ("scrfd", "scrfd500"),
    "peers/scrfd_500m_kps.onnx": ("scrfd", None),
    "peers/yolov5n-0.5.onnx": ("yolo5face", None),
    "ultralight/version-RFB-320.onnx": ("ultra-light", "ultra-RFB-320"),
    "yunet/yunet_n_320_320.onnx": ("yunet", None),
    "yunet/yunet_n_dynamic.onnx": ("yunet", "yunet-n-orig"),
}


@pytest.mark.parametrize("file", REAL)
def test_published_files_run_as_they_are(shared_dir: Path, file: str) -> None:
    layout, reference = REAL[file]
    detector = Detector.open(shared_dir / "weights" / file, threads=1)
    assert detector.template.name == layout
    faces = detector.detect(PORTRAIT).above(0.5)
    assert len(faces) == 1
    np.testing.assert_allclose(faces.boxes_xyxy[0], [180, 58, 271, 177], atol=8)
    if faces.landmarks_xy is not None:
        eyes_nose_mouth = [[204, 103], [247, 104], [224, 128], [203, 142], [246, 143]]
        np.testing.assert_allclose(faces.landmarks_xy[0], eyes_nose_mouth, atol=6)
    if reference is None:
        return
    kept = np.load(shared_dir / "data/widerface/reference_detections" / f"{reference}.npz")
    pictures = shared_dir / "data/widerface/WIDER_val/images"
    for index in (5, 230, 500):
        expected = kept["xywhs"][kept["offsets"][index] : kept["offsets"][index + 1]]
        found = detector.detect(pictures / f"{kept['names'][index]}.jpg")
        for x, y, w, h, score in expected[expected[:, 4] > 0.5]:
            near = np.abs(found.boxes_xyxy - (x, y, x + w, y + h)).max(axis=1)
            assert near.min() < 0.02 * max(w, h) + 1.5
            assert abs(found.scores[near.argmin()] - score) < 0.03


def test_opencv_runs_foreign_files_at_their_own_size(shared_dir: Path) -> None:
    """cv2.dnn would take any other, and give nonsense."""
    file = shared_dir / "weights/ultralight/version-RFB-320.onnx"
    by_opencv, by_onnx = (open_backend(file, threads=1, backend=name) for name in ("opencv", "onnx"))
    assert by_opencv.fixed_size_hw == (240, 320)
    picture = np.random.default_rng(0).integers(0, 256, (1, 240, 320, 3), dtype=np.uint8)
    head = declared_head(by_onnx.template.model)
    parts = [candidates(each(picture), 0, head, head.priors((240, 320)), -1)[0] for each in (by_opencv, by_onnx)]
    check_equal(*parts)
