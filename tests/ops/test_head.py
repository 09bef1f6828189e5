from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facekit.ops.coders import DeltaCoder, DistanceCoder
from facekit.ops.head import Head, declared_head
from facekit.structures import RawOutputs
from facekit.template import find_template, load_template

ULTRALIGHT_SIDES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))  # pixels, a level


def head_of(template: str) -> Head:
    return declared_head(load_template(find_template(template)).model)


def small_head(**changes: Any) -> Head:
    """One square prior in each cell of stride 8, decoded about the cell's corner."""
    settings: dict[str, Any] = {
        "strides": (8,),
        "prior_sizes_wh": (((8.0, 8.0),),),
        "cell_offset": 0.0,
        "coder": DeltaCoder(1.0, 1.0),
        "scoring": "sigmoid",
    }
    return Head(**settings | changes)


def slow_priors(head: Head, size_hw: tuple[int, int]) -> list[list[float]]:
    """The description of Head, cell by cell."""
    height, width = size_hw
    rows = []
    for stride, sizes in zip(head.strides, head.prior_sizes_wh, strict=True):
        lines, columns = math.ceil(height / stride), math.ceil(width / stride)
        for line in range(lines):
            for column in range(columns):
                for w, h in sizes:
                    if head.fits_cells:
                        x, y = (column + head.cell_offset) / columns * width, (line + head.cell_offset) / lines * height
                        rows.append([min(x, width), min(y, height), min(w, width), min(h, height)])
                    else:
                        x, y = (column + head.cell_offset) * stride, (line + head.cell_offset) * stride
                        rows.append([x, y, w, h])
    return rows


class TestPriors:
    def test_0200_at_256_by_hand(self) -> None:
        priors = head_of("face-detection-0200").priors((256, 256)).tensors()
        # 16 x 16 cells of 4 priors, 8 x 8 cells of 5.
        assert priors.cxcywh.shape == (1024 + 320, 4)
        assert priors.cxcywh.dtype == priors.strides.dtype == torch.float32
        assert priors.size_hw == (256, 256)
        expected = {
            0: (8, 8, 8.0213, 12.8),
            1: (8, 8, 21.4187, 33.792),
            2: (8, 8, 12.544, 21.76),
            3: (8, 8, 29.6107, 53.9307),
            4: (24, 8, 8.0213, 12.8),  # the next cell of the row
            63: (248, 8, 29.6107, 53.9307),
            64: (8, 24, 8.0213, 12.8),  # the next row
            1023: (248, 248, 29.6107, 53.9307),
            1024: (16, 16, 122.0267, 194.1333),
            1028: (16, 16, 64.512, 61.952),
            1029: (48, 16, 122.0267, 194.1333),
            1343: (240, 240, 64.512, 61.952),
        }
        torch.testing.assert_close(priors.cxcywh[list(expected)], torch.tensor(list(expected.values())))
        assert priors.strides.tolist() == [16] * 1024 + [32] * 320

    def test_width_and_height_are_not_mixed_up(self) -> None:
        priors = head_of("face-detection-0200").priors((32, 64)).tensors().cxcywh  # 2 rows of 4 cells; 1 row of 2 cells
        assert len(priors) == 8 * 4 + 2 * 5
        assert priors[::4][:8, :2].tolist() == [[8 + 16 * x, 8 + 16 * y] for y in range(2) for x in range(4)]
        assert priors[32::5][:, :2].tolist() == [[16, 16], [48, 16]]

    def test_odd_sizes_are_rounded_up_to_whole_cells(self) -> None:
        head = head_of("face-detection-0200")
        assert head.cells((250, 100)) == [(16, 7), (8, 4)]
        assert len(head.priors((250, 100)).tensors().cxcywh) == 16 * 7 * 4 + 8 * 4 * 5
        assert head.cells((1, 1)) == [(1, 1), (1, 1)]
        assert len(head.priors((1, 1)).tensors().cxcywh) == 4 + 5

    def test_grid_points_have_no_offset(self) -> None:
        priors = head_of("yunet-n").priors((32, 64)).tensors()
        assert priors.cxcywh.shape == (4 * 8 + 2 * 4 + 2, 4)
        assert priors.cxcywh[[0, 31, 32, -1]].tolist() == [
            [0, 0, 8, 8], [56, 24, 8, 8], [0, 0, 16, 16], [32, 0, 32, 32],
        ]  # fmt: skip
        assert priors.strides.tolist() == [8] * 32 + [16] * 8 + [32] * 2

    @given(
        size_hw=st.tuples(st.integers(1, 70), st.integers(1, 70)),
        cell_offset=st.sampled_from([0.0, 0.5]),
        fits_cells=st.booleans(),
    )
    def test_agree_with_a_slow_reference(self, size_hw: tuple[int, int], cell_offset: float, fits_cells: bool) -> None:
        sizes = (((8.0, 12.0), (20.0, 10.0)), ((40.0, 60.0),))
        head = small_head(strides=(8, 16), prior_sizes_wh=sizes, cell_offset=cell_offset, fits_cells=fits_cells)
        priors = head.priors(size_hw).tensors()
        torch.testing.assert_close(priors.cxcywh, torch.tensor(slow_priors(head, size_hw)))
        counts = [rows * columns * n for (rows, columns), n in zip(head.cells(size_hw), (2, 1), strict=True)]
        assert priors.strides.tolist() == [8] * counts[0] + [16] * counts[1]

    def test_on_the_asked_device(self) -> None:
        priors = small_head().priors((16, 16)).tensors("meta")
        assert priors.cxcywh.device.type == priors.strides.device.type == "meta"

    def test_some_of_them(self) -> None:
        some = head_of("yunet-n").priors((32, 64)).tensors().at(torch.tensor([33, 1, 1]))
        assert some.cxcywh.tolist() == [[16, 0, 16, 16], [8, 0, 8, 8], [8, 0, 8, 8]]
        assert some.strides.tolist() == [16, 8, 8]
        assert some.size_hw == (32, 64)


