"""Few contexts are classes, each with a kernel density and a panel of its own."""

import numpy as np
import pytest
import torch

from helpers import seeded
from rsgm import plots
from rsgm.data import EarthData, LawData, PointsData, Split, TableData
from rsgm.distributions import RandomVonMisesFisherMixture
from rsgm.evaluation import report, score
from rsgm.evaluation.baseline import kernel_density, why_no_kernels
from rsgm.evaluation.class_figures import draw_classes
from rsgm.evaluation.classes import FEWEST, MOST, classes
from rsgm.evaluation.figures import contexts_in_turn
from rsgm.likelihood import Draws, LogProb
from rsgm.manifolds import Euclidean, Sphere
from rsgm.models import GenerativeModel, KernelDensity
from rsgm.plots.style import new_figure
from test_tabular import made, write

CENTRES = {"ml": (40.0, 100.0), "mb": (0.0, 0.0), "mww": (-50.0, -120.0)}


def quakes(path, counts=(300, 200, 100)):
    rng = np.random.default_rng(0)
    rows = [
        f"{rng.normal(lat, 5):.4f},{rng.normal(lon, 5):.4f},{kind},{rng.uniform(1, 5):.2f},{rng.uniform(0, 70):.2f}"
        for (kind, (lat, lon)), count in zip(CENTRES.items(), counts, strict=True)
        for _ in range(count)
    ]
    return write(path, rng.permutation(rows), "lat,lon,kind,mag,depth")


@pytest.fixture
def data(tmp_path):
    return made(EarthData(path=quakes(tmp_path / "quakes.csv"), context=["kind"]))


class ByClass(GenerativeModel):
    """The kernel densities of the classes as a conditional model."""

    def __init__(self, data):
        super().__init__(data.manifold)
        self.kernels = kernel_density(data.manifold, data)

    def draw(self, n, context, generator):
        return self.kernels.sample(n, context.double())

    def likelihood(self, x, context=None):
        return LogProb(self.kernels.log_density(x, context.double()), 0.0)


def test_the_commonest_class_comes_first(data):
    found = classes(data)
    assert found.names == ["kind=ml", "kind=mb", "kind=mww"]
    assert found.of(found.contexts).tolist() == [0, 1, 2]
    assert found.of(torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [-1]
    of = found.of(data.train.context)
    for k, name in enumerate(found.names):
        lat, lon = data.to_units(data.train.points[of == k]).mean(0)
        assert np.hypot(lat - CENTRES[name[5:]][0], lon - CENTRES[name[5:]][1]) < 3


@pytest.mark.parametrize("weight", [None, "mag"])
def test_each_class_has_a_kernel_density_of_its_own(tmp_path, weight):
    data = made(EarthData(path=quakes(tmp_path / "quakes.csv"), context=["kind"], weight=weight))
    kernels, found = kernel_density(data.manifold, data), classes(data)
    values = kernels.log_density(data.test.points, data.test.context)
    of = [found.of(part.context) for part in (data.train, data.val, data.test)]
    for k in range(3):
        alone = KernelDensity(data.manifold)
        weights = data.weights_to_fit()
        own = None if weights is None else (weights[0][of[0] == k], weights[1][of[1] == k])
        alone.fit_points(data.train.points[of[0] == k], data.val.points[of[1] == k], weights=own)
        torch.testing.assert_close(values[of[2] == k], alone.likelihood(data.test.points[of[2] == k]).value)
        # the law of a class reaches its own places
        drawn = kernels.sample(50, found.contexts[[k]].expand(50, -1))
        near = data.manifold.dist(drawn.double(), data.manifold.projx(data.train.points[of[0] == k].mean(0)))
        assert near.median() < 0.3


@pytest.fixture
def flat(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(10 * (k % 2)):.4f},{rng.normal():.4f},{'ab'[k % 2]}" for k in range(300)]
    return made(TableData(write(tmp_path / "flat.csv", rows, "u,v,kind"), numbers=["u", "v"], context=["kind"]))


def test_flat_classes(flat):
    kernels = kernel_density(Euclidean(2), flat)
    assert [len(part.points) for part in kernels.parts] == [len(flat.train.points[rows]) for rows in masks(flat)]
    assert torch.isfinite(kernels.log_density(flat.test.points, flat.test.context)).all()


def masks(data):
    of = classes(data).of(data.train.context)
    return [of == k for k in range(int(of.max()) + 1)]


def test_without_contexts_there_is_one(tmp_path):
    data = made(EarthData(path=quakes(tmp_path / "quakes.csv")))
    kernels, alone = kernel_density(data.manifold, data), KernelDensity(data.manifold)
    alone.fit_points(data.train.points, data.val.points)
    assert torch.equal(kernels.log_density(data.test.points), alone.likelihood(data.test.points).value)
    assert torch.equal(kernels.sample(9), alone.sample(9, seed=0))


def without(data, name):
    """Data of which a part has no point of the last class."""
    part = getattr(data, name)
    setattr(data, name, part.rows((classes(data).of(part.context) != 2).nonzero()[:, 0]))
    return data


def labelled(counts):
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))[:, None].double()
    data = PointsData(Sphere(2), Sphere(2).random_uniform(len(label), 3, generator=seeded()), label)
    data.setup()
    data.val = data.test = data.train
    return data


