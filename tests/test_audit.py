"""Audits: what is found out about a law that is right, baselines, models, a flawed likelihood, and samples alone."""

import csv
import json
import math
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rsgm
from rsgm import RSGM, Euclidean, KernelDensity, LawData, PointsData, Sphere, Torus
from rsgm.cli import evaluate_command, main
from rsgm.data import TableData
from rsgm.distributions import PolarVonMisesFisher, RandomVonMisesFisherMixture
from rsgm.evaluation import load_data
from rsgm.evaluation.claims import claims
from rsgm.metrics import compare_points, summary
from rsgm.models import read_checkpoint, write_checkpoint
from rsgm.networks import MLP
from rsgm.processes import Brownian
from rsgm.schedules import LinearBeta
from rsgm.seeding import generator_from

LAW = PolarVonMisesFisher(concentration=5.0)
SIZES = {"train_size": 60, "val_size": 20, "test_size": 30}


@pytest.fixture(scope="module")
def data():
    """As many points as decide, and twins among them."""
    x = LAW.draw(400, generator_from("points"))
    found = PointsData(Sphere(2), torch.cat([x, x[:60]]))
    found.setup()
    return found


def fresh(n, law=LAW):
    return law.draw(n, generator_from("fresh"))


def said(found, verdict, *words):
    """The sentences of a verdict that have all these words."""
    texts = [claim["text"] for claim in found.findings["claims"] if claim["verdict"] == verdict]
    return [text for text in texts if all(word in text for word in words)]


# ---- five cases


def test_an_exact_law(data):
    found = rsgm.audit(log_prob=LAW.log_prob, sample=fresh, data=data)
    numbers = found.findings
    assert numbers["integral"]["value"] == pytest.approx(1, abs=1e-3)
    assert numbers["integral"]["measured"]
    nll, places, twins = -LAW.log_prob(data.test.points), data.test_places(), data.twins()
    assert numbers["nll"] == pytest.approx(summary(nll, places))
    assert 0 < numbers["twin_share"] == twins.double().mean() < 1
    assert numbers["nll_without_twins"] == pytest.approx(summary(nll[~twins], places[~twins]))
    assert numbers["sample_nll"] == pytest.approx(summary(-LAW.log_prob(fresh(2000))))
    kde = KernelDensity(Sphere(2))
    kde.fit_points(data.train.points, data.val.points)
    excess = nll + kde.log_prob(data.test.points)
    assert numbers["excess_over_kernel_density"] == pytest.approx(summary(excess, places))
    assert numbers["calibration"]["p_value"] > 0.01
    assert said(found, "yes", "integrates to one")
    assert said(found, "yes", "as likely as test points")
    assert said(found, "yes", "It is calibrated")
    assert said(found, "yes", "near to the test points as fresh data", "MMD", "W2")
    assert said(found, "no", "are also training rows", f"{100 * numbers['twin_share']:.1f} %")
    assert not said(found, "no", "likely") + said(found, "no", "like fresh data") + said(found, "no", "A likelihood")
    assert json.loads(json.dumps(numbers)) == numbers


