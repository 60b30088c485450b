"""What holds of any input: random tables, settings, arrays and descriptions are taken, or refused in words."""

import copy
import inspect
import math
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import concrete
from rsgm import RSGM, KernelDensity, PointsData, Sphere, Torus
from rsgm.data import EarthData, ManifoldData, TorusData
from rsgm.data.factors import NumberFactor
from rsgm.data.places import PlaceFactor
from rsgm.data.so3 import RotationFactor
from rsgm.data.torus import AngleFactor
from rsgm.description import build, describe
from rsgm.distributions import ManifoldDistribution
from rsgm.losses import Loss
from rsgm.manifolds import Manifold, from_lat_lon
from rsgm.models import GenerativeModel
from rsgm.networks import MLP, Activation, TimeFeatures
from rsgm.processes import TimeSampler
from rsgm.samplers import Sampler, Stepper
from rsgm.schedules import Ladder, Schedule, TimeGrid

#: the same examples in each run, for a commit must not fail by chance; more of them where there is time
QUICK = settings(
    derandomize=True, deadline=None, max_examples=40, database=None, suppress_health_check=list(HealthCheck)
)
DEEP = settings(QUICK, max_examples=1000)


def each_depth(test):
    """A property, tried a little, and under the marker ``slow`` at length."""
    tries = [pytest.param(QUICK, id="quick"), pytest.param(DEEP, id="deep", marks=pytest.mark.slow)]
    return pytest.mark.parametrize("depth", tries)(test)


def in_words(error: BaseException) -> None:
    """An error says something, and not what a traceback would."""
    assert str(error).strip()
    assert not isinstance(error, (UnicodeError, RecursionError))


# ---- tables

CELLS = st.one_of(
    st.floats(-100, 400, allow_nan=False).map(lambda x: f"{x:.4f}"),
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=6),
    st.sampled_from(["", "nan", "NA", "-", '"', '"a', 'a"b"', "1,5", "1_0", "0x1p3", "٣", "1e400", "lat", "lon", "#"]),
)
SEPARATORS = st.sampled_from([",", ";", "\t", "|", " "])
TABLES = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.builds(
        lambda header, rows, separator, end: end.join(separator.join(r) for r in [header, *rows]).encode(
            "utf-8", "surrogatepass"
        ),
        st.sampled_from([["lat", "lon"], ["lon", "lat"], ["name", "lat", "lon"], ["phi", "psi"], ["1", "2"]]),
        st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=12),
        SEPARATORS,
        st.sampled_from(["\n", "\r\n", "\r"]),
    ),
)


@each_depth
def test_tables_are_points_or_a_value_error(depth, tmp_path):
    path = tmp_path / "any.csv"

    @depth
    @given(TABLES, st.booleans())
    def holds(text, skip_bad):
        path.write_bytes(text)
        for cls in (EarthData, TorusData):
            data = cls(path=str(path), skip_bad=skip_bad)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    points = data.points()
                except ValueError as error:
                    in_words(error)
                    continue
            points = points[0] if isinstance(points, tuple) else points
            assert len(points)
            assert points.isfinite().all()
            assert data.manifold.check_point_on_manifold(points)

    holds()


