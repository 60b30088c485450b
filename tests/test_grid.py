"""Densities on grids: in the units of the files, with volumes that add up, and as files that others read."""

import csv
import math

import numpy as np
import pytest
import torch

from helpers import LawModel, law_data
from rsgm import Euclidean, GenerativeModel, KernelDensity, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.data import EarthData, TorusData
from rsgm.distributions import (
    BrownianLaw,
    Normal,
    ProductDistribution,
    RandomVonMisesFisherMixture,
    VonMisesFisher,
    default_prior,
)
from rsgm.evaluation import density_grid, write_density_grid
from rsgm.evaluation.grid import regular_cells
from rsgm.evaluation.grid_files import HEALPix, grid_file
from rsgm.likelihood import LogProb

FISHER = VonMisesFisher(Sphere(2), torch.tensor([0.0, 0.6, -0.8], dtype=torch.float64), 20.0)
CIRCLE = VonMisesFisher(Sphere(1), torch.tensor([0.0, 1.0], dtype=torch.float64), 5.0)


def centred(manifold, s):
    return BrownianLaw(manifold, manifold.origin(*manifold.shape, dtype=torch.float64), s)


LAWS = {
    "sphere": (FISHER, [3.0], (60, 120), "steradian"),
    "circle": (CIRCLE, [5.0], (72,), "rad"),
    "torus": (centred(Torus(2), 0.1), [6.0], (60, 60), "rad^2"),
    "T3": (centred(Torus(3), 0.3), [12.0, 15.0, 18.0], (30, 24, 20), "rad^3"),
    "line": (Normal(Euclidean(1), 2.0), [0.1], None, "unit"),
    "plane": (Normal(Euclidean(2)), [0.2, 0.1], None, "unit^2"),
    "space": (Normal(Euclidean(3)), [0.3], None, "unit^3"),
    "rotations": (centred(SpecialOrthogonal(), 0.2), [10.0], (), "rad^3"),
    "S2xR": (
        ProductDistribution(
            Product(), [VonMisesFisher(Sphere(2), torch.eye(3).double()[0], 4.0), Normal(Euclidean(1))]
        ),
        [8.0, 8.0, 0.3],
        None,
        "steradian unit",
    ),
    "circle x torus": (
        ProductDistribution(Product([Sphere(1), Torus(2)]), [CIRCLE, centred(Torus(2), 0.2)]),
        [12.0],
        (30, 30, 30),
        "rad rad^2",
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_density_of_a_known_law_adds_up(name):
    """The values are the law's, the volumes those of the manifold; their sum is the mass in reach."""
    law, steps, shape, per = LAWS[name]
    data = law_data(law, train_size=2_000)
    grid = density_grid(LawModel(law), data, steps)
    cells = grid.cells
    assert cells.per == per
    assert np.array_equal(grid.log_density, law.log_prob(cells.points).numpy())
    # beyond the widened range of 2000 normal points there is less than 1e-4
    assert grid.integral == pytest.approx(1, abs=1e-3 if name != "S2xR" else 3e-3)
    if math.isfinite(law.manifold.log_volume):
        assert cells.volume.sum() == pytest.approx(math.exp(law.manifold.log_volume))
    if shape is not None:
        assert tuple(len(values) for _, values in cells.axes) == shape
    assert grid.rows.shape == (len(cells.points), len(data.header))
    assert f"{len(cells.points)} cells" in grid.report()


def test_volumes_of_cells_on_the_sphere():
    """Areas between two latitudes and two longitudes, at the pole and at the equator."""
    cells = regular_cells(law_data(FISHER), [30.0])
    volume = cells.volume.reshape(6, 12)
    assert np.allclose(volume[0], math.pi / 6 * (1 - math.cos(math.pi / 6)), rtol=1e-12)
    assert np.allclose(volume[3], math.pi / 6 * math.sin(math.pi / 6), rtol=1e-12)


def earth(folder, text, **options):
    path = folder / "places.csv"
    path.write_text(text)
    data = EarthData(path=str(path), **options)
    data.setup()
    return data


def places(n=40):
    return [((53 * k) % 140 - 70 + 0.25, (37 * k) % 360 + 0.5) for k in range(n)]


def test_a_grid_is_in_the_columns_and_the_range_of_the_file(tmp_path):
    """Longitudes from 0 where the file's are, in the order of the axes, under the file's names."""
    data = earth(tmp_path, "Longitude,LAT\n" + "\n".join(f"{lon},{lat}" for lat, lon in places()))
    (latitude, lat), (longitude, lon) = regular_cells(data, [10.0]).axes
    assert {latitude.name, longitude.name} == {"LAT", "Longitude"}
    assert np.allclose(lat, np.arange(-85, 90, 10))
    assert np.allclose(lon, np.arange(5, 360, 10))
    cells = regular_cells(data, [10.0])
    rows = data.to_units(cells.points)
    named = dict(zip(data.header, rows.reshape(18, 36, 2).transpose(2, 0, 1), strict=True))
    assert np.allclose(named["LAT"], lat[:, None])
    assert np.allclose(named["Longitude"], lon)


def test_a_grid_in_radians(tmp_path):
    rows = [f"{math.radians(lat):.6f},{math.radians(lon - 180):.6f}" for lat, lon in places()]
    data = earth(tmp_path, "lat,lon\n" + "\n".join(rows), unit="radians")
    (latitude, lat), (longitude, lon) = regular_cells(data, [10.0]).axes
    assert latitude.unit == longitude.unit == "radians"
    assert np.allclose(lat, np.radians(np.arange(-85, 90, 10)))
    assert np.allclose(lon, np.radians(np.arange(-175, 180, 10)))
    assert regular_cells(data, [10.0]).volume.sum() == pytest.approx(4 * math.pi)


def test_a_grid_of_angles_in_the_range_of_the_file(tmp_path):
    """One angle from 0 to 360, the other from -180 to 180."""
    path = tmp_path / "angles.csv"
    path.write_text("phi,psi\n" + "\n".join(f"{(37 * k) % 360},{(53 * k) % 360 - 179.5}" for k in range(40)))
    data = TorusData(path=str(path), angles=["phi", "psi"])
    data.setup()
    (phi, first), (psi, second) = regular_cells(data, [30.0, 90.0]).axes
    assert (phi.name, psi.name) == ("phi", "psi")
    assert np.allclose(first, np.arange(15, 360, 30))
    assert np.allclose(second, [-135, -45, 45, 135])


def test_steps_that_do_not_divide_a_turn():
    """Angles are divided evenly, flat axes go on."""
    (_, lat), _ = regular_cells(law_data(FISHER), [7.0]).axes
    assert len(lat) == 26
    assert np.allclose(np.diff(lat), 180 / 26)
    ((axis, x),) = regular_cells(law_data(Normal(Euclidean(1))), [0.37]).axes
    assert np.allclose(np.diff(x), 0.37)
    assert axis.high == pytest.approx(x[-1] + 0.185)


class Component(GenerativeModel):
    """The component of a mixture that a context names."""

    def __init__(self, law):
        super().__init__(law.manifold)
        self.law = law

    def draw(self, n, context, generator):
        raise NotImplementedError

    def likelihood(self, x, context=None):
        parts = self.law.mixture.component_log_prob(x.double())
        return LogProb(parts.gather(1, context.argmax(1, keepdim=True))[:, 0], 0.0)


def test_a_conditional_model_has_one_context_for_all_cells():
    law = RandomVonMisesFisherMixture(components=3)
    data, context = law_data(law, conditional=True), torch.tensor([0.0, 0.0, 1.0])
    grid = density_grid(Component(law), data, [3.0], context)
    assert np.allclose(grid.log_density, law.mixture.component_log_prob(grid.cells.points)[:, 2].numpy())
    assert "given component=2" in grid.about
    with pytest.raises(ValueError, match="conditional: found no context, expected one of 3 numbers"):
        density_grid(Component(law), data, [3.0])


@pytest.mark.parametrize(
    "law, steps, message",
    [
        (FISHER, [0.0], "a step must be positive, found 0.0 for lat"),
        (FISHER, [5.0, 5.0, 5.0], "found 3 steps, expected one, or one for each of lat, lon"),
        (FISHER, [0.01], "found 648000000 cells, expected at most 5000000; choose larger steps"),
        (centred(SpecialOrthogonal(), 0.2), [5.0, 5.0], "expected one positive one for SpecialOrthogonal"),
        (default_prior(Torus(7)), [30.0], r"no grid of Torus\(dim=7\), of 7 dimensions: .*score a file of points"),
        (default_prior(Product([SpecialOrthogonal(), Euclidean(3)])), [30.0], "Give a model the other factors as its"),
    ],
)
def test_what_is_no_grid(law, steps, message):
    with pytest.raises(ValueError, match=message):
        regular_cells(law_data(law), steps)


# ---- files


@pytest.fixture
def fitted(tmp_path):
    data = earth(tmp_path, "lon,lat\n" + "\n".join(f"{lon},{lat}" for lat, lon in places()))
    model = KernelDensity(Sphere(2), min_width=0.2, widths=3)
    model.fit_points(data.train.points, data.val.points)
    return model, data


def test_a_table_has_the_columns_of_the_data(fitted, tmp_path):
    """Its rows, read again, are scored with what stands beside them."""
    model, data = fitted
    path = tmp_path / "density.csv"
    grid = write_density_grid(path, model, data, [30.0])
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == [*data.header, "log_density", "volume"]
    values = np.array(rows, dtype=float)
    assert values.shape == (72, 4)
    again = model.log_prob(data.from_units(values[:, :2]))
    assert np.allclose(again, values[:, 2], atol=1e-7)
    assert (np.exp(values[:, 2]) * values[:, 3]).sum() == pytest.approx(grid.integral, abs=1e-6)


def test_netcdf_says_what_it_is(fitted, tmp_path):
    xarray = pytest.importorskip("xarray")
    model, data = fitted
    path = tmp_path / "density.nc"
    grid = write_density_grid(path, model, data, [10.0])
    with xarray.open_dataset(path, engine="scipy") as found:
        assert found.attrs["Conventions"] == "CF-1.11"
        assert found.attrs["integral"] == pytest.approx(grid.integral)
        assert "KernelDensity" in found.attrs["title"]
        assert "rsgm 0" in found.attrs["source"]
        assert (found.lat.attrs["standard_name"], found.lat.attrs["units"]) == ("latitude", "degrees_north")
        assert (found.lon.attrs["standard_name"], found.lon.attrs["units"]) == ("longitude", "degrees_east")
        # a place by its coordinates
        value = float(found.log_density.sel(lat=15, lon=205))
        assert value == pytest.approx(float(model.log_prob(data.from_units(rows_of(data, 15.0, 205.0)))[0]), abs=1e-9)
        assert float((np.exp(found.log_density) * found.volume).sum()) == pytest.approx(grid.integral)


def rows_of(data, lat, lon):
    return np.array([[{"lat": lat, "lon": lon}[name] for name in ("lat", "lon")]])


def test_netcdf_of_rotations_lists_cells(tmp_path):
    xarray = pytest.importorskip("xarray")
    law = centred(SpecialOrthogonal(), 0.2)
    path = tmp_path / "rotations.nc"
    grid = write_density_grid(path, LawModel(law), law_data(law), [30.0])
    with xarray.open_dataset(path, engine="scipy") as found:
        assert dict(found.sizes) == {"cell": len(grid.log_density)}
        assert np.array_equal(found.x4, grid.rows[:, 4])


def test_healpix_pixels(fitted, tmp_path):
    """Of equal area, in ring order: the density at the pixel of a place is near that of the place."""
    astropy_healpix = pytest.importorskip("astropy_healpix")
    fits = pytest.importorskip("astropy.io.fits")
    model, data = fitted
    path = tmp_path / "density.fits"
    grid = write_density_grid(path, model, data, [4.0])
    assert grid.cells.nside == 16
    assert grid.integral == pytest.approx(1, abs=2e-3)
    with fits.open(path) as file:
        header, values = file[1].header, file[1].data["LOG_DENSITY"]
        assert (header["PIXTYPE"], header["ORDERING"], header["NSIDE"]) == ("HEALPIX", "RING", 16)
        assert header["LASTPIX"] == len(values) - 1 == 12 * 16**2 - 1
        assert header["INTEGRAL"] == pytest.approx(grid.integral)
    units = astropy_healpix.HEALPix(16, "ring").healpix_to_lonlat([1234])
    lon, lat = (float(angle.to_value("deg")[0]) for angle in units)
    assert values[1234] == pytest.approx(float(model.log_prob(data.from_units(np.array([[lat, lon]])))[0]), abs=1e-9)
    with pytest.raises(ValueError, match="HEALPix pixels are on the sphere, and the model is on Torus"):
        HEALPix().cells(law_data(centred(Torus(2), 0.1)), [4.0])


def test_no_file_is_written_over(fitted, tmp_path):
    """Nor is anything computed that could not be written; a failure leaves nothing behind."""
    model, data = fitted
    path = tmp_path / "density.csv"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        write_density_grid(path, model, data, [30.0])
    assert path.read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="no folder"):
        grid_file(tmp_path / "none" / "density.csv")
    with pytest.raises(ValueError, match=r"found the suffix '.txt', expected one of .csv, .nc, .fits"):
        grid_file(tmp_path / "density.txt")
    before = set(tmp_path.iterdir())
    torus = Torus(2)
    with pytest.raises(ValueError, match="points"):
        write_density_grid(tmp_path / "new.csv", LawModel(centred(torus, 0.1)), data, [30.0])
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix, extra", [(".nc", "grids"), (".fits", "healpix")])
def test_a_missing_package_names_the_extra(suffix, extra, tmp_path, monkeypatch):
    monkeypatch.setattr("rsgm.evaluation.grid_files.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"not installed: pip install \"rsgm\[{extra}\]\""):
        grid_file(tmp_path / f"density{suffix}")
    assert grid_file(tmp_path / "density.csv").suffix == ".csv"