def test_a_kernel_density(data):
    """Against itself: nothing is gained."""
    kde = KernelDensity(Sphere(2))
    kde.fit_points(data.train.points, data.val.points)
    found = rsgm.audit(kde, data=data, samples=300)
    assert found.findings["of"] == "KernelDensity"
    assert found.findings["excess_over_kernel_density"]["mean"] == pytest.approx(0, abs=1e-9)
    assert said(found, "open", "An advantage over a kernel density")
    assert said(found, "yes", "smallest scale", "0.00573 degrees")
    assert not said(found, "no", "A likelihood")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a small model and the data that it names."""
    torch.manual_seed(0)
    process = partial(Brownian, schedule=LinearBeta(beta_1=5.0))
    model, data = RSGM(Sphere(2), process, partial(MLP, hidden=[8])), LawData(LAW, **SIZES)
    path = tmp_path_factory.mktemp("audited") / "model.ckpt"
    write_checkpoint(model, path, seed=0, training=None, data=data.description(), fingerprint=data.fingerprint)
    return path


def test_a_model_by_the_command(checkpoint, tmp_path, capsys):
    out = tmp_path / "found.json"
    assert main(["audit", f"--ckpt={checkpoint}", f"--out={out}"]) == 0
    found, model, data = json.loads(out.read_text()), rsgm.load(checkpoint), load_data(read_checkpoint(checkpoint))
    assert found["nll"] == pytest.approx(summary(-model.log_prob(data.test.points)))
    assert found["resolution"]["radians"] == pytest.approx(model.resolution())
    x = Sphere(2).projx(model.sample(2000, seed=0).double())
    assert found["sample_nll"] == pytest.approx(summary(-model.rough().log_prob(x)))
    kde = KernelDensity(Sphere(2))
    kde.fit_points(data.train.points, data.val.points)
    others = {"kernel_density": kde.sample(2000, seed=0)}
    assert found["sample_metrics"] == compare_points(Sphere(2), x, data.test.points, data.fresh_points, others)
    integral = found["integral"]
    assert integral["value"] == pytest.approx(1, abs=max(0.01, 3 * integral["standard_error"]))
    printed = capsys.readouterr().out
    assert printed.startswith("Audit of RSGM on Sphere(dim=2)\nPolarVonMisesFisher: 110 rows")
    assert "integral of the density" in printed
    assert "What may be claimed" in printed
    assert main(["audit", f"--ckpt={checkpoint}", f"--out={out}"]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err


class Flow(nn.Module):
    """A field of a small network on the sphere, from the uniform law at time 0, and its likelihood in one of two ways.

    The network and the tangent projection see the point as the solver has it. Its ambient trace is the divergence only
    if that point was projected on the sphere before: otherwise it is less by twice the normal part of the network, on
    which no loss depends. The solver's points are on the sphere up to its error: what is wrong is the derivative.
    """

    def __init__(self, projected):
        super().__init__()
        self.projected = projected
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)).double()

    def forward(self, t, x):
        x = x / x.norm() if self.projected else x
        f = self.network(torch.cat([x, t[None]]))
        return 2 * (f - (x @ f) * x)

    def solve(self, x, start, steps=4):
        """Runge and Kutta's method from a time to the other end, and the integral of the trace."""
        h, total = (1 - 2 * start) / steps, torch.zeros(len(x), dtype=torch.float64)

        def both(t, x):
            t = torch.full((len(x),), t, dtype=torch.float64)
            trace = torch.func.vmap(lambda t, x: torch.func.jacfwd(self, 1)(t, x).trace())(t, x)
            return torch.func.vmap(self)(t, x), trace

        with torch.no_grad():
            for k in range(steps):
                t = start + k * h
                v1, d1 = both(t, x)
                v2, d2 = both(t + h / 2, x + h / 2 * v1)
                v3, d3 = both(t + h / 2, x + h / 2 * v2)
                v4, d4 = both(t + h, x + h * v3)
                x, total = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4), total + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
        return x, total

    def log_prob(self, x):
        return -math.log(4 * math.pi) + self.solve(x, 1.0)[1]

    def sample(self, n):
        x = Sphere(2).random_uniform(n, 3, generator=generator_from("uniform"), dtype=torch.float64)
        return Sphere(2).projx(self.solve(x, 0.0)[0])


