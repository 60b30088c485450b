"""Columns of a table: factors of a point, contexts, weights, and how rows are parted."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import LogNormal, Normal

from rsgm.data import EarthData, LawData, PointsData, RotationData, TableData, TorusData, read_points
from rsgm.data.covariates import Category, Covariates
from rsgm.data.factors import NumberFactor
from rsgm.data.places import PlaceFactor
from rsgm.data.so3 import RotationFactor
from rsgm.data.torus import AngleFactor
from rsgm.manifolds import Euclidean, Product, SpecialOrthogonal, Sphere, Torus, from_lat_lon
from rsgm.manifolds.so3 import matrix_to_rotation_vector, quaternion_to_matrix

HEADER = "time,lat,lon,depth,mag,kind"
N = 200


def rows(n: int = N, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        f"2020-{1 + k % 12:02d}-{1 + k % 28:02d}T00:00:{k % 60:02d}Z,{rng.uniform(-90, 90):.4f},"
        f"{rng.uniform(0, 360):.4f},{rng.lognormal(2, 1):.5f},{rng.uniform(3, 8):.2f},{'abc'[k % 3]}"
        for k in range(n)
    ]


@pytest.fixture
def quakes(tmp_path):
    return write(tmp_path / "quakes.csv", rows())


def write(path, lines, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def made(data):
    data.setup()
    return data


# ---- factors


def test_numbers_join_a_place(quakes):
    data = made(EarthData(path=quakes, numbers=["depth", "mag"], log=["depth"]))
    assert str(data.manifold) == str(Product([Sphere(2), Euclidean(2)]))
    assert data.header == ("lat", "lon", "depth", "mag")
    cells = np.array([row.split(",")[1:5] for row in rows()], dtype=float)
    place, numbers = data.manifold.split(data.points())
    np.testing.assert_allclose(place, from_lat_lon(cells[:, :2]), atol=1e-14)
    raw = np.stack([np.log(cells[:, 2]), cells[:, 3]], 1)
    train = raw[data._parts[0].numpy()]
    np.testing.assert_allclose(numbers, (raw - train.mean(0)) / train.std(0), atol=1e-12)
    np.testing.assert_allclose(data.to_units(data.points()), cells, rtol=1e-12)


@pytest.mark.parametrize("log", [[], ["depth"]])
def test_the_density_by_the_unit_of_a_column(quakes, log):
    """A normal law of the standardised numbers is a normal law, or a lognormal one, of the column."""
    data = made(TableData(path=quakes, numbers=["depth"], log=log))
    x = data.test.points
    (factor,) = data._reading.factors
    law = (LogNormal if log else Normal)(torch.tensor(factor.shift).double(), torch.tensor(factor.scale).double())
    standard = Normal(torch.zeros(1).double(), torch.ones(1).double())
    expected = law.log_prob(torch.from_numpy(data.to_units(x)))[:, 0]
    torch.testing.assert_close(standard.log_prob(x)[:, 0] + data.log_unit(x), expected)


def test_scales_are_those_of_training_rows(tmp_path):
    lines = [f"{k},{k if k < 80 else 1e6}" for k in range(100)]
    data = made(TableData(path=write(tmp_path / "x.csv", lines, "t,x"), numbers=["x"], split="time", time="t"))
    torch.testing.assert_close(data.train.points.mean(), torch.zeros(()).double())
    torch.testing.assert_close(data.train.points.std(correction=0), torch.ones(()).double())
    assert data.test.points.min() > 1e4


@pytest.mark.parametrize("unit", [1e-200, 1e200, 1e-310])
def test_numbers_of_any_size_are_standardised(tmp_path, unit):
    """Squares of these are none, or infinite."""
    data = made(TableData(path=write(tmp_path / "x.csv", [f"{(k + 1) * unit!r}" for k in range(100)], "a")))
    torch.testing.assert_close(data.train.points.std(correction=0), torch.ones(()).double())
    assert data.provenance()["distinct_rows"] == 100
    drawn = data.to_units(torch.tensor([[-3.0], [3.0]]))
    assert 100 * unit < np.ptp(drawn) < 200 * unit
    plain = made(TableData(path=write(tmp_path / "x.csv", [f"{k + 1}" for k in range(100)], "a")))
    torch.testing.assert_close(data.points(), plain.points(), rtol=1e-9 if unit > 1e-300 else 1e-2, atol=1e-12)


def test_numbers_that_overflow_are_refused(tmp_path):
    path = write(tmp_path / "x.csv", [f"{s}1.7e308" for s in "+-" * 10], "a")
    with pytest.raises(
        ValueError, match=r"column 'a' holds numbers from -1.7e\+308 to 1.7e\+308. Expected none beyond"
    ):
        TableData(path=path).setup()


def test_one_number_in_all_rows_of_training_is_no_scale(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k},{0.1 if k < 80 else k}" for k in range(100)], "t,x")
    data = made(TableData(path=path, numbers=["x"], split="time", time="t"))
    assert data._reading.factors[0].scale == (1.0,)


def test_columns_of_any_size_tell_places_apart(tmp_path):
    path = write(tmp_path / "x.csv", [f"{300 + k % 30},{(k + 1) * 1e-12}" for k in range(300)] * 2, "T,I")
    data = made(TableData(path=path, dedup=True))
    assert (data.provenance()["distinct_rows"], data.twins().any()) == (300, False)


@pytest.mark.parametrize(
    "header, options",
    [
        ("a,weight", {"weight": "Weight"}),
        ("a,depth (km)", {"context": ["depth"]}),
        ("a,GROUP", {"split": "group", "group": "group"}),
        *((f"a,{name}", {}) for name in ("Unnamed: 0", "ID", "index")),
    ],
)
def test_columns_that_are_something_else_are_not_learned(tmp_path, header, options):
    path = write(tmp_path / "x.csv", [f"{k * k % 17}.5,{k}" for k in range(40)], header)
    assert made(TableData(path, **options)).header == ("a",)


def test_a_column_that_counts_the_rows_is_not_learned(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k + 1},{k * k}" for k in range(40)], "row,a")
    with pytest.raises(ValueError, match=r"the column 'row' counts the rows\. Expected"):
        TableData(path).setup()
    assert made(TableData(path, numbers=["row", "a"])).header == ("row", "a")


@pytest.mark.parametrize("name", ["lat", "LON"])
def test_what_is_learned_of_a_point_is_not_given_too(quakes, name):
    with pytest.raises(ValueError, match=f"{name.lower()} cannot be of the point and its context"):
        EarthData(path=quakes, context=["depth", name]).setup()


def test_a_name_is_no_list_of_names():
    for make in (lambda: NumberFactor("xyz"), lambda: NumberFactor(["x"], log="x"), lambda: AngleFactor("phi")):
        with pytest.raises(ValueError, match=r"found '(xyz|x|phi)', expected a list of names: \['"):
            make()
    with pytest.raises(ValueError, match="TorusData: angles: found 'phi', expected a list of names"):
        TorusData(angles="phi")


@pytest.mark.parametrize(
    "make, manifold",
    [
        (lambda path: RotationData(path, numbers=["x", "y", "z"]), Product([SpecialOrthogonal(), Euclidean(3)])),
        (
            lambda path: TableData(path, [AngleFactor(["phi", "psi"]), RotationFactor()], numbers=["bond"]),
            Product([Torus(2), SpecialOrthogonal(), Euclidean(1)]),
        ),
        (lambda path: TorusData(path=path, angles=["phi"], numbers=["bond"]), Product([Torus(1), Euclidean(1)])),
        (
            lambda path: TableData(path),
            Euclidean(10),
        ),
    ],
    ids=["pose", "three factors", "angle and length", "all columns"],
)
def test_products(tmp_path, make, manifold):
    rng = np.random.default_rng(0)
    q = rng.standard_normal((50, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    q *= np.sign(q[:, 3:])
    values = np.concatenate([rng.standard_normal((50, 3)), q, rng.uniform(-180, 180, (50, 2)), q[:, :1] + 2], 1)
    path = tmp_path / "poses.csv"
    np.savetxt(path, values, delimiter=",", header="x,y,z,qx,qy,qz,qw,phi,psi,bond", comments="", fmt="%.12f")
    data = made(make(str(path)))
    assert str(data.manifold) == str(manifold)
    names = ["x", "y", "z", "qx", "qy", "qz", "qw", "phi", "psi", "bond"]
    expected = values[:, [names.index(name) for name in data.header]]
    np.testing.assert_allclose(data.to_units(data.points()), expected, atol=1e-9)
    # and once more through a file of its own rows, as they are and in another order
    other = tmp_path / "again.csv"
    turned = tmp_path / "turned.csv"
    np.savetxt(turned, expected[:5, ::-1], delimiter=",", header=",".join(data.header[::-1]), comments="", fmt="%.12f")
    torch.testing.assert_close(read_points(data, turned)[0], data.points()[:5], atol=1e-9, rtol=0)
    np.savetxt(other, expected[:5], delimiter=",", header=",".join(data.header), comments="", fmt="%.12f")
    torch.testing.assert_close(read_points(data, other)[0], data.points()[:5], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"numbers": ["nothing"]}, "a header that names nothing"),
        ({"numbers": ["kind"]}, "the column 'kind' holds no numbers"),
        ({"numbers": ["depth", "depth"]}, "'depth' is there more than once"),
        ({"numbers": ["lat"]}, "both to be read from column 2"),
        ({"numbers": ["depth"], "log": ["mag"]}, "log names mag, expected some of numbers"),
        ({"numbers": ["depth"], "dequantize_deg": 1.0}, "dequantize_deg is for places alone"),
        ({"context": ["nothing"]}, "expected one with one column 'nothing'"),
        ({"context": ["mag"], "numbers": ["mag"]}, "mag cannot be of the point and its context"),
        ({"context": ["mag"], "categories": ["kind"]}, "categories names kind, expected some of context"),
        ({"split": "time"}, "split=time needs the column: --data.time=COLUMN"),
        ({"split": "group"}, "split=group needs the column: --data.group=COLUMN"),
        ({"numbers": "xyz"}, "numbers is 'xyz', expected a list of names: ['xyz']"),
        ({"split": "time", "time": "kind"}, "line 2: kind 'a' is no time"),
        ({"weight": "kind"}, "line 2: kind a is no weight"),
    ],
)
def test_wrong_options(quakes, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        EarthData(path=quakes, **arguments).setup()


def test_a_logarithm_needs_positive_numbers(tmp_path):
    path = write(tmp_path / "x.csv", ["1,2", "2,0", "3,1"], "a,b")
    with pytest.raises(ValueError, match="line 3: b 0 is outside"):
        TableData(path, numbers=["a", "b"], log=["b"]).setup()


def test_a_column_of_one_number(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k},7" for k in range(20)], "a,b")
    with pytest.raises(ValueError, match="the column 'b' holds 7 in all rows"):
        TableData(path).setup()


def test_test_points_are_called_by_their_lines(quakes, tmp_path):
    data = made(EarthData(path=quakes, dedup=True))
    lines = Path(quakes).read_text().splitlines()
    for name, (latitude, longitude) in zip(data.test_names(), data.to_units(data.test.points), strict=True):
        kind, number = name.split()
        assert kind == "line"
        cells = lines[int(number) - 1].split(",")
        assert [latitude, longitude % 360] == pytest.approx([float(cells[1]), float(cells[2]) % 360])
    # of a file of their own its lines
    more = write(tmp_path / "more.csv", rows(5, seed=1))
    data.test_on(more)
    assert data.test_names() == [f"line {k}" for k in range(2, 7)]


# ---- contexts


def test_numbers_and_names_are_a_context(quakes):
    data = made(EarthData(path=quakes, context=["kind", "depth"]))
    assert data.context_names == ("kind", "depth")
    depth, kind = data.train.context[:, :1], data.train.context[:, 1:]
    torch.testing.assert_close(depth.mean(), torch.zeros(()).double())
    assert kind.shape[1] == 3
    assert (kind.sum(1) == 1).all()
    cells = [rows()[k].split(",") for k in data._parts[2].tolist()]
    assert [name for name, _ in data.decode_context(data.test.context)] == [row[5] for row in cells]
    found = [float(value) for _, value in data.decode_context(data.test.context)]
    assert found == pytest.approx([float(row[3]) for row in cells], rel=1e-6)
    again = data.encode_context({"depth": [row[3] for row in cells], "kind": [row[5] for row in cells]})
    torch.testing.assert_close(again, data.test.context)


def test_a_place_is_a_context_as_a_unit_vector(quakes):
    data = made(TableData(path=quakes, numbers=["mag"], context=["lat", "lon"]))
    assert data.manifold == Euclidean(1)
    cells = np.array([rows()[k].split(",")[1:3] for k in data._parts[1].tolist()], dtype=float)
    np.testing.assert_allclose(data.val.context, from_lat_lon(cells), atol=1e-14)


def test_codes_are_names_where_they_are_said_to_be(tmp_path):
    lines = [f"{k % 7}.5,{k % 4}" for k in range(60)]
    path = write(tmp_path / "x.csv", lines, "x,code")
    assert made(TableData(path, numbers=["x"], context=["code"])).train.context.shape[1] == 1
    assert made(TableData(path, numbers=["x"], context=["code"], categories=["code"])).train.context.shape[1] == 4
    assert made(TableData(path, numbers=["x"], categories=["code"])).context_names == ("code",)


@pytest.mark.parametrize("cell", ["", "nan", "NA"])
def test_a_missing_context_is_refused(tmp_path, cell):
    lines = rows()
    lines[4] = lines[4].rpartition(",")[0] + f",{cell}"
    path = write(tmp_path / "x.csv", lines)
    with pytest.raises(ValueError, match=re.escape(f"line 6: no kind, found {cell!r}")):
        EarthData(path=path, context=["kind"]).setup()
    with pytest.warns(UserWarning, match="1 of 200 rows are bad and left out"):
        assert len(made(EarthData(path=path, context=["kind"], skip_bad=True)).points()[0]) == N - 1


def test_an_unknown_name_is_told():
    with pytest.raises(ValueError, match=r"kind: found 'd', which training has not seen. Expected 'a', 'b'"):
        Covariates(("kind",), categories=[Category("kind", ("a", "b"))]).encode({"kind": ["d"]})


def test_data_without_a_context_take_none():
    data = made(LawData(train_size=10, val_size=10, test_size=10))
    assert data.context_names == ()
    with pytest.raises(ValueError, match="the data have no context, found kind"):
        data.encode_context({"kind": ["a"]})


# ---- without the file


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"numbers": ["depth"], "log": ["depth"]},
        {"context": ["depth", "kind"]},
        {"split": "time", "time": "time", "weight": "mag"},
    ],
    ids=["places", "numbers", "context", "weights"],
)
def test_a_record_reads_and_writes_without_the_file(quakes, tmp_path, options):
    data = made(EarthData(path=quakes, **options))
    record = data.record()
    again = EarthData(path=str(tmp_path / "gone.csv"), **options)
    again.recall(record)
    x = data.test.points
    assert (again.header, again.context_names) == (data.header, data.context_names)
    np.testing.assert_array_equal(again.to_units(x), data.to_units(x))
    torch.testing.assert_close(again.log_unit(x), data.log_unit(x), rtol=0, atol=0)
    assert str(again.manifold) == str(data.manifold)
    found = again.read_rows(quakes)
    torch.testing.assert_close(found.points, data.read_rows(quakes).points, rtol=0, atol=0)
    assert found.cells == [row.split(",") for row in rows()]
    assert len(again.train.points) == 160
    kept = {tuple(row) for row in data.train.points.tolist()}
    assert all(tuple(row) in kept for row in again.train.points.tolist())


def test_points_in_memory_are_written_in_their_units():
    data = made(PointsData.from_angles(np.random.default_rng(0).uniform(-180, 180, (60, 2)), context=np.arange(60.0)))
    again = TableData()
    again.recall(data.record())
    np.testing.assert_array_equal(again.to_units(data.test.points), data.to_units(data.test.points))
    assert again.header == ("angle0", "angle1")
    torch.testing.assert_close(again.encode_context({"c0": ["3.5"]}), torch.tensor([[3.5]]).double())


# ---- weights


def test_weights_are_how_often_a_row_is_drawn():
    n, draws = 60, 40_000
    weights = torch.arange(n).double()
    data = made(PointsData(Euclidean(1), torch.arange(n).double()[:, None], weights=weights, batch_size=draws))
    x, _ = data.train_batch(0)
    counts = torch.bincount(x[:, 0].long(), minlength=n).double()
    share = torch.zeros(n).double()
    share[data._parts[0]] = data.part_weights("train")
    expected = draws * share / share.sum()
    assert (counts[expected == 0] == 0).all()
    chi = ((counts - expected).square() / expected)[expected > 0].sum()
    degrees = int((expected > 0).sum()) - 1
    assert abs(chi - degrees) < 4 * math.sqrt(2 * degrees)


def test_the_mean_of_weighted_batches_is_the_weighted_mean():
    n = 100
    data = PointsData(Euclidean(1), torch.arange(n).double()[:, None], weights=torch.arange(n), eval_batch_size=3)
    batches = list(made(data).test_dataloader())
    total = sum(float((weight * x[:, 0]).mean()) * len(x) for x, _, weight in batches) / len(data.test.points)
    weight = data.part_weights("test")
    assert total == pytest.approx(float(weight @ data.test.points[:, 0] / weight.sum()))


def test_wrong_weights():
    x = torch.rand(30, 1)
    with pytest.raises(ValueError, match=r"weights of shape \(29,\), expected \(30,\)"):
        PointsData(Euclidean(1), x, weights=torch.ones(29))
    with pytest.raises(ValueError, match="1 of 30 rows of weights are bad, first row 3"):
        PointsData(Euclidean(1), x, weights=torch.ones(30).index_fill(0, torch.tensor([3]), -1.0))
    with pytest.raises(ValueError, match="All weights of the train part are zero"):
        PointsData(Euclidean(1), x, weights=torch.zeros(30)).setup()
    with pytest.raises(ValueError, match="The weights add up to more than a number holds"):
        PointsData(Euclidean(1), x, weights=torch.full((30,), 1e308, dtype=torch.float64)).setup()


# ---- parts


@pytest.mark.parametrize("column, key", [("time", str), ("depth", float)])
def test_the_last_rows_are_tested(quakes, column, key):
    data = made(EarthData(path=quakes, split="time", time=column))
    place = HEADER.split(",").index(column)
    values = [key(row.split(",")[place]) for row in rows()]
    train, val, test = ([values[k] for k in part.tolist()] for part in data._parts)
    assert max(train) < min(val)
    assert max(val) < min(test)
    assert sorted([*train, *val, *test]) == sorted(values)


def test_equal_times_stay_together(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k % 10},{k}.5" for k in range(100)], "year,x")
    data = made(TableData(path, numbers=["x"], split="time", time="year"))
    assert [sorted({k % 10 for k in part.tolist()}) for part in data._parts] == [list(range(8)), [8], [9]]


def test_groups_stay_together(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k % 20},{k}.5" for k in range(100)], "g,x")
    data = made(TableData(path, numbers=["x"], split="group", group="g"))
    groups = [{k % 20 for k in part.tolist()} for part in data._parts]
    assert sum(map(len, groups)) == 20


@pytest.mark.parametrize(
    "files, sizes", [(["test"], (178, 22, 30)), (["val"], (178, 30, 22)), (["val", "test"], (200, 30, 31))]
)
def test_parts_in_files_of_their_own(quakes, tmp_path, files, sizes):
    paths = {name: write(tmp_path / f"{name}.csv", rows(30 + k, seed=k + 1)) for k, name in enumerate(files)}
    data = made(EarthData(path=quakes, numbers=["depth"], **paths))
    assert tuple(len(part.points) for part in (data.train, data.val, data.test)) == sizes
    for k, name in enumerate(files):
        cells = np.array([row.split(",")[1:4] for row in rows(30 + k, seed=k + 1)], dtype=float)
        np.testing.assert_allclose(data.to_units(getattr(data, name).points), cells, rtol=1e-12)
    assert data.provenance()["files"] == paths
    assert data.description()["init_args"]["test"] == paths.get("test")


def test_another_file_takes_the_place_of_the_test_part(quakes, tmp_path):
    data = made(EarthData(path=quakes, numbers=["depth"]))
    train, scale = data.train.points.clone(), data.reading()
    data.test_on(write(tmp_path / "other.csv", [*rows(7, seed=5), rows()[0]]))
    torch.testing.assert_close(data.train.points, train, rtol=0, atol=0)
    assert data.reading() == scale
    assert len(data.test.points) == 8
    assert data.twins().tolist() == [False] * 7 + [bool((data._parts[0] == 0).any())]


def test_the_parts_of_fits_know_their_weights(quakes):
    data = made(EarthData(path=quakes, weight="mag"))
    train, val = data.weights_to_fit()
    mags = np.array([float(row.split(",")[4]) for row in rows()])
    np.testing.assert_array_equal(train, mags[data._parts[0].numpy()])
    np.testing.assert_array_equal(val, mags[data._parts[1].numpy()])


# ---- that nothing is read as something else


def turns(n: int = 30) -> np.ndarray:
    q = np.random.default_rng(3).standard_normal((n, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


@pytest.mark.parametrize("names", ["qx,qy,qz,qw", "rx,ry,rz", "rz,ry,rx", "r11,r12,r13,r21,r22,r23,r31,r32,r33"])
def test_rotations_of_another_order_or_kind_in_a_further_file(tmp_path, names):
    """Also one that is the test part, and with numbers beside."""
    q = turns()
    matrices = quaternion_to_matrix(torch.from_numpy(q))
    vectors = matrix_to_rotation_vector(matrices).numpy()
    columns = dict(zip(["qw", "qx", "qy", "qz"], q.T, strict=True)) | dict(
        zip(["rx", "ry", "rz"], vectors.T, strict=True)
    )
    columns |= {f"r{i + 1}{j + 1}": matrices[:, i, j].numpy() for i in range(3) for j in range(3)}
    columns["depth"] = np.arange(len(q))

    def file(name, header):
        rows = np.stack([columns[one] for one in header.split(",")], 1)
        return write(tmp_path / name, [",".join(f"{v:.12f}" for v in row) for row in rows], header)

    first, other = file("first.csv", "qw,qx,qy,qz,depth"), file("other.csv", f"depth,{names}")
    data = made(RotationData(first, numbers=["depth"], test=other))
    torch.testing.assert_close(data.points()[len(q) :], data.points()[: len(q)], atol=1e-9, rtol=0)
    torch.testing.assert_close(data.read_rows(other).points, data.points()[: len(q)], atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "text",
    ["7,12.3,45.6\n8,13.3,46.6\n", ",0,1\n0,12.3,45.6\n1,13.3,46.6\n2,14.3,46.6\n", "0,1\n12.3,45.6\n13.3,46.6\n"],
)
def test_columns_without_names_are_those_of_training_only_if_they_are_as_many(quakes, tmp_path, text):
    """Of three columns no one is left out; pandas writes the numbers of rows and columns, which are no places."""
    data = made(EarthData(path=quakes))
    (tmp_path / "x.csv").write_text(text)
    if text.startswith("7"):
        with pytest.raises(ValueError, match="3 columns without a header"):
            data.read_rows(tmp_path / "x.csv")
        return
    points = data.read_rows(tmp_path / "x.csv").points
    torch.testing.assert_close(points[:2], from_lat_lon([[12.3, 45.6], [13.3, 46.6]]))


THOUSANDS = [f'{k},{k},"1,{k}"' if k > 150 else f"{k / 2},{k},{k}" for k in range(100, 180)]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: TableData(path, numbers=["a", "b"], weight="w"),
        lambda path: TableData(path, numbers=["a", "b"], context=["w"]),
        lambda path: TableData(path, numbers=["a", "b"], split="time", time="w"),
        lambda path: TableData(path, numbers=["w"]),
    ],
)
def test_thousands_that_are_set_apart_are_no_decimals(tmp_path, make):
    path = write(tmp_path / "x.csv", THOUSANDS, "a,b,w")
    with pytest.raises(ValueError, match=r"w '1,151' may be a whole number whose thousands.*such as 1151 or 1\.1510"):
        make(path).setup()
    german = [f"{k},5;{k / 7:.6f};1.{k}".replace(".", ",", 1) for k in range(100, 180)]
    path = write(tmp_path / "y.csv", german, "a;b;w")
    with pytest.raises(ValueError, match=r"w '1\.100' may be a whole number"):
        make(path).setup()


def test_three_decimals_are_decimals(tmp_path):
    """Where each number has them, of either mark, or where some have another number of them."""
    for text in ("1,{k}", "1.{k}", "0,{k}"):
        path = write(tmp_path / "x.csv", [f"{k};{text.format(k=k)}" for k in range(100, 180)], "a;w")
        assert made(TableData(path, numbers=["a"], weight="w")).weights()[5] == float(f"{text[0]}.105")
    path = write(tmp_path / "x.csv", [f"{k};{k}" for k in range(100, 180)] + ["1,5;1,105", "2,25;1"], "a;w")
    assert made(TableData(path, numbers=["a"], weight="w")).weights()[-2:].tolist() == [1.105, 1]


@pytest.mark.parametrize("cell", ["deep", "12 m", "3.4.5"])
def test_numbers_of_which_some_are_unreadable_are_no_names(tmp_path, cell):
    path = write(tmp_path / "x.csv", [f"{k},{k / 3}" for k in range(40)] + [f"1,{cell}"], "a,depth")
    with pytest.raises(ValueError, match=rf"context 'depth' holds numbers, and 1 of 41 .*{re.escape(repr(cell))}"):
        TableData(path, numbers=["a"], context=["depth"]).setup()
    assert made(TableData(path, numbers=["a"], context=["depth"], categories=["depth"])).train.context.shape[1] == 41


@pytest.mark.parametrize("cell", ["n.d.", "--", ".", "#N/A", "<NA>", "NaT", "missing"])
def test_a_sign_for_a_missing_value_is_no_value(tmp_path, cell):
    path = write(tmp_path / "x.csv", [f"{k},{k / 3}" for k in range(40)] + [f"1,{cell}"], "a,depth")
    with pytest.raises(ValueError, match="line 42: no depth"):
        TableData(path, numbers=["a"], context=["depth"]).setup()


def test_a_name_for_each_row_is_worth_a_word(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k},2020-01-{k:02d}" for k in range(1, 29)], "a,day")
    with pytest.warns(UserWarning, match="context 'day' is taken for names, and has 28 different ones in 28 rows"):
        TableData(path, numbers=["a"], context=["day"]).setup()


def test_the_place_of_a_context_is_in_range_and_in_the_unit(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k % 7},{k / 100},{k / 50},{k % 5}" for k in range(60)], "phi,lat,lon,psi")
    data = made(TorusData(path=path, angles=["phi", "psi"], context=["lat", "lon"], unit="radians"))
    torch.testing.assert_close(data.points()[1][7], from_lat_lon([[0.07, 0.14]], "radians")[0])
    path = write(tmp_path / "y.csv", [f"{k},999,-999,{k}" for k in range(60)], "phi,lat,lon,psi")
    with pytest.raises(ValueError, match=r"lat: found '999'. Expected a number in \[-90, 90\]"):
        TorusData(path=path, angles=["phi", "psi"], context=["lat", "lon"]).setup()


@pytest.mark.parametrize(
    "times, last",
    [
        ([f"{1500 + 10 * k}-01-01" for k in range(60)], "2090-01-01"),  # beyond 64 bits of nanoseconds
        ([str(1_700_000_000_000_000_000 + k) for k in range(60)], "1700000000000000059"),  # beyond floating point
        ([f"2024-01-01T{k // 3:02d}:30:00{'+02:00' if k % 2 else '-03:00'}" for k in range(0, 60)], None),
    ],
)
def test_times_of_any_size(tmp_path, times, last, recwarn):
    path = write(tmp_path / "x.csv", [f"{k},{time}" for k, time in enumerate(times)], "a,t")
    data = made(TableData(path, numbers=["a"], split="time", time="t"))
    tested = [times[k] for k in data._parts[2].tolist()]
    assert tested == sorted(times)[-len(tested) :] if last else len(tested) == 6
    assert last is None or last in tested
    assert not [w for w in recwarn if "timezone" in str(w.message)]


@pytest.mark.parametrize("cell", ["43831", "20240105", "24-01-05", "5-01-24", "01/05/2024"])
def test_dates_that_are_not_of_iso_8601_are_no_times_among_others(tmp_path, cell):
    """numpy takes 43831 for a year, and 5-01-24 for one of the first century."""
    path = write(tmp_path / "x.csv", [f"{k},2024-01-{k:02d}" for k in range(1, 29)] + [f"1,{cell}"], "a,t")
    with pytest.raises(ValueError, match=f"line 30: t '{cell}' is no time"):
        TableData(path, numbers=["a"], split="time", time="t").setup()


@pytest.mark.parametrize(
    "times",
    [
        [f"{k % 12 + 1:02d}.{2020 + k // 12}" for k in range(40)],
        [f"{k % 28 + 1:02d}{k % 12 + 1:02d}2020" for k in range(40)],
        [f"{k % 12 + 1}{k % 28 + 1:02d}2020" for k in range(40)],
        ["2021", *[f"2020{k % 12 + 1:02d}01" for k in range(40)]],
    ],
    ids=["months", "days_first", "months_first", "years_among_days"],
)
def test_dates_whose_numbers_are_in_another_order_are_refused(tmp_path, times):
    path = write(tmp_path / "x.csv", [f"{k},{time}" for k, time in enumerate(times)], "a,t")
    with pytest.raises(ValueError, match=f"line 2: t '{re.escape(times[0])}' looks like a date, and as numbers"):
        TableData(path, numbers=["a"], split="time", time="t").setup()


@pytest.mark.parametrize("times", [range(1990, 2050), [f"2020{k:02d}01" for k in range(1, 13)], range(15000, 15060)])
def test_numbers_in_the_order_of_time(tmp_path, times):
    path = write(tmp_path / "x.csv", [f"{k},{time}" for k, time in enumerate(times)], "a,t")
    data = made(TableData(path, numbers=["a"], split="time", time="t"))
    assert data._parts[2].tolist() == list(range(len(times)))[-len(data._parts[2]) :]


@pytest.mark.parametrize("number", ["-999", "-99.9", "9999", "999.99", "-32768", "1e20", "9.96921e+36"])
@pytest.mark.parametrize(
    "options, what",
    [
        ({"numbers": ["a", "b"]}, r"1 of 61 rows are bad:\n  line 62: b"),
        ({"numbers": ["a"], "context": ["b"]}, r"1 of 61 rows have a bad context:\n  line 62: b"),
        ({"numbers": ["a"], "weight": "b"}, r"line 62: b"),
        ({"numbers": ["a"], "split": "time", "time": "b"}, r"line 62: b"),
    ],
    ids=["numbers", "context", "weight", "time"],
)
def test_a_number_that_stands_for_none_is_no_number(tmp_path, number, options, what):
    path = write(tmp_path / "x.csv", [*(f"{k},{k / 3}" for k in range(60)), f"1,{number}"], "a,b")
    words = "beside numbers from 0 to 19.6667; many files write it for no value"
    if "weight" in options and number.startswith("-"):
        words = "is no weight"
    with pytest.raises(ValueError, match=f"{what} .*{words}"):
        TableData(path, **options).setup()
    if options.keys() & {"context"} or len(options["numbers"]) == 2:
        with pytest.warns(UserWarning, match="1 of 61 rows .* left out"):
            assert len(made(TableData(path, **options, skip_bad=True)).rows.values) == 60


def test_nines_among_others_are_numbers(tmp_path):
    path = write(tmp_path / "x.csv", [f"{k},{-k}" for k in range(900, 1100)], "a,b")
    assert len(made(TableData(path)).points()) == 200


@pytest.mark.parametrize("cell", ["now", "today", "NaT", "soon"])
def test_words_are_no_times(tmp_path, cell):
    path = write(tmp_path / "x.csv", [f"{k},2024-01-{k:02d}" for k in range(1, 29)] + [f"1,{cell}"], "a,t")
    with pytest.raises(ValueError, match=rf"line 30: (t {cell!r} is no time|no t)"):
        TableData(path, numbers=["a"], split="time", time="t").setup()


def test_options_that_are_those_of_factors(quakes):
    for name, value in {"unit": "radians", "columns": {"lat": "y"}}.items():
        with pytest.raises(ValueError, match=rf"TableData: {name} is an argument of a factor"):
            TableData(quakes, [PlaceFactor()], **{name: value})


def test_a_second_header_is_no_bad_row(quakes, tmp_path):
    """By its names the columns below would be others; the same header once more is a row like any other bad one."""
    lines = Path(quakes).read_text().splitlines()
    (tmp_path / "x.csv").write_text("\n".join([*lines, "t,longitude,latitude,d,m,k", *lines[1:5]]))
    with pytest.raises(ValueError, match="line 202 names the columns in another order"):
        EarthData(path=str(tmp_path / "x.csv"), skip_bad=True).setup()
    (tmp_path / "x.csv").write_text("\n".join([*lines, lines[0].upper(), *lines[1:5]]))
    with pytest.warns(UserWarning, match="1 of 205 rows are bad and left out"):
        EarthData(path=str(tmp_path / "x.csv"), skip_bad=True).setup()


def test_further_columns_that_are_there_twice(tmp_path, quakes):
    data = made(EarthData(path=quakes))
    path = write(tmp_path / "x.csv", ["1,2,3,4"], "lat,lon,log_prob,Log_Prob")
    assert read_points(data, path, "log_prob")[1][0] == 3  # as it is written
    path = write(tmp_path / "x.csv", ["1,2,3,4"], "lat,lon,log_prob,log_prob")
    with pytest.raises(ValueError, match="found 2 columns of the name log_prob, expected one"):
        read_points(data, path, "log_prob")


def test_an_unknown_name_in_a_further_file_is_told_by_line(quakes, tmp_path):
    data = made(EarthData(path=quakes, context=["kind"]))
    path = write(tmp_path / "x.csv", ["1,2,a", "3,4,z", "5,6,b"], "lat,lon,kind")
    with pytest.raises(ValueError, match=r"1 of 3 rows have a bad context:\n  line 3: .* 'z'"):
        data.read_rows(path)
    with pytest.warns(UserWarning, match="line 3: kind"):
        found = data.read_rows(path, skip_bad=True)
    assert [cells[0] for cells in found.cells] == ["1", "5"]
    assert found.context.tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    "files, message",
    [
        ({"path": ["1,2,a,5", "3,4,b,inf"] * 20}, r"mine.csv: 20 of 40 rows .*:\n  line 3: depth: found 'inf'"),
        ({"test": ["1,2,a,5", "3,4,z,6"]}, r"test.csv: 1 of 2 rows .*:\n  line 3: kind: found 'z'"),
        ({"val": ["1,2,a,x"]}, r"val.csv: 1 of 1 rows .*:\n  line 2: depth: found 'x'"),
    ],
)
def test_a_bad_context_is_told_by_its_own_file(tmp_path, files, message):
    files = {"path": [f"{k},{k % 7},{'ab'[k % 2]},{k}" for k in range(40)], **files}
    names = {part: "mine.csv" if part == "path" else f"{part}.csv" for part in files}
    paths = {part: write(tmp_path / names[part], lines, "lat,lon,kind,depth") for part, lines in files.items()}
    with pytest.raises(ValueError, match=message):
        EarthData(**paths, context=["kind", "depth"]).setup()


def test_rows_of_a_bad_context_are_skipped_and_counted(tmp_path):
    lines = [f"{k},{k % 7},{k}" for k in range(40)]
    data = EarthData(path=write(tmp_path / "x.csv", [*lines, "1,2,inf"], "lat,lon,depth"), context=["depth"])
    data.skip_bad = True
    with pytest.warns(UserWarning, match="1 of 41 rows have a bad context and are left out"):
        data.setup()
    assert len(data.points()[0]) == 40
    assert data.provenance()["skipped"] == {
        "rows": 1,
        "first": ["line 42: depth: found 'inf'. Expected a finite number"],
    }


def test_words_above_the_columns_are_names_in_a_further_file_too(quakes, tmp_path):
    """They are no bad row of a file without names, whose columns would go by their places."""
    data = made(EarthData(path=quakes))
    with pytest.raises(ValueError, match=r"the first row is 'northing, easting'\. Expected"):
        data.read_rows(write(tmp_path / "x.csv", ["1,2", "3,4"], "northing,easting"), skip_bad=True)


def test_a_bad_weight_is_told_by_its_own_file(quakes, tmp_path):
    other = write(tmp_path / "other.csv", ["0,1,2,3,-4,a"], HEADER)
    with pytest.raises(ValueError, match=r"other.csv: line 2: mag -4 is no weight"):
        EarthData(path=quakes, weight="mag", test=other).setup()


def test_a_file_of_empty_cells(tmp_path):
    (tmp_path / "x.csv").write_text('""\n')
    with pytest.raises(ValueError, match="the file has no rows, its cells are empty"):
        EarthData(path=str(tmp_path / "x.csv")).setup()
