"""Regions of highest density as GeoJSON, and in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from rsgm.data import ManifoldData
from rsgm.data.text import as_text
from rsgm.evaluation.coordinates import Floats
from rsgm.evaluation.regions import Regions, density_regions
from rsgm.files import new_text, require_free
from rsgm.models import GenerativeModel


def geojson(found: Regions) -> dict[str, Any]:
    """A feature collection, with a feature of several polygons for each coverage.

    Outer rings run counter-clockwise and holes clockwise. On the sphere positions are longitude and latitude in
    degrees, polygons are cut at the antimeridian, and one that holds a pole reaches it along that meridian. Elsewhere
    positions are the two coordinates in the data's units.

    References: Butler et al. 2016, RFC 7946, "The GeoJSON Format".
    """
    features = []
    for region in found.regions:
        properties = {
            "coverage": region.coverage,
            "coverage_standard_error": region.standard_error,
            "log_density": region.level,
            "area": region.area,
            "area_unit": region.per,
            "share_of_fresh_draws": region.fresh_share,
            "share_of_draws_on_the_wrong_side": region.astray,
            "share_of_test_points": region.test_share,
        }
        if region.area_km2 is not None:
            properties["area_km2"] = region.area_km2
        shapes = [[_positions(ring) for ring in rings] for rings in region.polygons]
        geometry = {"type": "MultiPolygon", "coordinates": shapes}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    about = {"law": found.about, "draws": found.draws, "test_points": found.test_points, "axes": list(found.axes)}
    # further members are allowed (RFC 7946, section 6.1)
    return {"type": "FeatureCollection", "rsgm": about | {"version": version("rsgm")}, "features": features}


def write_regions(
    path: Path,
    model: GenerativeModel,
    data: ManifoldData,
    coverages: Sequence[float],
    context: Tensor | None = None,
    draws: int = 2000,
) -> Regions:
    """Compute regions and write them as GeoJSON.

    Arguments:
        path: a ``.geojson`` file that does not exist
        model, data, coverages, context, draws: see `density_regions`

    Raises:
        ValueError: see `density_regions`; another suffix
        FileExistsError, FileNotFoundError: see `new_file`
    """
    if path.suffix not in (".geojson", ".json"):
        raise ValueError(f"{path}: found the suffix {path.suffix!r}, expected .geojson.")
    require_free(path)
    found = density_regions(model, data, coverages, context, draws)
    new_text(path, json.dumps(geojson(found)) + "\n")
    return found


def _positions(ring: Floats) -> list[list[float]]:
    """To nine digits of their spread: of degrees a tenth of a metre on the Earth, or better."""
    columns = (as_text(column.tolist(), float(column.std()), digits=9) for column in np.asarray(ring).T)
    return [[float(x), float(y)] for x, y in zip(*columns, strict=True)]