def test_a_flawed_likelihood():
    """An ambient trace at a point that was not projected: found by its integral; with the projection there is no fault.

    Its samples are as they should be, and as likely as test points: nothing else tells.
    """
    right, flawed = Flow(True), Flow(False)
    x = right.sample(300)
    np.testing.assert_allclose(flawed.sample(300), x, atol=1e-3)
    found = rsgm.audit(log_prob=right.log_prob, sample=right.sample, manifold=Sphere(2), samples=200)
    assert found.findings["integral"]["value"] == pytest.approx(1, abs=1e-3)
    assert said(found, "yes", "integrates to one")
    found = rsgm.audit(log_prob=flawed.log_prob, sample=flawed.sample, data=PointsData(Sphere(2), x), samples=200)
    integral = found.findings["integral"]
    assert integral["measured"]
    assert abs(integral["value"] - 1) > 0.1
    (text,) = said(found, "no", "A likelihood: the integral is", "may not be compared")
    nll = found.findings["nll"]["mean"]
    assert f"it has {nll + math.log(integral['value']):.3f} nats in the place of {nll:.3f}" in text
    assert not said(found, "yes", "integrates to one")
    assert said(found, "yes", "as likely as test points")
    assert "What may not be claimed\n- A likelihood" in found.text


def test_samples_alone(data):
    good = rsgm.audit(sample=fresh(300), data=data)
    assert good.findings["nll"] is good.findings["integral"] is good.findings["sample_nll"] is None
    assert said(good, "yes", "near to the test points as fresh data")
    assert said(good, "open", "no density was given")
    bad = rsgm.audit(sample=-fresh(300), data=data)
    assert said(bad, "no", "like fresh data", "MMD", "1-NN accuracy", "coverage", "W2")
    leaked = rsgm.audit(sample=data.test.points, data=data)
    assert said(leaked, "no", "they may repeat test points")


# ---- further findings


@pytest.mark.parametrize(
    "nats, verdict", [(0.005, "yes"), (0.03, "open"), (-0.03, "open"), (0.06, "no"), (-0.06, "no")]
)
def test_how_far_from_one_an_integral_may_be(nats, verdict):
    found = rsgm.audit(log_prob=lambda x: LAW.log_prob(x) + nats, sample=lambda n: fresh(300), manifold=Sphere(2))
    # this error is an estimate that is too large
    assert found.findings["integral"]["value"] == pytest.approx(math.exp(nats), abs=1e-3)
    found = found.findings | {"integral": found.findings["integral"] | {"standard_error": 1e-3}}
    (claim,) = [claim for claim in claims(found) if "integra" in claim["text"]]
    assert claim["verdict"] == verdict
    assert (f"{abs(nats):.3f} nats" in claim["text"]) == (verdict == "open")


def test_a_law_of_another_mass(data):
    """Its value is that of the law, and the comparison with baselines is that of the law."""
    found = rsgm.audit(log_prob=lambda x: LAW.log_prob(x) + 1, sample=fresh, data=data)
    assert found.findings["integral"]["value"] == pytest.approx(math.e, rel=1e-3)
    assert said(found, "no", "A likelihood", f"{found.findings['nll']['mean'] + 1:.3f} nats in the place of")

    def advantage(found):
        (claim,) = [c for c in found.findings["claims"] if "over a kernel" in c["text"] or "better than" in c["text"]]
        return claim["verdict"], re.search(r"by (\S+) ±", claim["text"])[1]

    assert advantage(found) == advantage(rsgm.audit(log_prob=LAW.log_prob, data=data))


@pytest.mark.parametrize("concentration, words", [(20.0, "more likely"), (1.5, "less likely")])
def test_a_sampler_of_another_law(concentration, words, data):
    other = PolarVonMisesFisher(concentration=concentration)
    found = rsgm.audit(log_prob=LAW.log_prob, sample=lambda n: fresh(n, other), data=data)
    assert said(found, "no", "as likely as test points", words)
    assert said(found, "no", "Calibration")
    assert said(found, "no", "like fresh data")


