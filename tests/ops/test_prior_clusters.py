from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facekit.ops.coders import DeltaCoder
from facekit.ops.head import Head
from facekit.ops.prior_clusters import best_prior_iou, cluster_sizes, refine_sizes, size_iou

PLANTED = torch.tensor([[8.0, 12], [30, 30], [60, 90], [200, 150]])


def planted(each: int = 50) -> Tensor:
    """Sizes within 5 % of PLANTED, shuffled."""
    generator = torch.Generator().manual_seed(1)
    spread = 1 + 0.05 * (2 * torch.rand(each, len(PLANTED), 2, generator=generator) - 1)
    sizes_wh = (PLANTED * spread).flatten(0, 1)
    return sizes_wh[torch.randperm(len(sizes_wh), generator=generator)]


def head_of(*levels: tuple[tuple[float, float], ...]) -> Head:
    return Head((8, 16)[: len(levels)], levels, 0.5, DeltaCoder(0.1, 0.2), "softmax")


class TestSizeIou:
    def test_by_hand(self) -> None:
        iou = size_iou(torch.tensor([[2.0, 4]]), torch.tensor([[2.0, 4], [4, 2], [1, 1], [4, 8]]))
        assert iou.tolist()[0] == pytest.approx([1, 4 / 12, 1 / 8, 8 / 32])


class TestClusterSizes:
    @pytest.mark.parametrize("seed", range(5))
    def test_finds_planted_clusters(self, seed: int) -> None:
        found = cluster_sizes(planted(), len(PLANTED), seed)
        assert torch.allclose(found, PLANTED, rtol=0.03)

    @pytest.mark.parametrize("seed", range(4))
    def test_no_two_of_the_sizes_do_much_better(self, seed: int) -> None:
        sizes_wh = 5 + 100 * torch.rand(12, 2, generator=torch.Generator().manual_seed(seed))
        found = size_iou(sizes_wh, cluster_sizes(sizes_wh, 2, 0)).amax(dim=1).mean()
        table = size_iou(sizes_wh, sizes_wh)
        pairs = (torch.maximum(table[:, i], table[:, j]).mean() for i in range(12) for j in range(i))
        assert found >= 0.98 * max(pairs)  # a local optimum may be a little worse

    def test_the_same_seed_gives_the_same(self) -> None:
        assert torch.equal(cluster_sizes(planted(), 3, 7), cluster_sizes(planted(), 3, 7))

    def test_more_clusters_than_sizes_repeats_the_largest(self) -> None:
        sizes_wh = torch.tensor([[20.0, 30], [5, 5], [20, 30]])
        assert cluster_sizes(sizes_wh, 4, 0).tolist() == [[5, 5], [20, 30], [20, 30], [20, 30]]

    def test_one_box(self) -> None:
        assert cluster_sizes(torch.tensor([[7.0, 9]]), 2, 0).tolist() == [[7, 9], [7, 9]]

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=40), st.integers(1, 6))
    def test_ascends_and_stays_within_the_sizes(self, sizes: list[tuple[int, int]], count: int) -> None:
        sizes_wh = torch.tensor(sizes, dtype=torch.float32)
        found = cluster_sizes(sizes_wh, count, 0)
        assert found.shape == (count, 2)
        assert found.prod(dim=1).diff().ge(0).all()
        assert (found >= sizes_wh.amin(dim=0) - 1e-3).all() and (found <= sizes_wh.amax(dim=0) + 1e-3).all()


class TestBestPriorIou:
    def test_by_hand(self) -> None:
        priors = head_of(((8.0, 8.0),), ((16.0, 32.0),)).priors((32, 32)).tensors()
        # On a prior; half of one and nothing else; four pixels off the middle of the 16x32 prior at (8, 8).
        boxes_xyxy = torch.tensor([[8.0, 8, 16, 16], [0, 0, 4, 8], [4, -8, 20, 24]])
        assert best_prior_iou(boxes_xyxy, priors).tolist() == pytest.approx([1, 0.5, 12 / 20])

    def test_no_faces(self) -> None:
        assert best_prior_iou(torch.zeros(0, 4), head_of(((8.0, 8.0),)).priors((16, 16)).tensors()).shape == (0,)


class TestRefineSizes:
    def test_its_measure_is_that_of_the_grid(self) -> None:
        generator = torch.Generator().manual_seed(3)
        corners = torch.rand(200, 2, generator=generator) * 100
        boxes_xyxy = torch.cat([corners, corners + 3 + 25 * torch.rand(200, 2, generator=generator)], dim=1)
        sizes_wh = cluster_sizes(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 3, 0)
        level_of = torch.tensor([0, 0, 1])
        before = head_of(*_levels(sizes_wh)).priors((128, 128)).tensors()
        refined = refine_sizes(boxes_xyxy, sizes_wh, level_of, before)
        after = head_of(*_levels(refined)).priors((128, 128)).tensors()
        assert best_prior_iou(boxes_xyxy, after).mean() > best_prior_iou(boxes_xyxy, before).mean() + 0.01

    def test_a_face_between_two_cells_wants_a_larger_prior(self) -> None:
        priors = head_of(((8.0, 8.0),)).priors((32, 32)).tensors()
        middle = torch.tensor([[6.0, 2, 10, 6]])  # 4x4, 4 pixels off the nearest centre along x: a 4x4 prior misses it
        refined = refine_sizes(middle, torch.tensor([[5.0, 5.0]]), torch.tensor([0]), priors)
        assert refined[0, 0] > 8 and refined[0, 1] < 5

    def test_what_fits_stays(self) -> None:
        priors = head_of(((8.0, 8.0),)).priors((32, 32)).tensors()
        sizes_wh = torch.tensor([[8.0, 8.0]])
        assert torch.equal(
            refine_sizes(torch.tensor([[8.0, 8, 16, 16]]), sizes_wh, torch.tensor([0]), priors), sizes_wh
        )


def _levels(sizes_wh: Tensor) -> list[tuple[tuple[float, float], ...]]:
    first, second, third = (tuple(size) for size in sizes_wh.tolist())
    return [(first, second), (third,)]  # type: ignore[list-item]