@each_depth
def test_rows_are_read_as_they_were_written(depth, tmp_path):
    path = tmp_path / "good.csv"
    place = st.tuples(st.floats(-90, 90), st.floats(-180, 180))

    @depth
    @given(st.lists(place, min_size=2, max_size=12), SEPARATORS, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
    def holds(places, separator, end, swapped):
        names = ["lon", "lat"] if swapped else ["lat", "lon"]
        rows = [[repr(float(a)), repr(float(b))][:: -1 if swapped else 1] for a, b in places]
        path.write_bytes(end.join(separator.join(row) for row in [names, *rows]).encode())
        wanted = from_lat_lon(np.array(places))
        np.testing.assert_allclose(EarthData(path=str(path)).points(), wanted, atol=1e-12)

    holds()


@each_depth
def test_a_bad_row_is_named_by_its_line(depth, tmp_path):
    path = tmp_path / "bad.csv"

    @depth
    @given(
        st.integers(0, 8),
        st.integers(0, 8),
        st.integers(0, 3),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.sampled_from(["x", "95.5", "nan", "1e400", "1_0", ""]),
    )
    def holds(before, after, above, end, cell):
        good = [f"{k}.25,{2 * k}.5" for k in range(1, 18)]
        lines = [*["# about"] * above, "lat,lon", *good[: before + 1], f"{cell},10", *good[9 : 10 + after]]
        path.write_bytes(end.join(lines).encode())
        with pytest.raises(ValueError, match=rf"line {above + before + 3}: "):
            EarthData(path=str(path)).points()

    holds()


# ---- factors: rows to points and back

PLACES = st.tuples(st.floats(-89.99, 89.99), st.floats(-179.99, 179.99))
ANGLES = st.tuples(st.floats(-179.99, 179.99), st.floats(-179.99, 179.99))
NUMBERS = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
QUATERNIONS = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(x * x for x in q) > 0.01)
VECTORS = st.tuples(*[st.floats(-2, 2)] * 3)
FACTORS = {
    "places": (PlaceFactor(unit="degrees"), ("lat", "lon"), PLACES),
    "angles": (AngleFactor(("a", "b"), unit="degrees"), ("a", "b"), ANGLES),
    "numbers": (NumberFactor(("a", "b"), ("b",)), ("a", "b"), NUMBERS),
    "quaternions": (RotationFactor(), ("qw", "qx", "qy", "qz"), QUATERNIONS),
    "rotation vectors": (RotationFactor(unit="radians"), ("rx", "ry", "rz"), VECTORS),
}


@each_depth
@pytest.mark.parametrize("name", FACTORS)
def test_units_and_back(name, depth, tmp_path):
    """The points of a factor's rows, written in its units and read again, are the same points."""
    factor, header, strategy = FACTORS[name]

    @depth
    @given(st.lists(strategy, min_size=1, max_size=6))
    def holds(rows):
        values = np.array(rows)
        if name == "quaternions":
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        if name == "numbers" and not np.ptp(values, 0).all():
            return  # which is refused
        columns = factor.wanted.find(header).columns
        known = factor.learn(tmp_path, columns, header, values).scaled(values)
        x = known.from_units(values)
        assert x.dtype == torch.float64
        assert known.manifold.check_point_on_manifold(x, atol=1e-9)
        again = known.from_units(known.to_units(x))
        torch.testing.assert_close(again, x, atol=1e-9, rtol=1e-9)

    holds()


# ---- settings

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.floats(width=32), st.text(max_size=4),
    st.lists(st.one_of(st.integers(-2, 20), st.floats(-2, 2), st.text(max_size=2)), max_size=4),
    st.sampled_from([math.nan, math.inf, -math.inf, 0, -1, 0.0, 1e-300, 1e300]),
)  # fmt: skip
BASES = [
    Manifold,
    Schedule,
    TimeGrid,
    Ladder,
    Stepper,
    Sampler,
    Loss,
    TimeSampler,
    Activation,
    TimeFeatures,
    ManifoldDistribution,
]
PARTS = [cls for base in BASES for cls in concrete(base)]
SETTINGS = [
    cls for cls in [*PARTS, *concrete(GenerativeModel), *concrete(ManifoldData)] if inspect.signature(cls).parameters
]


@each_depth
@pytest.mark.parametrize("cls", dict.fromkeys(SETTINGS), ids=lambda cls: cls.__name__)
def test_settings_are_taken_or_refused(cls, depth):
    """Random plain values for arguments: an object, or a ValueError or TypeError that says something."""
    parameters = inspect.signature(cls).parameters
    names = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD and name != "manifold"]
    if not names:
        return
    first = (Sphere(2),) if "manifold" in parameters else ()

    @settings(depth, max_examples=15 if depth is QUICK else 200)
    @given(st.dictionaries(st.sampled_from(names), PLAIN, max_size=3))
    def holds(values):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                cls(*first, **values) if next(iter(parameters)) == "manifold" else cls(**values)
            except (ValueError, TypeError, FileNotFoundError) as error:  # the last of a path
                in_words(error)

    holds()