@pytest.mark.parametrize("concentration", [30.0, 0.5])
def test_a_density_of_another_width_than_the_data(concentration, data):
    other = PolarVonMisesFisher(concentration=concentration)
    found = rsgm.audit(log_prob=other.log_prob, sample=lambda n: fresh(n, other), data=data)
    assert said(found, "yes", "integrates to one")
    assert said(found, "no", "Calibration")
    assert said(found, "no", "An advantage over a kernel density")
    assert bool(said(found, "no", "That anything was learned")) == (concentration == 30.0)


def test_calibration_is_uniform_for_the_right_law():
    """The p-values of forty audits of an exact law are those of a uniform law: none is rejected too often."""
    values = []
    for k in range(40):
        x = LAW.draw(100, generator_from("test", k))
        scored = (x, LAW.log_prob(x))
        y = LAW.draw(300, generator_from("samples", k))
        found = rsgm.audit(scored=scored, sample=(y, LAW.log_prob(y)), manifold=Sphere(2)).findings
        values.append(found["calibration"]["p_value"])
    assert 0.3 < np.mean(values) < 0.75
    assert np.min(values) > 0.001


def test_rows_of_one_place_count_once():
    x = LAW.draw(20, generator_from("a"))
    y = LAW.draw(500, generator_from("b"))
    sample = (y, LAW.log_prob(y))
    once, thrice = (
        rsgm.audit(scored=(rows, LAW.log_prob(rows)), sample=sample, manifold=Sphere(2)).findings
        for rows in (x, x.repeat(3, 1))
    )
    assert thrice["calibration"] == pytest.approx(once["calibration"])
    assert thrice["nll"] == pytest.approx(once["nll"] | {"n": 60})


def test_a_density_alone():
    """Without samples: quadrature where it resolves the density, else nothing."""
    found = rsgm.audit(log_prob=LAW.log_prob, manifold=Sphere(2))
    assert found.findings["integral"]["value"] == pytest.approx(1, abs=1e-3)
    assert [c["verdict"] for c in found.findings["claims"]] == ["yes"]
    # a peak that no node has seen is no proof of a missing mass
    narrow = PolarVonMisesFisher(concentration=1e4)
    found = rsgm.audit(log_prob=narrow.log_prob, manifold=Sphere(2))
    assert found.findings["integral"]["value"] < 0.1
    assert said(found, "open", "give samples, which show them")
    assert not said(found, "no")
    found = rsgm.audit(log_prob=narrow.log_prob, sample=lambda n: fresh(n, narrow), manifold=Sphere(2))
    assert found.findings["integral"]["value"] == pytest.approx(1, abs=0.03)
    # too much mass is one
    found = rsgm.audit(log_prob=lambda x: LAW.log_prob(x) + 0.2, manifold=Sphere(2))
    assert said(found, "no", "A likelihood")


def test_flat_space_needs_samples():
    log_prob, sample = torch.distributions.Normal(0.0, 1.0), lambda n: torch.randn(n, 2, generator=generator_from("x"))
    alone = rsgm.audit(log_prob=lambda x: log_prob.log_prob(x).sum(1), manifold=Euclidean(2))
    assert alone.findings["integral"] is None
    found = rsgm.audit(log_prob=lambda x: log_prob.log_prob(x).sum(1), sample=sample, manifold=Euclidean(2))
    integral = found.findings["integral"]
    assert integral["value"] == pytest.approx(1, abs=3 * integral["standard_error"])
    assert integral["standard_error"] < 0.02


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_points_say_little(n):
    """One has no standard error, and of two or three Student's law knows how little it says."""
    wrong = 0
    for seed in range(20):
        x = LAW.draw(n + 20, torch.Generator().manual_seed(seed))
        scored = x[:n], LAW.log_prob(x[:n])
        found = rsgm.audit(scored=scored, sample=(x[n:], LAW.log_prob(x[n:])), manifold=Sphere(2))
        wrong += len(said(found, "no", "likely")) + len(said(found, "no", "alibration"))
        assert not said(found, "yes", "calibrated")
        assert bool(said(found, "open", "one alone says nothing")) == (n == 1)
    assert wrong <= 5  # without Student's law half of them, and all of one


