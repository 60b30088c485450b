"""Spline flows: their densities by quadrature, by the Jacobian and in closed form, across ±π, and what they learn."""

import copy
import math
import pickle
import sys

import pytest
import torch
from torch.distributions import Distribution

import rsgm
from conftest import quadrature, within
from helpers import quiet_trainer, seeded
from rsgm import Euclidean, LawData, Product, SpecialOrthogonal, Sphere, SplineFlow, Torus
from rsgm.distributions import RandomWrappedNormalMixture
from rsgm.training import Training

CYLINDER = Product([Torus(1), Euclidean(1)])
HOMES = [Torus(1), Torus(2), Sphere(1), Product([Sphere(1), Torus(1)]), Euclidean(1), CYLINDER]


def flow(manifold, scale: float = 1.5, **options) -> SplineFlow:
    """A random one, with its weights multiplied by ``scale``: densities that vary by some nats."""
    torch.manual_seed(0)
    model = SplineFlow(manifold, **{"transforms": 3, "hidden": [16, 16], **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= scale
    return model


def nodes(model: SplineFlow) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and weights of a quadrature over all coordinates, lines as far as their tails matter."""
    axes, volume = [], 1.0
    for period, shift, scale in zip(model.manifold.periods, model.shift, model.scale, strict=True):
        half = min(period / 2, 1.4 * math.pi)  # 7 standard deviations of a line
        count = 4000 if model.manifold.dim == 1 else 160
        axes.append(shift + scale * half * (2 * (torch.arange(count, dtype=torch.float64) + 0.5) / count - 1))
        volume = volume * 2 * half * float(scale) / count
    x = model.chart(torch.cartesian_prod(*axes).reshape(-1, model.manifold.dim))
    return x, x.new_full((len(x),), volume)


@pytest.mark.parametrize("manifold", HOMES, ids=str)
def test_density_integrates_to_one(manifold):
    model = flow(manifold)
    x, weights = nodes(model)
    log_prob = model.log_prob(x)
    assert log_prob.max() - log_prob.mean() > 0.5
    assert float(weights @ log_prob.exp()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("manifold", HOMES, ids=str)
def test_transported_draws_have_the_density_of_the_flow(manifold):
    """By the determinant of the inverse splines, for which their slopes are not asked."""
    model = flow(manifold)
    draws = model.transported(50, None, seeded(1))
    assert draws.log_density == pytest.approx(model.log_prob(draws.points), abs=1e-6)


@pytest.mark.parametrize("manifold", [Torus(3), Euclidean(3), Product([Euclidean(2), Torus(2)])], ids=str)
def test_density_is_that_of_the_change_of_variables(manifold):
    """The law of z at the image, times the determinant of the Jacobian, by autograd and all of it."""
    model = flow(manifold)
    model.fit_points(anywhere(manifold, 50), anywhere(manifold, 9))
    x = anywhere(manifold, 6, seed=1)
    splines = copy.deepcopy(model.splines).double()

    def image(coordinates):
        y = ((coordinates - model.shift) / model.scale)[None]
        for spline in splines:
            y, _ = spline(y, y.new_ones(1, 1))
        return torch.where(model.circles, y, 5 / math.pi * y)[0]

    for point, found in zip(x, model.log_prob(x), strict=True):
        y = model.chart.inverse(point[None])[0]
        z, jacobian = image(y), torch.autograd.functional.jacobian(image, y)
        prior = torch.where(model.circles, -math.log(2 * math.pi), -0.5 * z.square() - 0.5 * math.log(2 * math.pi))
        assert float(found) == pytest.approx(float(prior.detach().sum() + jacobian.det().abs().log()), abs=1e-9)


def anywhere(manifold, n: int, seed: int = 0) -> torch.Tensor:
    """Points all over circles, and normal coordinates of lines with mean 3 and deviation 2."""
    generator = seeded(seed)
    y = 3 + 2 * torch.randn(n, manifold.dim, generator=generator, dtype=torch.float64)
    turn = math.pi * (2 * torch.rand(n, manifold.dim, generator=generator, dtype=torch.float64) - 1)
    return SplineFlow(manifold, 1, [4]).chart(torch.where(torch.tensor(manifold.periods).isfinite(), turn, y))


def test_without_weights_it_is_the_law_it_starts_from():
    """Uniform on circles; on lines normal, with the mean and the deviation of the training points."""
    manifold = Product([Torus(2), Euclidean(1)])
    model = flow(manifold, scale=0.0)
    x = anywhere(manifold, 200)
    model.fit_points(x, x[:9])
    line = x[:, -1]
    normal = torch.distributions.Normal(line.mean(), line.std(correction=0)).log_prob(line)
    assert torch.allclose(model.log_prob(x), normal - 2 * math.log(2 * math.pi), rtol=0, atol=1e-12)
    samples = model.sample(4000, seed=0)
    assert within(samples[:, -1], line.mean())
    assert within((samples[:, -1] - line.mean()).square(), line.var(correction=0))
    assert within(samples[:, :4], 0.0)


@pytest.mark.parametrize("manifold", [Torus(3), CYLINDER], ids=str)
def test_density_is_continuous(manifold):
    """Across the ends of the angles and of each spline, of every coordinate."""
    model = flow(manifold)
    y = model.chart.inverse(anywhere(manifold, 200))
    for k in range(manifold.dim):
        for end in (-math.pi, 0.0):
            there = [y.clone() for _ in range(2)]
            for side, sign in zip(there, (-1, 1), strict=True):
                side[:, k] = end + sign * 1e-9
            below, above = (model.log_prob(model.chart(side)) for side in there)
            assert (below - above).abs().max() < 1e-6


@pytest.mark.parametrize("manifold", [Torus(2), CYLINDER], ids=str)
def test_samples_follow_the_density(manifold):
    """E log p and the mean point, by samples and by quadrature; 5 standard errors."""
    model = flow(manifold)
    x, weights = nodes(model)
    density, samples = weights * model.log_prob(x).exp(), model.sample(2000, seed=0)
    for function in (model.log_prob, lambda z: z.double().flatten(1), lambda z: z.double().flatten(1).square()):
        values = function(x)
        expected = (density.reshape(-1, *(1,) * (values.dim() - 1)) * values).sum(0)
        assert within(function(samples), expected)


def test_samples_far_from_the_origin():
    """In double precision, for coordinates may be of any size; single precision has two numbers here."""
    model = SplineFlow(Euclidean(1), transforms=1, hidden=[4])
    model.fit_points(5e6 + 0.1 * torch.randn(500, 1, generator=seeded(0), dtype=torch.float64), torch.zeros(0, 1))
    x = model.sample(300, seed=0)
    assert len(x.unique()) == 300
    assert float(x.std()) == pytest.approx(0.1, rel=0.2)


def test_inverse():
    splines = flow(Torus(4)).splines.double()
    y = math.pi * (2 * torch.rand(100, 4, generator=seeded(0), dtype=torch.float64) - 1)
    given = y.new_ones(100, 1)
    for spline in splines:
        z, log_slope = spline(y, given)
        assert torch.allclose(spline.inverse(z, given), y, rtol=0, atol=1e-9)
        assert torch.isfinite(log_slope).all()


def test_more_points_than_are_transformed_at_once(monkeypatch):
    model = flow(Torus(2), context_features=1)
    x, context = anywhere(Torus(2), 10), torch.linspace(-1, 1, 10)[:, None]
    whole = model.log_prob(x, context), model.sample(10, context, seed=0)
    monkeypatch.setattr("rsgm.models.spline_flow._BATCH", 3)
    assert torch.allclose(model.log_prob(x, context), whole[0], rtol=0, atol=1e-12)
    assert torch.allclose(model.sample(10, context, seed=0), whole[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("manifold", [Torus(1), Torus(2)], ids=str)
def test_context(manifold):
    """A density for each context, which integrates to one; none is an error."""
    model = flow(manifold, context_features=2)
    x, weights = nodes(model)
    values = [model.log_prob(x, torch.tensor(context)) for context in ([0.0, 1.0], [1.0, 0.0])]
    assert (values[0] - values[1]).abs().max() > 0.5
    for value in values:
        assert float(weights @ value.exp()) == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="SplineFlow: context_features is 2, found a context of 0 features"):
        model.log_prob(x[:3])


def test_learns_a_mixture(tmp_path):
    """In 100 steps by the Trainer, most of the way from the uniform law to the truth; samples score as test points."""
    law = RandomWrappedNormalMixture(Torus(2), components=3)
    data = LawData(law, train_size=2000, val_size=200, test_size=500, batch_size=256, steps_per_epoch=100)
    torch.manual_seed(0)
    model = SplineFlow(Torus(2), transforms=2, hidden=[32, 32])
    trainer = quiet_trainer(tmp_path, max_steps=100)
    trainer.fit(Training(model, lambda p: torch.optim.Adam(p, 1e-2), averaging=0.98), data)
    x = data.test.points
    truth, found = float(law.log_prob(x).mean()), float(model.log_prob(x).mean())
    assert found > truth - 0.1 * (truth + 2 * math.log(2 * math.pi))
    nodes_, weights = quadrature(Torus(2), 60)
    assert float(weights @ model.log_prob(nodes_).exp()) == pytest.approx(1, abs=1e-2)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = rsgm.load(tmp_path / "model.ckpt")
    assert torch.equal(again.log_prob(x), model.log_prob(x))


def test_dropout():
    """Of the loss alone, and with the neurons that the global generator says."""
    model = flow(Torus(2), dropout=0.5, transforms=1, hidden=[16, 16, 16])
    x = anywhere(Torus(2), 50)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(model.loss(x.float())["loss"])
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    assert torch.equal(model.log_prob(x), model.log_prob(x))
    assert torch.allclose(model.eval().loss(x.float())["loss"], -model.log_prob(x).float(), atol=1e-4)
    names = [type(part).__name__ for part in model.splines[0].network]
    assert names == [*["MaskedLinear", "ReLU", "Dropout"] * 3, "MaskedLinear"]


def test_copies():
    """By pickle and by `copy.deepcopy`, with the coordinates of lines standardised as before."""
    model = flow(CYLINDER)
    x = anywhere(CYLINDER, 30)
    model.fit_points(x, x)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert torch.equal(again.log_prob(x), model.log_prob(x))
        assert torch.equal(again.sample(5, seed=0), model.sample(5, seed=0))
        assert again.description == model.description


@pytest.mark.parametrize("manifold", [Sphere(2), SpecialOrthogonal(), Product([Torus(1), Sphere(2)])], ids=str)
def test_curved_manifolds_are_refused(manifold):
    with pytest.raises(ValueError, match=r"SplineFlow lives on products of circles and lines: .*; found "):
        SplineFlow(manifold)


@pytest.mark.parametrize(
    "options",
    [{"transforms": 0}, {"hidden": []}, {"hidden": [4, 0]}, {"bins": 1}, {"dropout": 1.0}, {"context_features": -1}],
    ids=str,
)
def test_arguments(options):
    with pytest.raises(ValueError, match=r"SplineFlow: transforms >= 1, .* are needed, found"):
        SplineFlow(Torus(2), **options)


def test_without_zuko(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.nn", None)
    with pytest.raises(ImportError, match=r'package zuko: pip install "rsgm\[flows\]"'):
        SplineFlow(Torus(2))


def test_arguments_of_laws_are_checked_as_before(monkeypatch):
    """Zuko turns the checks of all distributions off when it is imported."""
    for name in [name for name in sys.modules if name.split(".")[0] == "zuko"]:
        monkeypatch.delitem(sys.modules, name)
    assert Distribution._validate_args
    SplineFlow(Torus(1), 1, [4])
    assert "zuko" in sys.modules
    assert Distribution._validate_args
