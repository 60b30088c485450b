"""Kent laws: the normaliser, draws, maximum likelihood, and mixtures fitted by EM."""

import math
from itertools import pairwise

import pytest
import torch

from conftest import quadrature, within
from helpers import seeded
from rsgm import Euclidean, KentMixture, Sphere
from rsgm.distributions import Kent, Mixture, VonMisesFisher, fit_kent
from rsgm.models import kent

SPHERE = Sphere(2)
#: concentrations and ovalnesses from uniform to narrow, round to nearly folded
SHAPES = [(0, 0), (1e-3, 4e-4), (3, 1), (50, 20), (50, 24.9), (1e3, 0), (1e4, 4999.0), (1e6, 1e5)]


def frames(n: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(n, 3, 3, generator=seeded(seed), dtype=torch.float64))[0]


def law(kappa: float, beta: float, dtype: torch.dtype = torch.float64) -> Kent:
    return Kent(frames(1)[0].to(dtype), kappa, beta)


# ---- the law


def test_reference(reference):
    for case in reference("densities")["kent"]:
        frame = torch.tensor([case[f"gamma{k}"] for k in (1, 2, 3)], dtype=torch.float64).T
        x = torch.tensor(case["x"], dtype=torch.float64)
        found = Kent(frame, case["kappa"], case["beta"])
        assert float(found.log_prob(x)) == pytest.approx(case["log_density"], rel=1e-12, abs=1e-13)
        # the normaliser, from the density at the first axis
        assert case["kappa"] - float(found.log_prob(frame[:, 0])) == pytest.approx(case["log_c"], rel=1e-13)


@pytest.mark.parametrize(("kappa", "beta"), SHAPES[:5])
def test_integrates_to_one(kappa, beta):
    nodes, weights = quadrature(SPHERE, 80)
    assert float(weights @ law(kappa, beta).log_prob(nodes).exp()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kappa", [1e-2, 1.0, 1e3, 1e6, 1e9])
def test_without_ovalness_it_is_von_mises_fisher(kappa):
    found = law(kappa, 0)
    expected = VonMisesFisher(SPHERE, found.frame[:, 0], kappa)
    x = expected.draw(100, seeded())
    assert torch.allclose(found.log_prob(x), expected.log_prob(x), rtol=1e-12, atol=1e-9)
    assert float(found.entropy()) == pytest.approx(float(expected.entropy()), abs=1e-6)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9])
