"""Regions of highest density against laws whose regions are known: caps, disks, bands; as polygons that others read."""

import json
import math

import numpy as np
import pytest
import torch

from helpers import LawModel, law_data, seeded
from rsgm import Euclidean, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.data import EarthData
from rsgm.distributions import (
    BrownianLaw,
    GaussianMixture,
    Mixture,
    Normal,
    ProductDistribution,
    VonMisesFisher,
    default_prior,
)
from rsgm.evaluation import density_regions, write_regions
from rsgm.evaluation.coordinates import coordinates
from rsgm.evaluation.region_files import geojson
from rsgm.evaluation.surface import inside

KAPPA = 15.0


def error_of_area(step):
    """Of a disk of a law whose log-density has the curvature -1 / s, drawn on a grid of a step in degrees.

    Linear interpolation lowers the log-density by at most h^2 / 4 s, and an area grows by 2 pi s with each nat.
    """
    return math.pi * math.radians(step) ** 2 / 2


#: latitude and longitude of the mode
CAPS = {"plain": (20.0, 30.0), "antimeridian": (-10.0, 179.0), "north": (88.0, 40.0), "south": (-90.0, 0.0)}


def fisher(lat, lon):
    lat, lon = math.radians(lat), math.radians(lon)
    loc = [math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)]
    return VonMisesFisher(Sphere(2), torch.tensor(loc, dtype=torch.float64), KAPPA)


