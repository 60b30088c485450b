"""Which points are the same place."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

#: largest difference of the coordinates of two rows that are one place
_SAME = 1e-9


def label_places(points: Tensor, order: Tensor | None = None) -> Tensor:
    """Labels (N,): points whose coordinates differ by at most 1e-9 are one place and share a label.

    Points are compared rather than what a file says of them: a pole has many longitudes, and a rotation two
    quaternions. Near points are joined, instead of rounded to a grid whose borders would divide places. Where no
    coordinate exceeds one, as flat data in small units, 1e-9 of the largest is what counts.

    Arguments:
        points: ``(N, *shape)``, float64
        order: (N, k) numbers by which the labels are numbered, lexicographically; None is the points themselves

    Example:
        >>> label_places(torch.tensor([[0.5, 1.0], [0.2, 0.0], [0.5, 1.0 - 1e-16]], dtype=torch.float64))
        tensor([1, 0, 1])
    """
    x = points.flatten(1).numpy()
    scale = np.abs(x).max(initial=0.0)
    same = _SAME * min(1.0, scale)
    # near points have near heights along any direction, so that only neighbours by height need to be compared
    direction = np.random.default_rng(0).standard_normal(x.shape[1])
    height = x @ direction
    margin = np.abs(direction).sum() * (same + x.shape[1] * np.finfo(float).eps * scale)

    def near(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        found = height[second] - height[first] <= margin
        found[found] = (np.abs(x[first[found]] - x[second[found]]) <= same).all(1)
        return found

    rows = np.argsort(height, kind="stable")
    starts = np.concatenate([[True], ~near(rows[:-1], rows[1:])])
    run = np.cumsum(starts) - 1
    # one row of each run, against those that others of the same height keep apart from it
    firsts, pairs = rows[starts], []
    for shift in range(1, len(firsts)):
        one, other = firsts[:-shift], firsts[shift:]
        if (height[other] - height[one]).min() > margin:
            break
        found = np.flatnonzero(near(one, other))
        pairs.append(np.stack([found, found + shift]))
    links = np.concatenate([np.empty((2, 0), int), *pairs], 1)
    graph = coo_array((np.ones(links.shape[1]), tuple(links)), shape=(len(firsts), len(firsts)))
    labels = np.empty(len(x), int)
    labels[rows] = connected_components(graph, directed=False)[1][run]
    key = (points.flatten(1) if order is None else order)[np.unique(labels, return_index=True)[1]]
    return torch.unique(key, dim=0, return_inverse=True)[1][labels]
