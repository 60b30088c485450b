"""Laws on manifolds: the contract of every one, reference values, closed forms and their own draws."""

import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, kl_divergence

from conftest import concrete, within
from helpers import curvature, seeded
from rsgm.distributions import (
    BrownianLaw,
    Checkerboard,
    GaussianMixture,
    HyperbolicCross,
    Kent,
    ManifoldDistribution,
    Mixture,
    Moons,
    Normal,
    PolarVonMisesFisher,
    ProductDistribution,
    RandomRotationMixture,
    RandomVonMisesFisherMixture,
    RandomWrappedNormalMixture,
    SwissRoll,
    TorusWrappedNormal,
    Uniform,
    VonMisesFisher,
    WrappedNormal,
    default_prior,
)
from rsgm.manifolds import Euclidean, Hyperbolic, Product, SpecialOrthogonal, Sphere, Torus
from rsgm.seeding import generator_from

NAN, INF = math.nan, math.inf
NORTH = torch.eye(3)[2]
REFERENCE = Path(__file__).parents[2] / "shared/reference/densities.json"


def cases() -> list[dict]:
    if not REFERENCE.is_file():
        return []
    return json.loads(REFERENCE.read_text())["von_mises_fisher"]


# ---- the contract of every law


def directions(n: int, dim: int = 2) -> torch.Tensor:
    return Sphere(dim).random_uniform(n, dim + 1, generator=generator_from("directions"), dtype=torch.float64)


def rotations(n: int) -> torch.Tensor:
    return SpecialOrthogonal().random_uniform(n, 3, 3, generator=generator_from("rotations"), dtype=torch.float64)


def vmf_mixture() -> Mixture:
    return Mixture(VonMisesFisher(Sphere(2), directions(6).reshape(2, 3, 3), 20.0), torch.tensor([1.0, 2.0, 3.0]))


#: laws of each class, from nothing; what a class has with a batch comes after what it has without
LAWS = {
    "Uniform": [lambda: Uniform(Sphere(2)), lambda: Uniform(SpecialOrthogonal())],
    "Normal": [lambda: Normal(Euclidean(3), 2.0)],
    "VonMisesFisher": [
        lambda: VonMisesFisher(Sphere(1), directions(1, 1)[0], 3.0),
        lambda: VonMisesFisher(Sphere(2), directions(2), torch.tensor([0.1, 50.0])),
        lambda: VonMisesFisher(Sphere(5), directions(1, 5)[0], torch.tensor([4.0, 500.0])),
    ],
    "Kent": [
        lambda: Kent(rotations(1)[0], 10.0, 3.0),
        lambda: Kent(rotations(2), torch.tensor([10.0, 200.0]), torch.tensor(3.0)),
    ],
    "WrappedNormal": [
        lambda: WrappedNormal(Hyperbolic(2), scale=0.7),
        lambda: WrappedNormal(Sphere(2), directions(2), torch.tensor([0.1, 0.4])),
        lambda: WrappedNormal(SpecialOrthogonal(), rotations(2), 0.3),
        lambda: WrappedNormal(SpecialOrthogonal(), rotations(1)[0], torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.3, 0.3]])),
        lambda: WrappedNormal(Euclidean(2), torch.ones(2, 2), 3.0),
    ],
    "BrownianLaw": [
        lambda: BrownianLaw(Torus(2), Torus(2).origin(2, 2, dtype=torch.float64), 0.3),
        lambda: BrownianLaw(SpecialOrthogonal(), rotations(2), 0.2),
        lambda: BrownianLaw(Sphere(2), directions(2), torch.tensor([0.05, 1.0])),
        lambda: BrownianLaw(Hyperbolic(2), Hyperbolic(2).origin(2, 3, dtype=torch.float64), torch.tensor([0.05, 1.0])),
        lambda: BrownianLaw(Product(), Product().origin(2, 4, dtype=torch.float64), torch.tensor([0.05, 1.0])),
    ],
    "Mixture": [lambda: Mixture(VonMisesFisher(Sphere(2), directions(3), 20.0)), vmf_mixture],
    "ProductDistribution": [
        lambda: ProductDistribution(Product(), [Uniform(Sphere(2)), Normal(Euclidean(1))]),
        lambda: ProductDistribution(
            Product(), [VonMisesFisher(Sphere(2), directions(2), 5.0), Normal(Euclidean(1), 0.5)]
        ),
    ],
    "GaussianMixture": [GaussianMixture],
    "Moons": [Moons],
    "SwissRoll": [SwissRoll],
    "Checkerboard": [Checkerboard],
    "HyperbolicCross": [HyperbolicCross],
    "PolarVonMisesFisher": [PolarVonMisesFisher, lambda: PolarVonMisesFisher(5, 100.0)],
    "RandomRotationMixture": [RandomRotationMixture],
    "RandomVonMisesFisherMixture": [RandomVonMisesFisherMixture],
    "RandomWrappedNormalMixture": [lambda: RandomWrappedNormalMixture(Product())],
    "TorusWrappedNormal": [TorusWrappedNormal],
}
every_law = pytest.mark.parametrize(
    "make", [pytest.param(make, id=f"{name}-{k}") for name, makes in LAWS.items() for k, make in enumerate(makes)]
)


