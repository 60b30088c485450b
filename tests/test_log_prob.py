"""What every model's public log-density keeps: derivatives with respect to the point, and contexts that broadcast."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from helpers import seeded
from rsgm import CNF, RSGM, ChartSGM, ExactScore, FlowMatching, KentMixture, KernelDensity, Moser, progress
from rsgm.distributions import GaussianMixture
from rsgm.likelihood import ODESolver, parts
from rsgm.manifolds import Euclidean, Hyperbolic, Manifold, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.models import GenerativeModel
from rsgm.networks import MLP
from rsgm.processes import Langevin, ProductProcess
from rsgm.schedules import LinearBeta

NETWORK = partial(MLP, hidden=[16, 16])
FINE = ODESolver(tolerance=1e-8)
SPHERE, PLANE = Sphere(2), Euclidean(2)
SHORT = partial(Langevin, schedule=LinearBeta(beta_1=1.0))


def fitted(model: GenerativeModel) -> GenerativeModel:
    """To points all over the manifold."""
    train, val = (model.manifold.random_uniform(n, 3, generator=seeded(n), dtype=torch.float64) for n in (200, 50))
    model.fit_points(train, val)
    return model


#: of each kind one, and score models on each kind of manifold
MODELS = {
    "score, sphere": partial(RSGM, SPHERE, network=NETWORK, likelihood=FINE),
    "score, torus": partial(RSGM, Torus(2), network=NETWORK, likelihood=FINE),
    "score, SO(3)": partial(RSGM, SpecialOrthogonal(), network=NETWORK, likelihood=FINE),
    "score, hyperbolic": partial(RSGM, Hyperbolic(2), process=SHORT, network=NETWORK, likelihood=FINE),
    "score, product": partial(RSGM, Product(), process=ProductProcess, network=NETWORK, likelihood=FINE),
    "chart": partial(ChartSGM, SPHERE, network=NETWORK, likelihood=FINE),
    "exact score": partial(ExactScore, PLANE, GaussianMixture([[0.5, 0.0]], 0.8, [1.0]), likelihood=FINE),
    "CNF": partial(CNF, SPHERE, network=NETWORK, solver=FINE),
    "Moser": partial(Moser, SPHERE, network=NETWORK, solver=FINE),
    "flow matching": partial(FlowMatching, SPHERE, network=NETWORK, solver=FINE),
    "kernel density": lambda: fitted(KernelDensity(SPHERE)),
    "Kent": lambda: fitted(KentMixture(SPHERE, components=3, restarts=1)),
}


def points(manifold: Manifold, n: int) -> torch.Tensor:
    """Within some units of the origin."""
    x = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    return manifold.expmap(x, manifold.random_tangent(x, seeded()))


#: whose derivatives take longest, in the same code as those of the sphere's
LONG = {"score, hyperbolic", "score, SO(3)"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else []) for n in MODELS])
def test_log_prob_is_differentiable_in_the_point(name):
    """Along geodesics, against differences; by every point alone, whatever the shape of the batch."""
    torch.manual_seed(0)
    model, step = MODELS[name](), 1e-4
    x = points(model.manifold, 4)
    u = model.manifold.random_tangent(x, seeded(1))
    y = x.clone().reshape(2, 2, *model.manifold.shape).requires_grad_()
    value = model.log_prob(y)
    (gradient,) = torch.autograd.grad(value.sum(), y)
    found = (gradient.reshape(x.shape) * u).flatten(1).sum(1)
    ahead, behind = (model.log_prob(model.manifold.expmap(x, h * u)) for h in (step, -step))
    # a graph is kept where the points ask for one, and only there
    assert not ahead.requires_grad
    expected = (ahead - behind) / (2 * step)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["score, sphere", "chart", "flow matching", "kernel density", "Kent"])
def test_log_prob_has_second_derivatives(name):
    """Along a geodesic, against differences of the first; the seed of the outer derivative has no gradient."""
    torch.manual_seed(0)
    model, step = MODELS[name](), 1e-4
    x = points(model.manifold, 2)
    u = model.manifold.random_tangent(x, seeded(1))

    def slope(s: float) -> tuple[torch.Tensor, torch.Tensor]:
        s = torch.tensor(s, dtype=torch.float64, requires_grad=True)
        value = model.log_prob(model.manifold.expmap(x, s * u)).sum()
        return torch.autograd.grad(value, s, create_graph=True)[0], s

    (found,) = torch.autograd.grad(*slope(0.0))
    expected = (slope(step)[0] - slope(-step)[0]) / (2 * step)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def conditional() -> RSGM:
    torch.manual_seed(0)
    network = partial(NETWORK, context_features=2)
    return RSGM(SPHERE, network=network, likelihood=ODESolver(tolerance=1e-6))


@pytest.mark.parametrize("shape", [(2,), (3, 2), (2, 1, 2), (2, 3, 2)], ids=str)
def test_contexts_broadcast_to_the_batch(conditional, shape):
    """One for all, for each column, for each row or for each point: as if it were written out; so with samples."""
    x, context = points(SPHERE, 6), torch.randn(shape, generator=seeded(2))
    written_out = context.expand(2, 3, 2).reshape(6, 2)
    value = conditional.log_prob(x.reshape(2, 3, 3), context)
    assert value.shape == (2, 3)
    assert torch.equal(value.flatten(), conditional.log_prob(x, written_out))
    alone = torch.stack([conditional.log_prob(point, label) for point, label in zip(x, written_out, strict=True)])
    assert torch.allclose(value.flatten(), alone, rtol=0, atol=1e-4)
    samples = conditional.sample((2, 3), context, seed=0)
    assert samples.shape == (2, 3, 3)
    assert torch.equal(samples.flatten(0, 1), conditional.sample(6, written_out, seed=0))


def test_the_context_makes_a_batch_of_distributions(conditional):
    """One law for each row, at one point and at many; the rows matter."""
    context, x = torch.randn(4, 2, generator=seeded(2)), points(SPHERE, 3)
    laws = conditional.distribution(context)
    assert laws.batch_shape == (4,)
    assert laws.sample((5,)).shape == (5, 4, 3)
    value = laws.log_prob(x[:, None])
    expected = torch.stack([conditional.log_prob(x, row) for row in context], 1)
    assert torch.allclose(value, expected, rtol=0, atol=1e-4)
    assert torch.allclose(laws.log_prob(x[0]), value[0], rtol=0, atol=1e-4)
    assert (expected.std(1) > 1e-3).all()


@pytest.mark.parametrize("shape", [(), (3, 2), (2, 4, 2)], ids=str)
def test_contexts_that_do_not_broadcast(conditional, shape):
    x, context = points(SPHERE, 4), torch.zeros(shape)
    message = r"expected a context \(4, features\), or one of \(features,\) for all, found "
    with pytest.raises(ValueError, match=message):
        conditional.log_prob(x, context)
    with pytest.raises(ValueError, match=message):
        conditional.sample(4, context)


def test_a_context_is_finite(conditional):
    with pytest.raises(ValueError, match="expected a context of finite numbers"):
        conditional.log_prob(points(SPHERE, 2), [1.0, float("nan")])


# ---- many points


@pytest.mark.parametrize("given", [False, True])
def test_many_points_are_scored_part_by_part(given, monkeypatch):
    """With what the model says of each part, its context, gradient and cost; as many as fit in one part at once."""
    torch.manual_seed(0)
    network = partial(MLP, hidden=[8], context_features=2 if given else 0)
    model = FlowMatching(Sphere(2), network=network, solver=ODESolver(tolerance=1e-3))
    x, context = points(model.manifold, 25), torch.randn(25, 2) if given else None
    whole = model.log_prob(x, context)
    asked, likelihood = [], FlowMatching.likelihood

    def watched(self, y, labels=None):
        found = likelihood(self, y, labels)
        asked.append((len(y), found.nfe))
        return found

    monkeypatch.setattr(FlowMatching, "likelihood", watched)
    assert torch.equal(model.log_prob(x, context), whole)
    assert [n for n, _ in asked] == [25]
    asked.clear()
    monkeypatch.setattr(parts, "PART", 10)
    y = x.clone().requires_grad_()
    value = model.log_prob(y, context)
    assert [n for n, _ in asked] == [10, 10, 5]
    rows = [slice(0, 10), slice(10, 20), slice(20, 25)]
    expected = [likelihood(model, x[row], None if context is None else context[row]).value for row in rows]
    assert torch.equal(value, torch.cat(expected))
    (gradient,) = torch.autograd.grad(value.sum(), y)
    z = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(likelihood(model, z[:10], None if context is None else context[:10]).value.sum(), z)
    assert torch.equal(gradient[:10], first[:10])
    found = parts.in_parts(model.likelihood, x, context)
    assert found.nfe == pytest.approx(sum(n * nfe for n, nfe in asked[:3]) / 25)
    assert (found.exact, found.solver) == (True, model.solver.settings())


def test_a_million_points_show_how_far_they_are(monkeypatch, capsys):
    monkeypatch.setattr(parts, "PART", 10)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    model = KernelDensity(Sphere(2), widths=2)
    x = points(model.manifold, 25)
    model.fit_points(x, x)
    capsys.readouterr()
    model.log_prob(x)
    assert capsys.readouterr().err == ""
    with progress.visible():
        model.log_prob(x)
    assert "log-densities of all points" in capsys.readouterr().err


#: the most memory that the process has had, after one part and after all of them
_MEMORY = """
import resource, sys, torch, rsgm
from functools import partial
from rsgm.likelihood import PART, ODESolver
from rsgm.networks import MLP
x = rsgm.Sphere(2).random_uniform(10**6, 3)
if sys.argv[1] == "kernels":
    model = rsgm.KernelDensity(rsgm.Sphere(2), widths=4)
    model.fit_points(x[:50], x[50:60])
else:
    solver = ODESolver(tolerance=0.1, dtype="float32", batch_size=PART)
    model = rsgm.FlowMatching(rsgm.Sphere(2), network=partial(MLP, hidden=[4]), solver=solver)
for n in (PART, len(x)):
    model.log_prob(x[:n])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("law", ["kernels", "flow"])
def test_a_million_points_need_the_memory_of_one_part(law):
    done = subprocess.run([sys.executable, "-c", _MEMORY, law], capture_output=True, text=True, check=True)
    one, all_of_them = map(int, done.stdout.split())
    assert all_of_them < 1.1 * one
