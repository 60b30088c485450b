"""One place is one place, whatever a file calls it: labels, twins, splits and `dedup` compare points."""

from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import variants
from rsgm.data import DigitsData, EarthData, ManifoldData, PointsData, RotationData, TorusData, sources
from rsgm.manifolds import Euclidean, Manifold, SpecialOrthogonal, Torus, from_lat_lon
from rsgm.manifolds.places import label_places
from rsgm.manifolds.so3 import matrix_to_quaternion, matrix_to_rotation_vector
from rsgm.seeding import generator_from

PI = "3.141592653589793"


def draws(manifold: Manifold, n: int) -> torch.Tensor:
    """Points at and around the origin, at distances of one."""
    origin = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    return manifold.expmap(origin, manifold.random_tangent(origin, generator_from("places")))


# ---- labels


@pytest.mark.parametrize("make", variants(Manifold))
@pytest.mark.parametrize("times", [1, 7])
def test_points_perturbed_by_less_than_1e_9_are_one_place(make, times):
    manifold = make()
    x = draws(manifold, 300)
    noise = torch.randn(times, *x.shape, dtype=torch.float64, generator=generator_from("noise"))
    for size in (1e-16, 1e-12, 1e-10):
        order = torch.randperm(300 * (times + 1), generator=generator_from("order"))
        labels = label_places(torch.cat([x[None], x + size * noise]).flatten(0, 1)[order])
        found = torch.empty_like(labels)
        found[order] = labels
        assert len(found.unique()) == 300
        assert (found.reshape(times + 1, 300) == found[:300]).all()


@pytest.mark.parametrize("make", variants(Manifold))
def test_points_further_than_1e_9_apart_are_two_places(make):
    manifold = make()
    x = draws(manifold, 300)
    step = manifold.random_tangent(x, generator_from("step"))
    step = step / step.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.dim() - 1))
    y = manifold.expmap(x, 1e-7 * step)
    assert len(label_places(torch.cat([x, y])).unique()) == 600


@pytest.mark.parametrize("cell", [1e-9, 1e-10, 1e-8])
def test_no_border_between_cells_divides_a_place(cell):
    """Coordinates at half a cell of any grid that might be rounded to, a bit to either side."""
    middle = (torch.randint(10**8, (500, 3), generator=generator_from("cells")).double() + 0.5) * cell
    up, down = (middle.nextafter(torch.tensor(end, dtype=torch.float64)) for end in (9.0, -9.0))
    labels = label_places(torch.cat([middle, up, down, middle + 1e-13])).reshape(4, 500)
    assert (labels == labels[0]).all()
    assert len(labels.unique()) == 500


def test_labels_are_numbered_as_sorted_points_are():
    """Published splits depend on it."""
    x = torch.randint(3, (200, 2), generator=generator_from("grid")).double()
    assert torch.equal(label_places(x), torch.unique(x, dim=0, return_inverse=True)[1])
    order = -x
    assert torch.equal(label_places(x, order), torch.unique(order, dim=0, return_inverse=True)[1])


def test_many_rows_of_few_places():
    """Comparing every pair of rows would be 5e9 comparisons for each."""
    longitudes = torch.linspace(-180, 180, 100_000, dtype=torch.float64)
    pole = from_lat_lon(torch.stack([torch.full_like(longitudes, 90), longitudes], 1).numpy())
    assert len(label_places(pole).unique()) == 1
    again = draws(SpecialOrthogonal(), 100).repeat(1000, 1, 1)
    assert (
        len(label_places(again + 1e-13 * torch.rand(again.shape, generator=generator_from("jitter"))).unique()) == 100
    )


def test_places_of_one_height_are_not_mixed_up():
    """Along any direction thousands of these places lie within 1e-9 of thousands of others."""
    grid = torch.cartesian_prod(*[3e-8 * torch.arange(20, dtype=torch.float64)] * 3)
    again = grid + 1e-10 * torch.rand(grid.shape, dtype=torch.float64, generator=generator_from("crowd"))
    labels = label_places(torch.cat([grid, again, torch.ones(1, 3, dtype=torch.float64)]))
    assert len(labels.unique()) == 8001
    assert torch.equal(labels[:8000], labels[8000:16000])


@pytest.mark.parametrize("unit", [1e-15, 1e-9, 1.0, 1e9])
def test_flat_data_in_any_unit(unit):
    x = torch.arange(1000, dtype=torch.float64)[:, None] * unit
    assert len(label_places(torch.cat([x, x])).unique()) == 1000


# ---- files


def lat_lon(k: int) -> list[float]:
    return [round(-80 + 4.013 * k, 3), round(-170 + 8.77 * k, 2)]


