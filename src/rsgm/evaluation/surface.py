"""A function on a box of two coordinates, known finely where its contours are; the polygons that they bound."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from contourpy import FillType, contour_generator
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter

from rsgm.evaluation.coordinates import Axis, Floats

#: one outer ring, counter-clockwise, and its holes, clockwise; each ``(n, 2)``, the last position the first
Polygon = list[Floats]

#: nats below the lowest level that are still told apart: a density of zero makes no steeper edge
_RELIEF = 20.0


class Surface:
    """Values at the nodes of a grid that is halved, again and again, where it matters.

    A node where nothing matters is interpolated between those that were evaluated.

    Arguments:
        x, y: the axes
        function: of values ``(n, 2)`` in the units of the axes, ``(n,)``
        cells: of the longer axis, at first
    """

    def __init__(self, x: Axis, y: Axis, function: Callable[[Floats], Floats], cells: int) -> None:
        self.axes, self._function = (y, x), function
        extents = [axis.factor * (axis.high - axis.low) for axis in self.axes]
        even = x.unit != "1" and y.unit != "1"
        counts = [max(8, round(cells * extent / max(extents))) if even else cells for extent in extents]
        #: rows are values of y, columns of x
        self.values = np.zeros([count + 1 for count in counts])
        self._known = np.zeros(self.values.shape, dtype=bool)
        self.evaluations = 0
        self._evaluate(np.ones(self.values.shape, dtype=bool))

    @property
    def nodes(self) -> tuple[Floats, Floats]:
        """The values of y and of x."""
        return tuple(axis.edges(size - 1) for axis, size in zip(self.axes, self.values.shape, strict=True))

    def at(self, places: Floats) -> Floats:
        """Interpolated between four nodes at places ``(n, 2)``, x and y."""
        return map_coordinates(self.values, self._indices(places), order=1, mode="nearest")

    def highest_at_ends(self) -> float:
        """The largest value at the ends of the axes that have some, as a line has."""
        rims = [np.take(self.values, [0, -1], k).max() for k, axis in enumerate(self.axes) if axis.unit == "1"]
        return max(rims, default=-np.inf)

    def missing(self, levels: Sequence[float], astray: Floats) -> NDArray[np.bool_]:
        """The cells that a contour crosses, and those that hold one of the places ``astray`` ``(n, 2)`` or are beside
        one."""
        z = self.values
        corners = np.stack([z[:-1, :-1], z[1:, :-1], z[:-1, 1:], z[1:, 1:]])
        low, high = corners.min(0), corners.max(0)
        cells = np.zeros(low.shape, dtype=bool)
        row, column = np.clip(np.floor(self._indices(astray)).astype(int).T, 0, np.array(cells.shape) - 1).T
        cells[row, column] = True
        cells = maximum_filter(cells, 3, mode=["wrap" if axis.closed else "nearest" for axis in self.axes])
        for level in levels:
            cells |= (low < level) & (level <= high)
        return cells

    def halve(self, cells: NDArray[np.bool_]) -> None:
        """Half of the step, with values at the nodes of the given cells."""
        shape = [2 * size - 1 for size in self.values.shape]
        known = np.zeros(shape, dtype=bool)
        known[::2, ::2] = self._known
        places = np.meshgrid(*(np.arange(size) / 2 for size in shape), indexing="ij")
        self.values, self._known = map_coordinates(self.values, places, order=1, mode="nearest"), known
        fine = np.repeat(np.repeat(cells, 2, 0), 2, 1)
        wanted = np.zeros(shape, dtype=bool)
        for i in (0, 1):
            for j in (0, 1):
                wanted[i : i + fine.shape[0], j : j + fine.shape[1]] |= fine
        self._evaluate(wanted & ~known)

    def polygons(self, level: float) -> list[Polygon]:
        """The places of at least this value, within the box: a closed axis is cut at its ends."""
        heights = np.maximum(self.values, level - _RELIEF)
        y, x = self.nodes
        lines = contour_generator(x, y, heights, fill_type=FillType.OuterOffset)
        shapes = zip(*lines.filled(level, max(level, float(heights.max())) + 1.0), strict=True)
        found = []
        for points, offsets in shapes:
            # interpolated between nodes, a position may lie beyond the box by its last digit
            points = points.clip((x[0], y[0]), (x[-1], y[-1]))
            rings = [points[a:b] for a, b in itertools.pairwise(offsets)]
            # a ring of fewer positions bounds nothing
            found.append([ring for k, ring in enumerate(rings) if k == 0 or len(ring) >= 4])
        return [rings for rings in found if len(rings[0]) >= 4]

    def area(self, polygons: Sequence[Polygon]) -> float:
        r"""The volume of polygons, :math:`-\oint Y\,dX` with the primitives X and Y of the axes' lengths.

        On the sphere :math:`-\oint \sin\phi\,d\lambda`: edges are straight in longitude and latitude.
        """
        y, x = self.axes
        total = 0.0
        for rings in polygons:
            for ring in rings:
                across = np.diff(x.primitive(x.own(ring[:, 0])))
                ends, middle = y.primitive(y.own(ring[:, 1])), y.own((ring[1:, 1] + ring[:-1, 1]) / 2)
                # Simpson's rule
                total -= float(across @ (ends[:-1] + 4 * y.primitive(middle) + ends[1:])) / 6
        return total

    def _indices(self, places: Floats) -> Floats:
        size = zip((places[:, 1], places[:, 0]), self.axes, self.values.shape, strict=True)
        return np.stack([(value - axis.low) / (axis.high - axis.low) * (n - 1) for value, axis, n in size])

    def _evaluate(self, wanted: NDArray[np.bool_]) -> None:
        y, x = self.nodes
        row, column = np.nonzero(wanted)
        self.values[row, column] = self._function(np.stack([x[column], y[row]], -1))
        self.evaluations += len(row)
        self._known |= wanted
        # both ends of a closed axis are one place: an edge along the cut meets itself
        for k, axis in enumerate(self.axes):
            if axis.closed:
                ends = [slice(None)] * k
                self.values[(*ends, -1)] = self.values[(*ends, 0)]
                self._known[(*ends, -1)] |= self._known[(*ends, 0)]


def inside(polygons: Sequence[Polygon], places: Floats) -> NDArray[np.bool_]:
    """Which places ``(n, 2)`` are in one of the polygons: those that lie in an odd number of rings."""
    found = np.zeros(len(places), dtype=bool)
    for ring in (ring for rings in polygons for ring in rings):
        near = np.flatnonzero(((places >= ring.min(0)) & (places <= ring.max(0))).all(1))
        found[near] ^= Outline(ring).contains_points(places[near])
    return found
