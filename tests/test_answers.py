"""Every command of the page on tables of one's own, on small files: what it prints and writes."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import without_figures
from rsgm import cli
from rsgm.cli import commands, evaluate_command
from rsgm.data import EarthData, RotationData, TableData, TorusData
from rsgm.evaluation import evaluate, report, write_regions
from rsgm.evaluation.regions import _test_points
from rsgm.manifolds import to_lat_lon
from rsgm.models import KernelDensity, load, read_checkpoint, write_checkpoint
from test_tabular import write
from tiny import ROOT

HEADER = "time,latitude,longitude,depth,mag,magType,place"
OPTIONS = "--data.context=[depth] --data.weight=mag --data.split=time --data.time=time"
SMALL = "--trainer.max_steps=2 --trainer.accelerator=cpu --trainer.enable_progress_bar=false --model.network.width=8"


def quakes(n: int = 80) -> list[str]:
    """As of the USGS: newest first, ISO times, quoted commas; two rows have no depth."""
    rng = np.random.default_rng(0)
    depths = ["" if k in (20, 50) else f"{depth:.2f}" for k, depth in enumerate(rng.exponential(30, n) + 1)]
    return [
        f"2024-01-{1 + k // 8:02d}T{k % 8:02d}:30:00.123Z,{rng.normal(10, 8):.4f},{rng.normal(120, 10):.4f},"
        f'{depths[k]},{rng.uniform(4, 7):.1f},mb,"{k} km S of Town, Country"'
        for k in range(n)
    ][::-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of the first command, of which nothing is evaluated."""
    folder = tmp_path_factory.mktemp("answers")
    write(folder / "quakes.csv", quakes(), HEADER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("evaluate", "report", "log_result"):
            patch.setattr(commands, name, lambda *_: None)
        command = f"--config={ROOT}/configs/earth.yaml --data.path=quakes.csv {OPTIONS} {SMALL} --data.batch_size=8"
        assert cli.train(command.split()) == 1  # without depths; see below
        with pytest.warns(UserWarning, match="2 of 80 rows are bad and left out"):
            assert cli.train([*command.split(), "--data.skip_bad=true"]) == 0
    return folder


@pytest.fixture
def answer(trained, monkeypatch, tmp_path, capsys):
    """Ask the trained model; the lines that it prints, or the error. Files are written in ``tmp_path``."""
    checkpoint = trained / "runs/earth/version_0/best.ckpt"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rsgm.evaluation.rows._USUAL", 200)
    monkeypatch.setattr("rsgm.evaluation.rows._FEWEST", 20)

    def ask(*args, ckpt=checkpoint):
        capsys.readouterr()
        status = evaluate_command([f"--ckpt={ckpt}", *map(str, args)])
        found = capsys.readouterr()
        return found.out.splitlines() if status == 0 else found.err

    return ask


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_missing_context_is_said(trained, capsys):
    arguments = f"--config={ROOT}/configs/earth.yaml --data.path={trained}/quakes.csv {OPTIONS}".split()
    assert cli.train(arguments) == 1
    error = capsys.readouterr().err
    assert "2 of 80 rows are bad:\n  line 31: no depth, found ''\n  line 61: no depth, found ''" in error
    assert "degrees; and in each row a value of depth, mag, time: correct these lines, or" in error
    assert "--data.skip_bad=true (--score: --skip_bad)" in error


def test_what_the_checkpoint_knows(trained):
    record = read_checkpoint(trained / "runs/earth/version_0/best.ckpt")["rsgm"]
    assert record["reading"]["init_args"]["covariates"]["init_args"]["names"] == ["depth"]
    assert len(record["reference"]["points"]) == 62  # of the 78 rows that are whole


def test_score(answer, tmp_path, trained):
    """Rows keep their cells, in their order; the training file need not be there."""
    write(tmp_path / "new.csv", quakes()[:6], HEADER)
    (trained / "quakes.csv").rename(trained / "away.csv")
    try:
        assert answer("--score=new.csv", "--out=scored.csv") == ["6 rows in scored.csv"]
    finally:
        (trained / "away.csv").rename(trained / "quakes.csv")
    found = table("scored.csv")
    assert list(found[0]) == [*HEADER.split(","), "log_prob", "percentile", "tail_probability"]
    assert [row["place"] for row in found] == [f"{k} km S of Town, Country" for k in range(79, 73, -1)]
    values = np.array([[float(row[name]) for name in ("log_prob", "percentile", "tail_probability")] for row in found])
    assert np.isfinite(values).all()
    assert ((values[:, 1:] >= 0) & (values[:, 1:] <= (100, 1))).all()
    # and once more: no column takes another's place
    assert answer("--score=scored.csv", "--out=again.csv") == ["6 rows in again.csv"]
    assert list(table("again.csv")[0])[-3:] == ["log_prob_2", "percentile_2", "tail_probability_2"]
    assert "scored.csv exists" in answer("--score=new.csv", "--out=scored.csv")


def test_score_where_rows_are_bad(answer, tmp_path):
    write(tmp_path / "new.csv", [*quakes()[:3], '2024,91,0,3,5,mb,"x"'], HEADER)
    error = answer("--score=new.csv", "--out=scored.csv")
    assert "line 5: latitude 91 is outside [-90, 90]" in error
    assert "--skip_bad" in error
    with pytest.warns(UserWarning, match="1 of 4 rows are bad and left out"):
        assert answer("--score=new.csv", "--out=scored.csv", "--skip_bad") == ["3 rows in scored.csv"]
    write(tmp_path / "bare.csv", ["1,2"], "latitude,longitude")
    assert "expected one with one column 'depth'" in answer("--score=bare.csv", "--out=x.csv")
    assert "--given is not for --score" in answer("--score=new.csv", "--out=x.csv", "--given", "depth=3")


def test_samples(answer):
    assert answer("--samples=7", "--given", "depth=30", "--out=samples.csv") == ["7 samples in samples.csv"]
    found = table("samples.csv")
    assert list(found[0]) == ["latitude", "longitude", "depth"]
    assert [row["depth"] for row in found] == ["30"] * 7
    answer("--samples=1", "--given", "depth=0.001", "--out=shallow.csv")
    assert table("shallow.csv")[0]["depth"] == "0.001"  # though the model sees fewer digits
    assert len({row["latitude"] for row in found}) == 7
    assert answer("--samples=9", "--out=others.csv") == ["9 samples in others.csv"]
    depths = {row["depth"] for row in table("others.csv")}
    assert len(depths) > 1
    assert {float(depth) for depth in depths} <= {float(row.split(",")[3] or "nan") for row in quakes()}
    for given, message in (("depht=3", "found depht=3, expected depth=VALUE"), ("depth=deep", "found 'deep'")):
        assert message in answer("--samples=1", "--given", given, "--out=x.csv")
    assert "x.npz: found the suffix '.npz', expected .csv." in answer("--samples=1", "--out=x.npz")


def test_grid(answer):
    xarray = pytest.importorskip("xarray")
    assert "found no context, expected one of 1 numbers for all places, as by --given depth=VALUE" in answer(
        "--grid=30", "--out=density.nc"
    )
    lines = answer("--grid=30", "--given", "depth=30", "--out=density.nc")
    assert lines[0] == "72 cells (6 latitude x 12 longitude), log-density in nats, of a density per steradian"
    assert lines[-1] == "in density.nc"
    with xarray.open_dataset("density.nc") as found:
        assert dict(found.sizes) == {"latitude": 6, "longitude": 12}
        assert "RSGM on quakes, given depth=30" in found.attrs["title"]
    answer("--grid=30", "--given", "depth=30", "--out=density.csv")
    assert len(table("density.csv")) == 72


def test_regions(answer, monkeypatch):
    monkeypatch.setattr("rsgm.evaluation.regions._HALVINGS", 0)
    monkeypatch.setattr("rsgm.evaluation.regions._CELLS", 12)
    monkeypatch.setattr(write_regions, "__defaults__", (None, 60))
    lines = answer("--region", "0.5", "0.9", "--given", "depth=30", "--out=regions.geojson")
    assert lines[0].startswith("levels are quantiles of 60 draws of RSGM on quakes, given depth=30")
    assert [line.partition(" ±")[0] for line in lines if "±" in line] == ["50.00%", "90.00%"]
    with open("regions.geojson") as file:
        found = json.load(file)
    assert [feature["properties"]["coverage"] for feature in found["features"]] == [0.5, 0.9]
    assert found["rsgm"]["law"] == "RSGM on quakes, given depth=30"


def test_another_file(trained, monkeypatch, capsys):
    """Numbers and figures of other test points; the report says so, what rows count, and why there are no kernels."""
    write(trained / "new.csv", quakes()[:12], HEADER)
    monkeypatch.chdir(trained)
    monkeypatch.setattr(evaluate, "__defaults__", (None, 50, "cpu"))
    without_figures(monkeypatch)
    monkeypatch.setattr("rsgm.evaluation.baseline._BATCH", 60)
    monkeypatch.setattr("rsgm.evaluation.baseline._NODES", 120)
    with pytest.warns(UserWarning, match="left out"):
        assert evaluate_command(["--ckpt=runs/earth/version_0/best.ckpt", "--data.path=new.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["test part from new.csv", "means are weighted by mag"]
    (kernels,) = [line for line in lines if "kernel density" in line]
    assert re.search(r"none: \d+ contexts, the rarest with 1 training points; kernels take up to 20 with", kernels)
    found = json.loads((trained / "runs/earth/version_0/metrics.json").read_text())
    assert found["nll"]["n"] == 12
    assert found["data"]["files"] == {"test": "new.csv"}
    assert found["baselines"]["kernel_density"] is None
    assert "kernels take up to 20" in found["baselines"]["no_kernel_density"]


def test_another_file_without_that_of_training(answer, trained):
    (trained / "quakes.csv").rename(trained / "away.csv")
    try:
        error = answer("--data.path=new.csv")
    finally:
        (trained / "away.csv").rename(trained / "quakes.csv")
    assert "quakes.csv does not exist" in error
    assert "--score does without" in error


# ---- other manifolds, by laws that need no training


def fitted(data, path):
    """The checkpoint of a kernel density of data."""
    data.setup()
    model = KernelDensity(data.manifold, widths=8, min_width=0.05, iterations=50)
    model.fit_points(data.train.points, data.val.points)
    write_checkpoint(model, path, **data.record())
    return path


def test_angles(answer, tmp_path):
    """Of a trajectory: frames in time, the ends of the chain without angles."""
    rng = np.random.default_rng(1)
    lines = [f"{k // 20},{k % 20},{rng.normal(-60, 20):.2f},{rng.normal(-40, 20):.2f}" for k in range(200)]
    lines[0], lines[19] = "0,0,,131.0", "0,19,-70.0,"
    path = write(tmp_path / "rama.csv", lines, "frame,resid,phi,psi")
    data = TorusData(path=path, angles=["phi", "psi"], skip_bad=True, split="time", time="frame")
    with pytest.warns(UserWarning, match="2 of 200 rows are bad"):
        ckpt = fitted(data, tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match="2 of 200 rows are bad"):
        assert answer("--score=rama.csv", "--out=scored.csv", "--skip_bad", ckpt=ckpt) == ["198 rows in scored.csv"]
    lines = answer("--grid=20", "--out=grid.csv", ckpt=ckpt)
    assert lines[0].startswith("324 cells (18 phi x 18 psi)")
    assert float(lines[1].split()[4].strip(",")) == pytest.approx(1, abs=0.02)
    answer("--samples=5", "--seed=0", "--out=samples.csv", ckpt=ckpt)
    assert all(-180 <= float(row[name]) <= 180 for row in table("samples.csv") for name in ("phi", "psi"))


def test_poses(answer, tmp_path):
    """Quaternions under names of their own are written under these; there is no grid of six dimensions."""
    rng = np.random.default_rng(2)
    q = rng.normal((0.2, 0.1, 0.1, 1), 0.1, (80, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    rows = [",".join(f"{x:.6f}" for x in [*rng.normal(size=3), *one]) for one in q]
    path = write(tmp_path / "poses.csv", rows, "x,y,z,chest_x,chest_y,chest_z,chest_w")
    columns = {f"q{axis}": f"chest_{axis}" for axis in "wxyz"}
    ckpt = fitted(RotationData(path, columns=columns, numbers=["x", "y", "z"]), tmp_path / "p.ckpt")
    assert answer("--score=poses.csv", "--out=scored.csv", ckpt=ckpt) == ["80 rows in scored.csv"]
    answer("--samples=4", "--out=samples.csv", ckpt=ckpt)
    found = table("samples.csv")
    assert sorted(found[0]) == sorted([*columns.values(), "x", "y", "z"])
    assert sum(float(found[0][name]) ** 2 for name in columns.values()) == pytest.approx(1, abs=1e-6)
    assert "There is no grid of Product" in answer("--grid=20", "--out=grid.csv", ckpt=ckpt)
    assert "There are no polygons on Product" in answer("--region", "0.5", "--out=x.geojson", ckpt=ckpt)


def test_the_sky(answer, tmp_path):
    """Right ascension and declination are found by their names; there are no coasts, and no square kilometres."""
    rng = np.random.default_rng(3)
    rows = [f"{k},{rng.normal(100, 30):.4f},{rng.normal(-20, 20):.4f}" for k in range(100)]
    data = EarthData(path=write(tmp_path / "sky.csv", rows, "source_id,ra,dec"))
    ckpt = fitted(data, tmp_path / "s.ckpt")
    assert data.header == ("dec", "ra")
    assert not data.earth
    lat, lon = to_lat_lon(data.points()).numpy().T
    np.testing.assert_allclose(np.stack([lon, lat], 1), [[float(x) for x in row.split(",")[1:]] for row in rows])
    lines = answer("--score=sky.csv", "--out=scored.csv", ckpt=ckpt)
    assert lines == ["100 rows in scored.csv"]
    scored = torch.tensor([float(row["log_prob"]) for row in table("scored.csv")])
    torch.testing.assert_close(scored, load(ckpt).log_prob(data.points()).float(), atol=1e-4, rtol=1e-5)
    lines = answer("--grid=10", "--out=grid.csv", ckpt=ckpt)
    assert "(18 dec x 36 ra)" in lines[0]
    assert "km²" not in "".join(answer("--region", "0.5", "--out=regions.geojson", ckpt=ckpt))


def test_right_ascensions_in_hours_are_refused(tmp_path):
    path = write(tmp_path / "sky.csv", [f"{k % 24}.5,{k}" for k in range(24)], "ra,dec")
    with pytest.raises(ValueError, match=r"all right ascensions are in \[0.5, 23.5\].*may be hours"):
        EarthData(path=path).setup()
    EarthData(path=path, unit="degrees").setup()


# ---- the units of columns


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A checkpoint of a kernel density of easting and northing in metres, far from their origin, and its data."""
    folder = tmp_path_factory.mktemp("units")
    rng = np.random.default_rng(0)
    values = rng.normal([500_000.0, 5_412_345.0], [20.0, 5.0], (300, 2))
    lines = [f"{east!r},{north!r}" for east, north in values.tolist()]
    path = write(folder / "t.csv", lines, "east,north")
    data = TableData(path, numbers=["east", "north"])
    return fitted(data, folder / "m.ckpt"), data, path


def test_all_answers_are_by_the_units_of_the_columns(answer, places, tmp_path, monkeypatch):
    ckpt, data, path = places
    metrics = evaluate(ckpt, data, samples=200)
    unit = float(data.log_unit(data.test.points)[0])
    assert abs(unit + math.log(20 * 5)) < 0.3
    assert metrics["nll_per_unit"]["mean"] == pytest.approx(metrics["nll"]["mean"] - unit)
    assert metrics["resolution"] == {"standard_deviations": 0.05}
    assert "standard deviations of each column" in report(metrics)

    lines = answer("--grid", "4", "1", "--out=grid.csv", ckpt=ckpt)
    assert lines[1].startswith(("integral over the cells 0.99", "integral over the cells 1.00"))
    grid = table("grid.csv")
    assert float(grid[0]["volume"]) == pytest.approx(4 * 1)
    best = max(grid, key=lambda row: float(row["log_density"]))
    write(tmp_path / "best.csv", [f"{best['east']},{best['north']}"], "east,north")
    answer("--score=best.csv", "--out=best_scored.csv", ckpt=ckpt)
    assert float(table("best_scored.csv")[0]["log_prob"]) == pytest.approx(float(best["log_density"]), abs=1e-4)

    answer("--region", "0.5", "--out=region.geojson", ckpt=ckpt)
    (feature,) = json.loads((tmp_path / "region.geojson").read_text())["features"]
    rings = [np.array(ring) for rings in feature["geometry"]["coordinates"] for ring in rings]
    corners = [(ring[:-1] - ring[0], ring[1:] - ring[0]) for ring in rings]
    shoelace = sum((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2 for a, b in corners)
    assert feature["properties"]["area"] == pytest.approx(shoelace, rel=1e-4)
    assert feature["properties"]["log_density"] < float(best["log_density"])

    # what was scored is audited as it was written
    write(tmp_path / "test.csv", [f"{a!r},{b!r}" for a, b in data.to_units(data.test.points).tolist()], "east,north")
    answer("--score=test.csv", "--out=scored.csv", ckpt=ckpt)
    named = ["--data=TableData", f"--data.path={path}", "--data.numbers=[east,north]", "--out=a.json"]
    for given in ("--scored=scored.csv", "--grid=grid.csv"):
        assert cli.main(["audit", given, *named]) == 0
        found = json.loads(Path("a.json").read_text())
        Path("a.json").unlink()
        if found["excess_over_kernel_density"]:
            assert abs(found["excess_over_kernel_density"]["mean"]) < 0.2
        else:
            assert found["integral"]["value"] == pytest.approx(1, abs=0.01)


def test_samples_have_the_digits_that_tell_them_apart(answer, places):
    ckpt, *_ = places
    answer("--samples=50", "--out=s.csv", ckpt=ckpt)
    norths = np.array([float(row["north"]) for row in table("s.csv")])
    assert len(set(norths)) == 50
    assert 2 < norths.std() < 10
    assert len(table("s.csv")[0]["north"]) >= len("5412345.12")


def test_a_logarithm_leaves_the_other_axes_in_their_units(answer, tmp_path):
    rng = np.random.default_rng(0)
    columns = zip(rng.lognormal(3, 1, 200).tolist(), rng.normal(500, 20, 200).tolist(), strict=True)
    path = write(tmp_path / "l.csv", [f"{depth!r},{east!r}" for depth, east in columns], "depth,east")
    ckpt = fitted(TableData(path, numbers=["depth", "east"], log=["depth"]), tmp_path / "m.ckpt")
    lines = answer("--grid", "0.25", "5", "--out=grid.csv", ckpt=ckpt)
    assert re.match(r"\d+ cells \(\d+ log depth x \d+ east\)", lines[0])
    assert lines[1].startswith(("integral over the cells 0.9", "integral over the cells 1.0"))
    grid = table("grid.csv")
    easts = sorted({float(row["east"]) for row in grid})
    assert np.allclose(np.diff(easts), 5)
    # of a density by the columns' units the volume is theirs too
    first, depth = grid[0], float(grid[0]["depth"])
    assert float(first["volume"]) == pytest.approx(0.25 * depth * 5, rel=1e-6)
    answer("--region", "0.5", "--out=region.geojson", ckpt=ckpt)
    found = json.loads((tmp_path / "region.geojson").read_text())
    assert found["rsgm"]["axes"] == ["log depth", "east"]
    positions = np.array(found["features"][0]["geometry"]["coordinates"][0][0])
    assert 0 < positions[:, 0].min() < positions[:, 0].max() < 7
    assert 440 < positions[:, 1].min() < positions[:, 1].max() < 560


def test_regions_of_a_context_know_the_test_points_that_have_it(tmp_path):
    """A context of numbers reaches the model in single precision."""
    rng = np.random.default_rng(0)
    lines = [f"{x!r},{y!r},{(k % 3) / 10}" for k, (x, y) in enumerate(rng.normal(0, 1, (90, 2)).tolist())]
    data = TableData(write(tmp_path / "c.csv", lines, "x,y,depth"), numbers=["x", "y"], context=["depth"])
    data.setup()
    context = data.encode_context({"depth": ["0.2"]})[0].float()
    assert len(_test_points(data, context)) == int((data.test.context == data.test.context.max()).sum()) > 0
