from __future__ import annotations

import numpy as np
import pytest

from facekit.ops.align import ARCFACE_XY, similarity


def moved(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ turn.T + shift


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (30, 2.5), (-170, 0.1), (90, 7)])
def test_finds_the_way_back(degrees: float, scale: float) -> None:
    matrix = similarity(moved(ARCFACE_XY, degrees, scale, (300, -20)), ARCFACE_XY)
    assert matrix is not None
    back = moved(ARCFACE_XY, degrees, scale, (300, -20)) @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(back, ARCFACE_XY, atol=1e-9)


def test_is_the_least_of_squares_and_never_mirrors() -> None:
    """Of points that fit no similarity, against a search over nearby ones."""
    source = ARCFACE_XY * (1.2, 0.8) + np.array([[3, 0], [0, -4], [2, 2], [0, 5], [-3, 1]])
    matrix = similarity(source, ARCFACE_XY)
    assert matrix is not None

    def error(a: float, b: float, x: float, y: float) -> float:
        return float(((source @ np.array([[a, b], [-b, a]]) + (x, y) - ARCFACE_XY) ** 2).sum())

    best = (matrix[0, 0], matrix[1, 0], matrix[0, 2], matrix[1, 2])
    assert matrix[0, 1] == pytest.approx(-matrix[1, 0]) and matrix[1, 1] == pytest.approx(matrix[0, 0])
    rng = np.random.default_rng(0)
    assert all(error(*(best + rng.normal(0, 1e-3, 4))) >= error(*best) for _ in range(200))
    mirrored = similarity(ARCFACE_XY * (-1, 1), ARCFACE_XY)
    assert mirrored is not None and np.linalg.det(mirrored[:, :2]) > 0


def test_one_point_has_no_answer() -> None:
    assert similarity(np.ones((5, 2)), ARCFACE_XY) is None
    assert similarity(np.full((5, 2), np.nan), ARCFACE_XY) is None
