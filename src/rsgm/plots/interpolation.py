"""Log-densities between the places where they are known."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CloughTocher2DInterpolator, CubicSpline, LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial import Delaunay, QhullError

from rsgm.plots.style import Floats

_STEEP = 8.0  # nats between corners of a triangle, above which no cubic is fitted
_RELIEF = 40.0  # nats below the highest value, or below the colours, that are still told apart


def floored(values: Floats, vmin: float) -> Floats:
    """Log-densities raised to 40 nats below ``vmin``: none is minus infinity, the colours stay as they are."""
    return np.maximum(values, vmin - _RELIEF)


def scattered(places: Floats, values: Floats, targets: Floats) -> Floats:
    """Log-densities at places (n, 2) brought to targets (m, 2) among them, piecewise cubic.

    A target whose nearest value is minus infinity gets minus infinity. Values more than 40 nats below the highest are
    raised to that level: no picture shows them, but a steep edge makes the cubic oscillate where it is shown.

    Beside a peak that is narrower than the places are apart a cubic would swing far beyond all values: it may leave
    the range of the three values around a target by half a nat, and where that is more than 8 nats it is linear.

    Raises:
        ValueError: for a target that the places do not surround
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.full(len(targets), -np.inf)
    try:
        heights = floored(values[finite], values.max())
        cubic = CloughTocher2DInterpolator(places[finite], heights)
        smooth = _within(cubic.tri, heights, targets, cubic(targets))
    except QhullError:  # fewer than three places, or all in one line
        smooth = np.full(len(targets), np.nan)
    outside = np.isnan(smooth)
    if finite.all():
        if outside.any():
            raise ValueError(
                f"{int(outside.sum())} of {len(targets)} places of the picture lie beyond the {len(places)} points at "
                "which the density is known; expected points all over the manifold"
            )
        return smooth
    nearest = NearestNDInterpolator(places, values)(targets)
    return np.where(outside | np.isneginf(nearest), nearest, smooth)


def _within(triangles: Delaunay, heights: Floats, targets: Floats, values: Floats) -> Floats:
    """Values at targets, held to the range of the corners of their triangles and half a nat; linear in steep ones."""
    corners = heights[triangles.simplices[triangles.find_simplex(targets)]]
    low, high = corners.min(1), corners.max(1)
    # a target in no triangle has no value, and keeps none
    straight = LinearNDInterpolator(triangles, heights)(targets)
    return np.where(high - low > _STEEP, straight, np.clip(values, low - 0.5, high + 0.5))


def around(turn: Floats, values: Floats, cells: int = 1440) -> tuple[Floats, Floats]:
    """Angles once around, radians, and the density there, of log-densities (n,) at n ascending angles.

    It is interpolated by a periodic cubic spline; where a density of zero is among the values, linearly.
    """
    closed = np.append(turn, turn[0] + 2 * np.pi), np.append(values, values[0])
    if not np.isfinite(values).all():
        return closed[0], np.exp(closed[1])
    angles = np.linspace(*closed[0][[0, -1]], cells + 1)
    return angles, np.exp(CubicSpline(closed[0], floored(closed[1], values.max()), bc_type="periodic")(angles))
