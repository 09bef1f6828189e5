from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facekit import feed
from facekit.detector import BUNDLED_WEIGHTS, Detector, Passes, mirror
from facekit.errors import ArgumentError, FacekitError
from facekit.feed import prepare, tiles
from facekit.pictures.read import read_picture
from facekit.protocol import at_scale
from facekit.structures import Decoded, Detections
from facekit.targets import Backend
from facekit.template import TEMPLATES_DIR, Template, load_template

# Height and width of a picture, and of what is left of it when it is fitted into 640 x 640, by hand.
FITTED = [
    ((683, 1024), (427, 640)),  # 426.875
    ((1324, 1024), (640, 495)),  # 494.98
    ((640, 640), (640, 640)),
    ((479, 640), (479, 640)),
    ((3, 5), (384, 640)),  # small ones grow
    ((1, 1), (640, 640)),
    ((1, 5000), (1, 640)),  # an eighth of a pixel: at least one is left
    ((5000, 1), (640, 1)),
]


def bundled(name: str) -> Template:
    return load_template(TEMPLATES_DIR / name / "template.yaml")


def random_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)  # no black pixel


def check_padding(fed: np.ndarray, content_hw: tuple[int, int]) -> None:
    """The content at the top left, zeros right of it and below."""
    height, width = content_hw
    assert fed[:height, :width].all()
    assert not fed[height:].any()
    assert not fed[:, width:].any()


