"""What the page's views show: points as plain data, where each manifold has them, and the picture of a density."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation
from torch import Tensor

from rsgm.manifolds import Manifold, Product, SpecialOrthogonal, Sphere, Torus, to_lat_lon
from rsgm.plots import coastline
from rsgm.plots.panels import default_pairs

#: most pixels of a density along an axis of a page
_PIXELS = 360


class View(NamedTuple):
    """Canvases of one factor of a manifold.

    Fields:
        kind: ``globe``, ``ball`` or ``angles``, a function of report.js
        title: above
        places: the coordinates of points ``(n, k)``, one for each set of points: latitude and longitude, or angles, in
            degrees; rotation vectors in radians
        options: of each of its canvases
    """

    kind: str
    title: str
    places: Sequence[np.ndarray]
    options: Sequence[Mapping[str, Any]]


@singledispatch
def views_of(manifold: Manifold, sets: Sequence[Tensor], earth: bool, columns: Sequence[str]) -> list[View]:
    """Those of a manifold, by its class; none where there are none.

    Arguments:
        manifold: where the points lie
        sets: of points, each ``(n, *shape)``
        earth: whether a point of the sphere is a place on the Earth
        columns: names of the data's columns, where there is one for each angle
    """
    return []


@views_of.register
def _(manifold: Sphere, sets: Sequence[Tensor], earth: bool, columns: Sequence[str]) -> list[View]:
    if manifold.dim != 2:
        return []
    places = [to_lat_lon(x).numpy().round(3) for x in sets]
    # the middle of the first set
    middle = sets[0].double().mean(0, keepdim=True).cpu()
    latitude, longitude = to_lat_lon(middle / middle.norm())[0].tolist()
    options = {"centre": [round(longitude, 2), round(float(np.clip(latitude, -60, 60)), 2)]}
    if earth:
        options["coast"] = _text(np.where(np.isnan(coastline()), 327.67, coastline()), 100, "<i2")
    return [View("globe", str(manifold), places, [options])]


@views_of.register
def _(manifold: Torus, sets: Sequence[Tensor], earth: bool, columns: Sequence[str]) -> list[View]:
    if manifold.dim < 2:
        return []
    places = [np.degrees(manifold.angles(x.double()).cpu().numpy()).round(2) for x in sets]
    names = columns if len(columns) == manifold.dim else [f"angle {k + 1}" for k in range(manifold.dim)]
    options = [{"pair": [i, j], "names": [names[i], names[j]]} for i, j in default_pairs(manifold.dim)]
    return [View("angles", str(manifold), places, options)]


@views_of.register
def _(manifold: SpecialOrthogonal, sets: Sequence[Tensor], earth: bool, columns: Sequence[str]) -> list[View]:
    places = [Rotation.from_matrix(x.double().cpu().numpy()).as_rotvec().round(4) for x in sets]
    return [View("ball", str(manifold), places, [{}])]


@views_of.register
def _(manifold: Product, sets: Sequence[Tensor], earth: bool, columns: Sequence[str]) -> list[View]:
    parts = zip(*(manifold.split(x) for x in sets), strict=True)
    found = zip(manifold.factors, parts, strict=True)
    return [view for factor, part in found for view in views_of(factor, part, earth, ())]


def density_picture(figure: Figure) -> dict[str, Any]:
    """The picture in a figure of a density: bytes of the range of its colours, by rows from below."""
    (shown,) = figure.axes[0].images
    values = np.asarray(shown.get_array())
    every = max(1, round(max(values.shape) / _PIXELS))
    low, high = shown.get_clim()
    share = np.clip((values[every // 2 :: every, every // 2 :: every] - low) / (high - low), 0, 1)
    rows, columns = share.shape
    return {"rows": rows, "columns": columns, "values": _text(share, 255, "u1")}


def palette() -> str:
    """The colours of densities, 256 of three bytes."""
    return _text(colormaps["viridis"](np.linspace(0, 1, 256))[:, :3], 255, "u1")


def _text(values: np.ndarray, scale: float, kind: str) -> str:
    """Numbers in so many bytes each, as text."""
    return base64.b64encode(np.rint(values * scale).astype(kind).tobytes()).decode()