def test_every_law_is_here():
    assert {cls.__name__ for cls in concrete(ManifoldDistribution)} == LAWS.keys()


def known(law: ManifoldDistribution, name: str) -> torch.Tensor:
    """A moment, where the law has it; where not, it says so in words."""
    try:
        return getattr(law, name)
    except NotImplementedError as error:
        assert f" has no {name}; " in str(error)  # noqa: PT017
        pytest.skip(str(error))


@every_law
def test_shapes(make):
    law = make()
    shape = (*law.batch_shape, *law.event_shape)
    assert law.event_shape == law.manifold.shape
    assert law.draw(5).shape == (5, *shape)
    assert law.sample((4, 2)).shape == (4, 2, *shape)
    assert law.sample().shape == shape
    x = law.draw(5, generator_from("x"))
    assert torch.equal(x, law.draw(5, generator_from("x")))
    assert law.log_prob(x).shape == (5, *law.batch_shape)
    # one point for all of a batch, and many for each
    assert law.log_prob(x.flatten(0, x.dim() - 1 - len(law.event_shape))[0]).shape == law.batch_shape
    assert law.log_prob(x[:, None]).shape == (5, 1, *law.batch_shape)


@every_law
def test_values_are_points(make):
    law = make()
    x = law.draw(3, generator_from("x"))
    assert law.support.check(x).shape == (3, *law.batch_shape)
    assert law.support.check(x).all()
    assert law.support.event_dim == len(law.event_shape)
    off = x.clone()
    off[1] = off[1] * 1.5 + 0.5
    outside = law.manifold.dim < law.event_shape.numel()
    nowhere = x.clone()
    nowhere[1] = math.nan
    for bad in [nowhere, off] if outside else [nowhere]:
        assert law.support.check(bad).reshape(3, -1).all(1).tolist() == [True, False, True]
        with pytest.raises(ValueError, match=r"Expected value argument.*to be within the support \(OnManifold"):
            law.log_prob(bad)
    with pytest.raises(ValueError, match="must match event_shape"):
        law.log_prob(torch.ones(3, *law.event_shape[:-1], 7))


@pytest.mark.parametrize(
    "law",
    [
        Uniform(Sphere(2), validate_args=False),
        Normal(Euclidean(2), validate_args=False),
        VonMisesFisher(Sphere(2), 2 * torch.eye(3)[0], math.nan, validate_args=False),
        Kent(torch.eye(3), 2.0, 0.5, validate_args=False),
        WrappedNormal(Hyperbolic(2), torch.ones(3), validate_args=False),
        BrownianLaw(Sphere(2), torch.ones(3), -1.0, validate_args=False),
        Mixture(VonMisesFisher(Sphere(2), torch.eye(3), 1.0, validate_args=False), validate_args=False),
        ProductDistribution(
            Product(),
            [Uniform(Sphere(2), validate_args=False), Normal(Euclidean(1), validate_args=False)],
            validate_args=False,
        ),
    ],
    ids=lambda law: type(law).__name__,
)
def test_checks_can_be_turned_off(law):
    """As in torch: garbage in, garbage out, and no end is missing."""
    assert law.log_prob(torch.full((3, *law.event_shape), math.nan)).shape[0] == 3
    assert law.draw(3).shape[0] == 3


@every_law
def test_the_gradient_is_the_slope_along_geodesics(make):
    law, h = make(), 1e-5
    manifold, x = law.manifold, law.draw(5, generator_from("x")).double()
    v = manifold.random_tangent(x, generator_from("v"))
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(y).sum(), y)
    slope = manifold.inner(x, v, manifold.egrad2rgrad(x, gradient.double()))
    ahead, behind = (law.log_prob(manifold.expmap(x, sign * h * v)) for sign in (1, -1))
    torch.testing.assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-4)


