"""A row that counts k is the same as the row k times."""

import pytest
import torch

from helpers import seeded
from rsgm.distributions import WrappedNormal
from rsgm.distributions.combined import fit_weights
from rsgm.manifolds import Product, Sphere, Torus
from rsgm.metrics import summary
from rsgm.models import AdaptiveKernelDensity, KentMixture, KernelDensity, ModelMixture, NeuralKernelDensity

N, VAL = 60, 20
MODELS = [
    pytest.param(lambda: KernelDensity(Sphere(2)), Sphere(2), id="KernelDensity"),
    pytest.param(lambda: KernelDensity(Torus(2), min_width=0.05), Torus(2), id="KernelDensity on a torus"),
    pytest.param(
        lambda: AdaptiveKernelDensity(Product([Sphere(2), Torus(1)]), min_width=0.05),
        Product([Sphere(2), Torus(1)]),
        id="AdaptiveKernelDensity",
    ),
    pytest.param(lambda: KentMixture(Sphere(2), components=1), Sphere(2), id="KentMixture"),
    pytest.param(
        lambda: ModelMixture([KentMixture(Sphere(2), components=1), KernelDensity(Sphere(2))]),
        Sphere(2),
        id="ModelMixture",
    ),
]


def drawn(manifold):
    x = WrappedNormal(manifold, scale=0.4).draw(N + VAL, seeded()).double()
    counts = torch.randint(0, 4, (N + VAL,), generator=seeded(1)).double()
    counts[0] = counts[N] = 2.0
    return x[:N], x[N:], (counts[:N], counts[N:])


def repeated(x, counts):
    return x.repeat_interleave(counts.long(), 0)


@pytest.mark.parametrize("make, manifold", MODELS)
def test_a_fit_in_one_pass(make, manifold):
    train, val, weights = drawn(manifold)
    weighted, rows, plain = make(), make(), make()
    weighted.fit_points(train, val, weights=weights)
    rows.fit_points(repeated(train, weights[0]), repeated(val, weights[1]))
    plain.fit_points(train, val)
    x = manifold.random_uniform(200, *manifold.shape, generator=seeded(2), dtype=torch.float64)
    expected = rows.log_prob(x)
    torch.testing.assert_close(weighted.log_prob(x), expected, rtol=1e-7, atol=1e-7)
    assert (plain.log_prob(x) - expected).abs().max() > 0.01


def test_a_learned_kernel_density_draws_places_by_their_weights():
    train, val, weights = drawn(Sphere(2))
    models = [NeuralKernelDensity(Sphere(2), min_width=0.05) for _ in range(2)]
    models[0].fit_points(train, val, weights=weights)
    models[1].fit_points(repeated(train, weights[0]), val)
    for one, other in zip(models[0]._left_out, models[1]._left_out, strict=True):
        torch.testing.assert_close(one[1:], other[1:])


def test_samples_of_a_kernel_density_are_near_points_that_count():
    train, _, weights = drawn(Sphere(2))
    counts = torch.zeros(N).double().index_fill(0, torch.tensor([3]), 1.0)
    model = KernelDensity(Sphere(2), max_width=0.01)
    model.fit_points(train, train[3:4].expand(5, 3), weights=(counts, weights[1][:5] + 1))
    x = model.sample(200, seed=0).double()
    assert (Sphere(2).dist(x, train[3].expand_as(x)) < 0.1).double().mean() > 0.9


def test_weights_of_laws():
    log_parts = torch.randn(50, 3, generator=seeded(), dtype=torch.float64)
    counts = torch.randint(0, 4, (50,), generator=seeded(1)).double()
    torch.testing.assert_close(fit_weights(log_parts, 200, counts), fit_weights(repeated(log_parts, counts), 200))


def test_means_and_their_errors():
    values = torch.randn(40, generator=seeded(), dtype=torch.float64)
    places = torch.arange(40) % 15
    counts = torch.randint(1, 4, (40,), generator=seeded(1)).double()
    weighted = summary(values, places, counts)
    rows = summary(repeated(values, counts), repeated(places, counts))
    for key in ("mean", "standard_error", "median", "places"):
        assert weighted[key] == pytest.approx(rows[key], rel=1e-12)
