"""Values on a grid of longitudes and latitudes: made of scattered ones, closed around the globe; projections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import map_coordinates
from typing_extensions import override

from rsgm.plots.interpolation import scattered
from rsgm.plots.style import Box, Floats, as_density, as_points, refuse_density

_PIXELS = 720  # rows of a picture
_OVERLAP = np.radians(50)  # of the two hemispheres, on either side of the equator


def interpolate(degrees: ArrayLike, values: ArrayLike, step: float = 0.5) -> tuple[Floats, Floats, Floats]:
    """Scattered log-densities on the globe, brought onto a regular grid for `density_map`.

    Each hemisphere is interpolated in the stereographic projection that has its pole in the middle, which knows of no
    seam and no edge.

    Arguments:
        degrees: (n, 2), latitude and longitude of points all over the globe
        values: (n,), nats
        step: of the grid, degrees

    Returns:
        longitudes (nlon,), latitudes (nlat,) and the values (nlat, nlon)

    Raises:
        ValueError: for shapes that do not fit, values that are no numbers, points that leave a part of the globe out

    Example:
        >>> nodes = np.stack(np.meshgrid(np.arange(-85, 90, 5), np.arange(0, 360, 5)), -1).reshape(-1, 2)
        >>> longitude, latitude, values = interpolate(nodes, np.sin(np.radians(nodes[:, 0])))
        >>> bool(abs(values - np.sin(np.radians(latitude))[:, None]).max() < 0.001)
        True
    """
    places = np.radians(as_points("degrees", degrees, 2))
    known = as_density(values, len(places))
    longitude, latitude = np.arange(-180 + step / 2, 180, step), np.arange(-90 + step / 2, 90, step)
    grid = np.radians(np.stack(np.meshgrid(latitude, longitude, indexing="ij"), -1)).reshape(-1, 2)
    found = np.empty(len(grid))
    for side in (1, -1):
        # far over the equator, so that coarse points surround the hemisphere as well
        near, here = side * places[:, 0] > -_OVERLAP, side * grid[:, 0] >= 0
        found[here] = scattered(_stereographic(side, places[near]), known[near], _stereographic(side, grid[here]))
    return longitude, latitude, found.reshape(len(latitude), len(longitude))


def _stereographic(side: int, places: Floats) -> Floats:
    """Latitudes and longitudes (n, 2), radians, in the plane around the north pole (1) or the south pole (-1)."""
    radius = np.tan((np.pi / 2 - side * places[:, 0]) / 2)
    return np.stack([radius * np.cos(places[:, 1]), radius * np.sin(places[:, 1])], -1)


def closed_grid(longitude: ArrayLike, latitude: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Check and sort a grid, then close it: a column beyond either side of the seam, a row at either pole."""
    lon = np.asarray(longitude, dtype=np.float64)
    lat = np.asarray(latitude, dtype=np.float64)
    grid = np.asarray(values, dtype=np.float64)
    if lon.ndim != 1 or lat.ndim != 1 or grid.shape != (lat.size, lon.size):
        raise ValueError(
            f"log_density has shape {grid.shape}, with longitude {lon.shape} and latitude {lat.shape}; "
            "expected (nlat, nlon) with (nlon,) and (nlat,)"
        )
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ValueError("longitude and latitude must be finite")
    refuse_density(grid)

    lon, first = np.unique((lon + 180) % 360 - 180, return_index=True)  # 180 and -180 are one meridian
    lat, order = np.unique(lat, return_index=True)
    if lat.size != grid.shape[0]:
        raise ValueError("latitude: two centres of cells are equal")
    grid = grid[np.ix_(order, first)]
    _check_cover("longitude", lon, np.diff(lon, append=lon[:1] + 360))
    _check_cover("latitude", lat, np.diff(lat, prepend=-90.0, append=90.0))

    lon = np.concatenate([lon[-1:] - 360, lon, lon[:1] + 360])
    grid = np.hstack([grid[:, -1:], grid, grid[:, :1]])
    # A pole is one point: all columns meet there in one value, the mean of the nearest row.
    south, north = grid[0].mean(), grid[-1].mean()
    inner = np.abs(lat) < 90  # a grid that has the poles has their values
    rows = [np.full_like(grid[:1], south), grid[inner], np.full_like(grid[:1], north)]
    return lon, np.concatenate([[-90.0], lat[inner], [90.0]]), np.vstack(rows)


def _check_cover(name: str, centres: Floats, gaps: Floats) -> None:
    """Raise for a grid in radians, or of a region, which would be stretched over the globe."""
    if centres.size < 4 or np.abs(centres).max() > 180 or (name == "latitude" and np.abs(centres).max() > 90):
        raise ValueError(f"{name}: expected at least 4 centres of cells in degrees, found {centres.tolist()[:8]}")
    if gaps.max() > 3 * np.median(gaps):
        raise ValueError(
            f"{name}: {centres.size} centres from {centres[0]:.4g} to {centres[-1]:.4g} leave a gap of "
            f"{gaps.max():.4g} degrees; the grid must cover the globe, in degrees"
        )


