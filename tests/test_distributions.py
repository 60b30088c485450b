"""The von Mises-Fisher law against reference values and its own draws."""

import json
from pathlib import Path

import pytest
import torch

from rsgm.distributions import VonMisesFisher
from rsgm.manifolds import Sphere
from rsgm.seeding import generator_from

REFERENCE = Path(__file__).parents[2] / "shared/reference/densities.json"


def cases() -> list[dict]:
    if not REFERENCE.is_file():
        return []
    return json.loads(REFERENCE.read_text())["von_mises_fisher"]


def law(case: dict) -> VonMisesFisher:
    mu = torch.tensor(case["mu"], dtype=torch.float64)
    return VonMisesFisher(Sphere(case["ambient_dim"] - 1), mu, case["kappa"])


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"S{case['ambient_dim'] - 1}-{case['kappa']:g}")
def test_reference(case):
    x = torch.tensor(case["x"], dtype=torch.float64)
    assert law(case).log_prob(x).item() == pytest.approx(case["log_density"], rel=1e-12, abs=1e-11)
    assert law(case).entropy().item() == pytest.approx(case["entropy"], rel=1e-11, abs=1e-11)
    assert law(case).mean_resultant_length.item() == pytest.approx(case["mean_resultant"], rel=1e-11)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("kappa", [0.5, 15.0, 1e4])
def test_draws_have_the_mean_and_the_entropy(dim, kappa):
    sphere = Sphere(dim)
    mu = sphere.random_uniform(1, dim + 1, generator=generator_from("mu", dim), dtype=torch.float64)[0]
    target = VonMisesFisher(sphere, mu, kappa)
    x = target.draw(20_000, generator_from("draws", dim))
    assert (x.norm(dim=-1) - 1).abs().max() < 1e-14
    heights = x @ mu
    error = heights.std() / len(x) ** 0.5
    assert abs(heights.mean() - target.mean_resultant_length) < 5 * error
    # in the tangent directions the mean is zero
    assert ((x - heights[:, None] * mu).mean(0).norm() / (1 / len(x)) ** 0.5) < 5
    surprise = -target.log_prob(x)
    assert abs(surprise.mean() - target.entropy()) < 5 * surprise.std() / len(x) ** 0.5


def test_shapes_and_generators():
    mu = torch.eye(3)
    target = VonMisesFisher(Sphere(2), mu, torch.tensor([1.0, 10.0, 100.0]))
    assert target.sample((4, 2)).shape == (4, 2, 3, 3)
    assert target.sample().shape == (3, 3)
    assert target.draw(5).shape == (5, 3, 3)
    assert target.log_prob(target.draw(5)).shape == (5, 3)
    assert target.entropy().shape == target.batch_shape == (3,)
    one, two = (target.draw(5, generator_from("a")) for _ in range(2))
    assert torch.equal(one, two)
    assert one.dtype == torch.float32


def test_errors():
    with pytest.raises(ValueError, match=r"loc must end with the shape \(3,\)"):
        VonMisesFisher(Sphere(2), torch.ones(2), 1.0)
    with pytest.raises(ValueError, match="concentration"):
        VonMisesFisher(Sphere(2), torch.eye(3)[0], -1.0)