@every_law
def test_expand(make):
    law = make()
    large = law.expand((4, *law.batch_shape))
    assert type(large) is type(law)
    assert large.batch_shape == (4, *law.batch_shape)
    x = large.draw(6, generator_from("x"))
    assert x.shape == (6, 4, *law.batch_shape, *law.event_shape)
    torch.testing.assert_close(large.log_prob(x), law.log_prob(x), rtol=1e-12, atol=1e-12)
    # a point that is the same for the batch
    assert large.log_prob(x[0]).shape == (4, *law.batch_shape)
    assert large.log_prob(x[0, 0]).shape == (4, *law.batch_shape)
    # four independent draws
    assert not torch.equal(x[:, 0], x[:, 1])
    assert law.batch_shape == make().batch_shape
    with pytest.raises(ValueError, match="does not expand to"):
        large.expand((5, *law.batch_shape))


@every_law
def test_in_laws_of_torch(make):
    """`Independent` sums over the batch, `MixtureSameFamily` mixes it."""
    law = make()
    both = Independent(law.expand((3, *law.batch_shape)), 1)
    x = both.sample((5,))
    assert x.shape == (5, 3, *law.batch_shape, *law.event_shape)
    assert both.support.check(x).all()
    if law.batch_shape:
        torch.testing.assert_close(Independent(law, 1).log_prob(x), law.log_prob(x).sum(-1))
    else:
        torch.testing.assert_close(both.log_prob(x), law.log_prob(x).sum(1))
        assert both.expand((2,)).sample().shape == (2, 3, *law.event_shape)
    count = law.batch_shape[0] if law.batch_shape else 3
    members = law if law.batch_shape else law.expand((count,))
    mixture = MixtureSameFamily(Categorical(torch.arange(1.0, count + 1)), members)
    y = mixture.sample((5,))
    assert y.shape == (5, *law.event_shape)
    assert mixture.support.check(y).all()
    weights = torch.arange(1.0, count + 1) / sum(range(1, count + 1))
    expected = (weights.log() + members.log_prob(y.unsqueeze(1))).logsumexp(1)
    torch.testing.assert_close(mixture.log_prob(y), expected)


