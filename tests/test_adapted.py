"""Geoopt's manifolds: volumes, curvatures and divergences against closed forms, and a model on one of them."""

import math
from functools import partial

import geoopt
import pytest
import torch

from conftest import within
from helpers import seeded
from rsgm import RSGM
from rsgm.description import build, describe
from rsgm.distributions import WrappedNormal
from rsgm.divergence import with_divergence
from rsgm.losses import ImplicitScoreMatching
from rsgm.manifolds import Adapted, Hyperbolic, Manifold, Sphere
from rsgm.networks import MLP
from rsgm.processes import Brownian, Langevin

SPHERE = Adapted(geoopt.Sphere, (3,), volume=4 * math.pi, isotropic=True)
BALL = Adapted(geoopt.PoincareBall, (3,))
SPD = Adapted(geoopt.SymmetricPositiveDefinite, (3, 3))
STIEFEL = Adapted(geoopt.EuclideanStiefel, (4, 2))
LORENTZ = Adapted(geoopt.Lorentz, (3,))
ALL = [SPHERE, BALL, SPD, STIEFEL, LORENTZ]
every_manifold = pytest.mark.parametrize("manifold", ALL, ids=lambda manifold: type(manifold.base).__name__)


def points(manifold, n=6, seed=0):
    x = manifold.origin(n, *manifold.shape, dtype=torch.float64)
    return manifold.expmap(x, 0.8 * manifold.random_tangent(x, seeded(seed)))


def linear(manifold):
    """A field P(Ax + b), and its ambient parts."""
    n = torch.Size(manifold.shape).numel()
    matrix, offset = torch.randn(n, n, generator=seeded(1)).double(), torch.randn(n, generator=seeded(2)).double()

    def ambient(y):
        return (y.flatten(y.dim() - len(manifold.shape)) @ matrix.T + offset).reshape(y.shape)

    def field(y):
        y = manifold.projx(y)
        return manifold.proju(y, ambient(y))

    return matrix, offset, ambient, field


def test_dimensions():
    assert [manifold.dim for manifold in ALL] == [2, 3, 6, 5, 2]
    assert Adapted().dim == 3


@every_manifold
def test_frames_are_orthonormal(manifold):
    x = points(manifold)
    frame = manifold.frame(x)
    gram = manifold.inner(x, frame[:, None], frame[None])
    assert (gram - torch.eye(manifold.dim).double()[..., None]).abs().max() < 1e-12
    assert manifold.frame(x.float()).dtype == torch.float32


@every_manifold
def test_one_formula_for_projected_fields(manifold):
    """div P f = sum <e, Df e> + <H, f>, the left side with the differentiated projection and the connection."""
    x = points(manifold)
    matrix, _, ambient, field = linear(manifold)
    frame = manifold.frame(x)
    pushed = (frame.flatten(2) @ matrix.T).reshape(frame.shape)
    expected = manifold.inner(x, frame, pushed).sum(0) + manifold.inner(x, manifold.projection_trace(x), ambient(x))
    assert (with_divergence(field, manifold, x, frame)[1] - expected).abs().max() < 1e-9


def test_sphere():
    """div P(Ax + b) = tr A - (n + 1) <x, Ax> - n <b, x>, H = -n x."""
    x = points(SPHERE)
    matrix, offset, _, field = linear(SPHERE)
    expected = matrix.trace() - 3 * (x * (x @ matrix.T)).sum(-1) - 2 * x @ offset
    assert (with_divergence(field, SPHERE, x, SPHERE.frame(x))[1] - expected).abs().max() < 1e-10
    assert (SPHERE.projection_trace(x) - Sphere(2).projection_trace(x)).abs().max() < 1e-10


def test_poincare_ball():
    """div v = lambda^-d div_E(lambda^d v): the power is d."""
    b = points(BALL)
    matrix, _, _, field = linear(BALL)
    value, divergence = with_divergence(field, BALL, b, BALL.frame(b))
    expected = matrix.trace() + 2 * 3 * (b * value).sum(-1) / (1 - b.square().sum(-1))
    assert (divergence - expected).abs().max() < 1e-8


def test_poincare_ball_reference(reference):
    ball = Adapted(geoopt.PoincareBall, (2,))
    record = reference("geometry")["divergence_ball2"]
    x, matrix = (torch.tensor(record[key], dtype=torch.float64) for key in ("x", "A"))
    value, divergence = with_divergence(lambda y: y @ matrix.T, ball, x[None], ball.frame(x[None]))
    assert value[0].tolist() == pytest.approx(record["V"], abs=1e-15)
    assert float(divergence) == pytest.approx(record["divergence"], abs=1e-8)