def test_a_flat_density_is_as_likely_everywhere():
    sphere = Sphere(2)
    x, y = (sphere.random_uniform(400, 3, generator=generator_from("flat", k)) for k in range(2))
    found = rsgm.audit(log_prob=lambda x: x.new_full((len(x),), -sphere.log_volume), sample=x, data=y, manifold=sphere)
    assert said(found, "yes", "Samples are as likely")


def test_what_has_not_been_measured_is_not_what_was_not_given():
    sphere = Sphere(5)
    found = rsgm.audit(log_prob=lambda x: x.new_full((len(x),), -sphere.log_volume), manifold=sphere)
    assert said(found, "open", "integrates to one", "with samples")
    found = rsgm.audit(
        log_prob=lambda x: x.new_full((len(x),), -sphere.log_volume),
        sample=sphere.random_uniform(3, 6),
        manifold=sphere,
    )
    assert said(found, "open", "integrates to one", "dozens")
    with pytest.raises(TypeError, match=r"functions are log_prob= and sample=, .* expected an instance of Generative"):
        rsgm.audit(LAW.log_prob, manifold=Sphere(2))
    for value, words in ((None, "found NoneType, expected"), (torch.zeros(320) * 1j, "found complex numbers")):
        with pytest.raises(ValueError, match=words):
            rsgm.audit(log_prob=lambda x, value=value: value, manifold=Sphere(2))


# ---- tables


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_scored_rows_and_samples_of_others(tmp_path, monkeypatch, capsys):
    """In degrees, with the digits of a table: twins are found, and the integral is not guessed."""
    monkeypatch.chdir(tmp_path)
    earth = PointsData.from_lat_lon(*np.random.default_rng(0).uniform(-80, 80, (2, 200)))
    earth.setup()
    places = write(tmp_path / "places.csv", earth.header, earth.to_units(earth.points()))
    named = ["--data=EarthData", f"--data.path={places}"]
    read = rsgm.EarthData(path=str(places))
    read.setup()
    x = torch.cat([read.test.points, read.train.points[:7]])
    log_p = -3.0 + torch.arange(len(x)) / 100

    def rows(points, *columns):
        numbers = (torch.stack(columns, 1).tolist()) if columns else [[]] * len(points)
        return [[f"{v:.7g}" for v in [*u, *c]] for u, c in zip(read.to_units(points), numbers, strict=True)]

    scored = write(tmp_path / "scored.csv", ["lat", "lon", "log_prob"], rows(x, log_p))
    samples = write(tmp_path / "samples.csv", ["lat", "lon"], rows(Sphere(2).random_uniform(50, 3)))
    assert main(["audit", f"--scored={scored}", f"--samples={samples}", *named, "--out=o.json"]) == 0
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["twin_share"] == pytest.approx(7 / len(x))
    assert found["nll"]["mean"] == pytest.approx(-float(log_p.mean()), rel=1e-6)
    assert found["integral"] is found["sample_nll"] is None
    assert found["sample_metrics"]["n"] == 20
    assert "log-densities of single points do not tell" in " ".join(capsys.readouterr().out.split())

    nodes, volume = Sphere(2).grid(2000)
    log_p = LAW.log_prob(nodes)
    grid = write(tmp_path / "grid.csv", ["volume", "lon", "lat", "log_prob"], [])
    with grid.open("a", newline="") as file:
        columns = zip(read.to_units(nodes), log_p.tolist(), volume.tolist(), strict=True)
        csv.writer(file).writerows([v, lon, lat, p] for (lat, lon), p, v in columns)
    with_density = write(tmp_path / "drawn.csv", ["lat", "lon", "log_prob"], rows(nodes[:50], log_p[:50]))
    assert main(["audit", f"--grid={grid}", f"--samples={with_density}", *named, "--out=p.json"]) == 0
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["integral"]["value"] == pytest.approx(1, abs=1e-6)
    assert found["integral"]["share_of_volume"] == pytest.approx(1)
    assert found["sample_nll"]["mean"] == pytest.approx(-float(log_p[:50].mean()), rel=1e-5)
    assert "misses what lies between" in capsys.readouterr().out


