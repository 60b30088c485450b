"""Points that a Python program holds: what is taken, what is refused, and the way through training and evaluation."""

import functools
import json
import warnings

import numpy as np
import pytest
import torch

import rsgm
from conftest import variants
from helpers import learned, without_figures
from rsgm.data import EarthData, PointsData, RotationData, TorusData, read_points
from rsgm.evaluation import report
from rsgm.manifolds import Euclidean, Manifold, SpecialOrthogonal, Sphere, Torus
from rsgm.manifolds.so3 import quaternion_to_matrix
from rsgm.models import RSGM, CheckpointError, read_checkpoint
from rsgm.networks import MLP
from rsgm.seeding import generator_from

GENERATOR = np.random.default_rng(0)
DEGREES = np.stack([GENERATOR.uniform(-90, 90, 60), GENERATOR.uniform(-180, 360, 60)], -1).round(3)
VECTORS = GENERATOR.standard_normal((60, 3)).round(6)
QUATERNIONS = GENERATOR.standard_normal((60, 4))
QUATERNIONS /= np.linalg.norm(QUATERNIONS, axis=1, keepdims=True)


def sphere_points(n: int = 60) -> torch.Tensor:
    return Sphere(2).random_uniform(n, 3, generator=generator_from("sphere"), dtype=torch.float64)


# ---- what is taken


