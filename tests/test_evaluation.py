"""From a checkpoint to ``metrics.json``: complete, repeatable, and of the averaged weights."""

import io
import json
import math
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse

import rsgm
from conftest import variants
from rsgm import plots
from rsgm.cli import evaluate_command
from rsgm.data import DigitsData, LawData, ManifoldData, PointsData, Split
from rsgm.distributions import GaussianMixture, RandomVonMisesFisherMixture
from rsgm.evaluation import evaluate, load_data, report, score
from rsgm.evaluation.figures import draw, sample_figure, sample_like
from rsgm.likelihood import LogProb, SolveError
from rsgm.manifolds import Euclidean, Manifold, Sphere, Torus
from rsgm.metrics import compare_points, summary
from rsgm.models import RSGM, CheckpointError, GenerativeModel, KernelDensity, read_checkpoint
from rsgm.seeding import generator_from
from rsgm.training import DensityFigure, SampleFigure, Training
from tiny import (
    EARTH,
    METRICS,
    best,
    compose,
    enter,
    metrics,
    points,
    printed_nll,
    run,
    same,
    weights,
    without_figures,
)

SUMMARY = {"mean", "standard_error", "median", "n", "places"}
#: what every metrics.json says, and of what it is made
KEYS = {
    "model": str,
    "parameters": int,
    "steps": int,
    "seed": int,
    "manifold": str,
    "data": {"name", "source", "sha256", "rows", "distinct_rows"},
    "split": {"protocol", "seed", "sizes", "val_points", "twin_share"},
    "training_points": {"model", "kernel_density"},
    "nll": SUMMARY,
    "nll_without_twins": SUMMARY,
    "sample_nll": SUMMARY,
    "normalisation": float,
    "normalisation_error": float,
    "normalisation_method": str,
    "nfe": float,
    "solver": {"method", "tolerance", "dtype"},
    "resolution": {"radians", "degrees"},
    "baselines": {"uniform", "kernel_density"},
    "sample_metrics": {"n", "sets", "mmd", "squared_mmd", "nearest_neighbour_accuracy", "coverage", "w2"},
    "latents": dict,
    "seconds": {"training", "evaluation"},
    "peak_memory_mb": float,
    "versions": {"python", "rsgm", "torch", "pytorch_lightning", "torchdiffeq", "geoopt", "numpy", "git"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    return enter(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run on places of which some occur twice, to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        folder = enter(tmp_path_factory.mktemp("evaluated"), patch)
        without_figures(patch)
        path = points(folder)
        header, *rows = path.read_text().split("\n")
        path.write_text("\n".join([header, *rows, *rows[:20]]))
        assert run(*EARTH, f"--data.path={path}", "--trainer.max_steps=5", "--data.dequantize_deg=0.1") == 0
    return folder


@pytest.fixture
def path(trained, folder):
    """A copy of the checkpoint, alone in a folder."""
    copy = folder / "copy.ckpt"
    copy.write_bytes((trained / best()).read_bytes())
    return copy


# ---- what metrics.json says


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_there(key, trained):
    found = json.loads((trained / METRICS).read_text())
    kind = KEYS[key]
    if isinstance(kind, set):
        assert kind <= found[key].keys()
    else:
        assert type(found[key]) is kind


def test_values_are_those_of_the_parts(trained):
    found = json.loads((trained / METRICS).read_text())
    checkpoint = read_checkpoint(trained / best())
    model, data = rsgm.load(trained / best()), load_data(checkpoint)
    assert found["model"] == "rsgm.RSGM"
    assert found["parameters"] == sum(p.numel() for p in model.parameters()) == 403
    assert (found["steps"], found["seed"]) == (5, 0)
    assert "Sphere(dim=2)" in found["manifold"]
    source = found["data"]
    assert (source["name"], source["source"]) == ("points", str(trained / "points.csv"))
    assert re.fullmatch("[0-9a-f]{64}", source["sha256"])
    assert (source["rows"], source["distinct_rows"], source["dequantize_deg"]) == (60, 40, 0.1)

    split, twins = found["split"], data.twins()
    assert split["sizes"] == {"train": 48, "val": 6, "test": 6}
    assert split["twin_share"] == twins.double().mean().item()
    assert 0 < twins.sum() < 6
    assert found["nll"]["n"] == 6
    assert found["nll_without_twins"]["n"] == 6 - twins.sum()
    nll = -model.log_prob(data.test.points)
    places = data.test_places()
    assert found["nll"] == pytest.approx(summary(nll, places))
    assert found["nll_without_twins"] == pytest.approx(summary(nll[~twins], places[~twins]))
    assert found["training_points"] == {"model": 48, "kernel_density": 48}
    assert found["normalisation"] == pytest.approx(1, abs=0.01)

    assert found["nfe"] == model.likelihood(data.test.points).nfe >= 7
    assert found["solver"] == {
        "method": "dopri5",
        "tolerance": 1e-5,
        "dtype": "mixed",
        "divergence": "Exact divergence",
    }
    finest = model.process.schedule.integral(torch.tensor(model.process.eps, dtype=torch.float64)).sqrt().item()
    assert found["resolution"]["radians"] == pytest.approx(finest)
    assert found["resolution"]["degrees"] == pytest.approx(math.degrees(finest))

    assert found["baselines"]["uniform"] == pytest.approx(math.log(4 * math.pi))
    assert found["perfect_model"] is None
    for part in ("training", "evaluation"):
        assert found["seconds"][part]["wall"] > 0
        assert found["seconds"][part]["cpu"] > 0
    assert found["peak_memory_mb"] > 50
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["rsgm"] == rsgm.__version__
    assert found["versions"]["git"] is None or re.fullmatch("[0-9a-f]{40}", found["versions"]["git"])


def test_kernel_density_row_is_fitted_on_the_same_split(trained):
    row = json.loads((trained / METRICS).read_text())["baselines"]["kernel_density"]
    data = load_data(read_checkpoint(trained / best()))
    kde = KernelDensity(data.manifold)
    kde.fit_points(data.train.points, data.val.points)
    nll = -kde.log_prob(data.test.points)
    twins, places = data.twins(), data.test_places()
    assert row["nll"] == pytest.approx(summary(nll, places))
    assert row["nll_without_twins"] == pytest.approx(summary(nll[~twins], places[~twins]))
    assert row["min_width_radians"] == 1e-4
    # points that are known in advance are cheap: a leak between the splits would show here
    assert row["nll"]["mean"] < row["nll_without_twins"]["mean"]


def test_standard_errors_count_places(path):
    """Three rows of each place say no more than one."""
    x = Sphere(2).random_uniform(30, 3, generator=generator_from("places"), dtype=torch.float64)
    data = PointsData(Sphere(2), x.repeat(3, 1), split="location")
    found = evaluate(path, data)
    once = data.test.points.unique(dim=0)
    assert 3 * len(once) == len(data.test.points)
    kde = KernelDensity(data.manifold)
    kde.fit_points(data.train.points, data.val.points)
    for row, model in ((found, rsgm.load(path)), (found["baselines"]["kernel_density"], kde)):
        expected = summary(-model.log_prob(once)) | {"n": 3 * len(once)}
        assert row["nll"] == pytest.approx(expected)
        assert row["nll_without_twins"] == pytest.approx(expected)
    assert f"({3 * len(once)} points of {len(once)} places)" in report(found)


def test_points_of_training_are_counted(folder, capsys):
    """A stream of fresh points shows a network more than the kernel density beside it sees."""
    assert run("--trainer.max_steps=3", "--trainer.accumulate_grad_batches=2") == 0
    data = load_data(read_checkpoint(best()))
    fixed = len(data.train.points)
    assert metrics()["training_points"] == {"model": 3 * 2 * data.batch_size, "kernel_density": fixed}
    assert (
        f"unequal data: trained on {6 * data.batch_size} points, the kernel density on {fixed}"
        in capsys.readouterr().out
    )

    assert run("--trainer.max_steps=3", "--data.fresh=false", "--name=fair") == 0
    path = folder / "runs/fair/version_0/metrics.json"
    assert json.loads(path.read_text())["training_points"] == {"model": fixed, "kernel_density": fixed}
    assert "unequal data" not in capsys.readouterr().out


def test_perfect_model_stands_beside_a_known_law(folder):
    assert run("--trainer.max_steps=1") == 0
    data = load_data(read_checkpoint(best()))
    assert metrics()["perfect_model"] == pytest.approx(summary(-data.law.log_prob(data.test.points)))


def test_samples_stand_beside_fresh_data_and_the_kernel_density(trained):
    """Of the samples that were scored, and of as many of a kernel density, which repeats the training points."""
    found = json.loads((trained / METRICS).read_text())["sample_metrics"]
    model, data = rsgm.load(trained / best()), load_data(read_checkpoint(trained / best()))
    kde = KernelDensity(data.manifold)
    kde.fit_points(data.train.points, data.val.points)
    x, others = model.sample(2000, seed=0), {"kernel_density": kde.sample(2000, seed=0)}
    again = compare_points(data.manifold, x, data.test.points, data.fresh_points, others)
    for name, value in again.items():
        # those that were scored are the same points in double precision
        assert found[name] == (pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, dict) else value)
    assert (found["n"], found["sets"]) == (6, {"samples": 10, "fresh": 10})
    assert found["w2"].keys() == {"value", "floor", "floor_sd", "kernel_density"}


def test_json_is_what_is_returned_and_printed(path, capsys):
    found = evaluate(path)
    written = json.loads((path.parent / "metrics.json").read_text())
    assert written == json.loads(json.dumps(found))
    assert found["checkpoint"] == "copy.ckpt"
    lines = report(found).splitlines()
    for key, name in (("nll", "test NLL (nats)"), ("nll_without_twins", "  without twins")):
        (line,) = [line for line in lines if line.startswith(name)]
        value, error = found[key]["mean"], found[key]["standard_error"]
        assert re.search(
            rf"{value:.10f} ± {error:.4f}  \({found[key]['n']} points( of {found[key]['places']} places)?\)$", line
        )
    row = found["sample_metrics"]["w2"]
    assert f"W2 {row['value']:.3f} ({row['floor']:.3f})" in report(found)
    for words in ("60 rows, 40 distinct", "points.csv", "split random, seed 0", "kernel density", "uniform", "degrees"):
        assert words in "\n".join(lines)
    assert printed_nll(report(found)) == pytest.approx(found["nll"]["mean"], abs=1e-9)
    assert capsys.readouterr().out == ""


# ---- one function, and no number without a finite one


def test_nll_and_integral_come_from_the_same_function(path, monkeypatch):
    """What the likelihood says too much, the integral says too much."""
    likelihood = RSGM.likelihood
    before = evaluate(path)

    def too_much(self, x, context=None):
        found = likelihood(self, x, context)
        return found._replace(value=found.value + math.log(2))

    monkeypatch.setattr(RSGM, "likelihood", too_much)
    after = evaluate(path)
    assert after["nll"]["mean"] == pytest.approx(before["nll"]["mean"] - math.log(2))
    assert after["normalisation"] == pytest.approx(2 * before["normalisation"], rel=1e-3)
    assert after["baselines"] == before["baselines"]


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_density_that_is_not_finite_is_an_error_with_a_count(bad, path, monkeypatch):
    likelihood = RSGM.likelihood

    def broken(self, x, context=None):
        value = likelihood(self, x, context).value
        value[:2] = bad
        return LogProb(value, 1.0)

    monkeypatch.setattr(RSGM, "likelihood", broken)
    # of the test points or, for the rough solve comes first in time, of the samples
    with pytest.raises(ValueError, match="2 of 6 log-densities are not finite"):
        evaluate(path)
    assert list(path.parent.glob("metrics*")) == list(path.parent.glob("figures*")) == []


def test_a_failed_solve_is_an_error_in_a_sentence(path, monkeypatch, capsys):
    def fail(self, x, context=None):
        raise SolveError("The ODE solve left 3 of 6 points without a finite log-density.")

    monkeypatch.setattr(RSGM, "likelihood", fail)
    assert evaluate_command([f"--ckpt={path}"]) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line == "evaluate.py: The ODE solve left 3 of 6 points without a finite log-density."
    assert list(path.parent.glob("metrics*")) == []


def test_a_test_set_of_one(folder, capsys):
    """There is no standard error, and no point without a twin."""
    assert run("--trainer.max_steps=1", "--data.test_size=1") == 0
    assert metrics()["nll"]["standard_error"] is None
    line = re.search(r"test NLL.*", capsys.readouterr().out).group()
    assert line.endswith("  (1 points)")
    assert "±" not in line


def test_only_twins(folder, capsys):
    path = points(folder, 20)
    header, *rows = path.read_text().split("\n")
    path.write_text("\n".join([header, *rows * 30]))
    assert run(*EARTH, f"--data.path={path}") == 0
    found = metrics()
    assert found["split"]["twin_share"] == 1
    assert found["nll_without_twins"] is found["baselines"]["kernel_density"]["nll_without_twins"] is None
    assert re.search(r"without twins +none", capsys.readouterr().out)


def test_an_integral_that_is_not_measured_and_no_maps_beyond_dimension_three(folder, monkeypatch, capsys):
    monkeypatch.undo()  # with figures, if there were any
    monkeypatch.chdir(folder)
    dims = ["--model.manifold.dim=5", "--data.law.dim=5", "--model.loss=ImplicitScoreMatching"]
    assert run(*dims, "--trainer.max_steps=1") == 0
    found = metrics()
    # the density of an untrained network has heavy tails: there is an error, and no number
    assert (found["normalisation"] is None) == (found["normalisation_error"] > 0.02)
    assert 0 < found["normalisation_error"] < 1
    assert found["baselines"]["uniform"] == pytest.approx(3 * math.log(math.pi))  # the volume of S^5 is pi^3
    figures = {file.name for file in best().with_name("figures").iterdir()}
    assert figures == {"calibration.png", "training.png"}
    assert "(importance sampling)" in capsys.readouterr().out


# ---- figures

#: the pictures of samples and of a density, by class and dimension; others have none
PICTURES = {
    ("Sphere", 1): ("circle", "circle"),
    ("Sphere", 2): ("globe", "globe"),
    ("Torus", 1): ("circle", "circle"),
    ("Torus", 2): ("pairs", "square"),
    ("Torus", 5): ("pairs", None),
    ("SpecialOrthogonal", 3): ("angles", None),
    ("Hyperbolic", 2): ("disks", "disk"),
    ("Euclidean", 1): ("line", "line"),
    ("Euclidean", 2): ("pairs", "square"),
    ("Euclidean", 3): ("pairs", None),
    **{("Product", dim): ("montage", None) for dim in (2, 3, 5)},
}


def kind(picture):
    """What a picture shows, from its panels."""
    if picture is None:
        return None
    parts = picture.figure.subfigs
    if parts:
        return "angles" if parts[-1].legends else "montage"
    axes, *others = picture.figure.axes
    shapes = {type(patch) for patch in axes.patches}
    if type(axes).__name__ == "PolarAxes":
        return "circle"
    if Circle in shapes:
        return "disk" if axes.images else "disks"
    if Ellipse in shapes:
        return "globe"
    if axes.images:
        return "square"
    if axes.get_ylabel().startswith("density"):
        return "line"
    assert axes.get_title().startswith("samples (40")
    assert others
    return "pairs"


def cloud(manifold, n, generator):
    """Points around the origin of a manifold."""
    origin = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    return manifold.expmap(origin, 0.5 * manifold.random_tangent(origin, generator))


@pytest.mark.parametrize("make", [*variants(Manifold), pytest.param(Euclidean, id="Euclidean-2")])
def test_pictures_of_each_manifold(make, generator):
    manifold = make()
    samples, reference, test = (cloud(manifold, n, generator) for n in (40, 30, 20))
    expected = PICTURES.get((type(manifold).__name__, manifold.dim), (None, None))
    assert kind(plots.draw_samples(manifold, samples.float(), reference)) == expected[0]
    asked = []

    def log_density(x):
        assert manifold.check_point_on_manifold(x)
        asked.append(x)
        return -(x - samples[0]).flatten(1).square().sum(1)

    panel = plots.draw_density(manifold, log_density, reference, test)
    assert kind(panel) == expected[1]
    assert bool(asked) == (panel is not None)
    if panel is not None:
        panel.figure.savefig(io.BytesIO(), format="png")
    if asked and math.isfinite(manifold.log_volume):
        # what has been evaluated is not evaluated again, but completed by a coarse grid, and gives the same picture
        nodes = asked[0]
        known = nodes, log_density(nodes)
        asked.clear()
        again = plots.draw_density(manifold, log_density, reference, test, known=known)
        assert sum(map(len, asked)) <= 30**manifold.dim + 2
        for one, other in zip(panel.images, again.images, strict=True):
            assert np.abs(one.get_array() - other.get_array()).mean() < 0.01


def test_axes_bear_the_names_of_columns(generator):
    for manifold in (Torus(3), Euclidean(3)):
        x = cloud(manifold, 40, generator)
        figure = plots.draw_samples(manifold, x, x, plots.Caption(columns=("first", "second", "third")))
        assert [axes.get_xlabel().split()[0] for axes in figure.axes[:2]] == ["first", "second"]
        # ambient coordinates are no angles
        figure = plots.draw_samples(manifold, x, x, plots.Caption(columns=tuple(f"x{k}" for k in range(6))))
        assert figure.axes[0].get_xlabel().startswith("$")


def test_a_manifold_from_outside_registers_its_pictures(generator):
    class Elsewhere(Manifold):
        pass

    for generic in (plots.draw_samples, plots.draw_density):
        assert generic.dispatch(Elsewhere) is generic.dispatch(object)
    assert plots.draw_samples(object(), None, None) is plots.draw_density(object(), None, None, None) is None
    figure = Figure()
    plots.draw_samples.register(Elsewhere, lambda manifold, samples, reference, caption=None: figure)
    assert plots.draw_samples.dispatch(Elsewhere)(None, None, None) is figure
    assert plots.draw_samples(Sphere(5), torch.zeros(2, 6), torch.zeros(2, 6)) is None


class Echo(GenerativeModel):
    """Gives back its context: a sample stands where its condition says."""

    def __init__(self):
        super().__init__(Sphere(2))
        self.asked = []

    def draw(self, n, context, generator):
        self.asked.append((n, context, generator.initial_seed()))
        x = torch.zeros(n, 3)
        x[torch.arange(n), 0 if context is None else context.argmax(1)] = 1
        return x

    def likelihood(self, x, context=None):
        raise SolveError("far away")


@pytest.fixture
def conditional():
    data = LawData(
        RandomVonMisesFisherMixture(components=3), conditional=True, train_size=40, val_size=12, test_size=30
    )
    data.setup()
    return data


def test_samples_have_the_context_of_the_reference(conditional):
    model, reference = Echo(), conditional.test
    x = sample_like(model, reference, 70)
    ((n, context, seed),) = model.asked
    assert (n, seed, context.dtype) == (70, 0, torch.float32)
    assert torch.equal(context.double(), torch.cat([reference.context, reference.context, reference.context[:10]]))
    assert torch.equal(x[30:60], x[:30])
    # integers, such as labels, stay what they are, and unconditional models get none
    sample_like(model, Split(reference.points, reference.context.long()), 5)
    sample_like(model, Split(reference.points), 5)
    assert model.asked[1][1].dtype == torch.int64
    assert model.asked[2][1] is None


def test_figures_of_a_conditional_model(conditional):
    """Its samples; there is no one density."""
    model = Echo()
    figures = draw(model, conditional, None, {}, sample_like(model, conditional.test, 60))
    assert list(figures) == ["samples"]
    assert torch.equal(model.asked[0][1].double(), conditional.test.context.repeat(2, 1))
    assert [axes.get_title() for axes in figures["samples"].axes] == ["samples (60)", "test (30)"]


def test_a_density_that_cannot_be_drawn_costs_no_numbers():
    data = LawData(train_size=20, val_size=10, test_size=12)
    data.setup()
    with pytest.warns(UserWarning, match="There is no picture of the density: far away"):
        assert list(draw(Echo(), data, None, {}, Echo().sample(10))) == ["samples"]


@pytest.mark.parametrize("bad", [False, True])
def test_figure_after_validation(bad, conditional, monkeypatch):
    """Of samples with the validation points' context; none of samples that are not finite."""
    model, drawn = Echo(), []
    if bad:
        monkeypatch.setattr(model, "draw", lambda n, *_: torch.full((n, 3), math.nan))
    logger = SimpleNamespace(experiment=SimpleNamespace(add_figure=lambda *args: drawn.append(args)))
    trainer = SimpleNamespace(
        sanity_checking=False,
        is_global_zero=True,
        logger=logger,
        datamodule=conditional,
        global_step=7,
        callback_metrics={"val/nll": torch.tensor(1.25)},
    )
    SampleFigure(count=24).on_validation_epoch_end(trainer, SimpleNamespace(model=model))
    # a density of each context would be a picture each
    DensityFigure().on_validation_epoch_end(trainer, SimpleNamespace(model=model))
    if bad:
        assert drawn == []
        return
    ((name, figure, step),) = drawn
    assert (name, step) == ("samples", 7)
    assert torch.equal(model.asked[-1][1].double(), conditional.val.context.repeat(2, 1))
    assert [axes.get_title() for axes in figure.axes] == ["samples (24)", "validation (12)"]
    assert figure.get_suptitle() == "Samples: Echo on RandomVonMisesFisherMixture, step 7, validation NLL 1.250"


@pytest.mark.parametrize(
    "image_shape, seconds, asked", [(None, 60, [16, 500]), (None, 1e-9, [16]), ((1, 1, 3), 60, [16, 64])]
)
def test_a_figure_has_as_many_samples_as_there_is_time_for(image_shape, seconds, asked, monkeypatch):
    """Pictures of 64 at most: more are not shown."""
    data, model = LawData(train_size=20, val_size=10, test_size=12), Echo()
    data.setup()
    monkeypatch.setattr(LawData, "image_shape", image_shape)
    found = []
    monkeypatch.setattr(model, "draw", lambda n, *_: found.append(n) or data.val.points[:1].float().repeat(n, 1))
    assert SampleFigure(seconds=seconds).draw(model, data, "") is not None
    assert found == asked


def test_a_density_after_validation_is_drawn_where_it_is_cheap():
    """What all of its points would take is known from the first 256."""
    data, scored = LawData(train_size=20, val_size=10, test_size=12), []
    data.setup()

    class Slow(Echo):
        def likelihood(self, x, context=None):
            scored.append(len(x))
            time.sleep(1e-4 * len(x))
            return LogProb(x.new_zeros(len(x)), 0.0)

    assert DensityFigure(seconds=0.1).draw(Slow(), data, "") is None
    assert scored == [256]
    figure = DensityFigure(seconds=60).draw(Slow(), data, "here")
    assert scored[1:3] == [256, 3600 - 256]
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["train (20)", "validation (10)"]


# ---- known laws and pictures


class Known(GenerativeModel):
    """The law of the data itself; of pictures the uniform law on the unit cube."""

    def __init__(self, data: ManifoldData, finest: float | None = None):
        super().__init__(data.manifold)
        data.setup()
        self.law, self.finest = data.reference_law, finest

    def draw(self, n, context, generator):
        if self.law is None:
            return torch.rand(n, self.manifold.dim, generator=generator)
        return self.law.draw(n, generator).float()

    def likelihood(self, x, context=None):
        return LogProb(x.new_zeros(len(x)) if self.law is None else self.law.log_prob(x), 0.0)

    def lower_bound(self, x, context=None):
        return LogProb(self.likelihood(x).value - 1, 0.0, exact=False)

    def resolution(self):
        return self.finest


def saved(model, folder):
    model.save(folder / "known.ckpt")
    return folder / "known.ckpt"


def test_a_perfect_model_of_a_known_law(tmp_path):
    data = LawData(GaussianMixture(), train_size=20, val_size=10, test_size=50)
    found = evaluate(saved(Known(data), tmp_path), data, samples=500)
    assert found["nll_gap"] == {"mean": 0, "standard_error": 0, "median": 0, "n": 50, "places": 50}
    samples = found["samples"]
    assert (samples["n"], samples["references"]) == (500, 5)
    for key in ("sliced_w2", "sliced_w1", "energy_distance", "squared_mmd", "energy_gap"):
        row = samples[key]
        assert abs(row["value"] - row["floor"]) < 5 * row["floor_sd"]
    assert samples["mode_weights"]["value"] == pytest.approx([0.95, 0.05], abs=0.05)
    against = found["sample_metrics"]
    assert (against["n"], against["sets"]) == (50, {"samples": 10, "fresh": 10})
    for key in ("mmd", "squared_mmd", "nearest_neighbour_accuracy", "coverage", "w2"):
        assert abs(against[key]["value"] - against[key]["floor"]) < 3 * against[key]["floor_sd"]
    assert found["bits_per_dim"] is found["bits_per_dim_bound"] is None
    lines = report(found).splitlines()
    assert lines[-9:] == report(json.loads((tmp_path / "metrics.json").read_text())).splitlines()[-9:]
    assert lines[-9].startswith("500 samples against 5 draws of the law")
    (line,) = [line for line in lines if "sliced W2" in line]
    row = samples["sliced_w2"]
    assert line.endswith(f" {row['value']:.5f}  (floor {row['floor']:.5f} ± {row['floor_sd']:.5f})")


def test_bits_per_dimension_of_pictures(tmp_path):
    """Of a uniform model, the logarithm of the number of grey levels: no offset to forget."""
    found = evaluate(saved(Known(DigitsData()), tmp_path), DigitsData())
    bits = math.log2(17)
    assert found["bits_per_dim"]["mean"] == pytest.approx(bits)
    assert found["bits_per_dim_bound"]["mean"] == pytest.approx(bits + 1 / (64 * math.log(2)))
    assert found["samples"] is found["nll_gap"] is found["perfect_model"] is None
    assert "bits per dimension                 4.0874628413 ± 0.0000  (360 points)" in report(found)
    assert (tmp_path / "figures/samples.png").is_file()
    data = DigitsData()
    data.setup()
    figure = sample_figure(data, torch.rand(70, 64), data.test.points)
    assert figure.axes[0].images[0].get_array().shape == (71, 71, 3)  # 8 x 8 of them


# ---- nothing is overwritten


def test_second_evaluation_stands_beside_the_first(path, monkeypatch):
    monkeypatch.undo()  # with figures
    monkeypatch.chdir(path.parent)
    evaluate(path)
    first = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    evaluate(path)
    for file, content in first.items():
        assert file.read_bytes() == content
    names = {file.name for file in path.parent.iterdir()}
    for suffix in ("", "_1"):
        assert {f"metrics{suffix}.json", f"figures{suffix}"} <= names
        figures = {file.name for file in (path.parent / f"figures{suffix}").iterdir()}
        assert figures == {"calibration.png", "density.png", "samples.png"}
    one, other = (json.loads((path.parent / f"metrics{suffix}.json").read_text()) for suffix in ("", "_1"))
    for key in KEYS.keys() - {"seconds", "peak_memory_mb"}:
        assert one[key] == other[key]


@pytest.mark.slow
def test_nothing_is_overwritten_where_there_are_no_figures(path):
    evaluate(path)
    first = (path.parent / "metrics.json").read_bytes()
    evaluate(path)
    assert (path.parent / "metrics.json").read_bytes() == first
    assert sorted(file.name for file in path.parent.glob("metrics*")) == ["metrics.json", "metrics_1.json"]
    assert not list(path.parent.glob("figures*"))


# ---- data


def test_data_of_ones_own(path):
    """Instead of those that the checkpoint names."""
    data = LawData(train_size=20, val_size=10, test_size=12, seed=3)
    found = evaluate(path, data)  # which sets it up
    assert (found["data"]["name"], found["nll"]["n"], found["split"]["seed"]) == ("PolarVonMisesFisher", 12, 3)
    assert found["nll"]["mean"] == pytest.approx(-rsgm.load(path).log_prob(data.test.points).mean().item())


def test_checkpoint_that_does_not_name_its_data(path):
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["rsgm"]["data"]
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"does not name its data.*pass the data module to rsgm.evaluate"):
        evaluate(path)


def test_data_that_have_changed_since_training(folder, capsys):
    """Their splits are others, and points of training would be scored as test points."""
    file = points(folder)
    assert run(*EARTH, f"--data.path={file}") == 0
    header, *rows = file.read_text().split("\n")
    for changed in ([*rows, "41;1;2"], [*rows[1:], "0;1;2"], rows[::-1]):
        file.write_text("\n".join([header, *changed]))
        assert evaluate_command([f"--ckpt={best()}"]) == 1
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert line.startswith("evaluate.py: The data or their splits have changed since training")
        assert str(file) in line
    # another form of the same rows is no change
    header, *rows = points(folder).read_text().split("\n")
    file.write_text("\r\n".join(["LON\tlat", *("\t".join(row.split(";")[1:]) for row in rows), ""]))
    assert evaluate_command([f"--ckpt={best()}"]) == 0


# ---- averaged weights


def test_average_is_what_is_written_loaded_and_scored(path):
    checkpoint = read_checkpoint(path)
    average, raw = weights(path), weights(path, "current_model_state")
    assert average.keys() == raw.keys()
    assert not any(torch.equal(average[key], raw[key]) for key in raw)
    model = rsgm.load(path)
    assert same(dict(model.state_dict()), average)
    data = load_data(checkpoint)
    nll = evaluate(path)["nll"]["mean"]
    assert nll == -model.log_prob(data.test.points).mean().item()
    model.load_state_dict(raw)
    assert abs(nll + model.log_prob(data.test.points).mean().item()) > 1e-4


def test_average_is_exponential(folder, monkeypatch):
    """``a <- d a + (1 - d) w`` after each step, from the weights after the first; d is the decay after a warm-up."""
    seen = []

    def record(self, trainer, *_):
        seen.append({key: value.clone() for key, value in trainer.lightning_module.model.state_dict().items()})

    monkeypatch.setattr("rsgm.training.callbacks.Cost.on_train_batch_end", record, raising=False)
    assert run("--training.averaging=0.3", "--trainer.max_steps=6") == 0
    assert len(seen) == 6
    average = seen[0]
    for k, raw in enumerate(seen[1:], start=1):
        decay = min(0.3, (1 + k) / (10 + k))
        average = {key: decay * average[key] + (1 - decay) * raw[key] for key in raw}
    last = best().with_name("last.ckpt")
    assert same(weights(last, "current_model_state"), seen[-1])
    for key, value in weights(last).items():
        torch.testing.assert_close(value, average[key], rtol=1e-5, atol=1e-7)


def test_validation_uses_the_average_and_puts_the_weights_back(folder, monkeypatch):
    """Trap: a validation that scores raw weights, or training that goes on from the average."""
    during, around, scored = [], [], []

    def weights_of(training):
        return {key: value.clone() for key, value in training.model.state_dict().items()}

    validation_step = Training.validation_step

    def spy(self, batch, batch_idx):
        during.append(weights_of(self))
        scored.append(-self.model.likelihood(*batch).value.mean().item())
        return validation_step(self, batch, batch_idx)

    monkeypatch.setattr(Training, "validation_step", spy)
    monkeypatch.setattr(Training, "on_train_batch_end", lambda self, *_: around.append(weights_of(self)))
    monkeypatch.setattr(Training, "on_train_epoch_start", lambda self: around.append(weights_of(self)))
    cli = compose("--save_every=5", "--trainer.limit_val_batches=1")
    cli.trainer.fit(cli.model, cli.datamodule)
    # epoch starts and five steps, twice
    assert len(around) == 12
    after_step_5, after_validation = around[5], around[6]
    assert same(after_step_5, after_validation)
    assert not same(during[0], after_step_5)
    assert same(during[0], weights(cli.run / "best.ckpt")) or same(during[1], weights(cli.run / "best.ckpt"))
    assert cli.trainer.callback_metrics["val/nll"].item() == pytest.approx(scored[-1])
    # the checkpoint with the lowest value is the one that has it
    model = rsgm.load(cli.run / "best.ckpt")
    assert -model.log_prob(cli.datamodule.val.points).mean().item() == pytest.approx(min(scored), abs=1e-9)


def test_best_is_written_where_nothing_was_validated(folder):
    """A run shorter than an epoch; its average is still what is scored."""
    assert run("--trainer.max_steps=3") == 0
    assert same(weights(best()), weights(best().with_name("last.ckpt")))
    assert not same(weights(best()), weights(best().with_name("last.ckpt"), "current_model_state"))
    assert metrics()["steps"] == 3


# ---- contracts of the numbers


class Shifted(Known):
    """The law of the data, less so many nats, with samples of another mass of modes; slow in sleep, not in work."""

    def likelihood(self, x, context=None):
        time.sleep(0.05)
        return LogProb(self.law.log_prob(x) - 0.25, 0.0)


def test_gap_is_the_nll_less_that_of_a_perfect_model_and_wall_is_wall(tmp_path, monkeypatch):
    data = LawData(GaussianMixture(), train_size=20, val_size=10, test_size=50)
    monkeypatch.setattr(time, "process_time", lambda: 5.0)  # of a loaded machine it says nothing about the wall's
    found = evaluate(saved(Shifted(data), tmp_path), data, samples=60)
    assert found["nll_gap"]["mean"] == pytest.approx(0.25)
    assert found["nll_gap"]["mean"] == pytest.approx(found["nll"]["mean"] - found["perfect_model"]["mean"])
    seconds = found["seconds"]["evaluation"]
    assert seconds["wall"] > 0.1
    assert seconds["cpu"] == 0
    # the samples are those of the unshifted law, scored by the shifted density
    x = data.reference_law.draw(60, torch.Generator().manual_seed(0)).float().double()
    assert found["sample_nll"] == pytest.approx(summary(0.25 - data.reference_law.log_prob(x)))
    lines = report(found)
    assert f"mean -log p of the model's samples {found['sample_nll']['mean']:.10f}" in lines


class Conditioned(GenerativeModel):
    """A bump around the direction that its context says: nothing is right under another context."""

    def __init__(self):
        super().__init__(Sphere(2))

    def draw(self, n, context, generator):
        assert context.shape == (n, 3)
        width = torch.full((n,), 0.1, dtype=torch.float64)
        return self.manifold.bump_sample(context.double(), width, generator).float()

    def likelihood(self, x, context=None):
        width = torch.tensor(0.1, dtype=torch.float64)
        return LogProb(self.manifold.bump_log_prob(x.double(), context.double(), width), 0.0)

    def lower_bound(self, x, context=None):
        return LogProb(self.likelihood(x, context).value - 1, 0.0, exact=False)


def test_each_point_and_sample_is_scored_under_its_own_context(conditional):
    model = Conditioned()
    found = score(model, conditional, samples=100).metrics
    test = conditional.test
    nll = -model.likelihood(test.points, test.context).value
    assert found["nll"] == pytest.approx(summary(nll))
    assert found["nll_bound"] == pytest.approx(summary(nll + 1))
    assert f"test NLL (nats)                    {found['nll']['mean']:.10f}" in report(found)
    # draws of the bumps themselves: the entropy of one, where another's context would cost hundreds of nats
    entropy = found["sample_nll"]
    exact = math.log(2 * math.pi * 0.01) + 1
    assert abs(entropy["mean"] - exact) < 4 * entropy["standard_error"]
    assert entropy["n"] == 100
    assert found["sample_metrics"]["n"] == len(test.points)
    assert "kernel_density" not in found["sample_metrics"]["mmd"]
    assert found["normalisation"] is found["normalisation_error"] is None


def test_flat_space_has_no_degrees(tmp_path):
    data = LawData(GaussianMixture(), train_size=20, val_size=10, test_size=50)
    found = evaluate(saved(Known(data, finest=0.01), tmp_path), data, samples=60)
    assert found["resolution"] == {"data_units": 0.01}
    assert "0.01 units of the data" in report(found)
    assert "degrees" not in report(found)
    assert "min_width" in found["baselines"]["kernel_density"]


def test_without_git_no_commit_is_named(monkeypatch, tmp_path):
    """Neither where there is none nor where the package lies in a repository that does not know it."""
    module = sys.modules[score.__module__]
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert module._versions()["git"] is None
    if shutil.which("git"):
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        monkeypatch.setattr(module, "__file__", str(tmp_path / "evaluate.py"))
        (tmp_path / "evaluate.py").touch()
        assert module._versions()["git"] is None