def test_positive_definite_matrices():
    """The volume is det(x)^-(n+1)/2 times the Euclidean one, so that the connection adds -(n+1)/2 tr(x^-1 v)."""
    x = points(SPD)
    v = SPD.random_tangent(x, seeded(3))
    expected = -2 * (torch.linalg.inv(x) @ v).diagonal(dim1=-2, dim2=-1).sum(-1)
    assert (SPD.connection_trace(x, v) - expected).abs().max() < 1e-9


def test_stiefel():
    """H = -(dim / p) x by symmetry; x -> Omega x with antisymmetric Omega is a Killing field."""
    x = STIEFEL.projx(torch.randn(6, 4, 2, generator=seeded(), dtype=torch.float64))
    assert (STIEFEL.projection_trace(x) + 5 / 2 * x).abs().max() < 1e-10
    omega = torch.randn(4, 4, generator=seeded(1), dtype=torch.float64)
    omega = omega - omega.T
    value, divergence = with_divergence(lambda y: omega @ y, STIEFEL, x, STIEFEL.frame(x))
    assert STIEFEL.check_vector_on_tangent(x, value, atol=1e-12)
    assert divergence.abs().max() < 1e-9


def test_lorentz():
    x = points(LORENTZ)
    assert (LORENTZ.projection_trace(x) - 2 * x).abs().max() < 1e-9


@every_manifold
def test_projections_differentiate_to_tangent_projections(manifold):
    """In both modes and under vmap, where geoopt's own would be NaN or wrong."""
    x = points(manifold)
    u = manifold.random_tangent(x, seeded(3))
    assert (manifold.projx(x) - x).abs().max() < 1e-7
    assert (torch.func.jvp(manifold.projx, (x,), (u,))[1] - u).abs().max() < 1e-6
    both = torch.func.vmap(lambda v: torch.func.jvp(manifold.projx, (x,), (v,))[1])(torch.stack([u, -u]))
    assert (both[0] + both[1]).abs().max() < 1e-12
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((manifold.projx(y) * u).sum(), y)
    (expected,) = torch.autograd.grad((manifold.proju(x, y) * u).sum(), y)
    assert (gradient - expected).abs().max() < 1e-6


def test_random_walk_and_uniform_draws_on_the_sphere():
    """E cos = exp(-s) to the bias of the walk; false alarm 6e-7 each."""
    n, s = 5_000, 0.3
    start = points(SPHERE, 1).expand(n, 3)
    x = SPHERE.heat_kernel_sample(start, torch.full((n,), s, dtype=torch.float64), seeded())
    assert within((start * x).sum(-1), math.exp(-s))
    y = SPHERE.random_uniform(n, 3, generator=seeded(), dtype=torch.float64)
    assert within(y, 0.0)
    assert within(y.square(), 1 / 3)


def test_description():
    """With the arguments of geoopt's class."""
    ball = Adapted(partial(geoopt.PoincareBall, c=2.0), [3])
    again = build(describe(ball), Manifold)
    assert float(again.base.c) == pytest.approx(2.0)
    assert again.shape == (3,)
    assert describe(again) == describe(ball)


def test_what_is_missing_is_said():
    x = points(STIEFEL)
    with pytest.raises(ValueError, match=r"Adapted: proju of .*canonical.* is not a projection"):
        Adapted(geoopt.CanonicalStiefel)
    with pytest.raises(NotImplementedError, match=r"Adapted\(Stiefel.* has no logmap: geoopt provides none"):
        STIEFEL.logmap(x, x)
    with pytest.raises(NotImplementedError, match="no normalised bump"):
        BALL.bump_sample(points(BALL), torch.ones(6))
    with pytest.raises(NotImplementedError, match="ImplicitScoreMatching"):
        BALL.heat_kernel_score(points(BALL), points(BALL), torch.ones(6))
    with pytest.raises(ValueError, match=r"infinite volume, so no uniform law; if it is compact give its volume"):
        BALL.random_uniform(2, 3)
    with pytest.raises(ValueError, match=r"infinite volume.*The Poincaré ball is Hyperbolic .*logarithms in Euclidean"):
        RSGM(SPD)
    with pytest.raises(NotImplementedError, match="say isotropic=True"):
        Adapted(geoopt.Sphere, (3,), volume=4 * math.pi).random_uniform(2, 3)


