from __future__ import annotations

import torch

from facekit.ops.ignored import background_priors, in_ignored_regions
from facekit.structures import Priors, Targets

# Cells of 8 in an input of 32x32, one prior of 16x16 each.
CENTRES = torch.tensor([(x, y, 16.0, 16.0) for y in (4.0, 12, 20, 28) for x in (4.0, 12, 20, 28)])
PRIORS = Priors(CENTRES, torch.full((16,), 8.0), (32, 32))


def targets(*regions: tuple[float, ...], batch: int = 2) -> Targets:
    none = torch.zeros(0)
    ignored = torch.tensor(regions) if regions else None
    return Targets(torch.zeros(0, 4), none.long(), torch.zeros(0, 10), none.bool(), batch, ignored=ignored)


def touched(*regions: tuple[float, ...], priors: Priors = PRIORS) -> list[tuple[int, int]]:
    return [(int(b), int(a)) for b, a in in_ignored_regions(targets(*regions), priors).nonzero()]


def test_no_region() -> None:
    found = in_ignored_regions(targets(), PRIORS)
    assert found.shape == (2, 16) and found.dtype == torch.bool and not found.any()


def test_centres_within_and_only_in_their_own_picture() -> None:
    # A small region round the centre (12, 12): its IoU with the prior there is 16 / 256, and it covers little of it.
    assert touched((1, 10, 10, 14, 14)) == [(1, 5)]


def test_half_of_a_prior_is_enough() -> None:
    # From x = 16 on, over the whole height: half of the priors centred at 12 lies there, their centres don't; and all
    # of the others.
    right = [(0, row * 4 + column) for row in range(4) for column in (2, 3)]
    assert touched((0, 16.5, 0, 32, 32)) == right
    # By columns at 12 (4..20): a region from 11.9 holds their centres.
    assert (0, 1) in touched((0, 11.9, 0, 32, 32))
    assert (0, 1) not in touched((0, 12.1, 0, 32, 32))
    assert (0, 1) in touched((0, 12.0, -4, 32, 32))


def test_a_box_like_the_region_though_its_centre_is_outside() -> None:
    large = Priors(torch.tensor([[10.0, 10, 20, 20], [10, 10, 60, 60]]), torch.full((2,), 8.0), (32, 32))
    region = (0.0, 10.5, 2, 20, 18)  # 9.5 x 16: in the first prior, IoU 152 / 400
    assert touched(region, priors=large) == [(0, 0)]


def test_regions_add_up() -> None:
    assert touched((0, 2, 2, 6, 6), (0, 26, 26, 30, 30), (1, 26, 26, 30, 30)) == [(0, 0), (0, 15), (1, 15)]


def test_a_labelled_face_in_a_crowd_is_learnt() -> None:
    positive = torch.zeros(2, 16, dtype=torch.bool)
    positive[0, 5] = True
    background = background_priors(positive, targets((0, 0, 0, 32, 32)), PRIORS)
    assert not background[0].any()
    assert background[1].all()