def test_tensors_arrays_lists_and_frames_are_the_same_points():
    pandas = pytest.importorskip("pandas")
    x = sphere_points()
    frame = pandas.DataFrame(x.numpy(), columns=["x", "y", "z"], index=range(100, 160))
    forms = [x, x.clone().requires_grad_(), x.numpy(), x.tolist(), frame]
    for form in forms:
        data = PointsData(Sphere(2), form, seed=1)
        assert data.points().dtype == torch.float64
        torch.testing.assert_close(data.points(), x, rtol=0, atol=1e-15)
        assert data.fingerprint == PointsData(Sphere(2), x, seed=1).fingerprint
    single = PointsData(Sphere(2), x.float()).points()
    torch.testing.assert_close(single, x, rtol=0, atol=1e-7)
    # what single precision lost of the length is put back
    torch.testing.assert_close(single.norm(dim=1), torch.ones(60).double(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("make", variants(Manifold))
def test_points_of_every_manifold_whole_or_flattened(make):
    manifold = make()
    x = manifold.origin(40, *manifold.shape, dtype=torch.float64)
    x = manifold.expmap(x, 0.3 * manifold.random_tangent(x, generator_from("points")))
    data = PointsData(manifold, x, split="location")
    assert data.manifold is manifold
    torch.testing.assert_close(data.points(), x)
    torch.testing.assert_close(PointsData(manifold, x.flatten(1).numpy()).points(), data.points())
    batch, context = data.train_batch(0)
    assert batch.shape == (512, *manifold.shape)
    assert context is None
    record = data.provenance()
    assert (record["name"], record["rows"], record["distinct_rows"]) == ("PointsData", 40, 40)
    assert record["split"]["sizes"] == {"train": 32, "val": 4, "test": 4}


def test_a_copy_is_kept():
    for manifold in (Sphere(2), Euclidean(3)):
        for x in (sphere_points(), sphere_points().numpy()):
            data = PointsData(manifold, x, context=x)
            x[:] = 7
            for kept in data.points():
                torch.testing.assert_close(kept, sphere_points(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_context_goes_with_its_point(shape):
    context = torch.arange(60.0).repeat_interleave(int(np.prod(shape[1:]))).reshape(shape)
    data = PointsData(Sphere(2), sphere_points(), context.numpy())
    for part in (*data.val_dataloader(), *data.test_dataloader(), data.train_batch(0)):
        x, given = part
        assert given.shape == (len(x), shape[1] if len(shape) > 1 else 1)
        assert torch.allclose(x.double(), sphere_points()[given[:, 0].long()], atol=1e-6)


def test_rows_of_one_place():
    x = sphere_points(30)
    data = PointsData(Sphere(2), torch.cat([x, x + 1e-13]), split="location")
    assert data.provenance()["distinct_rows"] == 30
    assert not data.twins().any()
    assert PointsData(Sphere(2), torch.cat([x, x])).twins().any()


# ---- units


@pytest.mark.parametrize(
    "cls, make, values, names",
    [
        (EarthData, lambda v: PointsData.from_lat_lon(v[:, 0], v[:, 1]), DEGREES, "lat,lon"),
        (TorusData, PointsData.from_angles, DEGREES / 2, "phi,psi"),
        (RotationData, PointsData.from_quaternions, QUATERNIONS, "qw,qx,qy,qz"),
        (RotationData, PointsData.from_rotation_vectors, VECTORS, "rx,ry,rz"),
    ],
    ids=["globe", "torus", "quaternions", "rotation vectors"],
)
def test_other_units_are_read_as_from_a_file(cls, make, values, names, tmp_path):
    path = tmp_path / "mine.csv"
    np.savetxt(path, values, delimiter=",", header=names, comments="", fmt="%.17g")
    file, data = cls(path=str(path)), make(values)
    torch.testing.assert_close(data.points(), file.points(), rtol=0, atol=1e-14)
    assert str(data.manifold) == str(file.manifold)
    assert data.fingerprint == file.fingerprint
    # and given back in the same units
    units = data.to_units(data.points())
    assert units.shape == values.shape
    assert len(data.header) == values.shape[1]
    torch.testing.assert_close(make(units).points(), data.points(), rtol=0, atol=1e-12)
    torch.testing.assert_close(data.from_units(units), data.points(), rtol=0, atol=1e-12)
    # and read again beside other numbers, with names in any order, or without names
    for own, columns in ((data, data.header), (file, file.header)):
        rows = np.column_stack([np.arange(len(units)), own.to_units(own.points())])
        np.savetxt(path, rows, delimiter=",", header=",".join(["log_prob", *columns]), comments="", fmt="%.17g")
        points, (numbers, volume) = read_points(own, path, "log_prob", "volume")
        torch.testing.assert_close(points, own.points(), rtol=0, atol=1e-12)
        assert numbers.tolist() == list(range(len(units)))
        assert volume is None
        np.savetxt(path, rows[:, 1:], delimiter=",", fmt="%.17g")
        torch.testing.assert_close(read_points(own, path)[0], own.points(), rtol=0, atol=1e-12)


def test_columns_of_a_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": list("ab") * 30, "lon": DEGREES[:, 1], "lat": DEGREES[:, 0]})
    data = PointsData.from_lat_lon(frame["lat"], frame["lon"], split="location", seed=3, batch_size=7)
    torch.testing.assert_close(data.points(), PointsData.from_lat_lon(*DEGREES.T).points())
    assert (data.split, data.seed, data.batch_size, data.header) == ("location", 3, 7, ("lat", "lon"))
    np.testing.assert_allclose(data.to_units(data.points())[:, 0], DEGREES[:, 0], atol=1e-12)
    torch.testing.assert_close(
        PointsData.from_angles(frame[["lat", "lon"]]).points(), PointsData.from_angles(DEGREES).points()
    )


def frame(values, names):
    return pytest.importorskip("pandas").DataFrame(values, columns=names.split())


@pytest.mark.parametrize(
    "make, values, names",
    [
        (PointsData.from_quaternions, QUATERNIONS, "qw qx qy qz"),
        (PointsData.from_quaternions, QUATERNIONS, "pose.orientation.w pose.orientation.x pose.orientation.y orient"),
        (PointsData.from_rotation_vectors, VECTORS, "rx ry rz"),
        (PointsData.from_rotation_vectors, VECTORS, "x y z"),
        (lambda x: PointsData(Sphere(2), x), sphere_points().numpy(), "x y z"),
        (lambda x: PointsData.of(Sphere(2), x), sphere_points().numpy(), "x y z"),
        (
            lambda x: PointsData(SpecialOrthogonal(), x),
            quaternion_to_matrix(torch.from_numpy(QUATERNIONS)).flatten(1).numpy(),
            "r11 r12 r13 r21 r22 r23 r31 r32 r33",
        ),
    ],
)
def test_columns_of_a_frame_are_taken_by_their_names(make, values, names):
    """In any order and among others; those that mean nothing by their places."""
    expected = make(values).points()
    table = frame(values, names.replace(" orient", " pose.orientation.z"))
    turned = table[table.columns[::-1]]
    torch.testing.assert_close(make(turned).points(), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(make(turned.assign(note="a")).points(), expected, rtol=0, atol=1e-14)
    bare = frame(values, " ".join(f"column{k}_" for k in range(values.shape[1])))
    torch.testing.assert_close(make(bare).points(), expected, rtol=0, atol=1e-14)
    numbered = pytest.importorskip("pandas").DataFrame(values)
    torch.testing.assert_close(make(numbered).points(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PointsData.from_quaternions(frame(QUATERNIONS, "q1 q2 q3 q4")), "scalar part first or last"),
        (
            lambda: PointsData.from_quaternions(frame(QUATERNIONS, "rx ry rz t")),
            "are rx, ry, rz. Expected qw, qx, qy, qz",
        ),
        (lambda: PointsData.from_quaternions(frame(QUATERNIONS, "i j k w")), "i, j, k, w seem to have the scalar part"),
        (lambda: PointsData.from_angles(frame(DEGREES.clip(0, 20), "hour psi")), "'hour' holds .* 24 may be a turn"),
        (lambda: PointsData.from_rotation_vectors(frame(VECTORS, "roll pitch yaw")), "name Euler angles. Expected rx"),
        (lambda: PointsData.from_rotation_vectors(frame(VECTORS, "euler_x euler_y euler_z")), "name Euler angles"),
        (lambda: PointsData.from_rotation_vectors(frame(VECTORS, "rx_deg ry_deg rz_deg")), "named as being in degrees"),
        (lambda: PointsData.from_angles(frame(DEGREES / 3, "phi psi_rad")), "'psi_rad' is named as being in radians"),
        (lambda: PointsData.of(Sphere(2), frame(DEGREES, "lat_rad lon_rad")), "'lat_rad' is named as being in radians"),
        (lambda: PointsData.of(Sphere(2), frame(DEGREES[:, [0, 1, 1]], "lat lat_min lon")), "stands beside 'lat_min'"),
        (lambda: PointsData.of(Sphere(2), frame(DEGREES, "lat lon(W)")), "counting to the west.*frame.to_numpy"),
        (lambda: PointsData.of(Sphere(2), frame(np.abs(DEGREES) / 15, "dec ra")), "right ascensions .* may be hours"),
    ],
)
def test_names_that_say_otherwise_are_refused(make, message):
    with pytest.raises(ValueError, match=f"(?s)PointsData: .*{message}"):
        make()


def test_columns_beside_angles_in_a_frame_are_left_out_as_those_of_a_file_are():
    table = frame(np.concatenate([DEGREES, DEGREES], 1), "phi psi resid chi1").assign(chain="A")
    found = PointsData.from_angles(table)
    torch.testing.assert_close(found.points(), PointsData.from_angles(DEGREES[:, [0, 1, 1]]).points())


def test_axes_without_their_angles_are_worth_a_word():
    axes = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    with pytest.warns(UserWarning, match="these may be the axes alone"):
        PointsData.from_rotation_vectors(axes)


def test_latitudes_and_longitudes_the_other_way_round():
    table = frame(DEGREES, "lat lon")
    for first, second in (("lon", "lat"), ("x", "y"), ("ra", "dec")):
        one, other = table["lat"].rename(first), table["lon"].rename(second)
        with pytest.raises(ValueError, match=f"found latitudes called '{first}' and longitudes called '{second}'"):
            PointsData.from_lat_lon(one, other)
        assert len(PointsData.from_lat_lon(one.to_numpy(), other).points()) == 60
    assert PointsData.of(Sphere(2), table).earth
    assert not PointsData.of(Sphere(2), table.rename(columns={"lat": "dec", "lon": "ra"})).earth


# ---- what is refused


@pytest.mark.parametrize(
    "make",
    [p for p in variants(Manifold) if "Euclidean" not in p.id and "factors" not in p.id],
)
def test_the_first_row_off_the_manifold_is_named(make):
    manifold = make()
    x = manifold.origin(50, *manifold.shape, dtype=torch.float64)
    for row in (0, 7, 49):
        bad = x.clone()
        bad[row:] *= 1.5
        with pytest.raises(ValueError, match=rf"row {row} \(they count from 0\).*is not on"):
            PointsData(manifold, bad)


def test_what_numpy_would_make_numbers_of():
    """A masked number is none, and an imaginary part or a date is not left out in silence."""
    masked = np.ma.masked_greater(sphere_points().numpy(), 0.9)
    with pytest.raises(ValueError, match="finite numbers"):
        PointsData(Sphere(2), masked)
    assert len(PointsData(Sphere(2), np.ma.masked_greater(sphere_points().numpy(), 2)).points()) == 60
    dates = np.array([["2020-01-01"] * 3] * 20, dtype="datetime64[D]")
    for values in (sphere_points() + 0j, sphere_points().numpy() + 0j, dates):
        with pytest.raises(ValueError, match=r"not all numbers: they are .*(complex|datetime)"):
            PointsData(Sphere(2), values)


@pytest.mark.parametrize(
    "values, message",
    [
        ([np.ma.masked_greater(row, 0.9) for row in sphere_points().numpy()], "finite numbers"),
        ([[1, 0, 10**400]] * 20, "not all numbers: .*too large"),
        ([row.clone().requires_grad_() for row in sphere_points()], "not all numbers: .*detach"),
    ],
)
def test_lists_of_what_is_no_number(values, message):
    with pytest.raises(ValueError, match=f"PointsData: .*{message}"):
        PointsData(Sphere(2), values)


def test_missing_numbers_and_dates_of_frames():
    pandas = pytest.importorskip("pandas")
    table = frame(DEGREES, "lat lon").astype("Float64")
    assert len(PointsData.of(Sphere(2), table).points()) == 60
    table.loc[3, "lat"] = pandas.NA
    with pytest.raises(
        ValueError, match=r"PointsData: (the latitudes are not all numbers: .*NA|1 of 60 rows of latitudes are bad)"
    ):
        PointsData.of(Sphere(2), table)
    dates = pandas.Series(pandas.date_range("2020-01-01", periods=60, tz="UTC"))
    for context in (dates, dates.dt.tz_localize(None)):
        with pytest.raises(ValueError, match=r"PointsData: the context are not all numbers: .*(Timestamp|datetime)"):
            PointsData(Sphere(2), sphere_points(), context)


def test_a_sparse_tensor_is_its_numbers():
    x = torch.eye(3).repeat(20, 1)
    torch.testing.assert_close(PointsData(Sphere(2), x.to_sparse()).points(), x.double())


def test_no_angle_is_no_angle_of_zero():
    """As of files: 360 beside negative angles."""
    angles = np.array([[360.0, -80.0], [-60.0, -40.0]] + [[-70.5, 120.25]] * 9)
    with pytest.raises(ValueError, match=r"row 0 of angles .* 360 beside angles from -180 to 180.*Leave such rows out"):
        PointsData.from_angles(angles)
    assert len(PointsData.from_angles(np.abs(angles)).points()) == 11


def test_radians_are_not_taken_for_degrees_in_silence():
    radians = np.radians(DEGREES)
    with pytest.warns(UserWarning, match="look like radians"):
        PointsData.from_lat_lon(*radians.T)
    with pytest.warns(UserWarning, match="look like radians"):
        PointsData.from_angles(radians)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PointsData.from_lat_lon(*DEGREES.T)
        PointsData.from_angles(DEGREES / 2)


def test_words_of_a_data_set():
    """Lightning's would make every loader, and cannot."""
    data = PointsData(Sphere(2), sphere_points())
    assert "PointsData" in str(data)
    assert not data._parts


def test_a_reflection_is_no_rotation():
    x = torch.eye(3).repeat(20, 1, 1)
    x[11, 0, 0] = -1
    with pytest.raises(ValueError, match=r"row 11 .*reflection"):
        PointsData(SpecialOrthogonal(), x)


@pytest.mark.parametrize("manifold", [Sphere(2), Euclidean(3)], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_numbers_are_finite(manifold, value):
    x = sphere_points().tolist()
    x[5][1] = x[9][0] = value
    with pytest.raises(ValueError, match=r"2 of 60 rows of points are bad, first row 5 \(they count from 0\).*finite"):
        PointsData(manifold, x)
    with pytest.raises(ValueError, match=r"2 of 60 rows of context are bad, first row 5 .*finite"):
        PointsData(Sphere(2), sphere_points(), x)


@pytest.mark.parametrize("found", [DEGREES, DEGREES[:, 0], np.zeros((0, 3)), np.zeros((60, 3, 1)), 3.0])
def test_another_shape_is_refused_with_the_way_to_give_other_units(found):
    with pytest.raises(ValueError, match="PointsData: found points of shape"):
        PointsData(Sphere(2), found)
    if np.size(found) > 60:
        with pytest.raises(ValueError, match=r"expected \(N, 3\) on Sphere.*from_lat_lon"):
            PointsData(Sphere(2), DEGREES)


def test_what_are_no_numbers_is_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": ["a"] * 20, "y": 0.0, "z": 1.0})
    for found in (frame, [["a", 0, 1]] * 20, [[1, 0, 0], [1, 0]], object()):
        with pytest.raises(ValueError, match="the points are not all numbers"):
            PointsData(Sphere(2), found)


@pytest.mark.parametrize("context", [np.zeros(59), np.zeros((61, 2)), np.zeros((60, 2, 2)), 0.0])
def test_a_context_has_a_row_for_each_point(context):
    with pytest.raises(ValueError, match=r"found (a )?context of shape"):
        PointsData(Sphere(2), sphere_points(), context)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PointsData.from_lat_lon([0, 95], [0, 0]), r"row 1 .*\[95.0, 0.0\]. Expected \[-90, 90\]"),
        (lambda: PointsData.from_lat_lon([0, 5], [0, -181]), r"row 1 .*-181.*\[-180, 360\]"),
        (lambda: PointsData.from_lat_lon([0, 5], [0]), r"shape \(2,\) and \(1,\)"),
        (lambda: PointsData.from_lat_lon(DEGREES, DEGREES), r"shape \(60, 2\) and \(60, 2\)"),
        (lambda: PointsData.from_angles([[0, 0], [0, 400]]), r"row 1 .*400"),
        (lambda: PointsData.from_angles([0, 400]), r"angles of shape \(2,\), expected \(N, n\)"),
        (lambda: PointsData.from_quaternions([[1, 0, 0, 0], [1, 1, 0, 0]]), "row 1 .*the length 1"),
        (lambda: PointsData.from_quaternions([[1, 0, 0]]), r"shape \(1, 3\), expected \(N, 4\)"),
        (lambda: PointsData.from_rotation_vectors([[0, 0, 1], [0, 90, 0]]), "row 1 .*at most a turn, radians"),
        (lambda: PointsData.from_rotation_vectors([[1, 0, 0, 0]]), r"shape \(1, 4\), expected \(N, 3\)"),
    ],
)
def test_units_are_checked_by_row(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_split_and_sizes():
    with pytest.raises(ValueError, match="unknown split 'group'"):
        PointsData(Sphere(2), sphere_points(), split="group").setup()
    with pytest.raises(ValueError, match="PointsData: batch_size must be an integer of at least 1, found 0"):
        PointsData(Sphere(2), sphere_points(), batch_size=0)


# ---- training and evaluation


def test_from_a_tensor_to_metrics(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    x = torch.cat([sphere_points(), sphere_points()[:20]])
    arguments = {"split": "random", "batch_size": 16, "steps_per_epoch": 2, "seed": 4}
    data = PointsData(Sphere(2), x, **arguments)
    model = RSGM(Sphere(2), network=functools.partial(MLP, hidden=[8]))
    path, _ = learned(model, data, tmp_path, max_steps=2)

    # plain data only, and nothing from which other data could be built
    assert read_checkpoint(path)["rsgm"]["data"] is None
    with pytest.raises(CheckpointError, match=r"does not name its data.*pass the data module to rsgm\.evaluate"):
        rsgm.evaluate(path)
    # data that nobody has set up
    again = PointsData(Sphere(2), x.numpy(), **arguments)
    found = rsgm.evaluate(path, again, samples=20)
    assert again.fingerprint == read_checkpoint(path)["rsgm"]["fingerprint"]
    assert found["data"]["name"] == "PointsData"
    assert (found["data"]["rows"], found["data"]["distinct_rows"]) == (80, 60)
    assert found["nll"]["mean"] == pytest.approx(-rsgm.load(path).log_prob(data.test.points).mean().item())
    assert found["training_points"] == {"model": 64, "kernel_density": 64}
    assert json.loads((tmp_path / "metrics.json").read_text())["split"]["seed"] == 4
    assert "PointsData: 80 rows, 60 distinct, from a Python program" in report(found)


def test_quaternions_and_matrices_are_the_same_rotations():
    x = quaternion_to_matrix(torch.from_numpy(QUATERNIONS))
    direct, by_name = PointsData(SpecialOrthogonal(), x.reshape(60, 9)), PointsData.from_quaternions(-QUATERNIONS)
    torch.testing.assert_close(direct.points(), by_name.points(), rtol=0, atol=1e-14)
    torch.testing.assert_close(
        PointsData(Torus(2), Torus(2).from_angles(torch.from_numpy(DEGREES).deg2rad())).points(),
        PointsData.from_angles(DEGREES).points(),
    )


@pytest.mark.parametrize("beside", ["context", "weights", "longitudes"])
def test_rows_of_other_indices_are_not_put_side_by_side(beside):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"lat": DEGREES[:, 0], "lon": DEGREES[:, 1], "depth": range(len(DEGREES))})
    depth = frame["depth"].sort_values(ascending=False)
    makers = {
        "longitudes": lambda: PointsData.from_lat_lon(frame["lat"], frame["lon"].sort_values()),
        "context": lambda: PointsData.of(Sphere(2), frame, context=depth),
        "weights": lambda: PointsData.of(Sphere(2), frame, weights=depth),
    }
    with pytest.raises(ValueError, match=r"other indices, or another order\. Expected one index"):
        makers[beside]()
    PointsData.of(Sphere(2), frame, context=frame["depth"], weights=depth.sort_index())