def test_a_model_on_the_stiefel_manifold():
    """Loss, samples and density: a network of zeros is the uniform law."""
    frames = Adapted(geoopt.EuclideanStiefel, (3, 2), volume=8 * 2**0.5 * math.pi**2, isotropic=True)
    model = RSGM(frames, process=Brownian, network=partial(MLP, hidden=[8]), loss=ImplicitScoreMatching())
    x = model.sample(4, seed=0)
    assert frames.check_point_on_manifold(x, atol=1e-5, rtol=0)
    loss = model.loss(x)["loss"].mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert (model.log_prob(x) + frames.log_volume).abs().max() < 1e-6


class WithoutTransport(geoopt.Sphere):
    """A manifold whose author gave no transport."""

    transp = geoopt.Manifold.transp


def test_the_default_sampler_needs_no_transport():
    manifold = Adapted(WithoutTransport, (3,), volume=4 * math.pi, isotropic=True)
    x = RSGM(manifold, Brownian, network=MLP).sample(5, seed=0)
    assert x.shape == (5, 3)
    assert manifold.check_point_on_manifold(x, atol=1e-5)


@pytest.mark.parametrize("made", [geoopt.EuclideanStiefel(), "EuclideanStiefel", None])
def test_a_factory_is_expected(made):
    with pytest.raises(ValueError, match=r"Adapted: expected a class of geoopt or a factory.*leave out the brackets"):
        Adapted(made)


def test_the_volume_of_exp():
    """On the sphere and the ball of dimension three the closed forms, to the accuracy of differences; zero at zero."""
    x = points(BALL)
    u = BALL.random_tangent(x, seeded(3))
    r = BALL.squared_norm(x, u).sqrt()
    assert torch.allclose(BALL.log_det_exp(x, u), 2 * (r.sinh() / r).log(), rtol=0, atol=1e-8)
    assert BALL.log_det_exp(x, 0 * u).abs().max() < 1e-9
    y = points(SPHERE)
    v = SPHERE.random_tangent(y, seeded(3))
    assert torch.allclose(SPHERE.log_det_exp(y, v), Sphere(2).log_det_exp(y, v), rtol=0, atol=1e-8)
    # GL(3) acts on positive definite matrices by isometries: at the identity, exp is that of matrices, and the product
    # over pairs of eigenvalues of sinh(d / 2) / (d / 2)
    z = SPD.origin(6, 3, 3, dtype=torch.float64)
    w = SPD.random_tangent(z, seeded(3))
    values = torch.linalg.eigvalsh(w)
    gaps = torch.stack([values[:, 1] - values[:, 0], values[:, 2] - values[:, 0], values[:, 2] - values[:, 1]]) / 2
    assert torch.allclose(SPD.log_det_exp(z, w), (gaps.sinh() / gaps).log().sum(0), rtol=0, atol=1e-8)


def test_where_geodesics_meet_again_is_to_be_said():
    """Of a compact manifold, without which the tails of a wrapped normal law would count twice."""
    round_ = partial(Adapted, geoopt.Sphere, (3,), 4 * math.pi, isotropic=True)
    for law in (WrappedNormal, Langevin):
        with pytest.raises(ValueError, match=r"has a finite volume.*give Adapted the radius.*math.pi on the unit"):
            law(round_(), scale=0.1)
    with pytest.raises(ValueError, match=r"with the scale 1 the tails wrap round Adapted.*up to 3.14"):
        WrappedNormal(round_(radius=math.pi), scale=1.0)
    own, other = (WrappedNormal(m, scale=0.5) for m in (round_(radius=math.pi), Sphere(2)))
    own.loc = other.loc.double()
    x = points(SPHERE)
    assert torch.allclose(own.log_prob(x), other.log_prob(x), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"Adapted: radius must be positive, or None, found -1.0"):
        round_(radius=-1.0)


def test_langevin_on_the_ball_is_that_of_the_hyperbolic_space():
    """The same space in other coordinates: drifts are mapped to one another, and their divergences are equal."""
    space = Hyperbolic(3)
    x, t = points(BALL), torch.full((6,), 0.5, dtype=torch.float64)
    drift, div = Langevin(BALL).drift_with_divergence(t, x, None)
    expected, expected_div = Langevin(space).drift_with_divergence(t, space.from_ball(x), None)
    assert torch.allclose(torch.func.jvp(space.from_ball, (x,), (drift,))[1], expected, rtol=0, atol=1e-7)
    assert torch.allclose(div, expected_div, rtol=0, atol=1e-6)
    law, other = WrappedNormal(BALL, scale=0.5), WrappedNormal(space, scale=0.5)
    assert torch.allclose(law.log_prob(x), other.log_prob(space.from_ball(x)), rtol=0, atol=1e-8)