@every_law
def test_in_a_plate(make):
    """What Pyro's ``plate`` does: batch axes of size one, expanded to the plate's, values that broadcast with them."""
    law = make()
    plate = law.expand((4, 1, *law.batch_shape)).expand((4, 3, *law.batch_shape))
    x = plate.sample()
    assert x.shape == (4, 3, *law.batch_shape, *law.event_shape)
    torch.testing.assert_close(plate.log_prob(x), law.log_prob(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(plate.log_prob(x[:, :1]), law.log_prob(x[:, :1]).expand(plate.batch_shape))
    # each place has a draw of its own
    assert len(torch.unique(x.flatten(0, 1).flatten(1), dim=0)) == 12
    assert Independent(plate, len(plate.batch_shape)).log_prob(x).shape == ()


@every_law
def test_prints_its_arguments(make):
    law = make()
    assert repr(law).startswith(f"{type(law).__name__}(")
    for name in set(inspect.signature(type(law)).parameters) - {"validate_args"}:
        assert f"{name}: " in repr(law)
    assert len(repr(law)) < 300


def test_prints_numbers_and_shapes():
    sphere = Sphere(2)
    assert repr(Uniform(sphere)) == f"Uniform(manifold: {sphere})"
    law = VonMisesFisher(sphere, NORTH, 20.0)
    assert repr(law) == f"VonMisesFisher(manifold: {sphere}, loc: torch.Size([3]), concentration: 20.0)"
    assert repr(Mixture(law.expand((2,)))).startswith("Mixture(components: VonMisesFisher(manifold: ")


def test_divergence_of_normal_laws():
    p, q = Normal(Euclidean(3), 0.5), Normal(Euclidean(3), 2.0)
    torch_p, torch_q = (torch.distributions.Normal(torch.zeros(3), law.scale) for law in (p, q))
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(torch_p, torch_q).sum())
    assert float(kl_divergence(p, p)) == 0
    assert kl_divergence(p.expand((2, 1)), q.expand((3,))).shape == (2, 3)
    with pytest.raises(ValueError, match="points of one shape are needed"):
        kl_divergence(p, Normal(Euclidean(2)))


@every_law
def test_mean_is_that_of_the_coordinates(make):
    """5 standard errors, false alarm 6e-7 per number."""
    law = make()
    mean = known(law, "mean")
    assert mean.shape == law.batch_shape + law.event_shape
    assert within(law.draw(20_000, generator_from("mean")), mean)


@every_law
def test_mode_is_where_the_density_is_largest(make):
    law = make()
    mode = known(law, "mode")
    assert law.support.check(mode).all()
    peak = law.log_prob(mode)
    assert (law.log_prob(law.draw(2000, generator_from("mode"))) <= peak).all()
    # and close by
    assert (law.log_prob(law.manifold.projx(mode + 1e-3 * torch.randn(200, *mode.shape))) <= peak + 1e-12).all()


@every_law
def test_second_derivatives_at_the_mode(make):
    """Where lengths have none: a law of lengths keeps its own, as Laplace's approximation needs them."""
    law = make()
    mode = known(law, "mode").double()
    one, event = law.batch_shape.numel(), len(law.event_shape)
    for k, x in enumerate(mode.reshape(one, *law.event_shape) if event else mode):

        def log_prob(y, k=k):
            return law.log_prob(y.expand(*law.batch_shape, *law.event_shape)).reshape(one)[k]

        found, expected = curvature(log_prob, law.manifold, x)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("manifold", [Sphere(2), SpecialOrthogonal(), Torus(1)], ids=str)
def test_second_derivatives_by_torch_func_in_single_precision(manifold):
    """Of one point, a number without an axis."""
    x = manifold.origin(*manifold.shape)
    law, zero = BrownianLaw(manifold, x, 0.1), torch.zeros(manifold.dim)

    def log_prob(components):
        return law.log_prob(manifold.expmap(x, manifold.from_frame(x, components)))

    expected = curvature(BrownianLaw(manifold, x.double(), 0.1).log_prob, manifold, x.double())[0]
    found = torch.func.hessian(log_prob)(zero)
    assert torch.allclose(found, expected.diag().float(), rtol=1e-4)


@every_law
def test_draws_without_derivatives_say_so(make):
    law = make()
    if law.has_rsample:
        assert law.rsample((2,)).shape == (2, *law.batch_shape, *law.event_shape)
    else:
        with pytest.raises(NotImplementedError, match=f"{type(law).__name__} on .* has no rsample.*; use sample"):
            law.rsample()


@pytest.mark.parametrize("make", [make for makes in LAWS.values() for make in makes if make().batched])
def test_a_batch_is_its_members(make):
    law = make().expand((3, *make().batch_shape[-1:])) if make().batch_shape else make().expand((3,))
    index = torch.tensor([2, 0, 0, 1])
    some = law.take(index)
    assert some.batch_shape == (4, *law.batch_shape[1:])
    x = law.draw(3, generator_from("x"))
    torch.testing.assert_close(some.log_prob(x[:, index]), law.log_prob(x)[:, index])
    if len(law.batch_shape) == 2:
        pair = law.take((index, torch.tensor([0, 1, 1, 0])))
        assert pair.batch_shape == (4,)
        torch.testing.assert_close(pair.log_prob(x[0, 0, 0]), law.log_prob(x[0, 0, 0])[index, [0, 1, 1, 0]])


MIXTURES = {
    "von Mises-Fisher": vmf_mixture,
    "wrapped, hyperbolic": lambda: Mixture(
        WrappedNormal(Hyperbolic(2), Hyperbolic(2).origin(3, 3, dtype=torch.float64), torch.tensor([[0.1], [0.5], [2]]))
    ),
    "rotations": lambda: Mixture(WrappedNormal(SpecialOrthogonal(), rotations(3), 0.3), torch.tensor([1.0, 5.0, 2.0])),
    "Kent": lambda: Mixture(Kent(rotations(3), torch.tensor([10.0, 90.0, 1.0]), 0.4)),
    "normal": lambda: GaussianMixture([[-1.0], [0.5], [2.0]], [0.3, 0.5, 0.2], [1.0, 2.0, 3.0]).mixture,
}


@pytest.mark.parametrize("make", MIXTURES.values(), ids=MIXTURES.keys())
def test_mixtures_are_those_of_torch(make):
    """In density; and the shares of the components, by Bayes' rule and in the draws."""
    law = make()
    x, component = law.draw_with_component(4000, generator_from("mixture"))
    assert torch.equal(x, law.draw(4000, generator_from("mixture")))
    expected = MixtureSameFamily(Categorical(law.weights), law.components)
    torch.testing.assert_close(law.log_prob(x), expected.log_prob(x))
    posterior = law.posterior(x)
    assert torch.allclose(posterior.sum(-1), torch.ones_like(posterior[..., 0]))
    bayes = law.weights * (law.component_log_prob(x) - law.log_prob(x)[..., None]).exp()
    torch.testing.assert_close(posterior, bayes.to(posterior), rtol=1e-4, atol=1e-6)
    for k in range(law.count):
        came = (component == k).double()
        assert within(came, law.weights[..., k].double())
        # a posterior is the probability of what it names
        assert within(came - posterior[..., k], 0.0)


def test_a_gaussian_mixture_is_the_mixture_that_it_draws_from():
    law = GaussianMixture([[-1.0, 0.0], [0.5, 1.0]], [0.3, 0.5], [1.0, 2.0])
    x = law.draw(200, generator_from("x"))
    assert torch.equal(x, law.mixture.draw(200, generator_from("x")))
    torch.testing.assert_close(law.log_prob(x), law.mixture.log_prob(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(law.modes(x), law.mixture.posterior(x).argmax(-1))


def test_mixtures_do_not_select():
    with pytest.raises(NotImplementedError, match="Mixture does not select from a batch"):
        vmf_mixture().take(torch.tensor([0]))


def test_differentiable_draws_of_wrapped_normals():
    """E |exp_mu(sigma z)|^2 in flat space is |mu|^2 + 2 sigma^2; `sample` is cut off."""
    loc = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    law = WrappedNormal(Euclidean(2), loc, scale)
    assert not law.sample((3,)).requires_grad
    torch.manual_seed(0)
    gradients = torch.autograd.grad(law.rsample((100_000,)).square().sum(-1).mean(), [loc, scale])
    assert torch.allclose(gradients[0], 2 * loc, rtol=0.01)
    assert torch.allclose(gradients[1], 4 * scale, rtol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *[(lambda k=k: VonMisesFisher(Sphere(2), NORTH, k), "concentration") for k in (0.0, -1.0, NAN, INF)],
        *[(lambda x=x: VonMisesFisher(Sphere(2), x * NORTH, 2.0), "parameter loc") for x in (2.0, 0.99, NAN, 0.0)],
        *[
            (lambda s=s: Normal(Euclidean(2), s), "Normal: scale must be positive and finite")
            for s in (0.0, -1, NAN, INF)
        ],
        *[
            (lambda s=s: WrappedNormal(Euclidean(2), scale=s), "WrappedNormal: scale must be positive, found")
            for s in (0.0, -1, NAN, INF)
        ],
        (lambda: WrappedNormal(Sphere(2), 2 * NORTH, 0.1), "parameter loc"),
        (lambda: WrappedNormal(Hyperbolic(2), NORTH, 0.1), "parameter loc"),
        (lambda: WrappedNormal(Euclidean(2), torch.tensor([NAN, 0.0])), "parameter loc"),
        *[(lambda s=s: BrownianLaw(Sphere(2), NORTH, s), "parameter time") for s in (0.0, -1, NAN, INF)],
        (lambda: BrownianLaw(SpecialOrthogonal(), 2 * torch.eye(3), 0.1), "parameter loc"),
        (lambda: BrownianLaw(SpecialOrthogonal(), -torch.eye(3), 0.1), "parameter loc"),
        (lambda: BrownianLaw(Torus(2), NORTH, 0.1), r"BrownianLaw: loc must end with the shape \(2, 2\) of a point"),
        *[
            (lambda w=w: Mixture(VonMisesFisher(Sphere(2), torch.eye(3), 1.0), torch.tensor(w)), "3 positive weights")
            for w in ([1, INF, 1], [1, NAN, 1], [1.0, 0, 1], [1, -1.0, 1], [1.0, 1])
        ],
        (lambda: Mixture(Uniform(Sphere(2))), r"components need batch shape \(\*batch, K\), found \(\)"),
        (
            lambda: ProductDistribution(Product(), [Uniform(Sphere(2))]),
            r"laws of points \[\(3,\), \(1,\)\], found",
        ),
        *[(lambda v=v: GaussianMixture(scale=v), "scale one positive number each") for v in (0.0, NAN, INF)],
        *[(lambda v=v: GaussianMixture(weights=[1.0, v]), "weights one positive number each") for v in (0.0, NAN, INF)],
        *[(lambda v=v: GaussianMixture([[v, 0.0]], 1.0, None), "all must be finite") for v in (NAN, INF)],
        *[(lambda v=v: GaussianMixture.ring(radius=v), "all must be finite") for v in (NAN, INF)],
        *[(lambda v=v: Moons(v), "Moons: noise must be at least .* and finite") for v in (0.0, NAN, INF)],
        *[(lambda v=v: Checkerboard(v), "Checkerboard: expected side > 0") for v in (0.0, NAN, INF)],
    ],
)
def test_parameters_are_checked_where_they_enter(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- von Mises-Fisher laws


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


#: the circle, the sphere with its closed form, an even and an odd one, and one that is large
ORDERS = [1, 2, 3, 100]


@pytest.mark.parametrize("dim", ORDERS)
def test_flat_laws_are_uniform(dim):
    """log p -> -log volume, with the slope <mu, x> - E<mu, x> in the concentration, and entropy -> log volume."""
    sphere, axis = Sphere(dim), torch.eye(dim + 1, dtype=torch.float64)[0]
    x = sphere.random_uniform(5, dim + 1, generator=generator_from("x"), dtype=torch.float64)
    for kappa in (1e-300, 1e-30, 1e-12, 1e-6):
        concentration = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
        law = VonMisesFisher(sphere, axis, concentration)
        log_prob = law.log_prob(x)
        assert torch.allclose(log_prob, kappa * x[:, 0] - sphere.log_volume, rtol=0, atol=1e-12)
        for value, height in zip(log_prob, x[:, 0], strict=True):
            (slope,) = torch.autograd.grad(value, concentration, retain_graph=True)
            assert float(slope) == pytest.approx(float(height), abs=2e-6)
        assert float(law.entropy()) == pytest.approx(sphere.log_volume, abs=1e-11)
        assert float(law.mean_resultant_length) == pytest.approx(kappa / (dim + 1), rel=1e-11)
    single = VonMisesFisher(sphere, axis.float(), 1e-30)
    assert torch.allclose(single.log_prob(x.float()), torch.tensor(-sphere.log_volume), rtol=1e-6)
    assert single.draw(10).isfinite().all()


@pytest.mark.parametrize("dim", ORDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_narrow_laws_are_normal(dim, dtype):
    """Up to the largest numbers: log p(mu) -> d log(kappa / 2 pi) / 2, kappa |x - mu|^2 is chi-squared; 5 s.e."""
    sphere, axis = Sphere(dim), torch.eye(dim + 1, dtype=dtype)[0]
    for kappa in (1e6, 1e12, 1e20, 1e37):
        law = VonMisesFisher(sphere, axis, kappa)
        normal = 0.5 * dim * math.log(kappa / (2 * math.pi))
        assert float(law.log_prob(axis)) == pytest.approx(normal, rel=1e-6, abs=dim**2 / kappa)
        assert float(law.entropy()) == pytest.approx(0.5 * dim - normal, rel=1e-6, abs=dim**2 / kappa)
        x = law.draw(4000, generator_from("x"))
        # the coordinates across, for those along round to one
        assert within(kappa * x[:, 1:].double().square().sum(-1), dim, sigmas=6)


@pytest.mark.parametrize("dim", ORDERS)
def test_derivatives_in_the_concentration(dim):
    """Of the density, the entropy and the mean, once and twice; the slope of log p is <mu, x> - A."""
    sphere = Sphere(dim)
    loc, x = sphere.random_uniform(2, 1, dim + 1, generator=generator_from("x"), dtype=torch.float64)
    kappa = torch.tensor([1e-3, 0.02, 0.04, 0.5, 3.0, 40.0, 300.0], dtype=torch.float64, requires_grad=True)

    def law(k: torch.Tensor) -> VonMisesFisher:
        return VonMisesFisher(sphere, loc, k)

    for function in (lambda k: law(k).log_prob(x), lambda k: law(k).entropy(), lambda k: law(k).mean):
        assert torch.autograd.gradcheck(function, kappa)
        assert torch.autograd.gradgradcheck(function, kappa)
    (slope,) = torch.autograd.grad(law(kappa).log_prob(x).sum(), kappa)
    assert torch.allclose(slope, (loc * x).sum(-1) - law(kappa).mean_resultant_length, rtol=0, atol=1e-12)
    order = (dim - 1) / 2
    bessel = [torch.from_numpy(scipy.special.ive(order + k, kappa.detach()[3:].numpy())) for k in (0, 1)]
    assert torch.allclose(law(kappa).mean_resultant_length[3:], bessel[1] / bessel[0], rtol=1e-11, atol=1e-14)


def test_a_concentration_can_be_learned():
    """The maximum of the likelihood by gradients, in float32 on the circle: where A is the mean cosine."""
    circle, axis = Sphere(1), torch.tensor([1.0, 0.0])
    x = VonMisesFisher(circle, axis, 4.0).draw(2000, generator_from("x"))
    log_kappa = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([log_kappa], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        (-VonMisesFisher(circle, axis, log_kappa.exp()).log_prob(x).mean()).backward()
        optimizer.step()
    found = VonMisesFisher(circle, axis, log_kappa.exp()).mean_resultant_length
    assert float(found.detach()) == pytest.approx(float(x[:, 0].mean()), abs=1e-4)


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
    y = wide.draw(50_000, generator_from("wide"))
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


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 50])
def test_wrapped_normals_that_are_accepted_integrate_to_one(dim):
    """In many dimensions vectors are long: the largest scale falls as sqrt(dim)."""
    sphere = Sphere(dim)
    with pytest.raises(ValueError, match="tails wrap round") as refused:
        WrappedNormal(sphere, scale=1.0)
    scale = float(str(refused.value).split("below ")[1][:-1])
    law = WrappedNormal(sphere, sphere.origin(dim + 1, dtype=torch.float64), 0.999 * scale)
    # the midpoint rule over distances from the centre
    r = math.pi * (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    x = torch.nn.functional.pad(torch.stack([r.cos(), r.sin()], 1), (0, dim - 1))
    log_area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2) + (dim - 1) * r.sin().log()
    assert float((law.log_prob(x) + log_area).exp().sum()) * math.pi / 20_000 == pytest.approx(1, abs=1.5e-7)


def test_the_scale_of_a_wrapped_normal_is_bounded_by_factor():
    """A line has no bound, and circles have their own each."""
    cylinder = Product([Sphere(1), Euclidean(1)])
    assert WrappedNormal(cylinder, scale=torch.tensor([0.5, 3.0])).batch_shape == ()
    with pytest.raises(ValueError, match=r"with the scale 3 the tails wrap round Product"):
        WrappedNormal(cylinder, scale=3.0)
    assert WrappedNormal(Torus(100), scale=0.5).batch_shape == ()


NARROW = [Sphere(1), Sphere(2), Sphere(3), Torus(2), SpecialOrthogonal(), Hyperbolic(2), Hyperbolic(3)]


@pytest.mark.parametrize(("dtype", "s"), [(torch.float32, 1e-13), (torch.float64, 1e-20)], ids=str)
@pytest.mark.parametrize("manifold", NARROW, ids=str)
def test_brownian_laws_at_tiny_times_are_normal(manifold, dtype, s):
    """Also at the centre, where scores are quotients of what is zero."""
    centre = manifold.origin(*manifold.shape, dtype=dtype)
    assert float(BrownianLaw(manifold, centre, s).log_prob(centre)) == pytest.approx(
        -0.5 * manifold.dim * math.log(2 * math.pi * s), rel=1e-6
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda x: VonMisesFisher(Sphere(2), x, 1e8),
        lambda x: Kent(torch.eye(3, dtype=torch.float64), 1e8, 1e7),
        lambda x: BrownianLaw(Sphere(2), x, 1e-8),
        lambda x: WrappedNormal(Sphere(2), x, 1e-4),
    ],
    ids=["VonMisesFisher", "Kent", "BrownianLaw", "WrappedNormal"],
)
def test_points_that_are_a_little_off_count_as_the_nearest(make):
    x = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    law = make(x)
    assert law.log_prob((1 + 9e-5) * x).item() == pytest.approx(law.log_prob(x).item(), abs=1e-6)


@pytest.mark.parametrize("manifold", [*NARROW, Euclidean(2), Product([Sphere(2), Euclidean(1)])], ids=str)
def test_no_points_have_no_densities(manifold):
    assert WrappedNormal(manifold, scale=0.3).log_prob(torch.empty(0, *manifold.shape)).shape == (0,)


@pytest.mark.parametrize(("of_law", "of_points"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_kent_laws_take_points_of_either_type(of_law, of_points):
    frame, x = rotations(1)[0], directions(5)
    found = Kent(frame.to(of_law), 10.0, 3.0).log_prob(x.to(of_points))
    torch.testing.assert_close(found, Kent(frame.double(), 10.0, 3.0).log_prob(x.double()), rtol=1e-5, atol=1e-5)


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


# ---- what a user may hand over


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 3, 9, 99])
@pytest.mark.parametrize("kappa", [0.1, 2.0, 300.0])
def test_draws_follow_the_distribution_function(dim, kappa, dtype):
    """That of the height along the mean, by quadrature; and of the height along another axis of what is across it."""
    mean = Sphere(dim).random_uniform(dim + 1, generator=seeded(1), dtype=dtype)
    x = VonMisesFisher(Sphere(dim), mean, kappa).draw(20_000, seeded(dim)).double()
    t = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)

    def uniform_levels(cosine, kappa, dim):
        """The distribution function of density exp(κ cos t) sin(t)^(dim - 1) at angles."""
        log_density = kappa * (t.cos() - 1) + (dim - 1) * t.sin().clamp_min(1e-300).log()
        mass = torch.cumulative_trapezoid((log_density - log_density.max()).exp(), t)
        return np.interp(cosine.clamp(-1, 1).acos(), t[1:], mass / mass[-1])

    mean = mean.double() / mean.double().norm()
    along = x @ mean
    assert scipy.stats.kstest(uniform_levels(along, kappa, dim), "uniform").pvalue > 1e-3
    if dim > 1:
        axis = Sphere(dim).proju(mean, torch.eye(dim + 1, dtype=torch.float64)[0])
        across = x - along[:, None] * mean
        cosine = (across @ (axis / axis.norm())) / across.norm(dim=-1)
        assert scipy.stats.kstest(uniform_levels(cosine, 0.0, dim - 1), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("concentration", [0.05, 0.07, 0.3])
def test_draws_at_the_antipode_are_points(concentration):
    """The height there is 2, and in single precision a product may round beyond it: its root was NaN."""
    x = VonMisesFisher(Sphere(1), torch.eye(2)[0], concentration).draw(500_000, generator_from("antipode", 1))
    assert x.isfinite().all()


@pytest.mark.parametrize(
    ("make", "whole"),
    [
        (lambda one: VonMisesFisher(Sphere(2), one[2], 2.5), True),
        (lambda one: Kent(one, 2.5, 1.2), True),
        (lambda one: WrappedNormal(Sphere(2), one[2], 0.1), True),
        (lambda one: BrownianLaw(Sphere(2), one[2], 0.7), True),
        (lambda one: Uniform(Sphere(2)), False),
        (lambda one: GaussianMixture([[0.0, 1.0, 0.0]], 1.0, None), False),
        (lambda one: Mixture(VonMisesFisher(Sphere(2), one, 2.5)), True),
    ],
)
def test_whole_numbers_are_points(make, whole):
    """Of a parameter and of a value; a concentration keeps its fraction."""
    eye = torch.eye(3, dtype=torch.int64)
    law, expected = make(eye), make(eye.float())
    assert law.draw(2).is_floating_point()
    torch.testing.assert_close(law.log_prob(eye[1]), expected.log_prob(eye[1].float()))
    if whole:
        assert law.draw(2).dtype == torch.get_default_dtype()


@every_law
def test_no_draws(make):
    law = make()
    assert law.draw(0).shape == (0, *law.batch_shape, *law.event_shape)
    none = law.expand((0, *law.batch_shape))
    assert none.draw(2).shape == (2, 0, *law.batch_shape, *law.event_shape)
    with pytest.raises(ValueError, match="does not expand to"):
        law.expand((-1, *law.batch_shape))


@every_law
def test_what_is_not_known_is_said(make):
    law = make()
    for name in ("variance", "stddev", "entropy", "perplexity"):
        try:
            found = getattr(law, name)
            found = found() if callable(found) else found
        except NotImplementedError as error:
            assert " has no " in str(error), name  # noqa: PT017
        else:
            assert found.shape == law.batch_shape, name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VonMisesFisher(Euclidean(3), NORTH, 2.0), r"expected a Sphere, found Euclidean\(dim=3"),
        (lambda: VonMisesFisher(Hyperbolic(2), NORTH, 2.0), "expected a Sphere, found Hyperbolic"),
        (lambda: WrappedNormal(Sphere(2), NORTH, torch.ones(3) / 9), r"scale must .* shape \(2,\) .*, found \(3,\)"),
        (lambda: WrappedNormal(Sphere(2), NORTH, torch.ones(0)), r"scale must .*found \(0,\)"),
        (lambda: WrappedNormal(Euclidean(2), torch.zeros(2), 1e300), "scale must be positive, found 1e.300"),
        *[(lambda s=s: BrownianLaw(Sphere(2), NORTH, s), "parameter time") for s in (1e300, 1e-300, 1e-42)],
    ],
)
def test_parameters_fit_the_manifold_and_the_type(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_default_priors():
    """Uniform where compact, standard normal where flat, wrapped normal elsewhere; products, also nested, of these."""
    inner = Product([Euclidean(2), SpecialOrthogonal()])
    product = Product([Sphere(2), Hyperbolic(2), inner])
    law = default_prior(product)
    x = law.draw(50, seeded()).double()
    _, on_plane, nested = product.split(x)
    flat, rotations = inner.split(nested)
    assert SpecialOrthogonal().check_point_on_manifold(rotations, atol=1e-5)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(flat).sum(-1) - math.log(8 * math.pi**2)
    expected = expected + WrappedNormal(Hyperbolic(2)).log_prob(on_plane) - math.log(4 * math.pi)
    assert torch.allclose(law.log_prob(x), expected, rtol=0, atol=1e-9)
    compact = Product([Torus(2), Sphere(2)])
    assert float(default_prior(compact).log_prob(compact.origin(7))) == pytest.approx(-compact.log_volume)