def widths(lat: Floats) -> Floats:
    """Heights of the cells around sorted latitudes, degrees."""
    edges = np.concatenate([lat[:1], (lat[1:] + lat[:-1]) / 2, lat[-1:]])
    return np.diff(edges)


class Projection(ABC):
    """A map of the sphere in the plane.

    Fields:
        width: half of the map's width, where half of its height is one
        longitude: in the middle, degrees
    """

    width: float
    longitude: float

    @abstractmethod
    def forward(self, places: Floats) -> Floats:
        """Points of the map (n, 2) of longitudes and latitudes (n, 2), radians; NaN where they are not seen."""

    @abstractmethod
    def inverse(self, points: Floats) -> Floats:
        """Longitudes and latitudes of points of the map, radians; of points beyond its rim those of the rim beside."""

    @property
    def extent(self) -> Box:
        """Left, right, bottom and top of the map."""
        return (-self.width, self.width, -1.0, 1.0)

    def axes(self) -> tuple[Floats, Floats]:
        """The middles of pixels, from the left and from below."""
        return tuple(  # type: ignore[return-value]
            half * ((np.arange(n) + 0.5) / n * 2 - 1)
            for half, n in ((self.width, round(_PIXELS * self.width)), (1.0, _PIXELS))
        )

    def picture(self, lon: Floats, lat: Floats, values: Floats) -> Floats:
        """Values (nlat, nlon) on a closed grid, degrees, interpolated bilinearly at each pixel (rows from below)."""
        x, y = self.axes()
        grid = np.stack(np.meshgrid(x, y), -1)
        places = np.degrees(self.inverse(grid.reshape(-1, 2)))
        column = np.interp(places[:, 0], lon, np.arange(lon.size))
        row = np.interp(places[:, 1], lat, np.arange(lat.size))
        return map_coordinates(values, (row, column), order=1, mode="nearest").reshape(grid.shape[:2])


@dataclass(frozen=True)
class Mollweide(Projection):
    """The whole sphere in an ellipse, areas as they are.

    Arguments:
        longitude: in the middle, degrees
    """

    longitude: float = 0.0

    width = 2.0

    @override
    def forward(self, places: Floats) -> Floats:
        turn = np.radians((np.degrees(places[:, 0]) - self.longitude + 180) % 360 - 180)
        theta = np.interp(places[:, 1], _LATITUDE, _THETA)
        return np.stack([2 * turn / np.pi * np.cos(theta), np.sin(theta)], -1)

    @override
    def inverse(self, points: Floats) -> Floats:
        x, y = points.T
        theta = np.arcsin(np.clip(y, -1, 1))
        # a hair within the seam, which is one meridian with two ends
        turn = np.pi * np.clip(x / np.maximum(2 * np.cos(theta), 1e-12), -1 + 1e-12, 1 - 1e-12)
        turn = (turn + np.radians(self.longitude) + np.pi) % (2 * np.pi) - np.pi
        return np.stack([turn, np.arcsin((2 * theta + np.sin(2 * theta)) / np.pi)], -1)


MOLLWEIDE = Mollweide()
_THETA = np.pi / 2 * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 20_001))
_LATITUDE = np.arcsin(np.clip((2 * _THETA + np.sin(2 * _THETA)) / np.pi, -1, 1))


@dataclass(frozen=True)
class Orthographic(Projection):
    """Half of the sphere, as from far away.

    Arguments:
        latitude, longitude: in the middle, degrees
    """

    latitude: float = 0.0
    longitude: float = 0.0

    width = 1.0

    @override
    def forward(self, places: Floats) -> Floats:
        lon, lat = places[:, 0] - np.radians(self.longitude), places[:, 1]
        tilt = np.radians(self.latitude)
        depth = np.sin(tilt) * np.sin(lat) + np.cos(tilt) * np.cos(lat) * np.cos(lon)
        up = np.cos(tilt) * np.sin(lat) - np.sin(tilt) * np.cos(lat) * np.cos(lon)
        found = np.stack([np.cos(lat) * np.sin(lon), up], -1)
        return np.where(depth[:, None] >= 0, found, np.nan)

    @override
    def inverse(self, points: Floats) -> Floats:
        right, up = (points / np.maximum(np.hypot(*points.T), 1)[:, None]).T
        depth = np.sqrt(np.maximum(1 - right**2 - up**2, 0))
        tilt = np.radians(self.latitude)
        lat = np.arcsin(np.clip(np.cos(tilt) * up + np.sin(tilt) * depth, -1, 1))
        lon = np.arctan2(right, np.cos(tilt) * depth - np.sin(tilt) * up) + np.radians(self.longitude)
        return np.stack([(lon + np.pi) % (2 * np.pi) - np.pi, lat], -1)