def test_why_there_are_none(data, tmp_path):
    manifold = data.manifold
    assert why_no_kernels(manifold, data) is None
    numbers = made(EarthData(path=quakes(tmp_path / "quakes.csv"), context=["depth"]))
    assert "contexts, the rarest with 1 training points; kernels take up to 20" in why_no_kernels(manifold, numbers)
    assert kernel_density(manifold, numbers) is None
    many = labelled([2 * FEWEST] * (MOST + 1))
    assert f"{MOST + 1} contexts" in why_no_kernels(manifold, many)
    assert why_no_kernels(manifold, labelled([2 * FEWEST] * MOST)) is None
    assert "the rarest with" in why_no_kernels(manifold, labelled([2 * FEWEST, FEWEST // 2]))
    assert "no validation point given kind=mww" in why_no_kernels(manifold, without(data, "val"))
    assert "7 dimensions; kernels take up to 6" in why_no_kernels(Euclidean(7), data)


def test_a_class_of_other_parts_alone(data):
    train = data.train.rows((classes(data).of(data.train.context) != 2).nonzero()[:, 0])
    data.train = train
    assert why_no_kernels(data.manifold, data) == "a context of validation points that no training point has"


def test_an_evaluation_has_the_baseline_of_each_class(data):
    model = ByClass(data)
    found = score(model, data, samples=60).metrics
    row = found["baselines"]["kernel_density"]
    assert row["classes"] == 3
    assert row["nll"]["mean"] == pytest.approx(found["nll"]["mean"])
    assert found["sample_metrics"]["w2"].keys() >= {"kernel_density"}
    (line,) = [line for line in report(found | {"training_points": None}).splitlines() if "kernel density" in line]
    assert line.endswith("the same: the model is this one")
    row["nll"] = dict(row["nll"], mean=1.0)
    assert ", one for each of 3 classes" in report(found | {"training_points": None})


@pytest.mark.parametrize("count, panels", [(3, 3), (8, 6)])
def test_each_class_has_a_panel(count, panels, monkeypatch):
    """Of its own samples and test points; of many classes the commonest six."""
    law = RandomVonMisesFisherMixture(components=count)
    data = LawData(law, train_size=2000, val_size=400, test_size=400, conditional=True)
    data.setup()
    seen, fitted = [], []

    def samples(manifold, x, y, caption, figure=None):
        seen.append((len(x), caption.title))
        return new_figure(2, 1)

    def density(manifold, law, x, y, caption, known, ax):
        fitted.append(len(x))
        return ax.add_subplot()

    monkeypatch.setattr(plots, "draw_samples", samples)
    monkeypatch.setattr(plots, "draw_density", density)
    model = ByClass(data)
    context = contexts_in_turn(data.test, 500)
    x = model.sample(500, context, seed=0).double()
    found = draw_classes(model, data, Draws(x, model.log_prob(x, context)))
    assert found.keys() == {"samples_by_class", "density_by_class"}
    assert [sum(map(bool, figure.subfigs)) for figure in found.values()] == [panels, 2 * -(-panels // 2)]
    of = classes(data).of(context)
    for k in range(panels):
        # drawn alone, for its height, and then in its place
        assert seen[k] == seen[panels + k] == (int((of == k).sum()), classes(data).names[k])
        assert fitted[k] == len(data.train.points[masks(data)[k]])


def test_panels_are_drawn(flat):
    """In the plane; and none where contexts are no classes."""
    model, context = ByClass(flat), contexts_in_turn(flat.test, 60)
    x = model.sample(60, context, seed=0).double()
    drawn = Draws(x, model.log_prob(x, context))
    for name, figure in draw_classes(model, flat, drawn).items():
        assert figure.get_suptitle() == f"{name.split('_')[0].capitalize()} by class: ByClass on flat"
        assert len(figure.subfigs) == 2
        assert len(figure.axes) == (4 if name == "samples_by_class" else 2)
        assert all(np.ptp(image.get_array()) > 1 for axes in figure.axes for image in axes.images)
    flat.train = Split(flat.train.points, torch.rand(len(flat.train.points), 2))
    assert draw_classes(model, flat, drawn) == {}