# ---- arrays

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
ENTRIES = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf]))


KINDS = {
    "f4": lambda x: x.astype("f4"),
    "f8": lambda x: x,
    "i8": lambda x: np.nan_to_num(x, posinf=2, neginf=-2).clip(-9, 9).astype("i8"),
    "c8": lambda x: x.astype("c8"),
    "b": lambda x: x > 0,
    "O": lambda x: x.astype("O"),
    "U": lambda x: x.astype("U6"),
}


def arrays() -> st.SearchStrategy:
    def filled(shape, entries, kind):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(KINDS[kind](np.resize(np.array(entries), shape)))

    return st.builds(filled, SHAPES, st.lists(ENTRIES, min_size=1, max_size=6), st.sampled_from(list(KINDS)))


@pytest.fixture(scope="module")
def models() -> list[GenerativeModel]:
    kernels = KernelDensity(Sphere(2), min_width=0.2, widths=2, iterations=5)
    kernels.fit_points(*Sphere(2).random_uniform(20, 3, generator=torch.Generator().manual_seed(0)).split(15))
    return [kernels]


@each_depth
def test_arrays_are_points_or_refused(depth, models):
    @depth
    @given(arrays(), st.booleans())
    def holds(values, as_tensor):
        given_as: Any = values
        if as_tensor and values.dtype.kind in "fibc":
            given_as = torch.from_numpy(values)
        for manifold in (Sphere(2), Torus(2)):
            try:
                data = PointsData(manifold, given_as)
                data.setup()
            except (ValueError, TypeError) as error:
                in_words(error)
            else:
                assert data.train.points.isfinite().all()
        for model in models:
            try:
                value = model.log_prob(given_as)
            except (ValueError, TypeError) as error:
                in_words(error)
            else:
                assert value.shape == values.shape[:-1]
                assert not value.isnan().any()

    holds()


@each_depth
def test_sizes_of_samples(depth, models):
    @depth
    @given(
        st.one_of(st.integers(-3, 5), st.lists(st.integers(-2, 3), max_size=3), st.floats(-2, 3), st.text(max_size=2)),
        st.one_of(st.none(), st.integers(0, 2**63 - 1)),
    )
    def holds(size, seed):
        try:
            x = models[0].sample(size, seed=seed)
        except (ValueError, TypeError) as error:
            in_words(error)
        else:
            assert x.shape == (*((size,) if isinstance(size, int) else size), 3)

    holds()


# ---- descriptions


def places_in(node: Any, above: tuple = ()) -> list[tuple]:
    """The ways to all values in a description."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [found for key, item in inner for found in [(*above, key), *places_in(item, (*above, key))]]


@each_depth
def test_changed_descriptions_are_built_or_refused(depth):
    valid = RSGM(Sphere(2), network=partial(MLP, hidden=[4, 4])).description
    places = places_in(valid)
    strange = [{}, {"class_path": "os.system"}, {"class_path": "rsgm.Sphere", "init_args": 3}]
    others = st.one_of(PLAIN, st.sampled_from(strange), st.sampled_from(places).map(lambda place: at(valid, place)))

    def at(node, place):
        for key in place:
            node = node[key]
        return node

    @depth
    @given(st.lists(st.tuples(st.sampled_from(places), others), min_size=1, max_size=2))
    def holds(changes):
        changed = copy.deepcopy(valid)
        for (*above, key), value in changes:
            try:
                at(changed, above)[key] = copy.deepcopy(value)
            except (KeyError, IndexError, TypeError):
                continue  # gone with a former change
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = build(changed, GenerativeModel)
            except ValueError as error:
                in_words(error)
            else:
                assert isinstance(model, GenerativeModel)
                assert describe(model.manifold)

    holds()