class TestUltraLightPriors:
    HEAD = small_head(
        strides=(8, 16, 32, 64),
        prior_sizes_wh=tuple(tuple((float(side), float(side)) for side in sides) for sides in ULTRALIGHT_SIDES),
        cell_offset=0.5,
        fits_cells=True,
    )

    def test_the_template_has_these(self) -> None:
        head = head_of("ultralight-slim-320")
        assert head.prior_sizes_wh == self.HEAD.prior_sizes_wh
        assert (head.strides, head.cell_offset, head.fits_cells) == ((8, 16, 32, 64), 0.5, True)

    def test_320_by_hand(self) -> None:
        # 40 x 30 cells of 3, 20 x 15 of 2, 10 x 8 of 2, 5 x 4 of 3. A row is 8, 16, 240 / 8 = 30 and 240 / 4 = 60 high.
        priors = self.HEAD.priors((240, 320)).tensors()
        assert self.HEAD.cells((240, 320)) == [(30, 40), (15, 20), (8, 10), (4, 5)]
        assert len(priors.cxcywh) == 3600 + 600 + 160 + 60 == 4420
        expected = {
            0: (4, 4, 10, 10),
            2: (4, 4, 24, 24),
            3: (12, 4, 10, 10),
            120: (4, 12, 10, 10),
            3600: (8, 8, 32, 32),
            4199: (312, 232, 48, 48),
            4200: (16, 15, 64, 64),
            4220: (16, 45, 64, 64),  # the next row of ten cells of 2
            4359: (304, 225, 96, 96),
            4360: (32, 30, 128, 128),
            4362: (32, 30, 256, 240),  # ends at the picture's height
            4419: (288, 210, 256, 240),
        }
        torch.testing.assert_close(priors.cxcywh[list(expected)], torch.tensor(list(expected.values())).float())
        assert priors.strides.tolist() == [8] * 3600 + [16] * 600 + [32] * 160 + [64] * 60

    @pytest.mark.parametrize(("size_hw", "count"), [((240, 320), 4420), ((480, 640), 17_640)])
    def test_all_of_them(self, size_hw: tuple[int, int], count: int) -> None:
        # As its makers reckon: cells and sides in parts of the picture, clamped to 0..1.
        height, width = size_hw
        rows = []
        for stride, sides in zip((8, 16, 32, 64), ULTRALIGHT_SIDES, strict=True):
            columns, lines = math.ceil(width / stride), math.ceil(height / stride)
            for line in range(lines):
                for column in range(columns):
                    for side in sides:
                        parts = ((column + 0.5) / columns, (line + 0.5) / lines, side / width, side / height)
                        x, y, w, h = (min(max(part, 0.0), 1.0) for part in parts)
                        rows.append([x * width, y * height, w * width, h * height])
        assert len(rows) == count
        torch.testing.assert_close(self.HEAD.priors(size_hw).tensors().cxcywh, torch.tensor(rows))

    def test_only_where_asked(self) -> None:
        priors = (
            small_head(strides=(64,), prior_sizes_wh=(((256.0, 256.0),),), cell_offset=0.5).priors((240, 320)).tensors()
        )
        assert priors.cxcywh[-1].tolist() == [4.5 * 64, 3.5 * 64, 256, 256]


class TestLevelNames:
    def test_yunet_has_all_kinds(self) -> None:
        assert head_of("yunet-n").level_names == [
            "cls_8", "cls_16", "cls_32", "obj_8", "obj_16", "obj_32",
            "bbox_8", "bbox_16", "bbox_32", "kps_8", "kps_16", "kps_32",
        ]  # fmt: skip

    def test_boxes_alone(self) -> None:
        assert small_head(strides=(16, 32)).level_names == ["cls_16", "cls_32", "bbox_16", "bbox_32"]

    def test_priors_a_cell(self) -> None:
        assert TestUltraLightPriors.HEAD.priors_a_cell == (3, 2, 2, 3)
        assert head_of("face-detection-0200").priors_a_cell == (4, 5)


