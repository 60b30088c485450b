"""Guards on the cost of solves: ratios of contestants in one run, with a wide margin."""

import sys
from functools import partial
from pathlib import Path

import torch

from helpers import seeded
from rsgm import FlowMatching, Sphere
from rsgm.likelihood import ODESolver
from rsgm.metrics.samples import energy_distance
from rsgm.networks import MLP, SiLU

sys.path.append(str(Path(__file__).parent / "benchmarks"))

from flows import midpoint_sample
from timing import measure


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