class TestFit:
    @pytest.mark.parametrize(("size_hw", "fitted_hw"), FITTED)
    def test_keeps_the_shape_and_pads_to_the_multiple(
        self, size_hw: tuple[int, int], fitted_hw: tuple[int, int]
    ) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, at_scale(bundled("yunet-n"), "max:640"))
        assert fed.shape == (*(-(-side // 32) * 32 for side in fitted_hw), 3)
        assert fed.dtype == np.uint8
        check_padding(fed, fitted_hw)
        # One factor for both sides, that of the longest, although whole pixels bend the shape a little.
        assert scale_xy == pytest.approx((max(size_hw) / 640,) * 2, rel=1e-12)
        np.testing.assert_array_equal(fed[: fitted_hw[0], : fitted_hw[1]], cv2.resize(picture, fitted_hw[::-1]))

    @pytest.mark.parametrize(("size_hw", "fitted_hw"), FITTED)
    def test_without_a_multiple_nothing_is_padded(self, size_hw: tuple[int, int], fitted_hw: tuple[int, int]) -> None:
        fed, _ = prepare(random_picture(*size_hw), at_scale(bundled("face-detection-0200"), "max:640"))
        assert fed.shape[:2] == fitted_hw

    def test_the_tighter_side_of_an_oblong_decides(self) -> None:
        template = bundled("yunet-n")
        oblong = dataclasses.replace(
            template,
            input=dataclasses.replace(template.input, size_hw=(100, 400)),
            evaluation=dataclasses.replace(template.evaluation, resize="fit", size_multiple=1),
        )
        for size_hw, fitted_hw, scale in (((200, 400), (100, 200), 2.0), ((100, 800), (50, 400), 2.0)):
            fed, scale_xy = prepare(random_picture(*size_hw), oblong)
            assert (fed.shape[:2], scale_xy) == (fitted_hw, (scale, scale))


class TestLetterbox:
    @pytest.mark.parametrize(("size_hw", "fitted_hw"), FITTED)
    def test_fills_the_whole_input(self, size_hw: tuple[int, int], fitted_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("scrfd-0.5g"))
        assert fed.shape == (640, 640, 3)
        check_padding(fed, fitted_hw)
        assert scale_xy == pytest.approx((max(size_hw) / 640,) * 2, rel=1e-12)
        np.testing.assert_array_equal(fed[: fitted_hw[0], : fitted_hw[1]], cv2.resize(picture, fitted_hw[::-1]))


class TestOthers:
    @pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (33, 64), (480, 640)])
    def test_own_size_is_padded_only(self, size_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("yunet-n"))
        assert fed.shape == (*(-(-side // 32) * 32 for side in size_hw), 3)
        check_padding(fed, size_hw)
        np.testing.assert_array_equal(fed[: size_hw[0], : size_hw[1]], picture)
        assert scale_xy == (1.0, 1.0)

    @pytest.mark.parametrize("size_hw", [(1, 1), (33, 64), (1001, 7)])
    def test_own_size_without_a_multiple_is_the_picture(self, size_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("retinaface-mobilenetv3-small"))
        np.testing.assert_array_equal(fed, picture)
        assert scale_xy == (1.0, 1.0)

    @pytest.mark.parametrize("size_hw", [(1, 1), (480, 640), (1001, 7)])
    def test_stretched_sides_have_their_own_factors(self, size_hw: tuple[int, int]) -> None:
        picture = random_picture(*size_hw)
        fed, scale_xy = prepare(picture, bundled("ultralight-slim-320"))
        np.testing.assert_array_equal(fed, cv2.resize(picture, (320, 240)))
        assert scale_xy == (size_hw[1] / 320, size_hw[0] / 240)

    def test_the_picture_stays_as_it_is(self) -> None:
        for name in ("yunet-n", "scrfd-0.5g", "ultralight-slim-320"):
            picture = random_picture(50, 70)
            prepare(picture, bundled(name))[0][:] = 7
            np.testing.assert_array_equal(picture, random_picture(50, 70))


class FixedBackend(Backend):
    """Finds the same boxes in every picture, and remembers what it was fed."""

    fixed_size_hw: tuple[int, int] | None = None
    fixed_batch: int | None = None

    def __init__(self, boxes_xyxy: list[list[float]], with_landmarks: bool = False) -> None:
        self.boxes = torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(1, -1, 4)
        scores = torch.linspace(0.9, 0.8, len(boxes_xyxy))[None]
        marks = self.boxes.repeat(1, 1, 3)[..., :10] if with_landmarks else None
        self.decoded = Decoded(self.boxes, scores, marks)
        self.fed: list[tuple[int, ...]] = []

    def __call__(self, images_bgr: Any) -> Decoded:
        self.fed.append(images_bgr.shape)
        batch = len(images_bgr)
        return Decoded(*(None if part is None else part.expand(batch, *part.shape[1:]) for part in self.decoded))


class TestDetect:
    BOX = (64.0, 32, 128, 320)

    @pytest.mark.parametrize(
        ("name", "scale", "fed_hw", "expected"),
        [
            ("scrfd-0.5g", "template", (640, 640), (80, 40, 160, 400)),  # 800 / 640 both ways
            ("yunet-n", "max:640", (480, 640), (80, 40, 160, 400)),  # 479.2 high, padded
            ("yunet-n", "template", (608, 800), (64, 32, 128, 320)),
            ("yunet-n", "320x320", (320, 320), (160, 59.9, 320, 599)),  # 800 / 320 and 599 / 320
        ],
    )
    def test_boxes_and_landmarks_are_in_the_pictures_pixels(
        self, name: str, scale: str, fed_hw: tuple[int, int], expected: tuple[float, ...]
    ) -> None:
        backend = FixedBackend([[*self.BOX]], with_landmarks=True)
        found = Detector(backend, at_scale(bundled(name), scale)).detect(random_picture(599, 800))
        assert backend.fed == [(1, *fed_hw, 3)]
        np.testing.assert_allclose(found.boxes_xyxy, [expected], rtol=1e-6)
        assert found.landmarks_xy is not None
        np.testing.assert_allclose(found.landmarks_xy[0], np.reshape((*expected, *expected, *expected)[:10], (5, 2)))

    def test_union_slack_is_a_share_of_the_input(self) -> None:
        # Boxes of 2 x 2 px, moved by 0.5 px: 3 of 5 shared, but 1e-5 of 320 x 240 is 0.768 px more: 3 / 5.768 = 0.52.
        near = [[100.0, 100, 102, 102], [100.5, 100, 102.5, 102]]
        template = bundled("ultralight-slim-320")
        for threshold, kept in ((0.51, 1), (0.53, 2), (0.59, 2)):
            rule = dataclasses.replace(template.evaluation, nms_iou_threshold=threshold)
            detector = Detector(FixedBackend(near), dataclasses.replace(template, evaluation=rule))
            # The picture's own size does not matter.
            assert [len(detector.detect(random_picture(*size))) for size in ((240, 320), (9, 12))] == [kept] * 2
        rule = dataclasses.replace(template.evaluation, nms_iou_threshold=0.59, nms_union_slack=0.0)
        exact = Detector(FixedBackend(near), dataclasses.replace(template, evaluation=rule))
        assert len(exact.detect(random_picture(240, 320))) == 1


class TestArguments:
    def test_of_other_types(self) -> None:
        with pytest.raises(ArgumentError, match=r"`weights`: expected a path, got None\..*Detector\.bundled\(\)"):
            Detector.open(None)  # type: ignore[arg-type]
        for threads in ("2", 0, 1.5):
            with pytest.raises(ArgumentError, match="`threads`: expected a whole number of 1 to 1024"):
                Detector.bundled(threads=threads)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=r"`pictures`: expected several, got 'a\.jpg'"):
            Detector.bundled().detect_batch("a.jpg")

    @pytest.mark.parametrize("wrong", [3, 0, "x", (0.5, 1.0)])
    def test_passes_that_are_none(self, wrong: Any) -> None:
        with pytest.raises(ArgumentError, match=r"`passes`: expected facekit\.detector\.Passes, or None, got"):
            Detector.bundled(passes=wrong)


class TestBatch:
    def test_pictures_of_one_size_go_together_and_all_come_back_in_order(self) -> None:
        backend = FixedBackend([[10.0, 20, 40, 60]])
        sizes = [(100, 64), (64, 64), (97, 60), (64, 64)]  # the first and the third are padded to 128 x 64
        found = Detector(backend, bundled("yunet-n")).detect_batch([random_picture(*size) for size in sizes])
        assert backend.fed == [(2, 128, 64, 3), (2, 64, 64, 3)]
        assert [len(faces) for faces in found] == [1] * 4

    def test_stacks_and_names_are_several(self) -> None:
        """Of arrays only those that could be a picture are one."""
        detector = Detector(FixedBackend([[10.0, 20, 40, 60]]), bundled("yunet-n"))
        stacks = (np.zeros((5, 64, 64), np.uint8), np.zeros((2, 64, 64, 3), np.uint8), np.empty(0, object))
        assert [len(detector.detect_batch(stack)) for stack in stacks] == [5, 2, 0]
        for one in (random_picture(40, 40), np.zeros((40, 40), np.uint8), "a.jpg"):
            for look in (detector.detect_batch, detector.detect_each):
                with pytest.raises(ArgumentError, match="`pictures`: expected several"):
                    look(one)
        assert len(Passes(longest_side=np.int64(640), flip=np.bool_(True))) == 2  # type: ignore[arg-type]

    def test_takes_what_is_iterated(self) -> None:
        detector = Detector(FixedBackend([[10.0, 20, 40, 60]]), bundled("yunet-n"))
        for look in (detector.detect_batch, detector.detect_each):
            assert [len(faces) for faces in look(random_picture(64, 64) for _ in range(2))] == [1, 1]  # type: ignore

    def test_equals_one_by_one(self, drawn_weights: Path, drawn_dir: Path) -> None:
        detector = Detector.open(drawn_weights, at_scale(bundled("yunet-n"), "320x320"), "cpu")
        images = [cv2.imread(str(path)) for path in sorted((drawn_dir / "images").glob("*.jpg"))[:5]]
        together = detector.detect_batch(images)
        assert sum(len(faces) for faces in together) > 10
        for faces, image in zip(together, images, strict=True):
            alone = detector.detect(image)
            np.testing.assert_allclose(faces.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)
            np.testing.assert_allclose(faces.scores, alone.scores, atol=1e-4)

    def test_no_pictures(self) -> None:
        assert Detector(FixedBackend([]), bundled("yunet-n")).detect_batch([]) == []


class TestPasses:
    def test_factors_multiply_the_protocols_size(self) -> None:
        for name, scale, expected in (
            ("yunet-n", "template", [(64, 96), (128, 192), (224, 320)]),  # 60 x 90; 120 x 180; 210 x 315, padded
            ("yunet-n", "max:320", [(128, 160), (224, 320), (384, 576)]),  # 107 x 160; 213 x 320; 373 x 560
            ("face-detection-0200", "template", [(128, 128), (256, 256), (448, 448)]),
            ("scrfd-0.5g", "template", [(320, 320), (640, 640), (1120, 1120)]),
        ):
            backend = FixedBackend([])
            passes = Passes((0.5, 1.0, 1.75))
            Detector(backend, at_scale(bundled(name), scale), passes=passes).detect(random_picture(120, 180))
            assert [shape[1:3] for shape in backend.fed] == expected, name

    def test_boxes_of_every_pass_are_in_the_pictures_pixels(self) -> None:
        class Seen(Backend):
            """The face that fills the middle half of the picture."""

            fixed_size_hw: tuple[int, int] | None = None
            fixed_batch: int | None = None

            def __call__(self, images_bgr: Any) -> Decoded:
                height, width = images_bgr.shape[1:3]
                box = torch.tensor([width, height, 3 * width, 3 * height])[None, None] / 4
                return Decoded(box, torch.tensor([[0.8]]))

        template = bundled("face-detection-0200")
        found = Detector(Seen(), template, passes=Passes((0.5, 1.0, 2.0), flip=True)).detect(random_picture(100, 200))
        np.testing.assert_allclose(found.boxes_xyxy, [[50, 25, 150, 75]], rtol=1e-5)
        assert found.scores == pytest.approx([0.8])

    def test_what_one_of_two_passes_finds_counts_half(self) -> None:
        class OnlyPlain(Backend):
            fixed_size_hw: tuple[int, int] | None = None
            fixed_batch: int | None = None
            calls = 0

            def __call__(self, images_bgr: Any) -> Decoded:
                self.calls += 1
                score = 0.8 if self.calls == 1 else 0.0
                return Decoded(torch.tensor([[[10.0, 10, 50, 50]]]), torch.tensor([[score]]))

        found = Detector(OnlyPlain(), bundled("yunet-n"), passes=Passes(flip=True)).detect(random_picture(64, 96))
        assert found.scores == pytest.approx([0.4])

    def test_mirror_is_its_own_inverse_and_swaps_left_and_right(self) -> None:
        landmarks = np.float32([[[20, 5], [30, 6], [24, 12], [21, 20], [31, 21]]])
        faces = Detections(np.float32([[10, 0, 40, 30]]), np.float32([0.5]), landmarks)
        mirrored = mirror(faces, 100)
        np.testing.assert_array_equal(mirrored.boxes_xyxy, [[60, 0, 90, 30]])
        np.testing.assert_array_equal(mirrored.landmarks_xy, [[[70, 6], [80, 5], [76, 12], [69, 21], [79, 20]]])
        again = mirror(mirrored, 100)
        np.testing.assert_array_equal(again.boxes_xyxy, faces.boxes_xyxy)
        np.testing.assert_array_equal(again.landmarks_xy, landmarks)

    def test_words(self) -> None:
        assert Passes().words() == ""
        assert Passes(flip=True).words() == "mirrored too, merged by box fusion at IoU 0.55"
        detector = Detector(FixedBackend([]), bundled("yunet-n"), passes=Passes((0.5, 2.0)))
        assert detector.protocol().endswith("no cap; scales x0.5, x2, merged by box fusion at IoU 0.55")

    @pytest.mark.parametrize(
        "factors", [(), (0.0,), (1.0, 9.0), (float("nan"),), (1.0, float("nan")), 0.5, ("a",), None]
    )
    def test_bad_factors(self, factors: Any) -> None:
        with pytest.raises(FacekitError, match=r"from 0\.1 to 8"):
            Passes(factors)

    @pytest.mark.parametrize("side", [0, -5, 31, 1 << 16, True, "a", 64.0])
    def test_bad_sides(self, side: Any) -> None:
        with pytest.raises(ArgumentError, match="`longest_side`: expected 32 to 32768 pixels"):
            Passes(longest_side=side)
        with pytest.raises(ArgumentError, match="`flip`: expected true or false, got 'no'"):
            Passes(flip="no")  # type: ignore[arg-type]

    def test_a_graph_of_one_size_is_refused(self) -> None:
        backend = FixedBackend([])
        backend.fixed_size_hw = (256, 256)
        with pytest.raises(FacekitError, match="256x256 pictures alone"):
            Detector(backend, bundled("face-detection-0200"), passes=Passes((0.5, 1.0)))
        Detector(backend, bundled("face-detection-0200"), passes=Passes(flip=True))


class TestTiles:
    @pytest.mark.parametrize("size_hw", [(1, 1), (1024, 1088), (1089, 5000), (2432, 2433), (320, 20000)])
    def test_cores_divide_the_plane_and_lie_in_their_tiles(self, size_hw: tuple[int, int]) -> None:
        height, width = size_hw
        pairs = list(tiles(size_hw))
        rng = np.random.default_rng(0)
        points = np.concatenate([rng.uniform(-50, (width + 50, height + 50), (500, 2)), [[0, 0], [768, 768]]])
        owners = sum(
            ((points >= core[:2]) & (points < core[2:])).all(axis=1).astype(int) for core, _ in pairs
        )  # fmt: skip
        assert (owners == 1).all()
        for (x1, y1, x2, y2), (left, top, right, bottom) in pairs:
            assert left % 64 == top % 64 == 0
            assert max(right - left, bottom - top) <= 768 + 2 * 320
            # The margin on every side that is not the picture's.
            assert left == max(x1 - 320, 0) and top == max(y1 - 320, 0)
            assert right == min(x2 + 320, width) and bottom == min(y2 + 320, height)

    def test_give_what_the_whole_picture_gives(
        self, drawn_weights: Path, drawn_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pictures = [cv2.imread(str(path)) for path in sorted((drawn_dir / "images").glob("*.jpg"))[:12]]
        pictures = [cv2.resize(picture, (320, 320)) for picture in pictures]
        mosaic = np.concatenate([np.concatenate(pictures[row : row + 4], axis=1) for row in (0, 4, 8)])[:901, :1205]
        detector = Detector.open(drawn_weights, bundled("yunet-n"), "cpu")
        whole = detector.detect(mosaic)
        monkeypatch.setattr(feed, "TILE_CORE", 256)
        monkeypatch.setattr(feed, "WHOLE_PIXELS", 901 * 1205 - 1)
        calls = []
        backend = detector.backend
        spy = FixedBackend([])
        spy.__class__ = type("Spy", (FixedBackend,), {"__call__": lambda _, image: calls.append(1) or backend(image)})
        detector.backend = spy
        tiled = detector.detect(mosaic)
        assert len(calls) == 3 * 4
        assert len(whole.above(0.3)) > 20
        np.testing.assert_allclose(tiled.boxes_xyxy, whole.boxes_xyxy, atol=2e-2)
        np.testing.assert_allclose(tiled.scores, whole.scores, atol=1e-4)
        np.testing.assert_allclose(tiled.landmarks_xy, whole.landmarks_xy, atol=2e-2)

    def test_a_side_that_the_network_does_not_take(self) -> None:
        """Shorter ones are padded, also at the tiles of longer ones."""
        backend = FixedBackend([])
        backend.least_side, backend.most_side = 64, 2048
        for size_hw in ((20, 20), (2048, 20), (20, 3000)):
            Detector(backend, bundled("yunet-n")).detect(random_picture(*size_hw))
        assert backend.fed == [
            (1, 64, 64, 3), (1, 2048, 64, 3), (1, 64, 1088, 3), (1, 64, 1408, 3), (1, 64, 1408, 3), (1, 64, 1024, 3),
        ]  # fmt: skip

    def test_a_network_of_one_size_never_sees_tiles(self) -> None:
        backend = FixedBackend([])
        Detector(backend, at_scale(bundled("face-detection-0200"), "4000x2000")).detect(random_picture(50, 50))
        assert backend.fed == [(1, 2000, 4000, 3)]


@pytest.mark.parametrize(("size_wh", "runtime", "expected"), [
    ((640, 480), "onnx", [1, 1, 1]), ((64, 96), "onnx", [3]), ((64, 96), "openvino", [1, 1, 1]),
])  # fmt: skip
def test_batches_of_a_cpu_stay_in_its_caches(size_wh: tuple[int, int], runtime: Any, expected: list[int]) -> None:
    pytest.importorskip(runtime if runtime == "openvino" else "onnxruntime")
    detector = Detector.bundled(threads=1, backend=runtime)
    portrait = read_picture(BUNDLED_WEIGHTS.parents[3] / "data" / "demo" / "astronaut.jpg")
    picture = np.asarray(cv2.resize(portrait, size_wh), dtype=np.uint8)
    alone, network, batches = detector.detect(picture), detector.backend, list[int]()

    class Counted:
        def __call__(self, images_bgr: NDArray[np.uint8]) -> Any:
            batches.append(len(images_bgr))
            return network(images_bgr)

        def __getattr__(self, name: str) -> Any:
            return getattr(network, name)

    detector.backend = Counted()
    found = detector.detect_batch([picture] * 3)
    assert batches == expected
    for faces in found:
        np.testing.assert_allclose(faces.scores, alone.scores, atol=1e-5)


class TestThroughput:
    """Several pictures on their way at once: the same faces in the same order."""

    def test_it_finds_what_latency_finds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("openvino")
        portrait = read_picture(BUNDLED_WEIGHTS.parents[3] / "data" / "demo" / "astronaut.jpg")
        sizes_wh = [(256, 256), (320, 200), (1800, 1790), (96, 64), (200, 320), (320, 200), (256, 256)]
        pictures = [np.asarray(cv2.resize(portrait, size_wh), dtype=np.uint8) for size_wh in sizes_wh]
        one_by_one = Detector.bundled(threads=1, backend="openvino")
        streamed = Detector.open(BUNDLED_WEIGHTS, threads=1, backend="openvino", mode="throughput")
        for passes in (Passes(), Passes(flip=True)):
            streamed.passes = one_by_one.passes = passes
            for got, expected in zip(streamed.detect_batch(pictures), map(one_by_one.detect, pictures), strict=True):
                np.testing.assert_allclose(got.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)
                np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)

    def test_runtimes_without_it(self) -> None:
        with pytest.raises(ArgumentError, match=r"no such mode\. OpenVINO has, which reads it: say `backend=openvino`"):
            Detector.open(BUNDLED_WEIGHTS, mode="throughput")

    def test_devices_that_there_are_not(self, drawn_weights: Path, caplog: pytest.LogCaptureFixture) -> None:
        for device in ("nonsense", "gpu9", "cuda:x", 0):
            with pytest.raises(ArgumentError, match="`device`: expected cpu, cuda, cuda:1 or the like, or tensorrt"):
                Detector.open("bundled", device=device)  # type: ignore[arg-type]
        if not torch.cuda.is_available():
            with pytest.raises(FacekitError, match=r"^device cuda: .* Take cpu, or leave it out\."):
                Detector.open(drawn_weights, "yunet-n", device="cuda")
            Detector.open("bundled", device="cuda")
            assert "device cuda: this ONNX Runtime has no CUDA and takes the CPU" in caplog.text

    def test_bundled_with_its_template(self) -> None:
        assert Detector.open("bundled", "yunet-n").template.name == "yunet-n"

    def test_a_mode_that_there_is_not(self) -> None:
        with pytest.raises(ArgumentError, match="`mode`: expected latency or throughput, got 'fast'"):
            Detector.open(BUNDLED_WEIGHTS, mode="fast")  # type: ignore[arg-type]


def test_what_is_no_picture_costs_the_others_nothing(tmp_path: Path) -> None:
    """cv2.imread gives None for a file that it can't read."""
    portrait = Path(__file__).parent.parent / "data" / "demo" / "astronaut.jpg"
    given: list[Any] = [
        None,
        portrait,
        np.ones((8, 8, 3)),
        tmp_path / "none.jpg",
        np.zeros((0, 3, 3), np.uint8),
        portrait,
    ]
    found = Detector.bundled(threads=1).detect_each(given)
    assert [isinstance(each, FacekitError) for each in found] == [True, False, True, True, True, False]
    assert "cv2.imread gives None" in str(found[0]) and "none.jpg" in str(found[3])
    assert [len(each.above(0.5)) for each in found if isinstance(each, Detections)] == [1, 1]
    assert Detector.bundled(threads=1).detect_each([]) == []