def test_points_all_over_that_are_not_all():
    nodes, volume = Sphere(2).grid(2000)
    half = nodes[:, 2] > 0
    found = rsgm.audit(grid=(nodes[half], LAW.log_prob(nodes)[half], volume[half]), manifold=Sphere(2))
    share = float(volume[half].sum()) / (4 * math.pi)
    assert said(found, "open", f"add up to {share:.3f} of the manifold's")
    assert not said(found, "yes") + said(found, "no")


def test_samples_of_a_checkpoint_are_read_as_they_were_written(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("law.yaml").write_text(
        "seed_everything: 0\nmodel: {class_path: RSGM}\ndata:\n  class_path: LawData\n  init_args:\n"
        "    law: {class_path: PolarVonMisesFisher, init_args: {concentration: 5.0}}\n"
        + "".join(f"    {key}: {value}\n" for key, value in SIZES.items())
    )
    assert evaluate_command([f"--ckpt={checkpoint}", "--samples=40", "--out=drawn.csv", "--seed=0"]) == 0
    assert main(["audit", "--samples=drawn.csv", "--config=law.yaml", "--out=drawn.json"]) == 0
    assert "Audit of samples" in capsys.readouterr().out
    found, data = json.loads(Path("drawn.json").read_text()), load_data(read_checkpoint(checkpoint))
    x = rsgm.load(checkpoint).sample(40, seed=0)
    expected = compare_points(data.manifold, x, data.test.points, data.fresh_points)
    assert found["sample_metrics"]["w2"]["value"] == pytest.approx(expected["w2"]["value"], rel=1e-5)
    # the command line has the last word
    assert main(["audit", "--samples=drawn.csv", "--config=law.yaml", "--data.seed=5", "--out=again.json"]) == 0
    assert json.loads(Path("again.json").read_text())["data"]["split"]["seed"] == 5


# ---- what is no question

WRONG = {
    "nothing to examine, expected one of model, log_prob": {"manifold": Sphere(2)},
    "found model and log_prob": {"model": KernelDensity(Sphere(2)), "log_prob": LAW.log_prob},
    "found log_prob and scored": {"log_prob": LAW.log_prob, "scored": (torch.eye(3), torch.zeros(3))},
    "where do the points live": {"log_prob": LAW.log_prob},
    r"points on Sphere\(dim=2\) and on Torus\(dim=2\)": {"model": KernelDensity(Sphere(2)), "manifold": Torus(2)},
    r"sample: PointsData: found points of shape \(5, 2\)": {"sample": torch.zeros(5, 2), "manifold": Sphere(2)},
    "sample: PointsData: row 0 .* is not on Sphere": {"sample": torch.zeros(5, 3), "manifold": Sphere(2)},
    r"scored: found numbers of shape \(2,\) for 3 points": {
        "scored": (torch.eye(3), torch.zeros(2)),
        "manifold": Sphere(2),
    },
    r"log_prob: found numbers of shape \(\d+, 1\) for \d+ points": {
        "log_prob": lambda x: x[:, :1],
        "manifold": Sphere(2),
    },
    r"log_prob: \d+ of \d+ numbers are NaN": {"log_prob": lambda x: x[:, 0] * math.nan, "manifold": Sphere(2)},
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_no_question_is_answered_in_a_sentence(words):
    with pytest.raises(ValueError, match=words):
        rsgm.audit(**WRONG[words])


def test_contexts_are_given_to_models_alone():
    conditional = LawData(RandomVonMisesFisherMixture(), conditional=True, train_size=20, val_size=5, test_size=40)
    with pytest.raises(ValueError, match="contexts, which only a model is given"):
        rsgm.audit(log_prob=conditional.law.log_prob, data=conditional)


@pytest.mark.parametrize(
    "args, words",
    [
        ([], "expected --ckpt; or --scored"),
        (["--samples=x.csv"], "expected --ckpt"),
        (["--samples=x.csv", "--data=LawData"], "x.csv cannot be read"),
        (["--samples=x.csv", "--data=LawDat"], "did you mean 'LawData'"),
        (["--ckpt=a.ckpt", "--data=LawData"], "--ckpt is examined alone"),
        (["--ckpt=a.ckpt"], "a.ckpt"),
        (["--sampels=x.csv"], "unknown key 'sampels'"),
    ],
)
def test_commands_that_cannot_be_used(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rsgm"])
    assert main(["audit", *args]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rsgm audit: ")
    assert words in line


def test_a_table_without_log_densities(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.csv", ["x0", "x1", "x2"], torch.eye(3).tolist())
    assert main(["audit", "--scored=x.csv", "--data=LawData"]) == 1
    assert "found no column log_prob beside x0, x1, x2" in capsys.readouterr().err


def test_means_are_weighted_as_those_of_an_evaluation(tmp_path):
    """Of test points that count: the mean with a weight of two is that of the row twice."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=200), rng.integers(0, 3, 200)
    path = tmp_path / "weighted.csv"
    path.write_text("x,w\n" + "".join(f"{a:.5f},{b}\n" for a, b in zip(x, weight, strict=True)))
    data = TableData(path=str(path), numbers=["x"], weight="w")
    found = rsgm.audit(log_prob=lambda y: -(y[:, 0] ** 2) / 2 - math.log(2 * math.pi) / 2, data=data).findings
    nll = data.test.points[:, 0].double() ** 2 / 2 + math.log(2 * math.pi) / 2
    assert found["nll"]["mean"] == pytest.approx(float(nll.repeat_interleave(data.part_weights("test").long()).mean()))


def test_an_exact_law_of_weighted_rows(tmp_path):
    """Rows drawn wider than the law, with weights that make up for it: nothing speaks against the law."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(4000, generator=generator, dtype=torch.float64)
    path = tmp_path / "weighted.csv"
    path.write_text("x,w\n" + "".join(f"{a:.9f},{math.exp(-0.375 * a * a):.9f}\n" for a in x.tolist()))
    data = TableData(path=str(path), numbers=["x"], weight="w")
    data.setup()
    zero, one = data.to_units(torch.tensor([[0.0], [1.0]]))[:, 0]
    law = torch.distributions.Normal(-zero / (one - zero), 1 / (one - zero))
    draws = law.mean + law.stddev * torch.randn(2000, 1, generator=generator, dtype=torch.float64)
    found = rsgm.audit(log_prob=lambda y: law.log_prob(y)[:, 0], sample=draws, data=data).findings
    assert found["calibration"]["p_value"] > 0.01
    for row in ("mmd", "nearest_neighbour_accuracy", "coverage", "w2"):
        metric = found["sample_metrics"][row]
        assert abs(metric["value"] - metric["floor"]) < 4 * metric["floor_sd"]


def test_a_density_without_bounds_has_no_width():
    x = torch.eye(3, dtype=torch.float64)
    found = rsgm.audit(scored=(x, torch.full((3,), -1500.0)), manifold=Sphere(2)).findings
    assert found["peak_width"] == math.inf


@pytest.mark.parametrize("volume", [-1.0, -math.inf])
def test_volumes_of_a_grid_are_not_negative(volume):
    x, zeros = torch.eye(3, dtype=torch.float64), torch.zeros(3)
    with pytest.raises(ValueError, match="grid: volumes: 1 of 3 are negative or infinite"):
        rsgm.audit(grid=(x, zeros, torch.tensor([1.0, volume, 1.0])), manifold=Sphere(2))
