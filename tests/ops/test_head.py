from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facekit.models import build_model
from facekit.ops.head import DeltaCoder, Head
from facekit.structures import RawOutputs
from facekit.template import find_template, load_template

SSD_CODER, GRID_CODER = DeltaCoder(0.1, 0.2), DeltaCoder(1.0, 1.0)
position, side = st.floats(-500, 1500), st.floats(1, 1000)


def head_of(template: str) -> Head:
    return build_model(load_template(find_template(template))).head  # type: ignore[return-value]


def small_head(scoring: str, face_column: int = 0, coder: DeltaCoder = GRID_CODER) -> Head:
    return Head((8,), (((8.0, 8.0),),), 0.0, coder, scoring, face_column)  # type: ignore[arg-type]


class TestPriors:
    def test_0200_at_256_by_hand(self) -> None:
        priors = head_of("face-detection-0200").priors_cxcywh((256, 256))
        # 16 x 16 cells of 4 priors, 8 x 8 cells of 5.
        assert priors.shape == (1024 + 320, 4)
        assert priors.dtype == torch.float32
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
        for row, prior in expected.items():
            torch.testing.assert_close(priors[row], torch.tensor(prior), msg=lambda text, row=row: f"row {row}: {text}")

    def test_width_and_height_are_not_mixed_up(self) -> None:
        head = head_of("face-detection-0200")
        priors = head.priors_cxcywh((32, 64))  # 2 rows of 4 cells; 1 row of 2 cells
        assert len(priors) == 8 * 4 + 2 * 5
        assert priors[::4][:8, :2].tolist() == [[8 + 16 * x, 8 + 16 * y] for y in range(2) for x in range(4)]
        assert priors[32::5][:, :2].tolist() == [[16, 16], [48, 16]]

    def test_odd_sizes_are_rounded_up_to_whole_cells(self) -> None:
        # 250 / 16 -> 16 rows, 100 / 16 -> 7 columns; 250 / 32 -> 8 rows, 100 / 32 -> 4 columns
        head = head_of("face-detection-0200")
        assert len(head.priors_cxcywh((250, 100))) == 16 * 7 * 4 + 8 * 4 * 5
        assert len(head.priors_cxcywh((1, 1))) == 4 + 5

    def test_grid_points_have_no_offset(self) -> None:
        priors = head_of("yunet-n").priors_cxcywh((32, 64))
        assert priors.shape == (4 * 8 + 2 * 4 + 2, 4)
        assert priors[0].tolist() == [0, 0, 8, 8]
        assert priors[31].tolist() == [56, 24, 8, 8]
        assert priors[32].tolist() == [0, 0, 16, 16]
        assert priors[-1].tolist() == [32, 0, 32, 32]

    @pytest.mark.parametrize("name", ["face-detection-0200", "yunet-n"])
    @pytest.mark.parametrize("size_hw", [(64, 96), (33, 65)])
    def test_strides_go_with_the_priors(self, name: str, size_hw: tuple[int, int]) -> None:
        head = head_of(name)
        priors, strides = head.priors_cxcywh(size_hw), head.prior_strides(size_hw)
        assert strides.shape == priors.shape[:1]
        cells = priors[:, :2] / strides[:, None] - head.cell_offset
        assert torch.equal(cells, cells.round())
        counts = {s: -(-size_hw[0] // s) * -(-size_hw[1] // s) for s in head.strides}
        for stride, sizes in zip(head.strides, head.prior_sizes_wh, strict=True):
            assert int((strides == stride).sum()) == counts[stride] * len(sizes)


class TestDeltaCoder:
    # Centre (120, 110), 50 wide, 40 high, seen from a prior at (100, 100), 50 wide, 20 high.
    BOX, PRIOR = torch.tensor([[95.0, 90, 145, 130]]), torch.tensor([[100.0, 100, 50, 20]])

    @pytest.mark.parametrize(
        ("coder", "deltas"),
        [
            (SSD_CODER, [20 / 50 / 0.1, 10 / 20 / 0.1, 0, math.log(2) / 0.2]),
            (GRID_CODER, [0.4, 0.5, 0, math.log(2)]),
        ],
    )
    def test_by_hand(self, coder: DeltaCoder, deltas: list[float]) -> None:
        torch.testing.assert_close(coder.encode(self.BOX, self.PRIOR), torch.tensor([deltas]))
        torch.testing.assert_close(coder.decode(torch.tensor([deltas]), self.PRIOR), self.BOX)

    @pytest.mark.parametrize(("coder", "factor"), [(SSD_CODER, 10), (GRID_CODER, 1)])
    def test_points_by_hand(self, coder: DeltaCoder, factor: int) -> None:
        points = torch.tensor([[100.0, 100, 125, 90, 50, 130, 110, 102, 99, 101]])
        deltas = torch.tensor([[0.0, 0, 0.5, -0.5, -1, 1.5, 0.2, 0.1, -0.02, 0.05]]) * factor
        torch.testing.assert_close(coder.encode_points(points, self.PRIOR), deltas)
        torch.testing.assert_close(coder.decode_points(deltas, self.PRIOR), points)

    @pytest.mark.parametrize("coder", [SSD_CODER, GRID_CODER])
    def test_empty(self, coder: DeltaCoder) -> None:
        none = torch.zeros(0, 4)
        assert coder.encode(none, none).shape == (0, 4)
        assert coder.decode(none, none).shape == (0, 4)
        assert coder.encode_points(torch.zeros(0, 10), none).shape == (0, 10)

    @pytest.mark.parametrize("coder", [SSD_CODER, GRID_CODER])
    @given(box=st.tuples(position, position, side, side), prior=st.tuples(position, position, side, side))
    def test_there_and_back(self, coder: DeltaCoder, box: tuple[float, ...], prior: tuple[float, ...]) -> None:
        x, y, w, h = box
        boxes = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64)
        priors = torch.tensor([prior], dtype=torch.float64)
        torch.testing.assert_close(coder.decode(coder.encode(boxes, priors), priors), boxes, rtol=1e-9, atol=1e-6)
        points = boxes.repeat(1, 3)[:, :10]
        there = coder.encode_points(points, priors)
        torch.testing.assert_close(coder.decode_points(there, priors), points, rtol=1e-9, atol=1e-6)


class TestDecode:
    def test_yunet_by_hand(self) -> None:
        # The grid point at column 2, row 3 of stride 8: px = 16, py = 24. cx = 16 + 0.5 * 8, cy = 24 - 0.25 * 8,
        # w = exp(ln 2) * 8, h = exp(ln 3) * 8; landmarks px + d * 8.
        head = head_of("yunet-n")
        priors = head.priors_cxcywh((64, 64))
        row = 3 * 8 + 2
        deltas = torch.zeros(1, len(priors), 4)
        deltas[0, row] = torch.tensor([0.5, -0.25, math.log(2), math.log(3)])
        landmarks = torch.zeros(1, len(priors), 10)
        landmarks[0, row] = torch.tensor([1.0, 2, 0, 0, -1, 0.5, 0.25, -3, 2, 2])
        zeros = torch.zeros(1, len(priors))
        decoded = head.decode(head.activate(RawOutputs(zeros[..., None], deltas, zeros, landmarks)), priors)
        torch.testing.assert_close(decoded.boxes_xyxy[0, row], torch.tensor([12.0, 10, 28, 34]))
        assert decoded.landmarks_xy is not None
        expected = torch.tensor([24.0, 40, 16, 24, 8, 28, 18, 0, 32, 40])
        torch.testing.assert_close(decoded.landmarks_xy[0, row], expected)
        # An untouched neighbour: centre on its grid point, one stride wide.
        torch.testing.assert_close(decoded.boxes_xyxy[0, 0], torch.tensor([-4.0, -4, 4, 4]))

    def test_sigmoid_product(self) -> None:
        head = small_head("sigmoid_product")
        logits, objectness = torch.tensor([[[math.log(3)]]]), torch.tensor([[-math.log(3)]])
        deltas = torch.zeros(1, 1, 4)
        activated = head.activate(RawOutputs(logits, deltas, objectness))
        torch.testing.assert_close(activated.class_probabilities, torch.tensor([[[0.75]]]))
        assert activated.objectness is not None
        torch.testing.assert_close(activated.objectness, torch.tensor([[0.25]]))
        decoded = head.decode(activated, head.priors_cxcywh((8, 8)))
        torch.testing.assert_close(decoded.scores, torch.tensor([[0.1875]]))
        assert decoded.landmarks_xy is None

    @pytest.mark.parametrize(("face_column", "score"), [(0, 0.25), (1, 0.75)])
    def test_softmax_takes_the_faces_column(self, face_column: int, score: float) -> None:
        head = small_head("softmax", face_column)
        logits = torch.tensor([[[5.0, 5 + math.log(3)]]])
        activated = head.activate(RawOutputs(logits, torch.zeros(1, 1, 4)))
        assert activated.objectness is None
        decoded = head.decode(activated, head.priors_cxcywh((8, 8)))
        torch.testing.assert_close(decoded.scores, torch.tensor([[score]]))

    def test_0200_scores_the_first_column(self) -> None:
        assert head_of("face-detection-0200").face_column == 0  # background is the last class
