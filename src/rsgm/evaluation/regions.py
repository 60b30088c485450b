"""Regions of highest density: the smallest that hold a given share of a law, as polygons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsgm.data import ManifoldData
from rsgm.evaluation.coordinates import Coordinates, Floats, coordinates, in_units_of
from rsgm.evaluation.own_draws import law_in_words, own_draws, require_context
from rsgm.evaluation.surface import Polygon, Surface, inside
from rsgm.likelihood import Draws
from rsgm.metrics import density_level
from rsgm.models import GenerativeModel
from rsgm.progress import bar

#: cells of the longer axis at first, how often they are halved at least (for smooth outlines) and at most, and most
#: evaluations of the density
_CELLS, _LEAST, _HALVINGS, _NODES = 90, 2, 6, 60_000
#: how often flat axes are made longer
_WIDER = 4
#: radius of the sphere that has the area of the Earth's ellipsoid (Moritz 2000, GRS 80)
_EARTH_KM = 6371.0072


class Region(NamedTuple):
    """A region of highest density.

    Fields:
        coverage: the share of the law that it shall hold
        standard_error: of that share, for the level is a quantile of draws
        level: the log-density at its edge, nats
        polygons: in the units of the axes
        area: in ``per``, the unit of area that the density refers to as well
        per: steradian, rad^2, …
        area_km2: of places on the Earth, on the sphere that has its area; None elsewhere
        fresh_share: the share of other draws within the polygons
        astray: the share of these that the polygons and the density put on different sides
        test_share: the share of the test points within; None where none has the context
    """

    coverage: float
    standard_error: float
    level: float
    polygons: list[Polygon]
    area: float
    per: str
    area_km2: float | None
    fresh_share: float
    astray: float
    test_share: float | None

    @property
    def resolved(self) -> bool:
        """Whether the polygons follow the density to within the standard error."""
        return self.astray <= self.standard_error


class Regions(NamedTuple):
    """Regions of one law.

    Fields:
        regions: one for each coverage
        axes: names of the two coordinates, in the order of positions
        draws: for the levels, and as many fresh ones
        test_points: how many have the context
        about: of the model and its data
    """

    regions: list[Region]
    axes: tuple[str, str]
    draws: int
    test_points: int
    about: str

    def report(self) -> str:
        """A line or two for each region."""
        lines = [f"levels are quantiles of {self.draws} draws of {self.about}; as many fresh ones check the polygons"]
        for region in self.regions:
            km2 = "" if region.area_km2 is None else f", {region.area_km2:.4g} km²"
            polygons = "1 polygon" if len(region.polygons) == 1 else f"{len(region.polygons)} polygons"
            test = "" if region.test_share is None else f", {region.test_share:.1%} of {self.test_points} test points"
            lines.append(
                f"{region.coverage:.2%} ± {region.standard_error:.2%}: log-density above {region.level:.4f} nats, "
                f"{region.area:.5g} {region.per}{km2}, {polygons} with "
                f"{region.fresh_share:.1%} of fresh draws{test}"
            )
            if not region.resolved:
                lines.append(
                    f"  not resolved: polygons and density differ on {region.astray:.1%} of the draws, for the density "
                    "has peaks that are narrower than the finest grid"
                )
        return "\n".join(lines)


def density_regions(
    model: GenerativeModel,
    data: ManifoldData,
    coverages: Sequence[float],
    context: Tensor | None = None,
    draws: int = 2000,
) -> Regions:
    """The smallest regions that hold given shares of a model's law.

    The log-density at the edge of the region of coverage a is the (1 - a) quantile of that of the model's own draws.
    The region is drawn on a grid of the two coordinates that is halved along its contours, and around draws that it
    puts on the wrong side, until no more of other draws are on the wrong side than the standard error of the coverage,
    or the grid is as fine, or as expensive, as it may be; see `Region.resolved`.

    References: Hyndman 1996, "Computing and Graphing Highest Density Regions", The American Statistician 50.

    Arguments:
        model: the law; its `GenerativeModel.rough` log-density is used
        data: what it was trained on, set up
        coverages: in (0, 1)
        context: of a conditional model, ``(features,)``
        draws: for the levels, and once more to check the polygons

    Raises:
        ValueError: a manifold without a map of two coordinates, a coverage that is no share, a wrong context
        SolveError: where a log-density could not be computed
    """
    require_context(data, context)
    found = coordinates(model.manifold, data.train.points)
    if found is None or len(found.axes) != 2:
        raise ValueError(
            f"There are no polygons on {model.manifold}, which is no sphere, torus, cylinder or plane. The tail "
            "probabilities of --score say of each point in which region of highest density it lies."
        )
    own, fresh = (own_draws(model, draws, context, seed) for seed in (0, 1))
    edges = [density_level(own.log_density, coverage) for coverage in coverages]
    rough = model.rough()

    def log_density(x: Tensor) -> Floats:
        return rough.log_prob(x, context).double().cpu().numpy()

    chart, test = _chart(data, found, own), _test_points(data, context)
    surface = _surface(chart, log_density, min(level for level, _ in edges))
    placed = [(chart.values(some.points), some.log_density.numpy()) for some in (own, fresh)]
    _refine(surface, edges, *placed)
    known = log_density(test) if len(test) else np.empty(0)
    regions = []
    for coverage, (level, error) in zip(coverages, edges, strict=True):
        polygons = surface.polygons(level)
        area = surface.area(polygons)
        (_places, values), within = placed[1], inside(polygons, placed[1][0])
        regions.append(
            Region(
                coverage=coverage,
                standard_error=error,
                level=level + chart.log_unit,
                polygons=polygons,
                area=area * math.exp(-chart.log_unit),
                per=chart.per,
                area_km2=area * _EARTH_KM**2 if data.earth else None,
                fresh_share=float(within.mean()),
                astray=float((within != (values >= level)).mean()),
                test_share=float((known >= level).mean()) if len(test) else None,
            )
        )
    x, y = chart.axes
    return Regions(regions, (x.name, y.name), draws, len(test), law_in_words(model, data, context))


def _chart(data: ManifoldData, found: Coordinates, own: Draws) -> Coordinates:
    """Two axes in the order of positions: of the sphere longitude and latitude in degrees, as GeoJSON has them."""
    if found.axes[0].standard_name != "latitude":
        # flat axes reach as far as the law
        return in_units_of(data, coordinates(data.manifold, torch.cat([data.train.points, own.points])))
    return Coordinates(
        found.axes[::-1],
        lambda values: found.from_own(values[:, ::-1]),
        lambda x: found.to_own(x)[:, ::-1],
        found.per,
    )


def _test_points(data: ManifoldData, context: Tensor | None) -> Tensor:
    """The test points that have the context, to the digits that a model is given."""
    if context is None:
        return data.test.points
    return data.test.points[(data.test.context.float() == context.cpu().float()).all(1)]


def _surface(chart: Coordinates, log_density: Callable[[Tensor], Floats], level: float) -> Surface:
    """The first grid, as wide as it takes that no contour leaves it.

    Raises:
        ValueError: where that is too wide
    """
    for _ in range(_WIDER):
        surface = Surface(*chart.axes, lambda places, chart=chart: log_density(chart.points(places)), _CELLS)
        if surface.highest_at_ends() < level:
            return surface
        chart = replace(chart, axes=tuple(axis.widened() for axis in chart.axes))
    raise ValueError(
        f"The log-density is above {level:.3g} nats even at {chart.axes[0].low:.3g} and {chart.axes[0].high:.3g}, far "
        "beyond the data and the draws, so that its region has no end. Choose a smaller coverage."
    )


def _refine(
    surface: Surface,
    edges: Sequence[tuple[float, float]],
    own: tuple[Floats, Floats],
    fresh: tuple[Floats, Floats],
) -> None:
    """Halve the grid where contours are, and draws on the wrong side of one, until few enough fresh ones are."""
    with bar("regions of highest density", _NODES, "evaluations") as shown:
        for k in range(_HALVINGS):
            shown.update(surface.evaluations - shown.n)
            follows = [
                float((inside(surface.polygons(level), fresh[0]) != (fresh[1] >= level)).mean()) <= error
                for level, error in edges
            ]
            if (k >= _LEAST and all(follows)) or surface.evaluations > _NODES:
                return
            astray = np.zeros(len(own[0]), dtype=bool)
            for level, _ in edges:
                astray |= (surface.at(own[0]) >= level) != (own[1] >= level)
            surface.halve(surface.missing([level for level, _ in edges], own[0][astray]))
