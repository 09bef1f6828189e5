"""Pairs of least cost, of rows and columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def least_cost_pairs(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(N, M) finite -> min(N, M) pairs (row, column) whose costs sum to the least: the Hungarian method by shortest
    augmenting paths (Jonker and Volgenant, Computing 1987)."""
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in least_cost_pairs(costs.T))
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, np.int64)  # 0: none; rows and columns count from 1
    for row in range(1, rows + 1):
        row_of[0], column = row, 0
        slack, before = np.full(columns + 1, np.inf), np.zeros(columns + 1, np.int64)
        is_used = np.zeros(columns + 1, bool)
        while row_of[column]:
            is_used[column] = True
            current = row_of[column]
            reduced = costs[current - 1] - row_price[current] - column_price[1:]
            is_better = ~is_used[1:] & (reduced < slack[1:])
            slack[1:][is_better] = reduced[is_better]
            before[1:][is_better] = column
            following = int(np.where(is_used[1:], np.inf, slack[1:]).argmin()) + 1
            step = slack[following]
            row_price[row_of[is_used]] += step
            column_price[is_used] -= step
            slack[~is_used] -= step
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    return sorted((int(row_of[column]) - 1, column - 1) for column in range(1, columns + 1) if row_of[column])