def write(folder: Path, header: str, rows: list[str]) -> str:
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def scaled(cells: str, factor: float) -> str:
    return ",".join(repr(factor * float(cell)) for cell in cells.split(","))


QUATERNIONS = [
    "0,1,0,0",
    "0,0,1,0",
    "0,0,0,-1",
    "0,0,0.6,0.8",
    "0,-0.6,0,0.8",
    "0.5,0.5,-0.5,0.5",
    "-0.8,0.6,0,0",
    "0.1825741858,0.3651483717,0.5477225575,0.7302967433",
]

#: kind: (data set, header, rows, two ways to write one place); rows are other places
KINDS = {
    "half turns": (EarthData, "lat,lon", "10,180", "10,-180"),
    "a turn apart": (EarthData, "lat,lon", "-3.25,325.83", "-3.25,-34.17"),
    "no turn and one": (EarthData, "lat,lon", "1,0", "1,360"),
    "north pole": (EarthData, "lat,lon", "90,0", "90,123.4"),
    "south pole": (EarthData, "lat,lon", "-90,-7", "-90,353.1"),
    "torus, half turns": (TorusData, "phi,psi", "-180,180", "180,-180"),
    "torus, no turn and one": (TorusData, "phi,psi", "0,20.3", "360,20.3"),
    "half a turn about an axis": (RotationData, "rx,ry,rz", f"{PI},0,0", f"-{PI},0,0"),
    "the other way round": (RotationData, "rx,ry,rz", "1,0,0", "-5.283185307179586,0,0"),
    "a turn is none": (RotationData, "rx,ry,rz", "0,0,0", "0,6.283185307179586,0"),
    **{f"-q of {q}": (RotationData, "qw,qx,qy,qz", q, scaled(q, -1)) for q in QUATERNIONS},
    **{f"longer {q}": (RotationData, "qw,qx,qy,qz", q, scaled(q, 1.002)) for q in QUATERNIONS},
    **{f"longer -q of {q}": (RotationData, "qw,qx,qy,qz", q, scaled(q, -0.995)) for q in QUATERNIONS},
}


