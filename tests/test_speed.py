"""What was made fast stays so: ratios within one run, never seconds, with a margin of two for a shared machine."""

import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

from flows import midpoint_sample
from timing import measure

from helpers import seeded
from rsgm import FlowMatching
from rsgm.distributions import VonMisesFisher
from rsgm.heat_kernels import SPHERE2
from rsgm.likelihood import ODESolver
from rsgm.manifolds import Euclidean, Manifold, SpecialOrthogonal, Sphere, Torus
from rsgm.metrics.samples import energy_distance
from rsgm.networks import MLP, SiLU


@pytest.mark.parametrize(
    ("manifold", "most"),
    [(Sphere(2), 0.2), (Torus(7), 0.1), (Euclidean(2), 0.1), (SpecialOrthogonal(), 0.2)],
    ids=str,
)
def test_geodesics_beside_their_derivation(manifold, most):
    """Seen .06, .05, .015 and .07 of the derivative of the exponential map."""
    x0, x1 = torch.randn(2, 512, *manifold.shape, generator=seeded())
    x0, x1, t = manifold.projx(x0), manifold.projx(x1), torch.rand(512, generator=seeded(1))
    cases = {"own": partial(manifold.geodesic, x0, x1, t), "derived": partial(Manifold.geodesic, manifold, x0, x1, t)}
    assert measure(cases, rounds=5, least=0.01).ratio("own", "derived") < most


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 0.8), (torch.float64, 3.0)], ids=["float32", "float64"])
def test_heat_kernels_beside_a_plain_series(dtype, most):
    """Seen .36 and 1.3 of 100 terms."""
    from bench_heat_kernels import series

    n = 2**14
    s = 2.5 * torch.rand(n, generator=seeded(), dtype=dtype).square().clamp_min(1e-6)
    distance = SPHERE2.sample_distance(torch.randn(n, 2, generator=seeded(1), dtype=dtype).norm(dim=-1), s)
    cases = {
        "own": partial(SPHERE2.evaluate, distance, s, math.pi - distance),
        "series": partial(series, distance, s),
    }
    assert measure(cases, rounds=3, least=0.01).ratio("own", "series") < most


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("dim", "most"), [(2, 2.0), (9, 2.4), (99, 1.5)])
def test_draws_beside_scipy(dim, most, dtype):
    """Seen .7 and 1.0 (S2), .5 and 1.2 (S9), .25 and .75 (S99)."""
    n, mean = 200_000 // (dim + 1), Sphere(dim).origin(dim + 1, dtype=dtype)
    theirs = scipy.stats.vonmises_fisher(mean.double().numpy(), 50.0)
    cases = {
        "own": partial(VonMisesFisher(Sphere(dim), mean, 50.0).draw, n, seeded()),
        "scipy": partial(theirs.rvs, n, random_state=np.random.default_rng(0)),
    }
    assert measure(cases, rounds=5, least=0.01).ratio("own", "scipy") < most


def flow(width: int = 256):
    """That of a network with some shape, not fitted to anything."""
    torch.manual_seed(0)
    model = FlowMatching(Sphere(2), network=partial(MLP, hidden=[width] * 3, activation=SiLU))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.5
    return model.flow.eval()


def test_a_network_in_single_precision_is_faster():
    """Usually .6; and its samples, at their own tolerance, are not much dearer than a fixed midpoint rule."""
    law, x = flow(), Sphere(2).random_uniform(128, 3, generator=seeded()).double()
    noise = law.prior.draw(128, seeded())
    cases = {
        "mixed": lambda: ODESolver(1e-4).log_prob(law, x),
        "double": lambda: ODESolver(1e-4, "float64").log_prob(law, x),
        "samples": lambda: ODESolver().sample(law, 128, generator=seeded()),
        "midpoint": lambda: midpoint_sample(law, noise),
    }
    times = measure(cases, rounds=3, least=0.02)
    assert times.ratio("mixed", "double") < 0.85
    assert times.ratio("samples", "midpoint") < 2


def test_samples_at_their_own_tolerance_have_the_same_law():
    """Beside samples of the same noise at 1e-7: the energy distance to the law's points does not change."""
    law = flow(64)
    usual = ODESolver().sample(law, 1000, generator=seeded())
    fine = ODESolver(sample_tolerance=1e-7).sample(law, 1000, generator=seeded())
    others = ODESolver(sample_tolerance=1e-7).sample(law, 1000, generator=seeded(1))
    assert 0 < float((usual - fine).norm(dim=-1).square().mean().sqrt()) < 1e-3
    assert abs(energy_distance(usual, others) - energy_distance(fine, others)) < 1e-4