class TestDecode:
    def test_yunet_by_hand(self) -> None:
        # The grid point at column 2, row 3 of stride 8: px = 16, py = 24. cx = 16 + 0.5 * 8, cy = 24 - 0.25 * 8,
        # w = exp(ln 2) * 8, h = exp(ln 3) * 8; landmarks px + d * 8.
        head = head_of("yunet-n")
        priors = head.priors((64, 64)).tensors()
        row, count = 3 * 8 + 2, len(priors.cxcywh)
        deltas = torch.zeros(1, count, 4)
        deltas[0, row] = torch.tensor([0.5, -0.25, math.log(2), math.log(3)])
        landmarks = torch.zeros(1, count, 10)
        landmarks[0, row] = torch.tensor([1.0, 2, 0, 0, -1, 0.5, 0.25, -3, 2, 2])
        zeros = torch.zeros(1, count)
        decoded = head.decode(head.activate(RawOutputs(zeros[..., None], deltas, zeros, landmarks)), priors)
        torch.testing.assert_close(decoded.boxes_xyxy[0, row], torch.tensor([12.0, 10, 28, 34]))
        assert decoded.landmarks_xy is not None
        expected = torch.tensor([24.0, 40, 16, 24, 8, 28, 18, 0, 32, 40])
        torch.testing.assert_close(decoded.landmarks_xy[0, row], expected)
        # An untouched neighbour: centre on its grid point, one stride wide.
        torch.testing.assert_close(decoded.boxes_xyxy[0, 0], torch.tensor([-4.0, -4, 4, 4]))

    def test_sigmoid_times_objectness(self) -> None:
        head = small_head(has_objectness=True)
        logits, objectness = torch.tensor([[[math.log(3)]]]), torch.tensor([[-math.log(3)]])
        activated = head.activate(RawOutputs(logits, torch.zeros(1, 1, 4), objectness))
        torch.testing.assert_close(activated.class_probabilities, torch.tensor([[[0.75]]]))
        assert activated.objectness is not None
        torch.testing.assert_close(activated.objectness, torch.tensor([[0.25]]))
        decoded = head.decode(activated, head.priors((8, 8)).tensors())
        torch.testing.assert_close(decoded.scores, torch.tensor([[0.1875]]))
        assert decoded.landmarks_xy is None

    def test_sigmoid_alone(self) -> None:
        head = small_head()
        activated = head.activate(RawOutputs(torch.tensor([[[math.log(3)]]]), torch.zeros(1, 1, 4)))
        assert activated.objectness is None
        torch.testing.assert_close(head.decode(activated, head.priors((8, 8)).tensors()).scores, torch.tensor([[0.75]]))

    @pytest.mark.parametrize(("face_column", "score"), [(0, 0.25), (1, 0.75)])
    def test_softmax_takes_the_faces_column(self, face_column: int, score: float) -> None:
        head = small_head(scoring="softmax", face_column=face_column)
        logits = torch.tensor([[[5.0, 5 + math.log(3)]]])
        activated = head.activate(RawOutputs(logits, torch.zeros(1, 1, 4)))
        torch.testing.assert_close(activated.class_probabilities, torch.tensor([[[0.25, 0.75]]]))
        torch.testing.assert_close(
            head.decode(activated, head.priors((8, 8)).tensors()).scores, torch.tensor([[score]])
        )

    @pytest.mark.parametrize(
        ("template", "column"),
        [("face-detection-0200", 0), ("retinaface-mobilenetv1-0.25", 1), ("ultralight-slim-320", 1)],
    )
    def test_column_of_faces(self, template: str, column: int) -> None:
        assert head_of(template).face_column == column

    @pytest.mark.parametrize(
        ("clips", "boxes"),
        [
            # Four cells of an input of 8 x 32 at x = 0, 8, 16, 24 and y = 0; distances in pixels.
            (True, [[0, 0, 10, 5], [6, 0, 32, 8], [0, 0, 0, 0], [32, 8, 32, 8]]),
            (False, [[-1, -2, 10, 5], [6, -3, 38, 40], [-4, -9, -2, -6], [39, 12, 44, 16]]),
        ],
    )
    def test_boxes_end_at_the_border_if_asked(self, clips: bool, boxes: list[list[float]]) -> None:
        head = small_head(coder=DistanceCoder(in_strides=False), clips_boxes=clips)
        deltas = torch.tensor([[[1.0, 2, 10, 5], [2, 3, 30, 40], [20, 9, -18, -6], [-15, -12, 20, 16]]])
        activated = head.activate(RawOutputs(torch.zeros(1, 4, 1), deltas))
        assert head.decode(activated, head.priors((8, 32)).tensors()).boxes_xyxy.tolist() == [boxes]

    def test_points_are_not_clipped(self) -> None:
        head = small_head(coder=DistanceCoder(in_strides=True), clips_boxes=True, has_landmarks=True)
        landmarks = torch.tensor([[[-1.0, 3, 0.5, 0, 0, 0, 0, 0, 2, -2]]])
        activated = head.activate(RawOutputs(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4), landmark_deltas=landmarks))
        decoded = head.decode(activated, head.priors((8, 8)).tensors())
        assert decoded.landmarks_xy is not None
        assert decoded.landmarks_xy.tolist() == [[[-8, 24, 4, 0, 0, 0, 0, 0, 16, -16]]]
