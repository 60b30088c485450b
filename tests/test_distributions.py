"""Laws on manifolds against reference values, closed forms and their own draws."""

import json
import math
from pathlib import Path

import pytest
import torch

from conftest import within
from rsgm.distributions import ProductDistribution, Uniform, VonMisesFisher, WrappedNormal
from rsgm.manifolds import Euclidean, Hyperbolic, Product, Sphere
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


# ---- the wrapped normal law


def test_wrapped_normal_reference():
    """On S^2 along other axes than the frame's: loc and axes of the reference are rotated to the frame's."""
    if not REFERENCE.is_file():
        pytest.skip("no shared/reference/densities.json in the folders above the tests")
    for case in json.loads(REFERENCE.read_text())["wrapped_normal_S2_anisotropic"]:
        axes = torch.tensor([case["mu"], case["e1"], case["e2"]], dtype=torch.float64)
        x = axes @ torch.tensor(case["x"], dtype=torch.float64)
        loc = torch.tensor([1.0, 0, 0], dtype=torch.float64)
        # the frame at the first axis is that of the others, up to signs
        law = WrappedNormal(Sphere(2), loc, torch.tensor([0.1, 0.1]))
        law.scale = torch.tensor(case["sigma"], dtype=torch.float64)  # larger than the class allows
        assert law.log_prob(x).item() == pytest.approx(case["logp_principal"], abs=1e-12)


def test_wrapped_normal_in_flat_space_is_normal():
    loc, scale = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[0.5, 2.0], [1.0, 0.1]])
    law = WrappedNormal(Euclidean(2), loc, scale)
    x = torch.randn(7, 2, 2, generator=generator_from("x"))
    torch.testing.assert_close(law.log_prob(x), torch.distributions.Normal(loc, scale).log_prob(x).sum(-1))


@pytest.mark.parametrize("dim", [2, 3])
def test_wrapped_normal_on_hyperbolic_space(dim):
    """Normalised by quadrature in normal coordinates of the origin, and sampled; false alarm 6e-7 per number."""
    space = Hyperbolic(dim)
    loc = space.from_ball(torch.tensor([[0.4, 0.0, 0.1][:dim], [0.0, -0.3, 0.2][:dim]], dtype=torch.float64))
    scale = torch.tensor([[0.15, 0.5, 0.3][:dim], [0.4, 0.2, 0.3][:dim]], dtype=torch.float64)
    law = WrappedNormal(space, loc, scale)
    n = 20_000
    x = law.draw(n, generator_from("draws"))
    assert x.shape == (n, 2, dim + 1)
    assert law.batch_shape == (2,)
    # importance sampling of the volume itself, from a wide law at the origin
    wide = WrappedNormal(space, space.origin(dim + 1, dtype=torch.float64), 1.0)
    y = wide.draw(200_000, generator_from("wide"))
    ratio = (law.log_prob(y[:, None].expand(-1, 2, -1)) - wide.log_prob(y)[:, None]).exp()
    assert within(ratio, 1.0)
    u = space.logmap(loc.expand_as(x), x)
    components = space.inner(loc, space.frame(loc)[:, None], u).movedim(0, -1)
    assert within(components, 0.0)
    assert within(components[..., :, None] * components[..., None, :], torch.diag_embed(scale.square()))
    entropy = 0.5 * dim * math.log(2 * math.pi * math.e) + scale.log().sum(-1)
    assert within(-law.log_prob(x) - space.log_det_exp(loc.expand_as(x), u), entropy)
    one, two = (law.draw(5, generator_from("a")) for _ in range(2))
    assert torch.equal(one, two)


def test_wrapped_normal_errors():
    sphere = Sphere(2)
    with pytest.raises(ValueError, match=r"tails wrap round Sphere.*up to 3.14; use BrownianLaw"):
        WrappedNormal(sphere, sphere.origin(3), 0.6)
    with pytest.raises(ValueError, match=r"loc must end with the shape \(3,\)"):
        WrappedNormal(sphere, torch.ones(2), 0.1)
    with pytest.raises(ValueError, match=r"scale must be positive, found -1"):
        WrappedNormal(Euclidean(2), torch.zeros(2), torch.tensor([1.0, -1.0]))


def test_product_distribution():
    product = Product([Sphere(2), Euclidean(2)])
    law = ProductDistribution(product, [Uniform(Sphere(2)), WrappedNormal(Euclidean(2), torch.zeros(2), 2.0)])
    x = law.draw(20_000, generator_from("draws"))
    assert x.shape == (20_000, 5)
    assert law.sample((2, 3)).shape == (2, 3, 5)
    assert within(x, 0.0)
    assert within(x.square(), torch.tensor([1 / 3, 1 / 3, 1 / 3, 4, 4]))
    expected = -math.log(4 * math.pi) + torch.distributions.Normal(0, 2).log_prob(x[:, 3:]).sum(-1)
    torch.testing.assert_close(law.log_prob(x), expected)