def others(cls: type, header: str) -> list[str]:
    """Forty rows of forty places; angles from 0 to 180 degrees, which every convention allows."""
    if cls is RotationData:
        x = SpecialOrthogonal().random_uniform(40, 3, 3, generator=generator_from("others"), dtype=torch.float64)
        rows = (matrix_to_rotation_vector if header.startswith("r") else matrix_to_quaternion)(x).tolist()
    else:
        rows = [[round(1 + 4.013 * k, 3), round(2 + 3.77 * k, 2)] for k in range(40)]
        rows = rows if cls is TorusData else [lat_lon(k) for k in range(40)]
    return [",".join(map(repr, row)) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_one_place_of_a_file(kind, tmp_path):
    cls, header, one, other = KINDS[kind]
    path = write(tmp_path, header, [one, *others(cls, header), other])
    data = cls(path=path)
    assert (data.provenance()["rows"], data.provenance()["distinct_rows"]) == (42, 41)
    for seed in range(6):
        part = {row: k for k, rows in enumerate(split(cls, path, "location", seed)) for row in rows}
        assert part[0] == part[41]
        parts = split(cls, path, "random", seed)
        expected = [(row == 0 and 41 in parts[0]) or (row == 41 and 0 in parts[0]) for row in parts[2]]
        data = cls(path=path, seed=seed)
        assert data.twins().tolist() == expected
        assert data.provenance()["split"]["twin_share"] == np.mean(expected)
    kept = cls(path=path, dedup=True)
    assert len(kept.points()) == 41
    assert torch.equal(kept.points(), cls(path=path).points()[:41])


def split(cls: type, path: str, protocol: str, seed: int) -> list[list[int]]:
    data = cls(path=path, split=protocol, seed=seed)
    data.setup()
    return [rows.tolist() for rows in data._parts]


def test_two_conventions_in_one_file(tmp_path):
    """A catalogue merged with itself, from -180...180 and from 0...360."""
    generator = np.random.default_rng(0)
    lat, lon = generator.uniform(-90, 90, 300).round(2), generator.uniform(-180, 180, 300).round(2)
    rows = [f"{a},{b}" for a, b in zip(lat, lon, strict=True)]
    rows += [f"{a},{round(b % 360, 2)}" for a, b in zip(lat, lon, strict=True)]
    data = EarthData(path=write(tmp_path, "lat,lon", rows), split="location")
    assert data.provenance()["distinct_rows"] == 300
    assert not data.twins().any()
    train, test = data.train.points, data.test.points
    assert torch.cdist(test, train).min() > 1e-6
    angles = np.stack([np.tile(lat, 2), np.concatenate([lon, (lon % 360).round(2)])], -1)
    torus = PointsData.from_angles(angles)
    assert torus.provenance()["distinct_rows"] == 300
    assert torus.twins().double().mean() > 0.6


@pytest.mark.parametrize("jitter", [0.0, 0.1])
@pytest.mark.parametrize("protocol", ["location", "block"])
def test_a_pole_is_one_place_and_lies_in_one_cell(protocol, jitter, tmp_path):
    rows = [f"{pole},{37 * k}" for k in range(9) for pole in (90, -90)] + others(EarthData, "")
    path = write(tmp_path, "lat,lon", rows)
    for seed in range(4):
        data = EarthData(path=path, split=protocol, seed=seed, dequantize_deg=jitter)
        data.setup()
        part = {row: k for k, rows in enumerate(data._parts) for row in rows.tolist()}
        assert len({part[row] for row in range(0, 18, 2)}) == len({part[row] for row in range(1, 18, 2)}) == 1
        assert not data.twins().any()
        assert data.provenance()["distinct_rows"] == 42


def test_a_cell_that_ends_where_it_begins(tmp_path):
    """0 and 360 degrees, -180 and 180, and a place on the edge that other rows write as just beside it."""
    rows = ["5.5,0.5", "5.5,360", "5.5,0", "6.5,-180", "6.5,180", "6.5,-179.5", "7.5,2.99999999999", "7.5,3"]
    path = write(tmp_path, "lat,lon", rows + others(EarthData, ""))
    for seed in range(8):
        data = EarthData(path=path, split="block", seed=seed)
        data.setup()
        part = {row: k for k, rows in enumerate(data._parts) for row in rows.tolist()}
        assert part[0] == part[1] == part[2]
        assert part[3] == part[4] == part[5]
        assert part[6] == part[7]


def test_labels_stay_with_their_row_where_equal_rows_are_left_out(tmp_path):
    rows = [f"{phi},{k},{label}" for k in range(40) for phi, label in ((180, chr(65 + k % 20)), (-180, "Z"))]
    path = write(tmp_path, "phi,psi,pdb", rows)
    data = TorusData(path=path, angles=["phi", "psi"], split="group", dedup=True)
    data.setup()
    assert data.rows.beside["pdb"] == [chr(65 + k % 20) for k in range(40)]
    parts = [{data.rows.beside["pdb"][row] for row in rows.tolist()} for rows in data._parts]
    assert sum(map(len, parts)) == 20


@pytest.mark.parametrize(
    "protocol, train",
    [("location", [702, 704, 708, 712, 732, 740, 37, 125]), ("block", [452, 609, 89, 97, 113, 164, 289, 445])],
)
def test_published_splits_are_unchanged(protocol, train):
    for folder in sources.folders():
        if found := sources._in_folder("volcano", folder):
            data = EarthData("volcano", path=str(found.path), split=protocol)
            data.setup()
            assert data._parts[0][:8].tolist() == train
            return
    pytest.skip("no local file of the volcano set")


# ---- other data sets


class Rows(ManifoldData):
    """Given points."""

    def __init__(self, manifold: Manifold, x: torch.Tensor) -> None:
        super().__init__(split="location")
        self.where, self.x = manifold, x

    manifold = property(lambda self: self.where)

    def points(self) -> torch.Tensor:
        return self.x


@pytest.mark.parametrize("manifold", [Torus(3), SpecialOrthogonal(), Euclidean(5)], ids=str)
def test_any_data_set_compares_its_points(manifold):
    x = draws(manifold, 50)
    data = Rows(manifold, torch.cat([x, x + 1e-13]))
    data.setup()
    assert data.provenance()["distinct_rows"] == 50
    assert not data.twins().any()
    # the places of test points are what their standard errors are counted over
    assert len(data.test_places()) == len(data.test.points)
    assert len(data.test_places().unique()) == len(label_places(data.test.points).unique()) < len(data.test.points)


def test_places_of_jittered_points_are_those_of_the_file(tmp_path):
    rows = others(EarthData, "") * 3
    data = EarthData(path=write(tmp_path, "lat,lon", rows), dequantize_deg=0.5)
    assert data.provenance()["distinct_rows"] == 40
    assert len(label_places(data.points()).unique()) == 120
    assert len(data.test_places().unique()) < len(data.test.points)


def test_pictures_are_compared_by_their_grey_levels():
    data = DigitsData()
    data.setup()
    assert data.provenance()["distinct_rows"] == 1797