def test_normaliser_of_narrow_laws(ratio):
    """log c -> κ - log(κ² - 4β²) / 2 + log 2π, with an error that falls as 1 / κ."""
    errors = []
    for kappa in (1e4, 1e6, 1e8):
        beta = 0.5 * ratio * kappa
        limit = 0.5 * math.log(kappa**2 - 4 * beta**2) - math.log(2 * math.pi)
        found = law(kappa, beta)
        errors.append(abs(float(found.log_prob(found.frame[:, 0])) - limit))
    assert errors[0] < 1e-2
    assert all(after < 0.012 * before + 1e-12 for before, after in pairwise(errors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kappa", "beta"), SHAPES)
def test_draws(kappa, beta, dtype):
    """Surprise and second moments are the law's; 5 standard errors, false alarm 6e-7 per number."""
    found, n = law(kappa, beta, dtype), 20_000
    x = found.draw(n, seeded())
    assert x.dtype == dtype
    assert SPHERE.check_point_on_manifold(x, atol=1e-6, rtol=0)
    assert within(-found.log_prob(x), float(found.entropy()))
    local = (x @ found.frame).double()
    assert within(local[:, 1:], 0.0)
    assert within(local[:, 1] * local[:, 2], 0.0)
    if kappa <= 50:
        nodes, weights = quadrature(SPHERE, 80)
        square = (weights * law(kappa, beta).log_prob(nodes).exp()) @ (nodes @ law(kappa, beta).frame).square()
        assert within(local.square(), square)
    elif beta < 0.4 * kappa:  # the normal law in the tangent plane, up to 1 / κ
        variance = torch.tensor([1 / (kappa - 2 * beta), 1 / (kappa + 2 * beta)], dtype=torch.float64)
        # the relative standard error is 1 %
        assert torch.allclose(local[:, 1:].var(0), variance, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kappa", "beta"), [(1e20, 1e19), (1e37, 0.0), (3e38, 1e38)])
def test_draws_of_the_narrowest_laws_end(kappa, beta, dtype):
    """At the end of single precision too; normal in the tangent plane, 5 standard errors."""
    found = Kent(torch.eye(3, dtype=dtype), kappa, beta)
    x = found.draw(4000, seeded()).double()
    assert within(x[:, 1].square() * (kappa - 2 * beta), 1.0)
    assert within(x[:, 2].square() * (kappa + 2 * beta), 1.0)


def test_shapes_and_generators():
    found = Kent(frames(2), torch.tensor([5.0, 500.0]), torch.tensor(1.0))
    assert found.batch_shape == (2,)
    assert found.draw(5, seeded()).shape == (5, 2, 3)
    assert found.log_prob(found.draw(5, seeded())).shape == (5, 2)
    assert torch.equal(found.draw(5, seeded()), found.draw(5, seeded()))
    assert not torch.equal(found.draw(5, seeded()), found.draw(5, seeded(1)))


@pytest.mark.parametrize(("kappa", "beta"), [(1.0, 0.5), (1.0, 0.6), (-1.0, 0.0), (1.0, -0.1), (math.nan, 0.0)])
def test_parameters_out_of_range(kappa, beta):
    with pytest.raises(ValueError, match=r"Kent: 0 <= 2 \* ovalness < concentration is needed.*two modes"):
        law(kappa, beta)


def test_frames_are_checked():
    with pytest.raises(ValueError, match=r"must end with the shape \(3, 3\), found \(3, 2\)"):
        Kent(torch.ones(3, 2), 1.0, 0.0)
    with pytest.raises(ValueError, match="orthonormal"):
        Kent(2 * torch.eye(3), 1.0, 0.0)


# ---- maximum likelihood


def anything(n: int) -> Kent:
    """A start with nothing to say."""
    return Kent(torch.eye(3, dtype=torch.float64).expand(n, 3, 3), torch.ones(n), torch.zeros(n))


@pytest.mark.parametrize(("kappa", "beta"), SHAPES[2:])
def test_fit_is_a_maximum(kappa, beta):
    """Above the truth on its own points, by no more than chance allows, and no neighbour is better."""
    truth, n = law(kappa, beta), 4000
    x = truth.draw(n, seeded())
    found = fit_kent(anything(1), x, torch.ones(n, 1), 1e10, steps=20)
    best = float(found.log_prob(x[:, None]).sum())
    # twice the gain is chi-squared with 5 degrees of freedom: above 40 once in 7e6
    assert 0 < best - float(truth.log_prob(x).sum()) < 20
    for factors in ((1.05, 1.0), (0.95, 1.0), (1.0, 1.05), (1.0, 0.95)):
        a = float(found.concentration - 2 * found.ovalness) * factors[0]
        b = float(found.concentration + 2 * found.ovalness) * factors[1]
        if a <= b:
            other = Kent(found.frame[0], (a + b) / 2, (b - a) / 4)
            # a law at the edge of the family, where a is all but zero, does not feel a change of a
            assert float(other.log_prob(x).sum()) < best + 1e-6
    for sign in (-1, 1):
        for axis in torch.eye(3, dtype=torch.float64):
            generator = torch.linalg.cross(torch.eye(3, dtype=torch.float64), axis.expand(3, 3))
            turn = torch.linalg.matrix_exp(sign * 0.2 / kappa**0.5 * generator)
            other = Kent(turn @ found.frame[0], found.concentration[0], found.ovalness[0])
            assert float(other.log_prob(x).sum()) <= best + 1e-6


def test_fit_never_lowers_the_likelihood():
    """From any start, with any weights, and against the bound on the precision."""
    x = law(20, 8).draw(300, seeded())
    for seed in range(10):
        kappa = 10 ** (4 * torch.rand(6, generator=seeded(seed), dtype=torch.float64) - 1)
        start = Kent(frames(6, seed), kappa, 0.49 * kappa * torch.rand(6, generator=seeded(seed + 1)))
        weights = torch.rand(300, 6, generator=seeded(seed), dtype=torch.float64) ** 8
        for bound in (1e4, 1e8):
            found = fit_kent(start, x, weights, bound)
            gain = (weights * (found.log_prob(x[:, None]) - start.log_prob(x[:, None]))).sum(0)
            within_bound = start.concentration + 2 * start.ovalness <= bound
            assert (gain >= -1e-9)[within_bound].all()
            assert (found.concentration + 2 * found.ovalness <= bound * (1 + 1e-9)).all()


def test_fit_of_one_place_stops_at_the_bound():
    x = torch.tensor([[0.0, 0.6, 0.8]], dtype=torch.float64).expand(7, 3)
    found = fit_kent(anything(1), x, torch.ones(7, 1), 1e6, steps=30)
    assert float(found.concentration) == pytest.approx(1e6, rel=1e-6)
    assert float(found.ovalness) == pytest.approx(0, abs=1)
    assert torch.allclose(found.frame[0, :, 0], x[0])


# ---- mixtures


def target(components: int, spread: float, seed: int) -> KentMixture:
    """A mixture with known parameters, its means ``spread`` radians about one place."""
    model = KentMixture(SPHERE, components=components)
    base = frames(1, seed) + spread * torch.randn(components, 3, 3, generator=seeded(seed), dtype=torch.float64)
    model.frames = torch.linalg.qr(base)[0]
    model.concentrations = 10 ** (2.5 + torch.rand(components, generator=seeded(seed + 1), dtype=torch.float64))
    model.ovalnesses = 0.49 * model.concentrations * torch.rand(components, generator=seeded(seed + 2)).double()
    weights = 0.3 + torch.rand(components, generator=seeded(seed + 3), dtype=torch.float64)
    model.weights = weights / weights.sum()
    return model


@pytest.mark.parametrize(
    ("components", "spread"), [(3, 3.0), pytest.param(4, 0.1, marks=pytest.mark.slow)], ids=["far", "near"]
)
def test_em_recovers_a_mixture(components, spread):
    """Above the truth on the training points, and within 1 % of it on new ones."""
    truth = target(components, spread, seed=7)
    train, val, test = (truth.sample(n, seed=k) for k, n in enumerate((4000, 500, 5000)))
    model = KentMixture(SPHERE, components=components, restarts=4)
    model.fit_points(train, val)
    assert model.log_prob(train).mean() > truth.log_prob(train).mean()
    expected = truth.log_prob(test).mean()
    # the cost of estimating 6 K - 1 parameters from 4000 points is 0.002 to 0.004 nats
    assert expected - model.log_prob(test).mean() < 0.01 * abs(expected)


def test_em_never_lowers_the_likelihood():
    """More iterations from the same start: no lower, at any of them."""
    train = target(5, 0.5, seed=3).sample(1500, seed=0)
    values = []
    for iterations in (*range(2, 12), 20, 40):
        model = KentMixture(SPHERE, components=5, restarts=1, iterations=iterations, tolerance=0.0)
        model.fit_points(train, train[:10])
        values.append(float(model.log_prob(train).mean()))
    assert all(after >= before - 1e-12 for before, after in pairwise(values))
    assert values[-1] > values[0] + 0.01


@pytest.mark.parametrize(("kappa", "beta"), [(3, 1), (10, 4), (50, 10), (50, 24)])
def test_fit_stays_within_a_bound_near_the_precision_of_the_data(kappa, beta):
    """Where steps from within would lead across it."""
    x = law(kappa, beta).draw(500, seeded())
    free = fit_kent(anything(1), x, torch.ones(500, 1), 1e6, steps=30)
    for share in (0.8, 0.95):
        bound = share * float(free.concentration + 2 * free.ovalness)
        found = fit_kent(anything(1), x, torch.ones(500, 1), bound, steps=30)
        assert float(found.concentration + 2 * found.ovalness) <= bound * (1 + 1e-9)


@pytest.mark.slow
def test_validation_chooses_among_the_starts():
    truth = target(5, 3.0, seed=2)
    train, val = truth.sample(400, seed=0), truth.sample(400, seed=1)
    scores = []
    for restarts in (1, 2, 4, 8):
        model = KentMixture(SPHERE, components=5, restarts=restarts, iterations=30)
        model.fit_points(train, val)
        scores.append(float(model.log_prob(val).mean()))
    assert scores == sorted(scores)
    assert scores[-1] > scores[0]


def test_the_start_that_is_kept_is_the_best_on_validation(monkeypatch):
    """Not on the training points, where another one is better."""
    train, val = (torch.eye(3, dtype=torch.float64)[[axis]] for axis in (0, 1))
    laws = [Kent(torch.eye(3, dtype=torch.float64)[None][:, :, order], 20.0, 0.0) for order in ([0, 1, 2], [1, 2, 0])]
    assert laws[0].log_prob(train) > laws[1].log_prob(train)
    for starts in (laws, laws[::-1]):
        fits = iter(starts)

        def fit(self, x, generator, shown, fits=fits):
            return Mixture(next(fits).expand((1,)), torch.ones(1).double())

        monkeypatch.setattr(KentMixture, "_fit", fit)
        model = KentMixture(SPHERE, components=1, restarts=2)
        model.fit_points(train, val)
        assert torch.equal(model.frames, laws[1].frame)


def test_samples_follow_the_density():
    model = target(4, 1.0, seed=1)
    nodes, weights = quadrature(SPHERE, 80)
    log_prob = model.log_prob(nodes)
    assert within(model.log_prob(model.sample(20_000, seed=0)), float(weights @ (log_prob.exp() * log_prob)))


def test_fewer_points_than_components():
    """Of the two points' starts four are empty; at the end each point has a law of the smallest width."""
    x = torch.eye(3, dtype=torch.float64)[:2]
    model = KentMixture(SPHERE, components=6, restarts=1, iterations=10, min_width=1e-2)
    model.fit_points(x, x)
    assert float(model.log_prob(x).mean()) == pytest.approx(math.log(1e4 / (2 * math.pi) / 2), abs=1e-2)


def test_the_model_is_the_mixture_of_its_laws():
    """Density and draws, also where a component has lost all of its points."""
    model = target(3, 3.0, seed=2)
    model.weights[1] = 0.0
    model.weights /= model.weights.sum()
    parts = Kent(model.frames, model.concentrations, model.ovalnesses)
    x = model.sample(200, seed=0)
    first, _, last = (model.weights.log() + parts.log_prob(x.double()[:, None])).unbind(1)
    assert torch.allclose(model.log_prob(x.double()), torch.logaddexp(first, last), rtol=1e-6)
    nearest = parts.log_prob(x.double()[:, None])[:, [0, 2]].argmax(1)
    assert within(nearest.double(), float(model.weights[2]))


def test_repeated_points_and_more_components_than_points():
    """No component collapses beyond the width, none fails for want of points."""
    x = SPHERE.random_uniform(3, 3, generator=seeded(), dtype=torch.float64).repeat(10, 1)
    model = KentMixture(SPHERE, components=6, restarts=2, iterations=30, min_width=1e-3)
    model.fit_points(x, x)
    # three places of equal weight, each at the narrowest
    assert float(model.log_prob(x).mean()) == pytest.approx(math.log(1e6 / (2 * math.pi) / 3), abs=1e-3)
    assert float((model.concentrations + 2 * model.ovalnesses).max()) <= 1e6 * (1 + 1e-9)
    assert torch.isfinite(model.log_prob(-x)).all()


def test_an_empty_component_is_given_half_of_the_largest():
    x = law(10, 2).draw(100, seeded())
    share = torch.zeros(100, 3, dtype=torch.float64)
    share[:, 0] = 1
    found = kent._refill(share, x, seeded())
    assert torch.allclose(found.sum(1), torch.ones(100, dtype=torch.float64))
    assert (found.sum(0) >= 1).all()
    assert torch.equal(kent._refill(found, x, seeded()), found)


def test_arguments():
    for arguments in ({"components": 0}, {"restarts": 0}, {"iterations": 0}, {"min_width": 0.0}):
        with pytest.raises(ValueError, match=r"components, restarts and iterations >= 1 and 0 < min_width < 1"):
            KentMixture(SPHERE, **arguments)
    for manifold in (Sphere(3), Euclidean(2), Euclidean(3)):
        with pytest.raises(ValueError, match=r"KentMixture: the Kent law lives on Sphere\(2\), found"):
            KentMixture(manifold)
    with pytest.raises(RuntimeError, match="KentMixture has no points yet; call fit_points, or train it"):
        KentMixture(SPHERE).sample(2)
