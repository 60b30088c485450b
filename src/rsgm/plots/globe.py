"""Values on a grid of longitudes and latitudes: made of scattered ones, closed around the globe, projected."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import map_coordinates

from rsgm.plots.interpolation import scattered
from rsgm.plots.style import Floats, as_density, as_points, refuse_density

_CANVAS = (720, 1440)  # rows, columns of the projected density: about one per pixel
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


@functools.cache
def _canvas() -> tuple[Floats, Floats]:
    """Longitude and latitude (rows, columns), degrees, of each pixel of the canvas: projection inverted."""
    rows, columns = _CANVAS
    y = ((np.arange(rows) + 0.5) / rows * 2 - 1)[:, None]
    x = ((np.arange(columns) + 0.5) / columns * 2 - 1)[None, :]
    theta = np.arcsin(y)
    lat = np.degrees(np.arcsin((2 * theta + np.sin(2 * theta)) / np.pi))
    # Beyond the ellipse the last meridian goes on, so that the clipped edge has a colour to blend with.
    lon = 180 * np.clip(x / np.cos(theta), -1, 1)
    lon.setflags(write=False)
    return lon, np.broadcast_to(lat, lon.shape)


def project(lon: Floats, lat: Floats, values: Floats) -> Floats:
    """Interpolate `values` (nlat, nlon) on a closed grid bilinearly at every point of the canvas."""
    x, y = _canvas()
    column = np.interp(x, lon, np.arange(lon.size))
    row = np.interp(y, lat, np.arange(lat.size))
    return map_coordinates(values, (row, column), order=1, mode="nearest")