def signed_area(ring):
    """In the plane of the positions: positive where they run counter-clockwise."""
    x, y = np.asarray(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def check_rings(regions):
    """Closed, outer ones counter-clockwise, holes clockwise and within (RFC 7946, section 3.1.6)."""
    for region in regions.regions:
        assert region.polygons
        for outer, *holes in region.polygons:
            assert signed_area(outer) > 0
            for hole in holes:
                assert signed_area(hole) < 0
                assert inside([[outer]], np.array(hole[:1])).all()
            assert all(np.array_equal(ring[0], ring[-1]) for ring in (outer, *holes))


def check_membership(regions, law, in_axes, n=4_000):
    """By even and odd crossings of the rings against the density, of draws that nothing else has seen."""
    x = law.draw(n, seeded(99)).double()
    for region in regions.regions:
        held, above = inside(region.polygons, in_axes(x)), (law.log_prob(x) >= region.level).numpy()
        assert (held != above).mean() < 2e-3
        # the level is a quantile of 2000 draws, the share one of n
        assert abs(held.mean() - region.coverage) < 5 * region.standard_error
        assert region.resolved


def in_degrees(x):
    lat, lon = coordinates(Sphere(2), x).to_own(x).T
    return np.stack([lon, lat], -1)


@pytest.mark.parametrize("name", CAPS)
def test_caps_of_a_von_mises_fisher_law(name):
    """The radius follows from the level: log p falls by kappa (1 - cos r); a cap has the area 2 pi (1 - cos r)."""
    law = fisher(*CAPS[name])
    regions = density_regions(LawModel(law), law_data(law), [0.5, 0.9])
    check_rings(regions)
    check_membership(regions, law, in_degrees)
    for region in regions.regions:
        height = float(law.log_prob(law.loc) - region.level) / KAPPA
        assert region.area == pytest.approx(2 * math.pi * height, abs=error_of_area(1))
        expected = -math.log(1 - region.coverage * -math.expm1(-2 * KAPPA)) / KAPPA
        # by the error of the coverage
        assert abs(height - expected) < 5 * region.standard_error / (1 - region.coverage) / KAPPA
        positions = np.concatenate([ring for rings in region.polygons for ring in rings])
        assert np.abs(positions[:, 0]).max() <= 180
        assert np.abs(positions[:, 1]).max() <= 90
        if name != "antimeridian":
            # every position of the edge lies at this distance, but for those on the cut
            edge = positions[(np.abs(positions[:, 0]) < 180) & (np.abs(positions[:, 1]) < 90)]
            x = torch.from_numpy(np.stack([edge[:, 1], edge[:, 0]], -1))
            away = law.manifold.dist(coordinates(Sphere(2), law.loc[None]).from_own(x.numpy()), law.loc)
            assert (away - math.acos(1 - height)).abs().max() < 2e-3


def test_a_cap_across_the_antimeridian_is_cut_in_two():
    law = fisher(*CAPS["antimeridian"])
    (region,) = density_regions(LawModel(law), law_data(law), [0.9]).regions
    east, west = sorted(region.polygons, key=lambda rings: -rings[0][:, 0].max())
    assert east[0][:, 0].max() == 180
    assert west[0][:, 0].min() == -180
    # the two meet: at the cut both reach from one latitude to another
    cuts = [np.sort(ring[np.abs(ring[:, 0]) == 180][:, 1])[[0, -1]] for ring in (east[0], west[0])]
    assert np.allclose(*cuts)


@pytest.mark.parametrize("name, pole", [("north", 90), ("south", -90)])
def test_a_cap_over_a_pole_reaches_it_along_the_antimeridian(name, pole):
    law = fisher(*CAPS[name])
    (region,) = density_regions(LawModel(law), law_data(law), [0.9]).regions
    ((ring,),) = region.polygons
    corners = ring[ring[:, 1] == pole][:, 0]
    assert (corners.min(), corners.max()) == (-180, 180)


def test_two_caps_and_a_ring():
    """Two components of unequal weight; and what a law leaves out is a hole."""
    loc = torch.stack([fisher(40, 0).loc, fisher(-40, 120).loc])
    law = Mixture(VonMisesFisher(Sphere(2), loc, torch.tensor([60.0, 60.0]).double()), torch.tensor([2.0, 1.0]))
    regions = density_regions(LawModel(law), law_data(law), [0.3, 0.9])
    check_rings(regions)
    check_membership(regions, law, in_degrees)
    assert [len(region.polygons) for region in regions.regions] == [1, 2]
    around = torch.arange(24) * (2 * math.pi / 24)
    loc = torch.stack([around.cos(), around.sin()], -1).double()
    ring = Mixture(BrownianLaw(Euclidean(2), 3 * loc, 0.1))
    regions = density_regions(LawModel(ring), law_data(ring), [0.9])
    check_rings(regions)
    check_membership(regions, ring, lambda x: x.numpy())
    ((_, hole),) = regions.regions[0].polygons
    assert not inside(regions.regions[0].polygons, np.zeros((1, 2))).any()
    assert np.hypot(*hole.T).max() < 3


def test_peaks_between_the_nodes_of_the_first_grid_are_found():
    """Each of a width of .6 degrees, where the first step is 4 degrees; one of them across a corner of the map."""
    loc = torch.stack([fisher(1.9, 2.1).loc, fisher(-42.2, 58.3).loc, fisher(-88.0, 180.0).loc])
    law = Mixture(VonMisesFisher(Sphere(2), loc, torch.full((3,), 1e4).double()))
    regions = density_regions(LawModel(law), law_data(law), [0.5, 0.9])
    check_rings(regions)
    for region in regions.regions:
        assert region.resolved
        # the three have one weight, and are flat: -2 log(1 - a) / kappa is the squared radius
        assert region.area == pytest.approx(-6 * math.pi * math.log(1 - region.coverage) / 1e4, rel=0.1)


def test_regions_on_a_torus():
    """A wrapped normal law: the disk of the radius that holds a normal law's share, cut at the edge of the square."""
    torus, s = Torus(2), 0.04
    law = BrownianLaw(torus, torus.from_angles(torch.tensor([3.1, 0.5], dtype=torch.float64)), s)
    regions = density_regions(LawModel(law), law_data(law), [0.5, 0.9])
    check_rings(regions)
    check_membership(regions, law, lambda x: np.degrees(torus.angles(x).numpy()))
    for region in regions.regions:
        square = -2 * s * (region.level + math.log(2 * math.pi * s))
        assert region.per == "rad^2"
        assert region.area == pytest.approx(math.pi * square, abs=error_of_area(1))
        assert len(region.polygons) == 2


def test_regions_in_the_plane_and_on_a_cylinder():
    law = GaussianMixture([[0.0, 0.0], [4.0, 1.0]], 0.5, [0.5, 0.5])
    regions = density_regions(LawModel(law), law_data(law), [0.5, 0.9])
    check_rings(regions)
    check_membership(regions, law, lambda x: x.numpy())
    for region in regions.regions:
        square = -2 * 0.25 * (region.level + math.log(2 * 2 * math.pi * 0.25))
        assert region.area == pytest.approx(2 * math.pi * square, rel=2e-3)
    cylinder = Product([Sphere(1), Euclidean(1)])
    law = ProductDistribution(
        cylinder, [VonMisesFisher(Sphere(1), torch.tensor([-1.0, 0.0]).double(), 3.0), Normal(Euclidean(1))]
    )
    regions = density_regions(LawModel(law), law_data(law), [0.5])
    check_rings(regions)
    angle_and_height = coordinates(cylinder, law.draw(5)).to_own
    check_membership(regions, law, angle_and_height)


@pytest.mark.parametrize("manifold", [SpecialOrthogonal(), Torus(7), Sphere(1), Sphere(3), Product()], ids=str)
def test_what_has_no_map_of_two_coordinates(manifold):
    law = default_prior(manifold)
    with pytest.raises(ValueError, match=r"There are no polygons on .*tail probabilities of --score"):
        density_regions(LawModel(law), law_data(law), [0.5])


@pytest.fixture
def earth(tmp_path):
    path = tmp_path / "places.csv"
    x = fisher(10.0, 179.0).draw(300, seeded()).numpy()
    lat, lon = np.degrees(np.arcsin(x[:, 2])), np.degrees(np.arctan2(x[:, 1], x[:, 0])) % 360
    path.write_text("lat,lon\n" + "\n".join(f"{a:.6f},{b:.6f}" for a, b in zip(lat, lon, strict=True)))
    data = EarthData(path=str(path))
    data.setup()
    return data


def test_geojson(earth, tmp_path):
    """Positions are longitude from -180 and latitude in degrees, whatever the range of the file."""
    law, path = fisher(10.0, 179.0), tmp_path / "regions.geojson"
    regions = write_regions(path, LawModel(law), earth, [0.5, 0.9])
    found = json.loads(path.read_text())
    assert found == json.loads(json.dumps(geojson(regions)))
    assert found["type"] == "FeatureCollection"
    half, most = found["features"]
    assert [feature["properties"]["coverage"] for feature in (half, most)] == [0.5, 0.9]
    for feature, region in zip(found["features"], regions.regions, strict=True):
        said = feature["properties"]
        assert feature["geometry"]["type"] == "MultiPolygon"
        assert (said["area_unit"], said["area_km2"]) == ("steradian", pytest.approx(said["area"] * 6371.0072**2))
        expected = (law.log_prob(earth.test.points) >= region.level).double().mean()
        assert said["share_of_test_points"] == pytest.approx(float(expected))
        rings = [[np.array(ring) for ring in rings] for rings in feature["geometry"]["coordinates"]]
        assert all(np.array_equal(ring[0], ring[-1]) for polygon in rings for ring in polygon)
        x = law.draw(500, seeded(7))
        assert np.array_equal(inside(rings, in_degrees(x)), inside(region.polygons, in_degrees(x)))
        assert np.abs(np.concatenate([polygon[0] for polygon in rings])[:, 0]).max() == 180
    text = regions.report()
    assert "50.00% ± 1.12%: log-density above" in text
    assert "km²" in text
    assert "30 test points" in text
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        write_regions(path, LawModel(law), earth, [0.5])
    with pytest.raises(ValueError, match=r"suffix '.shp', expected .geojson"):
        write_regions(tmp_path / "regions.shp", LawModel(law), earth, [0.5])


def test_a_law_without_an_end():
    """Cauchy's tails: a region of nearly everything is refused with a sentence, not drawn without its end."""
    line = Euclidean(2)

    class Flat(LawModel):
        def likelihood(self, x, context=None):
            return super().likelihood(x)._replace(value=x.new_zeros(len(x)))

    law = Normal(line)
    with pytest.raises(ValueError, match=r"its region has no end\. Choose a smaller coverage"):
        density_regions(Flat(law), law_data(law), [0.5])
